#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use granary_core::Role;
use granary_crds::{Permission, Visibility};
use proptest::prelude::*;

use super::*;
use crate::{Severity, channel_yaml, prove};

fn options(generation: Generation) -> ConanOptions {
    ConanOptions {
        generation,
        channel: ChannelName::parse(Format::Conan, "main").unwrap(),
        registry: None,
        namespace: None,
        writers_may_read: false,
    }
}

fn read(text: &str, generation: Generation) -> ConanImport {
    import(text, &BTreeMap::new(), options(generation)).unwrap()
}

fn conf(read: &str, write: &str) -> String {
    format!(
        "[server]\nport: 9300\n[write_permissions]\n{write}\n[read_permissions]\n{read}\n[users]\ndemo: demo\n"
    )
}

/// Permissions in short: `subjects role packages - except`.
fn short(import: &ConanImport) -> Vec<String> {
    let join = |texts: &[granary_crds::Raw<granary_core::PackagePattern>]| {
        texts.iter().map(granary_crds::Raw::text).collect::<Vec<_>>().join(" ")
    };
    let line = |permission: &Permission| {
        let subjects: Vec<_> = permission.subjects.iter().map(granary_crds::Raw::text).collect();
        let mut line = format!("{} {}", subjects.join(" "), permission.role.as_str());
        if !permission.packages.is_empty() {
            line = format!("{line} {}", join(&permission.packages));
        }
        if !permission.except.is_empty() {
            line = format!("{line} - {}", join(&permission.except));
        }
        line
    };
    import.import.channels[0].spec.permissions.iter().map(line).collect()
}

fn lines(import: &ConanImport, severity: Severity) -> Vec<String> {
    import.import.report.lines().filter(|line| line.0 == severity).map(|line| line.1.to_owned()).collect()
}

#[track_caller]
fn assert_proved(import: &ConanImport) -> usize {
    let channels = import.import.valid_channels().unwrap();
    let proof = prove(&channels, import.questions(4_000));
    assert_eq!(proof.differing.first(), None, "{}", channel_yaml(&import.import.channels, "a test").unwrap());
    proof.asked
}

#[test]
fn the_file_that_conan_server_begins_with_is_a_public_channel() {
    let import = read(&conf("*/*@*/*: *", ""), Generation::Two);
    assert_eq!(import.import.channels[0].spec.visibility, Visibility::Public);
    assert_eq!(short(&import), [""; 0]);
    assert!(import.import.report.is_complete());
    assert_eq!(import.import.accounts[0].name.as_str(), "demo");
    assert_proved(&import);
}

#[test]
fn a_rule_takes_from_those_after_it() {
    let text = conf(
        "secret/*@*/*: ada\ninternal/*@*/*: ?\n*/*@*/*: *",
        "secret/*@*/*: ada\n*/*@team/*: bob, ada\n*/*@*/*: ada",
    );
    let import = read(&text, Generation::Two);
    assert_eq!(
        short(&import),
        [
            "authenticated Reader internal/*@*/*",
            "anonymous Reader - internal/*@*/* secret/*@*/*",
            "user:ada user:bob Maintainer */*@team/* - secret/*@*/*",
            // The rules before the last one name ada too, so that hers needs no exception.
            "user:ada Maintainer",
        ]
    );
    assert!(import.import.report.is_complete());
    assert_proved(&import);
}

#[test]
fn what_cannot_overlap_is_no_exception() {
    let import = read(&conf("a1/*@*/*: ada\nb1/1.0@*/*: *\n*/*@u1/*: ?", ""), Generation::Two);
    assert_eq!(
        short(&import),
        [
            "user:ada Reader a1/*@*/*",
            "anonymous Reader b1/1@*/* b1/1.0@*/* b1/1.0.0@*/* b1/1.0.0.0@*/*",
            "authenticated Reader */*@u1/* - a1/*@*/*",
        ]
    );
    assert_proved(&import);
}

#[test]
fn a_rule_that_is_no_reference_ends_the_list() {
    let import = read(&conf("ada: x\n*/*@*/*: *", "a1/*@*/*: ada\nnothing: x\n*/*@*/*: *"), Generation::Two);
    assert_eq!(short(&import), [""; 0]);
    assert_eq!(import.import.channels[0].spec.visibility, Visibility::Private);
    let lost = lines(&import, Severity::NotCarried);
    assert!(lost.len() == 1 && lost[0].contains("a1/*@*/*"), "{lost:?}");
    assert_proved(&import);
}

#[test]
fn writing_holds_where_reading_does() {
    let text = conf("a1/*@*/*: ada\n*/*@*/*: bob", "*/*@*/*: ada, bob");
    let import = read(&text, Generation::Two);
    assert_eq!(short(&import), ["user:ada Maintainer a1/*@*/*", "user:bob Maintainer - a1/*@*/*"]);
    assert!(!import.import.report.is_complete());
    assert_proved(&import);

    let generous = ConanOptions { writers_may_read: true, ..options(Generation::Two) };
    let import = super::import(&text, &BTreeMap::new(), generous).unwrap();
    assert_eq!(short(&import), ["user:ada user:bob Maintainer"]);
    assert!(import.import.report.is_complete());
    assert_proved(&import);
}

#[test]
fn owners_are_those_of_the_first_generation() {
    let text = conf("*/*@*/*: *", "");
    let import = read(&text, Generation::One);
    assert_eq!(short(&import), ["user:demo Maintainer */*@demo/*"]);
    assert_proved(&import);
    let own = |user| Reference { name: "x1".into(), version: "1.0".into(), user, channel: "c1".into() };
    assert!(import.rules.allow(Some("demo"), ConanAction::Delete, &own("demo".into())));
    assert!(!import.rules.allow(None, ConanAction::Write, &own("_".into())));
    assert!(!read(&text, Generation::Two).rules.allow(Some("demo"), ConanAction::Write, &own("demo".into())));
}

#[test]
fn what_is_lost_is_said_and_secrets_are_not() {
    let text = "[server]\njwt_secret: S3CRET\nport: 9300\nwonder: 1\n[write_permissions]\n*/*@*/*: default_user default_user2\n\
                [read_permissions]\n*/*@*/*: * # all\n[users]\nada: hunter2\nbob smith: pw-of-bob\neve: $2b$looks-hashed\n";
    let import = read(text, Generation::Two);
    let report = import.import.report.to_string();
    for secret in ["S3CRET", "hunter2", "pw-of-bob", "looks-hashed"] {
        assert!(!report.contains(secret), "{report}");
        assert!(!format!("{import:?}").contains(secret) || secret == "S3CRET", "a password is in Debug");
    }
    let lost = lines(&import, Severity::NotCarried);
    for part in ["default_user default_user2", "\"* # all\"", "bob smith", "password of eve"] {
        assert!(lost.iter().any(|line| line.contains(part)), "{part}: {lost:?}");
    }
    assert!(lines(&import, Severity::Elsewhere).iter().any(|line| line.starts_with("port:")));
    assert!(lines(&import, Severity::Note).iter().any(|line| line.starts_with("wonder:")));
    assert_proved(&import);
}

#[test]
fn variables_stand_before_the_file() {
    let variables = [("CONAN_SERVER_USERS", "ada:one:two,bob:b"), ("CONAN_CUSTOM_AUTHORIZER", "mine")];
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let import = import(&conf("*/*@*/*: *", "*/*@*/*: *"), &variables, options(Generation::Two)).unwrap();
    let accounts: Vec<_> = import.import.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(accounts, ["ada", "bob"]);
    assert_eq!(import.import.accounts[0].password.expose_secret(), "one");
    assert_eq!(import.import.channels[0].spec.visibility, Visibility::Private);
    assert!(lines(&import, Severity::NotCarried)[0].contains("custom_authorizer mine"));
}

#[test]
fn a_file_that_conan_server_refuses_is_refused() {
    for text in [
        "[server]\n[users]\n[read_permissions]",
        "[read_permissions]\n[write_permissions]",
        "[read_permissions]\n[write_permissions]\n[users]\nada: 100%sure",
    ] {
        assert!(import(text, &BTreeMap::new(), options(Generation::Two)).is_err(), "{text}");
    }
}

#[test]
fn many_rules_still_make_a_channel() {
    let rules: Vec<String> = (0..450).map(|number| format!("lib{number}/*@*/*: u{}", number % 7)).collect();
    let text = conf(&format!("{}\n*/*@*/*: ?", rules.join("\n")), "");
    let import = read(&text, Generation::Two);
    assert_eq!(import.import.channels[0].spec.permissions.len(), 8);
    assert!(assert_proved(&import) > 20_000);
}

fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["*", "*", "*", "aa", "bb", "cc"])
}

fn version() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["*", "*", "*", "1.0", "1.0.0", "01.0", "2.x", "0.0", "1.0-rc.0", "1.0+b1"])
}

fn home() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (prop::sample::select(vec!["*", "*", "ada", "bob"]), part())
            .prop_map(|(user, channel)| format!("@{user}/{channel}")),
        1 => Just("@_/*".to_owned()),
        1 => Just(String::new()),
        1 => Just("@ada".to_owned()),
        1 => Just("@_/_".to_owned()),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => (part(), version(), home()).prop_map(|(name, version, home)| format!("{name}/{version}{home}")),
        1 => prop::sample::select(vec!["nothing", "aa*/1.0@*/*", "a?/*@*/*", "\"aa/*@*/*\"", "aa/1.0@*/*#r1"]).prop_map(str::to_owned),
    ]
}

fn users() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "*",
        "?",
        "ada",
        "bob",
        "ada, bob",
        "ada,bob , eve",
        "ada, *",
        "",
        "*, ada",
        "eve",
        "?, bob",
        "no name",
    ])
    .prop_map(str::to_owned)
}

fn section() -> impl Strategy<Value = Items> {
    prop::collection::vec((pattern(), users()), 0..7).prop_map(|mut items| {
        let mut seen = BTreeSet::new();
        items.retain(|(pattern, _)| seen.insert(pattern.clone()));
        items
    })
}

fn text_of(items: &Items) -> String {
    let lines: Vec<String> = items.iter().map(|(pattern, users)| format!("{pattern}: {users}")).collect();
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The grants give what the first matching rule gives, whatever the rules.
    #[test]
    fn grants_give_what_rules_give(
        read in section(),
        write in section(),
        second in any::<bool>(),
        writers_may_read in any::<bool>(),
    ) {
        let generation = if second { Generation::Two } else { Generation::One };
        let text = conf(&text_of(&read), &text_of(&write));
        let options = ConanOptions { writers_may_read, ..options(generation) };
        let import = import(&text, &BTreeMap::new(), options).unwrap();
        let channels = import.import.valid_channels().unwrap();
        let proof = prove(&channels, import.questions(300));
        prop_assert!(proof.asked > 0);
        prop_assert_eq!(proof.differing.first(), None, "{}{}", text, channel_yaml(&import.import.channels, "it").unwrap());
    }

    /// Nobody who may write is without it unless that is said.
    #[test]
    fn lost_rights_are_reported(read in section(), write in section()) {
        let import = import(&conf(&text_of(&read), &text_of(&write)), &BTreeMap::new(), options(Generation::Two)).unwrap();
        let rules = &import.rules;
        let lost = import.references(2_000).iter().any(|reference| {
            [None, Some("ada"), Some("bob"), Some("eve"), Some("somebody-else")].into_iter().any(|user| {
                rules.allow(user, ConanAction::Write, reference) && !rules.allow(user, ConanAction::Read, reference)
            })
        });
        let said = import.import.report.lines().any(|(severity, line)| {
            severity == Severity::NotCarried && line.contains("could not read")
        });
        prop_assert_eq!(lost, said);
    }
}

#[test]
fn roles_are_those_of_a_channel() {
    // What the module's documentation says of roles.
    assert!(
        Role::Maintainer.includes(granary_core::Action::Remove)
            && Role::Maintainer.includes(granary_core::Action::Read)
    );
}
