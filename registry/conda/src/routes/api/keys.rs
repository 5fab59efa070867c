//! `/api/api-keys`: tokens of the registry, as Quetz tells of its keys. A key's text is told when it is made and never again:
//! lists have its public id in that place.

use std::sync::Arc;

use granary_core::{Action, ChannelName, Format};
use granary_http::{Call, Refusal, respond};
use granary_identity::{AccountError, NewToken, Recognition, TokenInfo, TokenKind, TokenText};
use granary_store::Channel;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::{Answer, account, done, ok, param, read_body};
use crate::api::body::Fields;
use crate::api::error::ApiError;
use crate::api::keys::{self, KeyRole};
use crate::api::members::MemberRole;
use crate::api::times;
use crate::state::Conda;

/// How many roles a key may have: each is looked at with every request.
const MOST_ROLES: usize = 100;

#[derive(Debug, Serialize)]
struct KeyTold {
    description: String,
    time_created: String,
    expire_at: Option<String>,
    roles: Option<Vec<KeyRole>>,
    key: String,
}

fn told(token: TokenInfo) -> KeyTold {
    KeyTold {
        description: token.label,
        time_created: times::day(token.created_at).to_string(),
        expire_at: token.expires_at.map(|end| times::last_day(end).to_string()),
        roles: token.scope.as_ref().map(keys::roles),
        key: token.id,
    }
}

/// `GET /api/api-keys`: one's own.
pub(super) async fn list(_: Arc<Conda>, call: Call) -> Answer {
    let accounts = call.arrival.services.identity.accounts();
    let tokens = accounts.tokens_of(account(&call)?).await?;
    let tokens = tokens.into_iter().filter(|token| token.kind == TokenKind::Api);
    ok(&tokens.map(told).collect::<Vec<_>>())
}

fn read_role(fields: &mut Fields) -> Option<KeyRole> {
    let channel = fields.required_text("channel");
    let package = fields.text("package");
    let role = fields.required_text("role");
    let read = MemberRole::read(&role);
    if read.is_none() && fields.has("role") {
        fields.mismatch("role", MemberRole::PATTERN);
    }
    read.map(|role| KeyRole { channel, package, role })
}

/// Refuses a role that the caller does not have.
async fn check_role(state: &Conda, call: &Call, role: &KeyRole) -> Result<(), ApiError> {
    let unknown = || Refusal::not_found(format!("Channel {} not found", role.channel));
    let name = ChannelName::parse(Format::Conda, &role.channel).map_err(|_| unknown())?;
    let channel = state.store.directory().find(Format::Conda, &name).await?;
    let (principal, package) = (&call.caller.principal, role.package.as_deref());
    let readable = |channel: &Arc<Channel>| channel.allows(principal, Action::Read, package);
    let channel = channel.filter(readable).ok_or_else(unknown)?;
    let needed = match role.role {
        MemberRole::Member => Action::Read,
        MemberRole::Owner if package.is_none() => Action::Administer,
        MemberRole::Maintainer | MemberRole::Owner => Action::Remove,
    };
    if channel.allows(principal, needed, package) {
        return Ok(());
    }
    Err(Refusal::forbidden("No permission").into())
}

/// `POST /api/api-keys`.
pub(super) async fn create(state: Arc<Conda>, mut call: Call) -> Answer {
    let owner = account(&call)?.clone();
    let mut fields = read_body(&mut call).await?;
    let description = fields.required_text("description");
    let expire_at = fields.date("expire_at");
    let roles = fields.objects("roles", read_role).unwrap_or_default();
    if roles.len() > MOST_ROLES {
        fields.senseless("roles", &format!("a key has at most {MOST_ROLES} roles"));
    }
    fields.finish()?;
    for role in &roles {
        check_role(&state, &call, role).await?;
    }
    let scope = keys::scope(&roles);
    let scope = scope.map_err(|error| ApiError::unprocessable(error.to_string()))?;
    let caller = Arc::clone(&call.caller);
    let accounts = call.arrival.services.identity.accounts();
    // What a token makes is within it, and ends with it.
    let maker = match &caller.recognition {
        Recognition::Token(id) => Some(accounts.token(id).await?),
        _ => None,
    };
    let scope = match (scope, caller.principal.scope()) {
        (Some(_), Some(_)) => {
            let message = "a key with roles makes no key with roles: use one without";
            return Err(Refusal::forbidden(message).into());
        }
        (scope, maker) => scope.or_else(|| maker.cloned()),
    };
    let expires_at = expire_at.and_then(times::end_of);
    let expires_at = match (expires_at, maker.as_ref().and_then(|maker| maker.expires_at)) {
        (Some(asked), Some(end)) => Some(asked.min(end)),
        (asked, end) => asked.or(end),
    };
    let token = TokenText::generate(&mut rand::rng());
    let parent = maker.as_ref().map(|maker| maker.id.as_str());
    let new = NewToken { label: &description, scope, expires_at, parent };
    accounts.add_token(&caller.actor(), &owner, &token, &new).await?;
    let mut made = told(accounts.token(token.id()).await?);
    token.expose().clone_into(&mut made.key);
    let mut response = respond::json(StatusCode::CREATED, &made).map_err(Refusal::internal)?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `DELETE /api/api-keys/KEY`: by its text or by its id.
pub(super) async fn revoke(_: Arc<Conda>, call: Call) -> Answer {
    let said = param(&call, "key");
    let parsed: Option<TokenText> = said.parse().ok();
    let id = parsed.as_ref().map_or(said, TokenText::id);
    // A secret is not told again.
    let unknown = || Refusal::not_found(format!("key '{id}' does not exist"));
    let accounts = call.arrival.services.identity.accounts();
    let token = match accounts.token(id).await {
        Err(AccountError::UnknownToken(_)) => return Err(unknown().into()),
        token => token?,
    };
    let is_own = token.account.is_some() && token.account.as_ref() == call.caller.account();
    if !is_own && !call.caller.is_admin() {
        return Err(unknown().into());
    }
    let ends_itself = matches!(&call.caller.recognition, Recognition::Token(own) if **own == *id);
    if call.caller.principal.scope().is_some() && !ends_itself {
        return Err(Refusal::forbidden("a key with roles may end itself alone").into());
    }
    accounts.revoke_token(&call.caller.actor(), id).await?;
    done()
}
