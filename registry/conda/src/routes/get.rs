//! `/get/CHANNEL/SUBDIR/FILE`: indexes, shards and packages.

use std::sync::Arc;

use bytes::Bytes;
use granary_core::{Action, Sha256};
use granary_http::{Body, Call, EntityTag, FileResponse, Freshness, Params, Refusal};
use http::{HeaderMap, HeaderValue, Response};
use jiff::Timestamp;

use super::documents::{Form, JSON};
use super::pages;
use crate::documents::Listing;
use crate::format::{PackageFile, Subdir};
use crate::index::filter_of;
use crate::plugins;
use crate::state::Conda;

const ZSTD: &str = "application/zstd";
/// What the names of shards and of their index end with.
const SHARD: &str = ".msgpack.zst";

/// Packages and shards never change; indexes do.
pub(super) fn freshness(params: &Params) -> Freshness {
    let file = params.get("file").unwrap_or_default();
    let is_shard = file.strip_suffix(SHARD).is_some_and(|digest| digest.parse::<Sha256>().is_ok());
    if is_shard || file.parse::<PackageFile>().is_ok() { Freshness::WithinASecond } else { Freshness::Now }
}

/// `GET` and `HEAD` of anything in a subdir.
pub(super) async fn file(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let param = |name: &str| call.arrival.params.get(name).unwrap_or_default();
    let Ok(subdir) = param("subdir").parse::<Subdir>() else { return Err(absent()) };
    if let Some(answer) = state.elsewhere(&call, Some(&subdir), param("file")).await? {
        return Ok(answer);
    }
    let (name, form) = Form::of(param("file"));
    let held = match name {
        "current_repodata.json" => Some(state.current_repodata(&call, &subdir).await?),
        _ => None,
    };
    if let Some(document) = held {
        return form.held_response(&state, &call, document.ok_or_else(absent)?, JSON).await;
    }
    let stored = match name {
        "repodata.json" => Some(state.repodata(&call, &subdir).await?),
        "repodata_from_packages.json" => Some(state.listing(&call, &subdir, Listing::FromPackages).await?),
        "run_exports.json" => Some(state.listing(&call, &subdir, Listing::RunExports).await?),
        _ => None,
    };
    if let Some(document) = stored {
        return form.stored_response(&state, &call, document.ok_or_else(absent)?, JSON).await;
    }
    match param("file") {
        "index.html" => pages::subdir_page(&state, &call, &subdir).await,
        "repodata.json.zck" => plugins::zchunk::repodata(&state, &call, &subdir).await,
        "repodata_shards.msgpack.zst" => shard_index(&state, &call, &subdir).await,
        file => {
            if let Some(digest) = file.strip_suffix(SHARD) {
                let digest = digest.parse().map_err(|_| absent())?;
                return shard(&state, &call, &subdir, digest).await;
            }
            let file: PackageFile = file.parse().map_err(|_| absent())?;
            package(&state, &call, &subdir, &file).await
        }
    }
}

pub(super) fn absent() -> Refusal {
    Refusal::not_found("there is no such file in this channel")
}

async fn package(
    state: &Conda,
    call: &Call,
    subdir: &Subdir,
    file: &PackageFile,
) -> Result<Response<Body>, Refusal> {
    call.check(Action::Read, Some(file.name().as_str()))?;
    let stored = state.file(call.channel()?, subdir, file).await?.ok_or_else(absent)?;
    call.download(&stored).await
}

async fn shard_index(state: &Conda, call: &Call, subdir: &Subdir) -> Result<Response<Body>, Refusal> {
    let filter = filter_of(call)?;
    let index = state.shard_index(call.channel()?, subdir, filter.as_ref()).await?;
    if index.is_empty && subdir.as_str() != Subdir::NOARCH {
        return Err(absent());
    }
    let cache_control = call.index_cache_control()?;
    bytes_response(call, index.bytes, index.sha256, index.changed_at, cache_control).await
}

async fn shard(
    state: &Conda,
    call: &Call,
    subdir: &Subdir,
    sha256: Sha256,
) -> Result<Response<Body>, Refusal> {
    let shard = state.shard(call.channel()?, subdir, sha256).await?;
    let (name, bytes) = shard.ok_or_else(|| call.unknown("there is no such file in this channel"))?;
    call.check(Action::Read, Some(name.as_str()))?;
    let cache_control = call.cache_control(name.as_str(), true)?;
    bytes_response(call, bytes, sha256, Timestamp::UNIX_EPOCH, cache_control).await
}

async fn bytes_response(
    call: &Call,
    bytes: Bytes,
    sha256: Sha256,
    changed_at: Timestamp,
    cache_control: HeaderValue,
) -> Result<Response<Body>, Refusal> {
    let file = FileResponse {
        size: bytes.len() as u64,
        etag: EntityTag::strong(&sha256.to_hex()).ok(),
        last_modified: (changed_at > Timestamp::UNIX_EPOCH).then(|| changed_at.into()),
        content_type: HeaderValue::from_static(ZSTD),
        file_name: None,
        cache_control,
        headers: HeaderMap::new(),
    };
    file.respond_bytes(&call.arrival.method, &call.arrival.headers, bytes).await
}
