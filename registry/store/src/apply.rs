//! Makes a channel what its resource says: bucket first, then rows and grants in one transaction.

use std::collections::HashSet;
use std::num::NonZeroU16;

use granary_core::{ChannelName, Format};
use granary_crds::{BucketNaming, DeletionPolicy, ValidChannel};
use serde_json::{Value, json};

use crate::audit::AuditEntry;
use crate::channels::{ChannelState, channel_document, read_name};
use crate::objects::{BucketPlan, Encryption, InvalidOwner, Lacking, OwnerId, ProvisionError};
use crate::revision::Scope;
use crate::{DbError, Store};

/// Why a channel could not be made what its resource says.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The bucket could not be made or taken.
    #[error(transparent)]
    Bucket(#[from] ProvisionError),
    /// The registry's id and the channel's name make no owner: a fault of ours.
    #[error(transparent)]
    Owner(#[from] InvalidOwner),
    /// A channel of this name was made through an API.
    #[error("the channel {0} was made through an API; set `adopt: true` to take it over")]
    NotOurs(String),
    /// The resource made another channel before.
    #[error("{object} is the channel {was}; format and name never change: delete it and make another")]
    Immutable {
        /// The resource.
        object: String,
        /// The channel that it made.
        was: String,
    },
    /// Another resource has this channel.
    #[error("the channel {name} belongs to the resource {by}")]
    Claimed {
        /// The channel.
        name: String,
        /// Whose it is.
        by: String,
    },
    /// Another channel stands where this one would.
    #[error("the channel {name} cannot stand beside {other}: their URLs would be the same")]
    Excluded {
        /// This one.
        name: String,
        /// The one that is there.
        other: String,
    },
}

/// What [`Store::apply_channel`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whether anything was written.
    pub changed: bool,
    /// The bucket.
    pub bucket: String,
    /// What the object store does not have.
    pub lacking: Vec<Lacking>,
}

impl Store {
    /// Makes the channel what its resource says, creating what is missing. Doing it again changes nothing.
    pub async fn apply_channel(
        &self,
        wanted: &ValidChannel,
        naming: &BucketNaming,
    ) -> Result<Applied, ApplyError> {
        self.check_identity(wanted).await?;
        self.check_neighbours(wanted.format, &wanted.name).await?;
        let (scope, bucket, origin, claimed) = self.channel_row(wanted, naming).await?;
        if let Some(by) = claimed.filter(|by| *by != object_name(wanted)) {
            return Err(ApplyError::Claimed { name: wanted.name.to_string(), by });
        }
        if origin == "api" && !wanted.adopt {
            return Err(ApplyError::NotOurs(wanted.name.to_string()));
        }
        let plan = bucket_plan(&bucket, self.owner(wanted.format, &wanted.name).await?, &wanted.bucket);
        let provisioned = self.objects().ensure_bucket(&plan).await?;
        let changed = self.write_channel(scope, wanted).await?;
        Ok(Applied { changed, bucket, lacking: provisioned.lacking })
    }

    /// Makes the rows and grants of a channel that is served what its resource says, without a look at its bucket.
    /// True when somebody else had changed them.
    pub async fn repair_channel(&self, wanted: &ValidChannel) -> Result<bool, ApplyError> {
        let params = (wanted.format.as_str(), wanted.name.as_str());
        let row = self.database().query_opt(&self.sql().channel_by_name, &[&params.0, &params.1]).await?;
        let Some(row) = row else { return Ok(false) };
        let (origin, object): (&str, Option<String>) =
            (row.try_get(3).map_err(DbError::from)?, row.try_get(5).map_err(DbError::from)?);
        let state = ChannelState::read(row.try_get(4).map_err(DbError::from)?)?;
        if origin != "resource" || state != ChannelState::Active || object != Some(object_name(wanted)) {
            return Ok(false);
        }
        Ok(self.write_channel(Scope(row.try_get(0).map_err(DbError::from)?), wanted).await?)
    }

    /// One resource is one channel for as long as it exists.
    async fn check_identity(&self, wanted: &ValidChannel) -> Result<(), ApplyError> {
        let object = object_name(wanted);
        let params = (wanted.format.as_str(), wanted.name.as_str());
        let row = self
            .database()
            .query_opt(&self.sql().channel_of_object, &[&object, &params.0, &params.1])
            .await?;
        let Some(row) = row else { return Ok(()) };
        let (format, name): (&str, &str) =
            (row.try_get(0).map_err(DbError::from)?, row.try_get(1).map_err(DbError::from)?);
        Err(ApplyError::Immutable { was: format!("{format}/{name}"), object })
    }

    /// A channel `a` excludes channels `a/*`.
    async fn check_neighbours(&self, format: Format, name: &ChannelName) -> Result<(), ApplyError> {
        let rows = self.database().query(&self.sql().channel_names, &[&format.as_str()]).await?;
        let inside =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        for row in &rows {
            let other: &str = row.try_get(0).map_err(DbError::from)?;
            if inside(other, name.as_str()) || inside(name.as_str(), other) {
                return Err(ApplyError::Excluded { name: name.to_string(), other: other.to_owned() });
            }
        }
        Ok(())
    }

    async fn channel_row(
        &self,
        wanted: &ValidChannel,
        naming: &BucketNaming,
    ) -> Result<(Scope, String, String, Option<String>), DbError> {
        let (format, name) = (wanted.format.as_str(), wanted.name.as_str());
        let settings = to_json(&wanted.settings)?;
        let bucket = wanted.bucket_name(naming).to_string();
        self.database()
            .execute(
                &self.sql().insert_channel,
                &[&format, &name, &bucket, &settings, &"resource", &object_name(wanted)],
            )
            .await?;
        let row = self.database().query_opt(&self.sql().channel_by_name, &[&format, &name]).await?;
        let row = row.ok_or_else(|| DbError::decode("channel", "it is gone again"))?;
        let retired = ChannelState::read(row.try_get(4)?)? == ChannelState::Retired;
        let object: Option<String> = row.try_get(5)?;
        Ok((Scope(row.try_get(0)?), row.try_get(1)?, row.try_get(3)?, object.filter(|_| !retired)))
    }

    async fn write_channel(&self, scope: Scope, wanted: &ValidChannel) -> Result<bool, DbError> {
        let settings = to_json(&wanted.settings)?;
        let grants = wanted.grants.iter().map(to_json).collect::<Result<Vec<Value>, _>>()?;
        let mut tx = self.begin().await?;
        let sql = self.sql();
        let row = tx.query_opt(&sql.lock_channel, &[&scope.0]).await?;
        let row = row.ok_or_else(|| DbError::decode("channel", "it is gone again"))?;
        let stored_settings: Value = row.try_get(0)?;
        let (origin, state, policy): (&str, &str, &str) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let (object, wanted_object): (Option<String>, String) = (row.try_get(4)?, object_name(wanted));
        let rows = tx.query(&sql.grants_of_source, &[&scope.0, &"resource"]).await?;
        let stored_grants = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Value>, _>>()?;
        if stored_settings == settings
            && stored_grants == grants
            && origin == "resource"
            && read_policy(policy) == wanted.deletion_policy
            && object.as_ref() == Some(&wanted_object)
            && ChannelState::read(state)? == ChannelState::Active
        {
            tx.rollback().await?;
            return Ok(false);
        }
        let policy = policy_text(wanted.deletion_policy);
        let active = ChannelState::Active.as_str();
        tx.execute(
            &sql.update_channel,
            &[&scope.0, &settings, &"resource", &active, &policy, &wanted_object],
        )
        .await?;
        if stored_grants != grants {
            tx.execute(&sql.delete_grants, &[&scope.0, &"resource"]).await?;
            tx.execute(&sql.insert_grants, &[&scope.0, &"resource", &grants]).await?;
        }
        tx.execute(&sql.insert_slots, &[&scope.0]).await?;
        tx.touch(Scope::REGISTRY, channel_document(wanted.format, wanted.name.as_str()));
        tx.audit(&resource_audit("apply channel", wanted.format, &wanted.name)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The channels whose resources are not among `objects` (as [`object_name`] names them): stops serving them,
    /// and removes bucket and rows of those whose resource had `deletionPolicy: Delete`. Returns their full names.
    pub async fn retire_channels_except(
        &self,
        objects: &HashSet<String>,
    ) -> Result<Vec<(String, DeletionPolicy)>, ApplyError> {
        let rows = self.database().query(&self.sql().channels, &[]).await?;
        let (mut retired, mut to_remove) = (Vec::new(), Vec::new());
        for row in &rows {
            let format: Format = row
                .try_get::<_, &str>(1)
                .map_err(DbError::from)?
                .parse()
                .map_err(|error| DbError::decode("channel format", error))?;
            let name = read_name(format, row.try_get(2).map_err(DbError::from)?)?;
            let (origin, state): (&str, &str) =
                (row.try_get(5).map_err(DbError::from)?, row.try_get(6).map_err(DbError::from)?);
            let object: Option<String> = row.try_get(8).map_err(DbError::from)?;
            let is_kept = object.as_ref().is_some_and(|object| objects.contains(object));
            let policy = read_policy(row.try_get(7).map_err(DbError::from)?);
            let settled = state == ChannelState::Retired.as_str() && policy == DeletionPolicy::Retain;
            if is_kept || origin != "resource" || settled {
                continue;
            }
            let scope = Scope(row.try_get(0).map_err(DbError::from)?);
            if !self.retire(scope, format, &name, object.as_deref(), policy).await? {
                continue;
            }
            if policy == DeletionPolicy::Delete {
                let bucket: String = row.try_get(3).map_err(DbError::from)?;
                to_remove.push((scope, format, name.clone(), bucket));
            }
            retired.push((format!("{format}/{name}"), policy));
        }
        // Nothing is served any more before the first bucket is touched.
        for (scope, format, name, bucket) in to_remove {
            self.objects().remove_bucket(&bucket, &self.owner(format, &name).await?).await?;
            self.forget(scope, format, &name).await?;
        }
        Ok(retired)
    }

    /// False when the channel is another one by now: taken up again, or under another policy.
    async fn retire(
        &self,
        scope: Scope,
        format: Format,
        name: &ChannelName,
        object: Option<&str>,
        policy: DeletionPolicy,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let unchanged = match tx.query_opt(&self.sql().lock_channel, &[&scope.0]).await? {
            Some(row) => {
                let (origin, stored_policy): (&str, &str) = (row.try_get(1)?, row.try_get(3)?);
                let stored_object: Option<&str> = row.try_get(4)?;
                origin == "resource" && stored_object == object && read_policy(stored_policy) == policy
            }
            None => false,
        };
        if !unchanged {
            tx.rollback().await?;
            return Ok(false);
        }
        if tx.execute(&self.sql().set_channel_state, &[&scope.0, &ChannelState::Retired.as_str()]).await? > 0
        {
            tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
            tx.audit(&resource_audit("retire channel", format, name)).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(true)
    }

    async fn forget(&self, scope: Scope, format: Format, name: &ChannelName) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        if tx.execute(&self.sql().delete_channel, &[&scope.0]).await? == 0 {
            // It is served again, or somebody else was quicker.
            return tx.rollback().await;
        }
        tx.execute(&self.sql().delete_slots, &[&scope.0]).await?;
        tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
        tx.audit(&resource_audit("delete channel", format, name)).await?;
        tx.commit().await
    }

    /// What this registry writes into a bucket to say that it owns it for this channel.
    async fn owner(&self, format: Format, name: &ChannelName) -> Result<OwnerId, ApplyError> {
        Ok(format!("{}/{format}/{name}", self.registry_id().await?).parse()?)
    }
}

/// How a channel's resource is named: behind its namespace, where it has one.
pub fn object_name(channel: &ValidChannel) -> String {
    match &channel.namespace {
        Some(namespace) => format!("{namespace}/{}", channel.object_name),
        None => channel.object_name.clone(),
    }
}

fn read_policy(text: &str) -> DeletionPolicy {
    if text == "Delete" { DeletionPolicy::Delete } else { DeletionPolicy::Retain }
}

const fn policy_text(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    }
}

fn bucket_plan(name: &str, owner: OwnerId, wanted: &granary_crds::BucketPlan) -> BucketPlan {
    BucketPlan {
        name: name.to_owned(),
        owner,
        adopt: wanted.adopt,
        versioning: wanted.versioning,
        encryption: match &wanted.encryption {
            granary_crds::Encryption::StoreDefault => None,
            granary_crds::Encryption::Aes256 => Some(Encryption::StoreManaged),
            granary_crds::Encryption::Kms { key_id } => Some(Encryption::Kms { key_id: key_id.clone() }),
        },
        abort_incomplete_after_days: NonZeroU16::new(wanted.abort_incomplete_uploads_after_days)
            .unwrap_or(NonZeroU16::MIN),
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, DbError> {
    serde_json::to_value(value).map_err(|error| DbError::decode("channel", error))
}

fn resource_audit(action: &'static str, format: Format, name: &ChannelName) -> AuditEntry {
    AuditEntry {
        actor: "resource".to_owned(),
        credential: "none".to_owned(),
        address: None,
        action,
        channel: Some(format!("{format}/{name}")),
        package: None,
        detail: json!({}),
        outcome: "done",
        request_id: None,
    }
}
