//! Makes a channel what its resource says: rows and grants in one transaction, then the bucket.
//!
//! Rows come first, so that a grant that was taken away holds even while the object store is down. A channel is
//! `pending` until its bucket is there, and served from then on.

mod api;
mod bucket;
mod fingerprint;
mod pending;
mod retire;
mod rows;

use granary_core::{ChannelName, Format};
use granary_crds::{BucketNaming, DeletionPolicy, ValidChannel};
use serde_json::{Value, json};

use crate::audit::AuditEntry;
use crate::objects::{Feature, InvalidOwner, Lacking, OwnerId, ProvisionError};
use crate::{DbError, Store};

pub use api::{ApiChangeError, ChangedByApi};
pub use bucket::AppliedBucket;
pub use fingerprint::Fingerprint;
pub use pending::{NewChannel, ProvisionedPending};
pub use retire::Retired;
pub use rows::AppliedRows;

/// Why a channel could not be made what its resource says. [`ApplyError::trouble`] sorts them.
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
    /// The channel was kept when a resource of another namespace was deleted.
    #[error(
        "the channel {name} was kept when the resource {by} was deleted; set `adopt: true` to take it over"
    )]
    Kept {
        /// The channel.
        name: String,
        /// Whose it was.
        by: String,
    },
    /// A channel of this name is there already.
    #[error("there is a channel {0} already")]
    Exists(String),
    /// Another channel stands where this one would.
    #[error("the channel {name} cannot stand beside {other}: their URLs would be the same")]
    Excluded {
        /// This one.
        name: String,
        /// The one that is there.
        other: String,
    },
    /// A channel of this name is being removed; once it is gone there can be a new one.
    #[error("the channel {0} is still being removed with its bucket")]
    BeingDeleted(String),
    /// Somebody else changed or removed the channel at the same moment; the next attempt finds out.
    #[error("the channel {0} was changed by somebody else at the same moment")]
    Overtaken(String),
}

/// What kind of failure it is, as conditions and retries tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The channel or its bucket is somebody else's. Someone has to change a resource.
    Conflict,
    /// Something that is under way has to end first; soon the same call succeeds.
    Busy,
    /// The database is out of reach.
    DatabaseUnavailable,
    /// The database answered and refused, or holds what cannot be read.
    DatabaseRefused,
    /// The object store is out of reach, or overloaded.
    ObjectStoreUnavailable,
    /// The object store answered and refused.
    ObjectStoreRefused,
    /// A fault of ours.
    Internal,
}

impl ApplyError {
    /// What kind of failure this is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Database(error) if error.is_unavailable() => Trouble::DatabaseUnavailable,
            Self::Database(_) => Trouble::DatabaseRefused,
            Self::Bucket(
                ProvisionError::OwnedByAnother { .. }
                | ProvisionError::NameTaken { .. }
                | ProvisionError::NotEmpty { .. },
            )
            | Self::NotOurs(_)
            | Self::Immutable { .. }
            | Self::Claimed { .. }
            | Self::Kept { .. }
            | Self::Exists(_)
            | Self::Excluded { .. } => Trouble::Conflict,
            Self::Bucket(error) if error.is_transient() => Trouble::ObjectStoreUnavailable,
            Self::Bucket(_) => Trouble::ObjectStoreRefused,
            Self::BeingDeleted(_) | Self::Overtaken(_) => Trouble::Busy,
            Self::Owner(_) => Trouble::Internal,
        }
    }
}

impl From<tokio_postgres::Error> for ApplyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What [`Store::apply_channel`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whether anything was written to the database.
    pub changed: bool,
    /// The bucket.
    pub bucket: String,
    /// Whether the bucket had been there before and was gone: its files are lost, and it is new and empty.
    pub had_vanished: bool,
    /// Settings of the bucket that somebody else had changed and that were set right again.
    pub repaired: Vec<Feature>,
    /// What the object store does not have.
    pub lacking: Vec<Lacking>,
    /// What the rows are now.
    pub fingerprint: Fingerprint,
}

impl Store {
    /// Makes the channel what its resource says, creating what is missing: [`Store::apply_rows`], then
    /// [`Store::apply_bucket`]. Doing it again changes nothing.
    pub async fn apply_channel(
        &self,
        wanted: &ValidChannel,
        naming: &BucketNaming,
    ) -> Result<Applied, ApplyError> {
        let rows = self.apply_rows(wanted, naming).await?;
        let bucket = self.apply_bucket(wanted).await?;
        Ok(Applied {
            changed: rows.changed || bucket.activated,
            bucket: bucket.bucket,
            had_vanished: bucket.had_vanished,
            repaired: bucket.repaired,
            lacking: bucket.lacking,
            fingerprint: bucket.fingerprint,
        })
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
    if text == policy_text(DeletionPolicy::Delete) { DeletionPolicy::Delete } else { DeletionPolicy::Retain }
}

const fn policy_text(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    }
}

fn read_format(text: &str) -> Result<Format, DbError> {
    text.parse().map_err(|error| DbError::decode("channel format", error))
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, DbError> {
    serde_json::to_value(value).map_err(|error| DbError::decode("channel", error))
}

fn audit(actor: &str, action: &'static str, format: Format, name: &ChannelName) -> AuditEntry {
    AuditEntry {
        actor: actor.to_owned(),
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
