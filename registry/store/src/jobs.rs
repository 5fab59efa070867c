//! A job queue in Postgres: taken with SKIP LOCKED, retried with growing pauses, buried after too many tries.
//!
//! Whoever runs a job renews its lock. A worker that could not is taken for dead, another takes the job, and what
//! the first says of it afterwards has no effect: each run has a number of its own.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use granary_core::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::DbError;
use crate::database::{Database, Param};
use crate::sql::Statements;

/// How soon a renewal that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
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

/// How long a worker holds a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLock {
    /// After this without a renewal another worker takes the job.
    pub lasts: Duration,
    /// How often the lock is renewed; well below `lasts`.
    pub renewed_every: Duration,
}

impl Default for JobLock {
    /// Two minutes, renewed every twenty seconds: an outage of the database of a minute is no reason to stop.
    fn default() -> Self {
        Self { lasts: Duration::from_mins(2), renewed_every: Duration::from_secs(20) }
    }
}

/// A job that this worker runs.
#[derive(Debug, Clone, Copy)]
struct Run {
    job: i64,
    /// Which of the runs that the job has had.
    number: i64,
    claimed: Instant,
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
    lock: JobLock,
    /// Wakes the worker of this process.
    wake: Arc<Notify>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("kinds", &self.handlers.keys()).finish_non_exhaustive()
    }
}

impl Jobs {
    pub(crate) fn new(
        database: Database,
        sql: Arc<Statements>,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { database, sql, clock, handlers: Arc::default(), lock: JobLock::default(), wake }
    }

    /// With other times for the locks.
    #[must_use]
    pub fn with_lock(mut self, lock: JobLock) -> Self {
        self.lock = lock;
        self
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

    /// Puts a job on the queue. An idle worker of this process looks at once, others within some seconds.
    pub async fn enqueue(&self, job: &NewJob) -> Result<(), DbError> {
        self.database.execute(&self.sql.enqueue, &job.params()).await?;
        self.wake.notify_one();
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
    /// else it is broken off and left to another worker.
    pub async fn work(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let break_off = CancellationToken::new();
            let stopping = async {
                stop.cancelled().await;
                tokio::time::sleep(STOPPING).await;
                break_off.cancel();
                // Giving the job back takes one statement; who cannot do even that leaves it to its lock.
                tokio::time::sleep(STOPPING).await;
            };
            let worked = tokio::select! {
                worked = self.work_until(&break_off) => worked,
                () = stopping => return,
            };
            let pause = match worked {
                Ok(true) => Duration::ZERO,
                Ok(false) => POLL,
                Err(error) => {
                    warn!(error = %granary_core::report(&error), "the job queue cannot be read");
                    POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes one job that is due and runs it. False when there is none. A call that is dropped breaks the job off;
    /// it is run again when its lock has run out.
    pub async fn work_once(&self) -> Result<bool, DbError> {
        self.work_until(&CancellationToken::new()).await
    }

    async fn work_until(&self, break_off: &CancellationToken) -> Result<bool, DbError> {
        let kinds: Vec<&str> = self.handlers.keys().copied().collect();
        let (now, claimed) = (self.clock.now(), Instant::now());
        let row = self.database.query_opt(&self.sql.claim, &[&now, &self.locked_until(), &kinds]).await?;
        let Some(row) = row else { return Ok(false) };
        let kind: String = row.try_get(1)?;
        let run = Run { job: row.try_get(0)?, number: row.try_get(5)?, claimed };
        let (payload, attempts, max_attempts): (Value, i32, i32) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let Some(handler) = self.handlers.get(kind.as_str()) else { return Ok(false) };
        let outcome = tokio::select! {
            // After a long pause of the whole process, the lock is looked at before the work goes on.
            biased;
            () = self.keep(run) => {
                warn!(job = run.job, kind, "a job was broken off: its lock could not be renewed");
                return Ok(true);
            }
            () = break_off.cancelled() => {
                self.database.execute(&self.sql.release_job, &[&run.job, &run.number]).await?;
                return Ok(true);
            }
            outcome = handler(payload) => outcome,
        };
        let ended = self.end(run, &kind, (attempts, max_attempts), outcome).await?;
        if ended == 0 {
            warn!(
                job = run.job,
                kind, "a job had been taken over by another worker; its outcome does not count"
            );
        }
        Ok(true)
    }

    fn locked_until(&self) -> Timestamp {
        self.clock.now() + SignedDuration::try_from(self.lock.lasts).unwrap_or(SignedDuration::MAX)
    }

    /// Renews the lock for as long as it can be renewed.
    async fn keep(&self, run: Run) {
        let (mut renewed, mut pause) = (run.claimed, self.lock.renewed_every);
        loop {
            tokio::time::sleep(pause).await;
            let (asked, until) = (Instant::now(), self.locked_until());
            if asked.duration_since(renewed) >= self.lock.lasts {
                return;
            }
            let params: [Param<'_>; 3] = [&run.job, &run.number, &until];
            let renewal = self.database.execute(&self.sql.renew_job, &params);
            match tokio::time::timeout_at(renewed + self.lock.lasts, renewal).await {
                Ok(Ok(0)) | Err(_) => return,
                Ok(Ok(_)) => (renewed, pause) = (asked, self.lock.renewed_every),
                Ok(Err(_)) => pause = RENEW_AGAIN.min(self.lock.renewed_every),
            }
        }
    }

    /// Writes down what came of a run. Touches nothing when the job is another's by now.
    async fn end(
        &self,
        run: Run,
        kind: &str,
        (attempts, max_attempts): (i32, i32),
        outcome: Result<Done, JobFailure>,
    ) -> Result<u64, DbError> {
        let Run { job, number: run, .. } = run;
        match outcome {
            Ok(Done::Finished) => self.database.execute(&self.sql.complete, &[&job, &run]).await,
            Ok(Done::Again(pause)) => {
                let next = self.clock.now() + pause;
                self.database.execute(&self.sql.repeat, &[&job, &run, &next]).await
            }
            Err(failure) => {
                let reason = granary_core::report(failure.as_ref());
                if attempts >= max_attempts {
                    error!(job, kind, attempts, error = %reason, "a job is given up");
                    self.database.execute(&self.sql.bury, &[&job, &run, &reason]).await
                } else {
                    info!(job, kind, attempts, error = %reason, "a job failed and will be tried again");
                    let next = self.clock.now() + pause_before(attempts);
                    self.database.execute(&self.sql.retry, &[&job, &run, &reason, &next]).await
                }
            }
        }
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
