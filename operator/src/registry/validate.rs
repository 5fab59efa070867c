//! The second step: the spec as somebody wrote it, and what it refers to, become a registry that can be
//! built. All problems are found at once. No Kubernetes client is needed here, and no clock.

mod entrance;
mod names;
mod parse;
mod pods;
pub mod server;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use granary_crds::{
    AllowedNamespaces, BucketNaming, ByteSize, CertificateRef, NetworkPolicySpec, PackageRegistrySpec,
    Problem, PullPolicy, Raw, RegistryObject, SchemaName, Secret, SecretKeyRef, ValidRegistry, Value,
    validate_registry,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::Value as Json;

use super::dereference::{ClusterIssuer, identity_keys};
pub use entrance::{Entrance, Route};
pub use pods::{PATCH_DIRECTIVE, PodPlan};
pub use storage::{DatabasePlan, OwnStore, StorePlan};

/// The annotation that asks for another database password: any value that was not there before.
pub const ROTATION: &str = "granary.dev/rotate-database-password";

/// What the operator knows beside the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What holds where the spec is silent.
    pub defaults: Defaults,
    /// What the cluster can do.
    pub cluster: Capabilities,
    /// A hash over the contents of all Secrets and `ConfigMap`s that the spec names: when it changes, pods
    /// roll.
    pub secrets_checksum: String,
    /// Whether the database's Secret has a connection string past any pooler.
    pub has_direct_url: bool,
    /// Who signs for the cluster's service accounts, if their tokens are taken.
    pub cluster_issuer: Option<ClusterIssuer>,
}

/// What holds where a spec is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The image of the pods.
    pub image: String,
    /// The image of the store's pod.
    pub store_image: String,
    /// When images are pulled; left to Kubernetes when absent.
    pub image_pull_policy: Option<PullPolicy>,
}

/// What the cluster can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It knows `HTTPRoute` in `gateway.networking.k8s.io/v1`.
    pub gateway_api: bool,
    /// It knows `ServiceMonitor` in `monitoring.coreos.com/v1`.
    pub service_monitor: bool,
    /// Pods and Services have IPv6 addresses first; the address of the API server's own Service says so.
    pub ipv6: bool,
}

/// A registry that can be built.
#[derive(Debug, Clone)]
pub struct ValidatedRegistry {
    /// The object's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// What the rotation annotation says.
    pub rotation: Option<String>,
    /// The pods' image.
    pub image: String,
    /// When images are pulled; left to Kubernetes when absent.
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets to pull images with.
    pub image_pull_secrets: Vec<String>,
    /// How many pods there are.
    pub scale: Scale,
    /// Where the registry is reached.
    pub entrance: Entrance,
    /// Where it keeps what it holds.
    pub store: StorePlan,
    /// How the pods are made and where they run.
    pub pod: PodPlan,
    /// Who may send requests (everybody when empty), if there is to be a `NetworkPolicy`.
    pub network_policy: Option<Vec<NetworkPolicyPeer>>,
    /// The labels of the `ServiceMonitor`, if there is to be one.
    pub service_monitor: Option<BTreeMap<String, String>>,
    /// Whose channels may name this registry.
    pub namespaces: AdmittedNamespaces,
    /// The Secret of the first admin's password.
    pub admin_password: Option<SecretKeyRef>,
    /// The Secret of the identity sources, and the keys of it that they name.
    pub identity_secret: Option<(String, BTreeSet<String>)>,
    /// The Secret of the keys that secrets are encrypted with.
    pub sealing_keys: Option<SecretKeyRef>,
    /// The keys of who signs for the cluster's service accounts, as a JSON Web Key Set.
    pub cluster_keys: Option<String>,
    /// Certificate authorities to trust beside the system's, but for Postgres.
    pub outbound_ca: Option<CertificateRef>,
    /// The proxy that the pods go through; may hold a password.
    pub https_proxy: Option<Secret>,
    /// Whether the pods are reached by IPv6.
    pub ipv6: bool,
    /// The hash over everything that the spec refers to.
    pub secrets_checksum: String,
    /// The spec as the pods get it.
    pub server_spec: PackageRegistrySpec,
    /// The same as the pods read it.
    pub server: ValidRegistry,
    schema: SchemaName,
    bucket_naming: BucketNaming,
}

impl ValidatedRegistry {
    /// The Postgres schema of the tables.
    pub const fn schema(&self) -> &SchemaName {
        &self.schema
    }

    /// How buckets are named.
    pub const fn bucket_naming(&self) -> &BucketNaming {
        &self.bucket_naming
    }

    /// The name of the `NAME-database` Secret, which the operator makes when it makes roles.
    pub fn database_secret_name(&self) -> String {
        format!("{}-database", self.name)
    }

    /// The name of the operator's own store: of its `StatefulSet`, its Service and its Secret.
    pub fn store_name(&self) -> String {
        format!("{}-store", self.name)
    }
}

/// How many pods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    Fixed(i32),
    /// As many as the load asks for.
    Automatic {
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
        /// The share of the requested CPU that the pods are held at, in percent.
        target_cpu_percent: i32,
    },
}

impl Scale {
    /// The most pods that there may be.
    pub const fn most(self) -> i32 {
        match self {
            Self::Fixed(replicas) => replicas,
            Self::Automatic { max, .. } => max,
        }
    }
}

/// Whose channels may name a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedNamespaces {
    own: String,
    names: BTreeSet<String>,
    selector: Option<Selector>,
}

impl AdmittedNamespaces {
    /// Whether channels of a namespace are admitted by its name.
    pub fn admits_name(&self, namespace: &str) -> bool {
        namespace == self.own || self.names.contains(namespace)
    }

    /// Whether the labels of a namespace may admit its channels: those have to be read only then.
    pub const fn selects(&self) -> bool {
        self.selector.is_some()
    }

    /// Whether channels of a namespace with these labels are admitted.
    pub fn admits(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.admits_name(namespace) || self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// Collects problems, so that all of them are told at once.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    fn read<T: Value>(&mut self, path: &str, raw: &Raw<T>) -> Option<T> {
        raw.read().map_err(|error| self.add(path, error.to_string())).ok()
    }

    fn object_name(&mut self, path: &str, name: &str, kind: &str) {
        if !names::is_object_name(name) {
            self.add(path, format!("write the name of a {kind}: lower-case letters, digits, '-' and '.'"));
        }
    }

    fn data_key(&mut self, path: &str, key: &str) {
        if !names::is_data_key(key) {
            self.add(path, "write a key of the object's data: letters, digits, '-', '_' and '.'");
        }
    }

    fn image(&mut self, path: &str, image: &str) {
        if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.add(path, "write an image such as registry.example/granary:1.0.0");
        }
    }
}

/// Reads everything that a registry is to be.
pub fn validate(object: &RegistryObject, facts: &Facts) -> Result<ValidatedRegistry, Vec<Problem>> {
    let mut problems = Problems::default();
    match read(&mut problems, object, facts) {
        Some(registry) if problems.0.is_empty() => Ok(registry),
        _ => Err(problems.0),
    }
}

/// Reads every part before it gives up on any.
fn read(problems: &mut Problems, object: &RegistryObject, facts: &Facts) -> Option<ValidatedRegistry> {
    let spec = &object.spec;
    let metadata = &object.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    if !names::is_registry_name(&name) {
        problems.add(
            "metadata.name",
            format!(
                "write a name of at most {} lower-case letters, digits and '-', beginning with a letter: the \
                 objects of the registry are named after it",
                names::LONGEST_REGISTRY_NAME
            ),
        );
    }
    if namespace.is_empty() || metadata.uid.is_none() {
        problems.add("metadata", "the object has no namespace or no uid: it comes from no API server");
    }
    let image = spec.image.as_ref().unwrap_or(&facts.defaults.image);
    problems.image("spec.image", image);
    for (index, secret) in spec.image_pull_secrets.iter().enumerate() {
        problems.object_name(&format!("spec.imagePullSecrets[{index}].name"), &secret.name, "Secret");
    }
    let scale = scale(problems, spec);
    let service = format!("http://{name}.{namespace}.svc");
    let entrance = entrance::entrance(problems, spec, &name, service, facts.cluster.gateway_api);
    let store = storage::storage(problems, spec, facts);
    let pod = pods::pods(problems, &spec.pod, spec.autoscaling.is_some());
    let network_policy = network_policy(problems, &spec.network_policy);
    pods::label_map(problems, "spec.monitoring.labels", &spec.monitoring.labels);
    let service_monitor = (spec.monitoring.service_monitor && facts.cluster.service_monitor)
        .then(|| spec.monitoring.labels.clone());
    let namespaces = admitted_namespaces(problems, &spec.allowed_namespaces, &namespace);
    let admin_password =
        spec.admins.initial.as_ref().and_then(|initial| storage::initial_admin(problems, initial));
    let sealing_keys = storage::sealing_keys(problems, &spec.sealing);
    if let Some(secret) = &spec.identity.secret_ref {
        problems.object_name("spec.identity.secretRef.name", &secret.name, "Secret");
    }
    if spec.identity.service_accounts.enabled && spec.identity.service_accounts.audience.is_empty() {
        problems.add(
            "spec.identity.serviceAccounts.audience",
            "name the audience of their tokens, such as granary",
        );
    }
    if let Some(reference) = &spec.outbound.ca_ref {
        storage::certificates(problems, "spec.outbound.caRef", reference);
    }

    let store_endpoint = format!("http://{name}-store.{namespace}.svc:{}", server::STORE_S3_PORT);
    let surroundings = server::Surroundings {
        own_store: (spec.database.is_none() && spec.object_store.is_none()).then_some(&store_endpoint),
        public_url: entrance
            .public_url
            .as_ref()
            .map(granary_crds::HttpUrl::as_str)
            .or(spec.public_url.as_ref().map(Raw::text)),
        ipv6: facts.cluster.ipv6,
        caches: spec.cache.max_size.read() != Ok(ByteSize::new(0)),
        cluster_issuer: facts.cluster_issuer.as_ref().map(|issuer| issuer.url.as_str()),
    };
    let server_spec = server::server_spec(spec, surroundings);
    // The proxy is checked with the rest, though the pods have it from elsewhere.
    let mut checked = server_spec.clone();
    checked.outbound.https_proxy.clone_from(&spec.outbound.https_proxy);
    let server = validate_registry(&checked).map_err(|found| problems.0.extend(found)).ok()?;
    let schema = server.database.as_ref()?.schema.clone();
    let bucket_naming = server.object_store.as_ref()?.bucket_naming.clone();
    Some(ValidatedRegistry {
        name,
        namespace,
        uid: metadata.uid.clone()?,
        rotation: metadata.annotations.as_ref().and_then(|annotations| annotations.get(ROTATION)).cloned(),
        image: image.clone(),
        image_pull_policy: spec.image_pull_policy.or(facts.defaults.image_pull_policy),
        image_pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        scale,
        entrance,
        store: store?,
        pod,
        network_policy,
        service_monitor,
        namespaces,
        admin_password,
        identity_secret: spec
            .identity
            .secret_ref
            .as_ref()
            .map(|secret| (secret.name.clone(), identity_keys(&spec.identity))),
        sealing_keys,
        cluster_keys: facts.cluster_issuer.as_ref().map(|issuer| issuer.keys.clone()),
        outbound_ca: spec.outbound.ca_ref.clone(),
        https_proxy: spec.outbound.https_proxy.clone(),
        ipv6: facts.cluster.ipv6,
        secrets_checksum: facts.secrets_checksum.clone(),
        server_spec,
        server,
        schema,
        bucket_naming,
    })
}

fn scale(problems: &mut Problems, spec: &PackageRegistrySpec) -> Scale {
    let Some(autoscaling) = &spec.autoscaling else {
        if spec.replicas < 0 {
            problems.add("spec.replicas", "write a number of pods of at least 0");
        }
        return Scale::Fixed(spec.replicas);
    };
    let (min, max) = (autoscaling.min_replicas, autoscaling.max_replicas);
    if min < 1 {
        problems.add("spec.autoscaling.minReplicas", "write a number of pods of at least 1");
    }
    if min > max {
        problems.add("spec.autoscaling", "minReplicas is at most maxReplicas");
    }
    if autoscaling.target_cpu_percent < 1 {
        problems.add("spec.autoscaling.targetCpuPercent", "write a share in percent, such as 70");
    }
    Scale::Automatic { min, max, target_cpu_percent: autoscaling.target_cpu_percent }
}

fn network_policy(problems: &mut Problems, spec: &NetworkPolicySpec) -> Option<Vec<NetworkPolicyPeer>> {
    let peers = parse::parse_list(problems, "spec.networkPolicy.from", "a network policy peer", &spec.from);
    spec.enabled.then_some(peers)
}

fn admitted_namespaces(problems: &mut Problems, spec: &AllowedNamespaces, own: &str) -> AdmittedNamespaces {
    const SELECTOR: &str = "spec.allowedNamespaces.selector";
    for (index, name) in spec.names.iter().enumerate().filter(|(_, name)| !names::is_dns_label(name)) {
        let message = if name == "*" {
            "to admit every namespace, write selector: {}".to_owned()
        } else {
            "write the name of a namespace: lower-case letters, digits and '-'".to_owned()
        };
        problems.add(format!("spec.allowedNamespaces.names[{index}]"), message);
    }
    let selector = spec
        .selector
        .as_ref()
        .and_then(|json| {
            let json = Json::Object(json.clone());
            parse::parse::<LabelSelector>(problems, SELECTOR, "a label selector", &json)
        })
        .and_then(|selector| {
            Selector::try_from(selector)
                .map_err(|_| {
                    problems.add(SELECTOR, "an expression's operator is In, NotIn, Exists or DoesNotExist");
                })
                .ok()
        });
    AdmittedNamespaces { own: own.to_owned(), names: spec.names.iter().cloned().collect(), selector }
}

#[cfg(test)]
pub(super) mod tests;
