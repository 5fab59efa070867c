//! What runs by itself: the job worker with its periodic jobs, and the counters that are written down now and then.

use std::time::Duration;

use granary_conda::Conda;
use granary_core::report;
use granary_crds::ValidRegistry;
use granary_identity::Identity;
use granary_store::{ChannelCount, DbError, Done, JobFailure, Jobs, NewJob, Store};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::assemble::Assembled;

/// How often counters are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked for channels that changed since what is in them was counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How often objects that no row knows are looked for, which lists whole buckets.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How often it is looked for rows that were kept long enough.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// For how many days uploads and downloads are counted apart.
const USAGE_DAYS: i64 = 400;
/// How soon the scrubber goes on when there was more to read than one run reads.
const SCRUB_ON: SignedDuration = SignedDuration::from_secs(5);
/// How soon the scrubber looks again when everything was read.
const SCRUB_REST: SignedDuration = SignedDuration::from_mins(10);

/// The periodic jobs beside those of the protocols: one of each in the queue, whatever the number of pods.
const PERIODIC: [&str; 4] = ["collect", "prune", "sweep", "scrub"];

/// How the protocols count what is in their channels.
const COUNTS: [ChannelCount; 2] = [granary_pypi::COUNT, granary_conda::COUNT];

/// Runs jobs, counts what is in the channels and writes counters down until told to stop.
pub async fn run(registry: &ValidRegistry, assembled: &Assembled, stop: CancellationToken) {
    let jobs = assembled.conda.handle_jobs(jobs(registry, &assembled.store, &assembled.identity));
    let flushing = flush_counters(assembled.store.clone(), assembled.identity.clone(), stop.clone());
    let counting = count_channels(assembled.store.clone(), stop.clone());
    let resealing = reseal(&assembled.conda, stop.clone());
    tokio::join!(work(jobs, assembled.store.clone(), stop), flushing, counting, resealing);
}

/// Once, for the keys of the configuration change only with the process.
async fn reseal(conda: &Conda, stop: CancellationToken) {
    loop {
        match conda.reseal().await {
            Ok(0) => return,
            Ok(resealed) => {
                tracing::info!(resealed, "private keys were encrypted anew");
                return;
            }
            Err(error) => {
                tracing::warn!(error = report(&error), "private keys could not be encrypted anew");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
    }
}

async fn work(jobs: Jobs, store: Store, stop: CancellationToken) {
    while let Err(error) = enqueue_periodic(&jobs, &store).await {
        tracing::warn!(error = report(&error), "the periodic jobs could not be put on the queue");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FLUSH_EVERY) => {}
        }
    }
    jobs.work(stop).await;
}

async fn enqueue_periodic(jobs: &Jobs, store: &Store) -> Result<(), DbError> {
    for kind in PERIODIC.iter().chain(&granary_conda::PERIODIC_JOBS) {
        let job = NewJob {
            kind,
            dedup_key: Some(format!("periodic:{kind}")),
            payload: json!({}),
            run_at: store.clock().now(),
            // Never given up: an outage may last.
            max_attempts: i32::MAX,
        };
        jobs.enqueue(&job).await?;
    }
    Ok(())
}

fn jobs(registry: &ValidRegistry, store: &Store, identity: &Identity) -> Jobs {
    let retention = registry.backup_retention;
    let collect_every = signed(registry.jobs.collect_every);
    let scrub_every = registry.jobs.scrub_every;
    let audit_retention = registry.identity.audit_retention;
    let (collector, sweeper, scrubber, pruner) = (store.clone(), store.clone(), store.clone(), store.clone());
    let identity = identity.clone();
    store
        .jobs()
        .handle("collect", move |_| {
            let store = collector.clone();
            async move {
                let collected = store.collect(retention).await?;
                tracing::info!(blobs = collected.blobs, objects = collected.objects, "collected");
                Ok::<_, JobFailure>(Done::Again(collect_every))
            }
        })
        .handle("prune", move |_| {
            let (store, identity) = (pruner.clone(), identity.clone());
            async move {
                let now = store.clock().now();
                let audit = store.prune_audit(audit_retention, now).await?;
                let oldest =
                    (now - SignedDuration::from_hours(24 * USAGE_DAYS)).to_zoned(TimeZone::UTC).date();
                let usage = store.prune_usage_days(oldest).await?;
                let credentials = identity.prune().await?;
                let parts = store.prune_documents().await?;
                tracing::info!(audit, usage, credentials, parts, "removed rows that were kept long enough");
                Ok::<_, JobFailure>(Done::Again(PRUNE_EVERY))
            }
        })
        .handle("sweep", move |_| {
            let store = sweeper.clone();
            async move {
                let found = store.sweep().await?;
                tracing::info!(found, "looked for objects that nothing knows");
                Ok::<_, JobFailure>(Done::Again(SWEEP_EVERY))
            }
        })
        .handle("scrub", move |_| {
            let store = scrubber.clone();
            async move {
                let scrubbed = store.scrub(scrub_every).await?;
                Ok::<_, JobFailure>(Done::Again(if scrubbed.read > 0 { SCRUB_ON } else { SCRUB_REST }))
            }
        })
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

async fn flush_counters(store: Store, identity: Identity, stop: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(FLUSH_EVERY) => false,
        };
        let flushed = async {
            // Each for itself: one that fails keeps what it has, and the others are written.
            let (usage, refusals, used) =
                tokio::join!(store.usage().flush(), store.flush_refusals(), identity.flush_last_used());
            usage.and(refusals).and(used)
        };
        if let Err(error) = flushed.await {
            tracing::warn!(error = report(&error), "counters could not be written down; they are kept");
        }
        if stopping {
            return;
        }
    }
}

async fn count_channels(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
        let counted = tokio::select! {
            () = stop.cancelled() => return,
            counted = store.refresh_channel_stats(&COUNTS) => counted,
        };
        match counted {
            Ok(0) => {}
            Ok(channels) => tracing::debug!(channels, "counted what is in channels that changed"),
            Err(error) => {
                tracing::warn!(error = report(&error), "what is in the channels could not be counted");
            }
        }
    }
}
