//! The pages for people: plain HTML, without scripts or styles, that nobody can frame.

use granary_http::{Body, Call, Refusal, csrf, respond};
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use maud::{DOCTYPE, Markup, html};

/// Nothing is loaded, forms lead to ourselves, and no other page has this one in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// A page with this title.
pub(crate) fn page(status: StatusCode, title: &str, content: &Markup) -> Response<Body> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
            }
            body {
                h1 { (title) }
                (content)
            }
        }
    };
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // With `no-referrer`, browsers would not say from where a form comes.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    let mut response = respond::content(status, respond::HTML, page.into_string());
    response.headers_mut().extend(headers);
    crate::not_stored(response)
}

/// The field that a form of somebody with a session needs.
pub(crate) fn csrf_field(call: &Call) -> Markup {
    let token = csrf::token_of(&call.arrival);
    html! {
        @if let Some(token) = token { input type="hidden" name=(csrf::FIELD) value=(token.expose()); }
    }
}

/// A refusal as a page.
pub(crate) fn refusal(refusal: &Refusal) -> Response<Body> {
    let content = html! {
        p { (refusal.message) "." }
        @if let Some(wait) = refusal.retry_after { p { "Try again in " (wait.as_secs().max(1)) " s." } }
    };
    page(refusal.status, "This did not work", &content)
}

/// The path of a page of ours as the browser sees it.
pub(crate) fn path(call: &Call, path: &str) -> String {
    format!("{}{path}", call.arrival.origin.prefix)
}

/// Sends the browser to a page of ours by `GET`, whatever it came by.
pub(crate) fn go_to(call: &Call, to: &str) -> Response<Body> {
    crate::not_stored(respond::redirect(StatusCode::SEE_OTHER, &path(call, to)))
}
