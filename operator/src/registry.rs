//! `PackageRegistry`: dereference, validate, build, apply, status. One module a step; this one goes from each to the next.

mod apply;
mod build;
mod credentials;
mod database;
mod dereference;
mod rounds;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use granary_core::{ChannelName, Format};
use granary_crds::RegistryObject;
use granary_store::Store;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use self::build::Objects;
use self::dereference::Dereferenced;
use self::status::Found;
pub use self::validate::{AdmittedNamespaces, Defaults};
use self::validate::{Capabilities, Facts, ValidatedRegistry};
use crate::conditions::{Reason, Standing};
use crate::connection::{Access, Connection, Key, Link};
use crate::operator::{Operator, jittered, key_of};

/// The kind, for metrics.
pub const KIND: &str = "PackageRegistry";

/// How long until a registry is looked at again although nothing happened: what Kubernetes does not tell (Secrets that
/// the spec names, objects that are not watched) is found out then.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// How long until a step is looked at that goes on by itself and may not tell.
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(5);

/// A step's result: go on, or stand here.
type Step<T> = Result<T, Standing>;

/// Makes a registry what its object says, as far as that goes now, and writes down how far that is.
pub async fn reconcile(operator: &Arc<Operator>, object: &RegistryObject) -> Result<Action, kube::Error> {
    let key = key_of(object);
    if object.meta().deletion_timestamp.is_some() {
        // What it owns goes with it. Database and buckets are kept.
        rounds::forget(operator, &key);
        return Ok(Action::await_change());
    }
    let measured = operator.metrics.measure(KIND);
    let mut found = Found::new(object, operator.clock.now());
    let standing = match Box::pin(pipeline(operator, &key, object, &mut found)).await {
        Ok(()) => Standing::Ready,
        Err(standing) => standing,
    };
    let look_again = found.look_again.unwrap_or(LOOK_AGAIN);
    let changed = found.write(&operator.client, object, &standing).await?;
    let (action, reason) = match &standing {
        Standing::Ready => {
            operator.recovered(KIND, &key);
            measured.succeeded(operator.clock.now());
            (Action::requeue(jittered(look_again)), Reason::new("Ready", "the registry is as its spec says"))
        }
        Standing::Progressing(reason) => {
            operator.recovered(KIND, &key);
            (Action::requeue(jittered(LOOK_AGAIN_SOON)), reason.clone())
        }
        Standing::Waiting(reason) => {
            measured.failed(reason.code);
            (Action::requeue(operator.back_off(KIND, &key)), reason.clone())
        }
        Standing::Stalled(reason) => {
            measured.failed(reason.code);
            (Action::requeue(jittered(LOOK_AGAIN)), reason.clone())
        }
    };
    if changed {
        let warning = matches!(standing, Standing::Waiting(_) | Standing::Stalled(_));
        tracing::info!(registry = %key, reason = reason.code, message = reason.message, "registry");
        operator.tell(object, warning, &reason).await;
    }
    Ok(action)
}

async fn pipeline(
    operator: &Arc<Operator>,
    key: &Key,
    object: &RegistryObject,
    found: &mut Found,
) -> Step<()> {
    if object.spec.paused {
        return Err(paused(operator, key, found));
    }
    let result = Box::pin(steps(operator, key, object, found)).await;
    if let Err(Standing::Stalled(reason) | Standing::Waiting(reason) | Standing::Progressing(reason)) =
        &result
    {
        // Channels of a registry that was reached before go on as they were.
        if operator.links.get(key).is_none_or(|link| link.connection.is_err()) {
            let connection = Err(reason.clone());
            set_link(operator, key, &Link { admission: None, paused: false, connection });
        }
    }
    result
}

/// Nothing is written while a registry is paused, and nothing that was known is forgotten.
fn paused(operator: &Operator, key: &Key, found: &mut Found) -> Standing {
    let standing = found.keep();
    let reason = Reason::new("Paused", "spec.paused is set: nothing is written");
    found.conditions.set("Paused", true, reason.code, reason.message.clone());
    let link = operator.links.get(key);
    let connection = link.as_ref().map_or(Err(reason), |link| link.connection.clone());
    let admission = link.and_then(|link| link.admission);
    set_link(operator, key, &Link { admission, paused: true, connection });
    standing
}

async fn steps(operator: &Arc<Operator>, key: &Key, object: &RegistryObject, found: &mut Found) -> Step<()> {
    let client = &operator.client;
    let named = dereference::dereference(client, object)
        .await
        .map_err(|error| Standing::Waiting(Reason::new(error.code(), granary_core::report(&error))))?;
    let facts = Facts {
        defaults: operator.defaults.clone(),
        cluster: Capabilities {
            gateway_api: named.gateway_api,
            service_monitor: named.service_monitor,
            ipv6: operator.ipv6,
        },
        secrets_checksum: named.checksum.clone(),
        has_direct_url: named.direct_url.is_some(),
        cluster_issuer: named.cluster_issuer.clone(),
    };
    let valid = validate::validate(object, &facts).map_err(|problems| {
        let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Standing::Stalled(Reason::new("InvalidSpec", listed.join("; ")))
    })?;
    found.describe(&valid);
    let own_store = database::ensure_store_secret(client, object, &valid).await.map_err(unavailable)?;
    let objects = build::build(&valid)
        .map_err(|error| Standing::Stalled(Reason::new("BuildFailed", granary_core::report(&error))))?;
    let base = apply::apply_base(client, &valid, &objects).await.map_err(not_applied)?;
    if let Some(reason) = base.store_is_not_ready() {
        found.conditions.set("DatabaseReady", false, reason.code, reason.message.clone());
        found.conditions.set("ObjectStoreReady", false, reason.code, reason.message.clone());
        return Err(Standing::Progressing(reason));
    }
    let database_url =
        database::provision(operator, object, &valid, &named, own_store.as_ref(), found).await?;
    let access = access(&valid, &named, own_store.as_ref(), database_url);
    let connection = connect(operator, key, &valid, &access).await?;
    migrate(operator, object, &objects, &connection.store, found).await?;
    let admission = Some(valid.namespaces.clone());
    let healthy = check_object_store(&connection, found).await;
    set_link(operator, key, &Link { admission, paused: false, connection: Ok(Arc::clone(&connection)) });
    rounds::begin(operator, key, &connection);
    let deployment = Box::pin(apply::apply_serving(client, &valid, objects, found.is_new(object)))
        .await
        .map_err(not_applied)?;
    found.channels(&connection).await;
    let rolled_out = found.deployment(&deployment);
    healthy.and(rolled_out)?;
    if valid.rotation.is_some()
        && let Some(left) = status::left_to_drain(&deployment, operator.clock.now())
    {
        // The pods of before may still be answering, and open further connections for it.
        found.look_again = Some(left);
        return Ok(());
    }
    database::end_rotation(operator, object, &valid, &named, own_store.as_ref()).await
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn unavailable(error: kube::Error) -> Standing {
    Standing::Waiting(Reason::new("ApiUnavailable", granary_core::report(&error)))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn not_applied(error: apply::ApplyError) -> Standing {
    Standing::Waiting(Reason::new(error.code(), granary_core::report(&error)))
}

/// Sets a registry's link, and has its channels looked at again where that changes something for them.
fn set_link(operator: &Operator, key: &Key, link: &Link) {
    if operator.links.set(key, link) {
        operator.look_at_channels(key, |_| true);
    }
}

fn access(
    valid: &ValidatedRegistry,
    named: &Dereferenced,
    own_store: Option<&credentials::Generated>,
    database_url: secrecy::SecretString,
) -> Access {
    use secrecy::ExposeSecret;
    let store_key = match own_store {
        Some(secret) => {
            Some((secret.get("access-key-id").expose_secret().to_owned(), secret.get("secret-access-key")))
        }
        None => named.store_key.clone(),
    };
    let store = valid.server.object_store.as_ref();
    Access {
        database_url,
        schema: valid.schema().to_string(),
        database_ca: named.database_ca.clone(),
        endpoint: store.and_then(|store| store.endpoint.as_ref()).map(ToString::to_string),
        region: store.map(|store| store.region.clone()).unwrap_or_default(),
        path_style: store.is_none_or(|store| store.path_style),
        store_key,
        store_ca: named.outbound_ca.clone(),
        https_proxy: valid.https_proxy.clone().map(granary_crds::Secret::into_secret_string),
        no_proxy: valid.server.outbound.no_proxy.join(","),
        naming: valid.bucket_naming().clone(),
    }
}

/// The connection that stands already, if it is the same that would be made now; else a new one.
async fn connect(
    operator: &Operator,
    key: &Key,
    valid: &ValidatedRegistry,
    access: &Access,
) -> Step<Arc<Connection>> {
    let endpoints = &valid.entrance.endpoints;
    let checksum = checksum(access, endpoints);
    if let Some(Link { connection: Ok(known), .. }) = operator.links.get(key)
        && known.checksum == checksum
    {
        return Ok(known);
    }
    let endpoints = Format::ALL
        .into_iter()
        .filter_map(|format| Some((format, endpoints.get(format.as_str())?.clone())))
        .collect();
    Connection::open(access, endpoints, checksum)
        .await
        .map(Arc::new)
        .map_err(|error| Standing::Waiting(Reason::new("ConnectionFailed", granary_core::report(&error))))
}

fn checksum(access: &Access, endpoints: &std::collections::BTreeMap<String, String>) -> String {
    use secrecy::ExposeSecret;
    let text = |secret: Option<&secrecy::SecretString>| secret.map(|s| s.expose_secret().to_owned());
    let parts = format!(
        "{:?}",
        (
            (text(Some(&access.database_url)), &access.schema, &access.database_ca, &access.endpoint),
            (&access.region, access.path_style, &access.store_ca, text(access.https_proxy.as_ref())),
            access.store_key.as_ref().map(|(id, key)| (id, text(Some(key)))),
            (&access.no_proxy, &access.naming, endpoints),
        )
    );
    hex::encode(Sha256::digest(parts))
}

/// Waits until the migrations of the image have run.
async fn migrate(
    operator: &Operator,
    object: &RegistryObject,
    objects: &Objects<build::Prepared>,
    store: &Store,
    found: &mut Found,
) -> Step<()> {
    let (lacking, applied) = database::migrations(store).await.inspect_err(|standing| {
        if let Standing::Waiting(reason) | Standing::Stalled(reason) = standing {
            found.conditions.set("DatabaseReady", false, reason.code, reason.message.clone());
        }
    })?;
    found.conditions.set("DatabaseReady", true, "Connected", "the database answers");
    let status = object.status.clone().unwrap_or_default();
    let lost =
        status.migrations.iter().any(|(owner, count)| applied.get(owner).is_none_or(|now| now < count));
    let is_migrated = status.migrated_image.is_some() && status.migrated_image.as_ref() == found.image();
    let job = &objects.migrate_job;
    if is_migrated && !lacking && !lost {
        let was_migrated = status.conditions.iter().any(|c| c.type_ == "Migrated" && c.status == "True");
        if !was_migrated {
            apply::remove_other_jobs(&operator.client, job).await.map_err(not_applied)?;
        }
        found.migrated(applied);
        return Ok(());
    }
    let name = job.name_any();
    let (client, migrating) =
        (&operator.client, Reason::new("Migrating", format!("the job {name} brings the schema up to date")));
    let wait = |found: &mut Found| {
        found.conditions.set("Migrated", false, migrating.code, migrating.message.clone());
        Err(Standing::Progressing(migrating.clone()))
    };
    // Jobs of images that nobody asks for any more must not touch the schema, nor stand in the way of a later try.
    apply::remove_other_jobs(client, job).await.map_err(not_applied)?;
    if lost {
        // A database of an earlier time was put back: what the status remembers has not happened.
        apply::remove_job(client, job).await.map_err(not_applied)?;
        found.forget_migrations(applied);
        return wait(found);
    }
    match apply::run_job(client, job).await.map_err(not_applied)? {
        apply::JobState::Succeeded if lacking => {
            // It was done for a database that is not this one any more.
            apply::remove_job(client, job).await.map_err(not_applied)?;
            wait(found)
        }
        apply::JobState::Succeeded => {
            found.migrated(applied);
            Ok(())
        }
        apply::JobState::Running => wait(found),
        apply::JobState::Failed(why) => {
            let message = format!(
                "the job {name} has failed ({why}); the pods that serve stay as they are. Its log says why; to try again, delete the job"
            );
            let reason = Reason::new("MigrationFailed", message);
            found.conditions.set("Migrated", false, reason.code, reason.message.clone());
            Err(Standing::Stalled(reason))
        }
    }
}

/// Whether the object store answers and takes the operator's key.
async fn check_object_store(connection: &Connection, found: &mut Found) -> Step<()> {
    match object_store_problem(connection).await {
        None => {
            found.conditions.set("ObjectStoreReady", true, "Connected", "the object store answers");
            Ok(())
        }
        Some(problem) => {
            let reason = Reason::new("ObjectStoreUnavailable", format!("the object store: {problem}"));
            found.conditions.set("ObjectStoreReady", false, reason.code, reason.message.clone());
            Err(Standing::Waiting(reason))
        }
    }
}

/// What is wrong with the object store, if anything is.
async fn object_store_problem(connection: &Connection) -> Option<String> {
    // A name of ours that no channel has: what is asked for is an answer, not a bucket.
    let name = ChannelName::parse(Format::Conan, "registry-is-reachable").ok()?;
    let bucket = connection.naming.bucket(Format::Conan, &name);
    // A key may be one that sees no bucket but those of channels. A 404 of something that is no object store has no code.
    let is_expected = |code: &str| matches!(code, "NoSuchBucket" | "NoSuchKey" | "AccessDenied");
    match connection.store.objects().bucket_owner(bucket.as_str()).await {
        Ok(_) => None,
        Err(error) if error.answer().and_then(|answer| answer.code.as_deref()).is_some_and(is_expected) => {
            None
        }
        Err(error) => Some(granary_core::report(&error)),
    }
}
