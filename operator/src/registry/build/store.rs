//! Postgres and S3 of a registry that names none: one pod with one volume.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSpec,
    PodTemplateSpec, SecretKeySelector, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deployment::port as container_port;
use super::service::{port, with_ports};
use super::{StoreObjects, metadata, pod, pod_selector};
use crate::labels::{self, Component};
use crate::registry::validate::{OwnStore, ValidatedRegistry, server};

const MEBIBYTE: u64 = 1 << 20;
const POSTGRES_PORT: i32 = 5432;
const DATA: &str = "/data";

/// The store.
pub fn store(registry: &ValidatedRegistry, plan: &OwnStore) -> StoreObjects {
    let name = registry.store_name();
    let ports = vec![
        port("postgres", POSTGRES_PORT, IntOrString::String("postgres".to_owned())),
        port("s3", server::STORE_S3_PORT, IntOrString::String("s3".to_owned())),
    ];
    let claim = (!plan.ephemeral).then(|| vec![claim(registry, plan)]);
    StoreObjects {
        service: with_ports(registry, &name, Component::Store, ports),
        stateful_set: StatefulSet {
            metadata: metadata(registry, &name, Component::Store),
            spec: Some(StatefulSetSpec {
                replicas: Some(1),
                service_name: Some(name),
                selector: pod_selector(registry, Component::Store),
                template: template(registry, plan),
                volume_claim_templates: claim,
                // What was published outlives the registry.
                persistent_volume_claim_retention_policy: Some(
                    StatefulSetPersistentVolumeClaimRetentionPolicy {
                        when_deleted: Some("Retain".to_owned()),
                        when_scaled: Some("Retain".to_owned()),
                    },
                ),
                revision_history_limit: Some(3),
                ..StatefulSetSpec::default()
            }),
            status: None,
        },
    }
}

/// The volume. Nothing of a claim's template can be changed later, so that it holds only what never does.
fn claim(registry: &ValidatedRegistry, plan: &OwnStore) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(labels::selector(&registry.name, Component::Store)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: plan.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), pod::bytes(plan.size.bytes()))].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn template(registry: &ValidatedRegistry, plan: &OwnStore) -> PodTemplateSpec {
    let any = if registry.ipv6 { "[::]" } else { "0.0.0.0" };
    let mut args = vec!["store".to_owned(), "--data-dir".to_owned(), DATA.to_owned()];
    let listens = [
        ("--postgres-listen", POSTGRES_PORT),
        ("--s3-listen", server::STORE_S3_PORT),
        ("--management-listen", server::MANAGEMENT_PORT),
    ];
    args.extend(listens.into_iter().flat_map(|(flag, port)| [flag.to_owned(), format!("{any}:{port}")]));
    let mut volumes: Vec<Volume> = vec![pod::empty_dir("tmp", None)];
    if plan.ephemeral {
        volumes.push(pod::empty_dir("data", Some(pod::bytes(plan.size.bytes()))));
    }
    let container = Container {
        name: "store".to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: registry.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(args),
        env: Some(secrets(&registry.store_name())),
        ports: Some(vec![
            container_port("postgres", POSTGRES_PORT),
            container_port("s3", server::STORE_S3_PORT),
            container_port("management", server::MANAGEMENT_PORT),
        ]),
        resources: Some(pod::resources("100m", pod::bytes(256 * MEBIBYTE), pod::bytes(1024 * MEBIBYTE))),
        // After a crash, Postgres first reads again what it had not written yet: alive, and not ready.
        startup_probe: Some(pod::probe("/livez", 1, 60)),
        liveness_probe: Some(pod::probe("/livez", 10, 6)),
        readiness_probe: Some(pod::probe("/readyz", 2, 3)),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![pod::mount("data", DATA), pod::mount("tmp", "/tmp")]),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels::labels(&registry.name, Component::Store)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            termination_grace_period_seconds: Some(60),
            ..pod::pod(registry)
        }),
    }
}

/// The secrets that the store lets its clients in by.
fn secrets(secret: &str) -> Vec<EnvVar> {
    [
        ("GRANARY_STORE_POSTGRES_PASSWORD", "postgres-password"),
        ("GRANARY_STORE_ACCESS_KEY_ID", pod::STORE_ACCESS_KEY_ID),
        ("GRANARY_STORE_SECRET_ACCESS_KEY", pod::STORE_SECRET_ACCESS_KEY),
    ]
    .into_iter()
    .map(|(name, key)| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    })
    .collect()
}
