//! A job queue in Postgres: taken with SKIP LOCKED, retried with growing pauses, buried after too many tries.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use granary_core::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::DbError;
use crate::database::{Database, Param};
use crate::sql::Statements;

/// How long a worker may hold a job before another takes it to be dead.
const LOCK: SignedDuration = SignedDuration::from_mins(60);
/// How often an idle worker looks for work.
const POLL: Duration = Duration::from_secs(5);
/// How long a job may go on when the process is to stop.
const STOPPING: Duration = Duration::from_secs(3);
/// The longest pause between two tries.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// A job to be put on the queue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Which handler runs it.
    pub kind: &'static str,
    /// At most one job of a key waits or runs; others are dropped silently.
    pub dedup_key: Option<String>,
    /// What the handler gets.
    pub payload: Value,
    /// Not before this.
    pub run_at: Timestamp,
    /// After this many failures the job is buried: it stays visible and is not run again.
    pub max_attempts: i32,
}

impl NewJob {
    pub(crate) fn params(&self) -> [Param<'_>; 5] {
        [&self.kind, &self.dedup_key, &self.payload, &self.run_at, &self.max_attempts]
    }
}

/// What becomes of a job that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is gone.
    Finished,
    /// It runs again after this pause: for periodic work, of which the cluster needs one.
    Again(SignedDuration),
}

/// Why a job failed; it will be tried again.
pub type JobFailure = Box<dyn std::error::Error + Send + Sync>;

type Handler =
    Arc<dyn Fn(Value) -> Pin<Box<dyn Future<Output = Result<Done, JobFailure>> + Send>> + Send + Sync>;

/// How many jobs of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCount {
    /// The kind.
    pub kind: String,
    /// `queued`, `running` or `dead`.
    pub state: String,
    /// How many.
    pub count: i64,
    /// One of the latest errors.
    pub last_error: Option<String>,
}

/// The queue.
#[derive(Clone)]
pub struct Jobs {
    database: Database,
    sql: Arc<Statements>,
    clock: Arc<dyn Clock>,
    handlers: Arc<HashMap<&'static str, Handler>>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("kinds", &self.handlers.keys()).finish_non_exhaustive()
    }
}

impl Jobs {
    pub(crate) fn new(database: Database, sql: Arc<Statements>, clock: Arc<dyn Clock>) -> Self {
        Self { database, sql, clock, handlers: Arc::default() }
    }

    /// Adds what runs the jobs of a kind.
    #[must_use]
    pub fn handle<F, R>(mut self, kind: &'static str, handler: F) -> Self
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Done, JobFailure>> + Send + 'static,
    {
        let mut handlers = HashMap::clone(&self.handlers);
        handlers.insert(kind, Arc::new(move |payload| Box::pin(handler(payload))));
        self.handlers = Arc::new(handlers);
        self
    }

    /// Puts a job on the queue.
    pub async fn enqueue(&self, job: &NewJob) -> Result<(), DbError> {
        self.database.execute(&self.sql.enqueue, &job.params()).await?;
        Ok(())
    }

    /// How many jobs there are, by kind and state.
    pub async fn counts(&self) -> Result<Vec<JobCount>, DbError> {
        let rows = self.database.query(&self.sql.job_states, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(JobCount {
                    kind: row.try_get(0)?,
                    state: row.try_get(1)?,
                    count: row.try_get(2)?,
                    last_error: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Runs jobs, one after the other, until told to stop. A job that is running then may end within some seconds;
    /// else it is broken off, and run again when its lock has run out.
    pub async fn work(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let broken_off = async {
                stop.cancelled().await;
                tokio::time::sleep(STOPPING).await;
            };
            let worked = tokio::select! {
                worked = self.work_once() => worked,
                () = broken_off => return,
            };
            let pause = match worked {
                Ok(true) => Duration::ZERO,
                Ok(false) => POLL,
                Err(error) => {
                    warn!(error = %crate::report(&error), "the job queue cannot be read");
                    POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes one job that is due and runs it. False when there is none.
    pub async fn work_once(&self) -> Result<bool, DbError> {
        let kinds: Vec<&str> = self.handlers.keys().copied().collect();
        let now = self.clock.now();
        let row = self.database.query_opt(&self.sql.claim, &[&now, &(now + LOCK), &kinds]).await?;
        let Some(row) = row else { return Ok(false) };
        let (id, kind): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let (payload, attempts, max_attempts): (Value, i32, i32) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let Some(handler) = self.handlers.get(kind.as_str()) else { return Ok(false) };
        match handler(payload).await {
            Ok(Done::Finished) => self.database.execute(&self.sql.complete, &[&id]).await?,
            Ok(Done::Again(pause)) => {
                self.database.execute(&self.sql.repeat, &[&id, &(self.clock.now() + pause)]).await?
            }
            Err(failure) => {
                let reason = crate::report(failure.as_ref());
                if attempts >= max_attempts {
                    error!(job = id, kind, attempts, error = %reason, "a job is given up");
                    self.database.execute(&self.sql.bury, &[&id, &reason]).await?
                } else {
                    info!(job = id, kind, attempts, error = %reason, "a job failed and will be tried again");
                    let next = self.clock.now() + pause_before(attempts);
                    self.database.execute(&self.sql.retry, &[&id, &reason, &next]).await?
                }
            }
        };
        Ok(true)
    }
}

/// Doubles with each failure, from five seconds to an hour.
fn pause_before(attempts: i32) -> SignedDuration {
    let doubled = 5i64.saturating_mul(1 << attempts.clamp(0, 20));
    SignedDuration::from_secs(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn pauses_grow_and_end_at_an_hour() {
        assert_eq!(pause_before(1), SignedDuration::from_secs(10));
        assert_eq!(pause_before(3), SignedDuration::from_secs(40));
        assert_eq!(pause_before(50), LONGEST_PAUSE);
    }
}
