//! The job queue: one run at a time, and only its own worker ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use granary_core::{Clock, ManualClock, SystemClock};
use granary_store::{Done, JobFailure, JobLock, Jobs, NewJob, Store};
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::{Buckets, TestDatabase, store};

struct Queue {
    database: TestDatabase,
    buckets: Buckets,
    clock: ManualClock,
}

impl Queue {
    async fn new() -> Self {
        let clock = ManualClock::new(SystemClock.now());
        Self { database: TestDatabase::migrated().await, buckets: Buckets::start().await, clock }
    }

    async fn worker(&self) -> Store {
        store(&self.database.url, self.buckets.address, Arc::new(self.clock.clone())).await
    }

    async fn enqueue(&self, store: &Store) {
        let job = NewJob {
            kind: "work",
            dedup_key: Some("one".to_owned()),
            payload: json!({}),
            run_at: self.clock.now(),
            max_attempts: 3,
        };
        store.jobs().enqueue(&job).await.unwrap();
    }

    fn pass(&self, time: SignedDuration) {
        self.clock.set(self.clock.now() + time);
    }

    /// State, attempts and runs of the one job.
    async fn job(&self) -> Option<(String, i32, i64)> {
        let row = self.database.client.query_opt("select state, attempts, runs from job", &[]).await.unwrap();
        row.map(|row| (row.get(0), row.get(1), row.get(2)))
    }
}

/// Waits for a permit before it ends so; counts how often it began.
fn waiting(jobs: Jobs, gate: &Arc<Semaphore>, began: &Arc<AtomicU32>, done: Done) -> Jobs {
    let (gate, began) = (Arc::clone(gate), Arc::clone(began));
    jobs.handle("work", move |_| {
        let (gate, began) = (Arc::clone(&gate), Arc::clone(&began));
        async move {
            began.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await?.forget();
            Ok::<_, JobFailure>(done)
        }
    })
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_job_cannot_end_it() {
    let queue = Queue::new().await;
    let (one, two) = (queue.worker().await, queue.worker().await);
    queue.enqueue(&one).await;
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let slow = waiting(one.jobs(), &gate, &began, Done::Finished);
    let slow = tokio::spawn(async move { slow.work_once().await });
    until(|| began.load(Ordering::SeqCst) == 1).await;
    let quick = two.jobs().handle("work", async |_| Ok(Done::Again(SignedDuration::ZERO)));
    assert!(!quick.work_once().await.unwrap(), "it is locked");
    // The first worker is taken for dead; the second runs the job, which counts as its first run again.
    queue.pass(SignedDuration::from_mins(3));
    assert!(quick.work_once().await.unwrap());
    assert_eq!(queue.job().await, Some(("queued".to_owned(), 0, 2)));
    let again = waiting(two.jobs(), &Arc::new(Semaphore::new(0)), &began, Done::Finished);
    let held = tokio::spawn(async move { again.work_once().await });
    until(|| began.load(Ordering::SeqCst) == 2).await;
    assert_eq!(queue.job().await, Some(("running".to_owned(), 1, 3)));
    gate.add_permits(1);
    assert!(slow.await.unwrap().unwrap());
    assert_eq!(queue.job().await, Some(("running".to_owned(), 1, 3)), "what the first says has no effect");
    held.abort();
}

#[tokio::test]
async fn a_lock_is_renewed_while_the_job_runs() {
    let database = TestDatabase::migrated().await;
    let buckets = Buckets::start().await;
    let store = store(&database.url, buckets.address, Arc::new(SystemClock)).await;
    let job = NewJob {
        kind: "work",
        dedup_key: None,
        payload: json!({}),
        run_at: SystemClock.now(),
        max_attempts: 3,
    };
    store.jobs().enqueue(&job).await.unwrap();
    let lock = JobLock { lasts: Duration::from_millis(1500), renewed_every: Duration::from_millis(100) };
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = waiting(store.jobs().with_lock(lock), &gate, &began, Done::Finished);
    let working = {
        let worker = worker.clone();
        tokio::spawn(async move { worker.work_once().await })
    };
    until(|| began.load(Ordering::SeqCst) == 1).await;
    let first: jiff::Timestamp = database.row("select locked_until from job").await.get(0);
    // Well past the first lock, the job is still this worker's.
    while SystemClock.now() < first + SignedDuration::from_millis(300) {
        assert!(!worker.work_once().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gate.add_permits(1);
    assert!(working.await.unwrap().unwrap());
    assert_eq!(began.load(Ordering::SeqCst), 1);
    assert_eq!(database.row("select count(*) from job").await.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_job_that_is_taken_away_is_broken_off() {
    let database = TestDatabase::migrated().await;
    let buckets = Buckets::start().await;
    let store = store(&database.url, buckets.address, Arc::new(SystemClock)).await;
    let job = NewJob {
        kind: "work",
        dedup_key: None,
        payload: json!({}),
        run_at: SystemClock.now(),
        max_attempts: 3,
    };
    store.jobs().enqueue(&job).await.unwrap();
    let lock = JobLock { lasts: Duration::from_mins(1), renewed_every: Duration::from_millis(20) };
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = waiting(store.jobs().with_lock(lock), &gate, &began, Done::Finished);
    let working = tokio::spawn(async move { worker.work_once().await });
    until(|| began.load(Ordering::SeqCst) == 1).await;
    database.run("update job set runs = runs + 1").await;
    assert!(working.await.unwrap().unwrap(), "although nothing let it end");
    assert_eq!(database.row("select count(*) from job").await.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_job_back() {
    let queue = Queue::new().await;
    let (one, two) = (queue.worker().await, queue.worker().await);
    queue.enqueue(&one).await;
    let (gate, began) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let stop = CancellationToken::new();
    let working = tokio::spawn(waiting(one.jobs(), &gate, &began, Done::Finished).work(stop.clone()));
    until(|| began.load(Ordering::SeqCst) == 1).await;
    stop.cancel();
    working.await.unwrap();
    assert_eq!(queue.job().await, Some(("queued".to_owned(), 0, 1)), "and it does not count as a failure");
    let quick = two.jobs().handle("work", async |_| Ok(Done::Finished));
    assert!(quick.work_once().await.unwrap());
    assert_eq!(queue.job().await, None);
}
