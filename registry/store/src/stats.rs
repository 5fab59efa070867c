//! What is in the channels: counted beside the publishes by whoever finds a channel changed, never within one.

use std::time::{Duration, Instant};

use granary_core::{ChannelName, Format};
use jiff::Timestamp;

use crate::channels::read_name;
use crate::{DbError, Store};

/// How long the counting of one channel may take.
const LONGEST_COUNT: Duration = Duration::from_mins(5);

/// How a protocol counts what is in one of its channels.
#[derive(Debug, Clone, Copy)]
pub struct ChannelCount {
    /// The protocol's format.
    pub format: Format,
    /// A query over `@tables` that yields one row for the channel whose id is `$1`: `packages`, `files` and `bytes`
    /// as `bigint`, and `last_publish`, which is null where there is no file.
    pub query: &'static str,
}

/// What is in a channel, as of its last counting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStats {
    /// Its format.
    pub format: Format,
    /// Its name.
    pub name: ChannelName,
    /// Packages that have a file.
    pub packages: u64,
    /// Files.
    pub files: u64,
    /// The bytes of the files together; equal files count each.
    pub bytes: u64,
    /// When the newest of the files was published.
    pub last_publish: Option<Timestamp>,
    /// When this was counted.
    pub counted_at: Timestamp,
}

impl Store {
    /// Counts anew what is in the channels that changed since they were counted last, one process at a time a
    /// channel, and says how many it counted. What takes long to count is counted rarely.
    pub async fn refresh_channel_stats(&self, counts: &[ChannelCount]) -> Result<u64, DbError> {
        let formats: Vec<&str> = counts.iter().map(|count| count.format.as_str()).collect();
        let rows = self.database().query(&self.sql().stats_to_count, &[&formats]).await?;
        let (mut counted, mut failure) = (0, None);
        for row in &rows {
            let (channel, format): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
            let Some(count) = counts.iter().find(|count| count.format.as_str() == format) else { continue };
            match self.count_channel(channel, count).await {
                Ok(was_counted) => counted += u64::from(was_counted),
                // One that cannot be counted stands in no other's way.
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(counted), Err)
    }

    /// False when another process is at it, or has just done it.
    async fn count_channel(&self, channel: i64, count: &ChannelCount) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let row = tx.query_opt(&self.sql().lock_stats, &[&channel]).await?;
        if !row.map_or(Ok(false), |row| row.try_get(0))? {
            tx.rollback().await?;
            return Ok(false);
        }
        let began = Instant::now();
        // One statement and so one snapshot: the revision is the one of the rows that are counted.
        let query = self.database().schema().qualify(count.query);
        let [before, after] = [&self.sql().count_into, &self.sql().count_on_conflict];
        let statement = format!("{before} from ({query}) as counted {after}");
        tx.execute_within(LONGEST_COUNT, &statement, &[&channel]).await?;
        let took = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        tx.execute(&self.sql().stats_took, &[&channel, &took]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What is in each channel that is served and was counted, in one query.
    pub async fn channel_stats(&self) -> Result<Vec<ChannelStats>, DbError> {
        let rows = self.database().query(&self.sql().channel_stats, &[]).await?;
        let mut stats = Vec::with_capacity(rows.len());
        for row in &rows {
            let Ok(format) = row.try_get::<_, &str>(0)?.parse() else { continue };
            let number = |index: usize| -> Result<u64, DbError> {
                let number: i64 = row.try_get(index)?;
                u64::try_from(number).map_err(|error| DbError::decode("count", error))
            };
            stats.push(ChannelStats {
                format,
                name: read_name(format, row.try_get(1)?)?,
                packages: number(2)?,
                files: number(3)?,
                bytes: number(4)?,
                last_publish: row.try_get(5)?,
                counted_at: row.try_get(6)?,
            });
        }
        Ok(stats)
    }
}
