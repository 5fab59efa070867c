//! What an API of a protocol may change of a channel: grants that came through it, and the settings of channels that were
//! made through it. What a resource says is changed in the resource alone.

use granary_core::{ChannelName, Format, Grant, GrantSource};
use granary_crds::ChannelSettings;
use serde_json::Value;

use super::{ApplyError, to_json};
use crate::audit::AuditEntry;
use crate::channels::{ChannelState, channel_document, read_settings};
use crate::publish::PublishTx;
use crate::revision::Scope;
use crate::{DbError, Store};

/// A channel within a transaction that changes it, locked.
#[derive(Debug, Clone)]
pub struct ChangedByApi {
    /// Whether a resource describes it: then its settings stay as they are.
    pub is_of_resource: bool,
    /// How it is set up.
    pub settings: ChannelSettings,
    /// The grants that came through an API. Those of the resource are left alone.
    pub grants: Vec<Grant>,
    /// The grants of the resource, to be looked at.
    pub of_resource: Vec<Grant>,
}

/// Why a channel was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ApiChangeError<E> {
    /// It is not there, or the database failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Whoever decides about the change refused it.
    #[error("the change is refused")]
    Refused(E),
    /// There is no such channel any more.
    #[error("there is no such channel")]
    Gone,
}

impl<E> From<DbError> for ApiChangeError<E> {
    fn from(error: DbError) -> Self {
        Self::Apply(error.into())
    }
}

impl Store {
    /// Changes a channel as `change` does, which says whether it did anything; nobody else changes it meanwhile. Its settings
    /// are written only where no resource describes it.
    ///
    /// # Errors
    /// What `change` refuses, and where there is no such channel.
    pub async fn change_by_api<E>(
        &self,
        format: Format,
        name: &ChannelName,
        audit: &AuditEntry,
        change: impl FnOnce(&mut ChangedByApi) -> Result<bool, E> + Send,
    ) -> Result<(), ApiChangeError<E>> {
        let mut tx = self.begin().await?;
        match self.change_within(&mut tx, format, name, audit, change).await {
            Ok(true) => Ok(tx.commit().await?),
            Ok(false) => Ok(tx.rollback().await?),
            Err(error @ ApiChangeError::Apply(_)) => Err(error),
            Err(error) => {
                tx.rollback().await?;
                Err(error)
            }
        }
    }

    async fn change_within<E>(
        &self,
        tx: &mut PublishTx,
        format: Format,
        name: &ChannelName,
        audit: &AuditEntry,
        change: impl FnOnce(&mut ChangedByApi) -> Result<bool, E> + Send,
    ) -> Result<bool, ApiChangeError<E>> {
        let stored = self.lock(tx, format, name).await?;
        let stored =
            stored.filter(|stored| stored.state == ChannelState::Active).ok_or(ApiChangeError::Gone)?;
        let mut changed = ChangedByApi {
            is_of_resource: stored.origin == "resource",
            settings: read_settings(stored.settings)?,
            grants: self.grants_of_source(tx, stored.scope, GrantSource::Api).await?,
            of_resource: self.grants_of_source(tx, stored.scope, GrantSource::Resource).await?,
        };
        if !change(&mut changed).map_err(ApiChangeError::Refused)? {
            return Ok(false);
        }
        let grants = changed.grants.iter().map(to_json).collect::<Result<Vec<Value>, _>>()?;
        self.write_grants(tx, stored.scope, "api", &grants).await?;
        if !changed.is_of_resource {
            let settings = to_json(&changed.settings)?;
            tx.execute(&self.sql().set_channel_settings, &[&stored.scope.0, &settings]).await?;
        }
        tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
        tx.audit(audit).await?;
        Ok(true)
    }

    async fn grants_of_source(
        &self,
        tx: &PublishTx,
        scope: Scope,
        source: GrantSource,
    ) -> Result<Vec<Grant>, DbError> {
        let source = match source {
            GrantSource::Resource => "resource",
            GrantSource::Api => "api",
        };
        let rows = tx.query(&self.sql().grants_of_source, &[&scope.0, &source]).await?;
        let read = |row: &tokio_postgres::Row| {
            serde_json::from_value(row.try_get(0)?).map_err(|error| DbError::decode("grant", error))
        };
        rows.iter().map(read).collect()
    }

    /// Takes a channel that was made through an API out of service, to be removed with its bucket by whoever may. False where
    /// a resource describes it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_by_api(
        &self,
        format: Format,
        name: &ChannelName,
        audit: &AuditEntry,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let stored = self.lock(&tx, format, name).await?;
        let is_ours = |stored: &super::rows::Stored| {
            stored.origin == "api" && matches!(stored.state, ChannelState::Pending | ChannelState::Active)
        };
        let Some(stored) = stored.filter(is_ours) else {
            tx.rollback().await?;
            return Ok(false);
        };
        tx.execute(&self.sql().begin_removal, &[&stored.scope.0]).await?;
        tx.touch(Scope::REGISTRY, channel_document(format, name.as_str()));
        tx.audit(audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A channel whose name differs from this one at most in the case of letters, whatever its state.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn channel_of_any_case(&self, format: Format, name: &str) -> Result<Option<String>, DbError> {
        let row =
            self.database().query_opt(&self.sql().channel_of_any_case, &[&format.as_str(), &name]).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }
}
