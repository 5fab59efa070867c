//! `GET /api/dummylogin/USER`: logs a browser in as one of the users that `granary dev` makes for trying things out. Nowhere
//! else is anybody logged in by it.

use std::sync::Arc;

use granary_http::credentials::{session_cookie, set_cookie};
use granary_http::{Call, Refusal, respond};
use http::StatusCode;

use super::{Answer, param, whence};
use crate::state::{Conda, TEST_USERS};

pub(super) async fn log_in(state: Arc<Conda>, call: Call) -> Answer {
    let name = param(&call, "user");
    let unknown = || Refusal::not_found(format!("User '{name}' not found"));
    let identity = &call.arrival.services.identity;
    if !state.api.as_ref().is_some_and(|api| api.test_users) || !TEST_USERS.contains(&name) {
        return Err(unknown().into());
    }
    let user = identity.find_user(name).await?.ok_or_else(unknown)?;
    let session = identity.session_of_test_user(user.name, &whence(&call)).await?;
    let mut response = respond::redirect(StatusCode::TEMPORARY_REDIRECT, "/");
    let scheme = call.arrival.origin.scheme;
    let (name, lifetime) = (session_cookie(scheme), identity.session_lifetime());
    set_cookie(&mut response, scheme, name, session.token.expose(), lifetime);
    Ok(response)
}
