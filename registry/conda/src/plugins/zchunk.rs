//! `repodata.json.zck`: the same text as `repodata.json`, in chunks that stay as they are while other packages come and go.
//!
//! The chunks are the parts of the document. Each is compressed once, when somebody asks for it, and kept for as long as there is
//! room; what is served is therefore always the present index, and a publish costs the chunk that it falls in.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use granary_core::Sha256;
use granary_http::stored_index::StoredDocument;
use granary_http::{Body, Call, EntityTag, FileResponse, Refusal, StoredIndex};
use granary_splice::outline::Form;
use http::{HeaderMap, HeaderValue, Response};
use moka::sync::Cache;

use super::absent;
use crate::format::Subdir;
use crate::format::zchunk::{Chunk, head};
use crate::state::Conda;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/zstd");
/// What is shorter is no part of a document, but stands between two of them.
const SHORT: usize = 200;
/// The longest text that is served in chunks: their list and the chunks are held while they are sent.
const LARGEST: u64 = 256 << 20;
/// How many bytes of chunks are kept.
const CHUNK_BYTES: u64 = 32 << 20;

/// The chunks that this process holds, by the digests of their parts.
#[derive(Debug)]
pub(super) struct Chunks(Cache<Sha256, Chunk>);

impl Chunks {
    pub(super) fn new() -> Self {
        let weigh = |_: &Sha256, chunk: &Chunk| u32::try_from(chunk.bytes().len()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(CHUNK_BYTES).weigher(weigh).build())
    }
}

/// `GET /get/CHANNEL/SUBDIR/repodata.json.zck`.
pub(crate) async fn repodata(
    state: &Arc<Conda>,
    call: &Call,
    subdir: &Subdir,
) -> Result<Response<Body>, Refusal> {
    if !call.channel()?.settings.conda.zchunk {
        return Err(absent());
    }
    let document = state.repodata(call, subdir).await?.ok_or_else(absent)?;
    if document.len(Form::Plain) > LARGEST {
        return Err(absent());
    }
    let etag = format!("{}-zck", document.etag(Form::Plain));
    let pieces = state.plugins.zchunk.pieces(&state.index, &document).await?;
    let response = FileResponse {
        size: pieces.iter().map(|piece| piece.len() as u64).sum(),
        etag: EntityTag::strong(&etag).ok(),
        last_modified: None,
        content_type: CONTENT_TYPE,
        file_name: None,
        cache_control: call.index_cache_control()?,
        headers: HeaderMap::new(),
    };
    let open = move |range: std::ops::Range<u64>| {
        let length = range.end - range.start;
        let body = Body::chunks(within(&pieces, &range), length);
        async move { Ok::<_, Refusal>(body) }
    };
    response.respond::<_, _, Refusal>(&call.arrival.method, &call.arrival.headers, open).await
}

impl Chunks {
    /// The head and the chunks of a document. Takes long where they are not known yet.
    async fn pieces(&self, index: &StoredIndex, document: &StoredDocument) -> Result<Vec<Bytes>, Refusal> {
        let mut parts = index.body(document, Form::Plain, 0..document.len(Form::Plain));
        let (mut chunks, mut short) = (Vec::new(), BytesMut::new());
        while let Some(part) = parts.try_next().await.map_err(Refusal::internal)? {
            short.extend_from_slice(&part);
            // What stands between two parts goes with the second one.
            if part.len() >= SHORT {
                chunks.push(self.chunk(short.split().freeze()).await?);
            }
        }
        chunks.push(self.chunk(short.freeze()).await?);
        let pieces = std::iter::once(head(&chunks).into());
        Ok(pieces.chain(chunks.iter().map(|chunk| chunk.bytes().clone())).collect())
    }

    async fn chunk(&self, text: Bytes) -> Result<Chunk, Refusal> {
        let digest = Sha256::of(&text);
        if let Some(chunk) = self.0.get(&digest) {
            return Ok(chunk);
        }
        let chunk = tokio::task::spawn_blocking(move || Chunk::compress(&text)).await;
        let chunk = chunk.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        self.0.insert(digest, chunk.clone());
        Ok(chunk)
    }
}

/// What of these pieces lies within a range of all of them together.
fn within(pieces: &[Bytes], range: &std::ops::Range<u64>) -> Vec<Bytes> {
    let mut start = 0;
    let mut found = Vec::new();
    for piece in pieces {
        let length = piece.len() as u64;
        let at = |position: u64| {
            usize::try_from(position.saturating_sub(start).min(length)).unwrap_or(piece.len())
        };
        let (from, to) = (at(range.start), at(range.end));
        if from < to {
            found.push(piece.slice(from..to));
        }
        start += length;
    }
    found
}
