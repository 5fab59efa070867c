//! Wiring: the lease, the watches, and one controller a kind and namespace.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use granary_crds::{ChannelObject, RegistryObject, Telemetry, Value};
use granary_http::management::{Management, Readiness};
use granary_http::{ListenAddress, Listener, ServeSettings};
use granary_process::{Context, Failure, stop_on_signals, telemetry};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store as Reflected};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::conditions::Reason;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::operator::{Guarded, Operator, Scope, key_of};
use crate::registry::Defaults;
use crate::{channel, labels, registry};

/// How often to see whether the definitions of the resources are there by now.
const LOOK_FOR_DEFINITIONS: Duration = Duration::from_secs(3);

/// Runs the operator until it is told to stop or loses its lease.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let tracing = telemetry::start("granary-operator", &log_settings(&args)?, None)?;
    let stop = stop_on_signals()?;
    let client = Client::try_default().await.context("the way to the API server")?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let working = Arc::new(AtomicBool::new(false));
    let management = serve_management(&args, registry, Arc::clone(&working))?;
    let ended = work(&args, client, metrics, &working, &stop).await;
    management.cancel();
    tracing.finish();
    ended
}

fn log_settings(args: &RunArgs) -> Result<Telemetry, Failure> {
    let endpoint = args.otlp_endpoint.as_deref().filter(|url| !url.is_empty());
    Ok(Telemetry {
        log_format: args.log_format.into(),
        log_filter: args.log.clone(),
        otlp_endpoint: endpoint.map(granary_crds::HttpUrl::read).transpose().context("--otlp-endpoint")?,
    })
}

/// Serves `/livez`, `/readyz` and `/metrics` until the returned token is cancelled. An operator that waits for the lease is
/// ready too: it is all that it should be.
fn serve_management(
    args: &RunArgs,
    registry: Registry,
    working: Arc<AtomicBool>,
) -> Result<CancellationToken, Failure> {
    let readiness = Readiness::new().check("starting", move || {
        let working = working.load(Ordering::Acquire);
        async move { if working { Ok(()) } else { Err("not watching yet") } }
    });
    let management = Management::new(Arc::new(readiness), Arc::new(registry));
    let listener = Listener::bind(&ListenAddress::Tcp(args.listen)).context("--listen")?;
    let ended = CancellationToken::new();
    let until = ended.clone();
    tokio::spawn(async move {
        let answer = move |request: http::Request<hyper::body::Incoming>, _| {
            let management = management.clone();
            async move { management.answer(request.method().clone(), request.uri().path().to_owned()).await }
        };
        granary_http::serve(vec![listener], ServeSettings::default(), answer, until).await;
    });
    Ok(ended)
}

async fn work(
    args: &RunArgs,
    client: Client,
    metrics: Metrics,
    working: &AtomicBool,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let lease = if args.leader_election {
        working.store(true, Ordering::Release);
        let lease = Lease::acquire(client.clone(), &args.pod_namespace, &args.pod_name, stop);
        match lease.await.context("the lease")? {
            Some(lease) => Some(lease),
            None => return Ok(()),
        }
    } else {
        None
    };
    tracing::info!("at work");
    metrics.set_leader(true);
    let controllers = tokio::select! {
        controllers = begin(args, client, metrics, stop) => controllers?,
        () = stop.cancelled() => return release(lease).await,
    };
    working.store(true, Ordering::Release);
    let ended = controllers.join_all();
    match lease {
        None => {
            ended.await;
            Ok(())
        }
        Some(mut lease) => {
            tokio::select! {
                _ = ended => {}
                () = lease.lost() => {
                    // At once: what runs here may meet what the next one does.
                    return Err(Failure::new("the lease is lost: another operator may be at work"));
                }
            }
            release(Some(lease)).await
        }
    }
}

async fn release(lease: Option<Lease>) -> Result<(), Failure> {
    if let Some(lease) = lease {
        lease.release().await;
    }
    Ok(())
}

/// Begins the controllers: two for all namespaces, or two for each that is named.
async fn begin(
    args: &RunArgs,
    client: Client,
    metrics: Metrics,
    stop: &CancellationToken,
) -> Result<JoinSet<()>, Failure> {
    let named: Vec<&String> = args.watch_namespaces.iter().filter(|name| !name.is_empty()).collect();
    let namespaces: Vec<Option<&str>> = if named.is_empty() {
        vec![None]
    } else {
        named.into_iter().map(|name| Some(name.as_str())).collect()
    };
    let (mut scopes, mut watches) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        wait_for_definition::<RegistryObject>(&client, namespace).await;
        wait_for_definition::<ChannelObject>(&client, namespace).await;
        let (channels, channel_watch) = Watch::begin(api::<Guarded<ChannelObject>>(&client, namespace));
        let (registries, registry_watch) = Watch::begin(api::<Guarded<RegistryObject>>(&client, namespace));
        scopes.push(Scope {
            channels: channel_watch.reader.clone(),
            look_at_channel: channels,
            registries: registry_watch.reader.clone(),
            registries_listed: registry_watch.listed.subscribe(),
            look_at_registry: registries,
        });
        watches.push((namespace.map(str::to_owned), channel_watch, registry_watch));
    }
    let defaults = Defaults {
        image: args.image.clone(),
        store_image: args.store_image.clone(),
        image_pull_policy: args.image_pull_policy.map(Into::into),
    };
    let operator = Arc::new(Operator::new(client.clone(), defaults, metrics, args.pod_name.clone(), scopes));
    let mut tasks = JoinSet::new();
    for (namespace, channels, registries) in watches {
        let (reader, changes, requests) = registries.parts();
        let owned = watcher::Config::default().labels(&labels::managed());
        let controller = Controller::for_stream(changes, reader)
            .owns(api::<Deployment>(&client, namespace.as_deref()), owned.clone())
            .owns(api::<StatefulSet>(&client, namespace.as_deref()), owned.clone())
            .owns(api::<Job>(&client, namespace.as_deref()), owned)
            .reconcile_on(requests)
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(look_at_registry, on_error, Arc::clone(&operator));
        tasks.spawn(drive(controller, registry::KIND));
        let (reader, changes, requests) = channels.parts();
        let controller = Controller::for_stream(changes, reader)
            .reconcile_on(requests)
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(look_at_channel, on_error, Arc::clone(&operator));
        tasks.spawn(drive(controller, channel::KIND));
    }
    Ok(tasks)
}

fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A watch of one kind, and the requests to look at its objects.
struct Watch<K: Resource<DynamicType = ()> + Clone + 'static> {
    reader: Reflected<K>,
    writer: reflector::store::Writer<K>,
    api: Api<K>,
    requests: UnboundedReceiver<ObjectRef<K>>,
    /// Whether all objects have been listed once. Any number of tasks may wait for it, which the store's own
    /// `wait_until_ready` does not promise: it wakes the last who asked.
    listed: watch::Sender<bool>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    ObjectRef<K>: Hash + Eq,
{
    fn begin(api: Api<K>) -> (tokio::sync::mpsc::UnboundedSender<ObjectRef<K>>, Self) {
        let (reader, writer) = reflector::store();
        let (sender, requests) = unbounded_channel();
        (sender, Self { reader, writer, api, requests, listed: watch::Sender::new(false) })
    }

    /// Takes the watch apart into its changes of specs and annotations, and the requests. What the operator writes itself,
    /// a status or a finalizer, is no reason to look again; a deletion that is asked for is a change of the generation.
    fn parts(
        self,
    ) -> (
        Reflected<K>,
        impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
        impl Stream<Item = ObjectRef<K>> + Send + 'static,
    ) {
        use kube::runtime::Predicate;
        let listed = self.listed;
        let changes = watcher(self.api, watcher::Config::default())
            .default_backoff()
            .reflect(self.writer)
            .inspect_ok(move |event| {
                if matches!(event, watcher::Event::InitDone) {
                    listed.send_replace(true);
                }
            })
            .applied_objects()
            .predicate_filter(
                predicates::generation.combine(predicates::annotations),
                PredicateConfig::default(),
            );
        let mut requests = self.requests;
        (self.reader, changes, futures_util::stream::poll_fn(move |context| requests.poll_recv(context)))
    }
}

/// Waits until the API server knows the kind: Git may bring the operator before the definitions.
async fn wait_for_definition<K>(client: &Client, namespace: Option<&str>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let mut told = false;
    loop {
        match api::<K>(client, namespace).list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => return,
            Err(error) if !told => {
                told = true;
                let error = granary_core::report(&error);
                tracing::warn!(kind = %K::kind(&()), error, "waiting for the definition to be installed");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_FOR_DEFINITIONS).await;
    }
}

async fn look_at_registry(
    object: Arc<Guarded<RegistryObject>>,
    operator: Arc<Operator>,
) -> Result<Action, kube::Error> {
    match &object.0 {
        Ok(registry) => {
            let _turn = operator.metrics.queue(registry::KIND, operator.turns.acquire()).await;
            Box::pin(registry::reconcile(&operator, registry)).await
        }
        Err(invalid) => malformed(&operator, registry::KIND, &*object, &invalid.error).await,
    }
}

async fn look_at_channel(
    object: Arc<Guarded<ChannelObject>>,
    operator: Arc<Operator>,
) -> Result<Action, kube::Error> {
    match &object.0 {
        Ok(channel) => {
            // A registry that has not been listed yet is not one that does not exist.
            for scope in &operator.scopes {
                if scope.registries_listed.clone().wait_for(|listed| *listed).await.is_err() {
                    return Ok(Action::await_change());
                }
            }
            let _turn = operator.metrics.queue(channel::KIND, operator.turns.acquire()).await;
            Box::pin(channel::reconcile(&operator, channel)).await
        }
        Err(invalid) => malformed(&operator, channel::KIND, &*object, &invalid.error).await,
    }
}

/// An object that was stored under another definition cannot be read. It waits for its next change; the others go on.
async fn malformed<K: Resource<DynamicType = ()>>(
    operator: &Operator,
    kind: &'static str,
    object: &K,
    error: &str,
) -> Result<Action, kube::Error> {
    let key = key_of(object);
    tracing::warn!(kind, object = %key, error, "an object cannot be read");
    operator.metrics.measure(kind).failed("Malformed");
    operator
        .tell(object, true, &Reason::new("Malformed", format!("the object cannot be read: {error}")))
        .await;
    Ok(Action::await_change())
}

/// The API server could not be written to. Everything else is an outcome that the object's status tells of.
#[expect(clippy::needless_pass_by_value, reason = "what the controller calls")]
fn on_error<K: Resource<DynamicType = ()>>(
    object: Arc<K>,
    error: &kube::Error,
    operator: Arc<Operator>,
) -> Action {
    let key = key_of(&*object);
    let kind = if K::kind(&()) == registry::KIND { registry::KIND } else { channel::KIND };
    operator.metrics.failed(kind, "ApiUnavailable");
    // Two writers met; the watch brings the newer object.
    let level = matches!(error, kube::Error::Api(status) if status.is_conflict());
    if !level {
        tracing::warn!(kind, object = %key, error = granary_core::report(error), "the API server could not be written to");
    }
    Action::requeue(operator.back_off(kind, &key))
}

/// Runs a controller to its end, and tells of watches that fail: they are begun again with a back-off.
async fn drive<T, R, W>(
    controller: impl Stream<Item = Result<T, kube::runtime::controller::Error<R, W>>>,
    kind: &'static str,
) where
    R: std::error::Error + 'static,
    W: std::error::Error + 'static,
{
    use kube::runtime::controller::Error;
    let mut controller = std::pin::pin!(controller);
    while let Some(result) = controller.next().await {
        match result {
            // Told where it arose, or gone before its turn came.
            Ok(_) | Err(Error::ReconcilerFailed(..) | Error::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(kind, error = granary_core::report(&error), "a watch has failed"),
        }
    }
}
