//! Of several operators one works: the one that holds the lease. Who loses it ends, since another may be at work already.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::operator::FIELD_MANAGER;

/// The name of the lease.
const LEASE: &str = "granary-operator";
/// For how long the lease holds without being renewed, in seconds.
const DURATION: u64 = 15;
/// How long before that it is renewed, in seconds.
const GRACE: u64 = 5;
/// How long the lease may take to be given back.
const RELEASE: Duration = Duration::from_secs(3);

/// A lease that is held.
pub struct Lease {
    states: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Lease {
    /// Waits until the lease is ours; nothing when told to stop before.
    pub async fn acquire(
        client: Client,
        namespace: &str,
        identity: &str,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(format!("{FIELD_MANAGER}-{identity}"))
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        let (mut states, task) = manager.watch().await;
        let ours = async { states.wait_for(|held| *held).await.is_ok() };
        tokio::select! {
            held = ours => {
                if held {
                    return Ok(Some(Self { states, task }));
                }
            }
            () = stop.cancelled() => {}
        }
        let lease = Self { states, task };
        lease.release().await;
        Ok(None)
    }

    /// Returns when the lease is not ours any more.
    pub async fn lost(&mut self) {
        // An error means that the task that renews it has ended.
        let _ = self.states.wait_for(|held| !*held).await;
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(self) {
        drop(self.states);
        if let Ok(Ok(Ok(manager))) = tokio::time::timeout(RELEASE, self.task).await
            && let Err(error) = manager.release().await
        {
            tracing::warn!(error = granary_core::report(&error), "the lease could not be given back");
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}
