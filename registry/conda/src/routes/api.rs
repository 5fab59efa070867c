//! The routes of the API that Quetz' clients know, and what their handlers have in common.

mod channels;
mod copy;
mod dev;
mod documents;
mod jobs;
mod keys;
mod members;
mod metrics;
mod packages;
mod search;
mod users;
mod versions;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use granary_core::{Action, SubjectName};
use granary_http::{Access, Body, Call, Freshness, Protocol, Refusal, csrf, respond};
use granary_identity::{Recognition, Whence};
use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::api::body::Fields;
use crate::api::error::ApiError;
use crate::index::filter_of;
use crate::state::Conda;

/// The largest JSON body, in bytes.
const MAX_BODY: u64 = 256 << 10;

/// What a handler answers.
type Answer = Result<Response<Body>, ApiError>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>;

/// A handler of the API as one of the protocol: problems with the input become an answer.
fn api<H, R>(handler: H) -> impl Fn(Arc<Conda>, Call) -> Answering + Copy + Send + Sync + 'static
where
    H: Fn(Arc<Conda>, Call) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    move |state, call| -> Answering {
        let answer = handler(state, call);
        Box::pin(async move { answer.await.or_else(ApiError::answer) })
    }
}

/// Adds the routes.
pub(super) fn routes(protocol: Protocol, state: &Arc<Conda>) -> Protocol {
    documents_of(channels_of(people(protocol, state), state), state)
}

/// Users, their keys and their jobs.
fn people(protocol: Protocol, s: &Arc<Conda>) -> Protocol {
    const LOGGING_IN: Access = Access::Open("it is how one logs in, where `granary dev` serves");
    let (own, now) = (Access::Authenticated, Freshness::Now);
    let user_channels = "/api/paginated/users/{user}/channels";
    let user_packages = "/api/paginated/users/{user}/packages";
    protocol
        .route(Method::GET, "/api/dummylogin/{user}", LOGGING_IN, now, s, api(dev::log_in))
        .route(Method::GET, "/api/me", own, now, s, api(users::me))
        .route(Method::GET, "/api/users", own, now, s, api(users::list))
        .route(Method::GET, "/api/paginated/users", own, now, s, api(users::page))
        .route(Method::GET, "/api/users/{user}", own, now, s, api(users::show))
        .route(Method::DELETE, "/api/users/{user}", own, now, s, api(users::end))
        .route(Method::GET, "/api/users/{user}/role", own, now, s, api(users::role))
        .route(Method::PUT, "/api/users/{user}/role", own, now, s, api(users::set_role))
        .route(Method::GET, "/api/users/{user}/channels", own, now, s, api(users::channels))
        .route(Method::GET, user_channels, own, now, s, api(users::channels_page))
        .route(Method::GET, "/api/users/{user}/packages", own, now, s, api(users::packages))
        .route(Method::GET, user_packages, own, now, s, api(users::packages_page))
        .route(Method::GET, "/api/api-keys", own, now, s, api(keys::list))
        .route(Method::POST, "/api/api-keys", own, now, s, api(keys::create))
        .route(Method::DELETE, "/api/api-keys/{key}", own, now, s, api(keys::revoke))
        .route(Method::GET, "/api/jobs", own, now, s, api(jobs::list))
        .route(Method::POST, "/api/jobs", own, now, s, api(jobs::create))
        .route(Method::GET, "/api/jobs/{job}", own, now, s, api(jobs::show))
        .route(Method::PATCH, "/api/jobs/{job}", own, now, s, api(jobs::change))
        .route(Method::GET, "/api/jobs/{job}/tasks", own, now, s, api(jobs::tasks))
}

/// Channels, their members and their packages.
fn channels_of(protocol: Protocol, s: &Arc<Conda>) -> Protocol {
    const LISTED: Access = Access::Open("each entry is listed for those who may read it");
    let [read, publish, remove, administer] = Action::ALL.map(Access::Channel);
    let (own, now) = (Access::Authenticated, Freshness::Now);
    let (channel, members) = ("/api/channels/{channel}", "/api/channels/{channel}/members");
    let packages = "/api/channels/{channel}/packages";
    let packages_page = "/api/paginated/channels/{channel}/packages";
    let package = "/api/channels/{channel}/packages/{package}";
    let package_members = "/api/channels/{channel}/packages/{package}/members";
    let versions = "/api/channels/{channel}/packages/{package}/versions";
    let versions_page = "/api/paginated/channels/{channel}/packages/{package}/versions";
    let version = "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}";
    let copy = "/api/channels/{channel}/packages/copy";
    let series = "/metrics/channels/{channel}/packages/{package}/versions/{subdir}/{file}";
    protocol
        .route(Method::GET, "/api/channels", LISTED, now, s, api(channels::list))
        .route(Method::POST, "/api/channels", own, now, s, api(channels::create))
        .route(Method::GET, "/api/paginated/channels", LISTED, now, s, api(channels::page))
        .route(Method::GET, "/api/packages/search/", LISTED, now, s, api(search::packages))
        .route(Method::GET, "/api/channels/search/", LISTED, now, s, api(search::channels))
        .route(Method::GET, channel, read, now, s, api(channels::show))
        .route(Method::PATCH, channel, administer, now, s, api(channels::change))
        .route(Method::DELETE, channel, administer, now, s, api(channels::end))
        .route(Method::PUT, "/api/channels/{channel}/actions", remove, now, s, api(jobs::act))
        .route(Method::GET, members, remove, now, s, api(members::list))
        .route(Method::POST, members, administer, now, s, api(members::add))
        .route(Method::DELETE, members, administer, now, s, api(members::take))
        .route(Method::GET, packages, read, now, s, api(packages::list))
        .route(Method::POST, packages, publish, now, s, api(packages::announce))
        .route(Method::GET, packages_page, read, now, s, api(packages::page))
        .route(Method::POST, copy, publish, now, s, api(copy::copy))
        .route(Method::GET, package, read, now, s, api(packages::show))
        .route(Method::DELETE, package, remove, now, s, api(packages::end))
        .route(Method::GET, package_members, publish, now, s, api(members::list_of_package))
        .route(Method::POST, package_members, publish, now, s, api(members::add_to_package))
        .route(Method::GET, versions, read, now, s, api(versions::list))
        .route(Method::GET, versions_page, read, now, s, api(versions::page))
        .route(Method::GET, version, read, now, s, api(versions::show))
        .route(Method::GET, "/metrics/channels/{channel}", read, now, s, api(metrics::of_channel))
        .route(Method::GET, series, read, now, s, api(metrics::of_version))
}

/// What can be asked.
fn documents_of(protocol: Protocol, s: &Arc<Conda>) -> Protocol {
    const NOT_SECRET: Access = Access::Open("it says what there is to ask, and nothing of what is there");
    let now = Freshness::Now;
    protocol.route(Method::GET, "/openapi.json", NOT_SECRET, now, s, api(documents::document)).route(
        Method::GET,
        "/docs",
        NOT_SECRET,
        now,
        s,
        api(documents::page),
    )
}

fn param<'c>(call: &'c Call, name: &str) -> &'c str {
    call.arrival.params.get(name).unwrap_or_default()
}

fn ok(body: &impl Serialize) -> Answer {
    Ok(respond::json(StatusCode::OK, body).map_err(Refusal::internal)?)
}

fn created(body: &impl Serialize) -> Answer {
    Ok(respond::json(StatusCode::CREATED, body).map_err(Refusal::internal)?)
}

/// What is done is answered by `null`, as the clients know it.
fn done() -> Answer {
    ok(&Value::Null)
}

/// The JSON body, whatever its type says. A form of the page of documents has it in a field.
async fn read_body(call: &mut Call) -> Result<Fields, ApiError> {
    let has_session = matches!(call.caller.recognition, Recognition::Session(_));
    if has_session && csrf::is_form(&call.arrival.headers) {
        let form = csrf::form(&mut call.arrival).await?;
        if let Some(body) = form.first("body") {
            return Fields::of_body(body.as_bytes());
        }
    }
    let body = call.arrival.take_body().collect(MAX_BODY).await.map_err(Refusal::from)?;
    Fields::of_body(&body)
}

fn whence(call: &Call) -> Whence<'_> {
    Whence { address: call.arrival.origin.client, request_id: &call.arrival.request_id }
}

/// The caller's account. Workloads have none.
fn account(call: &Call) -> Result<&SubjectName, ApiError> {
    let none = || Refusal::forbidden("a workload has no account: ask for this as a user");
    Ok(call.caller.account().ok_or_else(none)?)
}

/// What is not there; for who may not read everything, in the same words as what is hidden.
fn absent(call: &Call, message: String) -> Result<Refusal, Refusal> {
    Ok(match filter_of(call)? {
        None => Refusal::not_found(message),
        Some(_) => call.unknown("there is no such thing in this channel"),
    })
}
