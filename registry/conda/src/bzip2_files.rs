//! `.bz2` forms of index documents. Nobody needs them who can read zstd, so they are made when somebody asks: each part once,
//! for as long as it stays as it is, off the async threads and one document at a time.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use granary_core::Sha256;
use granary_http::{Body, BoxError};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::format::bzip2_stream::{BLOCK, Block, Bzip2Error, Joined};

/// How much is kept of compressed parts, in bytes.
const MAX_BLOCKS: u64 = 64 << 20;
/// How much is kept of whole files, in bytes.
const MAX_FILES: u64 = 64 << 20;

/// What is shorter goes into one block with what follows.
const SMALL: usize = 4 << 10;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Bzip2FileError {
    /// bzip2 failed.
    #[error(transparent)]
    Bzip2(#[from] Bzip2Error),
    /// The document cannot be read.
    #[error("a document cannot be read")]
    Read(#[source] BoxError),
    /// The process stops.
    #[error("compressing was given up")]
    Stopped(#[from] tokio::task::JoinError),
    /// The process stops.
    #[error("compressing was given up")]
    Closed(#[from] tokio::sync::AcquireError),
}

/// The files and parts that this process holds.
#[derive(Debug)]
pub(crate) struct Bzip2Files {
    /// By the digest of the part.
    blocks: Cache<Sha256, Arc<[Block]>>,
    /// By the `ETag` of the document.
    files: moka::future::Cache<String, Bytes>,
    working: Arc<Semaphore>,
}

impl Bzip2Files {
    pub(crate) fn new() -> Self {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let blocks = Cache::builder()
            .max_capacity(MAX_BLOCKS)
            .weigher(move |_, blocks: &Arc<[Block]>| weight(blocks.iter().map(Block::memory).sum()))
            .build();
        let files = moka::future::Cache::builder()
            .max_capacity(MAX_FILES)
            .weigher(move |_, file: &Bytes| weight(file.len()))
            .build();
        Self { blocks, files, working: Arc::new(Semaphore::new(1)) }
    }

    /// The file of the document with this `ETag`, where it has been made.
    pub(crate) async fn known(&self, etag: &str) -> Option<Bytes> {
        self.files.get(etag).await
    }

    /// The document of this `ETag`, whose text this is, as a `.bz2` file: made once for all who ask at the same time.
    pub(crate) async fn file(&self, etag: String, text: Body) -> Result<Bytes, Arc<Bzip2FileError>> {
        let (blocks, working) = (self.blocks.clone(), Arc::clone(&self.working));
        let make = async {
            // Goes on when nobody waits for it any more: the parts are kept for who asks again.
            let made = tokio::spawn(async move {
                let _permit = working.acquire_owned().await?;
                joined(text, &blocks).await
            });
            made.await?
        };
        self.files.try_get_with(etag, make).await
    }
}

async fn joined(mut text: Body, known: &Cache<Sha256, Arc<[Block]>>) -> Result<Bytes, Bzip2FileError> {
    let mut joined = Joined::default();
    let mut part = Vec::new();
    loop {
        // Each piece is a part of the document, or a head or comma between them.
        let piece = text.try_next().await.map_err(Bzip2FileError::Read)?;
        let is_end = piece.is_none();
        part.extend_from_slice(&piece.unwrap_or_default());
        if !is_end && part.len() < SMALL {
            continue;
        }
        let digest = Sha256::of(&part);
        let blocks = if let Some(blocks) = known.get(&digest) {
            blocks
        } else {
            let plain = std::mem::take(&mut part);
            let compress = move || plain.chunks(BLOCK).map(Block::compress).collect::<Result<Vec<_>, _>>();
            let blocks: Arc<[Block]> = tokio::task::spawn_blocking(compress).await??.into();
            known.insert(digest, Arc::clone(&blocks));
            blocks
        };
        blocks.iter().for_each(|block| joined.push(block));
        part.clear();
        if is_end {
            return Ok(joined.finish().into());
        }
    }
}
