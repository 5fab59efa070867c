//! Work of which a bounded number runs at a time, and a bounded number waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out turns. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    running: Arc<Semaphore>,
    /// Whoever runs or waits has a place.
    places: Arc<Semaphore>,
}

/// A turn: over when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// So many wait already that one more would wait in vain.
#[derive(Debug, thiserror::Error)]
#[error("too many wait for their turn")]
pub struct Full;

impl Turns {
    /// Turns for so many at a time, while so many others may wait.
    pub(crate) fn new(at_a_time: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(at_a_time)),
            places: Arc::new(Semaphore::new(at_a_time + waiting)),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn take(&self) -> Result<Turn, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        // It is never closed.
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Full)?;
        Ok(Turn { _running: running, _place: place })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn who_finds_no_place_is_told_so() {
        let turns = Turns::new(1, 1);
        let first = turns.take().await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await.map(drop) }
        });
        while turns.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(turns.take().await.is_err());
        drop(first);
        waiting.await.unwrap().unwrap();
        turns.take().await.unwrap();
    }
}
