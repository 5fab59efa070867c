//! The last step: what was found, in the object's status.

use granary_crds::{ChannelObject, ChannelStatus, ValidChannel};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use crate::conditions::{self, Conditions, Reason, Standing};
use crate::connection::Connection;
use crate::operator::{key_of, merging};

/// What is known of a channel by now.
#[derive(Debug)]
pub(super) struct Found {
    status: ChannelStatus,
    pub(super) conditions: Conditions,
}

/// The conditions that say what exactly holds, beside those that `kubectl wait` knows.
const PARTS: [&str; 2] = ["BucketReady", "PermissionsApplied"];

impl Found {
    pub(super) fn new(object: &ChannelObject, now: Timestamp) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let conditions = Conditions::new(&status.conditions, object.metadata.generation, now);
        Self { status, conditions }
    }

    /// Where the channel is, and what was counted in it.
    pub(super) fn describe(&mut self, connection: &Connection, valid: &ValidChannel) {
        let base = connection.endpoints.get(&valid.format);
        self.status.url = base.map(|base| format!("{base}/{}", valid.name.place(valid.format)));
        if let Some(stats) = connection.stats(valid.format, &valid.name) {
            let number = |count: u64| Some(i64::try_from(count).unwrap_or(i64::MAX));
            self.status.packages = number(stats.packages);
            self.status.files = number(stats.files);
            self.status.bytes = number(stats.bytes);
            // Kubernetes writes times in whole seconds; one with more would differ from itself.
            let seconds = |at: Timestamp| Timestamp::from_second(at.as_second()).ok().map(Time);
            self.status.last_publish = stats.last_publish.and_then(seconds);
        }
    }

    /// The channel's bucket.
    pub(super) fn bucket(&mut self, name: &str) {
        self.status.bucket = Some(name.to_owned());
    }

    /// Whether the rows were made for this spec before.
    pub(super) fn was_applied(&self, object: &ChannelObject) -> bool {
        self.status.conditions.iter().any(|condition| {
            condition.type_ == "PermissionsApplied"
                && condition.status == "True"
                && condition.observed_generation == object.metadata.generation
        })
    }

    /// Ready where it was, and waiting for this reason where it was not.
    pub(super) fn stands_as_before(&self, reason: Reason) -> Standing {
        if conditions::ready(&self.status.conditions).is_some_and(|ready| ready.status == "True") {
            Standing::Ready
        } else {
            Standing::Progressing(reason)
        }
    }

    /// Writes the status, unless it says what is there already. True when the object stands elsewhere than before.
    pub(super) async fn write(
        mut self,
        client: &Client,
        object: &ChannelObject,
        standing: &Standing,
    ) -> Result<bool, kube::Error> {
        self.conditions.set_standing(standing);
        for part in PARTS {
            self.conditions.keep_unless_set(part);
        }
        let before = object.status.clone().unwrap_or_default();
        self.status.observed_generation = object.metadata.generation;
        self.status.conditions = self.conditions.finish();
        if self.status == before {
            return Ok(false);
        }
        let key = key_of(object);
        let api: Api<ChannelObject> = Api::namespaced(client.clone(), &key.namespace);
        let patch = json!({"status": conditions::replacing(&before, &self.status)});
        match api.patch_status(&key.name, &merging(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            // Deleted meanwhile: nobody is left to tell.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(conditions::stands_elsewhere(&before.conditions, &self.status.conditions))
    }
}
