use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use granary_core::Sha256;
use granary_store::objects::{BlobCache, BlobStream, CacheError, CacheOptions, ObjectError};
use tokio::sync::Semaphore;

use crate::support::{BUCKET, Server, collect, noise};

const MIB: usize = 1 << 20;

fn open(folder: &Path, disk_bytes: u64, memory_bytes: u64) -> BlobCache {
    BlobCache::open(&CacheOptions { folder: folder.to_owned(), disk_bytes, memory_bytes }).unwrap()
}

/// A store of one blob that counts how often it is asked, and gives a piece for each permit.
#[derive(Clone)]
struct Origin {
    bytes: Bytes,
    fetches: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    piece: usize,
}

impl Origin {
    fn new(bytes: Vec<u8>) -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { bytes: bytes.into(), fetches: Arc::default(), gate, piece: 100_000 }
    }

    /// Gives nothing until permits are added.
    fn gated(bytes: Vec<u8>) -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new(bytes) }
    }

    fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    async fn get(
        &self,
        cache: &BlobCache,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<BlobStream, ObjectError> {
        let origin = self.clone();
        cache.get(self.sha256(), self.size(), range, move |range| origin.fetch(range)).await
    }

    #[expect(clippy::unused_async, reason = "a fetch is asynchronous")]
    async fn fetch(
        self,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes, ObjectError>>, ObjectError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let bytes = match range {
            Some(range) => {
                self.bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            }
            None => self.bytes.clone(),
        };
        let pieces: Vec<_> = bytes.chunks(self.piece).map(Bytes::copy_from_slice).collect();
        let gate = Arc::clone(&self.gate);
        let stream = stream::iter(pieces).then(move |piece| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(piece)
            }
        });
        Ok(stream.boxed())
    }
}

/// Waits for what happens in the background.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readers_make_one_fetch_and_read_along() {
    let folder = tempfile::tempdir().unwrap();
    for size in [10_000, 3 * MIB + 17, 20 * MIB] {
        let cache = open(folder.path(), 100 << 20, 1 << 20);
        let origin = Origin::gated(noise(size, size as u64));
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let (cache, origin) = (cache.clone(), origin.clone());
                tokio::spawn(async move { collect(origin.get(&cache, None).await?).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        origin.gate.add_permits(1000);
        for reader in readers {
            assert!(reader.await.unwrap().unwrap() == origin.bytes);
        }
        assert_eq!(origin.fetches(), 1, "{size} bytes");
        // And now it is here.
        eventually("the blob is kept", || cache.usage().disk_blobs == 1).await;
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
        let range = collect(origin.get(&cache, Some(5..9_000)).await.unwrap()).await.unwrap();
        assert!(range == origin.bytes[5..9_000]);
        assert_eq!(origin.fetches(), 1);
        let usage = cache.usage();
        assert_eq!((usage.misses, usage.hits, usage.bypasses), (1, 51, 0));
        drop(cache);
        std::fs::remove_dir_all(folder.path()).unwrap();
    }
}

#[tokio::test]
async fn readers_get_the_beginning_before_the_end_has_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 100 << 20, 0);
    let origin = Origin::gated(noise(4 * MIB, 1));
    origin.gate.add_permits(20);
    let mut early = origin.get(&cache, None).await.unwrap();
    let mut late = origin.get(&cache, None).await.unwrap();
    for reader in [&mut early, &mut late] {
        let first = reader.next().await.unwrap().unwrap();
        assert!(first == origin.bytes[..first.len()]);
    }
    origin.gate.add_permits(1000);
    assert_eq!(collect(early).await.unwrap().last(), origin.bytes.last());
    assert_eq!(collect(late).await.unwrap().last(), origin.bytes.last());
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test]
async fn a_small_blob_is_at_hand_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 100 << 20, 1 << 20);
    let origin = Origin::new(noise(10_000, 2));
    collect(origin.get(&cache, None).await.unwrap()).await.unwrap();
    let hot = origin.get(&cache, None).now_or_never().expect("no await is needed").unwrap();
    assert_eq!(hot.length(), 10_000);
    assert_eq!(hot.into_bytes().unwrap(), origin.bytes);
    let tail = origin.get(&cache, Some(9_990..20_000)).await.unwrap();
    assert_eq!(tail.length(), 10, "a range ends where the blob does");
    assert_eq!(tail.into_bytes().unwrap(), origin.bytes[9_990..]);
}

#[tokio::test]
async fn damaged_bytes_are_never_given_out_whole_nor_kept() {
    for size in [10_000, 3 * MIB] {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 100 << 20, 1 << 20);
        let origin = Origin::new(noise(size, 3));
        let mut damaged = origin.bytes.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        for bad in [damaged, origin.bytes[..size - 1].to_vec(), [&origin.bytes[..], b"x"].concat()] {
            let bad = Origin::new(bad);
            let fetch = {
                let bad = bad.clone();
                move |range| bad.fetch(range)
            };
            let given = match cache.get(origin.sha256(), origin.size(), None, fetch).await {
                Ok(mut stream) => {
                    let mut given = 0;
                    loop {
                        match stream.next().await.expect("an error before the end") {
                            Ok(piece) => given += piece.len(),
                            Err(error) => {
                                assert!(is_damage(&error), "{error:?}");
                                break given;
                            }
                        }
                    }
                }
                Err(error) => {
                    assert!(is_damage(&error), "{error:?}");
                    0
                }
            };
            assert!(given < size, "{given} of {size} bytes");
            eventually("nothing is kept", || cache.usage().disk_bytes == 0).await;
        }
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
        eventually("the right one is kept", || cache.usage().disk_blobs == 1).await;
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }
}

fn is_damage(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Corrupt { .. } | ObjectError::WrongLength { .. })
}

#[tokio::test]
async fn the_disk_holds_no_more_than_it_may_and_loses_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 10_000_000, 0);
    let blobs: Vec<_> = (0..4).map(|seed| Origin::new(noise(3_000_000, seed))).collect();
    for (number, blob) in blobs.iter().enumerate() {
        if number == 3 {
            // The first is used again, so the second is the one that was not for the longest time.
            collect(blobs[0].get(&cache, None).await.unwrap()).await.unwrap();
        }
        collect(blob.get(&cache, None).await.unwrap()).await.unwrap();
        eventually("it is kept", || cache.usage().disk_blobs == (number as u64 + 1).min(3)).await;
        assert!(cache.usage().disk_bytes <= 10_000_000);
    }
    for (number, fetches) in [(0, 1), (2, 1), (3, 1), (1, 2)] {
        collect(blobs[number].get(&cache, None).await.unwrap()).await.unwrap();
        assert_eq!(blobs[number].fetches(), fetches, "blob {number}");
    }
    let on_disk: u64 = walk(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(on_disk <= 10_000_000, "{on_disk} bytes");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_restart_keeps_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (Origin::new(noise(10_000, 5)), Origin::new(noise(2_000_000, 6)));
    let (bad_small, bad_large) = (Origin::new(noise(20_000, 7)), Origin::new(noise(3_000_000, 8)));
    let all = [&small, &large, &bad_small, &bad_large];
    let cache = open(folder.path(), 100 << 20, 1 << 20);
    for origin in all {
        collect(origin.get(&cache, None).await.unwrap()).await.unwrap();
    }
    eventually("all are kept", || cache.usage().disk_blobs == 4).await;
    let in_use =
        BlobCache::open(&CacheOptions { folder: folder.path().to_owned(), disk_bytes: 1, memory_bytes: 0 });
    assert!(matches!(in_use, Err(CacheError::InUse { .. })));
    drop(cache);
    // What a power failure may do to files that were not synced, and what a crash leaves behind.
    let path = |origin: &Origin| {
        let name = origin.sha256().to_hex();
        folder.path().join(&name[..2]).join(name)
    };
    std::fs::write(path(&bad_small), vec![0; 20_000]).unwrap();
    std::fs::write(path(&bad_large), b"short").unwrap();
    std::fs::write(folder.path().join("tmp/unfinished"), b"x").unwrap();

    let cache = reopen(folder.path()).await;
    eventually("the folder is listed", || cache.usage().disk_blobs == 4).await;
    for (origin, fetches) in [(&small, 1), (&large, 1), (&bad_small, 2), (&bad_large, 2)] {
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
        assert_eq!(origin.fetches(), fetches, "{} bytes", origin.size());
    }
    assert!(!folder.path().join("tmp/unfinished").exists());
}

/// Opens a folder again; whatever still runs in the background of the first cache holds its lock a moment longer.
async fn reopen(folder: &Path) -> BlobCache {
    let options = CacheOptions { folder: folder.to_owned(), disk_bytes: 100 << 20, memory_bytes: 1 << 20 };
    for _ in 0..200 {
        match BlobCache::open(&options) {
            Ok(cache) => return cache,
            Err(CacheError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(25)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the folder stays locked");
}

#[tokio::test]
async fn a_large_fill_that_nobody_waits_for_ends_and_a_smaller_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 100 << 20, 0);
    let (large, medium) = (Origin::gated(noise(12 * MIB, 9)), Origin::gated(noise(4 * MIB, 10)));
    for origin in [&large, &medium] {
        origin.gate.add_permits(10);
        let mut reader = origin.get(&cache, None).await.unwrap();
        reader.next().await.unwrap().unwrap();
        drop(reader);
        origin.gate.add_permits(1000);
    }
    let kept = || (cache.usage().disk_blobs, cache.usage().disk_bytes) == (1, medium.size());
    eventually("the smaller one is kept, and nothing else", kept).await;
    // While somebody reads along, the first one may leave.
    let stays = Origin::gated(noise(12 * MIB, 11));
    stays.gate.add_permits(10);
    let first = stays.get(&cache, None).await.unwrap();
    let second = stays.get(&cache, None).await.unwrap();
    drop(first);
    stays.gate.add_permits(1000);
    assert!(collect(second).await.unwrap() == stays.bytes);
    assert_eq!(stays.fetches(), 1);
}

#[tokio::test]
async fn what_does_not_fit_goes_past_and_is_verified_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 10 << 20, 0);
    let origin = Origin::new(noise(6 * MIB, 12));
    for _ in 0..2 {
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
    }
    let piece = collect(origin.get(&cache, Some(100..200)).await.unwrap()).await.unwrap();
    assert!(piece == origin.bytes[100..200]);
    assert_eq!((origin.fetches(), cache.usage().bypasses), (3, 3));
    let other = Origin::new(noise(6 * MIB, 13));
    let fetch = {
        let other = other.clone();
        move |range| other.fetch(range)
    };
    let wrong = cache.get(origin.sha256(), origin.size(), None, fetch).await.unwrap();
    assert!(is_damage(&collect(wrong).await.unwrap_err()));

    let off = open(&folder.path().join("never-made"), 0, 0);
    assert!(collect(origin.get(&off, None).await.unwrap()).await.unwrap() == origin.bytes);
    assert!(!folder.path().join("never-made").exists());
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_for_all_who_wait_and_for_nobody_after() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 100 << 20, 1 << 20);
    for size in [1_000, 2 * MIB] {
        let origin = Origin::new(noise(size, 14));
        let absent = |_| async {
            tokio::task::yield_now().await;
            let answer = granary_store::objects::Answer { status: 404, code: None, message: None };
            Err::<BoxStream<'static, Result<Bytes, ObjectError>>, _>(ObjectError::NotFound(answer))
        };
        let (one, two) = tokio::join!(
            cache.get(origin.sha256(), origin.size(), None, absent),
            cache.get(origin.sha256(), origin.size(), None, absent)
        );
        assert!(one.unwrap_err().is_not_found() && two.unwrap_err().is_not_found());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_gone_round() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 100 << 20, 0);
    // A file where a folder should be: it stops the superuser too.
    std::fs::remove_dir(folder.path().join("tmp")).unwrap();
    std::fs::write(folder.path().join("tmp"), b"").unwrap();
    let origin = Origin::new(noise(MIB, 15));
    for _ in 0..2 {
        assert!(collect(origin.get(&cache, None).await.unwrap()).await.unwrap() == origin.bytes);
    }
    assert_eq!((origin.fetches(), cache.usage().bypasses), (2, 2));
}

#[tokio::test]
async fn a_blob_of_the_store_comes_through() {
    let (server, folder) = (Server::start().await, tempfile::tempdir().unwrap());
    let cache = open(folder.path(), 100 << 20, 1 << 20);
    let bytes = noise(9 * MIB, 16);
    let key = server.put(&bytes).await;
    for _ in 0..2 {
        let (store, key) = (server.store.clone(), key.clone());
        let fetch = move |range| async move { store.open(BUCKET, &key, range).await };
        let stream = cache.get(Sha256::of(&bytes), bytes.len() as u64, None, fetch).await.unwrap();
        assert!(collect(stream).await.unwrap() == bytes);
    }
    assert_eq!((cache.usage().misses, cache.usage().hits), (1, 1));
}
