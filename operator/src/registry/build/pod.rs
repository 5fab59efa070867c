//! What the pods of a registry have in common: security, files, probes, where they run.

use std::collections::BTreeSet;

use granary_crds::{CertificateRef, DatabaseSecretRef};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, EmptyDirVolumeSource, HTTPGetAction, KeyToPath,
    LocalObjectReference, PodSecurityContext, PodSpec, Probe, ProjectedVolumeSource, ResourceRequirements,
    SeccompProfile, SecretProjection, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{config, non_empty, non_empty_list};
use crate::registry::validate::{StorePlan, ValidatedRegistry, server};

/// The user and group of every process: that of the images.
const USER: i64 = 65532;
/// Files are for the group of the pod alone.
const FILE_MODE: i32 = 0o440;
/// The annotation that changes with what the spec refers to.
pub const SECRETS_CHECKSUM: &str = "granary.dev/secrets-checksum";
/// The annotation that changes with the config file.
pub const CONFIG_CHECKSUM: &str = "granary.dev/config-checksum";
/// The keys of the `NAME-database` Secret.
const URL_KEY: &str = "url";
const OWNER_URL_KEY: &str = "owner-url";
/// The keys of the `NAME-store` Secret.
pub const STORE_ACCESS_KEY_ID: &str = "access-key-id";
pub const STORE_SECRET_ACCESS_KEY: &str = "secret-access-key";

/// What the restricted Pod Security standard asks of a pod.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume of many files is not walked at each start, and Postgres starts in no folder that its group
        // may write to.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// What it asks of a container, and a root file system that nobody writes to.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// A pod without containers, as far as all of the registry's pods are alike: identity, images, security,
/// nodes.
pub fn pod(registry: &ValidatedRegistry) -> PodSpec {
    let plan = &registry.pod;
    let secrets = registry.image_pull_secrets.iter();
    // Rules about other pods are meant for those that serve; rules about nodes are for all.
    let node_rules = plan.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    PodSpec {
        service_account_name: Some(registry.name.clone()),
        // Nothing here speaks to the API server.
        automount_service_account_token: Some(false),
        // Variables of other Services are of no use, and would be taken for options.
        enable_service_links: Some(false),
        image_pull_secrets: non_empty_list(
            secrets.map(|name| LocalObjectReference { name: name.clone() }).collect(),
        ),
        security_context: Some(pod_security()),
        node_selector: non_empty(plan.node_selector.clone()),
        tolerations: non_empty_list(plan.tolerations.clone()),
        affinity: node_rules.map(|rules| Affinity { node_affinity: Some(rules), ..Affinity::default() }),
        priority_class_name: plan.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

/// Whether a pod gets what only migrations need, or what only serving needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Serving: as the role that reads and writes rows.
    Serve,
    /// Migrating: as the role that owns the schema.
    Migrate,
}

/// Whether migrations have a connection string of their own.
pub fn has_owner_url(registry: &ValidatedRegistry) -> bool {
    match &registry.store {
        StorePlan::Own(_) => true,
        StorePlan::External { database, .. } => database.provision || database.has_direct_url,
    }
}

/// The volume with the config file and the secrets, each at its path of `server`. One volume holds them all,
/// since a folder cannot be mounted within another that is read-only.
pub fn files(registry: &ValidatedRegistry, purpose: Purpose) -> Volume {
    let mut sources =
        vec![config_map(&config::name(registry), config_files(registry)), database(registry, purpose)];
    if let StorePlan::External { database, .. } = &registry.store {
        sources.extend(database.ca.as_ref().and_then(|ca| certificates(ca, server::DATABASE_CA)));
    }
    if purpose == Purpose::Serve {
        sources.extend(object_store(registry));
        let password = registry.admin_password.as_ref();
        sources
            .extend(password.map(|from| secret(&from.name, [(from.key.as_str(), server::ADMIN_PASSWORD)])));
        sources.extend(registry.identity_secret.as_ref().and_then(identity));
        let keys = registry.sealing_keys.as_ref();
        sources.extend(keys.map(|from| secret(&from.name, [(from.key.as_str(), server::SEALING_KEYS)])));
        let ca = registry.outbound_ca.as_ref();
        sources.extend(ca.and_then(|ca| certificates(ca, server::OUTBOUND_CA)));
    }
    Volume {
        name: "config".to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(FILE_MODE), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn config_files(registry: &ValidatedRegistry) -> impl Iterator<Item = (&'static str, &'static str)> {
    let keys = registry.cluster_keys.as_ref().map(|_| (server::CLUSTER_KEYS, server::CLUSTER_KEYS));
    std::iter::once((server::CONFIG, server::CONFIG)).chain(keys)
}

/// The secrets that the sources of identity name; nothing when they name none.
fn identity((name, keys): &(String, BTreeSet<String>)) -> Option<VolumeProjection> {
    let files: Vec<(&str, String)> =
        keys.iter().map(|key| (key.as_str(), format!("{}/{key}", server::IDENTITY_SECRETS))).collect();
    (!files.is_empty()).then(|| secret(name, files.iter().map(|(key, path)| (*key, path.as_str()))))
}

/// Where [`files`] goes.
pub fn files_mount() -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount("config", server::FOLDER) }
}

fn database(registry: &ValidatedRegistry, purpose: Purpose) -> VolumeProjection {
    let (name, url, owner_url) = match &registry.store {
        StorePlan::External { database, .. } if !database.provision => {
            let DatabaseSecretRef { name, url_key, direct_url_key } = &database.secret;
            (name.clone(), url_key.as_str(), direct_url_key.as_str())
        }
        _ => (registry.database_secret_name(), URL_KEY, OWNER_URL_KEY),
    };
    let mut items = vec![(url, server::DATABASE_URL)];
    if purpose == Purpose::Migrate && has_owner_url(registry) {
        items.push((owner_url, server::DATABASE_OWNER_URL));
    }
    secret(&name, items)
}

fn object_store(registry: &ValidatedRegistry) -> Option<VolumeProjection> {
    let files = [server::ACCESS_KEY_ID, server::SECRET_ACCESS_KEY];
    let (name, keys) = match &registry.store {
        StorePlan::Own(_) => (registry.store_name(), [STORE_ACCESS_KEY_ID, STORE_SECRET_ACCESS_KEY]),
        StorePlan::External { object_store, .. } => {
            let from = object_store.secret.as_ref()?;
            (from.name.clone(), [from.access_key_id_key.as_str(), from.secret_access_key_key.as_str()])
        }
    };
    Some(secret(&name, keys.into_iter().zip(files)))
}

fn certificates(from: &CertificateRef, path: &str) -> Option<VolumeProjection> {
    let items = [(from.key.as_str(), path)];
    match (&from.config_map, &from.secret) {
        (Some(name), _) => Some(config_map(name, items)),
        (None, Some(name)) => Some(secret(name, items)),
        (None, None) => None,
    }
}

/// Which key becomes which file.
fn item((key, path): (&str, &str)) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

fn secret<'a>(name: &str, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> VolumeProjection {
    let items = Some(files.into_iter().map(item).collect());
    let secret = SecretProjection { name: name.to_owned(), items, optional: None };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}

fn config_map<'a>(name: &str, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> VolumeProjection {
    let items = Some(files.into_iter().map(item).collect());
    let config_map = ConfigMapProjection { name: name.to_owned(), items, optional: None };
    VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() }
}

/// A folder that lives as long as the pod.
pub fn empty_dir(name: &str, size_limit: Option<Quantity>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit, medium: None }),
        ..Volume::default()
    }
}

/// Where a volume goes.
pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// Asks a path of the management port every so many seconds; so many failures in a row count.
pub fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("management".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// What a container asks for, and the memory it may use at most. CPU has no limit: it would only make
/// requests slow.
pub fn resources(cpu: &str, memory: Quantity, memory_limit: Quantity) -> ResourceRequirements {
    let quantity = |name: &str, quantity| (name.to_owned(), quantity);
    ResourceRequirements {
        requests: Some([quantity("cpu", Quantity(cpu.to_owned())), quantity("memory", memory)].into()),
        limits: Some([quantity("memory", memory_limit)].into()),
        ..ResourceRequirements::default()
    }
}

/// A size, rounded up to whole mebibytes.
pub fn bytes(bytes: u64) -> Quantity {
    const MEBIBYTE: u64 = 1 << 20;
    Quantity(granary_crds::ByteSize::new(bytes.div_ceil(MEBIBYTE).saturating_mul(MEBIBYTE)).to_string())
}
