//! The last step: what was found, in the object's status.

use std::collections::BTreeMap;
use std::time::Duration;

use granary_crds::{RegistryObject, RegistryStatus};
use granary_store::provision::schema_version;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use super::validate::ValidatedRegistry;
use super::{Standing, Step};
use crate::conditions::{self, Conditions, Reason};
use crate::connection::Connection;
use crate::operator::{key_of, merging};

/// What is known of a registry by now.
#[derive(Debug)]
pub(super) struct Found {
    status: RegistryStatus,
    pub(super) conditions: Conditions,
    /// When to look again although all is well, where that is sooner than usual.
    pub(super) look_again: Option<Duration>,
}

/// The conditions that say what exactly holds, beside those that `kubectl wait` knows.
const PARTS: [&str; 5] = ["DatabaseReady", "ObjectStoreReady", "Migrated", "Available", "Paused"];

impl Found {
    pub(super) fn new(object: &RegistryObject, now: Timestamp) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let conditions = Conditions::new(&status.conditions, object.metadata.generation, now);
        Self { status, conditions, look_again: None }
    }

    /// What the spec alone says.
    pub(super) fn describe(&mut self, valid: &ValidatedRegistry) {
        self.status.url = Some(valid.entrance.url.clone());
        self.status.endpoints.clone_from(&valid.entrance.endpoints);
        self.status.image = Some(valid.image.clone());
    }

    /// Whether the spec has changed since the last look at it.
    pub(super) fn is_new(&self, object: &RegistryObject) -> bool {
        self.status.observed_generation != object.metadata.generation
    }

    /// The image that the pods should run.
    pub(super) fn image(&self) -> Option<&String> {
        self.status.image.as_ref()
    }

    /// The image's migrations have run.
    pub(super) fn migrated(&mut self, applied: BTreeMap<String, i64>) {
        self.status.migrated_image.clone_from(&self.status.image);
        self.status.migrations = applied;
        self.conditions.set("Migrated", true, "Migrated", "the schema is up to date");
    }

    /// The database is one to which migrations have not happened that were remembered.
    pub(super) fn forget_migrations(&mut self, applied: BTreeMap<String, i64>) {
        self.status.migrated_image = None;
        self.status.migrations = applied;
    }

    /// The passwords of this rotation are in use.
    pub(super) fn rotated(&mut self, value: Option<String>) {
        self.status.database_password_rotation = value;
    }

    /// The rotation that was last carried out.
    pub(super) fn rotation(&self) -> Option<&String> {
        self.status.database_password_rotation.as_ref()
    }

    /// How many channels are served, and by which schema.
    pub(super) async fn channels(&mut self, connection: &Connection) {
        match connection.store.served_channels().await {
            Ok(count) => {
                connection.take_count(count);
                self.status.channels = Some(count);
            }
            Err(error) => {
                tracing::warn!(error = granary_core::report(&error), "the channels cannot be counted");
            }
        }
        if let Ok(version) = schema_version(connection.store.database()).await {
            self.status.schema_version = version.applied;
        }
    }

    /// How far the pods are.
    pub(super) fn deployment(&mut self, deployment: &Deployment) -> Step<()> {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let count = |number: Option<i32>| number.unwrap_or_default();
        let (ready, updated) = (count(status.ready_replicas), count(status.updated_replicas));
        self.status.pods = Some(format!("{ready}/{wanted}"));
        let seen = status.observed_generation >= deployment.metadata.generation;
        let conditions = status.conditions.unwrap_or_default();
        let stuck = conditions
            .iter()
            .find(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
        let (holds, reason, standing): (_, _, fn(Reason) -> Standing) =
            if let (true, Some(stuck)) = (seen, stuck) {
                let why = stuck.message.clone().unwrap_or_default();
                (
                    ready > 0,
                    Reason::new("PodsFailing", format!("new pods do not become ready: {why}")),
                    Standing::Stalled,
                )
            } else if !seen || updated < wanted || ready < wanted || count(status.replicas) > updated {
                let message = format!("{ready} of {wanted} pods are ready, {updated} of them new");
                (ready > 0, Reason::new("RollingOut", message), Standing::Progressing)
            } else {
                let message = format!("{ready} of {wanted} pods are ready");
                self.conditions.set("Available", true, "PodsReady", message);
                return Ok(());
            };
        self.conditions.set("Available", holds, reason.code, reason.message.clone());
        Err(standing(reason))
    }

    /// Keeps everything that was known, and where the object stood.
    pub(super) fn keep(&mut self) -> Standing {
        match conditions::ready(&self.status.conditions) {
            Some(ready) if ready.status == "True" => Standing::Ready,
            _ => Standing::Progressing(Reason::new("Paused", "spec.paused is set: nothing is written")),
        }
    }

    /// Writes the status, unless it says what is there already. True when the object stands elsewhere than before.
    pub(super) async fn write(
        mut self,
        client: &Client,
        object: &RegistryObject,
        standing: &Standing,
    ) -> Result<bool, kube::Error> {
        self.conditions.set_standing(standing);
        for part in PARTS {
            self.conditions.keep_unless_set(part);
        }
        if !object.spec.paused {
            self.conditions.drop_type("Paused");
        }
        let before = object.status.clone().unwrap_or_default();
        self.status.observed_generation = object.metadata.generation;
        self.status.conditions = self.conditions.finish();
        if self.status == before {
            return Ok(false);
        }
        let key = key_of(object);
        let api: Api<RegistryObject> = Api::namespaced(client.clone(), &key.namespace);
        let patch = json!({"status": conditions::replacing(&before, &self.status)});
        api.patch_status(&key.name, &merging(), &Patch::Merge(patch)).await?;
        Ok(conditions::stands_elsewhere(&before.conditions, &self.status.conditions))
    }
}

/// How long pods that a rollout has replaced may still be there, if they may: their grace period counts from its end.
pub(super) fn left_to_drain(deployment: &Deployment, now: Timestamp) -> Option<Duration> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let progressing = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let grace = SignedDuration::from_secs(pod.termination_grace_period_seconds.unwrap_or(30));
    let left = grace - now.duration_since(progressing.last_update_time.as_ref()?.0);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn pods_that_were_replaced_have_their_grace_period() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "main"},
            "spec": {
                "selector": {},
                "template": {"spec": {"containers": [], "terminationGracePeriodSeconds": 40}},
            },
            "status": {"conditions": [
                {"type": "Progressing", "status": "True", "lastUpdateTime": "2026-01-01T10:00:00Z"},
            ]},
        }))
        .unwrap();
        let at = |time: &str| left_to_drain(&deployment, time.parse().unwrap());
        assert_eq!(at("2026-01-01T10:00:10Z"), Some(Duration::from_secs(30)));
        assert_eq!(at("2026-01-01T10:00:40Z"), None);
        assert_eq!(left_to_drain(&Deployment::default(), Timestamp::UNIX_EPOCH), None);
    }
}
