//! The work that keeps buckets and tables tidy: collector, scrubber, pruning.
//!
//! A row goes before its object: deleting the row locks it and fails where something refers to it, and since a
//! key is never used a second time, the object can then be removed at leisure. A crash leaves at worst an object
//! that the next run removes.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use granary_core::Sha256;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use crate::channels::Channel;
use crate::objects::{BLOB_PREFIX, ListedObject, ObjectError, is_blob_key, verified};
use crate::{DbError, Store};

/// An object without a row is removed only when it is older than this. An upload is refused when it was begun
/// longer ago than [`LONGEST_UPLOAD`], so that no row can come after all.
const UNCOMMITTED_GRACE: SignedDuration = SignedDuration::from_hours(24);
/// The longest that an upload may take from its first byte to its commit.
pub(crate) const LONGEST_UPLOAD: SignedDuration = SignedDuration::from_hours(12);
/// How long the names of changed documents are kept.
const TRACE_RETENTION: SignedDuration = SignedDuration::from_hours(24);
/// How many blobs one run of the scrubber reads.
const SCRUB_BATCH: i64 = 500;

/// What went wrong in the upkeep.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

/// What one run of the collector did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs whose rows went.
    pub blobs: u64,
    /// Objects that were removed.
    pub objects: u64,
}

/// What one run of the scrubber found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs that were read.
    pub read: u64,
    /// Blobs that are missing or whose bytes are not the recorded ones.
    pub damaged: u64,
}

impl Store {
    /// Removes blobs that nothing has referred to for `retention`, their objects, and old traces of changes.
    pub async fn collect(&self, retention: Duration) -> Result<Collected, UpkeepError> {
        let now = self.clock().now();
        let before = now - SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        // First what cannot fail for the sake of one bucket.
        self.database().execute(&self.sql().prune_changes, &[&(now - TRACE_RETENTION)]).await?;
        let mut collected = Collected::default();
        loop {
            let gone = self.database().execute(&self.sql().collect_blobs, &[&before]).await?;
            collected.blobs += gone;
            if gone == 0 {
                break;
            }
        }
        collected.objects = self.remove_doomed().await?;
        Ok(collected)
    }

    /// A bucket that refuses is passed over, and told at the end.
    async fn remove_doomed(&self) -> Result<u64, UpkeepError> {
        let (mut removed, mut failure) = (0, None);
        for row in &self.database().query(&self.sql().doomed_buckets, &[]).await? {
            let bucket: &str = row.try_get(0).map_err(DbError::from)?;
            match self.remove_doomed_of(bucket).await {
                Ok(count) => removed += count,
                Err(error) => {
                    warn!(
                        bucket,
                        error = granary_core::report(&error),
                        "objects could not be removed; the next run tries again"
                    );
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    async fn remove_doomed_of(&self, bucket: &str) -> Result<u64, UpkeepError> {
        let mut removed = 0;
        loop {
            let rows = self.database().query(&self.sql().doomed, &[&bucket]).await?;
            let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>();
            let keys = keys.map_err(DbError::from)?;
            let failed: HashSet<String> = match self.objects().delete_objects(bucket, &keys).await {
                Ok(failures) => failures.into_iter().map(|failure| failure.key).collect(),
                // The bucket itself is gone, and with it the objects.
                Err(error) if error.is_not_found() => HashSet::new(),
                Err(error) => return Err(error.into()),
            };
            let gone: Vec<&str> =
                keys.iter().map(String::as_str).filter(|key| !failed.contains(*key)).collect();
            for key in &failed {
                warn!(bucket, key, "an object could not be removed; the next run tries again");
            }
            if gone.is_empty() {
                return Ok(removed);
            }
            removed += self.database().execute(&self.sql().undoom, &[&bucket, &gone]).await?;
        }
    }

    /// Finds objects that no row knows, such as those of uploads that were cut off, dooms them, and aborts
    /// multipart uploads that nobody will finish. Both only after the grace of a day.
    pub async fn sweep(&self) -> Result<u64, UpkeepError> {
        let before = self.clock().now() - UNCOMMITTED_GRACE;
        let mut found = 0;
        let mut failure = None;
        for channel in self.directory().all().await? {
            match self.sweep_channel(&channel, before).await {
                Ok(count) => found += count,
                Err(error) => {
                    warn!(
                        channel = channel.full_name(),
                        error = granary_core::report(&error),
                        "a bucket could not be swept"
                    );
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(found), Err)
    }

    async fn sweep_channel(&self, channel: &Channel, before: Timestamp) -> Result<u64, UpkeepError> {
        let listing = self.objects().list_keys(&channel.bucket, BLOB_PREFIX);
        let mut pages = std::pin::pin!(listing.ready_chunks(1000));
        let mut found = 0;
        while let Some(page) = pages.next().await {
            let page = page.into_iter().collect::<Result<Vec<_>, _>>()?;
            let is_old =
                |object: &&ListedObject| object.last_modified.is_some_and(|modified| modified < before);
            let old: Vec<&str> = page.iter().filter(is_old).map(|object| object.key.as_str()).collect();
            if old.is_empty() {
                continue;
            }
            let rows = self.database().query(&self.sql().known_keys, &[&channel.id(), &old]).await?;
            let known = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<&str>, _>>();
            let known = known.map_err(DbError::from)?;
            for key in old.iter().filter(|key| !known.contains(*key) && is_blob_key(key)) {
                found += self.database().execute(&self.sql().doom, &[&&*channel.bucket, key]).await?;
            }
        }
        match self.objects().abort_stale_uploads(&channel.bucket, before).await {
            // A store without multipart listings has its own ways of clearing them away.
            Err(ObjectError::Unsupported(_)) | Ok(_) => Ok(found),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads again the blobs that were not read for `every`, compares them with their digests and notes what is
    /// damaged. At most some hundred a call; call again until nothing is read.
    pub async fn scrub(&self, every: Duration) -> Result<Scrubbed, UpkeepError> {
        let now = self.clock().now();
        let before = now - SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX);
        let rows = self.database().query(&self.sql().blobs_to_scrub, &[&before, &SCRUB_BATCH]).await?;
        let mut scrubbed = Scrubbed::default();
        for row in &rows {
            let read = |error| UpkeepError::Database(DbError::Postgres(error));
            let id: i64 = row.try_get(0).map_err(read)?;
            let (bucket, key): (&str, &str) = (row.try_get(1).map_err(read)?, row.try_get(2).map_err(read)?);
            let sha256 = Sha256::try_from(row.try_get::<_, &[u8]>(3).map_err(read)?)
                .map_err(|error| DbError::decode("digest", error))?;
            let size: i64 = row.try_get(4).map_err(read)?;
            let channel: &str = row.try_get(5).map_err(read)?;
            let damage = match self.read_whole(bucket, key, sha256, size.unsigned_abs()).await {
                Ok(()) => None,
                Err(
                    error @ (ObjectError::NotFound(_)
                    | ObjectError::Corrupt { .. }
                    | ObjectError::WrongLength { .. }),
                ) => Some(granary_core::report(&error)),
                // An outage or a lack of rights says nothing about the bytes.
                Err(error) => return Err(error.into()),
            };
            if let Some(damage) = &damage {
                error!(channel, key, %sha256, damage, "a stored file is damaged");
                scrubbed.damaged += 1;
            }
            scrubbed.read += 1;
            self.database().execute(&self.sql().scrubbed, &[&id, &now, &damage]).await?;
        }
        info!(read = scrubbed.read, damaged = scrubbed.damaged, "stored files were read again");
        Ok(scrubbed)
    }

    async fn read_whole(
        &self,
        bucket: &str,
        key: &str,
        sha256: Sha256,
        size: u64,
    ) -> Result<(), ObjectError> {
        let stream = self.objects().open(bucket, key, None).await?;
        let mut bytes = std::pin::pin!(verified(stream, sha256, size));
        while let Some(chunk) = bytes.next().await {
            chunk?;
        }
        Ok(())
    }

    /// How many blobs the scrubber has found damaged and not yet found mended.
    pub async fn damaged_blobs(&self) -> Result<i64, DbError> {
        let row = self.database().query_opt(&self.sql().damaged, &[]).await?;
        row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
    }
}
