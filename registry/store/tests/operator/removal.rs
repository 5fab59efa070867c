//! Channels whose resource is gone.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use granary_core::SystemClock;
use granary_crds::DeletionPolicy::{Delete, Retain};
use granary_store::{ApplyError, Retired, Trouble};

use crate::support::{Gate, Registry, channel, store};

#[tokio::test]
async fn what_is_kept_is_taken_up_again_with_its_files() {
    let registry = Registry::start().await;
    let main = channel("team/main", "main", "visibility: public");
    registry.apply(&main).await;
    registry.publish("main", b"bytes").await;
    let retired = registry.store.retire_channel("team/main", Retain).await.unwrap();
    assert_eq!(retired, Retired { kept: vec!["pypi/main".to_owned()], removed: vec![] });
    assert!(registry.find("main").await.is_none());
    assert_eq!(registry.buckets.names().await, ["test-pypi-main"]);
    assert_eq!(registry.store.retire_channel("team/main", Retain).await.unwrap(), Retired::default());
    // It is nobody's now, so nobody can have it removed.
    assert_eq!(registry.store.retire_channel("team/main", Delete).await.unwrap(), Retired::default());
    registry.apply(&main).await;
    assert!(registry.find("main").await.is_some());
    assert_eq!(registry.database.row("select count(*) from blob").await.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn what_is_deleted_goes_with_its_bucket_and_nothing_else_does() {
    let registry = Registry::start().await;
    for name in ["main", "other"] {
        registry.apply(&channel(&format!("team/{name}"), name, "deletionPolicy: Delete")).await;
        registry.publish(name, b"bytes").await;
    }
    assert_eq!(registry.store.retire_channel("another/main", Delete).await.unwrap(), Retired::default());
    let retired = registry.store.retire_channel("team/main", Delete).await.unwrap();
    assert_eq!(retired, Retired { kept: vec![], removed: vec!["pypi/main".to_owned()] });
    assert_eq!(registry.buckets.names().await, ["test-pypi-other"]);
    assert_eq!(registry.state("main").await, None);
    for table in ["channel", "blob"] {
        let count = registry.database.row(&format!("select count(*) from {table}")).await;
        assert_eq!(count.get::<_, i64>(0), 1, "{table}");
    }
    assert_eq!(registry.database.row("select count(*) from revision_slot").await.get::<_, i64>(0), 32);
    assert!(registry.find("other").await.is_some());
    assert_eq!(registry.store.retire_channel("team/main", Delete).await.unwrap(), Retired::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_remove_a_channel_one_does_and_the_next_channel_is_safe() {
    let registry = Registry::start().await;
    for round in 0..3 {
        let main = channel("team/main", "main", "deletionPolicy: Delete");
        registry.apply(&main).await;
        for n in 0..30u8 {
            registry.publish("main", &[n, round]).await;
        }
        let stores = join_all((0..6).map(|_| registry.another())).await;
        let removals = join_all(stores.iter().map(|store| store.retire_channel("team/main", Delete)));
        // Somebody wants the channel back meanwhile, and gets it as soon as the old one is gone.
        let comeback = async {
            loop {
                match registry.store.apply_channel(&main, &registry.naming).await {
                    Ok(applied) if applied.changed => {
                        registry.publish("main", b"new").await;
                        return;
                    }
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) => assert_eq!(error.trouble(), Trouble::Busy, "{error:?}"),
                }
            }
        };
        let (outcomes, ()) = tokio::join!(removals, comeback);
        let mut removed = 0;
        for outcome in outcomes {
            match outcome {
                Ok(retired) => removed += retired.removed.len(),
                Err(error) => assert_eq!(error.trouble(), Trouble::Busy, "{error:?}"),
            }
        }
        // The new channel may have been removed in turn by one that began late; what is there is whole.
        assert!(removed >= 1);
        if registry.find("main").await.is_some() {
            let objects =
                registry.buckets.raw().list_objects_v2().bucket("test-pypi-main").send().await.unwrap();
            assert_eq!(objects.key_count, Some(2), "the owner's mark and one file");
        }
        registry.store.retire_channel("team/main", Delete).await.unwrap();
    }
}

#[tokio::test]
async fn a_removal_whose_process_died_is_finished_by_another() {
    let registry = Registry::start().await;
    let main = channel("team/main", "main", "deletionPolicy: Delete");
    registry.apply(&main).await;
    registry.publish("main", b"bytes").await;
    let claim = |until: &str| {
        format!(
            "update channel set state = 'deleting', remover = gen_random_uuid(), removal_until = now() + '{until}'"
        )
    };
    // It may still be alive.
    registry.database.run(&claim("1 minute")).await;
    assert!(registry.find("main").await.is_some(), "what was read before is served until it is touched");
    let busy = registry.store.retire_channel("team/main", Delete).await.unwrap_err();
    assert!(matches!(busy, ApplyError::BeingDeleted(_)));
    let busy = registry.store.apply_channel(&main, &registry.naming).await.unwrap_err();
    assert!(matches!(busy, ApplyError::BeingDeleted(_)));
    assert!(registry.store.resume_removals().await.unwrap().is_empty());
    assert_eq!(registry.buckets.names().await, ["test-pypi-main"]);
    // Now it is dead.
    registry.database.run(&claim("-1 second")).await;
    assert_eq!(registry.store.resume_removals().await.unwrap(), ["pypi/main"]);
    assert!(registry.buckets.names().await.is_empty());
    assert!(registry.apply(&main).await.changed);
}

#[tokio::test]
async fn who_lost_its_claim_removes_nothing_any_more() {
    let registry = Registry::start().await;
    registry.apply(&channel("team/main", "main", "deletionPolicy: Delete")).await;
    // An object store that takes its time: until the gate opens, nothing gets through.
    let gate = Gate::before(registry.buckets.address).await;
    let slow = store(&registry.database.url, gate.address, Arc::new(SystemClock)).await;
    let removal = tokio::spawn(async move { slow.retire_channel("team/main", Delete).await });
    gate.reached().await;
    registry.database.run("update channel set remover = gen_random_uuid()").await;
    let lost = removal.await.unwrap().unwrap_err();
    assert!(matches!(lost, ApplyError::Overtaken(_)), "{lost:?}");
    gate.open();
    assert_eq!(registry.buckets.names().await, ["test-pypi-main"]);
    assert_eq!(registry.state("main").await.as_deref(), Some("deleting"));
}

#[tokio::test]
async fn a_removal_that_failed_goes_on_at_once() {
    let registry = Registry::start().await;
    let main = channel("team/main", "main", "deletionPolicy: Delete");
    registry.apply(&main).await;
    registry.buckets.stop().await;
    let failed = registry.store.retire_channel("team/main", Delete).await.unwrap_err();
    assert_eq!(failed.trouble(), Trouble::ObjectStoreUnavailable, "{failed:?}");
    assert!(registry.find("main").await.is_none(), "it is not served any more");
    assert_eq!(registry.state("main").await.as_deref(), Some("deleting"));
    registry.buckets.start_again().await;
    // A change of mind comes too late: files may be gone.
    let retired = registry.store.retire_channel("team/main", Retain).await.unwrap();
    assert_eq!(retired.removed, ["pypi/main"]);
    assert!(registry.buckets.names().await.is_empty());
}

#[tokio::test]
async fn channels_that_no_file_names_any_more_are_retired() {
    let registry = Registry::start().await;
    for (name, spec) in
        [("a", "deletionPolicy: Delete"), ("b", "visibility: public"), ("c", "visibility: public")]
    {
        registry.apply(&channel(&format!("team/{name}"), name, spec)).await;
    }
    let kept = HashSet::from(["team/c".to_owned()]);
    let retired = registry.store.retire_channels_except(&kept).await.unwrap();
    assert_eq!(retired, Retired { kept: vec!["pypi/b".to_owned()], removed: vec!["pypi/a".to_owned()] });
    assert_eq!(registry.store.retire_channels_except(&kept).await.unwrap(), Retired::default());
    assert_eq!(registry.buckets.names().await, ["test-pypi-b", "test-pypi-c"]);
}
