//! Terminals that log in by a browser elsewhere: the device authorization grant (RFC 8628).

use std::sync::Arc;

use granary_core::{PackagePattern, Role, TokenScope};
use granary_http::{Body, Call, Query, Refusal, csrf, respond};
use granary_identity::{
    Asked, DeviceAnswer, DeviceError, DeviceRequest, Unguessable, UserCode, UserCodeError,
};
use http::{Response, StatusCode};
use jiff::SignedDuration;
use maud::{Markup, html};
use serde::de::{DeserializeOwned, IntoDeserializer, value};
use serde_json::{Value, json};

use crate::login::{encode, has_session, own_url, whence};
use crate::page::{self, csrf_field, go_to};
use crate::{State, not_stored};

/// What a question for a token names (section 3.4).
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The most channels and packages that a token is narrowed to here.
const MAX_PATTERNS: usize = 32;

/// A refusal as OAuth has it (RFC 6749, section 5.2).
pub(crate) fn shape(refusal: &Refusal) -> Response<Body> {
    let code = match refusal.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "temporarily_unavailable",
        status if status.is_server_error() => "server_error",
        StatusCode::FORBIDDEN => "access_denied",
        _ => "invalid_request",
    };
    let body = json!({ "error": code, "error_description": refusal.message });
    respond::json(refusal.status, &body).unwrap_or_else(|_| respond::empty(refusal.status))
}

async fn form(call: &mut Call) -> Result<Query, Refusal> {
    if !csrf::is_form(&call.arrival.headers) {
        return Err(Refusal::bad_request("send a form: application/x-www-form-urlencoded"));
    }
    csrf::form(&mut call.arrival).await
}

/// `POST /-/device`: a terminal asks for a token, with `client_id` and perhaps `label`, `role`, `channel` and `package` (several
/// times), `expires_in` (seconds).
pub(crate) async fn request(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let form = form(&mut call).await?;
    if form.first("client_id").is_none_or(str::is_empty) {
        return Err(Refusal::bad_request("say which program asks: client_id"));
    }
    let wanted = wanted(&form)?;
    let own = own_url(&call)?;
    let identity = &call.arrival.services.identity;
    let terminal = identity.request_device(&wanted, &whence(&call)).await.map_err(refuse)?;
    let user_code = terminal.user_code.to_string();
    let body = json!({
        "device_code": terminal.device_code.expose(),
        "user_code": user_code,
        "verification_uri": format!("{own}/-/device"),
        "verification_uri_complete": format!("{own}/-/device?user_code={user_code}"),
        "expires_in": terminal.expires_in.as_secs(),
        "interval": terminal.interval,
    });
    Ok(not_stored(crate::ok(&body)?))
}

fn wanted(form: &Query) -> Result<DeviceRequest, Refusal> {
    let bad = |name: &'static str| Refusal::bad_request(format!("{name} is not what it should be"));
    let patterns = |name: &'static str| -> Result<Vec<PackagePattern>, Refusal> {
        let read: Vec<_> = form.all(name).map(str::parse).collect::<Result<_, _>>().map_err(|_| bad(name))?;
        if read.len() > MAX_PATTERNS { Err(bad(name)) } else { Ok(read) }
    };
    let role: Option<Role> = form.first("role").map(read).transpose().map_err(|_| bad("role"))?;
    let seconds: Option<u32> =
        form.first("expires_in").map(str::parse).transpose().map_err(|_| bad("expires_in"))?;
    if seconds == Some(0) {
        return Err(bad("expires_in"));
    }
    Ok(DeviceRequest {
        label: form.first("label").unwrap_or_default().to_owned(),
        scope: TokenScope::of(role, patterns("channel")?, patterns("package")?),
        lifetime: seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds))),
    })
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, value::Error> {
    T::deserialize(text.into_deserializer())
}

/// `POST /-/device/token`: a terminal asks whether somebody said yes.
pub(crate) async fn token(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let form = form(&mut call).await?;
    let answer = |body: Value| {
        Ok(not_stored(respond::json(StatusCode::BAD_REQUEST, &body).map_err(Refusal::internal)?))
    };
    if form.first("grant_type") != Some(GRANT_TYPE) {
        return answer(json!({ "error": "unsupported_grant_type", "error_description": GRANT_TYPE }));
    }
    let code: Option<Unguessable> = form.first("device_code").and_then(|code| code.parse().ok());
    let Some(code) = code else { return answer(json!({ "error": "invalid_grant" })) };
    let services = &call.arrival.services;
    match services.identity.device_token(&code, &whence(&call)).await.map_err(refuse)? {
        DeviceAnswer::Pending => answer(json!({ "error": "authorization_pending" })),
        DeviceAnswer::SlowDown(interval) => answer(json!({ "error": "slow_down", "interval": interval })),
        DeviceAnswer::Denied => answer(json!({ "error": "access_denied" })),
        DeviceAnswer::Expired => answer(json!({ "error": "expired_token" })),
        DeviceAnswer::Granted(granted) => {
            let now = services.store.clock().now();
            let body = json!({
                "access_token": granted.token.expose(),
                "token_type": "Bearer",
                "expires_in": granted.expires_at.duration_since(now).as_secs(),
                "account": granted.account,
            });
            Ok(not_stored(crate::ok(&body)?))
        }
    }
}

/// `GET /-/device?user_code=CODE`: what a terminal asks for, to say yes or no to; without a code, the field to type it into.
pub(crate) async fn show(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let typed = call.arrival.query.first("user_code").filter(|code| !code.trim().is_empty());
    if !has_session(&call) {
        // Only what is a code goes on: the rest of the query is nobody's.
        let code: Option<UserCode> = typed.and_then(|code| code.parse().ok());
        let here = code.map_or_else(|| "/-/device".to_owned(), |code| format!("/-/device?user_code={code}"));
        return Ok(go_to(&call, &format!("/-/login?next={}", encode(&here))));
    }
    let Some(typed) = typed else { return Ok(type_code(&call, None)) };
    let code: UserCode = match typed.parse() {
        Ok(code) => code,
        Err(error) => return Ok(type_code(&call, Some(&UserCodeError::to_string(&error)))),
    };
    let identity = &call.arrival.services.identity;
    match identity.device_request(&call.caller, &code, &whence(&call)).await {
        Ok(asked) => Ok(confirm(&call, &code, &asked)),
        Err(error @ DeviceError::Unknown) => Ok(type_code(&call, Some(&error.to_string()))),
        Err(error) => Err(refuse(error)),
    }
}

fn type_code(call: &Call, problem: Option<&str>) -> Response<Body> {
    let content = html! {
        @if let Some(problem) = problem { p role="alert" { strong { (problem) "." } } }
        form method="get" action=(page::path(call, "/-/device")) {
            p { label { "The code that the terminal shows " input name="user_code" placeholder="BDFG-HJKL" autocomplete="off" required; } }
            p { button { "Go on" } }
        }
    };
    let status = if problem.is_some() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    page::page(status, "Let a terminal in", &content)
}

fn confirm(call: &Call, code: &UserCode, asked: &Asked) -> Response<Body> {
    let button = |decision: &str, label: &str| -> Markup {
        html! {
            form method="post" action=(page::path(call, "/-/device/confirm")) {
                (csrf_field(call))
                input type="hidden" name="user_code" value=(code);
                button name="decision" value=(decision) { (label) }
            }
        }
    };
    let content = html! {
        p { "A terminal asks for a token of " strong { (call.caller.actor()) } ". Go on only if you have just started this yourself, and it shows the code " strong { (code) } "." }
        dl {
            dt { "Label" } dd { (if asked.label.is_empty() { "none" } else { &asked.label }) }
            dt { "From" } dd { (asked.address.as_deref().unwrap_or("an unknown address")) ", at " (asked.requested_at.strftime("%F %T UTC")) }
            dt { "May" } dd { (may(asked.scope.as_ref())) }
            dt { "Ends" } dd { "after " (span(asked.lifetime)) }
        }
        (button("allow", "Allow"))
        (button("refuse", "Refuse"))
    };
    page::page(StatusCode::OK, "Let a terminal in", &content)
}

/// What a token may, in words.
fn may(scope: Option<&TokenScope>) -> String {
    let Some(scope) = scope else { return "everything that you may".to_owned() };
    let patterns = |patterns: &[PackagePattern], what: &str| {
        let names: Vec<&str> = patterns.iter().map(PackagePattern::as_str).collect();
        if names.is_empty() { format!("all {what}") } else { format!("the {what} {}", names.join(", ")) }
    };
    let reaches = scope.reaches().map(|reach| {
        let (channels, packages) =
            (patterns(&reach.channels, "channels"), patterns(&reach.packages, "packages"));
        format!("what a {} may, within what you may: {channels}, {packages}", reach.role.as_str())
    });
    reaches.collect::<Vec<_>>().join("; and ")
}

/// The largest unit that says it exactly enough.
fn span(span: SignedDuration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / (24 * 60), minutes / 60, minutes) {
        (days, ..) if days >= 2 => format!("{days} days"),
        (_, hours, _) if hours >= 2 => format!("{hours} hours"),
        (_, _, minutes) if minutes >= 2 => format!("{minutes} minutes"),
        _ => format!("{} seconds", span.as_secs()),
    }
}

/// `POST /-/device/confirm`: somebody says yes or no.
pub(crate) async fn decide(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    if !has_session(&call) {
        return Err(refuse(DeviceError::NoSession));
    }
    let form = form(&mut call).await?;
    let code: Option<UserCode> = form.first("user_code").and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| refuse(DeviceError::Unknown))?;
    let allow = match form.first("decision") {
        Some("allow") => true,
        Some("refuse") => false,
        _ => return Err(Refusal::bad_request("a decision is allow or refuse")),
    };
    let identity = &call.arrival.services.identity;
    identity.decide_device(&call.caller, &code, allow, &whence(&call)).await.map_err(refuse)?;
    let told = if allow { "The terminal has its token in a moment." } else { "The terminal gets nothing." };
    let content = html! { p { (told) " You may close this page." } };
    Ok(page::page(StatusCode::OK, if allow { "Allowed" } else { "Refused" }, &content))
}

fn refuse(error: DeviceError) -> Refusal {
    let message = error.to_string();
    match error {
        DeviceError::TooMany => Refusal::new(StatusCode::TOO_MANY_REQUESTS, message),
        DeviceError::Label => Refusal::bad_request(message),
        DeviceError::Unknown => Refusal::not_found(message),
        DeviceError::LockedOut { retry_after } => {
            Refusal { retry_after: Some(retry_after), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, message) }
        }
        DeviceError::NoSession => Refusal::forbidden(message),
        DeviceError::Account(error) => crate::tokens::refuse(error),
        DeviceError::Database(error) => error.into(),
    }
}
