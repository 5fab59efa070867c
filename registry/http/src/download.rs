//! Downloads of what a channel holds: from the cache, from the object store, or by a presigned URL.

use std::sync::Arc;
use std::time::Duration;

use granary_core::{Principal, Sha256};
use granary_store::Channel;
use http::header::{CACHE_CONTROL, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;

use crate::{Body, Call, EntityTag, FileResponse, Refusal, respond};

/// Of every file: a type of its own would lead clients to unpack what they should keep.
const CONTENT_TYPE: &str = "application/octet-stream";
/// How long a presigned URL lives.
const PRESIGNED: Duration = Duration::from_mins(5);

/// A file of a channel, and where its bytes are.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// The name under which it is saved.
    pub filename: Arc<str>,
    /// The package that it belongs to: who may read that may read the file.
    pub package: Arc<str>,
    /// Its digest.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    /// The object that holds its bytes.
    pub object_key: Arc<str>,
    /// When it was published.
    pub uploaded_at: Timestamp,
    /// Its name among all files of the channel, by which its downloads are counted.
    pub counted_as: Arc<str>,
    /// Whether the URL stands for these bytes for ever, since no other ones may come in their place.
    pub is_immutable: bool,
}

/// Whether a request asks for the beginning of a file: the rest of one that was broken off is no new download.
fn begins_download(headers: &HeaderMap) -> bool {
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    range.is_none_or(|range| range.starts_with("bytes=0-"))
}

impl Call {
    /// Answers with a file of the channel; the caller has checked who may read it. Counts downloads.
    ///
    /// # Errors
    /// Where the object store cannot be asked.
    pub async fn download(&self, file: &StoredFile) -> Result<Response<Body>, Refusal> {
        self.download_from(self.channel()?, file).await
    }

    /// As [`Call::download`], with a file of another channel: the one that holds the bytes, which the path does not name.
    ///
    /// # Errors
    /// Where the object store cannot be asked.
    pub async fn download_from(
        &self,
        channel: &Arc<Channel>,
        file: &StoredFile,
    ) -> Result<Response<Body>, Refusal> {
        let (store, method) = (&self.arrival.services.store, &self.arrival.method);
        let is_new = *method == Method::GET && begins_download(&self.arrival.headers);
        let count = || {
            if is_new {
                store.usage().downloaded(channel.scope, &file.package, &file.counted_as);
            }
        };
        if channel.settings.redirect_downloads && *method == Method::GET {
            let now = store.clock().now();
            let url = store
                .objects()
                .presign_get(&channel.bucket, &file.object_key, now, PRESIGNED, &file.filename, CONTENT_TYPE)
                .await?;
            if let Some(url) = url {
                count();
                let mut response = respond::redirect(StatusCode::FOUND, &url);
                // The link dies before long, and is for this caller.
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
                return Ok(response);
            }
        }
        let response = FileResponse {
            size: file.size,
            etag: EntityTag::strong(&file.sha256.to_hex()).ok(),
            last_modified: Some(file.uploaded_at.into()),
            content_type: HeaderValue::from_static(CONTENT_TYPE),
            file_name: Some(file.filename.to_string()),
            cache_control: self.cache_control(&file.package, file.is_immutable)?,
            headers: HeaderMap::new(),
        };
        let response = self.stored(channel, file.sha256, &file.object_key, &response).await?;
        if response.status().is_success() {
            count();
        }
        Ok(response)
    }

    /// Answers as `response` says with bytes that the channel's bucket holds.
    ///
    /// # Errors
    /// Where the object store cannot be asked.
    pub async fn stored(
        &self,
        channel: &Arc<Channel>,
        sha256: Sha256,
        object_key: &Arc<str>,
        response: &FileResponse,
    ) -> Result<Response<Body>, Refusal> {
        let (store, size) = (self.arrival.services.store.clone(), response.size);
        let (channel, object_key) = (Arc::clone(channel), Arc::clone(object_key));
        response
            .respond::<_, _, Refusal>(&self.arrival.method, &self.arrival.headers, move |range| {
                let (store, channel, key) = (store.clone(), Arc::clone(&channel), Arc::clone(&object_key));
                async move {
                    let length = range.end - range.start;
                    let objects = store.objects().clone();
                    let fetch = move |part| async move { objects.open(&channel.bucket, &key, part).await };
                    let wanted = (length < size).then_some(range);
                    let stream = store.cache().get(sha256, size, wanted, fetch).await?;
                    Ok(match stream.into_bytes() {
                        Ok(bytes) => Body::bytes(bytes),
                        Err(stream) => Body::stream(stream, length),
                    })
                }
            })
            .await
    }

    /// How long an answer about a package may be kept. Whether a shared cache may keep it depends on who may read it.
    ///
    /// # Errors
    /// Where the path names no channel.
    pub fn cache_control(&self, package: &str, is_immutable: bool) -> Result<HeaderValue, Refusal> {
        let is_public =
            self.channel()?.allows(&Principal::Anonymous, granary_core::Action::Read, Some(package));
        Ok(HeaderValue::from_static(match (is_public, is_immutable) {
            (true, true) => "public, max-age=31536000, immutable",
            (false, true) => "private, max-age=31536000, immutable",
            (true, false) => "no-cache",
            (false, false) => "private, no-cache",
        }))
    }
}
