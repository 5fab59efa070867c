//! The routes of content trust: roles and keys for owners, and the documents that clients ask for at a channel's root.

use std::collections::BTreeMap;
use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal, respond};
use granary_store::{Channel, DbError};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::roles::{Role, RoleError, RoleName};
use super::{DOCUMENT, new_key as generate, place};
use crate::plugins::{Small, absent, form};
use crate::state::Conda;

fn bad_request(error: &RoleError) -> Refusal {
    Refusal::bad_request(error.to_string())
}

/// The channel, where it has content trust.
fn trusting(call: &Call) -> Result<Arc<Channel>, Refusal> {
    let channel = Arc::clone(call.channel()?);
    if channel.settings.conda.content_trust { Ok(channel) } else { Err(absent()) }
}

fn flag(call: &Call, name: &'static str) -> Result<bool, Refusal> {
    match call.arrival.query.first(name).unwrap_or("false") {
        "true" | "True" | "1" => Ok(true),
        "false" | "False" | "0" => Ok(false),
        _ => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name} is true or false"))),
    }
}

/// `GET /api/content-trust/CHANNEL/roles?type=…`: what is delegated to which keys; or one document as it was uploaded.
pub(in crate::plugins) async fn roles(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let channel = trusting(&call)?;
    call.check(Action::Read, None)?;
    if let Some(role) = call.arrival.query.first("type") {
        let role: RoleName = role.parse().map_err(|error| bad_request(&error))?;
        return document(&state, &call, role, None).await?.ok_or_else(absent);
    }
    let roles = state.trust_roles(channel.id()).await?;
    let told: BTreeMap<&str, Value> = roles
        .iter()
        .map(|role| {
            let delegations = role.delegations.iter().map(|(to, delegation)| {
                (to.clone(), json!({"pubkeys": delegation.keys, "threshold": delegation.threshold}))
            });
            let delegations: BTreeMap<String, Value> = delegations.collect();
            let told = json!({"version": role.version, "expiration": role.expires.to_string(), "delegations": delegations});
            (role.name.as_str(), told)
        })
        .collect();
    respond::json(StatusCode::OK, &told).map_err(Refusal::internal)
}

/// `POST /api/content-trust/CHANNEL/roles?type=…&force=…`: the form's `file`, or the body itself, is the document.
pub(in crate::plugins) async fn upload_role(
    state: Arc<Conda>,
    mut call: Call,
) -> Result<Response<Body>, Refusal> {
    trusting(&call)?;
    // Whatever else is wrong: a connection whose request was not read to its end cannot be used again.
    let text = form::text(&mut call, "file").await?;
    let name: RoleName =
        call.arrival.query.first("type").unwrap_or_default().parse().map_err(|error| bad_request(&error))?;
    let force = flag(&call, "force")?;
    call.check_again(Action::Administer, None).await?;
    let channel = trusting(&call)?;
    let role = Role::parse(text.as_bytes()).map_err(|error| bad_request(&error))?;
    if role.name != name {
        return Err(bad_request(&RoleError::Type { found: role.name, wanted: name }));
    }
    let roles = state.trust_roles(channel.id()).await?;
    let find = |name: RoleName| roles.iter().find(|role| role.name == name);
    let exists = || {
        Refusal::conflict(format!(
            "Content trust role '{name}' already exists for channel '{}'",
            channel.name
        ))
    };
    if find(name).is_some() && !force {
        return Err(exists());
    }
    let now = state.store.clock().now();
    role.check(find(name), find(name.delegated_by()), now).map_err(|error| bad_request(&error))?;
    let version = i64::try_from(role.version).map_err(|error| DbError::decode("version", error))?;
    let mut tx = state.store.begin().await?;
    let sql = &state.plugins.sql.insert_trust_role;
    let actor = call.caller.actor();
    let params = (channel.id(), name.as_str());
    let inserted =
        tx.execute(sql, &[&params.0, &params.1, &version, &text, &role.expires, &actor, &now]).await?;
    if inserted == 0 {
        tx.rollback().await?;
        return Err(exists());
    }
    tx.touch(channel.scope, DOCUMENT);
    tx.audit(&call.audit_entry("trust-role", None, json!({"role": name.as_str(), "version": version})))
        .await?;
    tx.commit().await?;
    respond::json(StatusCode::CREATED, &Value::Null).map_err(Refusal::internal)
}

/// `POST /api/content-trust/CHANNEL/new-key?secret=…`: makes a key that packages can be signed with, and keeps its private half.
pub(in crate::plugins) async fn new_key(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let channel = trusting(&call)?;
    let with_secret = flag(&call, "secret")?;
    let Some(sealing) = &state.plugins.trust.sealing else {
        return Err(Refusal::conflict(
            "this registry has no key to encrypt private keys with: its administrator sets sealing.keys",
        ));
    };
    let (public, secret) = generate().ok_or_else(|| Refusal::internal("no key could be made"))?;
    let hex = hex::encode(&public);
    let sealed = sealing.seal(&secret, &place(channel.id(), &hex)).map_err(Refusal::internal)?;
    let now = state.store.clock().now();
    let mut tx = state.store.begin().await?;
    let sql = &state.plugins.sql.insert_trust_key;
    tx.execute(sql, &[&channel.id(), &public, &sealed, &call.caller.actor(), &now]).await?;
    tx.touch(channel.scope, DOCUMENT);
    tx.audit(&call.audit_entry("trust-key", None, json!({"key": hex, "told": with_secret}))).await?;
    tx.commit().await?;
    let mut told = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": hex});
    if with_secret {
        told["secret"] = hex::encode(&secret).into();
    }
    respond::json(StatusCode::CREATED, &told).map_err(Refusal::internal)
}

/// `GET /get/CHANNEL/FILE`: `root.json`, `VERSION.root.json`, `VERSION.sv0.6.root.json`, `key_mgr.json`, `pkg_mgr.json`.
pub(in crate::plugins) async fn root_file(
    state: &Conda,
    call: &Call,
    file: &str,
) -> Result<Option<Response<Body>>, Refusal> {
    let (role, version) = match file {
        "root.json" => (RoleName::Root, None),
        "key_mgr.json" => (RoleName::KeyMgr, None),
        "pkg_mgr.json" => (RoleName::PkgMgr, None),
        _ => {
            let stem =
                file.strip_suffix(".root.json").map(|stem| stem.strip_suffix(".sv0.6").unwrap_or(stem));
            let version = stem.filter(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(version) = version.and_then(|version| version.parse().ok()) else { return Ok(None) };
            (RoleName::Root, Some(version))
        }
    };
    if !call.channel()?.settings.conda.content_trust {
        return Ok(None);
    }
    document(state, call, role, version).await
}

/// A role's document as it was uploaded; the newest where no version is named.
async fn document(
    state: &Conda,
    call: &Call,
    role: RoleName,
    version: Option<i64>,
) -> Result<Option<Response<Body>>, Refusal> {
    let (sql, channel) = (&state.plugins.sql.trust_role, call.channel()?.id());
    let row = state.store.database().query_opt(sql, &[&channel, &role.as_str(), &version]).await?;
    let Some(row) = row else { return Ok(None) };
    let document: String = row.try_get(0).map_err(DbError::from)?;
    Small::new(document).respond(call, "application/json", None).await.map(Some)
}
