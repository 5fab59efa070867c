//! The routes of a `PyPI` channel, and the shape of its errors.

mod file;
mod json;
mod manage;
mod simple;
mod upload;

use std::sync::Arc;

use granary_core::{Action, Format};
use granary_http::{Access, Body, Call, Freshness, Protocol, Refusal, respond};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use hyper::ext::ReasonPhrase;

use crate::format::{NormalizedName, ProjectName};
use crate::state::PyPi;

/// Every route of the protocol. `{channel}` may be `user/index`, as in devpi.
pub(crate) fn routes(state: &Arc<PyPi>) -> Protocol {
    let read = Access::Channel(Action::Read);
    let publish = Access::Channel(Action::Publish);
    let remove = Access::Channel(Action::Remove);
    let (now, soon) = (Freshness::Now, Freshness::WithinASecond);
    let get = Method::GET;
    Protocol::new(Format::PyPi, shape)
        .route(Method::POST, "/{channel}/", publish, now, state, upload::upload)
        .route(Method::POST, "/{channel}", publish, now, state, upload::upload)
        .route(get.clone(), "/{channel}/", read, now, state, simple::to_the_index)
        .route(get.clone(), "/{channel}", read, now, state, simple::to_the_index)
        .route(get.clone(), "/{channel}/+simple/", read, now, state, simple::project_list)
        .route(get.clone(), "/{channel}/+simple", read, now, state, simple::add_slash)
        .route(get.clone(), "/{channel}/+simple/{project}/", read, now, state, simple::project)
        .route(get.clone(), "/{channel}/+simple/{project}", read, now, state, simple::add_slash)
        .route(get.clone(), "/{channel:1}/simple/", read, now, state, simple::project_list)
        .route(get.clone(), "/{channel:1}/simple", read, now, state, simple::add_slash)
        .route(get.clone(), "/{channel:1}/simple/{project}/", read, now, state, simple::project)
        .route(get.clone(), "/{channel:1}/simple/{project}", read, now, state, simple::add_slash)
        .route(get.clone(), "/{channel}/pypi/{project}/json", read, now, state, json::project)
        .route(get.clone(), "/{channel}/pypi/{project}/{version}/json", read, now, state, json::release)
        .route(get, "/{channel}/+f/{start}/{rest}/{filename}", read, soon, state, file::download)
        .route(
            Method::DELETE,
            "/{channel}/+f/{start}/{rest}/{filename}",
            remove,
            now,
            state,
            manage::delete_file,
        )
        .route(Method::DELETE, "/{channel}/+project/{project}", remove, now, state, manage::delete_project)
        .route(
            Method::DELETE,
            "/{channel}/+project/{project}/{version}",
            remove,
            now,
            state,
            manage::delete_release,
        )
        .route(Method::PUT, "/{channel}/+yank/{project}/{version}", remove, now, state, manage::yank)
        .route(Method::DELETE, "/{channel}/+yank/{project}/{version}", remove, now, state, manage::unyank)
}

/// Errors are plain text, which uv shows, and stand in the reason phrase too, which is all that twine shows.
fn shape(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::bytes(format!("{}\n", refusal.message)));
    response.headers_mut().insert(CONTENT_TYPE, respond::TEXT);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    let reason: String = refusal
        .message
        .chars()
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .take(200)
        .collect();
    if let Ok(reason) = ReasonPhrase::try_from(reason.into_bytes()) {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The project that the path names, in normal form or not.
fn project_of(call: &Call) -> Result<NormalizedName, Refusal> {
    let text = call.arrival.params.get("project").unwrap_or_default();
    let name: ProjectName = text.parse().map_err(|_| no_such_project())?;
    Ok(name.normalized().clone())
}

/// A name that no project can have is as absent as any other.
fn no_such_project() -> Refusal {
    Refusal::not_found("there is no such project in this channel")
}
