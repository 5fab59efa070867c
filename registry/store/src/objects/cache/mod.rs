//! A bounded cache of blobs, which never change, on local disk and in memory.
//!
//! Blobs of up to 64 KiB are kept in memory too, so that a hot one costs no system call. A blob that is not
//! here is fetched once for all who ask for it meanwhile; they read along while it fills. It is
//! verified as it fills, and its last piece is not shown before its digest is known to be right.
//!
//! ```text
//! FOLDER/lock          held while a process uses the folder
//! FOLDER/tmp/…         being filled; emptied at start
//! FOLDER/ab/ab12…      complete: the name is the SHA-256 of the bytes
//! ```

mod disk;
mod file;
mod fill;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use granary_core::Sha256;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ObjectError, verified};
use disk::Disk;
use fill::{Fill, Progress, Source};

/// Blobs up to this size are kept in memory.
const SMALL: u64 = 64 * 1024;
/// A fill of up to this size goes on when nobody waits for it any more, and a range of such a blob fills it.
const MEDIUM: u64 = 8 << 20;
/// Of the whole disk cache, one blob may take so much.
const LARGEST_SHARE: u64 = 2;
/// How long nothing is filled after the disk has failed.
const BACK_OFF: Duration = Duration::from_mins(1);

/// Where a cache stands and how much it may hold.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// A folder that no other process uses.
    pub folder: PathBuf,
    /// Bytes on disk; 0 keeps nothing on disk and touches no folder.
    pub disk_bytes: u64,
    /// Bytes in memory; 0 keeps nothing in memory.
    pub memory_bytes: u64,
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process uses the folder.
    #[error("the cache folder {} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be made or written to.
    #[error("the cache folder {} cannot be used", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a cache holds and has done since it was opened: for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUsage {
    /// Complete blobs on disk.
    pub disk_blobs: u64,
    /// Bytes on disk, those being filled included.
    pub disk_bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Reads that found their blob here, or found it being filled.
    pub hits: u64,
    /// Reads that began to fill it.
    pub misses: u64,
    /// Reads that went past the cache: too large, a piece of a large one, or a disk that fails.
    pub bypasses: u64,
}

/// Gets a blob, or a range of it, from where it is kept.
type Fetch = Box<
    dyn FnOnce(
            Option<Range<u64>>,
        )
            -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, ObjectError>>, ObjectError>>
        + Send,
>;

/// The cache: cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Option<moka::sync::Cache<Sha256, Bytes>>,
    disk: Option<Arc<Disk>>,
    /// What is being filled. Whoever has verified a blob makes it findable first and leaves this second.
    fills: Mutex<HashMap<Sha256, watch::Sender<Progress>>>,
    failed_at: Mutex<Option<Instant>>,
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
}

impl BlobCache {
    /// Opens a cache. Blobs of an earlier process are found again: the folder is listed in the background.
    pub fn open(options: &CacheOptions) -> Result<Self, CacheError> {
        let disk = match options.disk_bytes {
            0 => None,
            capacity => Some(Disk::open(&options.folder, capacity)?),
        };
        if let Some(disk) = &disk {
            let disk = Arc::clone(disk);
            tokio::task::spawn_blocking(move || disk.scan());
        }
        let memory = (options.memory_bytes > 0).then(|| {
            moka::sync::Cache::builder()
                .max_capacity(options.memory_bytes)
                // What an entry takes beside its bytes, roughly.
                .weigher(|_, bytes: &Bytes| {
                    u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(256)
                })
                .build()
        });
        Ok(Self(Arc::new(Inner {
            memory,
            disk,
            fills: Mutex::default(),
            failed_at: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            bypasses: AtomicU64::new(0),
        })))
    }

    /// A blob of `size` bytes, or a range of it, from here or else by `fetch`, which is given the range to get.
    ///
    /// Returns once the first bytes are at hand, so that a store that is down is an error here rather than in
    /// the middle of an answer. A fill outlives the reader that began it while others read along, and in any
    /// case up to 8 MiB.
    pub async fn get<F, R, S>(
        &self,
        sha256: Sha256,
        size: u64,
        range: Option<Range<u64>>,
        fetch: F,
    ) -> Result<BlobStream, ObjectError>
    where
        F: FnOnce(Option<Range<u64>>) -> R + Send + 'static,
        R: Future<Output = Result<S, ObjectError>> + Send + 'static,
        S: Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
    {
        let wanted = match &range {
            Some(range) => range.start.min(size)..range.end.min(size),
            None => 0..size,
        };
        if let Some(found) = self.0.find(&sha256, size, &wanted).await {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(found);
        }
        let fetch: Fetch = Box::new(move |range| Box::pin(async move { Ok(fetch(range).await?.boxed()) }));
        self.0.join_or_fetch(sha256, size, wanted, range.is_some(), fetch).await
    }

    /// What the cache holds and has done.
    pub fn usage(&self) -> CacheUsage {
        let (disk_blobs, disk_bytes) = self.0.disk.as_ref().map_or((0, 0), |disk| disk.usage());
        CacheUsage {
            disk_blobs,
            disk_bytes,
            memory_bytes: self.0.memory.as_ref().map_or(0, moka::sync::Cache::weighted_size),
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            bypasses: self.0.bypasses.load(Ordering::Relaxed),
        }
    }
}

impl Inner {
    fn fills(&self) -> MutexGuard<'_, HashMap<Sha256, watch::Sender<Progress>>> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A blob that is complete here.
    async fn find(&self, sha256: &Sha256, size: u64, wanted: &Range<u64>) -> Option<BlobStream> {
        if let Some(bytes) = self.memory.as_ref().and_then(|memory| memory.get(sha256)) {
            return Some(BlobStream::memory(&bytes, wanted));
        }
        let file = self.disk.as_ref()?.find(sha256, size).await?;
        let Some(memory) = self.memory.as_ref().filter(|_| size <= SMALL) else {
            return Some(BlobStream::file(file, wanted.clone()));
        };
        // Small ones are not synced when they are written, so they are looked at when they are read again.
        let bytes = file::read_whole(&file, usize::try_from(size).ok()?).await.ok()?;
        if Sha256::of(&bytes) != *sha256 {
            self.disk.as_ref()?.forget(sha256);
            return None;
        }
        memory.insert(*sha256, bytes.clone());
        Some(BlobStream::memory(&bytes, wanted))
    }

    async fn join_or_fetch(
        self: &Arc<Self>,
        sha256: Sha256,
        size: u64,
        wanted: Range<u64>,
        partial: bool,
        fetch: Fetch,
    ) -> Result<BlobStream, ObjectError> {
        // Shared with the fill: should that not begin because the disk fails, the fetch is ours again.
        let fetch = Arc::new(Mutex::new(Some(fetch)));
        let progress = loop {
            if let Some(progress) = self.join(&sha256, &wanted) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                break Some(progress);
            }
            if !self.fills_this(size, partial) {
                break None;
            }
            if let Some(progress) = Fill::begin(self, sha256, size, &fetch) {
                self.misses.fetch_add(1, Ordering::Relaxed);
                break Some(progress);
            }
            // Somebody was quicker: it fills, or is here by now.
            if let Some(found) = self.find(&sha256, size, &wanted).await {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(found);
            }
        };
        if let Some(mut progress) = progress {
            let state = progress.wait_for(|state| !matches!(state, Progress::Starting)).await;
            match state.map(|state| state.clone()) {
                Ok(Progress::Failed(error)) => return Err(error),
                Ok(Progress::Done(source)) => return Ok(source.stream(&wanted)),
                Ok(Progress::Filling { .. }) => return Ok(BlobStream::filling(progress, wanted)),
                Ok(Progress::Starting | Progress::Impossible) => {}
                Err(stopped) => return Err(ObjectError::unavailable(stopped)),
            }
        }
        self.bypasses.fetch_add(1, Ordering::Relaxed);
        let fetch = fetch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(fetch) = fetch else { return Err(ObjectError::unavailable(fill::Stopped)) };
        let length = wanted.end - wanted.start;
        if partial {
            return Ok(BlobStream { length, inner: Bytestream::Boxed(fetch(Some(wanted)).await?) });
        }
        let bytes = verified(fetch(None).await?, sha256, size);
        Ok(BlobStream { length, inner: Bytestream::Boxed(bytes.boxed()) })
    }

    /// The fill of this blob that goes on, if `wanted` is not far ahead of it.
    fn join(&self, sha256: &Sha256, wanted: &Range<u64>) -> Option<watch::Receiver<Progress>> {
        let fills = self.fills();
        let progress = fills.get(sha256)?;
        let near = match &*progress.borrow() {
            Progress::Filling { written, .. } => wanted.start <= written + MEDIUM,
            Progress::Starting => wanted.start <= MEDIUM,
            Progress::Done(_) | Progress::Failed(_) | Progress::Impossible => true,
        };
        near.then(|| progress.subscribe())
    }

    /// Whether a blob is worth a place here.
    fn fills_this(&self, size: u64, partial: bool) -> bool {
        if size <= SMALL && self.memory.is_some() {
            return true;
        }
        let Some(disk) = &self.disk else { return false };
        let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if failed_at.is_some_and(|failed| failed.elapsed() < BACK_OFF) {
            return false;
        }
        *failed_at = None;
        size <= disk.capacity() / LARGEST_SHARE && (!partial || size <= MEDIUM)
    }

    /// The disk failed: past the cache for a while.
    fn disk_failed(&self, error: &io::Error) {
        tracing::warn!(error = error as &dyn std::error::Error, "the blob cache cannot write; pausing it");
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The bytes of a blob, or of a range of it.
pub struct BlobStream {
    length: u64,
    inner: Bytestream,
}

enum Bytestream {
    Memory(Bytes),
    Boxed(BoxStream<'static, Result<Bytes, ObjectError>>),
}

impl BlobStream {
    /// How many bytes there are in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All bytes at once where they are in memory already, and otherwise the stream again.
    pub fn into_bytes(self) -> Result<Bytes, Self> {
        match self.inner {
            Bytestream::Memory(bytes) => Ok(bytes),
            inner @ Bytestream::Boxed(_) => Err(Self { length: self.length, inner }),
        }
    }

    fn memory(bytes: &Bytes, wanted: &Range<u64>) -> Self {
        let clamp = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.slice(clamp(wanted.start)..clamp(wanted.end).max(clamp(wanted.start)));
        Self { length: bytes.len() as u64, inner: Bytestream::Memory(bytes) }
    }

    fn file(file: Arc<std::fs::File>, wanted: Range<u64>) -> Self {
        let length = wanted.end.saturating_sub(wanted.start);
        Self { length, inner: Bytestream::Boxed(file::stream(file, wanted).boxed()) }
    }

    fn filling(progress: watch::Receiver<Progress>, wanted: Range<u64>) -> Self {
        let length = wanted.end.saturating_sub(wanted.start);
        Self { length, inner: Bytestream::Boxed(fill::read_along(progress, wanted).boxed()) }
    }
}

impl Source {
    fn stream(&self, wanted: &Range<u64>) -> BlobStream {
        match self {
            Self::Memory(bytes) => BlobStream::memory(bytes, wanted),
            Self::File(file) => BlobStream::file(Arc::clone(file), wanted.clone()),
        }
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.inner {
            Bytestream::Memory(bytes) if bytes.is_empty() => Poll::Ready(None),
            Bytestream::Memory(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Bytestream::Boxed(inner) => inner.poll_next_unpin(context),
        }
    }
}
