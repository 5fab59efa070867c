//! The Deployment of the pods that serve.

use super::merge::merge_template;
use super::pod::{self, Purpose};
use super::{BuildError, metadata, non_empty_list, pod_selector};
use crate::labels::{self, Component};
use crate::registry::validate::{ROTATION, Scale, ValidatedRegistry, server};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, SleepAction,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How long a pod still serves after it is told to go, in seconds: until no ingress sends it anything more.
const BEFORE_DRAIN: i64 = 5;
/// What is left after the drain for the last answers and traces, in seconds.
const AFTER_DRAIN: i64 = 10;
/// The container's name.
const CONTAINER: &str = "registry";
const MEBIBYTE: u64 = 1 << 20;
/// The bytes of a part buffer.
const PART_BUFFER: u64 = 8 * MEBIBYTE;

/// The pods that serve.
pub fn deployment(registry: &ValidatedRegistry, config_checksum: &str) -> Result<Deployment, BuildError> {
    let replicas = match registry.scale {
        Scale::Fixed(replicas) => Some(replicas),
        // The autoscaler's field: whoever else applies it takes back what the load asked for.
        Scale::Automatic { .. } => None,
    };
    Ok(Deployment {
        metadata: metadata(registry, &registry.name, Component::Registry),
        spec: Some(DeploymentSpec {
            replicas,
            selector: pod_selector(registry, Component::Registry),
            template: merge_template(template(registry, config_checksum), &registry.pod.overrides)?,
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            min_ready_seconds: Some(2),
            revision_history_limit: Some(3),
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

fn template(registry: &ValidatedRegistry, config_checksum: &str) -> PodTemplateSpec {
    let mut labels = registry.pod.labels.clone();
    labels.extend(labels::labels(&registry.name, Component::Registry));
    let mut annotations = registry.pod.annotations.clone();
    annotations.extend([
        (pod::CONFIG_CHECKSUM.to_owned(), config_checksum.to_owned()),
        (pod::SECRETS_CHECKSUM.to_owned(), registry.secrets_checksum.clone()),
        ("kubectl.kubernetes.io/default-container".to_owned(), CONTAINER.to_owned()),
    ]);
    // The database's password is read once, at the start.
    annotations.extend(registry.rotation.clone().map(|rotation| (ROTATION.to_owned(), rotation)));
    let mut volumes = vec![pod::files(registry, Purpose::Serve), pod::empty_dir("tmp", None)];
    let mut mounts = vec![pod::files_mount(), pod::mount("tmp", "/tmp")];
    let cache = &registry.server.cache;
    if cache.dir.is_some() {
        // Kubernetes evicts a pod that goes beyond the limit, and files that are being fetched come on top.
        let limit = cache.max_size.saturating_add((cache.max_size / 10).max(64 * MEBIBYTE));
        volumes.push(pod::empty_dir("cache", Some(pod::bytes(limit))));
        mounts.push(pod::mount("cache", server::CACHE));
    }
    let drain = registry.server.limits.drain_timeout.as_millis().div_ceil(1000);
    let drain = i64::try_from(drain).unwrap_or(i64::MAX - BEFORE_DRAIN - AFTER_DRAIN);
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(registry.image.clone()),
        image_pull_policy: registry.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(vec!["serve".to_owned(), "--config".to_owned(), config_path()]),
        env: Some(environment(registry)),
        ports: Some(vec![port("http", server::HTTP_PORT), port("management", server::MANAGEMENT_PORT)]),
        resources: Some(registry.pod.resources.clone().unwrap_or_else(|| resources(registry))),
        // Two minutes to start in; then a process that does not answer for a minute is beyond help.
        startup_probe: Some(pod::probe("/livez", 2, 60)),
        liveness_probe: Some(pod::probe("/livez", 10, 6)),
        // All pods share one database. While it is away for moments they answer 503 with Retry-After, which
        // says more than an ingress that has no pod left; pods that are told to go leave the Service at once
        // in any case.
        readiness_probe: Some(pod::probe("/readyz", 5, 12)),
        lifecycle: Some(Lifecycle {
            // Ingresses learn late that a pod goes.
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: BEFORE_DRAIN }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            affinity: registry.pod.affinity.clone(),
            topology_spread_constraints: Some(
                ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                    .map(|key| spread(registry, key))
                    .into(),
            ),
            termination_grace_period_seconds: Some(drain.saturating_add(BEFORE_DRAIN + AFTER_DRAIN)),
            ..pod::pod(registry)
        }),
    }
}

/// The config file's path in a pod.
pub fn config_path() -> String {
    server::path(server::CONFIG).display().to_string()
}

fn environment(registry: &ValidatedRegistry) -> Vec<EnvVar> {
    let variable =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    // So that `kubectl exec` needs no arguments: `granary token create`.
    let mut env = vec![variable("GRANARY_CONFIG", config_path())];
    let proxy = registry.https_proxy.as_ref();
    env.extend(proxy.map(|proxy| variable("GRANARY_OUTBOUND_HTTPS_PROXY", proxy.expose().to_owned())));
    env.extend(registry.pod.env.iter().cloned());
    env
}

/// A port of a container.
pub fn port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// What the process takes by itself, and what the spec lets it keep in memory.
fn resources(registry: &ValidatedRegistry) -> k8s_openapi::api::core::v1::ResourceRequirements {
    let limits = &registry.server.limits;
    let kept = registry
        .server
        .cache
        .memory
        .saturating_add(u64::from(limits.upload_buffers).saturating_mul(PART_BUFFER));
    let request = (64 * MEBIBYTE).saturating_add(kept / 2);
    pod::resources("100m", pod::bytes(request), pod::bytes((384 * MEBIBYTE).saturating_add(kept)))
}

/// Spreads the pods of one revision as far as there is room: counted together with those that are leaving, a
/// rollout would end lopsided.
fn spread(registry: &ValidatedRegistry, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(pod_selector(registry, Component::Registry)),
        match_label_keys: non_empty_list(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}
