//! Filling the cache: one fetch for all who want the same blob at the same time.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::OptionFuture;
use futures_util::stream::{self, BoxStream, Stream};
use granary_core::Sha256;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::disk::{Disk, Reserved};
use super::{Fetch, Inner, MEDIUM, SMALL, file};
use crate::objects::ObjectError;
use crate::objects::read::Check;

/// Bytes that are worth a step of hashing and writing.
const STEP: usize = 64 * 1024;
/// Bytes that may wait for such a step before the fetch is made to wait.
const BATCH: usize = 512 * 1024;

/// Where a complete blob is.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<File>),
}

/// How far a fill is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// Nothing has arrived.
    Starting,
    /// So many bytes can be read. Never all of them: the last ones show only when all are verified.
    Filling { file: Arc<File>, written: u64 },
    /// Complete and verified.
    Done(Source),
    /// The fetch failed, or brought something else.
    Failed(ObjectError),
    /// There is no room, or the disk fails: everybody for himself.
    Impossible,
}

/// The fill of one blob, in a task of its own.
pub(super) struct Fill {
    cache: Arc<Inner>,
    sha256: Sha256,
    size: u64,
    progress: watch::Sender<Progress>,
}

/// Why a fill ended: none of these is told to anybody by this type.
enum End {
    Failed(ObjectError),
    Disk(io::Error),
    Abandoned,
}

impl From<ObjectError> for End {
    fn from(error: ObjectError) -> Self {
        Self::Failed(error)
    }
}

impl Fill {
    /// Begins to fill, unless it is being filled or complete by now.
    pub(super) fn begin(
        cache: &Arc<Inner>,
        sha256: Sha256,
        size: u64,
        fetch: &Arc<Mutex<Option<Fetch>>>,
    ) -> Option<watch::Receiver<Progress>> {
        let mut fills = cache.fills();
        if fills.contains_key(&sha256) || cache.holds(&sha256) {
            return None;
        }
        let (progress, waiting) = watch::channel(Progress::Starting);
        fills.insert(sha256, progress.clone());
        drop(fills);
        let fill = Self { cache: Arc::clone(cache), sha256, size, progress };
        tokio::spawn(fill.run(Arc::clone(fetch)));
        Some(waiting)
    }

    async fn run(self, fetch: Arc<Mutex<Option<Fetch>>>) {
        let in_memory = self.size <= SMALL && self.cache.memory.is_some();
        let filled = if in_memory { self.small(&fetch).await } else { self.large(&fetch).await };
        match filled {
            Ok(()) => {}
            Err(End::Failed(error)) => self.show(Progress::Failed(error)),
            Err(End::Disk(error)) => {
                self.cache.disk_failed(&error);
                self.show(Progress::Failed(ObjectError::unavailable(error)));
            }
            Err(End::Abandoned) => tracing::debug!(sha256 = %self.sha256, "nobody waits for a blob any more"),
        }
    }

    fn show(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    async fn fetch(
        fetch: &Mutex<Option<Fetch>>,
    ) -> Result<BoxStream<'static, Result<Bytes, ObjectError>>, End> {
        let fetch = fetch.lock().unwrap_or_else(PoisonError::into_inner).take();
        match fetch {
            Some(fetch) => Ok(fetch(None).await?),
            None => Err(End::Failed(ObjectError::unavailable(Stopped))),
        }
    }

    /// Into memory, which is all that readers wait for, and then to disk as well.
    async fn small(&self, fetch: &Mutex<Option<Fetch>>) -> Result<(), End> {
        let mut bytes = Self::fetch(fetch).await?;
        let mut check = Check::new(self.sha256, self.size);
        let mut blob = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            check.update(&piece)?;
            blob.extend_from_slice(&piece);
        }
        check.finish()?;
        let blob = Bytes::from(blob);
        if let Some(memory) = &self.cache.memory {
            memory.insert(self.sha256, blob.clone());
        }
        self.show(Progress::Done(Source::Memory(blob.clone())));
        let Some(disk) = self.cache.disk.clone() else { return Ok(()) };
        let (sha256, size) = (self.sha256, self.size);
        let kept = blocking(move || {
            let Some(reserved) = disk.reserve(size)? else { return Ok(()) };
            reserved.file.write_all_at(&blob, 0)?;
            disk.keep(sha256, reserved, false)
        });
        if let Err(End::Disk(error)) = kept.await {
            self.cache.disk_failed(&error);
        }
        Ok(())
    }

    /// Into a file, with readers following.
    async fn large(&self, fetch: &Mutex<Option<Fetch>>) -> Result<(), End> {
        let Some(disk) = self.cache.disk.clone() else {
            self.show(Progress::Impossible);
            return Ok(());
        };
        let reserved = match self.reserve(&disk).await {
            Ok(Some(reserved)) => reserved,
            Ok(None) => {
                self.show(Progress::Impossible);
                return Ok(());
            }
            Err(error) => {
                if let End::Disk(error) = &error {
                    self.cache.disk_failed(error);
                }
                self.show(Progress::Impossible);
                return Ok(());
            }
        };
        let bytes = Self::fetch(fetch).await?;
        let check = Check::new(self.sha256, self.size);
        let writer = Writer { file: Arc::clone(&reserved.file), check, written: 0 };
        self.pump(bytes, writer).await?.check.finish()?;
        self.show(Progress::Done(Source::File(Arc::clone(&reserved.file))));
        // Those who come now still find this fill, and read the file while it is being synced.
        let sha256 = self.sha256;
        if let Err(End::Disk(error)) = blocking(move || disk.keep(sha256, reserved, true)).await {
            self.cache.disk_failed(&error);
        }
        Ok(())
    }

    async fn reserve(&self, disk: &Arc<Disk>) -> Result<Option<Reserved>, End> {
        let (disk, size) = (Arc::clone(disk), self.size);
        blocking(move || disk.reserve(size)).await
    }

    /// Moves all bytes into the file. While one batch is hashed and written, the next one arrives.
    async fn pump(
        &self,
        mut bytes: BoxStream<'static, Result<Bytes, ObjectError>>,
        writer: Writer,
    ) -> Result<Writer, End> {
        let mut idle = Some(writer);
        let mut writing: Option<JoinHandle<Result<Writer, End>>> = None;
        let (mut batch, mut batched, mut at_end) = (Vec::new(), 0, false);
        loop {
            if let Some(writer) = idle.take_if(|_| batched >= STEP || (at_end && batched > 0)) {
                let pieces = std::mem::take(&mut batch);
                batched = 0;
                writing = Some(tokio::task::spawn_blocking(move || writer.write(&pieces)));
            }
            if at_end
                && writing.is_none()
                && let Some(writer) = idle.take()
            {
                return Ok(writer);
            }
            tokio::select! {
                piece = bytes.next(), if !at_end && batched < BATCH => match piece.transpose()? {
                    Some(piece) => {
                        batched += piece.len();
                        batch.push(piece);
                    }
                    None => at_end = true,
                },
                Some(written) = OptionFuture::from(writing.as_mut()) => {
                    writing = None;
                    let writer = written.map_err(|error| End::Disk(io::Error::other(error)))??;
                    // The last bytes show when all are known to be right.
                    if writer.written < self.size {
                        let file = Arc::clone(&writer.file);
                        self.show(Progress::Filling { file, written: writer.written });
                    }
                    if self.is_abandoned() {
                        return Err(End::Abandoned);
                    }
                    idle = Some(writer);
                }
            }
        }
    }

    /// Whether nobody reads along; then nobody can join any more either.
    fn is_abandoned(&self) -> bool {
        if self.size <= MEDIUM || self.progress.receiver_count() > 0 {
            return false;
        }
        let mut fills = self.cache.fills();
        // Somebody may have come just now, which happens under this lock.
        let abandoned = self.progress.receiver_count() == 0;
        if abandoned {
            fills.remove(&self.sha256);
        }
        abandoned
    }
}

impl Drop for Fill {
    /// However it ended, a panic included: the next reader begins anew, or finds the blob.
    fn drop(&mut self) {
        let mut fills = self.cache.fills();
        // After it was abandoned another one may have begun.
        if fills.get(&self.sha256).is_some_and(|other| other.same_channel(&self.progress)) {
            fills.remove(&self.sha256);
        }
    }
}

impl Inner {
    fn holds(&self, sha256: &Sha256) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.contains_key(sha256))
            || self.disk.as_ref().is_some_and(|disk| disk.holds(sha256))
    }
}

struct Writer {
    file: Arc<File>,
    check: Check,
    written: u64,
}

impl Writer {
    fn write(mut self, pieces: &[Bytes]) -> Result<Self, End> {
        for piece in pieces {
            self.check.update(piece)?;
            self.file.write_all_at(piece, self.written).map_err(End::Disk)?;
            self.written += piece.len() as u64;
        }
        Ok(self)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, End> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(End::Disk),
        Err(error) => Err(End::Disk(io::Error::other(error))),
    }
}

/// Follows a fill through a range of its blob.
pub(super) fn read_along(
    progress: watch::Receiver<Progress>,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
    stream::try_unfold((progress, range), |(mut progress, range)| async move {
        if range.start >= range.end {
            return Ok(None);
        }
        let bytes = next_piece(&mut progress, &range).await?;
        let rest = range.start + bytes.len() as u64..range.end;
        Ok(Some((bytes, (progress, rest))))
    })
}

async fn next_piece(
    progress: &mut watch::Receiver<Progress>,
    range: &Range<u64>,
) -> Result<Bytes, ObjectError> {
    let ready = |state: &Progress| match state {
        Progress::Starting => false,
        Progress::Filling { written, .. } => *written > range.start,
        Progress::Done(_) | Progress::Failed(_) | Progress::Impossible => true,
    };
    let state = progress.wait_for(ready).await.map_err(ObjectError::unavailable)?.clone();
    let (file, readable) = match state {
        Progress::Filling { file, written } => (file, written.min(range.end)),
        Progress::Done(Source::File(file)) => (file, range.end),
        Progress::Done(Source::Memory(bytes)) => {
            let clamp = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(bytes.slice(clamp(range.start)..clamp(range.end)));
        }
        Progress::Failed(error) => return Err(error),
        Progress::Starting | Progress::Impossible => return Err(ObjectError::unavailable(Stopped)),
    };
    let length = usize::try_from(readable - range.start).unwrap_or(usize::MAX);
    file::read(&file, range.start, length).await.map_err(ObjectError::unavailable)
}

#[derive(Debug, thiserror::Error)]
#[error("the blob cache stopped filling")]
pub(super) struct Stopped;
