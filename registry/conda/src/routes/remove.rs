//! Deleting a package, and yanking it: taking it out of the index while whoever knows its URL can still download it.

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal, respond};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::author::Author;
use crate::format::{PackageFile, Subdir};
use crate::state::Conda;
use crate::upstream::check_hosted;

/// `DELETE /api/channels/CHANNEL/packages/PACKAGE/versions/SUBDIR/FILE`, as Quetz has it.
pub(super) async fn delete(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let (subdir, file) = file_of(&state, &call).await?;
    let removed = state.remove(&Author::of(&call), call.channel()?, &subdir, &[file]).await?;
    if removed.is_empty() {
        return Err(absent());
    }
    respond::json(StatusCode::OK, &Value::Null).map_err(Refusal::internal)
}

/// `PUT …/versions/SUBDIR/FILE/yank`.
pub(super) async fn yank(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    set_yanked(&state, &call, true).await
}

/// `DELETE …/versions/SUBDIR/FILE/yank`.
pub(super) async fn unyank(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    set_yanked(&state, &call, false).await
}

async fn set_yanked(state: &Conda, call: &Call, yanked: bool) -> Result<Response<Body>, Refusal> {
    let (subdir, file) = file_of(state, call).await?;
    state.set_yanked(&Author::of(call), call.channel()?, &subdir, &[file], yanked).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// The file that the path names, which is there and may be removed by the caller.
async fn file_of(state: &Conda, call: &Call) -> Result<(Subdir, PackageFile), Refusal> {
    let param = |name: &str| call.arrival.params.get(name).unwrap_or_default();
    call.check(Action::Remove, Some(param("package")))?;
    check_hosted(call.channel()?)?;
    let subdir: Subdir = param("subdir").parse().map_err(|_| absent())?;
    let file: PackageFile = param("file").parse().map_err(|_| absent())?;
    if file.name().as_str() != param("package") {
        return Err(absent());
    }
    state.file(call.channel()?, &subdir, &file).await?.ok_or_else(absent)?;
    Ok((subdir, file))
}

fn absent() -> Refusal {
    Refusal::not_found("there is no such package in this channel")
}
