//! The bytes of objects on their way in and out, in bounded memory: a request's body into a file, hashed as it passes,
//! and the extents of a file into a response's body.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use s3s::StdError;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::{JoinHandle, spawn_blocking};

use super::checks::{Digests, Hashers};
use super::error::{Context, Error};
use super::record::{Extent, Record};

/// Bytes gathered before a write: with twice as many in memory, one request writes while it reads.
const BATCH: usize = 1 << 20;
/// Bytes in a read.
const CHUNK: u64 = 512 << 10;

/// Runs `work`, which blocks. It runs to its end even if the caller goes away.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(Error::Interrupted)?
}

/// A file that is being received. It vanishes with this value unless it was moved away.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    file: Option<File>,
}

impl Staged {
    /// The file is created with its first byte, where blocking is allowed.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&mut self) -> io::Result<&File> {
        match self.file {
            Some(ref file) => Ok(file),
            None => Ok(self
                .file
                .insert(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?)),
        }
    }

    /// Writes the record behind the object's bytes, and all of it to the disk.
    pub fn seal(&mut self, record: &Record) -> Result<(), Error> {
        let write = |file: &File| {
            file.write_all_at(&record.encode()?, record.size)?;
            file.sync_data()
        };
        self.file().and_then(write).context("write", &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Fails where the file was moved to its place, whose name is another.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the bytes of a body go.
#[derive(Debug)]
pub(super) enum Target {
    /// To the beginning of a new file.
    Object(Staged),
    /// To a region of a file that is reserved for them.
    Part { file: File, path: PathBuf, offset: u64 },
}

/// Writes and hashes what is received.
pub(super) struct Sink {
    target: Target,
    written: u64,
    hashers: Hashers,
}

impl Sink {
    pub fn new(target: Target, hashers: Hashers) -> Self {
        Self { target, written: 0, hashers }
    }

    fn write(&mut self, chunks: &[Bytes]) -> Result<(), Error> {
        let (file, path, offset) = match &mut self.target {
            Target::Object(staged) => {
                let path = staged.path.clone();
                (staged.file().context("create", &path)?, path, 0)
            }
            Target::Part { file, path, offset } => (&*file, path.clone(), *offset),
        };
        for chunk in chunks {
            file.write_all_at(chunk, offset + self.written).context("write", &path)?;
            self.hashers.update(chunk);
            self.written += chunk.len() as u64;
        }
        Ok(())
    }

    /// Writes the last bytes: where they all went, how many they were, and their digests.
    pub fn finish(mut self, last: &[Bytes]) -> Result<(Target, u64, Digests), Error> {
        self.write(last)?;
        Ok((self.target, self.written, self.hashers.finish()))
    }
}

/// Reads a body of `declared` bytes to its end and writes all of it but the last batch, which is returned, so that a
/// small body needs one blocking step in all. A body that ends early or late is an error.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    declared: Option<u64>,
    mut sink: Sink,
) -> Result<(Sink, Vec<Bytes>), Error> {
    let mut batches = Batches { body, declared, seen: 0 };
    let mut batch = batches.next().await?;
    while batches.body.is_some() {
        let writing = blocking(move || {
            sink.write(&batch)?;
            Ok(sink)
        });
        let (written, next) = tokio::join!(writing, batches.next());
        sink = written?;
        batch = next?;
    }
    Ok((sink, batch))
}

struct Batches {
    /// `None` when it was read to its end.
    body: Option<StreamingBlob>,
    declared: Option<u64>,
    seen: u64,
}

impl Batches {
    async fn next(&mut self) -> Result<Vec<Bytes>, Error> {
        let mut batch = Vec::new();
        let mut gathered = 0;
        while let Some(body) = &mut self.body {
            match body.next().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(|error| Error::IncompleteBody(Some(error)))?;
                    gathered += chunk.len();
                    self.seen += chunk.len() as u64;
                    batch.push(chunk);
                    if self.declared.is_some_and(|declared| self.seen > declared) {
                        return Err(Error::IncompleteBody(None));
                    }
                    if gathered >= BATCH {
                        return Ok(batch);
                    }
                }
                None => self.body = None,
            }
        }
        if self.declared.is_some_and(|declared| self.seen != declared) {
            return Err(Error::IncompleteBody(None));
        }
        Ok(batch)
    }
}

/// The bytes of some extents of a file, read one chunk ahead of what the client takes.
pub(super) struct Chunks {
    file: Arc<File>,
    rest: VecDeque<Extent>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    remaining: u64,
}

impl Chunks {
    pub fn new(file: File, extents: Vec<Extent>) -> Self {
        let remaining = extents.iter().map(|extent| extent.length).sum();
        let mut chunks = Self { file: Arc::new(file), rest: extents.into(), reading: None, remaining };
        chunks.read_on();
        chunks
    }

    fn read_on(&mut self) {
        self.reading = self.rest.front_mut().map(|extent| {
            let piece = Extent { offset: extent.offset, length: extent.length.min(CHUNK) };
            *extent = Extent { offset: piece.end(), length: extent.length - piece.length };
            let file = Arc::clone(&self.file);
            spawn_blocking(move || read_extent(&file, piece))
        });
        self.rest.pop_front_if(|extent| extent.length == 0);
    }
}

fn read_extent(file: &File, extent: Extent) -> io::Result<Bytes> {
    let length = usize::try_from(extent.length).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = extent.offset + bytes.len() as u64;
        if rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
}

impl Stream for Chunks {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(task)).map_err(io::Error::other).flatten();
        match read {
            Ok(bytes) => {
                self.remaining -= bytes.len() as u64;
                self.read_on();
                Poll::Ready(Some(Ok(bytes)))
            }
            Err(error) => {
                tracing::error!(%error, "cannot read an object");
                self.rest.clear();
                self.reading = None;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }
}

impl ByteStream for Chunks {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.remaining)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
