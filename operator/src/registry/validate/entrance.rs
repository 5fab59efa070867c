//! Hosts, certificate and what leads to the pods.

use std::collections::BTreeMap;

use granary_crds::{HostName, HttpUrl, IssuerRef, PackageRegistrySpec, ParentRef, Raw};

use super::Problems;
use super::pods::annotations;

/// Where the registry is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// The host of all protocols.
    pub host: Option<HostName>,
    /// Hosts that one protocol has to itself, by its name.
    pub own_hosts: BTreeMap<&'static str, HostName>,
    /// The URL that the pods take for theirs.
    pub public_url: Option<HttpUrl>,
    /// The URL that clients reach the registry at; within the cluster where the spec names no host.
    pub url: String,
    /// The URL of each protocol.
    pub endpoints: BTreeMap<String, String>,
    /// What leads to the pods from outside the cluster.
    pub route: Option<Route>,
}

impl Entrance {
    /// Every host, that of all protocols first.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.host.iter().chain(self.own_hosts.values()).map(HostName::as_str)
    }
}

/// What leads to the pods from outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// An Ingress.
    Ingress {
        /// Its class; the cluster's default when absent.
        class_name: Option<String>,
        /// What the user wants it annotated with.
        annotations: BTreeMap<String, String>,
        /// The certificate.
        certificate: Option<Certificate>,
    },
    /// An `HTTPRoute`.
    Gateway {
        /// The Gateways, or listeners of them; at least one.
        parents: Vec<ParentRef>,
        /// What the user wants it annotated with.
        annotations: BTreeMap<String, String>,
    },
}

/// The certificate of the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret that holds it, or will.
    pub secret_name: String,
    /// The cert-manager issuer that makes it.
    pub issuer: Option<IssuerRef>,
}

/// A protocol that is served: below `/NAME` of the host of all protocols, or at the root of a host of its
/// own.
struct Protocol<'a> {
    name: &'static str,
    /// Where its own host stands in the spec.
    path: &'static str,
    own_host: Option<&'a Raw<HostName>>,
}

fn protocols(spec: &PackageRegistrySpec) -> [Protocol<'_>; 2] {
    [
        Protocol { name: "pypi", path: "spec.hosts.pypi.host", own_host: spec.hosts.pypi.host.as_ref() },
        Protocol { name: "conda", path: "spec.hosts.conda.host", own_host: spec.hosts.conda.host.as_ref() },
    ]
}

/// Reads everything about how clients come in. `service` is the URL of the Service within the cluster.
/// Problems with fields that the server reads as well are left to it.
pub fn entrance(
    problems: &mut Problems,
    spec: &PackageRegistrySpec,
    registry: &str,
    service: String,
    gateway_api: bool,
) -> Entrance {
    let host = spec.host.as_ref().and_then(|raw| problems.read("spec.host", raw));
    let protocols = protocols(spec);
    let own_hosts: BTreeMap<&'static str, HostName> = protocols
        .iter()
        .filter_map(|protocol| Some((protocol.name, protocol.own_host?.read().ok()?)))
        .collect();
    for protocol in &protocols {
        if host.is_some() && own_hosts.get(protocol.name) == host.as_ref() {
            problems.add(protocol.path, "this is the host of all protocols; name another, or leave it out");
        }
    }
    let has_host = spec.host.is_some() || protocols.iter().any(|protocol| protocol.own_host.is_some());
    let certificate = certificate(problems, spec, registry, has_host);
    let route = route(problems, spec, certificate.clone(), has_host, gateway_api);

    let given: Option<HttpUrl> = spec.public_url.as_ref().and_then(|raw| raw.read().ok());
    let https = certificate.is_some() || given.as_ref().is_some_and(HttpUrl::is_https);
    let scheme = if https { "https" } else { "http" };
    let of_host = |host: &HostName| format!("{scheme}://{host}");
    let public_url = given.or_else(|| host.as_ref().and_then(|host| of_host(host).parse().ok()));
    let base = public_url.as_ref().map(ToString::to_string);
    let endpoints = protocols
        .iter()
        .map(|protocol| {
            let url = match own_hosts.get(protocol.name) {
                Some(host) => of_host(host),
                None => format!("{}/{}", base.as_deref().unwrap_or(&service), protocol.name),
            };
            (protocol.name.to_owned(), url)
        })
        .collect();
    let url = base.or_else(|| own_hosts.values().next().map(of_host)).unwrap_or(service);
    Entrance { host, own_hosts, public_url, url, endpoints, route }
}

fn certificate(
    problems: &mut Problems,
    spec: &PackageRegistrySpec,
    registry: &str,
    has_host: bool,
) -> Option<Certificate> {
    let tls = spec.tls.as_ref()?;
    if !has_host {
        problems.add("spec.tls", "a certificate needs a host: write host: packages.example.com");
    }
    if let Some(name) = &tls.secret_name {
        problems.object_name("spec.tls.secretName", name, "Secret");
    }
    if let Some(issuer) = &tls.issuer {
        problems.object_name("spec.tls.issuer.name", &issuer.name, "issuer");
    }
    let secret_name = match (&tls.secret_name, &tls.issuer) {
        (Some(name), _) => name.clone(),
        (None, Some(_)) => format!("{registry}-tls"),
        (None, None) => {
            problems.add(
                "spec.tls",
                "name the Secret of the certificate (secretName), or the cert-manager issuer that makes it \
                 (issuer)",
            );
            return None;
        }
    };
    Some(Certificate { secret_name, issuer: tls.issuer.clone() })
}

fn route(
    problems: &mut Problems,
    spec: &PackageRegistrySpec,
    certificate: Option<Certificate>,
    has_host: bool,
    gateway_api: bool,
) -> Option<Route> {
    let Some(gateway) = &spec.gateway else {
        annotations(problems, "spec.ingress.annotations", &spec.ingress.annotations);
        if let Some(class) = &spec.ingress.class_name {
            problems.object_name("spec.ingress.className", class, "ingress class");
        }
        return (spec.ingress.enabled && has_host).then(|| Route::Ingress {
            class_name: spec.ingress.class_name.clone(),
            annotations: spec.ingress.annotations.clone(),
            certificate,
        });
    };
    if !gateway_api {
        problems.add(
            "spec.gateway",
            "the cluster has no Gateway API (gateway.networking.k8s.io/v1): install it, or remove gateway \
             for an Ingress",
        );
    }
    if !has_host {
        problems.add("spec.gateway", "a gateway needs a host to route: write host: packages.example.com");
    }
    if spec.tls.is_some() {
        problems.add(
            "spec.tls",
            "a Gateway's listener has the certificate: remove tls, and write publicUrl: https://HOST",
        );
    }
    if gateway.parent_refs.is_empty() {
        problems.add("spec.gateway.parentRefs", "name the Gateway: parentRefs: [{name: NAME}]");
    }
    for (index, parent) in gateway.parent_refs.iter().enumerate() {
        let path = format!("spec.gateway.parentRefs[{index}]");
        problems.object_name(&format!("{path}.name"), &parent.name, "Gateway");
        if let Some(namespace) = &parent.namespace {
            problems.object_name(&format!("{path}.namespace"), namespace, "namespace");
        }
    }
    annotations(problems, "spec.gateway.annotations", &gateway.annotations);
    Some(Route::Gateway { parents: gateway.parent_refs.clone(), annotations: gateway.annotations.clone() })
}
