#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::Workload;

fn user(name: &str, groups: &[&str]) -> Principal {
    Principal::User {
        name: name.parse().unwrap(),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        admin: false,
        scope: None,
    }
}

fn grant(subjects: Vec<Subject>, role: Role, packages: &[&str], except: &[&str]) -> Grant {
    Grant {
        subjects,
        role,
        packages: packages.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        except: except.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        source: GrantSource::Resource,
    }
}

fn allowed(grants: &[Grant], who: &Principal, action: Action, package: Option<&str>) -> bool {
    let channel = ChannelName::parse(Format::PyPi, "dev").unwrap();
    decide(&grants.to_vec().into(), who, Format::PyPi, &channel, action, package).is_allowed()
}

#[test]
fn nothing_is_allowed_without_a_grant() {
    for action in Action::ALL {
        assert!(!allowed(&[], &Principal::Anonymous, action, None));
        assert!(!allowed(&[], &user("ada", &["dev"]), action, Some("x")));
    }
}

#[test]
fn any_grant_is_enough_and_except_takes_back_only_its_own() {
    let ada = Subject::User("ada".parse().unwrap());
    let grants = [
        grant(vec![ada.clone()], Role::Publisher, &["acme-*"], &["acme-secret"]),
        grant(vec![ada], Role::Reader, &["acme-secret"], &[]),
    ];
    let ada = user("ada", &[]);
    assert!(allowed(&grants, &ada, Action::Publish, Some("acme-core")));
    assert!(!allowed(&grants, &ada, Action::Publish, Some("acme-secret")));
    assert!(allowed(&grants, &ada, Action::Read, Some("acme-secret")));
    assert!(!allowed(&grants, &ada, Action::Remove, Some("acme-core")));
    assert!(!allowed(&grants, &user("eve", &[]), Action::Read, Some("acme-core")));
}

#[test]
fn anonymous_grants_hold_for_everybody_and_authenticated_ones_for_the_logged_in() {
    let everybody = [grant(vec![Subject::Anonymous], Role::Reader, &[], &[])];
    assert!(allowed(&everybody, &Principal::Anonymous, Action::Read, Some("x")));
    assert!(allowed(&everybody, &user("ada", &[]), Action::Read, Some("x")));
    let members = [grant(vec![Subject::Authenticated], Role::Reader, &[], &[])];
    assert!(!allowed(&members, &Principal::Anonymous, Action::Read, Some("x")));
    assert!(allowed(&members, &user("ada", &[]), Action::Read, Some("x")));
}

#[test]
fn groups_give_and_a_channel_is_administered_only_by_a_grant_over_all_of_it() {
    let team = Subject::Group("team".parse().unwrap());
    let part = [grant(vec![team.clone()], Role::Owner, &["a*"], &[])];
    let whole = [grant(vec![team], Role::Owner, &["*"], &[])];
    let member = user("ada", &["team"]);
    assert!(allowed(&part, &member, Action::Remove, Some("abc")));
    assert!(!allowed(&part, &member, Action::Administer, None));
    assert!(allowed(&whole, &member, Action::Administer, None));
}

#[test]
fn a_token_narrows_even_an_admin() {
    let scope = TokenScope {
        channels: vec!["pypi/dev".parse().unwrap()],
        packages: vec!["acme-*".parse().unwrap()],
        role: Role::Publisher,
        or: vec![],
        within: None,
    };
    let bot =
        Principal::User { name: "bot".parse().unwrap(), groups: vec![], admin: true, scope: Some(scope) };
    assert!(allowed(&[], &bot, Action::Publish, Some("acme-core")));
    assert!(!allowed(&[], &bot, Action::Publish, Some("other")));
    assert!(!allowed(&[], &bot, Action::Remove, Some("acme-core")));
    let other = ChannelName::parse(Format::PyPi, "prod").unwrap();
    assert!(
        !decide(&Grants::default(), &bot, Format::PyPi, &other, Action::Read, Some("acme-core")).is_allowed()
    );
}

#[test]
fn a_token_may_have_several_reaches() {
    let reach = |channel: &str, package: &str, role| {
        TokenScope::of(Some(role), vec![channel.parse().unwrap()], vec![package.parse().unwrap()]).unwrap()
    };
    let scope = TokenScope::any_of(vec![
        reach("pypi/dev", "acme", Role::Publisher),
        reach("pypi/dev", "tool", Role::Reader),
        reach("pypi/prod", "*", Role::Reader),
    ]);
    let bot = Principal::User { name: "bot".parse().unwrap(), groups: vec![], admin: true, scope };
    assert!(allowed(&[], &bot, Action::Publish, Some("acme")));
    assert!(allowed(&[], &bot, Action::Read, Some("tool")));
    assert!(!allowed(&[], &bot, Action::Publish, Some("tool")));
    assert!(!allowed(&[], &bot, Action::Read, Some("other")), "that is another channel's reach");
}

#[test]
fn a_narrow_token_takes_nothing_away_that_anybody_has() {
    let scope = TokenScope {
        channels: vec!["pypi/other".parse().unwrap()],
        packages: vec![],
        role: Role::Reader,
        or: vec![],
        within: None,
    };
    let bot =
        Principal::User { name: "bot".parse().unwrap(), groups: vec![], admin: false, scope: Some(scope) };
    let public = [grant(vec![Subject::Anonymous], Role::Reader, &[], &[])];
    assert!(allowed(&public, &bot, Action::Read, Some("x")));
    let internal = [grant(vec![Subject::Authenticated], Role::Reader, &[], &[])];
    assert!(!allowed(&internal, &bot, Action::Read, Some("x")));
}

fn any_subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Anonymous),
        Just(Subject::Authenticated),
        Just(Subject::User("ada".parse().unwrap())),
        Just(Subject::Group("team".parse().unwrap())),
        Just("workload:ci?ref=v*".parse().unwrap()),
    ]
}

fn any_patterns() -> impl Strategy<Value = Vec<PackagePattern>> {
    prop::collection::vec(
        prop::sample::select(vec!["*", "a*", "b*", "ab", "?b"]).prop_map(|p| p.parse().unwrap()),
        0..3,
    )
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let roles = prop::sample::select(vec![Role::Reader, Role::Publisher, Role::Owner]);
    (prop::collection::vec(any_subject(), 1..3), roles, any_patterns(), any_patterns()).prop_map(
        |(subjects, role, packages, except)| Grant {
            subjects,
            role,
            packages,
            except,
            source: GrantSource::Resource,
        },
    )
}

fn any_scope() -> impl Strategy<Value = TokenScope> {
    let roles = vec![Role::Reader, Role::Publisher, Role::Owner];
    let one = (
        prop::sample::select(vec!["pypi/dev", "pypi/*", "conda/*"]),
        any_patterns(),
        prop::sample::select(roles),
    )
        .prop_map(|(channel, packages, role)| TokenScope {
            channels: vec![channel.parse().unwrap()],
            packages,
            role,
            or: vec![],
            within: None,
        });
    let any_of = prop::collection::vec(one, 1..3).prop_map(|scopes| TokenScope::any_of(scopes).unwrap());
    prop::collection::vec(any_of, 1..4).prop_map(|mut scopes| {
        let first = scopes.pop().unwrap();
        scopes.into_iter().fold(first, |maker, scope| scope.made_by(Some(&maker)))
    })
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let user = (
        prop::sample::select(vec!["ada", "eve"]),
        any::<bool>(),
        any::<bool>(),
        prop::option::of(any_scope()),
    )
        .prop_map(|(name, in_team, admin, scope)| Principal::User {
            name: name.parse().unwrap(),
            groups: if in_team { vec!["team".parse().unwrap()] } else { vec![] },
            admin,
            scope,
        });
    let workload = (prop::sample::select(vec!["v1", "main"]), prop::option::of(any_scope())).prop_map(
        |(reference, scope)| Principal::Workload {
            workload: Workload {
                issuer: "ci".parse().unwrap(),
                subject: "s".to_owned(),
                claims: [("ref".to_owned(), reference.to_owned())].into(),
            },
            scope,
        },
    );
    prop_oneof![1 => Just(Principal::Anonymous), 6 => user, 3 => workload]
}

proptest! {
    /// Whoever makes a token by a token, and by that the next one, gains nothing at any step.
    #[test]
    fn a_token_made_by_a_token_gives_no_right_that_its_maker_lacked(
        grants in prop::collection::vec(any_grant(), 0..4),
        maker in any_principal(),
        asked_for in any_scope(),
    ) {
        let mut made = maker.clone();
        if let Principal::User { scope, .. } | Principal::Workload { scope, .. } = &mut made {
            *scope = Some(TokenScope { within: None, ..asked_for }.made_by(maker.scope()));
        }
        for action in Action::ALL {
            for package in [None, Some("a"), Some("ab"), Some("b"), Some("c")] {
                let gained = allowed(&grants, &made, action, package) && !allowed(&grants, &maker, action, package);
                prop_assert!(!gained, "{:?} {:?}", action, package);
            }
        }
    }

    /// The explanation is of the decision that was made.
    #[test]
    fn an_explanation_agrees_with_the_decision(
        grants in prop::collection::vec(any_grant(), 0..4),
        principal in any_principal(),
    ) {
        let channel = ChannelName::parse(Format::PyPi, "dev").unwrap();
        let found = Grants::from(grants.clone());
        for action in Action::ALL {
            for package in [None, Some("ab"), Some("c")] {
                let explained = explain(&found, &principal, Format::PyPi, &channel, action, package);
                prop_assert_eq!(explained.is_allowed(), allowed(&grants, &principal, action, package));
                if let Explanation::Granted(place, grant) = explained {
                    prop_assert_eq!(&grants[place], grant);
                }
            }
        }
    }
}

proptest! {
    /// Who is looked up by name finds the grants that looking at each of them finds.
    #[test]
    fn all_grants_that_cover_somebody_are_found(
        grants in prop::collection::vec(any_grant(), 0..8),
        principal in any_principal(),
    ) {
        let found = Grants::from(grants.clone());
        let covers = |grant: &Grant| grant.subjects.iter().any(|subject| subject.covers(&principal));
        let expected: Vec<_> = grants.iter().enumerate().filter(|(_, grant)| covers(grant)).collect();
        prop_assert_eq!(found.covering(&principal).collect::<Vec<_>>(), expected);
    }

    /// A list shows exactly the packages whose pages may be read.
    #[test]
    fn the_filter_of_a_list_agrees_with_the_decision(
        grants in prop::collection::vec(any_grant(), 0..4),
        principal in any_principal(),
    ) {
        let channel = ChannelName::parse(Format::PyPi, "dev").unwrap();
        let filter = readable(&grants.clone().into(), &principal, Format::PyPi, &channel);
        for package in ["a", "ab", "b", "bb", "c"] {
            let listed = match &filter {
                Readable::All => true,
                Readable::Some(filter) => filter.admits(package),
            };
            prop_assert_eq!(listed, allowed(&grants, &principal, Action::Read, Some(package)), "{}", package);
        }
    }
}
