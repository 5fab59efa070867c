//! The Ingress that leads to the pods.

use std::collections::BTreeMap;

use granary_crds::{IssuerKind, IssuerRef};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::metadata;
use crate::labels::Component;
use crate::registry::validate::{Route, ValidatedRegistry};

/// What ingress-nginx needs to pass uploads of any size as they come, and to wait for answers to them.
/// Traefik needs nothing, and others overlook it.
const NGINX: [(&str, &str); 4] = [
    ("nginx.ingress.kubernetes.io/proxy-body-size", "0"),
    ("nginx.ingress.kubernetes.io/proxy-request-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "600"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "600"),
];

/// The Ingress, when the spec asks for one.
pub fn ingress(registry: &ValidatedRegistry) -> Option<Ingress> {
    let Some(Route::Ingress { class_name, annotations, certificate }) = &registry.entrance.route else {
        return None;
    };
    let mut wanted: BTreeMap<String, String> =
        NGINX.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if let Some(issuer) = certificate.as_ref().and_then(|certificate| certificate.issuer.as_ref()) {
        wanted.extend(issuer_annotations(issuer));
    }
    wanted.extend(annotations.clone());
    let mut metadata = metadata(registry, &registry.name, Component::Registry);
    metadata.annotations = Some(wanted);
    let hosts = || registry.entrance.hosts().map(str::to_owned);
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: class_name.clone(),
            rules: Some(hosts().map(|host| rule(&registry.name, host)).collect()),
            tls: certificate.as_ref().map(|certificate| {
                vec![IngressTLS {
                    hosts: Some(hosts().collect()),
                    secret_name: Some(certificate.secret_name.clone()),
                }]
            }),
            ..IngressSpec::default()
        }),
        status: None,
    })
}

/// What cert-manager makes a certificate by. Issuers of other groups are named by kind and group.
fn issuer_annotations(issuer: &IssuerRef) -> BTreeMap<String, String> {
    let pairs = match (&issuer.group, issuer.kind) {
        (None, IssuerKind::Issuer) => vec![("issuer", issuer.name.as_str())],
        (None, IssuerKind::ClusterIssuer) => vec![("cluster-issuer", issuer.name.as_str())],
        (Some(group), kind) => {
            let kind = match kind {
                IssuerKind::Issuer => "Issuer",
                IssuerKind::ClusterIssuer => "ClusterIssuer",
            };
            vec![("issuer", issuer.name.as_str()), ("issuer-kind", kind), ("issuer-group", group.as_str())]
        }
    };
    pairs.into_iter().map(|(key, value)| (format!("cert-manager.io/{key}"), value.to_owned())).collect()
}

/// Every path and every method of a host.
fn rule(service: &str, host: String) -> IngressRule {
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: service.to_owned(),
                port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
            }),
            resource: None,
        },
    };
    IngressRule { host: Some(host), http: Some(HTTPIngressRuleValue { paths: vec![path] }) }
}
