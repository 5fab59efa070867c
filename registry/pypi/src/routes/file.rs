//! Files: the distributions themselves, their core metadata (PEP 658) and their provenance (PEP 740).

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, EntityTag, FileResponse, Refusal, respond};
use granary_store::Channel;
use http::{HeaderMap, HeaderValue, Response};

use crate::state::{FileEntry, PyPi};

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
    call.check(Action::Read, Some(&entry.file.package))?;
    if !stands_at(&entry, &call) {
        return Err(Refusal::not_found(ABSENT));
    }
    match side {
        None => call.download(&entry.file).await,
        Some(side) => side_file(&state, &call, channel, &entry, side).await,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Metadata,
    Provenance,
}

const ABSENT: &str = "there is no such file in this channel";

/// Whether the digest in the path is the file's: links of replaced files lead nowhere.
pub(super) fn stands_at(entry: &FileEntry, call: &Call) -> bool {
    let digest = entry.file.sha256.to_hex();
    let part = |name: &str| call.arrival.params.get(name).unwrap_or_default().to_owned();
    digest.get(..3) == Some(part("start").as_str()) && digest.get(3..16) == Some(part("rest").as_str())
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
        last_modified: Some(entry.file.uploaded_at.into()),
        content_type,
        file_name: None,
        cache_control: call.cache_control(&entry.file.package, true)?,
        headers: HeaderMap::new(),
    };
    file.respond_bytes(&call.arrival.method, &call.arrival.headers, bytes.into()).await
}
