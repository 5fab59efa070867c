//! Index documents under their names: plain, and in compressed forms as files of their own.

use bytes::Bytes;
use futures_util::stream;
use granary_http::stored_index::StoredDocument;
use granary_http::{Body, BoxError, Call, EntityTag, FileResponse, Refusal};
use granary_splice::{Document, Encoding, outline};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::state::Conda;

pub(super) const JSON: &str = "application/json";
const ZSTD: &str = "application/zstd";

/// The form of a document that a file's name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is; a client that takes a content coding gets one.
    Plain,
    /// `.zst`.
    Zstd,
    /// `.bz2`.
    Bzip2,
}

impl Form {
    /// The name of the document in a file's name, and its form.
    pub(super) fn of(file: &str) -> (&str, Self) {
        let forms = [(".zst", Self::Zstd), (".bz2", Self::Bzip2)];
        let found = forms.into_iter().find_map(|(ending, form)| Some((file.strip_suffix(ending)?, form)));
        found.unwrap_or((file, Self::Plain))
    }

    /// The response that carries a stored document in this form.
    pub(super) async fn stored_response(
        self,
        state: &Conda,
        call: &Call,
        document: StoredDocument,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        match self {
            Self::Plain => call.stored_response(&state.index, document, content_type).await,
            Self::Zstd => call.stored_file_response(&state.index, document, ZSTD).await,
            Self::Bzip2 => {
                let plain = outline::Form::Plain;
                let text = || state.index.body(&document, plain, 0..document.len(plain));
                bzip2_response(state, call, document.etag(plain), text).await
            }
        }
    }

    /// The response that carries a document in memory in this form.
    pub(super) async fn held_response(
        self,
        state: &Conda,
        call: &Call,
        document: Document,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        let plain = Encoding::Identity;
        match self {
            Self::Plain => call.index_response(document, content_type).await,
            Self::Zstd => call.compressed_index_response(document, Encoding::Zstd, ZSTD).await,
            Self::Bzip2 => {
                let text = || Body::chunks(document.chunks(plain), document.len(plain));
                bzip2_response(state, call, document.etag(plain).trim_matches('"'), text).await
            }
        }
    }
}

/// The response that carries the document with this `ETag`, whose text this is, as a `.bz2` file.
async fn bzip2_response(
    state: &Conda,
    call: &Call,
    etag: &str,
    text: impl Fn() -> Body,
) -> Result<Response<Body>, Refusal> {
    let arrival = &call.arrival;
    let response = |size| {
        Ok::<_, Refusal>(FileResponse {
            size,
            etag: EntityTag::strong(&format!("{etag}-bz2")).ok(),
            last_modified: None,
            content_type: HeaderValue::from_static("application/x-bzip2"),
            file_name: None,
            cache_control: call.index_cache_control()?,
            headers: HeaderMap::new(),
        })
    };
    let bytes = if let Some(bytes) = state.bzip2.known(etag).await {
        bytes
    } else {
        // Whether it is there, and whether it has changed, is told without making it: clients look for it that take the
        // `.zst` then. Its length is not known.
        let mut without = response(0)?.respond_bytes(&arrival.method, &arrival.headers, Bytes::new()).await?;
        if arrival.method == Method::HEAD
            || without.status().is_redirection()
            || without.status().is_client_error()
        {
            if without.status().is_success() {
                without.headers_mut().remove(CONTENT_LENGTH);
                *without.body_mut() = Body::unsized_stream(stream::empty::<Result<Bytes, BoxError>>());
            }
            return Ok(without);
        }
        state.bzip2.file(etag.to_owned(), text()).await.map_err(Refusal::internal)?
    };
    response(bytes.len() as u64)?.respond_bytes(&arrival.method, &arrival.headers, bytes).await
}

/// The response that carries a small document, made for this request.
pub(super) async fn small_response(
    call: &Call,
    bytes: Bytes,
    content_type: &'static str,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let file = FileResponse {
        size: bytes.len() as u64,
        etag: EntityTag::strong(&granary_core::Sha256::of(&bytes).to_hex()).ok(),
        last_modified: None,
        content_type: HeaderValue::from_static(content_type),
        file_name: None,
        cache_control: call.index_cache_control()?,
        headers,
    };
    file.respond_bytes(&call.arrival.method, &call.arrival.headers, bytes).await
}
