//! The fourth step: rows and grants, then the bucket. Postgres and S3 are reached through `granary-store` alone.

use std::sync::Arc;

use granary_crds::{ChannelObject, DeletionPolicy, ValidChannel};
use granary_store::{AppliedBucket, ApplyError, Trouble};
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::status::Found;
use super::{FINALIZER, KIND, Standing, Step, registry_of};
use crate::conditions::Reason;
use crate::connection::{Connection, Key};
use crate::operator::{Operator, merging};

/// Makes rows, grants and bucket what the spec says.
pub(super) async fn apply(
    operator: &Operator,
    connection: &Arc<Connection>,
    key: &Key,
    object: &ChannelObject,
    valid: &ValidChannel,
    found: &mut Found,
) -> Step<()> {
    let generation = object.metadata.generation.unwrap_or_default();
    let was_applied = found.was_applied(object);
    let rows = match connection.store.apply_rows(valid, &connection.naming).await {
        Ok(rows) => rows,
        Err(error) => {
            let standing = stand(&error);
            set_part(found, "PermissionsApplied", &standing);
            if error.trouble() == Trouble::Conflict {
                found.conditions.set("Conflict", true, "Conflict", granary_core::report(&error));
            }
            return Err(standing);
        }
    };
    connection.saw_rows(valid.format, &valid.name, rows.fingerprint);
    found.bucket(&rows.bucket);
    found.conditions.set("PermissionsApplied", true, "Applied", "every pod knows the permissions");
    if rows.changed && was_applied {
        repaired(
            operator,
            object,
            "RowsRepaired",
            "rows or grants that were changed by hand are as the spec says again",
        )
        .await;
    }
    let waits = rows.state != granary_store::ChannelState::Active;
    if !waits && connection.bucket_is_believed(key, generation) {
        return Ok(());
    }
    match connection.store.apply_bucket(valid).await {
        Ok(bucket) => {
            connection.saw_rows(valid.format, &valid.name, bucket.fingerprint);
            connection.saw_bucket(key, generation);
            tell_of_bucket(operator, object, &bucket, found).await;
            Ok(())
        }
        Err(error) => {
            let standing = stand(&error);
            set_part(found, "BucketReady", &standing);
            if error.trouble() == Trouble::Conflict {
                found.conditions.set("Conflict", true, "Conflict", granary_core::report(&error));
            }
            Err(standing)
        }
    }
}

async fn tell_of_bucket(
    operator: &Operator,
    object: &ChannelObject,
    bucket: &AppliedBucket,
    found: &mut Found,
) {
    let lacking: Vec<String> = bucket.lacking.iter().map(|lacking| lacking.feature.to_string()).collect();
    let message = if lacking.is_empty() {
        "the bucket is as the spec says".to_owned()
    } else {
        format!(
            "the bucket is as the spec says, but for what the object store does not have: {}",
            lacking.join(", ")
        )
    };
    found.conditions.set("BucketReady", true, "Provisioned", message);
    if !bucket.repaired.is_empty() {
        let names: Vec<String> = bucket.repaired.iter().map(ToString::to_string).collect();
        let message = format!(
            "settings of the bucket that were changed by hand are as the spec says again: {}",
            names.join(", ")
        );
        repaired(operator, object, "BucketRepaired", &message).await;
    }
    if bucket.had_vanished {
        let reason =
            Reason::new("BucketVanished", "the bucket was gone and has been made anew; its files are lost");
        operator.tell(object, true, &reason).await;
    }
}

async fn repaired(operator: &Operator, object: &ChannelObject, code: &'static str, message: &str) {
    tracing::warn!(channel = object.name_any(), code, message);
    operator.metrics.repaired(KIND, code);
    operator.tell(object, true, &Reason::new(code, message)).await;
}

/// Where a channel stands after a failure.
fn stand(error: &ApplyError) -> Standing {
    let reason = |code| Reason::new(code, granary_core::report(error));
    match error.trouble() {
        Trouble::Conflict => Standing::Stalled(reason("Conflict")),
        Trouble::Busy => Standing::Waiting(reason("Busy")),
        Trouble::DatabaseUnavailable => Standing::Waiting(reason("DatabaseUnavailable")),
        Trouble::DatabaseRefused => Standing::Waiting(reason("DatabaseRefused")),
        Trouble::ObjectStoreUnavailable => Standing::Waiting(reason("ObjectStoreUnavailable")),
        Trouble::ObjectStoreRefused => Standing::Waiting(reason("ObjectStoreRefused")),
        Trouble::Internal => Standing::Waiting(reason("Internal")),
    }
}

fn set_part(found: &mut Found, part: &str, standing: &Standing) {
    if let Standing::Progressing(reason) | Standing::Waiting(reason) | Standing::Stalled(reason) = standing {
        found.conditions.set(part, false, reason.code, reason.message.clone());
    }
}

/// Stops serving the channel of an object that is being deleted, and removes bucket and rows if its policy says so.
pub(super) async fn retire(operator: &Operator, key: &Key, object: &ChannelObject) -> Step<()> {
    let Some(registry) = registry_of(object) else { return Ok(()) };
    let Some(link) = operator.link(&registry) else {
        return if operator.knows_registry(&registry) {
            Err(Standing::Progressing(Reason::new("RegistryNotReady", "the registry is not ready yet")))
        } else {
            // Nobody knows any more where its database was. Bucket and rows are kept, whatever the policy.
            Ok(())
        };
    };
    if link.paused {
        return Err(Standing::Progressing(Reason::new(
            "Paused",
            "the registry is paused: nothing is written",
        )));
    }
    let connection = link.connection.map_err(Standing::Waiting)?;
    let policy = object.spec.deletion_policy;
    let retired =
        connection.store.retire_channel(&key.to_string(), policy).await.map_err(|error| stand(&error))?;
    if let Ok(valid) = super::validate(key, object) {
        connection.forget(key, valid.format, &valid.name);
    }
    let (code, names) = match policy {
        DeletionPolicy::Retain => ("Retained", retired.kept),
        DeletionPolicy::Delete => ("Removed", retired.removed),
    };
    if !names.is_empty() {
        tracing::info!(channel = %key, code, channels = names.join(", "), "a channel's object was deleted");
        let message = format!(
            "{}: {}",
            if code == "Retained" { "bucket and rows are kept" } else { "bucket and rows are gone" },
            names.join(", ")
        );
        operator.tell(object, false, &Reason::new(code, message)).await;
    }
    Ok(())
}

/// Adds the finalizer where it is missing, before anything is made that it is there for.
pub(super) async fn ensure_finalizer(operator: &Operator, object: &ChannelObject) -> Result<(), kube::Error> {
    if object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    set_finalizers(operator, object, &json!(finalizers)).await
}

/// Lets the object go.
pub(super) async fn remove_finalizer(operator: &Operator, object: &ChannelObject) -> Result<(), kube::Error> {
    let others: Vec<&String> =
        object.finalizers().iter().filter(|finalizer| finalizer.as_str() != FINALIZER).collect();
    match set_finalizers(operator, object, &json!(others)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result,
    }
}

/// Refused when somebody else has changed the object since, so that no other finalizer is lost.
async fn set_finalizers(
    operator: &Operator,
    object: &ChannelObject,
    finalizers: &Value,
) -> Result<(), kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<ChannelObject> = Api::namespaced(operator.client.clone(), &namespace);
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}});
    api.patch(&object.name_any(), &merging(), &Patch::Merge(patch)).await.map(drop)
}

#[cfg(test)]
mod tests;
