//! The routes of conda channels, and the shape of their errors.

mod api;
mod documents;
mod get;
mod mirrors;
mod pages;
mod remove;
mod root;
mod upload;

use std::sync::Arc;

use granary_core::{Action, Format};
use granary_http::{Access, Body, Freshness, Protocol, Refusal, respond};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use serde_json::json;

use crate::plugins;
use crate::state::Conda;

/// What conda shows to its users (RFC 9457).
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Every route of the protocol.
pub(crate) fn routes(state: &Arc<Conda>) -> Protocol {
    let read = Access::Channel(Action::Read);
    let publish = Access::Channel(Action::Publish);
    let remove = Access::Channel(Action::Remove);
    let now = Freshness::Now;
    let synchronization = "/api/channels/{channel}/synchronization";
    let version = "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}";
    let yank = "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}/yank";
    let (files, files_of_package) =
        ("/api/channels/{channel}/files/", "/api/channels/{channel}/packages/{package}/files/");
    let protocol = Protocol::new(Format::Conda, shape)
        .route_by_freshness(
            Method::GET,
            "/get/{channel}/{subdir}/{file}",
            read,
            get::freshness,
            state,
            get::file,
        )
        .route(Method::GET, "/get/{channel:1}", read, now, state, pages::add_slash)
        .route(Method::GET, "/get/{channel:1}/", read, now, state, pages::channel)
        .route(Method::GET, "/get/{channel:1}/{file}", read, now, state, root::file)
        .route(Method::GET, "/get/{channel:1}/{subdir}/", read, now, state, pages::subdir)
        .route(Method::POST, "/api/channels/{channel}/upload/{file}", publish, now, state, upload::upload)
        .route(Method::GET, synchronization, read, now, state, mirrors::progress)
        .route(Method::POST, synchronization, remove, now, state, mirrors::begin)
        .route(Method::DELETE, version, remove, now, state, remove::delete)
        .route(Method::PUT, yank, remove, now, state, remove::yank)
        .route(Method::DELETE, yank, remove, now, state, remove::unyank)
        .route(Method::POST, files, publish, now, state, upload::form::files)
        .route(Method::POST, files_of_package, publish, now, state, upload::form::files_of_package)
        .route(Method::POST, "/api/v1/upload/{channel}", publish, now, state, upload::form::of_prefix)
        .route(Method::PUT, "/get/{channel}/{subdir}/{file}", publish, now, state, upload::raw::put);
    plugins::routes(api::routes(protocol, state), state)
}

/// Errors are problem details, whose `detail` conda shows and the clients of Quetz read.
fn shape(refusal: &Refusal) -> Response<Body> {
    let body = json!({
        "type": "about:blank",
        "title": refusal.status.canonical_reason().unwrap_or("error"),
        "status": refusal.status.as_u16(),
        "detail": refusal.message,
    });
    let response = respond::json(refusal.status, &body);
    let mut response = response.unwrap_or_else(|_| respond::empty(refusal.status));
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response
}
