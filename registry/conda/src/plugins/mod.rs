//! What Quetz has as plugins, built in. A channel's settings (`CondaSettings`) switch them on; `docs/conda-plugins.md` tells what
//! each does and where it differs.

pub mod content_trust;
mod form;
pub(crate) mod run_exports;
pub(crate) mod suggest;
mod terms;
pub mod transmute;
pub(crate) mod zchunk;

use std::sync::Arc;

use bytes::Bytes;
use granary_core::{Action, Sha256};
use granary_http::{Access, Body, Call, EntityTag, FileResponse, Freshness, Protocol, Refusal};
use granary_store::Schema;
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::sql::plugins::Statements;
use crate::state::Conda;

/// What the plugins hold.
#[derive(Debug)]
pub(crate) struct Plugins {
    pub(crate) sql: Statements,
    pub(crate) trust: content_trust::Trust,
    suggest: suggest::Maps,
    zchunk: zchunk::Chunks,
}

impl Plugins {
    pub(crate) fn new(schema: &Schema) -> Self {
        Self {
            sql: Statements::new(schema),
            trust: content_trust::Trust::new(),
            suggest: suggest::Maps::new(),
            zchunk: zchunk::Chunks::new(),
        }
    }
}

const TERMS: &str = "terms are read before they are signed";

/// Adds the routes of the plugins.
pub(crate) fn routes(protocol: Protocol, state: &Arc<Conda>) -> Protocol {
    let read = Access::Channel(Action::Read);
    let now = Freshness::Now;
    let administer = Access::Channel(Action::Administer);
    let run_exports = "/api/channels/{channel:1}/packages/{package}/versions/{platform}/{file}/run_exports";
    let suggest = "/api/channels/{channel:1}/{subdir}/conda-suggest";
    let (roles, new_key) = ("/api/content-trust/{channel:1}/roles", "/api/content-trust/{channel:1}/new-key");
    protocol
        .route(Method::GET, run_exports, read, now, state, run_exports::run_exports)
        .route(Method::GET, suggest, read, now, state, suggest::map)
        .route(Method::GET, roles, read, now, state, content_trust::routes::roles)
        .route(Method::POST, roles, administer, now, state, content_trust::routes::upload_role)
        .route(Method::POST, new_key, administer, now, state, content_trust::routes::new_key)
        .route(Method::GET, "/api/tos", Access::Open(TERMS), now, state, terms::current)
        .route(Method::GET, "/api/tos/status", Access::Authenticated, now, state, terms::status)
        .route(Method::POST, "/api/tos/sign", Access::Authenticated, now, state, terms::sign)
        .route(Method::POST, "/api/tos/upload", Access::Admin, now, state, terms::upload)
}

/// `GET /get/CHANNEL/FILE`: what a plugin serves at a channel's root. `None` for all else.
pub(crate) async fn root_file(
    state: &Conda,
    call: &Call,
    file: &str,
) -> Result<Option<Response<Body>>, Refusal> {
    match suggest::root_file(state, call, file).await? {
        Some(response) => Ok(Some(response)),
        None => content_trust::routes::root_file(state, call, file).await,
    }
}

/// A document in memory, which may change with every publish.
#[derive(Debug, Clone)]
pub(crate) struct Small {
    bytes: Bytes,
    sha256: Sha256,
}

impl Small {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { sha256: Sha256::of(&bytes), bytes }
    }

    /// The response that carries it: with its entity tag, ranges, and 304 where the client has it already.
    pub(crate) async fn respond(
        self,
        call: &Call,
        content_type: &'static str,
        file_name: Option<String>,
    ) -> Result<Response<Body>, Refusal> {
        let response = FileResponse {
            size: self.bytes.len() as u64,
            etag: EntityTag::strong(&self.sha256.to_hex()).ok(),
            last_modified: None,
            content_type: HeaderValue::from_static(content_type),
            file_name,
            cache_control: call.index_cache_control()?,
            headers: HeaderMap::new(),
        };
        response.respond_bytes(&call.arrival.method, &call.arrival.headers, self.bytes).await
    }
}

/// The answer for what a channel has switched off, or never had.
pub(crate) fn absent() -> Refusal {
    Refusal::not_found("there is no such file in this channel")
}
