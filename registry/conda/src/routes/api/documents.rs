//! `/openapi.json` and `/docs`: what can be asked, for programs and for people. The page needs no scripts and nothing from
//! elsewhere; what needs neither a variable in its path nor another method than a form has can be sent from it.

use std::sync::Arc;

use granary_http::{Call, csrf, respond};
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode};
use maud::{DOCTYPE, Markup, html};

use super::{Answer, ok};
use crate::api::operations::{Content, OPERATIONS, Operation, openapi};
use crate::state::Conda;

/// Nothing is loaded, forms lead to ourselves, and no other page has this one in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// `GET /openapi.json`.
pub(super) async fn document(_: Arc<Conda>, _: Call) -> Answer {
    ok(&openapi(env!("CARGO_PKG_VERSION")))
}

/// A form that sends it, where a form can.
fn form(operation: &Operation, csrf: Option<&str>) -> Markup {
    let path = operation.path.trim_start_matches('/');
    let is_plain = !path.contains('{');
    html! {
        @match (operation.method, operation.body, csrf) {
            ("get", _, _) if is_plain => form action=(path) {
                @for name in operation.query {
                    @let required = name.ends_with('!');
                    label { (name.trim_end_matches('!')) " " input name=(name.trim_end_matches('!')) required[required]; } " "
                }
                button { "Send" }
            },
            ("post", Content::Json(example), Some(csrf)) if is_plain => form method="post" action=(path) {
                input type="hidden" name=(csrf::FIELD) value=(csrf);
                p { textarea name="body" rows="4" cols="90" aria-label="Body" { (example) } }
                button { "Send" }
            },
            (_, Content::Json(example), _) => pre { (example) },
            (_, Content::Files(field), _) => p { "A form (multipart/form-data) with files in the field " code { (field) } "." },
            (_, Content::Package, _) => p { "The body is the package." },
            _ => @if !operation.query.is_empty() {
                p { "In the query: " code { (operation.query.join(", ").replace('!', "")) } "." }
            },
        }
    }
}

/// `GET /docs`.
pub(super) async fn page(_: Arc<Conda>, call: Call) -> Answer {
    let token = csrf::token_of(&call.arrival);
    let csrf = token.as_ref().map(granary_identity::CsrfToken::expose);
    let mut tags: Vec<&str> = OPERATIONS.iter().map(|operation| operation.tag).collect();
    tags.dedup();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "The API of conda channels" }
            }
            body {
                h1 { "The API of conda channels" }
                p {
                    "The same for programs: " a href="openapi.json" { "openapi.json" } ". Send a key in the header "
                    code { "X-API-Key" } ", as a bearer token, or as a password. "
                    @if csrf.is_some() { "You are logged in as " strong { (call.caller.actor()) } "." }
                    @else { a href=(format!("{}/-/login", call.arrival.origin.prefix)) { "Log in" } " to send requests from this page." }
                }
                @for tag in tags {
                    section {
                        h2 { (tag) }
                        @for operation in OPERATIONS.iter().filter(|operation| operation.tag == tag) {
                            details {
                                summary { code { (operation.method.to_uppercase()) " " (operation.path) } " " (operation.summary) }
                                (form(operation, csrf))
                            }
                        }
                    }
                }
            }
        }
    };
    let mut response = respond::content(StatusCode::OK, respond::HTML, page.into_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
