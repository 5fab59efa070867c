use std::num::NonZeroU16;
use std::time::Duration;

use granary_store::objects::{
    BucketPlan, Encryption, Feature, OwnerId, ProvisionError, Provisioned, Removal,
};

use crate::recording::Recorder;
use crate::support::{Server, noise};

pub fn plan(name: &str, owner: OwnerId) -> BucketPlan {
    BucketPlan {
        name: name.to_owned(),
        owner,
        adopt: false,
        versioning: Some(true),
        encryption: Some(Encryption::StoreManaged),
        abort_incomplete_after_days: NonZeroU16::new(2).unwrap(),
    }
}

fn owner(name: &str) -> OwnerId {
    name.parse().unwrap()
}

fn lacking(provisioned: &Provisioned) -> Vec<Feature> {
    provisioned.lacking.iter().map(|lacking| lacking.feature).collect()
}

#[tokio::test]
async fn a_store_that_lacks_features_is_coped_with_and_says_which() {
    let server = Server::start().await;
    let plan = plan("pypi-main", owner("granary/prod pypi/main"));
    let first = server.store.ensure_bucket(&plan).await.unwrap();
    assert!(first.created);
    let told = [Feature::PublicAccessBlock, Feature::Versioning, Feature::Encryption, Feature::Lifecycle];
    assert_eq!(lacking(&first), told, "{first:?}");
    assert_eq!(first.lacking[0].answer.code.as_deref(), Some("NotImplemented"));
    assert_eq!(first.changed, [Feature::Tagging]);
    let again = server.store.ensure_bucket(&plan).await.unwrap();
    assert!(!again.created && again.changed.is_empty());
    assert_eq!(again.lacking, first.lacking);
    let owner = server.store.bucket_owner("pypi-main").await.unwrap();
    assert_eq!(owner.as_deref(), Some("granary/prod pypi/main"));
}

#[tokio::test]
async fn the_bucket_of_another_is_refused_even_to_adopt() {
    let server = Server::start().await;
    let mine = plan("contested", owner("one"));
    server.store.ensure_bucket(&mine).await.unwrap();
    let theirs = BucketPlan { owner: owner("two"), adopt: true, ..mine };
    let refused = server.store.ensure_bucket(&theirs).await;
    assert!(
        matches!(&refused, Err(ProvisionError::OwnedByAnother { bucket, owner }) if bucket == "contested" && owner == "one"),
        "{refused:?}"
    );
    let removed = server.store.remove_bucket("contested", &owner("two")).await;
    assert!(matches!(removed, Err(ProvisionError::OwnedByAnother { .. })));
}

#[tokio::test]
async fn a_bucket_with_objects_is_taken_only_by_who_may() {
    let server = Server::start().await;
    let raw = server.raw();
    for bucket in ["foreign", "foreign-empty"] {
        raw.create_bucket().bucket(bucket).send().await.unwrap();
    }
    raw.put_object().bucket("foreign").key("theirs").body(noise(10, 1).into()).send().await.unwrap();
    let mut plan = plan("foreign", owner("me"));
    assert!(matches!(server.store.ensure_bucket(&plan).await, Err(ProvisionError::NotEmpty { .. })));
    assert_eq!(server.store.bucket_owner("foreign").await.unwrap(), None, "and it was left alone");
    assert_eq!(server.store.remove_bucket("foreign", &plan.owner).await.unwrap(), Removal::LeftInPlace);
    plan.adopt = true;
    assert!(!server.store.ensure_bucket(&plan).await.unwrap().created);
    plan.adopt = false;
    server.store.ensure_bucket(&plan).await.unwrap();
    plan.name = "foreign-empty".to_owned();
    server.store.ensure_bucket(&plan).await.unwrap();
    // Somebody has written nonsense where the owner should stand.
    raw.put_object().bucket("foreign").key(".granary-owner").body(noise(10, 1).into()).send().await.unwrap();
    plan.name = "foreign".to_owned();
    assert!(matches!(server.store.ensure_bucket(&plan).await, Err(ProvisionError::OwnedByAnother { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_race_for_a_bucket_one_wins() {
    let server = Server::start().await;
    for round in 0..10 {
        let name = format!("race-{round}");
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (store, plan) = (server.store.clone(), plan(&name, owner(&format!("racer {racer}"))));
                tokio::spawn(async move { (plan.owner.clone(), store.ensure_bucket(&plan).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (owner, Ok(_)) => winners.push(owner),
                (_, Err(ProvisionError::OwnedByAnother { .. })) => {}
                (_, Err(error)) => panic!("{error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        let owner = server.store.bucket_owner(&name).await.unwrap();
        assert_eq!(owner.as_deref(), Some(winners[0].as_str()));
    }
}

#[tokio::test]
async fn a_bucket_is_removed_with_all_that_is_in_it_by_its_owner() {
    let server = Server::start().await;
    let plan = plan("doomed", owner("me"));
    server.store.ensure_bucket(&plan).await.unwrap();
    let uploads = server.uploads(1);
    for _ in 0..20 {
        let mut upload = uploads.begin("doomed", 100).await;
        upload.write(b"bytes").await.unwrap();
        upload.finish().await.unwrap();
    }
    server.raw().create_multipart_upload().bucket("doomed").key("blobs/unfinished").send().await.unwrap();
    assert_eq!(server.store.remove_bucket("doomed", &plan.owner).await.unwrap(), Removal::Removed);
    assert_eq!(server.store.remove_bucket("doomed", &plan.owner).await.unwrap(), Removal::Absent);
    assert!(server.store.ensure_bucket(&plan).await.unwrap().created);
}

#[tokio::test]
async fn all_settings_are_written_once_and_again_only_when_they_drift() {
    let recorder = Recorder::start().await;
    let plan = plan("pypi-main", owner("granary/prod pypi/main"));
    let first = recorder.store.ensure_bucket(&plan).await.unwrap();
    let all = [
        Feature::PublicAccessBlock,
        Feature::Versioning,
        Feature::Encryption,
        Feature::Lifecycle,
        Feature::Tagging,
    ];
    assert!(first.created && first.lacking.is_empty(), "{first:?}");
    assert_eq!(first.changed, all);
    assert_eq!(
        recorder.take_writes(),
        [
            "CreateBucket",
            "PutObject .granary-owner if-none-match *",
            "PutPublicAccessBlock all",
            "PutBucketVersioning Enabled",
            "PutBucketEncryption AES256",
            "PutBucketLifecycleConfiguration granary-abandoned-uploads blobs/ 2",
            "PutBucketTagging granary.dev/owner=granary/prod pypi/main",
        ]
    );
    let again = recorder.store.ensure_bucket(&plan).await.unwrap();
    assert_eq!(again, Provisioned { created: false, changed: vec![], lacking: vec![] });
    assert_eq!(recorder.take_writes(), Vec::<String>::new());

    // Somebody else's rule and tag stay; what drifted is mended and nothing else.
    recorder.drift();
    let mended = recorder.store.ensure_bucket(&plan).await.unwrap();
    assert_eq!(mended.changed, [Feature::Versioning, Feature::Lifecycle, Feature::Tagging]);
    assert_eq!(
        recorder.take_writes(),
        [
            "PutBucketVersioning Enabled",
            "PutBucketLifecycleConfiguration theirs logs/ -, granary-abandoned-uploads blobs/ 2",
            "PutBucketTagging team=packaging, granary.dev/owner=granary/prod pypi/main",
        ]
    );
    assert_eq!(recorder.requests_without_checksum(), Vec::<String>::new());
}

#[tokio::test]
async fn other_settings_are_what_the_plan_says() {
    let recorder = Recorder::start().await;
    let mut plan = plan("bucket", owner("me"));
    plan.versioning = Some(false);
    plan.encryption = Some(Encryption::Kms { key_id: Some("key-1".to_owned()) });
    recorder.store.ensure_bucket(&plan).await.unwrap();
    let writes = recorder.take_writes();
    assert!(writes.contains(&"PutBucketEncryption aws:kms key-1".to_owned()), "{writes:?}");
    assert!(!writes.iter().any(|write| write.starts_with("PutBucketVersioning")), "never on, never off");
    recorder.drift_to_versioned();
    plan.encryption = None;
    plan.abort_incomplete_after_days = NonZeroU16::new(7).unwrap();
    recorder.store.ensure_bucket(&plan).await.unwrap();
    assert_eq!(
        recorder.take_writes(),
        [
            "PutBucketVersioning Suspended",
            "PutBucketLifecycleConfiguration granary-abandoned-uploads blobs/ 7"
        ]
    );
}

#[tokio::test]
async fn a_tag_alone_tells_the_owner_too() {
    let recorder = Recorder::start().await;
    let mine = plan("bucket", owner("me"));
    recorder.store.ensure_bucket(&mine).await.unwrap();
    recorder.lose_marker();
    let theirs = BucketPlan { owner: owner("other"), adopt: true, ..mine.clone() };
    let refused = recorder.store.ensure_bucket(&theirs).await;
    assert!(
        matches!(&refused, Err(ProvisionError::OwnedByAnother { owner, .. }) if owner == "me"),
        "{refused:?}"
    );
    recorder.store.ensure_bucket(&mine).await.unwrap();
    assert_eq!(recorder.store.bucket_owner("bucket").await.unwrap().as_deref(), Some("me"));
}

#[tokio::test]
async fn a_refusal_that_is_no_absence_is_told_in_the_stores_words() {
    let recorder = Recorder::start().await;
    recorder.refuse_lifecycle();
    let provisioned = recorder.store.ensure_bucket(&plan("bucket", owner("me"))).await.unwrap();
    assert_eq!(lacking(&provisioned), [Feature::Lifecycle]);
    assert_eq!(provisioned.lacking[0].answer.to_string(), "400 MalformedXML: no such action");
}

#[tokio::test]
async fn a_store_that_fails_for_a_moment_is_tried_again_and_then_told() {
    let recorder = Recorder::start().await;
    let plan = plan("bucket", owner("me"));
    recorder.fail_next(2);
    assert!(recorder.store.ensure_bucket(&plan).await.unwrap().created, "the client tries again");
    recorder.fail_next(1000);
    let failed =
        tokio::time::timeout(Duration::from_secs(30), recorder.store.ensure_bucket(&plan)).await.unwrap();
    assert!(failed.unwrap_err().is_transient());
}

#[tokio::test]
async fn old_versions_and_delete_markers_go_with_the_bucket() {
    let recorder = Recorder::start().await;
    let plan = plan("bucket", owner("me"));
    recorder.store.ensure_bucket(&plan).await.unwrap();
    recorder.take_writes();
    recorder.set_versions(&[("blobs/a", "1"), ("blobs/a", "2"), (".granary-owner", "3")]);
    assert_eq!(recorder.store.remove_bucket("bucket", &plan.owner).await.unwrap(), Removal::Removed);
    assert_eq!(
        recorder.take_writes(),
        ["DeleteObjects blobs/a@1 blobs/a@2", "DeleteObjects .granary-owner@3", "DeleteBucket"]
    );
}
