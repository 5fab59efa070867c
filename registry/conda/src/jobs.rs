//! What conda channels need done beside requests.

use std::sync::Arc;

use granary_http::Refusal;
use granary_store::{DbError, Done, JobFailure, Jobs};
use jiff::SignedDuration;

use crate::plugins::transmute::ALL as TRANSMUTE_ALL;
use crate::state::Conda;
use crate::upstream::mirror::{LOOK_EVERY, MIRROR, MIRRORS};

/// The periodic jobs of conda channels: one of each in the queue, whatever the number of pods.
pub const PERIODIC_JOBS: [&str; 5] = [PRUNE_SHARDS, REFRESH_INDEXES, MIRRORS, RETENTION, TRANSMUTE_ALL];

const PRUNE_SHARDS: &str = "conda prune shards";
const RETENTION: &str = "conda retention";
/// How often it is looked for packages that are not to be kept any longer.
const RETAIN_EVERY: SignedDuration = SignedDuration::from_hours(1);
const REFRESH_INDEXES: &str = "conda refresh indexes";
/// How often it is looked for large indexes that nobody asks for.
const REFRESH_EVERY: SignedDuration = SignedDuration::from_hours(3);
/// How old what is saved of them may be: half of the day for which it is known what changed.
const UNSAVED_FOR: SignedDuration = SignedDuration::from_hours(12);
/// How often it is looked for shards that nobody can ask for any more.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// How long a shard stays after another one took its place: an index that lists it may be held for so long (CEP 16 asks
/// for a week).
const SHARDS_STAY: SignedDuration = SignedDuration::from_hours(8 * 24);

/// The failure of a job that went the way of a request.
fn failure(refusal: Refusal) -> JobFailure {
    refusal.cause.unwrap_or_else(|| refusal.message.into())
}

impl Conda {
    /// Adds what runs the jobs of conda channels.
    #[must_use]
    pub fn handle_jobs(self: &Arc<Self>, jobs: Jobs) -> Jobs {
        let (pruning, refreshing) = (Arc::clone(self), Arc::clone(self));
        let (mirrors, mirror, retaining) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let jobs = self.handle_transmutation(jobs);
        let jobs = jobs
            .handle(RETENTION, move |_| {
                let state = Arc::clone(&retaining);
                async move {
                    let packages = state.apply_retention().await.map_err(failure)?;
                    tracing::info!(packages, "deleted packages that were kept long enough");
                    Ok::<_, JobFailure>(Done::Again(RETAIN_EVERY))
                }
            })
            .handle(MIRRORS, move |_| {
                let state = Arc::clone(&mirrors);
                async move {
                    state.begin_mirrors().await?;
                    Ok::<_, JobFailure>(Done::Again(LOOK_EVERY))
                }
            })
            .handle(MIRROR, move |payload| {
                let state = Arc::clone(&mirror);
                async move { state.mirror_turn(&payload).await }
            });
        jobs.handle(PRUNE_SHARDS, move |_| {
            let state = Arc::clone(&pruning);
            async move {
                let shards = state.prune_shards().await?;
                tracing::info!(shards, "removed shards that were replaced long ago");
                Ok::<_, JobFailure>(Done::Again(PRUNE_EVERY))
            }
        })
        .handle(REFRESH_INDEXES, move |_| {
            let state = Arc::clone(&refreshing);
            async move {
                let indexes = state.refresh_indexes(UNSAVED_FOR).await.map_err(failure)?;
                tracing::info!(indexes, "refreshed large indexes that nobody asked for");
                Ok::<_, JobFailure>(Done::Again(REFRESH_EVERY))
            }
        })
    }

    /// Removes the shards that were replaced long enough ago. Says how many.
    async fn prune_shards(&self) -> Result<u64, DbError> {
        let before = self.store.clock().now() - SHARDS_STAY;
        let (mut removed, database) = (0, self.store.database());
        loop {
            match database.execute(&self.sql.prune_shards, &[&before]).await? {
                0 => return Ok(removed),
                some => removed += some,
            }
        }
    }
}
