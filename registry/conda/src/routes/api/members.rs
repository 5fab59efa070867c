//! `/api/channels/CHANNEL/members` and `…/packages/PACKAGE/members`.

use std::sync::Arc;

use granary_core::{Action, Format, PackagePattern, SubjectName};
use granary_http::{Call, Refusal};
use granary_store::ChangedByApi;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::channels::refused;
use super::users::UserTold;
use super::{Answer, absent, created, done, ok, param, read_body};
use crate::api::error::ApiError;
use crate::api::members::{self, MemberError, MemberRole};
use crate::api::page;
use crate::state::Conda;

#[derive(Debug, Serialize)]
struct MemberTold {
    role: MemberRole,
    user: UserTold,
}

fn told(call: &Call, package: Option<&str>) -> Answer {
    let members = members::members(call.channel()?.grants.iter(), package);
    let told = |(name, role): (&str, MemberRole)| MemberTold { role, user: UserTold::of(name) };
    ok(&members.into_iter().map(told).collect::<Vec<_>>())
}

/// `GET /api/channels/CHANNEL/members`.
pub(super) async fn list(_: Arc<Conda>, call: Call) -> Answer {
    told(&call, None)
}

/// `GET /api/channels/CHANNEL/packages/PACKAGE/members`.
pub(super) async fn list_of_package(state: Arc<Conda>, call: Call) -> Answer {
    let package = present(&state, &call, Action::Publish).await?;
    told(&call, Some(&package))
}

/// The package that the path names, which is there and which the caller may do this to.
pub(super) async fn present(state: &Conda, call: &Call, action: Action) -> Result<String, ApiError> {
    let package = param(call, "package");
    call.check(action, Some(package))?;
    let channel = call.channel()?;
    if state.named(channel, package).await?.is_none() {
        return Err(absent(call, format!("Package {}/{package} not found", channel.name))?.into());
    }
    Ok(package.to_owned())
}

/// Somebody with a role, as a body names them; they have an account.
async fn read_member(call: &mut Call) -> Result<(SubjectName, MemberRole), ApiError> {
    let mut fields = read_body(call).await?;
    let username = fields.required_text("username");
    let role = fields.required_text("role");
    let read = MemberRole::read(&role);
    if read.is_none() && fields.has("role") {
        fields.mismatch("role", MemberRole::PATTERN);
    }
    fields.finish()?;
    let role = read.ok_or_else(|| ApiError::unprocessable("a member needs a role"))?;
    let user = call.arrival.services.identity.find_user(&username).await?;
    let user = user.ok_or_else(|| Refusal::not_found(format!("user {username} not found")))?;
    Ok((user.name, role))
}

fn member_refusal(error: &MemberError) -> Refusal {
    let message = error.to_string();
    match error {
        MemberError::OfResource(_) => Refusal::forbidden(message),
        MemberError::Unknown(_) => Refusal::not_found(message),
        MemberError::TooMany => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message),
    }
}

/// `POST /api/channels/CHANNEL/members`: makes somebody a member, or gives a member another role.
pub(super) async fn add(state: Arc<Conda>, mut call: Call) -> Answer {
    let (name, role) = read_member(&mut call).await?;
    let entry = call.audit_entry("set member", None, json!({ "user": name, "role": role }));
    let change = |changed: &mut ChangedByApi| {
        let before = changed.grants.clone();
        members::set((&mut changed.grants, &changed.of_resource), &name, None, role)
            .map_err(|error| member_refusal(&error))?;
        Ok(before != changed.grants)
    };
    let channel = &call.channel()?.name;
    state.store.change_by_api(Format::Conda, channel, &entry, change).await.map_err(refused)?;
    created(&Value::Null)
}

/// `DELETE /api/channels/CHANNEL/members?username=USER`.
pub(super) async fn take(state: Arc<Conda>, call: Call) -> Answer {
    let username = page::required(&call.arrival.query, "username")?;
    let name: SubjectName =
        username.parse().map_err(|_| Refusal::not_found(format!("user {username} not found")))?;
    let is_known = call.arrival.services.identity.find_user(username).await?.is_some();
    let entry = call.audit_entry("remove member", None, json!({ "user": name }));
    let channel = &call.channel()?.name;
    let change = |changed: &mut ChangedByApi| {
        let removed = members::remove((&mut changed.grants, &changed.of_resource), &name, None);
        removed.map(|()| true).map_err(|error| match error {
            MemberError::Unknown(_) if !is_known => Refusal::not_found(format!("user {name} not found")),
            MemberError::Unknown(_) => {
                Refusal::not_found(format!("user {name} is not a member of channel {channel}"))
            }
            error => member_refusal(&error),
        })
    };
    state.store.change_by_api(Format::Conda, channel, &entry, change).await.map_err(refused)?;
    done()
}

/// `POST /api/channels/CHANNEL/packages/PACKAGE/members`: by an owner of the channel or of the package.
pub(super) async fn add_to_package(state: Arc<Conda>, mut call: Call) -> Answer {
    let (name, role) = read_member(&mut call).await?;
    let package = present(&state, &call, Action::Publish).await?;
    if !members::owns_package(&call.channel()?.grants, &call.caller.principal, &package) {
        call.check(Action::Administer, None)?;
    }
    let pattern: PackagePattern =
        package.parse().map_err(|_| Refusal::not_found("there is no such package"))?;
    let detail = json!({ "user": name, "role": role });
    let entry = call.audit_entry("set member", Some(&package), detail);
    let channel = &call.channel()?.name;
    let change = |changed: &mut ChangedByApi| {
        if members::members(&changed.grants, Some(&package)).contains_key(name.as_str()) {
            return Err(Refusal::conflict(format!("Member {name} in {channel}/{package} exists")));
        }
        members::set((&mut changed.grants, &changed.of_resource), &name, Some(&pattern), role)
            .map_err(|error| member_refusal(&error))?;
        Ok(true)
    };
    state.store.change_by_api(Format::Conda, channel, &entry, change).await.map_err(refused)?;
    created(&Value::Null)
}
