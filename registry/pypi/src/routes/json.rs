//! The JSON pages of projects and releases, in the shape of the public index.

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal};
use http::Response;

use super::{no_such_project, project_of};
use crate::state::PyPi;

/// `/pypi/NAME/json`.
pub(super) async fn project(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    page(&state, &call, false).await
}

/// `/pypi/NAME/VERSION/json`.
pub(super) async fn release(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    page(&state, &call, true).await
}

async fn page(state: &PyPi, call: &Call, of_release: bool) -> Result<Response<Body>, Refusal> {
    let project = project_of(call)?;
    call.check(Action::Read, Some(project.as_str()))?;
    let version = match call.arrival.params.get("version") {
        Some(text) if of_release => Some(text.parse().map_err(|_| no_such_project())?),
        _ => None,
    };
    let document = state.json_page(call, &project, version.as_ref()).await?;
    call.index_response(document.ok_or_else(no_such_project)?, "application/json").await
}
