//! What every part of the operator shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use granary_core::{Clock, SystemClock};
use granary_crds::{ChannelObject, RegistryObject};
use kube::Client;
use kube::api::PatchParams;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store as Reflected};
use kube::{Resource, ResourceExt};
use rand::RngExt;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::conditions::{Reason, shortened};
use crate::connection::{Key, Link, Links};
use crate::metrics::Metrics;
use crate::registry::Defaults;

/// Who applies what the operator applies.
pub const FIELD_MANAGER: &str = "granary-operator";
/// Objects that are looked at at a time.
const AT_A_TIME: usize = 16;
/// The shortest and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// An object of ours that may be malformed: a definition that changed under stored objects must not stop the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// What is watched of one namespace, or of all of them.
#[derive(Debug)]
pub struct Scope {
    /// The channels that exist.
    pub channels: Reflected<Guarded<ChannelObject>>,
    /// Asks for another look at a channel.
    pub look_at_channel: mpsc::UnboundedSender<ObjectRef<Guarded<ChannelObject>>>,
    /// The registries that exist.
    pub registries: Reflected<Guarded<RegistryObject>>,
    /// Whether all of them have been listed since the operator began.
    pub registries_listed: watch::Receiver<bool>,
    /// Asks for another look at a registry.
    pub look_at_registry: mpsc::UnboundedSender<ObjectRef<Guarded<RegistryObject>>>,
}

/// What every part of the operator shares.
pub struct Operator {
    /// The way to the API server.
    pub client: Client,
    /// What holds where a `PackageRegistry` says nothing.
    pub defaults: Defaults,
    /// The registries and the ways to them.
    pub links: Links,
    /// What is counted.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Whether the cluster's own addresses are IPv6.
    pub ipv6: bool,
    /// What is watched.
    pub scopes: Vec<Scope>,
    /// Bounds how many objects are looked at at a time.
    pub turns: Semaphore,
    recorder: Recorder,
    failures: Mutex<HashMap<(&'static str, Key), u32>>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("defaults", &self.defaults).finish_non_exhaustive()
    }
}

impl Operator {
    /// Puts the parts together.
    pub fn new(
        client: Client,
        defaults: Defaults,
        metrics: Metrics,
        pod_name: String,
        scopes: Vec<Scope>,
    ) -> Self {
        // One recorder for all, since it joins events that repeat.
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(pod_name) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            defaults,
            links: Links::default(),
            metrics,
            clock: Arc::new(SystemClock),
            ipv6: std::env::var("KUBERNETES_SERVICE_HOST").is_ok_and(|address| address.contains(':')),
            scopes,
            turns: Semaphore::new(AT_A_TIME),
            failures: Mutex::default(),
        }
    }

    /// Tells of an object as an event. That it cannot be told is logged and stops nothing.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, warning: bool, reason: &Reason) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.code.to_owned(),
            note: Some(shortened(reason.message.clone())),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                error = granary_core::report(&error),
                object = object.name_any(),
                "an event could not be published"
            );
        }
    }

    /// How long to wait after one more failure of an object: twice as long each time, with jitter.
    pub fn back_off(&self, kind: &'static str, object: &Key) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let times = failures.entry((kind, object.clone())).or_insert(0);
        *times = times.saturating_add(1);
        let wait = BACKOFF.0.saturating_mul(1 << (*times - 1).min(16)).min(BACKOFF.1);
        jittered(wait)
    }

    /// An object is well again.
    pub fn recovered(&self, kind: &'static str, object: &Key) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&(kind, object.clone()));
    }

    /// Asks for another look at the channels of a registry that `wanted` picks.
    pub fn look_at_channels(&self, registry: &Key, wanted: impl Fn(&ChannelObject) -> bool) {
        for scope in &self.scopes {
            for guarded in scope.channels.state() {
                let Ok(channel) = &guarded.0 else { continue };
                let names_it = crate::channel::registry_of(channel).as_ref() == Some(registry);
                if names_it && wanted(channel) {
                    // Nobody listens any more only while the process ends.
                    let _ = scope.look_at_channel.send(ObjectRef::from_obj(&*guarded));
                }
            }
        }
    }

    /// The way to a registry, as long as there is one of that name.
    pub fn link(&self, registry: &Key) -> Option<Link> {
        if !self.knows_registry(registry) {
            self.links.remove(registry);
            return None;
        }
        self.links.get(registry)
    }

    /// Whether there is such a registry, as far as is watched.
    pub fn knows_registry(&self, registry: &Key) -> bool {
        let reference = ObjectRef::new(&registry.name).within(&registry.namespace);
        self.scopes.iter().any(|scope| scope.registries.get(&reference).is_some())
    }

    /// Asks for another look at a registry.
    pub fn look_at_registry(&self, registry: &Key) {
        let reference = ObjectRef::new(&registry.name).within(&registry.namespace);
        for scope in &self.scopes {
            if scope.registries.get(&reference).is_some() {
                // As above.
                let _ = scope.look_at_registry.send(reference.clone());
            }
        }
    }
}

/// A span of time with up to a tenth more, so that objects that failed together do not come back together.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + rand::rng().random_range(0.0..0.1))
}

/// How the operator signs what it merges into an object.
pub fn merging() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The key of an object of a namespace.
pub fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}
