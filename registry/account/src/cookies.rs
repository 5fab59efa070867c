//! The two cookies: of a session, and of a browser that is about to log in.

use granary_http::credentials::{cookie, session_cookie, set_cookie};
use granary_http::proxy::Scheme;
use granary_http::{Body, Call, Refusal};
use granary_identity::{LOGIN_LIFETIME, Session, Unguessable};
use http::Response;
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
    set_cookie(response, scheme, login_cookie(scheme), browser.expose(), LOGIN_LIFETIME);
}

/// Has the browser keep a session that has just begun until it ends, and forget what told it from others before.
pub(crate) fn keep_session(response: &mut Response<Body>, call: &Call, session: &Session) {
    let scheme = call.arrival.origin.scheme;
    let lifetime = call.arrival.services.identity.session_lifetime();
    set_cookie(response, scheme, session_cookie(scheme), session.token.expose(), lifetime);
    set_cookie(response, scheme, login_cookie(scheme), "", SignedDuration::ZERO);
}

/// Has the browser forget its session.
pub(crate) fn forget_session(response: &mut Response<Body>, call: &Call) {
    let scheme = call.arrival.origin.scheme;
    set_cookie(response, scheme, session_cookie(scheme), "", SignedDuration::ZERO);
}
