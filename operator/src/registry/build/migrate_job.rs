//! The Job that brings the schema up to date before any pod of the same config starts.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value as Json};

use super::deployment::config_path;
use super::merge::merge_template;
use super::pod::{self, Purpose};
use super::{BuildError, digest, metadata, non_empty, non_empty_list};
use crate::labels::{self, Component};
use crate::registry::validate::{ValidatedRegistry, server};

const MEBIBYTE: u64 = 1 << 20;
/// How much of the hash stands in the name.
const HASH_LENGTH: usize = 8;

/// The Job. Its name changes with whatever it depends on, so that a Job that could not succeed is followed by
/// another once its cause is mended; a template never changes under the same name, which Kubernetes refuses.
pub fn migrate_job(registry: &ValidatedRegistry, config: &str) -> Result<Job, BuildError> {
    let template = merge_template(template(registry), &patch(registry))?;
    let written = serde_json::to_string(&template).map_err(BuildError::MigrateJob)?;
    let rotation = registry.rotation.as_deref().unwrap_or_default();
    let hash = digest([&written, config, rotation, &registry.secrets_checksum]);
    let name = format!("{}-migrate-{}", registry.name, &hash[..HASH_LENGTH]);
    Ok(Job {
        metadata: metadata(registry, &name, Component::Migrate),
        spec: Some(JobSpec {
            template,
            backoff_limit: Some(2),
            active_deadline_seconds: Some(1800),
            ttl_seconds_after_finished: Some(86_400),
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// The user's patch, but for the containers that run beside the one that serves: they would keep the Job from
/// ending.
fn patch(registry: &ValidatedRegistry) -> Map<String, Json> {
    let mut patch = registry.pod.overrides.clone();
    if let Some(Json::Object(spec)) = patch.get_mut("spec") {
        spec.remove("containers");
    }
    patch
}

fn template(registry: &ValidatedRegistry) -> PodTemplateSpec {
    let mut labels = registry.pod.labels.clone();
    labels.extend(labels::labels(&registry.name, Component::Migrate));
    let owner_url = pod::has_owner_url(registry).then(|| EnvVar {
        name: "GRANARY_DATABASE_DIRECT_URL_FILE".to_owned(),
        value: Some(server::path(server::DATABASE_OWNER_URL).display().to_string()),
        value_from: None,
    });
    let container = Container {
        name: "migrate".to_owned(),
        image: Some(registry.image.clone()),
        image_pull_policy: registry.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(vec!["migrate".to_owned(), "--config".to_owned(), config_path()]),
        env: non_empty_list(owner_url.into_iter().chain(registry.pod.env.iter().cloned()).collect()),
        resources: Some(pod::resources("50m", pod::bytes(64 * MEBIBYTE), pod::bytes(256 * MEBIBYTE))),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![pod::files_mount(), pod::mount("tmp", "/tmp")]),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: non_empty(registry.pod.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(vec![pod::files(registry, Purpose::Migrate), pod::empty_dir("tmp", None)]),
            restart_policy: Some("Never".to_owned()),
            ..pod::pod(registry)
        }),
    }
}
