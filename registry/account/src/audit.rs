//! The audit, for admins.

use std::sync::Arc;

use granary_http::{Body, Call, Refusal};
use granary_store::{AuditFilter, AuditOutcome, AuditPage};
use http::Response;
use serde_json::json;

use crate::State;

/// How many rows a page has where nobody says.
const PAGE: u16 = 100;

/// `GET /-/audit?actor=…&channel=…&package=…&action=…&outcome=…&since=…&until=…&limit=…&before=…`: newest first. `next` is the
/// `before` of the next page.
pub(crate) async fn list(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let query = &call.arrival.query;
    let text = |name: &str| query.first(name).filter(|text| !text.is_empty());
    let bad = |name: &str| Refusal::bad_request(format!("{name} is not what it should be"));
    let time = |name: &'static str| text(name).map(str::parse).transpose().map_err(|_| bad(name));
    let filter = AuditFilter {
        actor: text("actor").map(str::to_owned),
        channel: text("channel").map(str::to_owned),
        package: text("package").map(str::to_owned),
        action: text("action").map(str::to_owned),
        outcome: match text("outcome") {
            None => None,
            Some("done") => Some(AuditOutcome::Done),
            Some("refused") => Some(AuditOutcome::Refused),
            Some(_) => return Err(bad("outcome")),
        },
        since: time("since")?,
        until: time("until")?,
    };
    let page = AuditPage {
        before: text("before").map(str::parse).transpose().map_err(|_| bad("before"))?,
        limit: text("limit").map(str::parse).transpose().map_err(|_| bad("limit"))?.unwrap_or(PAGE),
    };
    let rows = call.arrival.services.store.audit_log(&filter, page).await?;
    let is_full = rows.len() >= usize::from(page.limit.min(AuditPage::MOST));
    let next = rows.last().filter(|_| is_full).map(|row| row.id);
    crate::ok(&json!({ "rows": rows, "next": next }))
}
