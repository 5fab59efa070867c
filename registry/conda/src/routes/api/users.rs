//! `/api/me`, `/api/users`: accounts of the registry, as Quetz tells of its users.

use std::sync::Arc;

use granary_core::{Format, SubjectName};
use granary_http::Call;
use granary_identity::{ServerRole, User};
use granary_store::Channel;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, account, done, ok, param, read_body, whence};
use crate::api::error::ApiError;
use crate::api::ids;
use crate::api::members::{MemberRole, members, packages_of};
use crate::api::page::Part;
use crate::listing::ProfileTold;
use crate::state::Conda;

/// A user, as clients know it.
#[derive(Debug, Serialize)]
pub(super) struct UserTold {
    id: Uuid,
    username: String,
    profile: ProfileTold,
}

impl UserTold {
    pub(super) fn of(name: &str) -> Self {
        Self { id: ids::id("user", name), username: name.to_owned(), profile: ProfileTold::of(name) }
    }
}

fn told(users: &[User]) -> Vec<UserTold> {
    users.iter().map(|user| UserTold::of(user.name.as_str())).collect()
}

/// `GET /api/me`.
pub(super) async fn me(_: Arc<Conda>, call: Call) -> Answer {
    let name = account(&call)?.as_str();
    let profile = ProfileTold::of(name);
    let user = json!({ "id": ids::id("user", name), "username": name });
    ok(&json!({ "name": profile.name, "avatar_url": profile.avatar_url, "user": user }))
}

/// `GET /api/users`.
pub(super) async fn list(_: Arc<Conda>, call: Call) -> Answer {
    let identity = &call.arrival.services.identity;
    let holding = call.arrival.query.first("q").unwrap_or_default();
    let page = identity.see_users(&call.caller, holding, 0, None).await?;
    ok(&told(&page.items))
}

/// `GET /api/paginated/users`.
pub(super) async fn page(_: Arc<Conda>, call: Call) -> Answer {
    let part = Part::of(&call.arrival.query)?;
    let holding = call.arrival.query.first("q").unwrap_or_default();
    let identity = &call.arrival.services.identity;
    let page = identity.see_users(&call.caller, holding, part.skip, part.limit).await?;
    ok(&part.told(told(&page.items), page.total))
}

async fn seen(call: &Call) -> Result<User, ApiError> {
    Ok(call.arrival.services.identity.see_user(&call.caller, param(call, "user")).await?)
}

/// `GET /api/users/USER`.
pub(super) async fn show(_: Arc<Conda>, call: Call) -> Answer {
    ok(&UserTold::of(seen(&call).await?.name.as_str()))
}

/// `DELETE /api/users/USER`: the account may log in no more.
pub(super) async fn end(_: Arc<Conda>, call: Call) -> Answer {
    let identity = &call.arrival.services.identity;
    identity.end_user(&call.caller, param(&call, "user"), &whence(&call)).await?;
    done()
}

/// `GET /api/users/USER/role`.
pub(super) async fn role(_: Arc<Conda>, call: Call) -> Answer {
    ok(&json!({ "role": seen(&call).await?.role }))
}

/// `PUT /api/users/USER/role`.
pub(super) async fn set_role(_: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let text = fields.text("role");
    let roles = [ServerRole::Member, ServerRole::Maintainer, ServerRole::Owner];
    let role = text.as_ref().and_then(|text| roles.into_iter().find(|role| role.as_str() == text));
    if text.is_some() && role.is_none() {
        fields.mismatch("role", MemberRole::PATTERN);
    }
    fields.finish()?;
    let identity = &call.arrival.services.identity;
    identity.set_server_role(&call.caller, param(&call, "user"), role, &whence(&call)).await?;
    done()
}

#[derive(Debug, Serialize)]
struct ChannelRole {
    name: String,
    role: MemberRole,
}

#[derive(Debug, Serialize)]
struct PackageRole {
    name: String,
    channel_name: String,
    role: MemberRole,
}

async fn conda_channels(state: &Conda) -> Result<Vec<Channel>, ApiError> {
    Ok(state.store.directory().of_format(Format::Conda).await?)
}

async fn channel_roles(state: &Conda, name: &SubjectName) -> Result<Vec<ChannelRole>, ApiError> {
    let channels = conda_channels(state).await?;
    let role = |channel: &Channel| {
        let role = *members(channel.grants.iter(), None).get(name.as_str())?;
        Some(ChannelRole { name: channel.name.to_string(), role })
    };
    Ok(channels.iter().filter_map(role).collect())
}

async fn package_roles(state: &Conda, name: &SubjectName) -> Result<Vec<PackageRole>, ApiError> {
    let channels = conda_channels(state).await?;
    let roles = channels.iter().flat_map(|channel| {
        packages_of(&channel.grants, name).into_iter().map(|(package, role)| PackageRole {
            name: package.to_owned(),
            channel_name: channel.name.to_string(),
            role,
        })
    });
    Ok(roles.collect())
}

/// `GET /api/users/USER/channels`: those that a grant names the user for.
pub(super) async fn channels(state: Arc<Conda>, call: Call) -> Answer {
    ok(&channel_roles(&state, &seen(&call).await?.name).await?)
}

/// `GET /api/paginated/users/USER/channels`.
pub(super) async fn channels_page(state: Arc<Conda>, call: Call) -> Answer {
    let part = Part::of(&call.arrival.query)?;
    let roles = channel_roles(&state, &seen(&call).await?.name).await?;
    let total = roles.len();
    ok(&part.told(part.cut(roles), total))
}

/// `GET /api/users/USER/packages`: those that a grant names, and the user for them.
pub(super) async fn packages(state: Arc<Conda>, call: Call) -> Answer {
    ok(&package_roles(&state, &seen(&call).await?.name).await?)
}

/// `GET /api/paginated/users/USER/packages`.
pub(super) async fn packages_page(state: Arc<Conda>, call: Call) -> Answer {
    let part = Part::of(&call.arrival.query)?;
    let roles = package_roles(&state, &seen(&call).await?.name).await?;
    let total = roles.len();
    ok(&part.told(part.cut(roles), total))
}
