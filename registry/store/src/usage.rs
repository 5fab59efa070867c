//! Uploads and downloads, counted per file and day: in memory first, added to the rows every few seconds.
//! A process that is killed loses the counts of those seconds and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use granary_core::Clock;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::DbError;
use crate::database::Database;
use crate::revision::Scope;
use crate::sql::Statements;

/// The most counters that are kept while the database is away; further files are not counted until it is back.
const MOST_COUNTERS: usize = 50_000;

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
struct Key {
    channel: Scope,
    package: Arc<str>,
    file: Arc<str>,
    day: Date,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    downloads: i64,
    uploads: i64,
}

/// The counters of this process.
#[derive(Debug, Clone)]
pub struct Usage {
    database: Database,
    sql: Arc<Statements>,
    clock: Arc<dyn Clock>,
    counters: Arc<Mutex<HashMap<Key, Counts>>>,
}

impl Usage {
    pub(crate) fn new(database: Database, sql: Arc<Statements>, clock: Arc<dyn Clock>) -> Self {
        Self { database, sql, clock, counters: Arc::default() }
    }

    /// Counts a download.
    pub fn downloaded(&self, channel: Scope, package: &Arc<str>, file: &Arc<str>) {
        self.count(channel, package, file, |counts| counts.downloads += 1);
    }

    /// Counts an upload.
    pub fn uploaded(&self, channel: Scope, package: &Arc<str>, file: &Arc<str>) {
        self.count(channel, package, file, |counts| counts.uploads += 1);
    }

    fn count(&self, channel: Scope, package: &Arc<str>, file: &Arc<str>, add: impl FnOnce(&mut Counts)) {
        let day = self.clock.now().to_zoned(TimeZone::UTC).date();
        let key = Key { channel, package: Arc::clone(package), file: Arc::clone(file), day };
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() < MOST_COUNTERS || counters.contains_key(&key) {
            add(counters.entry(key).or_default());
        }
    }

    /// Adds what was counted to the rows. On failure the counts are kept for the next time.
    pub async fn flush(&self) -> Result<(), DbError> {
        let mut counted: Vec<(Key, Counts)> =
            self.counters.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        if counted.is_empty() {
            return Ok(());
        }
        // Rows are always locked in the same order, so that pods never wait for each other in a ring.
        counted.sort_unstable_by(|(left, _), (right, _)| {
            (left.channel, &left.package, &left.file, left.day).cmp(&(
                right.channel,
                &right.package,
                &right.file,
                right.day,
            ))
        });
        let result = self.add(&counted).await;
        if result.is_err() {
            let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, counts) in counted {
                let entry = counters.entry(key).or_default();
                entry.downloads += counts.downloads;
                entry.uploads += counts.uploads;
            }
        }
        result
    }

    async fn add(&self, counted: &[(Key, Counts)]) -> Result<(), DbError> {
        let channels: Vec<i64> = counted.iter().map(|(key, _)| key.channel.0).collect();
        let packages: Vec<&str> = counted.iter().map(|(key, _)| &*key.package).collect();
        let files: Vec<&str> = counted.iter().map(|(key, _)| &*key.file).collect();
        let days: Vec<Date> = counted.iter().map(|(key, _)| key.day).collect();
        let downloads: Vec<i64> = counted.iter().map(|(_, counts)| counts.downloads).collect();
        let uploads: Vec<i64> = counted.iter().map(|(_, counts)| counts.uploads).collect();
        self.database
            .execute(&self.sql.add_usage, &[&channels, &packages, &files, &days, &downloads, &uploads])
            .await?;
        Ok(())
    }

    /// Downloads and uploads of each file of a package, over all days that were flushed.
    pub async fn of_package(
        &self,
        channel: Scope,
        package: &str,
    ) -> Result<Vec<(String, i64, i64)>, DbError> {
        let rows = self.database.query(&self.sql.usage_of_package, &[&channel.0, &package]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }
}
