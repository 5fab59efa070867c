//! What somebody may ask of a registry about themselves, whatever the protocol: who they are, their tokens, what they may;
//! for admins the audit; logging in with a browser, and for terminals by one; and for workloads the exchange of a signed token
//! for one of ours.
//!
//! The routes are mounted at the root of every host, below `/-/`, where no channel can be, and `/_/oidc/`, where clients that
//! publish by a signed token look for them.

mod audit;
mod cookies;
mod device;
mod explain;
mod login;
mod next;
mod oidc;
mod page;
mod tokens;
mod whoami;

use std::sync::Arc;

use granary_http::pipeline::Arrival;
use granary_http::{Access, Body, Call, Freshness, Protocol, Refusal, Routes, respond};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use explain::{Answer, Question, QuestionError, answer};

/// The largest body that is read here, in bytes.
const MAX_BODY: u64 = 64 * 1024;

/// The routes' own state: they have none beside what all requests share.
#[derive(Debug, Default)]
struct State;

/// The routes, to be mounted at the root.
pub fn routes() -> Routes<Arrival> {
    const IN_THE_BODY: Access = Access::Open("the credential is in the body");
    const NOT_SECRET: Access = Access::Open("clients have to know it before they have a credential");
    const LOGGING_IN: Access = Access::Open("it is how one logs in");
    const OWN_CHECK: Access = Access::Open("who has no session is sent to log in, or refused");
    const LOGGING_OUT: Access = Access::Open("who has no session stays without one");
    let (now, state) = (Freshness::Now, &Arc::new(State));
    let machines = Protocol::common(shape)
        .route(Method::GET, "/-/whoami", Access::Authenticated, now, state, whoami::whoami)
        .route(Method::GET, "/-/tokens", Access::Authenticated, now, state, tokens::list)
        .route(Method::POST, "/-/tokens", Access::Authenticated, now, state, tokens::create)
        .route(Method::DELETE, "/-/tokens/{id}", Access::Authenticated, now, state, tokens::revoke)
        .route(Method::GET, "/-/can", Access::Authenticated, now, state, explain::can)
        .route(Method::GET, "/-/audit", Access::Admin, now, state, audit::list)
        .route(Method::GET, "/_/oidc/audience", NOT_SECRET, now, state, oidc::audience)
        .route(Method::POST, "/_/oidc/mint-token", IN_THE_BODY, now, state, oidc::mint_token);
    let people = Protocol::common(page::refusal)
        .route(Method::GET, "/-/login", LOGGING_IN, now, state, login::show)
        .route(Method::POST, "/-/login", IN_THE_BODY, now, state, login::by_password)
        .route(Method::GET, "/-/login/{provider}", LOGGING_IN, now, state, login::begin)
        .route(Method::GET, "/-/login/{provider}/callback", LOGGING_IN, now, state, login::callback)
        .route(Method::POST, "/-/logout", LOGGING_OUT, now, state, login::log_out)
        .route(Method::GET, "/-/device", OWN_CHECK, now, state, device::show)
        .route(Method::POST, "/-/device/confirm", OWN_CHECK, now, state, device::decide);
    let terminals = Protocol::common(device::shape)
        .route(Method::POST, "/-/device", LOGGING_IN, now, state, device::request)
        .route(Method::POST, "/-/device/token", IN_THE_BODY, now, state, device::token);
    machines.into_routes().merge(people.into_routes()).merge(terminals.into_routes())
}

/// Errors are JSON, in the shape that clients of `/_/oidc/` know.
fn shape(refusal: &Refusal) -> Response<Body> {
    let code = refusal.status.canonical_reason().unwrap_or("error").to_lowercase().replace(' ', "-");
    let body = json!({
        "message": refusal.message,
        "errors": [{ "code": code, "description": refusal.message }],
    });
    respond::json(refusal.status, &body).unwrap_or_else(|_| respond::empty(refusal.status))
}

fn ok(body: &impl serde::Serialize) -> Result<Response<Body>, Refusal> {
    respond::json(StatusCode::OK, body).map_err(Refusal::internal)
}

/// For what nobody else may see again: no cache keeps it.
fn not_stored(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The JSON body of a request.
async fn read_json<T: DeserializeOwned>(call: &mut Call) -> Result<T, Refusal> {
    let body = call.arrival.take_body().collect(MAX_BODY).await?;
    // An object and nothing else: a list would be read as the fields in their order.
    let read = serde_json::from_slice(&body).map(serde_json::Value::Object).and_then(serde_json::from_value);
    read.map_err(|error| Refusal::bad_request(format!("the body: {error}")))
}
