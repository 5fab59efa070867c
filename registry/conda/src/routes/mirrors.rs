//! Mirrors: synchronising one now, and how that goes.

use std::sync::Arc;

use granary_crds::Source;
use granary_http::{Body, Call, Refusal, respond};
use http::{Response, StatusCode};

use crate::state::Conda;

/// `POST /api/channels/CHANNEL/synchronization`: begins one, as `PUT …/actions` of Quetz does with the action `synchronize`.
pub(super) async fn begin(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    check_mirror(&call)?;
    state.synchronize(call.channel()?).await?;
    progress(state, call).await
}

/// `GET /api/channels/CHANNEL/synchronization`: how the present one goes, or how the last one went.
pub(super) async fn progress(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    check_mirror(&call)?;
    let progress = state.synchronization(call.channel()?).await?;
    respond::json(StatusCode::OK, &progress).map_err(Refusal::internal)
}

fn check_mirror(call: &Call) -> Result<(), Refusal> {
    match &call.channel()?.settings.source {
        Source::Mirror(_) => Ok(()),
        source => {
            let kind = if *source == Source::Hosted { "local" } else { source.as_str() };
            let message = format!("This method is not implemented for {kind} channels");
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
        }
    }
}
