//! The registry's place in Postgres: a schema with two roles of its own, whose passwords the operator draws and keeps in
//! the Secret `NAME-database`. Postgres is reached through `granary-store` alone.

use std::collections::BTreeMap;

use granary_crds::RegistryObject;
use granary_store::provision::{
    ProvisionSchemaError, Provisioned, SchemaPlan, Turn, Unwritable, ensure_schema, retire_other_role,
    role_url, schema_version,
};
use granary_store::{DatabaseOptions, Store, applied_migrations};
use kube::Client;
use secrecy::{ExposeSecret, SecretString};

use super::credentials::{self, APP_ROLE, DATABASE_PASSWORDS, DATABASE_URLS, Generated, STORE_KEYS};
use super::dereference::Dereferenced;
use super::status::Found;
use super::validate::{DatabasePlan, StorePlan, ValidatedRegistry};
use super::{Standing, Step, unavailable};
use crate::conditions::Reason;
use crate::files::Files;
use crate::labels::Component;
use crate::operator::{Operator, key_of};

/// The name of role and database in the store that the operator runs itself.
const OWN_STORE: &str = "granary";

/// The Secret of the store that the operator runs itself; none where it runs none.
pub(super) async fn ensure_store_secret(
    client: &Client,
    object: &RegistryObject,
    valid: &ValidatedRegistry,
) -> Result<Option<Generated>, kube::Error> {
    if !matches!(valid.store, StorePlan::Own(_)) {
        return Ok(None);
    }
    let name = valid.store_name();
    credentials::ensure_random(client, object, &name, Component::Store, &STORE_KEYS).await.map(Some)
}

/// Makes roles and schema, and the Secret that pods and migrations connect with. Returns the connection string of the
/// owner, past any pooler.
pub(super) async fn provision(
    operator: &Operator,
    object: &RegistryObject,
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    own_store: Option<&Generated>,
    found: &mut Found,
) -> Step<SecretString> {
    let (url, direct_url) = admin_urls(valid, named, own_store)?;
    let direct = direct_url.unwrap_or_else(|| url.clone());
    if matches!(&valid.store, StorePlan::External { database: DatabasePlan { provision: false, .. }, .. }) {
        return Ok(direct);
    }
    let client = &operator.client;
    let secret = valid.database_secret_name();
    let kept = credentials::ensure_random(client, object, &secret, Component::Registry, &DATABASE_PASSWORDS)
        .await
        .map_err(unavailable)?;
    let wanted = valid.rotation.as_ref();
    let access = if wanted.is_some() && wanted != found.rotation() && !kept.is_new {
        RoleAccess::drawn(&kept)
    } else {
        RoleAccess::kept(&kept)
    };
    // Postgres first, then the Secret in one piece. Who dies in between draws again: until then pods go on with the role
    // of before.
    let roles = ensure_roles(object, valid, named, &direct, &access).await.inspect_err(|standing| {
        if let Standing::Waiting(reason) | Standing::Stalled(reason) = standing {
            found.conditions.set("DatabaseReady", false, reason.code, reason.message.clone());
        }
    })?;
    let connect = |url: &SecretString, role: &str, password: &SecretString| {
        role_url(url.expose_secret(), role, password)
            .map_err(|error| Standing::Stalled(Reason::new("DatabaseUrl", granary_core::report(&error))))
    };
    let owner = connect(&direct, &roles.owner_role, &access.owner_password)?;
    let app = connect(&url, &roles.app_role, &access.app_password)?;
    let ([owner_password, app_password], [owner_url, app_url]) = (DATABASE_PASSWORDS, DATABASE_URLS);
    let turn = SecretString::from(access.turn.as_str());
    let values = [
        (owner_password, &access.owner_password),
        (app_password, &access.app_password),
        (APP_ROLE, &turn),
        (owner_url, &owner),
        (app_url, &app),
    ];
    let is_kept =
        |(key, value): &(&str, &SecretString)| kept.get(key).expose_secret() == value.expose_secret();
    if !values.iter().all(is_kept) {
        credentials::set(client, object, &secret, &values).await.map_err(unavailable)?;
    }
    found.rotated(wanted.cloned());
    Ok(owner)
}

/// With which role and passwords a registry reaches its schema.
struct RoleAccess {
    turn: Turn,
    owner_password: SecretString,
    app_password: SecretString,
    is_new: bool,
}

impl RoleAccess {
    /// As the Secret has it.
    fn kept(secret: &Generated) -> Self {
        let [owner, app] = DATABASE_PASSWORDS;
        Self {
            turn: turn_of(secret),
            owner_password: secret.get(owner),
            app_password: secret.get(app),
            is_new: secret.is_new,
        }
    }

    /// New passwords, and for the pods the other role.
    fn drawn(secret: &Generated) -> Self {
        Self {
            turn: turn_of(secret).other(),
            owner_password: credentials::random().into(),
            app_password: credentials::random().into(),
            is_new: true,
        }
    }
}

fn turn_of(secret: &Generated) -> Turn {
    if secret.get(APP_ROLE).expose_secret() == Turn::Second.as_str() { Turn::Second } else { Turn::First }
}

/// Ends what a rotation left for the pods of before, once there are none of them any more.
pub(super) async fn end_rotation(
    operator: &Operator,
    object: &RegistryObject,
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    own_store: Option<&Generated>,
) -> Step<()> {
    let is_given =
        matches!(&valid.store, StorePlan::External { database: DatabasePlan { provision: false, .. }, .. });
    if is_given || valid.rotation.is_none() {
        return Ok(());
    }
    let secret = valid.database_secret_name();
    let kept = credentials::ensure_random(
        &operator.client,
        object,
        &secret,
        Component::Registry,
        &DATABASE_PASSWORDS,
    )
    .await
    .map_err(unavailable)?;
    let (url, direct_url) = admin_urls(valid, named, own_store)?;
    let access = RoleAccess::kept(&kept);
    let (options, plan, _files) =
        schema_plan(object, valid, named, &direct_url.unwrap_or(url), &access).map_err(faulty)?;
    match retire_other_role(&options, &plan).await {
        Ok(_) => Ok(()),
        Err(error) => Err(not_provisioned(&error)),
    }
}

/// The administrator's connection strings: for pods' use, and past any pooler.
fn admin_urls(
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    own_store: Option<&Generated>,
) -> Step<(SecretString, Option<SecretString>)> {
    match (own_store, &named.database_url) {
        (Some(secret), _) => {
            let password = secret.get("postgres-password");
            let host = format!("{}.{}.svc", valid.store_name(), valid.namespace);
            let url = format!(
                "postgresql://{OWN_STORE}:{}@{host}:5432/{OWN_STORE}?sslmode=disable",
                password.expose_secret()
            );
            Ok((SecretString::from(url), None))
        }
        (None, Some(url)) => Ok((url.clone(), named.direct_url.clone())),
        (None, None) => Err(Standing::Stalled(Reason::new("InvalidSpec", "there is no database"))),
    }
}

/// Why a plan could not even be made.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    /// A certificate cannot be put on disk.
    #[error("a file cannot be written")]
    File(#[from] std::io::Error),
    /// The schema has no name that Postgres takes.
    #[error("the schema")]
    Schema(#[from] granary_store::SchemaError),
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn faulty(error: PlanError) -> Standing {
    Standing::Waiting(Reason::new("DatabaseFailed", granary_core::report(&error)))
}

fn schema_plan(
    object: &RegistryObject,
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    admin: &SecretString,
    access: &RoleAccess,
) -> Result<(DatabaseOptions, SchemaPlan, Files), PlanError> {
    let files = Files::new()?;
    let options = DatabaseOptions {
        url: admin.expose_secret().to_owned(),
        schema: valid.schema().as_str().parse()?,
        max_connections: 1,
        ca_file: files.pem("database.pem", named.database_ca.as_deref())?,
        client_certificate: None,
    };
    let plan = SchemaPlan {
        schema: options.schema.clone(),
        owner_id: key_of(object).to_string(),
        owner_password: access.owner_password.clone(),
        app_password: access.app_password.clone(),
        turn: access.turn,
        set_passwords: access.is_new,
    };
    Ok((options, plan, files))
}

async fn ensure_roles(
    object: &RegistryObject,
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    admin: &SecretString,
    access: &RoleAccess,
) -> Step<Provisioned> {
    let (options, plan, _files) = schema_plan(object, valid, named, admin, access).map_err(faulty)?;
    ensure_schema(&options, &plan).await.map_err(|error| not_provisioned(&error))
}

fn not_provisioned(error: &ProvisionSchemaError) -> Standing {
    let message = format!("the database: {}", granary_core::report(error));
    if error.is_unavailable() {
        Standing::Waiting(Reason::new("DatabaseUnavailable", message))
    } else if error.is_conflict() {
        Standing::Stalled(Reason::new("SchemaClaimed", message))
    } else {
        Standing::Waiting(Reason::new("DatabaseRefused", message))
    }
}

/// Whether the schema lacks migrations that the operator itself needs, and how many of each part it has. An error where
/// the operator must not write at all.
pub(super) async fn migrations(store: &Store) -> Result<(bool, BTreeMap<String, i64>), Standing> {
    let failed = |error: granary_store::DbError| {
        let code = if error.is_unavailable() { "DatabaseUnavailable" } else { "DatabaseRefused" };
        Standing::Waiting(Reason::new(code, format!("the database: {}", granary_core::report(&error))))
    };
    let version = schema_version(store.database()).await.map_err(failed)?;
    let applied = applied_migrations(store.database()).await.map_err(failed)?;
    match version.check() {
        Ok(()) => Ok((false, applied)),
        Err(Unwritable::NotMigrated | Unwritable::TooOld { .. }) => Ok((true, applied)),
        Err(error @ Unwritable::TooNew { .. }) => {
            Err(Standing::Stalled(Reason::new("SchemaVersion", granary_core::report(&error))))
        }
    }
}
