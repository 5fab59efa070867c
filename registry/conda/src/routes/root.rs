//! `/get/CHANNEL/FILE`: what is about a channel as a whole.

use std::sync::Arc;

use granary_http::{Body, Call, Refusal};
use http::Response;

use super::get::absent;
use crate::state::Conda;

/// `GET` and `HEAD` of anything at the root of a channel.
pub(super) async fn file(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let file = call.arrival.params.get("file").unwrap_or_default().to_owned();
    state.elsewhere(&call, None, &file).await?.ok_or_else(absent)
}
