//! The audit: one row a write, in the same transaction; one row a minute for equal refusals. Reading and pruning it.

mod refusals;

use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::database::Param;
use crate::{DbError, Store};

pub(crate) use refusals::Refusals;

/// How many rows one statement removes at most: so much is locked, and lost should the statement be broken off.
const PRUNE_BATCH: i64 = 5000;

/// How much of an actor stands in its index, in characters.
const ACTOR_INDEXED: usize = 128;

/// What is remembered of a write or of a refusal. Never holds a secret.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// The account, or `anonymous`, or the part of the server that acted.
    pub actor: String,
    /// By which kind of credential, with a token's public id.
    pub credential: String,
    /// The client's address as far as trusted proxies tell it.
    pub address: Option<String>,
    /// What was done, such as `publish` or `yank`.
    pub action: &'static str,
    /// `format/name`.
    pub channel: Option<String>,
    /// The package's normalised name.
    pub package: Option<String>,
    /// What else tells the act apart: file name, digest, version.
    pub detail: Value,
    /// `done` or `refused`.
    pub outcome: &'static str,
    /// The request's id.
    pub request_id: Option<String>,
}

impl AuditEntry {
    pub(crate) fn params(&self) -> [Param<'_>; 9] {
        [
            &self.actor,
            &self.credential,
            &self.address,
            &self.action,
            &self.channel,
            &self.package,
            &self.detail,
            &self.outcome,
            &self.request_id,
        ]
    }
}

/// What came of what somebody wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused, for want of a grant.
    Refused,
}

/// Which rows of the audit to read: those that are all of what is set here.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this channel, as `format/name`.
    pub channel: Option<String>,
    /// Of this package, by its normalised name.
    pub package: Option<String>,
    /// Of this action, such as `publish`.
    pub action: Option<String>,
    /// With this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

/// Which of the rows that a filter lets through, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPage {
    /// Those that came before the row of this id, the last of the page before; none for the newest.
    pub before: Option<i64>,
    /// At most so many; [`AuditPage::MOST`] counts for more.
    pub limit: u16,
}

impl AuditPage {
    /// The most rows of a page.
    pub const MOST: u16 = 1000;
}

/// A row of the audit. As JSON its fields stand in this order and under these names, which other programs read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRow {
    /// The higher, the later.
    pub id: i64,
    /// When it was done, or refused for the first time.
    pub at: Timestamp,
    /// See [`AuditEntry::actor`].
    pub actor: String,
    /// See [`AuditEntry::credential`].
    pub credential: String,
    /// See [`AuditEntry::address`].
    pub address: Option<String>,
    /// See [`AuditEntry::action`].
    pub action: String,
    /// `format/name`.
    pub channel: Option<String>,
    /// The package's normalised name.
    pub package: Option<String>,
    /// `done` or `refused`.
    pub outcome: String,
    /// How often it was refused within the minute; 1 for what was done.
    pub times: i32,
    /// Of the request, or of the first of those that were refused.
    pub request_id: Option<String>,
    /// What else tells the act apart.
    pub detail: Value,
}

impl AuditRow {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.try_get(0)?,
            at: row.try_get(1)?,
            actor: row.try_get(2)?,
            credential: row.try_get(3)?,
            address: row.try_get(4)?,
            action: row.try_get(5)?,
            channel: row.try_get(6)?,
            package: row.try_get(7)?,
            outcome: row.try_get(8)?,
            times: row.try_get(9)?,
            request_id: row.try_get(10)?,
            detail: row.try_get(11)?,
        })
    }
}

/// A bound that Postgres can compare: its timestamps begin later than ours, and the audit later than both.
fn storable(time: Timestamp) -> Timestamp {
    time.max(Timestamp::UNIX_EPOCH)
}

impl Store {
    /// Writes down that a caller whom we know was refused something; the outcome of the entry does not matter. Equal
    /// refusals of a minute are one row: the first is written at once, the others are counted in memory and added to
    /// it by [`Store::flush_refusals`]. What cannot be written is kept for that, also when the call is dropped.
    ///
    /// Of one actor, a hundred different refusals a minute have rows of their own; further ones are counted together.
    pub async fn refused(&self, entry: &AuditEntry) -> Result<(), DbError> {
        if self.refusals().note(entry, self.clock().now()) {
            self.refusals().write_new(self.database(), self.sql()).await?;
        }
        Ok(())
    }

    /// Writes down which refusals came again since the last call; called every few seconds.
    pub async fn flush_refusals(&self) -> Result<(), DbError> {
        self.refusals().flush(self.database(), self.sql(), self.clock().now()).await
    }

    /// A page of the audit, newest first. Of refusals, those are counted that are flushed.
    pub async fn audit_log(&self, filter: &AuditFilter, page: AuditPage) -> Result<Vec<AuditRow>, DbError> {
        let sql = self.sql();
        let limit = i64::from(page.limit.min(AuditPage::MOST));
        // Only what is asked for stands in the statement: a condition that may be off hides its index from the planner.
        let is_long = filter.actor.as_ref().is_some_and(|actor| actor.chars().count() >= ACTOR_INDEXED);
        let of_actor = if is_long { &sql.audit_of_long_actor } else { &sql.audit_of_actor };
        let is_within = filter.actor.is_some() || filter.channel.is_some() || filter.package.is_some();
        let (before, newest) = if is_within {
            (&sql.audit_before_within, &sql.audit_newest_within)
        } else {
            (&sql.audit_before, &sql.audit_newest)
        };
        let (since, until) = (filter.since.map(storable), filter.until.map(storable));
        let conditions: [(&str, Option<Param<'_>>); 7] = [
            (of_actor, filter.actor.as_ref().map(|actor| actor as Param<'_>)),
            (&sql.audit_of_channel, filter.channel.as_ref().map(|channel| channel as Param<'_>)),
            (&sql.audit_of_package, filter.package.as_ref().map(|package| package as Param<'_>)),
            (&sql.audit_of_action, filter.action.as_ref().map(|action| action as Param<'_>)),
            (&sql.audit_since, since.as_ref().map(|since| since as Param<'_>)),
            (&sql.audit_until, until.as_ref().map(|until| until as Param<'_>)),
            (before, page.before.as_ref().map(|before| before as Param<'_>)),
        ];
        let mut statement = sql.audit_log.clone();
        let mut params: Vec<Param<'_>> = Vec::new();
        for (condition, param) in conditions {
            let Some(param) = param else { continue };
            params.push(param);
            statement.push_str(&condition.replace("$n", &format!("${}", params.len())));
        }
        match filter.outcome {
            Some(AuditOutcome::Done) => statement.push_str(&sql.audit_done),
            Some(AuditOutcome::Refused) => statement.push_str(&sql.audit_refused),
            None => {}
        }
        params.push(&limit);
        statement.push_str(&newest.replace("$n", &format!("${}", params.len())));
        self.database().query(&statement, &params).await?.iter().map(AuditRow::read).collect()
    }

    /// Removes rows of the audit that are older than `retention`, some thousands a transaction. Says how many. A call
    /// that is dropped has removed some, and the next goes on.
    pub async fn prune_audit(&self, retention: Duration, now: Timestamp) -> Result<u64, DbError> {
        let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        let before = storable(now.checked_sub(retention).unwrap_or(Timestamp::MIN));
        self.prune(&self.sql().prune_audit, &before).await
    }

    /// Removes the counts of uploads and downloads of the days before this one, as [`Store::prune_audit`] does.
    pub async fn prune_usage_days(&self, older_than: Date) -> Result<u64, DbError> {
        self.prune(&self.sql().prune_usage_days, &older_than).await
    }

    /// Runs a statement that takes a bound and the most rows until it finds fewer.
    async fn prune(&self, statement: &str, before: Param<'_>) -> Result<u64, DbError> {
        let mut pruned = 0;
        loop {
            let gone = self.database().execute(statement, &[before, &PRUNE_BATCH]).await?;
            pruned += gone;
            if gone < PRUNE_BATCH.unsigned_abs() {
                return Ok(pruned);
            }
        }
    }
}
