//! Refusals of this process, counted in memory until they are written: a flood of them is few rows and few writes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use granary_core::Sha256;
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use crate::DbError;
use crate::audit::AuditEntry;
use crate::database::Database;
use crate::sql::Statements;

/// So many different refusals of an actor within a minute have rows of their own.
const MOST_OF_AN_ACTOR: u32 = 100;
/// When so many different refusals are held, all further ones of an actor are counted together.
const MOST_APART: usize = 5000;
/// More than this are not held; the log tells how many were not.
const MOST_HELD: usize = 2 * MOST_APART;
/// How many rows one statement writes.
const BATCH: usize = 500;
/// Stands for what differs among refusals that are counted together.
const SEVERAL: &str = "several";

/// Refusals of this minute, and those of earlier ones that could not be written yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    held: Mutex<Held>,
    /// One statement at a time: what comes meanwhile goes into the next one together.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// By the digest that makes them one row.
    refusals: HashMap<Sha256, Refused>,
    /// Those of which nothing was written yet.
    new: Vec<Sha256>,
    /// How many rows of their own an actor's refusals of a minute have.
    rows: HashMap<(String, i64), u32>,
    /// How many could not be held.
    dropped: u64,
}

/// One row, as far as this process adds to it.
#[derive(Debug, Clone)]
struct Refused {
    entry: AuditEntry,
    first: Timestamp,
    /// How many are still to be written.
    times: i32,
}

/// The minute since 1970.
fn minute(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// The digest of what has to be equal.
fn digest(entry: &AuditEntry, minute: i64) -> Sha256 {
    let same = (
        (&entry.actor, &entry.credential, &entry.address),
        (entry.action, &entry.channel, &entry.package),
        minute,
    );
    Sha256::of(json!(same).to_string().as_bytes())
}

/// Texts come from tokens that others made: Postgres holds no NUL, and one such row would keep all others back.
fn storable(entry: &AuditEntry) -> AuditEntry {
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    AuditEntry {
        actor: clean(&entry.actor),
        credential: clean(&entry.credential),
        address: entry.address.as_ref().map(clean),
        channel: entry.channel.as_ref().map(clean),
        package: entry.package.as_ref().map(clean),
        request_id: entry.request_id.as_ref().map(clean),
        ..entry.clone()
    }
}

/// What is left of an entry when it is counted with others of its actor.
fn summary(entry: &AuditEntry) -> AuditEntry {
    AuditEntry {
        credential: SEVERAL.to_owned(),
        address: None,
        channel: None,
        package: None,
        detail: json!({ SEVERAL: true }),
        request_id: None,
        ..entry.clone()
    }
}

impl Refusals {
    /// Counts a refusal. True when it is a new row, which is to be written now.
    pub(crate) fn note(&self, entry: &AuditEntry, now: Timestamp) -> bool {
        let entry = storable(entry);
        self.held().note(entry, now)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the rows that are new.
    pub(crate) async fn write_new(&self, database: &Database, sql: &Statements) -> Result<(), DbError> {
        self.write(database, sql, Held::take_new).await
    }

    /// Writes all that was counted, and forgets minutes that are over.
    pub(crate) async fn flush(
        &self,
        database: &Database,
        sql: &Statements,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let written = self.write(database, sql, Held::take).await;
        let dropped = self.held().forget_before(minute(now));
        if dropped > 0 {
            warn!(dropped, "so many refusals came that some do not stand in the audit");
        }
        written
    }

    async fn write(
        &self,
        database: &Database,
        sql: &Statements,
        take: fn(&mut Held) -> Vec<(Sha256, Refused)>,
    ) -> Result<(), DbError> {
        let _writing = self.writing.lock().await;
        loop {
            let mut taken = Taken { refusals: self, rows: take(&mut self.held()) };
            if taken.rows.is_empty() {
                return Ok(());
            }
            taken.write(database, sql).await?;
            taken.rows.clear();
        }
    }
}

/// Rows that are being written. Those that are still in it when it is dropped were not, as far as we know: they are
/// counted again.
struct Taken<'a> {
    refusals: &'a Refusals,
    rows: Vec<(Sha256, Refused)>,
}

impl Taken<'_> {
    async fn write(&self, database: &Database, sql: &Statements) -> Result<(), DbError> {
        let rows = &self.rows;
        let digests: Vec<&[u8]> = rows.iter().map(|(digest, _)| digest.as_bytes().as_slice()).collect();
        let firsts: Vec<Timestamp> = rows.iter().map(|(_, refused)| refused.first).collect();
        let times: Vec<i32> = rows.iter().map(|(_, refused)| refused.times).collect();
        let entries = || rows.iter().map(|(_, refused)| &refused.entry);
        let actors: Vec<&str> = entries().map(|entry| entry.actor.as_str()).collect();
        let credentials: Vec<&str> = entries().map(|entry| entry.credential.as_str()).collect();
        let addresses: Vec<Option<&str>> = entries().map(|entry| entry.address.as_deref()).collect();
        let actions: Vec<&str> = entries().map(|entry| entry.action).collect();
        let channels: Vec<Option<&str>> = entries().map(|entry| entry.channel.as_deref()).collect();
        let packages: Vec<Option<&str>> = entries().map(|entry| entry.package.as_deref()).collect();
        let details: Vec<&Value> = entries().map(|entry| &entry.detail).collect();
        let requests: Vec<Option<&str>> = entries().map(|entry| entry.request_id.as_deref()).collect();
        database
            .execute(
                &sql.count_refusals,
                &[
                    &digests,
                    &firsts,
                    &actors,
                    &credentials,
                    &addresses,
                    &actions,
                    &channels,
                    &packages,
                    &details,
                    &requests,
                    &times,
                ],
            )
            .await?;
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let mut held = self.refusals.held();
        for (digest, refused) in self.rows.drain(..) {
            let times = refused.times;
            let again = held.refusals.entry(digest).or_insert(Refused { times: 0, ..refused });
            again.times = again.times.saturating_add(times);
        }
    }
}

impl Held {
    fn note(&mut self, mut entry: AuditEntry, now: Timestamp) -> bool {
        let minute = minute(now);
        let mut key = digest(&entry, minute);
        if !self.refusals.contains_key(&key) {
            if self.gets_a_row(&entry.actor, minute) {
                self.hold(key, entry, now);
                return true;
            }
            entry = summary(&entry);
            key = digest(&entry, minute);
        }
        if let Some(refused) = self.refusals.get_mut(&key) {
            refused.times = refused.times.saturating_add(1);
            return false;
        }
        if self.refusals.len() >= MOST_HELD {
            self.dropped += 1;
            return false;
        }
        self.hold(key, entry, now);
        true
    }

    fn gets_a_row(&mut self, actor: &str, minute: i64) -> bool {
        if self.refusals.len() >= MOST_APART {
            return false;
        }
        let rows = self.rows.entry((actor.to_owned(), minute)).or_default();
        *rows += 1;
        *rows <= MOST_OF_AN_ACTOR
    }

    fn hold(&mut self, digest: Sha256, entry: AuditEntry, first: Timestamp) {
        self.refusals.insert(digest, Refused { entry, first, times: 1 });
        self.new.push(digest);
    }

    fn take_new(&mut self) -> Vec<(Sha256, Refused)> {
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(digest) = self.new.pop()
        {
            // None where a flush was quicker.
            taken.extend(self.take_one(digest));
        }
        taken
    }

    fn take(&mut self) -> Vec<(Sha256, Refused)> {
        self.new.clear();
        let waiting = self.refusals.iter().filter(|(_, refused)| refused.times > 0);
        let waiting: Vec<Sha256> = waiting.map(|(digest, _)| *digest).take(BATCH).collect();
        waiting.into_iter().filter_map(|digest| self.take_one(digest)).collect()
    }

    fn take_one(&mut self, digest: Sha256) -> Option<(Sha256, Refused)> {
        let refused = self.refusals.get_mut(&digest).filter(|refused| refused.times > 0)?;
        let taken = refused.clone();
        refused.times = 0;
        Some((digest, taken))
    }

    fn forget_before(&mut self, minute: i64) -> u64 {
        self.refusals.retain(|_, refused| refused.times > 0 || self::minute(refused.first) >= minute);
        self.rows.retain(|(_, of), _| *of >= minute);
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests;
