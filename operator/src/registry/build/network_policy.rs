//! Who may reach the pods.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, non_empty_list, pod_selector};
use crate::labels::Component;
use crate::registry::validate::{ValidatedRegistry, server};

/// The policy, when the spec asks for one. It says nothing of what the pods reach: database, object store and
/// collector may be anywhere.
pub fn network_policy(registry: &ValidatedRegistry) -> Option<NetworkPolicy> {
    let peers = registry.network_policy.clone()?;
    Some(NetworkPolicy {
        metadata: metadata(registry, &registry.name, Component::Registry),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pod_selector(registry, Component::Registry)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(server::HTTP_PORT, peers),
                // Probes and Prometheus.
                rule(server::MANAGEMENT_PORT, Vec::new()),
            ]),
            egress: None,
        }),
    })
}

/// Lets peers reach a port; all of them when none are named.
fn rule(port: i32, from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: non_empty_list(from),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}
