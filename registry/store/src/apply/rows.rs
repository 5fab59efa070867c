//! The rows and grants of a channel: one transaction, and nothing of the object store.

use granary_core::{ChannelName, Format};
use granary_crds::{BucketNaming, ValidChannel};
use serde_json::Value;

use super::{ApplyError, Fingerprint, audit, object_name, policy_text, to_json};
use crate::channels::{ChannelState, channel_document};
use crate::publish::PublishTx;
use crate::revision::Scope;
use crate::{DbError, Param, Store};

/// What [`Store::apply_rows`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRows {
    /// Whether anything was written.
    pub changed: bool,
    /// `Active`, or `Pending` where the bucket is still to come.
    pub state: ChannelState,
    /// The bucket that the channel has, or will have. One that holds files keeps it, whatever the resource says now.
    pub bucket: String,
    /// What the rows are now.
    pub fingerprint: Fingerprint,
}

/// The row of a channel, locked.
pub(super) struct Stored {
    pub(super) scope: Scope,
    bucket: String,
    pub(super) settings: Value,
    pub(super) origin: String,
    pub(super) state: ChannelState,
    policy: String,
    object: Option<String>,
    has_blobs: bool,
}

impl Store {
    /// Makes rows and grants of the channel what its resource says. A channel that is served goes on being served
    /// with them from then on; a new one, and one that was retired, waits for [`Store::apply_bucket`]. Doing it
    /// again changes nothing.
    pub async fn apply_rows(
        &self,
        wanted: &ValidChannel,
        naming: &BucketNaming,
    ) -> Result<AppliedRows, ApplyError> {
        let mut tx = self.begin().await?;
        match self.write_rows(&mut tx, wanted, naming).await {
            Ok(rows) if rows.changed => {
                tx.commit().await?;
                Ok(rows)
            }
            Ok(rows) => {
                tx.rollback().await?;
                Ok(rows)
            }
            // The connection is as it was before; it is worth keeping.
            Err(error) if !matches!(error, ApplyError::Database(_)) => {
                tx.rollback().await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn write_rows(
        &self,
        tx: &mut PublishTx,
        wanted: &ValidChannel,
        naming: &BucketNaming,
    ) -> Result<AppliedRows, ApplyError> {
        let (format, name, object) = (wanted.format, &wanted.name, object_name(wanted));
        let stored = self.lock(tx, format, name).await?;
        self.check_identity(tx, wanted, &object).await?;
        if let Some(stored) = &stored {
            check_claim(stored, wanted, &object)?;
        }
        let state = match &stored {
            Some(stored) if stored.state == ChannelState::Active => ChannelState::Active,
            _ => {
                self.check_neighbours(tx, format, name).await?;
                ChannelState::Pending
            }
        };
        let bucket = match &stored {
            Some(stored) if stored.has_blobs || state == ChannelState::Active => stored.bucket.clone(),
            _ => wanted.bucket_name(naming).to_string(),
        };
        let settings = to_json(&wanted.settings)?;
        let policy = policy_text(wanted.deletion_policy);
        let (scope, mut changed) = match stored {
            None => {
                let params: [Param<'_>; 7] =
                    [&format.as_str(), &name.as_str(), &bucket, &settings, &"resource", &object, &policy];
                let row = tx.query_opt(&self.sql().insert_channel, &params).await?;
                let row = row.ok_or_else(|| DbError::decode("channel", "no row came back"))?;
                (Scope(row.try_get(0)?), true)
            }
            Some(stored) => {
                let same = stored.settings == settings
                    && stored.bucket == bucket
                    && stored.origin == "resource"
                    && stored.policy == policy
                    && stored.object.as_ref() == Some(&object)
                    && stored.state == state;
                if !same {
                    let params: [Param<'_>; 7] =
                        [&stored.scope.0, &bucket, &settings, &"resource", &object, &policy, &state.as_str()];
                    tx.execute(&self.sql().update_channel, &params).await?;
                }
                (stored.scope, !same)
            }
        };
        let grants = wanted.grants.iter().map(to_json).collect::<Result<Vec<Value>, _>>()?;
        changed |= self.write_grants(tx, scope, "resource", &grants).await?;
        if changed {
            tx.execute(&self.sql().insert_slots, &[&scope.0]).await?;
            tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
            tx.audit(&audit("resource", "apply channel", format, name)).await?;
        }
        let fingerprint = self.fingerprint_in(tx, scope).await?;
        Ok(AppliedRows { changed, state, bucket, fingerprint })
    }

    /// Lets one writer at a time decide about this name and those that would stand in its way.
    pub(super) async fn lock(
        &self,
        tx: &PublishTx,
        format: Format,
        name: &ChannelName,
    ) -> Result<Option<Stored>, DbError> {
        let first = name.as_str().split('/').next().unwrap_or_default();
        tx.query(&self.sql().lock_name, &[&format!("{format}/{first}")]).await?;
        let row = tx.query_opt(&self.sql().lock_channel, &[&format.as_str(), &name.as_str()]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Stored {
            scope: Scope(row.try_get(0)?),
            bucket: row.try_get(1)?,
            settings: row.try_get(2)?,
            origin: row.try_get(3)?,
            state: ChannelState::read(row.try_get(4)?)?,
            policy: row.try_get(5)?,
            object: row.try_get(6)?,
            has_blobs: row.try_get(7)?,
        }))
    }

    /// One resource is one channel for as long as it exists.
    async fn check_identity(
        &self,
        tx: &PublishTx,
        wanted: &ValidChannel,
        object: &str,
    ) -> Result<(), ApplyError> {
        let (format, name) = (wanted.format.as_str(), wanted.name.as_str());
        match tx.query_opt(&self.sql().channel_of_object, &[&object, &format, &name]).await? {
            None => Ok(()),
            Some(row) => {
                let (format, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                Err(ApplyError::Immutable { was: format!("{format}/{name}"), object: object.to_owned() })
            }
        }
    }

    /// A channel `a` excludes channels `a/*`.
    pub(super) async fn check_neighbours(
        &self,
        tx: &PublishTx,
        format: Format,
        name: &ChannelName,
    ) -> Result<(), ApplyError> {
        let text = name.as_str();
        let outer: Vec<&str> = text.match_indices('/').map(|(at, _)| &text[..at]).collect();
        let inner = format!("{text}/");
        let row = tx.query_opt(&self.sql().neighbour, &[&format.as_str(), &outer, &inner]).await?;
        match row {
            None => Ok(()),
            Some(row) => Err(ApplyError::Excluded { name: text.to_owned(), other: row.try_get(0)? }),
        }
    }

    /// True when they were others before.
    pub(super) async fn write_grants(
        &self,
        tx: &PublishTx,
        scope: Scope,
        source: &'static str,
        grants: &[Value],
    ) -> Result<bool, DbError> {
        let rows = tx.query(&self.sql().grants_of_source, &[&scope.0, &source]).await?;
        let stored = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Value>, _>>()?;
        if stored == grants {
            return Ok(false);
        }
        tx.execute(&self.sql().delete_grants, &[&scope.0, &source]).await?;
        tx.execute(&self.sql().insert_grants, &[&scope.0, &source, &grants]).await?;
        Ok(true)
    }
}

/// Whether the channel that is there is this resource's, or may become it.
fn check_claim(stored: &Stored, wanted: &ValidChannel, object: &str) -> Result<(), ApplyError> {
    let name = || wanted.name.to_string();
    let another = stored.object.as_deref().filter(|by| *by != object);
    match (stored.state, another) {
        (ChannelState::Deleting, _) => return Err(ApplyError::BeingDeleted(name())),
        (ChannelState::Pending | ChannelState::Active, Some(by)) => {
            return Err(ApplyError::Claimed { name: name(), by: by.to_owned() });
        }
        // What somebody left behind is not handed to strangers unasked.
        (ChannelState::Retired, Some(by)) if namespace(by) != namespace(object) && !wanted.adopt => {
            return Err(ApplyError::Kept { name: name(), by: by.to_owned() });
        }
        (ChannelState::Retired | ChannelState::Pending | ChannelState::Active, _) => {}
    }
    if stored.origin == "api" && !wanted.adopt {
        return Err(ApplyError::NotOurs(name()));
    }
    Ok(())
}

fn namespace(object: &str) -> Option<&str> {
    object.split_once('/').map(|(namespace, _)| namespace)
}
