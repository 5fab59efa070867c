//! The `ServiceAccount` and the Service of the pods.

use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, non_empty};
use crate::labels::{self, Component};
use crate::registry::validate::{ValidatedRegistry, server};

/// The pods' identity, for clouds that know workloads by it. The API server knows it by no right.
pub fn service_account(registry: &ValidatedRegistry) -> ServiceAccount {
    let mut metadata = metadata(registry, &registry.name, Component::Registry);
    metadata.annotations = non_empty(registry.pod.service_account_annotations.clone());
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}

/// What the pods are reached by within the cluster.
pub fn service(registry: &ValidatedRegistry) -> Service {
    let ports = vec![
        port("http", 80, IntOrString::String("http".to_owned())),
        port("management", server::MANAGEMENT_PORT, IntOrString::String("management".to_owned())),
    ];
    with_ports(registry, &registry.name, Component::Registry, ports)
}

/// A Service of the pods of a component.
pub fn with_ports(
    registry: &ValidatedRegistry,
    name: &str,
    component: Component,
    ports: Vec<ServicePort>,
) -> Service {
    Service {
        metadata: metadata(registry, name, component),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(labels::selector(&registry.name, component)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A port of a Service.
pub fn port(name: &str, port: i32, target: IntOrString) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(target),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
