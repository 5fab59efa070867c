//! Files: the distributions themselves, their core metadata (PEP 658) and their provenance (PEP 740).

use std::sync::Arc;

use granary_core::{Action, Principal};
use granary_http::{Body, Call, EntityTag, FileResponse, Refusal, respond};
use granary_store::{Channel, Store};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::state::{FileEntry, PyPi};

/// Of every distribution: a type of its own would lead clients to unpack what they should keep.
const CONTENT_TYPE: &str = "application/octet-stream";
/// How long a presigned URL lives.
const PRESIGNED: std::time::Duration = std::time::Duration::from_mins(5);

/// `GET` and `HEAD` of a file, of `FILE.metadata` and of `FILE.provenance`.
pub(super) async fn download(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let requested = call.arrival.params.get("filename").unwrap_or_default();
    let (filename, side) = match (requested.strip_suffix(".metadata"), requested.strip_suffix(".provenance"))
    {
        (Some(filename), _) => (filename, Some(Side::Metadata)),
        (_, Some(filename)) => (filename, Some(Side::Provenance)),
        _ => (requested, None),
    };
    let channel = call.channel()?;
    let entry = state.file(channel, filename).await?;
    // What may not be read is as good as absent, and says nothing about which of the two it is.
    let entry = entry.ok_or_else(|| call.unknown(ABSENT))?;
    call.check(Action::Read, Some(&entry.project))?;
    if !stands_at(&entry, &call) {
        return Err(Refusal::not_found(ABSENT));
    }
    match side {
        None => blob(&state.store, &call, channel, &entry).await,
        Some(side) => side_file(&state, &call, channel, &entry, side).await,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Metadata,
    Provenance,
}

const ABSENT: &str = "there is no such file in this channel";

/// Whether a request asks for the beginning of a file: the rest of one that was broken off is no new download.
fn begins_download(headers: &HeaderMap) -> bool {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    range.is_none_or(|range| range.starts_with("bytes=0-"))
}

/// Whether the digest in the path is the file's: links of replaced files lead nowhere.
pub(super) fn stands_at(entry: &FileEntry, call: &Call) -> bool {
    let digest = entry.sha256.to_hex();
    let part = |name: &str| call.arrival.params.get(name).unwrap_or_default().to_owned();
    digest.get(..3) == Some(part("start").as_str()) && digest.get(3..16) == Some(part("rest").as_str())
}

async fn blob(
    store: &Store,
    call: &Call,
    channel: &Arc<Channel>,
    entry: &Arc<FileEntry>,
) -> Result<Response<Body>, Refusal> {
    let method = &call.arrival.method;
    if channel.settings.redirect_downloads && *method == Method::GET {
        let now = store.clock().now();
        let url = store
            .objects()
            .presign_get(&channel.bucket, &entry.object_key, now, PRESIGNED, &entry.filename, CONTENT_TYPE)
            .await?;
        if let Some(url) = url {
            if begins_download(&call.arrival.headers) {
                store.usage().downloaded(channel.scope, &entry.project, &entry.filename);
            }
            let mut response = respond::redirect(StatusCode::FOUND, &url);
            // The link dies before long, and is for this caller.
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            return Ok(response);
        }
    }
    let file = FileResponse {
        size: entry.size,
        etag: EntityTag::strong(&entry.sha256.to_hex()).ok(),
        last_modified: Some(entry.uploaded_at.into()),
        content_type: HeaderValue::from_static(CONTENT_TYPE),
        file_name: Some(entry.filename.to_string()),
        cache_control: cache_control(channel, entry),
        headers: HeaderMap::new(),
    };
    let (opened_store, opened_channel, opened_entry) =
        (store.clone(), Arc::clone(channel), Arc::clone(entry));
    let response = file
        .respond::<_, _, Refusal>(method, &call.arrival.headers, move |range| {
            let (store, channel, entry) =
                (opened_store.clone(), Arc::clone(&opened_channel), Arc::clone(&opened_entry));
            async move {
                let length = range.end - range.start;
                let (objects, size) = (store.objects().clone(), entry.size);
                let sha256 = entry.sha256;
                let fetch =
                    move |part| async move { objects.open(&channel.bucket, &entry.object_key, part).await };
                let wanted = (length < size).then_some(range);
                let stream = store.cache().get(sha256, size, wanted, fetch).await?;
                Ok(match stream.into_bytes() {
                    Ok(bytes) => Body::bytes(bytes),
                    Err(stream) => Body::stream(stream, length),
                })
            }
        })
        .await?;
    if *method == Method::GET && response.status().is_success() && begins_download(&call.arrival.headers) {
        store.usage().downloaded(channel.scope, &entry.project, &entry.filename);
    }
    Ok(response)
}

/// Bytes under a digest never change; whether a shared cache may keep them depends on who may read them.
fn cache_control(channel: &Channel, entry: &FileEntry) -> HeaderValue {
    if channel.allows(&Principal::Anonymous, Action::Read, Some(&entry.project)) {
        HeaderValue::from_static("public, max-age=31536000, immutable")
    } else {
        HeaderValue::from_static("private, max-age=31536000, immutable")
    }
}

async fn side_file(
    state: &PyPi,
    call: &Call,
    channel: &Channel,
    entry: &FileEntry,
    side: Side,
) -> Result<Response<Body>, Refusal> {
    let (bytes, content_type) = match side {
        Side::Metadata => (state.core_metadata(channel, entry).await?, respond::TEXT),
        Side::Provenance => (
            state.provenance(channel, entry).await?,
            HeaderValue::from_static("application/vnd.pypi.integrity.v1+json"),
        ),
    };
    let bytes = bytes.ok_or_else(|| Refusal::not_found(ABSENT))?;
    let file = FileResponse {
        size: bytes.len() as u64,
        etag: EntityTag::strong(&granary_core::Sha256::of(&bytes).to_hex()).ok(),
        last_modified: Some(entry.uploaded_at.into()),
        content_type,
        file_name: None,
        cache_control: cache_control(channel, entry),
        headers: HeaderMap::new(),
    };
    let bytes = bytes::Bytes::from(bytes);
    let slice = move |range: std::ops::Range<u64>| {
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.slice(at(range.start)..at(range.end));
        async move { Ok(Body::bytes(part)) }
    };
    file.respond::<_, _, Refusal>(&call.arrival.method, &call.arrival.headers, slice).await
}
