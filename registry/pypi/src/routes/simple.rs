//! The simple index (PEP 503, 691, 700, 714).

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal, respond};
use http::{HeaderMap, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{no_such_project, project_of};
use crate::format::{Representation, negotiate};
use crate::state::PyPi;

/// The list of projects.
pub(super) async fn project_list(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let representation = representation(&call)?;
    let document = state.project_list(&call, representation).await?;
    call.index_response(document, representation.content_type()).await
}

/// The page of a project. A name that is not in normal form leads to the one that is.
pub(super) async fn project(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let project = project_of(&call)?;
    call.check(Action::Read, Some(project.as_str()))?;
    if call.arrival.params.get("project") != Some(project.as_str()) {
        return Ok(respond::redirect(
            StatusCode::MOVED_PERMANENTLY,
            &with_format(&call, format!("../{project}/")),
        ));
    }
    let representation = representation(&call)?;
    let document = state.simple_page(&call, &project, representation).await?;
    call.index_response(document.ok_or_else(no_such_project)?, representation.content_type()).await
}

/// From the URL of uploads, should somebody look at it, to the index.
pub(super) async fn to_the_index(_: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let last = call.arrival.path.segments().last().map_or("", String::as_str);
    let target =
        if call.arrival.path.trailing_slash() { "+simple/".to_owned() } else { format!("{last}/+simple/") };
    Ok(respond::redirect(StatusCode::FOUND, &target))
}

/// To the same path with a slash at its end, which is where the relative links of a page begin.
pub(super) async fn add_slash(_: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let target = match call.arrival.params.get("project") {
        Some(_) => format!("{}/", project_of(&call)?),
        None => format!("{}/", call.arrival.path.segments().last().map_or("", String::as_str)),
    };
    Ok(respond::redirect(StatusCode::MOVED_PERMANENTLY, &with_format(&call, target)))
}

/// Keeps the representation that was asked for in the query.
fn with_format(call: &Call, target: String) -> String {
    match call.arrival.query.first("format") {
        Some(format) => format!("{target}?format={}", utf8_percent_encode(format, NON_ALPHANUMERIC)),
        None => target,
    }
}

fn representation(call: &Call) -> Result<Representation, Refusal> {
    let accept = accept(&call.arrival.headers);
    negotiate(accept.as_deref(), call.arrival.query.first("format"))
        .map_err(|error| Refusal::new(StatusCode::NOT_ACCEPTABLE, error.to_string()))
}

/// All `Accept` lines as one.
fn accept(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}
