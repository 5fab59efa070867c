//! Documents that are made of others: once for what they are made of, on a thread that may take its time, and kept in the bucket.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use granary_core::Sha256;
use granary_http::{BoxError, Refusal};
use granary_store::objects::{BlobStream, ObjectError, StoredObject};
use granary_store::{BlobId, Channel, DbError, Scope, Store};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};

use super::Place;
use crate::format::foreign::Coding;
use crate::state::{Conda, read_digest};

/// How many documents are remembered, and for how long: what is no longer named by a row is collected after some days.
const REMEMBERED: u64 = 4096;
const REMEMBERED_FOR: Duration = Duration::from_hours(24);
/// How much is written at a time, and how many such pieces wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;
/// How well what is made here is compressed: it is made again whenever its source changes.
const ZSTD_LEVEL: i32 = 6;

type Key = (Scope, Arc<str>, Arc<str>);

/// What is known of derived documents.
#[derive(Debug)]
pub(crate) struct DerivedDocuments {
    known: Cache<Key, Derived>,
    /// Whoever makes one holds its lock.
    turns: Cache<Key, Arc<Mutex<()>>>,
}

impl DerivedDocuments {
    pub(crate) fn new() -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        Self { known, turns: Cache::new(REMEMBERED) }
    }
}

/// A document that was made.
#[derive(Debug, Clone)]
pub(super) struct Derived {
    source: Arc<str>,
    pub(super) place: Place,
    pub(super) made_at: Timestamp,
}

/// Which document is wanted.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) channel: &'a Arc<Channel>,
    pub(super) path: &'a str,
    pub(super) class: &'a str,
    /// Tells what it is made of.
    pub(super) source: String,
    /// The most bytes that it may have.
    pub(super) limit: u64,
}

impl Conda {
    /// The document as it follows from its source: the one that is there, or else what `make` writes.
    pub(super) async fn derived<F>(&self, making: Making<'_>, make: F) -> Result<Derived, Refusal>
    where
        F: FnOnce(&mut PieceWriter) -> Result<(), BoxError> + Send + 'static,
    {
        let key: Key = (making.channel.scope, making.path.into(), making.class.into());
        if let Some(known) = self.derived.known.get(&key).filter(|known| *known.source == *making.source) {
            return Ok(known);
        }
        let turn = self.derived.turns.get_with(key.clone(), Arc::default);
        let _turn = turn.lock().await;
        let found = match self.derived.known.get(&key) {
            Some(known) => Some(known),
            None => self.find_derived(&making).await?,
        };
        let derived = match found.filter(|found| *found.source == *making.source) {
            Some(found) => found,
            None => self.make(&making, make).await?,
        };
        self.derived.known.insert(key, derived.clone());
        Ok(derived)
    }

    async fn find_derived(&self, making: &Making<'_>) -> Result<Option<Derived>, DbError> {
        let params = (making.channel.id(), making.path, making.class);
        let row =
            self.store.database().query_opt(&self.sql.derived, &[&params.0, &params.1, &params.2]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Derived {
            source: row.try_get::<_, &str>(0)?.into(),
            made_at: row.try_get(1)?,
            place: Place {
                channel: Arc::clone(making.channel),
                sha256: read_digest(row.try_get(2)?)?,
                size: u64::try_from(row.try_get::<_, i64>(3)?)
                    .map_err(|error| DbError::decode("size", error))?,
                object_key: row.try_get::<_, &str>(4)?.into(),
            },
        }))
    }

    async fn make<F>(&self, making: &Making<'_>, make: F) -> Result<Derived, Refusal>
    where
        F: FnOnce(&mut PieceWriter) -> Result<(), BoxError> + Send + 'static,
    {
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let work = tokio::task::spawn_blocking(move || {
            let mut writer = PieceWriter { sender, buffer: BytesMut::new() };
            make(&mut writer)?;
            writer.flush()?;
            Ok::<_, BoxError>(())
        });
        let mut upload = self.store.uploads().begin(&making.channel.bucket, making.limit).await;
        while let Some(piece) = pieces.recv().await {
            upload.write(&piece).await?;
        }
        work.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        let stored = upload.finish().await?;
        self.put_derived(making, &stored).await?;
        // The row of equal bytes may name another object.
        let found = self.find_derived(making).await?;
        found.ok_or_else(|| DbError::decode("derived document", "no row came back").into())
    }

    async fn put_derived(&self, making: &Making<'_>, stored: &StoredObject) -> Result<(), Refusal> {
        let Making { channel, path, class, source, .. } = making;
        let tx = self.store.begin().await?;
        tx.execute(&self.sql.lock_derived, &[&channel.id(), path, class]).await?;
        let before = tx.query_opt(&self.sql.derived_blob, &[&channel.id(), path, class]).await?;
        let BlobId(blob) = tx.attach_blob(channel, stored).await?;
        let now = self.store.clock().now();
        tx.execute(&self.sql.put_derived, &[&channel.id(), path, class, source, &now, &blob]).await?;
        if let Some(before) = before {
            tx.release_blob(BlobId(before.try_get(0).map_err(DbError::from)?)).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Where a document's maker writes to.
#[derive(Debug)]
pub(super) struct PieceWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes a document in a coding.
pub(super) fn encoded(
    coding: Coding,
    output: &mut PieceWriter,
    write: impl FnOnce(&mut dyn Write) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    match coding {
        Coding::Plain => write(output)?,
        Coding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
            write(&mut encoder)?;
            encoder.finish()?;
        }
        Coding::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(output, bzip2::Compression::best());
            write(&mut encoder)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

/// Opens stored bytes on threads that may wait.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    store: Store,
    place: Place,
    handle: Handle,
}

impl Opener {
    /// For bytes that are read by a thread which the present runtime begins.
    pub(super) fn new(store: &Store, place: &Place) -> Self {
        Self { store: store.clone(), place: place.clone(), handle: Handle::current() }
    }

    /// Opens them.
    pub(super) fn open(&self) -> io::Result<impl Read + Send + use<>> {
        let stream = self.handle.block_on(open(&self.store, &self.place)).map_err(io::Error::other)?;
        Ok(Blocking::new(stream, self.handle.clone()))
    }
}

/// The bytes that stand at a place.
pub(super) async fn open(store: &Store, place: &Place) -> Result<BlobStream, ObjectError> {
    let (objects, channel) = (store.objects().clone(), Arc::clone(&place.channel));
    let key = Arc::clone(&place.object_key);
    let fetch = move |part| async move { objects.open(&channel.bucket, &key, part).await };
    store.cache().get(place.sha256, place.size, None, fetch).await
}

/// All bytes of a place, of which there are at most `limit`.
pub(super) async fn read_all(store: &Store, place: &Place, limit: u64) -> Result<Bytes, Refusal> {
    if place.size > limit {
        return Err(DbError::decode("shard", "it is larger than one may be").into());
    }
    let mut stream = match open(store, place).await?.into_bytes() {
        Ok(bytes) => return Ok(bytes),
        Err(stream) => stream,
    };
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

/// Bytes that are read by a thread which may wait for them.
pub(super) struct Blocking<S> {
    stream: S,
    handle: Handle,
    current: Bytes,
}

impl<S> Blocking<S> {
    /// Those of this stream, which `handle` drives.
    pub(super) const fn new(stream: S, handle: Handle) -> Self {
        Self { stream, handle, current: Bytes::new() }
    }
}

impl<S, E> Read for Blocking<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.handle.block_on(self.stream.next()) {
                Some(next) => self.current = next.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// What tells a source of several documents.
pub(super) fn source_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for part in parts {
        all.push_str(part);
        all.push('\n');
    }
    Sha256::of(all.as_bytes()).to_hex()
}
