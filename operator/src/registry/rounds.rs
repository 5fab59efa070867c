//! What is looked at without being told: Postgres and S3 tell nobody when somebody changes them. One task a registry, with
//! a number of queries that does not depend on how many channels there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::{Connection, Key};
use crate::operator::Operator;

/// How often channels are looked for that pods have written down and that wait for their bucket.
const PENDING_EVERY: Duration = Duration::from_secs(2);
/// How often all rows are compared with those that were written, and the counts are read.
const COMPARE_EVERY: Duration = Duration::from_secs(20);

/// How often the object store is asked for an answer: once for the registry, whatever the number of its channels.
const STORE_EVERY: Duration = Duration::from_secs(10);

/// Begins the rounds of a connection, unless they go on already. They end with the connection.
pub(super) fn begin(operator: &Arc<Operator>, registry: &Key, connection: &Arc<Connection>) {
    if connection.begin_rounds() {
        tokio::spawn(rounds(Arc::clone(operator), registry.clone(), Arc::clone(connection)));
    }
}

/// A registry is gone, and with it the way to its channels.
pub(super) fn forget(operator: &Operator, registry: &Key) {
    operator.links.remove(registry);
    operator.look_at_channels(registry, |_| true);
}

async fn rounds(operator: Arc<Operator>, registry: Key, connection: Arc<Connection>) {
    let mut ticks = tokio::time::interval(PENDING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut compared, mut asked) = (Instant::now(), Instant::now());
    let (mut works, mut store_works) = (true, true);
    loop {
        ticks.tick().await;
        let Some(link) = operator.links.get(&registry) else { return };
        if !link.connection.is_ok_and(|current| Arc::ptr_eq(&current, &connection)) {
            return;
        }
        if !operator.knows_registry(&registry) {
            forget(&operator, &registry);
            return;
        }
        if link.paused {
            continue;
        }
        let result = round(&operator, &registry, &connection, &mut compared).await;
        if asked.elapsed() >= STORE_EVERY {
            asked = Instant::now();
            let answers = super::object_store_problem(&connection).await.is_none();
            if answers != store_works {
                store_works = answers;
                tell(&operator, &registry, answers);
            }
        }
        if works != result.is_ok() {
            works = result.is_ok();
            if let Err(error) = &result {
                tracing::warn!(%registry, error = granary_core::report(error), "a registry cannot be looked at");
            }
            tell(&operator, &registry, works);
        }
    }
}

/// The registry says what is wrong, and when it is over; then its channels need not sit out their back-off.
fn tell(operator: &Operator, registry: &Key, is_over: bool) {
    operator.look_at_registry(registry);
    if is_over {
        operator.look_at_channels(registry, |channel| !crate::channel::is_ready(channel));
    }
}

async fn round(
    operator: &Operator,
    registry: &Key,
    connection: &Connection,
    compared: &mut Instant,
) -> Result<(), granary_store::DbError> {
    for pending in connection.store.provision_pending(&connection.naming).await? {
        let channel = format!("{}/{}", pending.format, pending.name);
        match pending.outcome {
            Ok(bucket) => {
                tracing::info!(%registry, channel, bucket = bucket.bucket, "made a channel's bucket");
            }
            Err(error) => tracing::warn!(
                %registry,
                channel,
                error = granary_core::report(&error),
                "a channel's bucket cannot be made"
            ),
        }
    }
    if compared.elapsed() < COMPARE_EVERY {
        return Ok(());
    }
    *compared = Instant::now();
    if let Err(error) = connection.store.resume_removals().await {
        tracing::warn!(%registry, error = granary_core::report(&error), "a channel cannot be removed");
    }
    let mut changed = connection.compare_rows(&connection.store.channel_fingerprints().await?);
    changed.extend(connection.take_stats(connection.store.channel_stats().await?));
    if connection.take_count(connection.store.served_channels().await?) {
        operator.look_at_registry(registry);
    }
    if !changed.is_empty() {
        operator.look_at_channels(registry, |channel| {
            changed.iter().any(|wanted| crate::channel::is(channel, wanted))
        });
    }
    Ok(())
}
