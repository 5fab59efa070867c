//! Pages for people who look around: `/get/CHANNEL/` and `/get/CHANNEL/SUBDIR/`. Plain HTML without scripts or styles, so many
//! lines a page whatever the channel holds, and of what the reader may read alone.

use std::sync::Arc;

use granary_http::{Body, Call, Refusal, respond};
use granary_store::DbError;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use super::documents::small_response;
use super::get::absent;
use crate::format::Subdir;
use crate::index::filter_of;
use crate::state::Conda;

/// Lines a page.
const LINES: usize = 200;
/// How many rows are read at a time.
const ROWS: i64 = 500;
/// Nothing is loaded, nothing is sent, and no other page has this one in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file as a page tells it.
struct File {
    filename: String,
    size: i64,
    uploaded_at: Timestamp,
}

/// What leads to a page without the slash at its end has that added: what the page links to is told from there.
pub(super) async fn add_slash(_: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    slash(&call)
}

/// Sends to the same path with a slash, however the client has come to it.
pub(super) fn slash(call: &Call) -> Result<Response<Body>, Refusal> {
    let last = call.arrival.path.segments().last().ok_or_else(absent)?;
    Ok(respond::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{last}/")))
}

/// `GET /get/CHANNEL/`.
pub(super) async fn channel(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let channel = call.channel()?;
    let filter = filter_of(&call)?;
    let subdirs = state.subdirs(channel, filter.as_ref()).await?;
    let mut after = call.arrival.query.first("after").unwrap_or_default().to_owned();
    let mut names: Vec<(String, Value)> = Vec::new();
    let mut is_more = false;
    'pages: loop {
        let page = state.channeldata_after(channel, &after, ROWS, filter.as_ref()).await?;
        for (name, record) in page.names {
            if names.len() == LINES {
                is_more = true;
                break 'pages;
            }
            let record = serde_json::from_str(&record);
            names.push((name, record.map_err(|error| DbError::decode("channeldata", error))?));
        }
        match page.last {
            Some(last) => after = last,
            None => break,
        }
    }
    let settings = &channel.settings;
    let url = call.channel_url(channel);
    let content = html! {
        @if let Some(title) = &settings.title { p { (title) } }
        @if let Some(description) = &settings.description { p { (description) } }
        p { code { "conda install --channel " (url) " PACKAGE" } }
        h2 { "Subdirs" }
        ul { @for subdir in &subdirs { li { a href={ (subdir) "/" } { (subdir) } } } }
        h2 { "Packages" }
        @if names.is_empty() { p { "There are none here that you may read." } } @else {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Version" } th scope="col" { "Subdirs" } th scope="col" { "Summary" } } }
                tbody {
                    @for (name, record) in &names {
                        tr {
                            th scope="row" { (name) }
                            td { (text(record, "version")) }
                            td { (subdirs_of(record)) }
                            td { (text(record, "summary")) }
                        }
                    }
                }
            }
        }
        @if let Some((last, _)) = names.last().filter(|_| is_more) { (next(last)) }
        p { a href="channeldata.json" { "channeldata.json" } ", " a href="rss.xml" { "rss.xml" } }
    };
    page(&call, &channel.name.to_string(), &content).await
}

/// `GET /get/CHANNEL/SUBDIR/`.
pub(super) async fn subdir(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let subdir = call.arrival.params.get("subdir").unwrap_or_default();
    let subdir: Subdir = subdir.parse().map_err(|_| absent())?;
    subdir_page(&state, &call, &subdir).await
}

/// The page of a subdir; absent where there is nothing in it for the reader, but of `noarch`.
pub(super) async fn subdir_page(
    state: &Conda,
    call: &Call,
    subdir: &Subdir,
) -> Result<Response<Body>, Refusal> {
    let channel = call.channel()?;
    let filter = filter_of(call)?;
    if !state.subdirs(channel, filter.as_ref()).await?.contains(subdir) {
        return Err(absent());
    }
    let mut after = call.arrival.query.first("after").unwrap_or_default().to_owned();
    let mut files: Vec<File> = Vec::new();
    let mut is_more = false;
    'pages: loop {
        let params = (channel.id(), subdir.as_str(), after.as_str(), ROWS);
        let rows = state
            .store
            .database()
            .query(&state.documents.files_after, &[&params.0, &params.1, &params.2, &params.3])
            .await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0).map_err(DbError::from)?;
        for row in &rows {
            let name: &str = row.try_get(1).map_err(DbError::from)?;
            if filter.as_ref().is_some_and(|filter| !filter.admits(name)) {
                continue;
            }
            if files.len() == LINES {
                is_more = true;
                break 'pages;
            }
            files.push(File {
                filename: row.try_get(0).map_err(DbError::from)?,
                size: row.try_get(2).map_err(DbError::from)?,
                uploaded_at: row.try_get(3).map_err(DbError::from)?,
            });
        }
    }
    let content = html! {
        p { a href="../" { "All subdirs" } }
        @if files.is_empty() { p { "There are no packages here that you may read." } } @else {
            table {
                thead { tr { th scope="col" { "File" } th scope="col" { "Bytes" } th scope="col" { "Uploaded" } } }
                tbody {
                    @for file in &files {
                        tr {
                            // A file's name has no character that is something else in a URL.
                            th scope="row" { a href=(file.filename) { (file.filename) } }
                            td { (file.size) }
                            td { (file.uploaded_at.strftime("%Y-%m-%d %H:%M UTC")) }
                        }
                    }
                }
            }
        }
        @if let Some(last) = files.last().filter(|_| is_more) { (next(&last.filename)) }
        p {
            a href="repodata.json" { "repodata.json" } ", " a href="repodata.json.zst" { "repodata.json.zst" } ", "
            a href="run_exports.json" { "run_exports.json" }
        }
    };
    page(call, &format!("{} / {subdir}", channel.name), &content).await
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn subdirs_of(record: &Value) -> String {
    let subdirs = record.get("subdirs").and_then(Value::as_array).into_iter().flatten();
    subdirs.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The way to the next page, which begins behind this name. Names need no escape in a URL but for the plus.
fn next(last: &str) -> Markup {
    html! { p { a rel="next" href={ "?after=" (last.replace('+', "%2B")) } { "Next page" } } }
}

async fn page(call: &Call, title: &str, content: &Markup) -> Result<Response<Body>, Refusal> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
            }
            body { main { h1 { (title) } (content) } }
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    small_response(call, page.into_string().into(), "text/html; charset=utf-8", headers).await
}
