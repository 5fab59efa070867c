//! Channels: rows first, then the bucket; whose is whose; drift.

use std::time::Duration;

use granary_core::{Action, Format, Grant, GrantSource, Principal, Role, Subject};
use granary_crds::ChannelSettings;
use granary_store::objects::{Feature, ProvisionError};
use granary_store::{ApplyError, AuditEntry, ChannelState, NewChannel, Trouble};
use serde_json::json;

use crate::support::{Registry, channel, channel_name};

#[tokio::test]
async fn a_channel_is_made_once_and_served_when_its_bucket_is_there() {
    let registry = Registry::start().await;
    let main = channel("team/main", "main", "visibility: public");
    let rows = registry.store.apply_rows(&main, &registry.naming).await.unwrap();
    assert!(rows.changed);
    assert_eq!((rows.state, rows.bucket.as_str()), (ChannelState::Pending, "test-pypi-main"));
    assert!(registry.find("main").await.is_none());
    let bucket = registry.store.apply_bucket(&main).await.unwrap();
    assert!(bucket.created && bucket.activated && !bucket.had_vanished);
    assert_eq!((bucket.set, bucket.repaired), (vec![Feature::Tagging], vec![]));
    assert!(registry.find("main").await.is_some());

    let again = registry.apply(&main).await;
    assert!(!again.changed && again.repaired.is_empty());
    assert_eq!(again.fingerprint, bucket.fingerprint);
    let count = "select count(*) from audit where action in ('apply channel', 'serve channel')";
    assert_eq!(registry.database.row(count).await.get::<_, i64>(0), 2, "nothing was written twice");
}

#[tokio::test]
async fn a_grant_that_was_taken_away_holds_while_the_object_store_is_down() {
    let registry = Registry::start().await;
    registry.apply(&channel("team/main", "main", "visibility: public")).await;
    let may_read = async || {
        let main = registry.find("main").await.unwrap();
        main.allows(&Principal::Anonymous, Action::Read, None)
    };
    assert!(may_read().await);
    registry.buckets.stop().await;
    let private = channel("team/main", "main", "visibility: private");
    let failed = registry.store.apply_channel(&private, &registry.naming).await.unwrap_err();
    assert_eq!(failed.trouble(), Trouble::ObjectStoreUnavailable, "{failed:?}");
    assert!(!may_read().await, "it is served all the same, by its new grants");
    registry.buckets.start_again().await;
    assert!(!registry.apply(&private).await.changed);
}

#[tokio::test]
async fn what_was_changed_by_hand_is_found_by_its_fingerprint_and_made_right() {
    let registry = Registry::start().await;
    let main = channel(
        "team/main",
        "main",
        "visibility: public, permissions: [{subjects: ['user:ada'], role: Publisher}]",
    );
    let other = channel("team/other", "other", "visibility: private");
    let applied = registry.apply(&main).await.fingerprint;
    let untouched = registry.apply(&other).await.fingerprint;
    let key = |name: &str| (Format::PyPi, channel_name(name));
    for edit in [
        "update channel_grant set body = jsonb_set(body, '{role}', '\"Owner\"') where position = 2",
        "delete from channel_grant where position = 1",
        "insert into channel_grant select channel_id, source, 9, body from channel_grant where position = 2",
        "update channel set settings = '{}' where name = 'main'",
        "update channel set state = 'retired' where name = 'main'",
        "update channel set deletion_policy = 'Delete' where name = 'main'",
        "delete from channel where name = 'main'",
    ] {
        registry.database.run(edit).await;
        let now = registry.store.channel_fingerprints().await.unwrap();
        assert_ne!(now.get(&key("main")), Some(&applied), "{edit}");
        assert_eq!(now.get(&key("other")), Some(&untouched));
        let repaired = registry.apply(&main).await;
        assert!(repaired.changed, "{edit}");
        assert_eq!(repaired.fingerprint, applied, "{edit}");
        assert!(registry.find("main").await.unwrap().grants.len() == 2, "{edit}");
    }
    // What an API grants is no drift.
    registry
        .database
        .run("insert into channel_grant select channel_id, 'api', 1, body from channel_grant where position = 1")
        .await;
    assert_eq!(registry.store.channel_fingerprints().await.unwrap().get(&key("main")), Some(&applied));
}

#[tokio::test]
async fn a_buckets_drift_is_told_from_a_new_wish() {
    let registry = Registry::start().await;
    let main = channel("team/main", "main", "visibility: public");
    let bucket = registry.apply(&main).await.bucket;
    let raw = registry.buckets.raw();
    raw.delete_bucket_tagging().bucket(&bucket).send().await.unwrap();
    let repaired = registry.store.apply_bucket(&main).await.unwrap();
    assert_eq!((repaired.set, repaired.repaired), (vec![], vec![Feature::Tagging]));
    raw.delete_bucket_tagging().bucket(&bucket).send().await.unwrap();
    let wish = channel("team/main", "main", "bucket: {lifecycle: {abortIncompleteUploadsAfterDays: 9}}");
    let set = registry.store.apply_bucket(&wish).await.unwrap();
    assert_eq!((set.set, set.repaired), (vec![Feature::Tagging], vec![]));
    raw.delete_object().bucket(&bucket).key(".granary-owner").send().await.unwrap();
    raw.delete_bucket().bucket(&bucket).send().await.unwrap();
    let lost = registry.store.apply_bucket(&wish).await.unwrap();
    assert!(lost.created && lost.had_vanished && lost.repaired.is_empty());
}

#[tokio::test]
async fn what_is_anothers_is_told_by_name() {
    let registry = Registry::start().await;
    registry.apply(&channel("team/main", "main", "visibility: public")).await;
    let attempt = async |wanted| {
        let error = registry.store.apply_channel(&wanted, &registry.naming).await.unwrap_err();
        (error.trouble(), error)
    };
    let refused = attempt(channel("other/main", "main", "visibility: public")).await;
    assert!(matches!(&refused, (Trouble::Conflict, ApplyError::Claimed { by, .. }) if by == "team/main"));
    let refused = attempt(channel("team/main", "second", "visibility: public")).await;
    assert!(matches!(&refused, (Trouble::Conflict, ApplyError::Immutable { was, .. }) if was == "pypi/main"));
    let refused = attempt(channel("team/sub", "main/sub", "visibility: public")).await;
    assert!(matches!(&refused, (Trouble::Conflict, ApplyError::Excluded { other, .. }) if other == "main"));
    registry.apply(&channel("team/deep", "outer/inner", "visibility: public")).await;
    let refused = attempt(channel("team/outer", "outer", "visibility: public")).await;
    assert!(
        matches!(&refused, (Trouble::Conflict, ApplyError::Excluded { other, .. }) if other == "outer/inner")
    );

    let raw = registry.buckets.raw();
    raw.create_bucket().bucket("test-pypi-taken").send().await.unwrap();
    raw.put_object().bucket("test-pypi-taken").key("theirs").send().await.unwrap();
    let taken = channel("team/taken", "taken", "visibility: public");
    let refused = attempt(taken.clone()).await;
    assert!(
        matches!(&refused, (Trouble::Conflict, ApplyError::Bucket(ProvisionError::NotEmpty { .. }))),
        "{refused:?}"
    );
    assert_eq!(registry.state("taken").await.as_deref(), Some("pending"), "it is not served");
    // It is removed without harm to the bucket that never was its own.
    let retired =
        registry.store.retire_channel("team/taken", granary_crds::DeletionPolicy::Delete).await.unwrap();
    assert_eq!(retired.removed, ["pypi/taken"]);
    assert!(registry.buckets.names().await.contains(&"test-pypi-taken".to_owned()));

    registry.store.retire_channel("team/main", granary_crds::DeletionPolicy::Retain).await.unwrap();
    let refused = attempt(channel("other/main", "main", "visibility: public")).await;
    assert!(matches!(&refused, (Trouble::Conflict, ApplyError::Kept { by, .. }) if by == "team/main"));
    registry.apply(&channel("other/main", "main", "visibility: public, adopt: true")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_channels_that_exclude_each_other_one_is_made() {
    let registry = Registry::start().await;
    for round in 0..5 {
        let outer = channel(&format!("team/a{round}"), &format!("r{round}"), "visibility: public");
        let inner = channel(&format!("team/b{round}"), &format!("r{round}/x"), "visibility: public");
        let another = registry.another().await;
        let (one, two) = tokio::join!(
            registry.store.apply_channel(&outer, &registry.naming),
            another.apply_channel(&inner, &registry.naming)
        );
        let refused = [&one, &two].into_iter().filter_map(|result| result.as_ref().err()).collect::<Vec<_>>();
        assert!(matches!(refused[..], [ApplyError::Excluded { .. }]), "{refused:?}");
    }
}

#[tokio::test]
async fn a_channel_of_an_api_is_pending_until_somebody_provides_its_bucket() {
    let registry = Registry::start().await;
    assert!(registry.store.provision_pending(&registry.naming).await.unwrap().is_empty());
    let new = NewChannel {
        format: Format::PyPi,
        name: channel_name("ada/dev"),
        settings: ChannelSettings::default(),
        grants: vec![Grant {
            subjects: vec![Subject::Authenticated],
            role: Role::Publisher,
            packages: Vec::new(),
            except: Vec::new(),
            source: GrantSource::Api,
        }],
    };
    let audit = AuditEntry {
        actor: "ada".to_owned(),
        credential: "token".to_owned(),
        address: None,
        action: "create channel",
        channel: Some("pypi/ada/dev".to_owned()),
        package: None,
        detail: json!({}),
        outcome: "done",
        request_id: None,
    };
    let pod = registry.another().await;
    pod.create_pending_channel(&new, &registry.naming, &audit).await.unwrap();
    pod.create_pending_channel(&new, &registry.naming, &audit).await.unwrap();
    // Whatever a pod writes there, the bucket is the one that the naming says.
    registry.database.run("update channel set bucket = 'somebody-elses'").await;
    let waiting = pod.wait_until_active(Format::PyPi, &new.name, Duration::from_secs(10));
    let (served, provided) = tokio::join!(waiting, registry.store.provision_pending(&registry.naming));
    let served = served.unwrap().unwrap();
    assert_eq!(served.grants, new.grants);
    let provided = provided.unwrap();
    assert_eq!(&*served.bucket, provided[0].outcome.as_ref().unwrap().bucket);
    assert_eq!(registry.buckets.names().await, [served.bucket.to_string()]);

    let exists = pod.create_pending_channel(&new, &registry.naming, &audit).await.unwrap_err();
    assert!(matches!(exists, ApplyError::Exists(_)));
    let resource = channel("team/dev", "ada/dev", "visibility: public");
    let refused = registry.store.apply_channel(&resource, &registry.naming).await.unwrap_err();
    assert!(matches!(refused, ApplyError::NotOurs(_)));
    registry.apply(&channel("team/dev", "ada/dev", "visibility: public, adopt: true")).await;
    let adopted = registry.find("ada/dev").await.unwrap();
    assert_eq!(adopted.grants.len(), 2, "what the API granted stays");
    let nobody = pod.wait_until_active(Format::PyPi, &channel_name("never"), Duration::ZERO).await.unwrap();
    assert!(nobody.is_none());
}

#[tokio::test]
async fn a_database_that_is_down_is_told_from_one_that_refuses() {
    let registry = Registry::start().await;
    let unreachable = crate::support::store(
        "postgresql://nobody@127.0.0.1:1/x",
        registry.buckets.address,
        std::sync::Arc::new(granary_core::SystemClock),
    )
    .await;
    let main = channel("team/main", "main", "visibility: public");
    let failed = unreachable.apply_rows(&main, &registry.naming).await.unwrap_err();
    assert_eq!(failed.trouble(), Trouble::DatabaseUnavailable);
    registry.database.run("drop table channel_grant").await;
    let failed = registry.store.apply_rows(&main, &registry.naming).await.unwrap_err();
    assert_eq!(failed.trouble(), Trouble::DatabaseRefused);
}
