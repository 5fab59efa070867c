//! Who the registry takes a caller for.

use std::sync::Arc;

use granary_core::{Principal, SubjectName, TokenScope};
use granary_http::{Body, Call, Refusal, csrf};
use granary_identity::{CsrfToken, Recognition};
use http::Response;
use serde::Serialize;

use crate::State;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Who<'a> {
    /// As the audit names them.
    actor: &'a str,
    credential: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a SubjectName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a granary_core::Workload>,
    groups: &'a [SubjectName],
    admin: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a TokenScope>,
    /// What programs in a page of ours have to say to change something, as `X-CSRF-Token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<&'a str>,
}

/// `GET /-/whoami`.
pub(crate) async fn whoami(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let caller = &call.caller;
    let is_session = matches!(caller.recognition, Recognition::Session(_));
    let csrf_token = csrf::token_of(&call.arrival).filter(|_| is_session);
    let mut who = Who {
        actor: &caller.actor(),
        credential: caller.credential(),
        account: caller.account(),
        workload: None,
        groups: &[],
        admin: caller.principal.is_admin(),
        scope: caller.principal.scope(),
        csrf_token: csrf_token.as_ref().map(CsrfToken::expose),
    };
    match &caller.principal {
        Principal::Anonymous => {}
        Principal::User { groups, .. } => who.groups = groups,
        Principal::Workload { workload, .. } => who.workload = Some(workload),
    }
    Ok(crate::not_stored(crate::ok(&who)?))
}
