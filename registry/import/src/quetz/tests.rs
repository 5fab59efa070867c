#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::sql::{ChannelMember, Identity, PackageMember, UserRow};
use super::*;
use crate::{Severity, prove};

fn user(id: u8, name: Option<&str>, role: Option<QuetzRole>) -> UserRow {
    UserRow { id: vec![id; 16], name: name.map(str::to_owned), role }
}

fn channel_row(name: &str, private: bool) -> ChannelRow {
    ChannelRow {
        name: name.to_owned(),
        description: None,
        private,
        mirror_channel_url: None,
        mirror_mode: None,
        size_limit: None,
    }
}

fn member(channel: &str, id: u8, role: QuetzRole) -> ChannelMember {
    ChannelMember { channel: channel.to_owned(), user_id: vec![id; 16], role }
}

fn package_member(channel: &str, package: &str, id: u8, role: QuetzRole) -> PackageMember {
    PackageMember { channel: channel.to_owned(), package: package.to_owned(), user_id: vec![id; 16], role }
}

fn snapshot() -> Snapshot {
    use QuetzRole::{Maintainer, Member, Owner};
    Snapshot {
        users: vec![
            user(1, Some("alice"), Some(Owner)),
            user(2, Some("bob"), Some(Member)),
            user(3, Some("carol"), None),
            user(4, None, None),
            user(5, Some("da ve"), None),
        ],
        channels: vec![channel_row("Team", true), channel_row("open", false)],
        channel_members: vec![
            member("team", 2, Owner),
            member("team", 3, Member),
            member("open", 3, Maintainer),
            member("open", 2, Member),
            member("open", 4, Maintainer),
        ],
        package_members: vec![
            package_member("team", "xtensor", 3, Owner),
            package_member("team", "xtl", 3, Maintainer),
            package_member("open", "xtl", 2, Maintainer),
            package_member("open", "xtl", 3, Member),
            package_member("open", "xtl", 4, Maintainer),
        ],
        identities: vec![Identity {
            user_id: Some(vec![2; 16]),
            provider: "github".into(),
            name: Some("bobby".into()),
        }],
        api_keys: vec![
            ApiKey {
                description: Some("ci".into()),
                owner_id: Some(vec![2; 16]),
                user_id: Some(vec![4; 16]),
                expire_at: Some("2030-01-01".into()),
            },
            ApiKey {
                description: None,
                owner_id: Some(vec![1; 16]),
                user_id: Some(vec![1; 16]),
                expire_at: None,
            },
        ],
        has_credentials: true,
    }
}

#[track_caller]
fn assert_proved(import: &QuetzImport) {
    let proof = prove(&import.import.valid_channels().unwrap(), import.questions());
    assert_eq!(proof.differing, []);
    assert!(proof.asked > 0);
}

#[test]
fn members_become_subjects() {
    let import = import(&snapshot(), &QuetzOptions::default());
    let short = |permission: &Permission| {
        let texts = |subjects: Vec<&str>| subjects.join(" ");
        let subjects = texts(permission.subjects.iter().map(Raw::text).collect());
        let packages = texts(permission.packages.iter().map(Raw::text).collect());
        format!("{subjects} {} {packages}", permission.role.as_str()).trim_end().to_owned()
    };
    let of = |index: usize| -> Vec<String> {
        import.import.channels[index].spec.permissions.iter().map(short).collect()
    };
    assert_eq!(import.import.channels[0].spec.name.as_deref(), Some("Team"));
    assert_eq!(of(0), ["user:bob Owner", "user:carol Reader", "user:carol Maintainer xtensor xtl"]);
    assert_eq!(import.import.channels[1].spec.visibility, Visibility::Public);
    assert_eq!(of(1), ["user:carol Maintainer", "user:bob Maintainer xtl"]);
    assert_proved(&import);
}

#[test]
fn what_is_lost_is_said() {
    let mut snapshot = snapshot();
    snapshot.channels.push(ChannelRow {
        mirror_channel_url: Some("https://u:hunter2@upstream.example/t/tk-secret/get/x".into()),
        mirror_mode: Some("proxy".into()),
        size_limit: None,
        ..channel_row("far", false)
    });
    snapshot.channels.push(ChannelRow { size_limit: Some(10), ..channel_row("small", false) });
    snapshot.channels.push(ChannelRow {
        mirror_channel_url: Some("https://upstream.example/get/x".into()),
        mirror_mode: Some("mirror".into()),
        ..channel_row("near", false)
    });
    let import = import(&snapshot, &QuetzOptions::default());
    let report = import.import.report.to_string();
    for part in [
        "far: it is a proxy of upstream.example",
        "near: its includelist and excludelist",
        "\"da ve\"",
        "quetz-sql-authenticator",
        "`granary token create --user bob --channel conda/open --role Maintainer` and \
         `granary token create --user bob --channel conda/open --package xtl --role Maintainer`",
        "\"ci\" of bob (until 2030-01-01)",
        "\"\" of alice: keys are made anew here, with `granary token create --user alice`",
        "bob logged in by github (as bobby)",
        "alice is an owner or a maintainer of the server",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let spec = |name: &str| {
        let named = |channel: &&granary_crds::Channel| channel.metadata.name == name;
        &import.import.channels.iter().find(named).unwrap().spec
    };
    assert_eq!(spec("near").source.mirror.as_ref().unwrap().url.text(), "https://upstream.example/get/x");
    assert_eq!(spec("small").limits.max_size.as_ref().unwrap().text(), "10");
    assert!(!report.contains("hunter2") && !report.contains("tk-secret"), "{report}");
    assert!(import.import.report.lines().any(|line| line.0 == Severity::Elsewhere));
    assert_proved(&import);
}

fn role() -> impl Strategy<Value = QuetzRole> {
    prop::sample::select(vec![QuetzRole::Member, QuetzRole::Maintainer, QuetzRole::Owner])
}

proptest! {
    #[test]
    fn channels_give_what_members_have(
        server in prop::collection::vec(prop::option::of(role()), 4),
        private in prop::collection::vec(any::<bool>(), 2),
        members in prop::collection::btree_map((0usize..2, 0u8..4), role(), 0..6),
        packages in prop::collection::btree_map((0usize..2, 0usize..3, 0u8..4), role(), 0..10),
    ) {
        let (channels, names) = (["alpha", "Beta"], ["x", "y-z", "w.1"]);
        let snapshot = Snapshot {
            users: (0u8..).zip(server).map(|(id, role)| user(id, Some(&format!("user{id}")), role)).collect(),
            channels: channels.iter().zip(private).map(|(name, private)| channel_row(name, private)).collect(),
            channel_members: members.into_iter().map(|((c, id), role)| member(channels[c], id, role)).collect(),
            package_members: packages
                .into_iter()
                .map(|((c, p, id), role)| package_member(channels[c], names[p], id, role))
                .collect(),
            ..Snapshot::default()
        };
        let import = import(&snapshot, &QuetzOptions::default());
        let proof = prove(&import.import.valid_channels().unwrap(), import.questions());
        prop_assert_eq!(proof.differing, []);
    }
}
