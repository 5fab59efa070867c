//! Channels whose packages are elsewhere: proxies of other registries' channels, and virtual channels over ours.
//!
//! [`Conda::elsewhere`] answers for them in the place of a channel's own rows. Mirrors hold their packages as hosted channels do;
//! what fetches these is in [`mirror`].

mod derived;
mod members;
pub(crate) mod mirror;
mod proxy;
mod rules;
mod union;

use std::sync::Arc;

use granary_core::Sha256;
use granary_crds::Source;
use granary_http::{Body, Call, EntityTag, FileResponse, Refusal};
use granary_store::Channel;
use granary_upstream::{Fault, UpstreamError};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use jiff::Timestamp;

use crate::format::Subdir;
use crate::state::Conda;

pub(crate) use derived::DerivedDocuments;
pub(crate) use members::KnownNames;
pub(crate) use proxy::Remembered;

/// The subdirs that are looked for where nobody says what there is. Of a proxy in a virtual channel, their names count: a name that
/// the other registry has for another platform alone is not seen.
const USUAL_SUBDIRS: [&str; 9] = [
    "noarch",
    "linux-64",
    "linux-aarch64",
    "linux-ppc64le",
    "linux-s390x",
    "osx-64",
    "osx-arm64",
    "win-64",
    "win-arm64",
];
/// Says since when an answer is not known to be true any more.
const STALE: HeaderName = HeaderName::from_static("x-granary-stale");

impl Conda {
    /// The answer to what is asked of a channel whose packages are elsewhere. `None` where they are in its own rows.
    pub(crate) async fn elsewhere(
        &self,
        call: &Call,
        subdir: Option<&Subdir>,
        file: &str,
    ) -> Result<Option<Response<Body>>, Refusal> {
        let channel = call.channel()?;
        match &channel.settings.source {
            Source::Hosted | Source::Mirror(_) => Ok(None),
            Source::Proxy(proxy) => self.of_proxy(call, channel, proxy, subdir, file).await.map(Some),
            Source::Virtual(union) => {
                let subdir = subdir.ok_or_else(absent)?;
                self.of_virtual(call, channel, union, subdir, file).await.map(Some)
            }
        }
    }
}

/// Refuses what changes a channel whose packages come from elsewhere.
pub(crate) fn check_hosted(channel: &Channel) -> Result<(), Refusal> {
    match &channel.settings.source {
        Source::Hosted => Ok(()),
        source => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("This method is not implemented for {} channels", source.as_str()),
        )),
    }
}

fn absent() -> Refusal {
    Refusal::not_found("there is no such file in this channel")
}

/// Bytes in the bucket of a channel.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) channel: Arc<Channel>,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    pub(crate) object_key: Arc<str>,
}

/// How an index document is sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    content_type: &'static str,
    modified_at: Timestamp,
    stale_since: Option<Timestamp>,
}

/// Answers with an index document.
async fn send(
    call: &Call,
    place: &Place,
    sent: Sent,
    cache_control: HeaderValue,
) -> Result<Response<Body>, Refusal> {
    let mut headers = HeaderMap::new();
    if let Some(since) = sent.stale_since {
        // RFC 7234, section 5.5.1: gone from RFC 9111, and still the one header that people look for.
        headers.insert(http::header::WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
        if let Ok(since) = HeaderValue::from_str(&since.to_string()) {
            headers.insert(STALE, since);
        }
    }
    let response = FileResponse {
        size: place.size,
        etag: EntityTag::strong(&place.sha256.to_hex()).ok(),
        last_modified: Some(sent.modified_at.into()),
        content_type: HeaderValue::from_static(sent.content_type),
        file_name: None,
        cache_control,
        headers,
    };
    call.stored(&place.channel, place.sha256, &place.object_key, &response).await
}

/// What a client is told of a failure: the other registry's are told, ours are not.
fn refusal(error: Arc<UpstreamError>) -> Refusal {
    let told = || {
        format!("the channel that this one stands for gave no good answer: {}", granary_core::report(&*error))
    };
    match (error.fault(), &*error) {
        (Fault::Upstream, _) => Refusal::bad_gateway(told()),
        (Fault::Slow, _) => Refusal::gateway_timeout(told()),
        (Fault::Own, UpstreamError::Database(cause)) if cause.is_unavailable() => {
            Refusal::unavailable("the database", error)
        }
        (Fault::Own, UpstreamError::Object(cause)) if cause.is_transient() => {
            Refusal::unavailable("the object store", error)
        }
        (Fault::Own, UpstreamError::Interrupted) => Refusal::unavailable("the registry", error),
        (Fault::Own, _) => Refusal::internal(error),
    }
}
