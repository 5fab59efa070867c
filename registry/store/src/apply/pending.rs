//! Channels that are made through a protocol's own API: the pod, which has no right to make buckets, writes them
//! down as pending and waits; who has that right provides the bucket.

use std::sync::Arc;
use std::time::Duration;

use granary_core::{ChannelName, Format, Grant};
use granary_crds::{BucketNaming, BucketPlan, BucketSpec, ChannelSettings, DeletionPolicy, Encryption};
use serde_json::Value;
use tokio::time::Instant;

use super::bucket::BucketRow;
use super::{AppliedBucket, ApplyError, policy_text, read_format, to_json};
use crate::audit::AuditEntry;
use crate::channels::{Channel, ChannelState, read_name};
use crate::publish::PublishTx;
use crate::revision::Scope;
use crate::{DbError, Param, Store};

/// Between two looks whether a channel is served by now.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A channel that somebody makes through an API.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// Its format.
    pub format: Format,
    /// Its name.
    pub name: ChannelName,
    /// How it is set up.
    pub settings: ChannelSettings,
    /// Who may do what.
    pub grants: Vec<Grant>,
}

/// What became of one pending channel.
#[derive(Debug)]
pub struct ProvisionedPending {
    /// Its format.
    pub format: Format,
    /// Its name.
    pub name: ChannelName,
    /// Its bucket, or why it has none; it stays pending then.
    pub outcome: Result<AppliedBucket, ApplyError>,
}

impl Store {
    /// Writes a channel down that is to be made, and who made it. Asking for one that is pending already changes
    /// nothing.
    pub async fn create_pending_channel(
        &self,
        new: &NewChannel,
        naming: &BucketNaming,
        audit: &AuditEntry,
    ) -> Result<(), ApplyError> {
        let mut tx = self.begin().await?;
        match self.write_pending(&mut tx, new, naming, audit).await {
            Ok(true) => Ok(tx.commit().await?),
            Ok(false) => Ok(tx.rollback().await?),
            Err(error) if !matches!(error, ApplyError::Database(_)) => {
                tx.rollback().await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn write_pending(
        &self,
        tx: &mut PublishTx,
        new: &NewChannel,
        naming: &BucketNaming,
        audit: &AuditEntry,
    ) -> Result<bool, ApplyError> {
        let (format, name) = (new.format, &new.name);
        if let Some(stored) = self.lock(tx, format, name).await? {
            return match stored.state {
                ChannelState::Pending if stored.origin == "api" => Ok(false),
                ChannelState::Deleting => Err(ApplyError::BeingDeleted(name.to_string())),
                ChannelState::Pending | ChannelState::Active | ChannelState::Retired => {
                    Err(ApplyError::Exists(name.to_string()))
                }
            };
        }
        self.check_neighbours(tx, format, name).await?;
        let bucket = naming.bucket(format, name).to_string();
        let (settings, object, policy) =
            (to_json(&new.settings)?, None::<String>, policy_text(DeletionPolicy::Retain));
        let params: [Param<'_>; 7] =
            [&format.as_str(), &name.as_str(), &bucket, &settings, &"api", &object, &policy];
        let row = tx.query_opt(&self.sql().insert_channel, &params).await?;
        let row = row.ok_or_else(|| DbError::decode("channel", "no row came back"))?;
        let scope = Scope(row.try_get(0)?);
        let grants = new.grants.iter().map(to_json).collect::<Result<Vec<Value>, _>>()?;
        self.write_grants(tx, scope, "api", &grants).await?;
        tx.audit(audit).await?;
        Ok(true)
    }

    /// Waits until a channel is served; `None` where it is not after `limit`.
    pub async fn wait_until_active(
        &self,
        format: Format,
        name: &ChannelName,
        limit: Duration,
    ) -> Result<Option<Arc<Channel>>, DbError> {
        let deadline = Instant::now() + limit;
        loop {
            self.revisions().refresh(&[Scope::REGISTRY]).await?;
            if let Some(channel) = self.directory().find(format, name).await? {
                return Ok(Some(channel));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Provides the buckets of the channels that were made through an API and are pending, and serves them. Their
    /// buckets are named by `naming`, whatever the pod wrote. One query where there are none.
    pub async fn provision_pending(&self, naming: &BucketNaming) -> Result<Vec<ProvisionedPending>, DbError> {
        let rows = self.database().query(&self.sql().pending_of_api, &[]).await?;
        let mut provisioned = Vec::new();
        for row in &rows {
            // A row that nobody can name stands in no other's way.
            let Ok(format) = read_format(row.try_get(1)?) else { continue };
            let Ok(name) = read_name(format, row.try_get(2)?) else { continue };
            let outcome = self.provision_one(Scope(row.try_get(0)?), format, &name, naming).await;
            provisioned.push(ProvisionedPending { format, name, outcome });
        }
        Ok(provisioned)
    }

    async fn provision_one(
        &self,
        scope: Scope,
        format: Format,
        name: &ChannelName,
        naming: &BucketNaming,
    ) -> Result<AppliedBucket, ApplyError> {
        let bucket = naming.bucket(format, name).to_string();
        self.database().execute(&self.sql().set_pending_bucket, &[&scope.0, &bucket]).await?;
        let row = BucketRow {
            scope,
            format,
            name: name.clone(),
            bucket,
            origin: "api",
            object: None,
            is_pending: true,
            settings: None,
        };
        let defaults = BucketSpec::default();
        let plan = BucketPlan {
            name: None,
            adopt: false,
            versioning: defaults.versioning,
            encryption: Encryption::StoreDefault,
            abort_incomplete_uploads_after_days: defaults.lifecycle.abort_incomplete_uploads_after_days,
        };
        self.settle_bucket(row, &plan).await
    }
}
