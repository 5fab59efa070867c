//! `/get/CHANNEL/FILE`: what is said of a channel as a whole.

use std::sync::Arc;

use granary_http::{Body, Call, Refusal};
use http::{HeaderMap, Response};
use serde_json::json;

use super::documents::{Form, JSON, small_response};
use super::get::absent;
use super::pages;
use crate::format::Subdir;
use crate::plugins;
use crate::state::Conda;

/// `GET` and `HEAD` of a document of the channel.
pub(super) async fn file(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let file = call.arrival.params.get("file").unwrap_or_default();
    if let Some(answer) = state.elsewhere(&call, None, file).await? {
        return Ok(answer);
    }
    match Form::of(file) {
        ("channeldata.json", form) => {
            let document = state.channeldata(&call).await?;
            form.stored_response(&state, &call, document, JSON).await
        }
        ("rss.xml", Form::Plain) => {
            let feed = state.rss(&call).await?;
            small_response(&call, feed.into(), "application/rss+xml; charset=utf-8", HeaderMap::new()).await
        }
        ("notices.json", Form::Plain) => notices(&call).await,
        ("index.html", Form::Plain) => pages::channel(state, call).await,
        (subdir, Form::Plain) if subdir.parse::<Subdir>().is_ok() => pages::slash(&call),
        _ => plugins::root_file(&state, &call, file).await?.ok_or_else(absent),
    }
}

/// `notices.json` (CEP 6), from the channel's settings.
async fn notices(call: &Call) -> Result<Response<Body>, Refusal> {
    let notices = &call.channel()?.settings.conda.notices;
    if notices.is_empty() {
        return Err(absent());
    }
    let notices: Vec<_> = notices
        .iter()
        .map(|notice| {
            json!({
                "id": notice.id,
                "message": notice.message,
                "level": notice.level,
                "created_at": notice.created_at,
                // As the CEP names it, and as conda reads it.
                "expires_at": notice.expires_at,
                "expired_at": notice.expires_at,
            })
        })
        .collect();
    small_response(call, json!({ "notices": notices }).to_string().into(), JSON, HeaderMap::new()).await
}
