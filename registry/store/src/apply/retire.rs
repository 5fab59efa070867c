//! What becomes of a channel whose resource is gone: kept, or removed with its bucket.
//!
//! A removal is decided once, by the state `deleting`, and then carried out by whoever claims it; the claim runs
//! out where the process died, and another goes on. The row goes last, so until then nobody can make a channel of
//! this name, whose bucket the removal might hit.

use std::collections::HashSet;
use std::time::Duration;

use granary_core::{ChannelName, Format};
use granary_crds::DeletionPolicy;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::{ApplyError, audit, policy_text, read_format, read_policy};
use crate::channels::{ChannelState, channel_document, read_name};
use crate::objects::ProvisionError;
use crate::revision::Scope;
use crate::{DbError, Param, Store};

/// For how long a claim keeps others away.
const CLAIM: Duration = Duration::from_mins(1);
/// Who could not renew its claim for so long stops, well before others may begin.
const HOLD: Duration = Duration::from_secs(30);
/// How often a claim is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How soon a renewal that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// How long the rows of a channel may take to go, some million of them.
const LONGEST_DELETE: Duration = Duration::from_mins(15);

/// What became of the channels of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retired {
    /// Not served any more, bucket and rows kept. By `format/name`.
    pub kept: Vec<String>,
    /// Gone with bucket and rows. By `format/name`.
    pub removed: Vec<String>,
}

/// A channel that is to go.
struct Leaving {
    scope: Scope,
    format: Format,
    name: ChannelName,
    bucket: String,
}

impl Leaving {
    /// From `id, format, name, bucket`.
    fn read(row: &tokio_postgres::Row) -> Result<Self, DbError> {
        let format = read_format(row.try_get(1)?)?;
        let name = read_name(format, row.try_get(2)?)?;
        Ok(Self { scope: Scope(row.try_get(0)?), format, name, bucket: row.try_get(3)? })
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.format, self.name)
    }
}

impl Store {
    /// Stops serving the channel of a resource (as [`super::object_name`] names it) and, with `Delete`, removes its
    /// bucket and rows. To be repeated until it succeeds; touches no channel that is not the resource's.
    pub async fn retire_channel(&self, object: &str, policy: DeletionPolicy) -> Result<Retired, ApplyError> {
        let rows = self.database().query(&self.sql().owned_by_object, &[&object]).await?;
        let mut retired = Retired::default();
        for row in &rows {
            let channel = Leaving::read(row)?;
            // One that is being removed already cannot be kept any more: part of it may be gone.
            self.retire(&channel, Some(object), policy, None).await?;
            self.end(channel, &mut retired).await?;
        }
        Ok(retired)
    }

    /// The channels whose resources are not among `objects` (as [`super::object_name`] names them): stops serving
    /// them, and removes bucket and rows of those whose resource had `deletionPolicy: Delete`.
    pub async fn retire_channels_except(&self, objects: &HashSet<String>) -> Result<Retired, ApplyError> {
        let rows = self.database().query(&self.sql().channels, &[]).await?;
        let mut leaving = Vec::new();
        for row in &rows {
            let object: Option<String> = row.try_get(8)?;
            let is_kept = object.as_ref().is_some_and(|object| objects.contains(object));
            let state = ChannelState::read(row.try_get(6)?)?;
            let is_served = matches!(state, ChannelState::Pending | ChannelState::Active);
            if is_kept || row.try_get::<_, &str>(5)? != "resource" || !is_served {
                continue;
            }
            let Ok(channel) = Leaving::read(row) else { continue };
            let policy = read_policy(row.try_get(7)?);
            if self.retire(&channel, object.as_deref(), policy, Some(policy)).await? {
                leaving.push(channel);
            }
        }
        let mut retired = Retired::default();
        // Nothing is served any more before the first bucket is touched.
        for channel in leaving {
            self.end(channel, &mut retired).await?;
        }
        Ok(retired)
    }

    /// Carries removals to their end that were decided and not finished, such as those of a process that died.
    /// Returns the channels that are gone, by `format/name`. One query where there are none.
    pub async fn resume_removals(&self) -> Result<Vec<String>, ApplyError> {
        let rows = self.database().query(&self.sql().unfinished_removals, &[]).await?;
        let (mut removed, mut failure) = (Vec::new(), None);
        for row in &rows {
            // A row that nobody can name stands in no other's way.
            let Ok(channel) = Leaving::read(row) else { continue };
            match self.remove(&channel).await {
                Ok(()) => removed.push(channel.full_name()),
                // Somebody else was quicker.
                Err(ApplyError::BeingDeleted(_)) => {}
                Err(error) => {
                    let (channel, error_text) = (channel.full_name(), granary_core::report(&error));
                    warn!(
                        channel,
                        error = error_text,
                        "a channel could not be removed; it will be tried again"
                    );
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Takes the channel out of service. False when it is another's by now, is so already, or is under another
    /// policy than `expected`.
    async fn retire(
        &self,
        channel: &Leaving,
        object: Option<&str>,
        policy: DeletionPolicy,
        expected: Option<DeletionPolicy>,
    ) -> Result<bool, DbError> {
        let state = match policy {
            DeletionPolicy::Retain => ChannelState::Retired,
            DeletionPolicy::Delete => ChannelState::Deleting,
        };
        let expected = expected.map(policy_text);
        let mut tx = self.begin().await?;
        let params: [Param<'_>; 4] = [&channel.scope.0, &object, &state.as_str(), &expected];
        if tx.execute(&self.sql().retire, &params).await? == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.touch(Scope::REGISTRY, channel_document(channel.format, channel.name.as_str()));
        tx.audit(&audit("resource", "retire channel", channel.format, &channel.name)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Says what became of a channel that was retired, removing it if that was decided.
    async fn end(&self, channel: Leaving, retired: &mut Retired) -> Result<(), ApplyError> {
        let params: [Param<'_>; 2] = [&channel.format.as_str(), &channel.name.as_str()];
        let row = self.database().query_opt(&self.sql().channel_bucket, &params).await?;
        let Some(row) = row else { return Ok(()) };
        if row.try_get::<_, i64>(0)? != channel.scope.0 {
            return Ok(());
        }
        match ChannelState::read(row.try_get(2)?)? {
            ChannelState::Retired => retired.kept.push(channel.full_name()),
            ChannelState::Deleting => {
                self.remove(&channel).await?;
                retired.removed.push(channel.full_name());
            }
            // It has become another's in this moment.
            ChannelState::Pending | ChannelState::Active => {}
        }
        Ok(())
    }

    /// Removes bucket and rows of a channel in the state `deleting`.
    async fn remove(&self, channel: &Leaving) -> Result<(), ApplyError> {
        let remover = Uuid::new_v4();
        let asked = Instant::now();
        let claim = i64::try_from(CLAIM.as_millis()).unwrap_or(i64::MAX);
        let params: [Param<'_>; 3] = [&channel.scope.0, &remover, &claim];
        let claimed = self.database().execute(&self.sql().claim_removal, &params).await?;
        if claimed == 0 {
            return Err(ApplyError::BeingDeleted(channel.name.to_string()));
        }
        let outcome = tokio::select! {
            // After a long pause of the whole process, the claim is looked at before anything else is removed.
            biased;
            error = self.hold(channel, remover, claim, asked) => Err(error),
            outcome = self.remove_bucket_and_rows(channel, remover) => outcome,
        };
        if outcome.is_err() {
            // So that the next attempt need not wait. Where this fails too, the claim runs out by itself.
            let _ = self.database().execute(&self.sql().release_removal, &[&channel.scope.0, &remover]).await;
        }
        outcome
    }

    /// Renews the claim for as long as it can be renewed.
    async fn hold(&self, channel: &Leaving, remover: Uuid, claim: i64, mut renewed: Instant) -> ApplyError {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            if asked.duration_since(renewed) >= HOLD {
                return ApplyError::Overtaken(channel.name.to_string());
            }
            let params: [Param<'_>; 3] = [&channel.scope.0, &remover, &claim];
            let renewal = self.database().execute(&self.sql().renew_removal, &params);
            match tokio::time::timeout_at(renewed + HOLD, renewal).await {
                Ok(Ok(0)) => return ApplyError::Overtaken(channel.name.to_string()),
                Ok(Ok(_)) => (renewed, pause) = (asked, RENEW_EVERY),
                Ok(Err(error)) if asked + RENEW_AGAIN >= renewed + HOLD => return error.into(),
                Ok(Err(_)) => pause = RENEW_AGAIN,
                Err(_) => return DbError::TimedOut.into(),
            }
        }
    }

    async fn remove_bucket_and_rows(&self, channel: &Leaving, remover: Uuid) -> Result<(), ApplyError> {
        let (format, name) = (channel.format, &channel.name);
        let owner = self.owner(format, name).await?;
        match self.objects().remove_bucket(&channel.bucket, &owner).await {
            Ok(removal) => info!(channel = channel.full_name(), bucket = channel.bucket, ?removal, "removed"),
            // The channel never became its owner, so there is nothing of it to remove.
            Err(ProvisionError::OwnedByAnother { owner, .. }) => {
                info!(channel = channel.full_name(), bucket = channel.bucket, owner, "the bucket stays");
            }
            Err(error) => return Err(error.into()),
        }
        let mut tx = self.begin().await?;
        let params: [Param<'_>; 2] = [&channel.scope.0, &remover];
        let gone = tx.execute_within(LONGEST_DELETE, &self.sql().delete_channel, &params).await?;
        if gone == 0 {
            tx.rollback().await?;
            return Err(ApplyError::Overtaken(name.to_string()));
        }
        tx.execute(&self.sql().delete_slots, &[&channel.scope.0]).await?;
        tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
        tx.audit(&audit("provisioner", "delete channel", format, name)).await?;
        tx.commit().await?;
        Ok(())
    }
}
