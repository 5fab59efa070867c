#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use granary_core::Action;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Asker, Severity, prove};

fn export(indexes: &Json) -> String {
    let hash =
        "$argon2id$v=19$m=65536,t=3,p=4$nRPCGEMo5Tyn9N77X4vR2g$29mJ0yX+9I0UwYDtaj1r44cQuizA6USIpIrUuB87KNM";
    json!({
        "dumpversion": "2",
        "users": {
            "root": {"pwhash": hash, "username": "root"},
            "ada": {"pwhash": hash, "email": "a@x", "username": "ada"},
            "old": {"pwhash": "0a1b", "pwsalt": "2c", "username": "old"},
            "plugged": {"username": "plugged"},
            "é": {"pwhash": hash, "username": "é"},
        },
        "indexes": indexes,
    })
    .to_string()
}

fn stage(acl_upload: &[&str], volatile: bool) -> Json {
    json!({"indexconfig": {"type": "stage", "acl_upload": acl_upload, "volatile": volatile, "bases": []}, "projects": {}})
}

fn read(indexes: &Json) -> DevpiImport {
    import(&export(indexes), DevpiOptions::default()).unwrap()
}

fn short(import: &DevpiImport) -> Vec<String> {
    let line = |permission: &Permission| {
        let subjects: Vec<_> = permission.subjects.iter().map(Raw::text).collect();
        format!("{} {}", subjects.join(" "), permission.role.as_str())
    };
    import.import.channels.iter().flat_map(|channel| channel.spec.permissions.iter().map(line)).collect()
}

#[track_caller]
fn assert_proved(import: &DevpiImport) {
    let proof = prove(&import.import.valid_channels().unwrap(), import.questions());
    assert_eq!(proof.differing, []);
    assert!(proof.asked > 0);
}

#[test]
fn an_index_becomes_a_public_channel_of_its_user() {
    let import = read(&json!({"ada/dev": stage(&["ada", "bob", ":team", ":AUTHENTICATED:"], true)}));
    let channel = &import.import.channels[0];
    assert_eq!((channel.metadata.name.as_str(), channel.spec.name.as_deref()), ("ada-dev", Some("ada/dev")));
    assert_eq!(channel.spec.visibility, Visibility::Public);
    assert_eq!(channel.spec.pypi, Some(PyPiSettings { allow_overwrite: true }));
    assert_eq!(short(&import), ["user:ada Owner", "authenticated group:team user:bob Maintainer"]);
    assert_proved(&import);
}

#[test]
fn what_is_not_volatile_is_published_to_only() {
    let import = read(&json!({"ada/rel": stage(&["bob", ":ANONYMOUS:"], false)}));
    assert_eq!(short(&import), ["user:ada Owner", "anonymous user:bob Publisher"]);
    assert_eq!(import.import.channels[0].spec.pypi, None);
    assert!(import.import.report.to_string().contains("ada is not in acl_upload"));
    assert_proved(&import);
}

#[test]
fn restrict_modify_is_in_the_place_of_owners() {
    let options = DevpiOptions {
        restrict_modify: Some(vec![Principal::parse("bob"), Principal::parse(":admins")]),
        ..DevpiOptions::default()
    };
    let text = export(&json!({"ada/dev": stage(&["ada"], true), "ada/rel": stage(&["ada"], false)}));
    let import = import(&text, options).unwrap();
    assert_eq!(
        short(&import),
        [
            "group:admins user:bob Owner",
            "user:ada Maintainer",
            "group:admins user:bob Owner",
            "user:ada Publisher"
        ]
    );
    assert_proved(&import);
}

#[test]
fn what_is_lost_is_said_and_secrets_are_not() {
    let import = read(&json!({
        "root/pypi": {"indexconfig": {"type": "mirror", "mirror_url": "http://me:hunter2@upstream.example/simple/"}},
        "ada/x": {"indexconfig": {"type": "constrained", "acl_upload": []}},
        "ada/ü": stage(&[], true),
        "ada/dev": {"indexconfig": {
            "type": "stage", "acl_upload": ["ada", "a b"], "bases": ["root/pypi"], "title": "two\nlines", "description": "d\ne",
        }},
    }));
    let report = &import.import.report;
    let lost: Vec<_> =
        report.lines().filter(|line| line.0 == Severity::NotCarried).map(|line| line.1).collect();
    for part in [
        "mirrors upstream.example/simple/",
        "constrained",
        "\"ada/ü\"",
        "bases root/pypi",
        "\"a b\"",
        "its title",
        "password of old",
        "user \"é\"",
    ] {
        assert!(lost.iter().any(|line| line.contains(part)), "{part}: {lost:#?}");
    }
    assert!(report.lines().any(|line| line.1.starts_with("plugged has no password")));
    let said = format!("{report}{import:?}");
    assert!(!said.contains("hunter2") && !said.contains("29mJ0yX") && !said.contains("0a1b"), "{said}");
    assert_eq!(import.import.channels.len(), 1);
    assert_eq!(import.import.channels[0].spec.description.as_deref(), Some("d\ne"));
    let accounts: Vec<_> = import.import.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(accounts, ["ada", "root"]);
    assert_proved(&import);
}

#[test]
fn another_file_is_none() {
    assert!(matches!(import("{}", DevpiOptions::default()), Err(ExportError::Json(_))));
    let newer = r#"{"dumpversion": "3", "users": {}, "indexes": {}}"#;
    assert!(matches!(import(newer, DevpiOptions::default()), Err(ExportError::Version)));
}

#[test]
fn a_question_can_be_answered_with_no() {
    // The proof would be worth nothing if it could not fail.
    let import = read(&json!({"ada/dev": stage(&["ada"], true)}));
    let mut wrong = import.indexes[0].clone();
    wrong.acl_upload.push(Principal::parse("bob"));
    let bob = Asker::named("bob".parse().unwrap());
    assert!(wrong.allow(None, &bob, Action::Remove) && !import.indexes[0].allow(None, &bob, Action::Remove));
    let question = Question {
        channel: "ada/dev".into(),
        asker: bob,
        action: Action::Remove,
        package: Some("x".into()),
        allowed: true,
    };
    assert_eq!(prove(&import.import.valid_channels().unwrap(), [question]).differing.len(), 1);
}

fn acl() -> impl Strategy<Value = Vec<&'static str>> {
    let entries = vec!["ada", "bob", "root", ":team", ":admins", ":ANONYMOUS:", ":AUTHENTICATED:"];
    prop::collection::vec(prop::sample::select(entries), 0..4)
}

proptest! {
    #[test]
    fn channels_give_what_indexes_give(
        acls in prop::collection::vec((acl(), any::<bool>()), 1..4),
        restrict in prop::option::of(acl()),
    ) {
        let indexes: Map<String, Json> = acls
            .iter()
            .enumerate()
            .map(|(number, (acl, volatile))| (format!("ada/i{number}"), stage(acl, *volatile)))
            .collect();
        let options = DevpiOptions {
            restrict_modify: restrict.map(|list| list.into_iter().map(Principal::parse).collect()),
            ..DevpiOptions::default()
        };
        let import = import(&export(&Json::Object(indexes)), options).unwrap();
        let proof = prove(&import.import.valid_channels().unwrap(), import.questions());
        prop_assert_eq!(proof.differing, []);
    }
}
