//! Logging in with a browser, by a password or by an identity provider, and logging out.

use std::borrow::Cow;
use std::sync::Arc;

use granary_http::{Body, Call, Refusal, csrf, respond};
use granary_identity::{
    AuthError, Callback, Credential, CsrfToken, LoginError, ProviderError, Recognition, Session, Unguessable,
    Whence,
};
use http::{Response, StatusCode, Uri};
use maud::html;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::next::{Next, NextError};
use crate::page::{self, csrf_field, go_to};
use crate::{State, cookies};

/// Where somebody is who has logged in and wanted to nothing else.
const HOME: &str = "/-/login";
/// What is said of a wrong name, of a wrong password, and of all that is as good as these.
const WRONG: &str = "The user name or the password is wrong.";

fn next_of(text: Option<&str>) -> Result<Option<Next>, Refusal> {
    let next = text.filter(|text| !text.is_empty()).map(str::parse).transpose();
    next.map_err(|error: NextError| Refusal::bad_request(error.to_string()))
}

pub(crate) fn whence(call: &Call) -> Whence<'_> {
    Whence { address: call.arrival.origin.client, request_id: &call.arrival.request_id }
}

pub(crate) fn has_session(call: &Call) -> bool {
    matches!(call.caller.recognition, Recognition::Session(_))
}

/// As a query encodes it.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, NON_ALPHANUMERIC).into()
}

/// `GET /-/login?next=PATH`: the ways to log in; for who is logged in, who they are, or at once the page to go on with.
pub(crate) async fn show(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let next = next_of(call.arrival.query.first("next"))?;
    if !has_session(&call) {
        return ways(&call, next.as_ref(), None);
    }
    if let Some(next) = next {
        return Ok(go_to(&call, next.as_str()));
    }
    let content = html! {
        p { "You are logged in as " strong { (call.caller.actor()) } "." }
        form method="post" action=(page::path(&call, "/-/logout")) {
            (csrf_field(&call))
            button { "Log out" }
        }
    };
    Ok(page::page(StatusCode::OK, "Logged in", &content))
}

/// The page with all ways to log in.
fn ways(call: &Call, next: Option<&Next>, problem: Option<&str>) -> Result<Response<Body>, Refusal> {
    let browser = cookies::browser(call)?.unwrap_or_else(|| Unguessable::generate(&mut rand::rng()));
    let next = next.map(Next::as_str).unwrap_or_default();
    let query = if next.is_empty() { String::new() } else { format!("?next={}", encode(next)) };
    let providers = call.arrival.services.identity.providers();
    let content = html! {
        @if let Some(problem) = problem { p role="alert" { strong { (problem) } } }
        @for provider in providers.iter() {
            @let name = encode(provider.name().as_str());
            p { a href=(format!("{}{query}", page::path(call, &format!("/-/login/{name}")))) { "Log in with " (provider.title()) } }
        }
        form method="post" action=(page::path(call, "/-/login")) {
            input type="hidden" name=(csrf::FIELD) value=(CsrfToken::of_browser(&browser).expose());
            input type="hidden" name="next" value=(next);
            p { label { "User name " input name="user" autocomplete="username" required; } }
            p { label { "Password " input name="password" type="password" autocomplete="current-password" required; } }
            p { button { "Log in" } }
        }
    };
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = page::page(status, "Log in", &content);
    cookies::keep_browser(&mut response, call, &browser);
    Ok(response)
}

/// `POST /-/login`: by a password, from the form.
pub(crate) async fn by_password(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    if !csrf::is_form(&call.arrival.headers) {
        return Err(Refusal::bad_request("send the form of GET /-/login"));
    }
    let form = csrf::form(&mut call.arrival).await?;
    let browser = cookies::browser(&call)?;
    let token = browser.as_ref().map(CsrfToken::of_browser);
    let said = form.first(csrf::FIELD).unwrap_or_default();
    // Else a page of somebody else could log a browser in as somebody else, who would read what is done there.
    if csrf::is_cross_site(&call.arrival.headers, call.arrival.origin.host.as_deref())
        || !token.is_some_and(|token| token.is(said))
    {
        return Err(Refusal::forbidden("the form is too old, or not from this page; open /-/login again"));
    }
    let next = next_of(form.first("next"))?;
    let field = |name: &str| form.first(name).unwrap_or_default();
    let credential =
        Credential::Basic { user: field("user").to_owned(), password: field("password").to_owned().into() };
    let identity = &call.arrival.services.identity;
    let session = match identity.authenticate(&[credential], call.arrival.origin.client).await {
        Ok(caller) => identity.session_by_password(&caller, &whence(&call)).await,
        Err(error) => Err(error.into()),
    };
    match session {
        Ok(session) => logged_in(&call, &session, next.as_ref().map_or(HOME, Next::as_str)).await,
        Err(LoginError::Auth(error)) if matches!(*error, AuthError::Invalid | AuthError::Signed(_)) => {
            ways(&call, next.as_ref(), Some(WRONG))
        }
        Err(error) => Err(refuse(error)),
    }
}

/// `GET /-/login/PROVIDER?next=PATH`: sends the browser there.
pub(crate) async fn begin(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let provider = call.arrival.params.get("provider").unwrap_or_default();
    let next = next_of(call.arrival.query.first("next"))?;
    // The same for all windows of a browser, so that they do not end each other's logins.
    let browser = cookies::browser(&call)?.unwrap_or_else(|| Unguessable::generate(&mut rand::rng()));
    let redirect_uri = format!("{}/-/login/{}/callback", own_url(&call)?, encode(provider));
    let next = next.as_ref().map_or(HOME, Next::as_str);
    let identity = &call.arrival.services.identity;
    let url = identity.begin_login(provider, &browser, &redirect_uri, next).await.map_err(refuse)?;
    let mut response = crate::not_stored(respond::redirect(StatusCode::SEE_OTHER, url.as_str()));
    cookies::keep_browser(&mut response, &call, &browser);
    Ok(response)
}

/// `GET /-/login/PROVIDER/callback`: the browser comes back.
pub(crate) async fn callback(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let query = &call.arrival.query;
    let state = query.first("state").and_then(|state| state.parse().ok());
    let (Some(state), Some(browser)) = (state, cookies::browser(&call)?) else {
        return Err(refuse(LoginError::State));
    };
    let callback = Callback {
        provider: call.arrival.params.get("provider").unwrap_or_default(),
        state: &state,
        browser: &browser,
        code: query.first("code"),
        error: query.first("error"),
        issuer: query.first("iss"),
    };
    let identity = &call.arrival.services.identity;
    let (session, next) = identity.finish_login(&callback, &whence(&call)).await.map_err(refuse)?;
    logged_in(&call, &session, &next).await
}

/// `POST /-/logout`: ends the session that the request carries. Who has none stays without.
pub(crate) async fn log_out(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let accounts = call.arrival.services.identity.accounts();
    accounts.end_session(&call.caller, &whence(&call)).await.map_err(crate::tokens::refuse)?;
    let mut response = go_to(&call, HOME);
    cookies::forget_session(&mut response, &call);
    Ok(response)
}

/// The session takes the place of the one that the browser had.
async fn logged_in(call: &Call, session: &Session, next: &str) -> Result<Response<Body>, Refusal> {
    let accounts = call.arrival.services.identity.accounts();
    accounts.end_session(&call.caller, &whence(call)).await.map_err(crate::tokens::refuse)?;
    let mut response = go_to(call, next);
    cookies::keep_session(&mut response, call, session);
    Ok(response)
}

/// The URL of this registry as the browser knows it, without a slash at the end: cookies and what comes back belong to the same
/// host. The configured one, where it is that host's.
pub(crate) fn own_url(call: &Call) -> Result<String, Refusal> {
    let origin = &call.arrival.origin;
    let host = origin.host.as_deref().ok_or_else(|| Refusal::bad_request("the request names no host"))?;
    let configured = call.arrival.services.public_urls.common.as_deref();
    let is_its_host = |url: &&str| {
        let url: Option<Uri> = url.parse().ok();
        url.and_then(|url| url.authority().map(|own| own.as_str().eq_ignore_ascii_case(host))) == Some(true)
    };
    let url = configured.filter(is_its_host).map_or_else(|| origin.base_url(), str::to_owned);
    Ok(url.trim_end_matches('/').to_owned())
}

fn refuse(error: LoginError) -> Refusal {
    let message = error.to_string();
    match error {
        LoginError::UnknownProvider => Refusal::not_found(message),
        LoginError::State => Refusal::bad_request(message),
        LoginError::Denied(_) | LoginError::Replayed | LoginError::Disabled(_) => Refusal::forbidden(message),
        LoginError::Taken(_) => Refusal::conflict(message),
        LoginError::Provider { source, .. } => match &source {
            ProviderError::Person(_) | ProviderError::Withheld => Refusal::forbidden(source.to_string()),
            _ if source.is_unavailable() => Refusal::unavailable("the identity provider", source),
            _ => {
                let refusal = Refusal::new(StatusCode::BAD_GATEWAY, format!("{message}: {source}"));
                Refusal { cause: Some(source.into()), ..refusal }
            }
        },
        LoginError::Auth(error) => error.into(),
    }
}
