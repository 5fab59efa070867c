use std::time::Duration;

use granary_core::{Hasher, Sha256};
use granary_store::objects::UploadError;
use jiff::Timestamp;

use crate::support::{BUCKET, Server, collect, noise};

const MIB: usize = 1 << 20;

/// Uploads `bytes` in pieces of `piece` and reads them back.
async fn round_trip(server: &Server, bytes: &[u8], piece: usize) {
    let before = Timestamp::now();
    let mut upload = server.uploads(2).begin(BUCKET, u64::MAX).await;
    for piece in bytes.chunks(piece) {
        upload.write(piece).await.unwrap();
    }
    let stored = upload.finish().await.unwrap();
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    assert_eq!(stored.digests, hasher.finish());
    assert!(stored.began >= before && stored.began <= Timestamp::now());
    let read = collect(server.store.open(BUCKET, &stored.key, None).await.unwrap()).await.unwrap();
    assert!(read == bytes, "{} bytes came back as other {}", bytes.len(), read.len());
    server.store.verify(BUCKET, &stored.key, &stored.digests.sha256, stored.digests.size).await.unwrap();
}

#[tokio::test]
async fn bodies_of_any_size_come_back_as_they_were() {
    let server = Server::start().await;
    let bytes = noise(17 * MIB + 3, 1);
    // Nothing; small; just outgrown the small buffer; exactly a part; a byte more; exact parts; and a rest.
    for length in [0, 10, 256 * 1024, 256 * 1024 + 1, 5 * MIB, 5 * MIB + 1, 15 * MIB, 17 * MIB + 3] {
        round_trip(&server, &bytes[..length], 300_007).await;
    }
    round_trip(&server, &bytes, bytes.len()).await;
    assert_eq!(server.keys().await.len(), 9, "one object each");
}

#[tokio::test]
async fn what_fits_a_part_is_one_put_with_the_md5_as_its_tag() {
    let server = Server::start().await;
    let key = server.put(&noise(5 * MIB, 2)).await;
    let large = server.put(&noise(5 * MIB + 1, 2)).await;
    // The tag of a multipart object ends in the number of its parts.
    let tag = async |key: &str| {
        let head = server.raw().head_object().bucket(BUCKET).key(key).send().await.unwrap();
        head.e_tag.unwrap()
    };
    assert!(!tag(&key).await.contains('-'));
    assert!(tag(&large).await.ends_with("-2\""));
}

#[tokio::test]
async fn a_body_above_its_limit_is_refused_and_leaves_nothing() {
    let server = Server::start().await;
    let mut upload = server.uploads(1).begin(BUCKET, 6 * MIB as u64).await;
    upload.write(&noise(6 * MIB, 3)).await.unwrap();
    assert!(
        matches!(upload.write(b"x").await, Err(UploadError::TooLarge { limit }) if limit == 6 * MIB as u64)
    );
    assert!(matches!(upload.write(b"x").await, Err(UploadError::Interrupted)));
    assert!(matches!(upload.finish().await, Err(UploadError::Interrupted)));
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let server = Server::start().await;
    let uploads = server.uploads(2);
    let mut dropped = uploads.begin(BUCKET, u64::MAX).await;
    dropped.write(&noise(12 * MIB, 4)).await.unwrap();
    drop(dropped);
    let mut aborted = uploads.begin(BUCKET, u64::MAX).await;
    aborted.write(&noise(12 * MIB, 4)).await.unwrap();
    aborted.abort().await.unwrap();
    nothing_is_left(&server).await;
}

/// No object, and soon (a dropped upload is aborted in the background) no upload.
async fn nothing_is_left(server: &Server) {
    assert!(server.keys().await.is_empty());
    for attempt in 0.. {
        let listed = server.raw().list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
        if listed.uploads().is_empty() {
            return;
        }
        assert!(attempt < 50, "{:?}", listed.uploads());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn stale_uploads_are_aborted_and_fresh_ones_are_not() {
    let server = Server::start().await;
    let mut upload = server.uploads(1).begin(BUCKET, u64::MAX).await;
    upload.write(&noise(6 * MIB, 5)).await.unwrap();
    let hour = jiff::SignedDuration::from_hours(1);
    assert_eq!(server.store.abort_stale_uploads(BUCKET, Timestamp::now() - hour).await.unwrap(), 0);
    assert_eq!(server.store.abort_stale_uploads(BUCKET, Timestamp::now() + hour).await.unwrap(), 1);
    upload.write(&noise(6 * MIB, 5)).await.ok();
    assert!(upload.finish().await.is_err(), "the store forgot this upload");
    nothing_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_uploads_than_buffers_wait_for_each_other_and_all_end() {
    let server = Server::start().await;
    let uploads = server.uploads(2);
    let tasks: Vec<_> = (0..20)
        .map(|seed| {
            let uploads = uploads.clone();
            tokio::spawn(async move {
                let bytes = noise(11 * MIB, seed);
                let mut upload = uploads.begin(BUCKET, u64::MAX).await;
                for piece in bytes.chunks(100_000) {
                    upload.write(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                (upload.finish().await.unwrap(), Sha256::of(&bytes))
            })
        })
        .collect();
    for task in tasks {
        let (stored, sha256) = tokio::time::timeout(Duration::from_mins(2), task).await.unwrap().unwrap();
        assert_eq!(stored.digests.sha256, sha256);
    }
    assert_eq!(server.keys().await.len(), 20);
}

#[tokio::test]
async fn a_cancelled_write_spoils_the_upload_and_gives_its_buffers_back() {
    let server = Server::start().await;
    let uploads = server.uploads(1);
    let mut holder = uploads.begin(BUCKET, u64::MAX).await;
    holder.write(&noise(MIB, 6)).await.unwrap();
    let mut waiting = uploads.begin(BUCKET, u64::MAX).await;
    let bytes = noise(MIB, 7);
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting.write(&bytes)).await.is_err());
    assert!(matches!(waiting.finish().await, Err(UploadError::Interrupted)));
    holder.finish().await.unwrap();
    let mut next = uploads.begin(BUCKET, u64::MAX).await;
    next.write(&bytes).await.unwrap();
    next.finish().await.unwrap();
}
