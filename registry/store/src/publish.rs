//! One transaction a publish: metadata, blob references, changed documents, audit row and jobs go in together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use deadpool_postgres::Object;
use granary_core::{Clock, Digests};
use tokio_postgres::Row;

use crate::DbError;
use crate::audit::AuditEntry;
use crate::channels::Channel;
use crate::database::{Database, Param, STATEMENT_LIMIT};
use crate::jobs::NewJob;
use crate::objects::StoredObject;
use crate::preparing::Preparing;
use crate::revision::{SLOT_COUNT, Scope};
use crate::sql::Statements;
use crate::upkeep::LONGEST_UPLOAD;

/// The row of a blob, to which a protocol's own rows refer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobId(pub i64);

/// Why bytes could not be referred to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The upload took too long.
    #[error("the upload took longer than 12 hours")]
    TooOld,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// A write in progress. Dropping it undoes everything: its connection is closed, so that Postgres rolls back
/// even if the request was cancelled in the middle of a statement.
#[derive(Debug)]
pub struct PublishTx {
    client: Option<Object>,
    preparing: Preparing,
    sql: Arc<Statements>,
    clock: Arc<dyn Clock>,
    slot: i16,
    touched: Vec<(Scope, String)>,
}

/// Spreads the writes of a process over the slots.
static NEXT_SLOT: AtomicU16 = AtomicU16::new(0);

impl PublishTx {
    pub(crate) async fn begin(
        database: &Database,
        sql: Arc<Statements>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DbError> {
        let client = database.connection().await?;
        let slot = (NEXT_SLOT.fetch_add(1, Ordering::Relaxed) % SLOT_COUNT).cast_signed();
        let preparing = database.preparing().clone();
        let tx = Self { client: Some(client), preparing, sql, clock, slot, touched: Vec::new() };
        // An acknowledged write is kept whatever the server's default says.
        limited(tx.client()?.batch_execute("begin; set local synchronous_commit to on")).await?;
        Ok(tx)
    }

    fn client(&self) -> Result<&Object, DbError> {
        self.client.as_ref().ok_or(DbError::Stopping)
    }

    /// The rows of a statement within the transaction.
    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        let client = self.client()?;
        limited(async {
            self.preparing.learn_within(client, sql).await?;
            self.preparing.query(client, sql, params).await
        })
        .await
    }

    /// The row of a statement that yields at most one.
    pub async fn query_opt(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, DbError> {
        let client = self.client()?;
        limited(async {
            self.preparing.learn_within(client, sql).await?;
            self.preparing.query_opt(client, sql, params).await
        })
        .await
    }

    /// Runs a statement within the transaction and tells how many rows it touched.
    pub async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.execute_within(STATEMENT_LIMIT, sql, params).await
    }

    /// Like [`PublishTx::execute`], for a statement that may take as long as `limit`.
    pub(crate) async fn execute_within(
        &self,
        limit: Duration,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DbError> {
        let client = self.client()?;
        let work = async {
            self.preparing.learn_within(client, sql).await?;
            self.preparing.execute(client, sql, params).await
        };
        Ok(tokio::time::timeout(limit, work).await.map_err(|_| DbError::TimedOut)??)
    }

    /// Refers to bytes that the object store has acknowledged. Where the channel holds equal bytes already, the
    /// row keeps its object and the new one is left to the collector. Bytes whose upload began too long ago are
    /// refused, since the collector may be about to remove them.
    pub async fn attach_blob(&self, channel: &Channel, stored: &StoredObject) -> Result<BlobId, AttachError> {
        if self.clock.now().duration_since(stored.began) > LONGEST_UPLOAD {
            return Err(AttachError::TooOld);
        }
        let Digests { sha256, md5, blake2b256, size } = &stored.digests;
        let size = i64::try_from(*size).map_err(|error| DbError::decode("size", error))?;
        let digests = [sha256.as_bytes().as_slice(), md5.as_bytes(), blake2b256.as_bytes()];
        let [sha256, md5, blake2b256] = &digests;
        let damaged = self.query_opt(&self.sql.damaged_key, &[&channel.id(), sha256]).await?;
        let rows = self
            .query(&self.sql.attach_blob, &[&channel.id(), sha256, md5, blake2b256, &size, &stored.key])
            .await?;
        let row = rows.first().ok_or_else(|| DbError::decode("blob", "no row came back"))?;
        let kept_key: &str = row.try_get(1).map_err(DbError::from)?;
        if kept_key != stored.key {
            self.execute(&self.sql.doom, &[&&*channel.bucket, &stored.key]).await?;
        }
        if let Some(damaged) = damaged {
            let key: &str = damaged.try_get(0).map_err(DbError::from)?;
            self.execute(&self.sql.doom, &[&&*channel.bucket, &key]).await?;
        }
        Ok(BlobId(row.try_get(0).map_err(DbError::from)?))
    }

    /// Gives back one reference. Bytes that nothing refers to are kept for the backup's retention.
    pub async fn release_blob(&self, blob: BlobId) -> Result<(), DbError> {
        self.execute(&self.sql.release_blob, &[&blob.0]).await?;
        Ok(())
    }

    /// Says that a document of the scope will read differently after the commit.
    pub fn touch(&mut self, scope: Scope, document: impl Into<String>) {
        let touched = (scope, document.into());
        if !self.touched.contains(&touched) {
            self.touched.push(touched);
        }
    }

    /// Writes the audit row.
    pub async fn audit(&self, entry: &AuditEntry) -> Result<(), DbError> {
        self.execute(&self.sql.insert_audit, &entry.params()).await?;
        Ok(())
    }

    /// Puts a job on the queue, to start once this is committed.
    pub async fn enqueue(&self, job: &NewJob) -> Result<(), DbError> {
        self.execute(&self.sql.enqueue, &job.params()).await?;
        Ok(())
    }

    /// Bumps the slots, last of all since their rows are what concurrent publishes would wait for, and commits.
    pub async fn commit(mut self) -> Result<(), DbError> {
        // Always in the same order, so that two transactions never wait for each other.
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        for of_scope in touched.chunk_by(|(left, _), (right, _)| left == right) {
            let documents: Vec<&str> = of_scope.iter().map(|(_, document)| document.as_str()).collect();
            let noted = self
                .execute(&self.sql.bump, &[&of_scope[0].0.0, &self.slot, &documents, &rand::random::<i64>()])
                .await?;
            if noted != documents.len() as u64 {
                // Committing would hide the change from every pod: the channel has been deleted meanwhile.
                return Err(DbError::decode("revision", "the scope has no slots"));
            }
        }
        limited(self.client()?.batch_execute("commit")).await?;
        // Only now may the connection go back to the pool.
        self.client = None;
        Ok(())
    }

    /// Undoes everything and keeps the connection: for a write that was refused.
    pub async fn rollback(mut self) -> Result<(), DbError> {
        limited(self.client()?.batch_execute("rollback")).await?;
        self.client = None;
        Ok(())
    }
}

/// Within the time that a statement may take; a transaction that took longer is dropped with its connection.
async fn limited<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DbError> {
    Ok(tokio::time::timeout(STATEMENT_LIMIT, work).await.map_err(|_| DbError::TimedOut)??)
}

impl Drop for PublishTx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}
