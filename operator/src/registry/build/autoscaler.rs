//! What decides how many pods there are, and how many may go at a time.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, pod_selector};
use crate::labels::Component;
use crate::registry::validate::{Scale, ValidatedRegistry};

/// The autoscaler, when the spec asks for one.
pub fn autoscaler(registry: &ValidatedRegistry) -> Option<HorizontalPodAutoscaler> {
    let Scale::Automatic { min, max, target_cpu_percent } = registry.scale else { return None };
    let metric = MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(target_cpu_percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    Some(HorizontalPodAutoscaler {
        metadata: metadata(registry, &registry.name, Component::Registry),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: registry.name.clone(),
            },
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(vec![metric]),
            behavior: None,
        }),
        status: None,
    })
}

/// Lets nodes be drained one pod at a time, and those pods that are not ready at any time.
pub fn disruption_budget(registry: &ValidatedRegistry) -> Option<PodDisruptionBudget> {
    (registry.scale.most() > 1).then(|| PodDisruptionBudget {
        metadata: metadata(registry, &registry.name, Component::Registry),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(pod_selector(registry, Component::Registry)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
