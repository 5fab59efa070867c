//! Postgres and S3: the shared tables, blobs, channel provisioning, job queue and audit.
//!
//! [`Store`] is what the rest of the server holds. A protocol joins a publish through a [`PublishTx`], which
//! [`Store::begin`] lends, and keeps what it caches true by [`Revisions`].

mod apply;
mod audit;
mod channels;
mod connection_string;
mod database;
mod documents;
mod error;
mod jobs;
mod migrate;
pub mod objects;
mod preparing;
pub mod provision;
mod publish;
mod revision;
mod schema;
mod sql;
mod stats;
mod upkeep;
mod usage;

use std::sync::Arc;

use granary_core::Clock;
use tokio::sync::{Notify, OnceCell};
use uuid::Uuid;

pub use apply::{
    ApiChangeError, Applied, AppliedBucket, AppliedRows, ApplyError, ChangedByApi, Fingerprint, NewChannel,
    ProvisionedPending, Retired, Trouble, object_name,
};
pub use audit::{AuditEntry, AuditFilter, AuditOutcome, AuditPage, AuditRow};
pub use channels::{Channel, ChannelState, Directory};
pub use database::{ConnectError, Connection, Database, DatabaseOptions, Param, wants_tls};
pub use documents::{Checkpoint, CheckpointKey};
pub use error::DbError;
pub use jobs::{Done, JobCount, JobFailure, JobLock, Jobs, NewJob};
pub use migrate::{
    MIGRATIONS, MigrateError, Migrations, Missing, applied_migrations, migrate, missing_migrations,
};
pub use publish::{AttachError, BlobId, PublishTx};
pub use revision::{Changes, Position, Revisions, Scope, Stamp};
pub use schema::{Schema, SchemaError};
pub use stats::{ChannelCount, ChannelStats};
pub use upkeep::{Collected, Scrubbed, UpkeepError};
pub use usage::Usage;

use audit::Refusals;
use objects::{BlobCache, ObjectStore, StoredObject, Uploads};
use sql::Statements;

/// Postgres and S3 together.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    sql: Arc<Statements>,
    clock: Arc<dyn Clock>,
    revisions: Revisions,
    directory: Directory,
    usage: Usage,
    refusals: Refusals,
    objects: ObjectStore,
    uploads: Uploads,
    cache: BlobCache,
    registry_id: OnceCell<Uuid>,
    job_wake: Arc<Notify>,
}

impl Store {
    /// Puts the parts together. Must be called within a tokio runtime. Opens no connection.
    pub fn new(
        database: Database,
        objects: ObjectStore,
        uploads: Uploads,
        cache: BlobCache,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sql = Arc::new(Statements::new(database.schema()));
        let revisions = Revisions::new(database.clone(), Arc::clone(&sql));
        let directory = Directory::new(database.clone(), Arc::clone(&sql), revisions.clone());
        let usage = Usage::new(database.clone(), Arc::clone(&sql), Arc::clone(&clock));
        let inner = Inner {
            database,
            sql,
            clock,
            revisions,
            directory,
            usage,
            refusals: Refusals::default(),
            objects,
            uploads,
            cache,
            registry_id: OnceCell::new(),
            job_wake: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The way to Postgres.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Whether what is held in memory is still true.
    pub fn revisions(&self) -> &Revisions {
        &self.inner.revisions
    }

    /// The channels.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The counters of uploads and downloads.
    pub fn usage(&self) -> &Usage {
        &self.inner.usage
    }

    /// The way to S3.
    pub fn objects(&self) -> &ObjectStore {
        &self.inner.objects
    }

    /// Where uploads begin.
    pub fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// The cache of file bytes.
    pub fn cache(&self) -> &BlobCache {
        &self.inner.cache
    }

    pub(crate) fn sql(&self) -> &Statements {
        &self.inner.sql
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    /// Begins a write. Nothing of it is seen before [`PublishTx::commit`].
    pub async fn begin(&self) -> Result<PublishTx, DbError> {
        let Inner { database, sql, clock, .. } = &*self.inner;
        PublishTx::begin(database, Arc::clone(sql), Arc::clone(clock)).await
    }

    /// Leaves an object that no row names to the collector, which removes it on its next run.
    pub async fn doom(&self, object: &StoredObject) -> Result<(), DbError> {
        self.database().execute(&self.sql().doom, &[&object.bucket, &object.key]).await?;
        Ok(())
    }

    /// The job queue, without handlers.
    pub fn jobs(&self) -> Jobs {
        let Inner { database, sql, clock, job_wake, .. } = &*self.inner;
        Jobs::new(database.clone(), Arc::clone(sql), Arc::clone(clock), Arc::clone(job_wake))
    }

    /// Which registry the schema belongs to.
    pub async fn registry_id(&self) -> Result<Uuid, DbError> {
        let load = async || {
            let row = self.database().query_opt(&self.sql().registry_id, &[]).await?;
            let row = row.ok_or_else(|| DbError::decode("registry id", "there is no row"))?;
            Ok::<_, DbError>(row.try_get(0)?)
        };
        self.inner.registry_id.get_or_try_init(load).await.copied()
    }
}
