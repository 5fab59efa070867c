//! What the operator counts. Labels are kinds and reasons, both of fixed sets; never a name and never the text of an error.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `PackageRegistry` or `Channel`.
    pub kind: &'static str,
}

/// The kind of object and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindReason {
    /// `PackageRegistry` or `Channel`.
    pub kind: &'static str,
    /// The reason, as in conditions and events.
    pub reason: &'static str,
}

/// The operator's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    runs: Family<Kind, Counter>,
    failures: Family<KindReason, Counter>,
    duration: Family<Kind, Histogram, fn() -> Histogram>,
    queued: Family<Kind, Gauge>,
    running: Family<Kind, Gauge>,
    last_success: Family<Kind, Gauge<f64, AtomicU64>>,
    repairs: Family<KindReason, Counter>,
    leader: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            runs: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(seconds),
            queued: Family::default(),
            running: Family::default(),
            last_success: Family::default(),
            repairs: Family::default(),
            leader: Gauge::default(),
        };
        let own = registry.sub_registry_with_prefix("granary_operator");
        own.register("reconcile_runs", "Looks at an object", metrics.runs.clone());
        own.register(
            "reconcile_failures",
            "Looks at an object that did not make it what its spec says",
            metrics.failures.clone(),
        );
        own.register("reconcile_duration_seconds", "How long a look takes", metrics.duration.clone());
        own.register("queue_depth", "Objects that wait to be looked at", metrics.queued.clone());
        own.register("reconciles_running", "Objects that are being looked at", metrics.running.clone());
        own.register(
            "last_success_timestamp_seconds",
            "When an object was found or made as its spec says",
            metrics.last_success.clone(),
        );
        own.register("repairs", "What somebody else had changed and was put right", metrics.repairs.clone());
        own.register("leader", "1 while this process is the one that works", metrics.leader.clone());
        metrics
    }

    /// Whether this process works.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A foreign change that was put right.
    pub fn repaired(&self, kind: &'static str, what: &'static str) {
        self.repairs.get_or_create(&KindReason { kind, reason: what }).inc();
    }

    /// A look that could not even be written down.
    pub fn failed(&self, kind: &'static str, reason: &'static str) {
        self.failures.get_or_create(&KindReason { kind, reason }).inc();
    }

    /// Counts an object as waiting for as long as `turn` takes.
    pub async fn queue<T>(&self, kind: &'static str, turn: impl Future<Output = T>) -> T {
        let waiting = Waiting(self.queued.get_or_create(&Kind { kind }).clone());
        waiting.0.inc();
        turn.await
    }

    /// Measures one look at an object, until the returned value is finished or dropped.
    pub fn measure(&self, kind: &'static str) -> Measured {
        let kind = Kind { kind };
        self.runs.get_or_create(&kind).inc();
        self.running.get_or_create(&kind).inc();
        Measured { metrics: Arc::new(self.clone()), kind, began: Instant::now() }
    }
}

/// An object that waits; also one whose wait is broken off is counted out again.
struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A look at an object that is being measured.
#[derive(Debug)]
pub struct Measured {
    metrics: Arc<Metrics>,
    kind: Kind,
    began: Instant,
}

impl Measured {
    /// The object is what its spec says.
    pub fn succeeded(&self, now: jiff::Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "a metric of seconds")]
        let seconds = now.as_millisecond() as f64 / 1000.0;
        self.metrics.last_success.get_or_create(&self.kind).set(seconds);
    }

    /// It is not.
    pub fn failed(&self, reason: &'static str) {
        self.metrics.failures.get_or_create(&KindReason { kind: self.kind.kind, reason }).inc();
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.running.get_or_create(&self.kind).dec();
        self.metrics.duration.get_or_create(&self.kind).observe(self.began.elapsed().as_secs_f64());
    }
}
