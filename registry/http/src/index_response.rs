//! Responses that carry index documents.

use granary_core::{Principal, Readable, readable};
use granary_splice::outline::Form;
use granary_splice::{Document, Encoding};
use http::{HeaderMap, HeaderValue, Response, header};

use crate::stored_index::{StoredDocument, StoredIndex};
use crate::{Body, Call, EntityTag, FileResponse, Refusal, encoding, index};

/// In the order in which we like to send them.
const ENCODINGS: [Encoding; 3] = [Encoding::Zstd, Encoding::Gzip, Encoding::Identity];

impl Call {
    /// The response that carries an index document: encoded once for all, with its `ETag`, `304` where the client
    /// has it already.
    pub async fn index_response(
        &self,
        document: Document,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        let encoding = encoding::negotiate(&self.arrival.headers, &ENCODINGS);
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(coding) = encoding.content_coding() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        // The same HTML stands under two types, which a cache must not take for each other.
        let mark = if content_type.ends_with("+html") { "-v1" } else { "" };
        self.document_response(document, encoding, content_type, mark, headers).await
    }

    /// How long an index of the channel may be kept: it is always asked for again, which a 304 makes cheap, since what was
    /// published a moment ago is there. Whether a shared cache may keep it depends on who may read all of it.
    ///
    /// # Errors
    /// Where the path names no channel.
    pub fn index_cache_control(&self) -> Result<HeaderValue, Refusal> {
        let channel = self.channel()?;
        let read = readable(&channel.grants, &Principal::Anonymous, channel.format, &channel.name);
        let is_public = matches!(read, Readable::All);
        Ok(HeaderValue::from_static(if is_public { "no-cache" } else { "private, no-cache" }))
    }

    /// The response that carries an index document in a compressed form as a file of its own, such as
    /// `repodata.json.zst`.
    pub async fn compressed_index_response(
        &self,
        document: Document,
        encoding: Encoding,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        self.document_response(document, encoding, content_type, "-file", HeaderMap::new()).await
    }

    /// The response that carries a stored document as plain text, or in zstd where the client takes that. Its gzip form would have
    /// to be made of the whole text for each client.
    pub async fn stored_response(
        &self,
        index: &StoredIndex,
        document: StoredDocument,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        let encoding = encoding::negotiate(&self.arrival.headers, &[Encoding::Zstd, Encoding::Identity]);
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let mut form = Form::Plain;
        if let Some(coding) = encoding.content_coding() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            form = Form::Zstd;
        }
        self.stored_form_response(index, document, form, content_type, "", headers).await
    }

    /// The response that carries the compressed form of a stored document as a file of its own.
    pub async fn stored_file_response(
        &self,
        index: &StoredIndex,
        document: StoredDocument,
        content_type: &'static str,
    ) -> Result<Response<Body>, Refusal> {
        self.stored_form_response(index, document, Form::Zstd, content_type, "-file", HeaderMap::new()).await
    }

    async fn stored_form_response(
        &self,
        index: &StoredIndex,
        document: StoredDocument,
        form: Form,
        content_type: &'static str,
        mark: &'static str,
        headers: HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let response = FileResponse {
            size: document.len(form),
            etag: EntityTag::strong(&format!("{}{mark}", document.etag(form))).ok(),
            last_modified: None,
            content_type: HeaderValue::from_static(content_type),
            file_name: None,
            cache_control: self.index_cache_control()?,
            headers,
        };
        let index = index.clone();
        let open = move |range: std::ops::Range<u64>| {
            let body = index.body(&document, form, range);
            async move { Ok::<_, Refusal>(body) }
        };
        response.respond::<_, _, Refusal>(&self.arrival.method, &self.arrival.headers, open).await
    }

    /// `mark` tells what has the same bytes and is another resource, or another form of it.
    async fn document_response(
        &self,
        document: Document,
        encoding: Encoding,
        content_type: &'static str,
        mark: &'static str,
        headers: HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        index::encoded(&document, encoding).await.map_err(Refusal::internal)?;
        let tag = format!("{}{mark}", document.etag(encoding).trim_matches('"'));
        let response = FileResponse {
            size: document.len(encoding),
            etag: EntityTag::strong(&tag).ok(),
            last_modified: None,
            content_type: HeaderValue::from_static(content_type),
            file_name: None,
            cache_control: self.index_cache_control()?,
            headers,
        };
        let open = move |range: std::ops::Range<u64>| {
            let length = range.end - range.start;
            let body = Body::chunks(document.range(encoding, range), length);
            async move { Ok::<_, Refusal>(body) }
        };
        response.respond::<_, _, Refusal>(&self.arrival.method, &self.arrival.headers, open).await
    }
}
