//! A person's own tokens. What a token makes is never wider than itself, and ends with it.

use std::sync::Arc;

use granary_core::{PackagePattern, Role, SubjectName, TokenScope};
use granary_http::{Body, Call, Refusal, respond};
use granary_identity::{AccountError, Caller, NewToken, Recognition, TokenKind, TokenText};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::State;

/// How deep tokens may be made by tokens.
const DEEPEST: usize = 4;

/// What somebody asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    label: String,
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    channels: Vec<PackagePattern>,
    #[serde(default)]
    packages: Vec<PackagePattern>,
    #[serde(default)]
    expires_in_seconds: Option<u32>,
    /// Another account: for admins.
    #[serde(default)]
    account: Option<SubjectName>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    label: String,
    scope: Option<TokenScope>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    kind: TokenKind,
}

/// Whose tokens a call is about: the caller's own, or, for an admin, somebody else's.
fn subject<'a>(caller: &'a Caller, asked: Option<&'a SubjectName>) -> Result<&'a SubjectName, Refusal> {
    let own = caller.account().ok_or_else(|| Refusal::forbidden("a workload has no tokens to look after"))?;
    match asked {
        Some(other) if other != own && !caller.is_admin() => {
            Err(Refusal::forbidden("only an admin of the registry may look after somebody else's tokens"))
        }
        Some(other) => Ok(other),
        None => Ok(own),
    }
}

pub(crate) fn refuse(error: AccountError) -> Refusal {
    match error {
        AccountError::Database(error) => error.into(),
        AccountError::Unknown(_) | AccountError::UnknownToken(_) => Refusal::not_found(error.to_string()),
        AccountError::Lifetime(_) => Refusal::bad_request(error.to_string()),
        AccountError::Exists(_) | AccountError::Foreign(_) => Refusal::conflict(error.to_string()),
        AccountError::Password(_) => Refusal::internal(error),
    }
}

/// `GET /-/tokens`: sessions of browsers are among them, told by their `kind`, so that one can end those elsewhere.
pub(crate) async fn list(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let asked = call.arrival.query.first("account").map(str::parse).transpose();
    let asked: Option<SubjectName> = asked.map_err(|_| Refusal::bad_request("there is no such account"))?;
    let account = subject(&call.caller, asked.as_ref())?;
    let tokens = call.arrival.services.identity.accounts().tokens_of(account).await.map_err(refuse)?;
    let listed: Vec<Listed> = tokens
        .into_iter()
        .map(|token| Listed {
            id: token.id,
            label: token.label,
            scope: token.scope,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            kind: token.kind,
        })
        .collect();
    crate::ok(&json!({ "account": account, "tokens": listed }))
}

/// `POST /-/tokens`: makes one; its text is in the answer and nowhere else.
pub(crate) async fn create(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let wanted: Wanted = crate::read_json(&mut call).await?;
    let caller = Arc::clone(&call.caller);
    let account = subject(&caller, wanted.account.as_ref())?;
    let services = &call.arrival.services;
    let accounts = services.identity.accounts();
    let maker = match &caller.recognition {
        Recognition::Token(id) => Some(accounts.token(id).await.map_err(refuse)?),
        _ => None,
    };
    let scope = scope_of(&wanted, caller.principal.scope())?;
    // In whole seconds: what is told is what is stored.
    let now = services.store.clock().now();
    let now = now - SignedDuration::from_nanos(i64::from(now.subsec_nanosecond()));
    let asked = wanted.expires_in_seconds.map(|seconds| now + SignedDuration::from_secs(i64::from(seconds)));
    let expires_at = match (asked, maker.as_ref().and_then(|maker| maker.expires_at)) {
        (Some(asked), Some(end)) => Some(asked.min(end)),
        (asked, end) => asked.or(end),
    };
    let token = TokenText::generate(&mut rand::rng());
    let new = NewToken {
        label: &wanted.label,
        scope,
        expires_at,
        parent: maker.as_ref().map(|maker| maker.id.as_str()),
    };
    accounts.add_token(&caller.actor(), account, &token, &new).await.map_err(refuse)?;
    let made = json!({
        "id": token.id(),
        "token": token.expose(),
        "account": account,
        "scope": new.scope,
        "expiresAt": expires_at,
    });
    Ok(crate::not_stored(respond::json(StatusCode::CREATED, &made).map_err(Refusal::internal)?))
}

/// What the new token is narrowed to: what was asked for, within what its maker has.
fn scope_of(wanted: &Wanted, maker: Option<&TokenScope>) -> Result<Option<TokenScope>, Refusal> {
    let scope = TokenScope::of(wanted.role, wanted.channels.clone(), wanted.packages.clone());
    let Some(scope) = scope else { return Ok(maker.cloned()) };
    let depth = std::iter::successors(maker, |scope| scope.within.as_deref()).count();
    if depth >= DEEPEST {
        return Err(Refusal::bad_request(format!(
            "a token of at most {DEEPEST} narrower ones can be narrowed"
        )));
    }
    Ok(Some(scope.made_by(maker)))
}

/// `DELETE /-/tokens/ID`: ends a token and all that it made.
pub(crate) async fn revoke(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let id = call.arrival.params.get("id").unwrap_or_default();
    let accounts = call.arrival.services.identity.accounts();
    let token = accounts.token(id).await.map_err(refuse)?;
    let is_own = token.account.is_some() && token.account.as_ref() == call.caller.account();
    if !is_own && !call.caller.is_admin() {
        // As if there were none.
        return Err(refuse(AccountError::UnknownToken(id.to_owned())));
    }
    if !call.caller.is_admin() && call.caller.principal.scope().is_some() && !ends_itself(&call.caller, id) {
        return Err(Refusal::forbidden("a narrowed token may end itself alone"));
    }
    accounts.revoke_token(&call.caller.actor(), id).await.map_err(refuse)?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

fn ends_itself(caller: &Caller, id: &str) -> bool {
    matches!(&caller.recognition, Recognition::Token(own) | Recognition::Session(own) if **own == *id)
}
