//! Small responses, and header values that cannot be anything but values.

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::Body;

/// `text/plain`.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// `text/html`.
pub const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Tells browsers to believe the `Content-Type`.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A response without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A response of bytes in memory.
pub fn content(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::bytes(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// A response of plain text; a line break is added.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut text = text.into();
    text.push('\n');
    content(status, TEXT, text)
}

/// A response of JSON.
///
/// # Errors
/// When the value cannot be written as JSON (a map whose keys are no text).
pub fn json<T: Serialize + ?Sized>(
    status: StatusCode,
    value: &T,
) -> Result<Response<Body>, serde_json::Error> {
    Ok(content(status, JSON, serde_json::to_vec(value)?))
}

/// Sends the client to another URL.
pub fn redirect(status: StatusCode, url: &str) -> Response<Body> {
    let mut response = empty(status);
    response.headers_mut().insert(LOCATION, url_value(url));
    // Where it leads may change, and may depend on who asks.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// `405`, with the methods that there are.
pub fn method_not_allowed(allow: &[Method]) -> Response<Body> {
    let names: Vec<&str> = allow.iter().map(Method::as_str).collect();
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method");
    response.headers_mut().insert(ALLOW, value(&names.join(", ")));
    response
}

/// Says when to try again; a part of a second counts as a whole one.
#[must_use]
pub fn retry_after(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// What may not stand in a header that holds a URL.
const NO_URL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a name may hold without being encoded (RFC 8187's `attr-char`).
const NO_ATTRIBUTE: &AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A URL as a header value: what has no place in a URL is percent-encoded.
pub fn url_value(url: &str) -> HeaderValue {
    value(&utf8_percent_encode(url, NO_URL).to_string())
}

/// Any text as a header value: control characters and what is not ASCII become `?`.
pub fn value(text: &str) -> HeaderValue {
    let clean = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    match HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => value,
        _ => {
            let text: String = text.chars().map(clean).collect();
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
        }
    }
}

/// `Content-Disposition` that has a browser save the file under this name (RFC 6266).
pub fn attachment(file_name: &str) -> HeaderValue {
    let plain = |c: char| c.is_ascii_alphanumeric() || " !#$&+-.^_`|~()@,=".contains(c);
    let fallback: String = file_name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut header = format!("attachment; filename=\"{fallback}\"");
    if fallback != file_name {
        // Writing to a string cannot fail.
        let _ = write!(header, "; filename*=UTF-8''{}", utf8_percent_encode(file_name, NO_ATTRIBUTE));
    }
    value(&header)
}
