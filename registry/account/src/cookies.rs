//! The two cookies: of a session, and of a browser that is about to log in.

use granary_http::credentials::{cookie, session_cookie};
use granary_http::proxy::Scheme;
use granary_http::{Body, Call, Refusal};
use granary_identity::{LOGIN_LIFETIME, Session, Unguessable};
use http::header::SET_COOKIE;
use http::{HeaderValue, Response};
use jiff::SignedDuration;

/// The cookie that tells a browser from others while it logs in.
const fn login_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Https => "__Host-granary_login",
        Scheme::Http => "granary_login",
    }
}

/// What tells this browser from others; nothing where it brought nothing, or something that is none of ours.
pub(crate) fn browser(call: &Call) -> Result<Option<Unguessable>, Refusal> {
    let name = login_cookie(call.arrival.origin.scheme);
    let value = cookie(&call.arrival.headers, name);
    Ok(value.map_err(|error| Refusal::bad_request(error.to_string()))?.and_then(|value| value.parse().ok()))
}

/// Has the browser keep what tells it from others, for as long as a login may take.
pub(crate) fn keep_browser(response: &mut Response<Body>, call: &Call, browser: &Unguessable) {
    let scheme = call.arrival.origin.scheme;
    set(response, scheme, login_cookie(scheme), browser.expose(), LOGIN_LIFETIME);
}

/// Has the browser keep a session that has just begun until it ends, and forget what told it from others before.
pub(crate) fn keep_session(response: &mut Response<Body>, call: &Call, session: &Session) {
    let scheme = call.arrival.origin.scheme;
    let lifetime = call.arrival.services.identity.session_lifetime();
    set(response, scheme, session_cookie(scheme), session.token.expose(), lifetime);
    set(response, scheme, login_cookie(scheme), "", SignedDuration::ZERO);
}

/// Has the browser forget its session.
pub(crate) fn forget_session(response: &mut Response<Body>, call: &Call) {
    let scheme = call.arrival.origin.scheme;
    set(response, scheme, session_cookie(scheme), "", SignedDuration::ZERO);
}

/// Scripts never see it, other sites' pages send it only where they lead the whole window here, and where the connection is
/// secure it is never sent over another one.
fn set(response: &mut Response<Body>, scheme: Scheme, name: &str, value: &str, lifetime: SignedDuration) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let seconds = lifetime.as_secs().max(0);
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    // Names are ours, and values are letters and digits.
    if let Ok(mut header) = HeaderValue::from_str(&text) {
        header.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, header);
    }
}
