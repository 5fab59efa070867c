//! The third step: from a validated registry to the objects that make it up. No Kubernetes client is needed
//! here, and no clock: the same registry gives the same bytes.

mod autoscaler;
mod config;
mod deployment;
mod http_route;
mod ingress;
mod merge;
mod migrate_job;
mod network_policy;
mod pod;
mod service;
mod service_monitor;
mod store;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::core::DynamicObject;
use sha2::{Digest, Sha256};

use super::validate::{StorePlan, ValidatedRegistry};
use crate::labels::{self, Component};

/// Objects as they are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Prepared {}

/// Everything in Kubernetes that a registry is made of, but for the Secrets with generated passwords. The
/// marker keeps a status from being made of objects that were only built.
#[derive(Debug, Clone)]
pub struct Objects<T> {
    /// The pods' identity.
    pub service_account: ServiceAccount,
    /// The pods' config file.
    pub config: ConfigMap,
    /// What the pods are reached by within the cluster.
    pub service: Service,
    /// Brings the schema up to date; its name holds a hash over all that it depends on.
    pub migrate_job: Job,
    /// The pods.
    pub deployment: Deployment,
    /// What leads to the pods, when the spec asks for an Ingress.
    pub ingress: Option<Ingress>,
    /// What leads to the pods, when the spec names a Gateway.
    pub http_route: Option<DynamicObject>,
    /// What decides the number of pods.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Keeps pods from being evicted together; only where there may be more than one.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// Who may reach the pods.
    pub network_policy: Option<NetworkPolicy>,
    /// What Prometheus scrapes.
    pub service_monitor: Option<DynamicObject>,
    /// The operator's own store.
    pub store: Option<StoreObjects>,
    /// Which step the objects have come to.
    pub marker: PhantomData<T>,
}

/// Postgres and S3 of a registry that names none.
#[derive(Debug, Clone)]
pub struct StoreObjects {
    /// What they are reached by.
    pub service: Service,
    /// The pod with its volume.
    pub stateful_set: StatefulSet,
}

/// Why a validated registry cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The config cannot be written.
    #[error("the pods' config cannot be written")]
    Config(#[source] serde_json::Error),
    /// The merged pod template is none.
    #[error("the pod template cannot be merged with spec.pod.overrides")]
    Template(#[source] serde_json::Error),
    /// The migration job cannot be hashed.
    #[error("the migration job cannot be written")]
    MigrateJob(#[source] serde_json::Error),
}

/// Builds everything.
pub fn build(registry: &ValidatedRegistry) -> Result<Objects<Prepared>, BuildError> {
    let config = config::config(registry)?;
    Ok(Objects {
        service_account: service::service_account(registry),
        service: service::service(registry),
        migrate_job: migrate_job::migrate_job(registry, &config.text)?,
        deployment: deployment::deployment(registry, &config.checksum)?,
        config: config.object,
        ingress: ingress::ingress(registry),
        http_route: http_route::http_route(registry),
        autoscaler: autoscaler::autoscaler(registry),
        disruption_budget: autoscaler::disruption_budget(registry),
        network_policy: network_policy::network_policy(registry),
        service_monitor: service_monitor::service_monitor(registry),
        store: match &registry.store {
            StorePlan::Own(plan) => Some(store::store(registry, plan)),
            StorePlan::External { .. } => None,
        },
        marker: PhantomData,
    })
}

/// The metadata of an object of the registry, which goes when the registry goes.
fn metadata(registry: &ValidatedRegistry, name: &str, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(registry.namespace.clone()),
        labels: Some(labels::labels(&registry.name, component)),
        owner_references: Some(vec![owner_reference(registry)]),
        ..ObjectMeta::default()
    }
}

/// Names the registry as the owner of an object.
pub fn owner_reference(registry: &ValidatedRegistry) -> OwnerReference {
    OwnerReference {
        api_version: granary_crds::API_VERSION.to_owned(),
        kind: "PackageRegistry".to_owned(),
        name: registry.name.clone(),
        uid: registry.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Selects the pods of a component.
fn pod_selector(registry: &ValidatedRegistry, component: Component) -> LabelSelector {
    let labels = labels::selector(&registry.name, component);
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// A map that is left out when it is empty: server-side apply then owns nothing of it.
fn non_empty(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

/// A list that is left out when it is empty.
fn non_empty_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The hexadecimal digest of some texts, which cannot run into each other.
fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests;
