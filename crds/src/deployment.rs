//! The parts of a `PackageRegistry` that only the operator reads: how the registry runs in a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::options::settings;
use crate::value::{ByteSize, Raw};

/// When an image is pulled, as Kubernetes names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum PullPolicy {
    /// Whenever a pod starts.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// The name in a pod's spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Names an object of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct LocalReference {
    /// The object's name.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub name: String,
}

/// Names one key of a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub name: String,
    /// The key.
    #[serde(default = "password")]
    pub key: String,
}

fn password() -> String {
    "password".to_owned()
}

/// Where certificate authorities stand, as PEM: in a ConfigMap or in a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::certificate_ref_rules))]
pub struct CertificateRef {
    /// The ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The key in it.
    #[serde(default = "ca_crt")]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

settings! {
    /// Lets the number of pods follow their load.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::autoscaling_rules))]
    pub struct Autoscaling {}
    kubernetes {
        /// The fewest pods.
        #[schemars(range(min = 1, max = 1000))]
        pub min_replicas: i32 = 2,
        /// The most pods.
        #[schemars(range(min = 1, max = 1000))]
        pub max_replicas: i32 = 10,
        /// The share of the requested CPU that the pods are held at, in percent.
        #[schemars(range(min = 1, max = 1000))]
        pub target_cpu_percent: i32 = 70,
    }
}

settings! {
    /// The Ingress that leads to the pods.
    pub struct IngressSpec {}
    kubernetes {
        /// Whether to make one.
        pub enabled: bool = true,
        /// Its class; the cluster's default when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub class_name: Option<String> = None,
        /// Annotations, beside those that the operator sets for large uploads.
        pub annotations: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// A Gateway to attach to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct GatewaySpec {
    /// The Gateways, or listeners of them.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 32)))]
    pub parent_refs: Vec<ParentRef>,
    /// Annotations of the HTTPRoute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A Gateway, or one listener of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct ParentRef {
    /// The Gateway's name.
    pub name: String,
    /// Its namespace; the registry's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// The certificate of the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::tls_rules))]
pub struct TlsSpec {
    /// The Secret (`kubernetes.io/tls`) that holds it. With an issuer, the Secret that cert-manager writes; `NAME-tls`
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The cert-manager issuer that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerRef>,
}

/// A cert-manager issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct IssuerRef {
    /// The issuer's name.
    pub name: String,
    /// Whether it is of this namespace or of the cluster.
    #[serde(default)]
    pub kind: IssuerKind,
    /// The API group of issuers that are not cert-manager's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// The kinds of issuers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum IssuerKind {
    /// Of one namespace.
    #[default]
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

settings! {
    /// The volume of the store that the operator runs itself.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::storage_rules))]
    pub struct StorageSpec {}
    kubernetes {
        /// Its size.
        pub size: Raw<ByteSize> = Raw::new("20Gi"),
        /// Its storage class; the cluster's default when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage_class_name: Option<String> = None,
        /// Keep everything on a volume that goes with the pod. For trying things out: what was published is then gone.
        pub ephemeral: bool = false,
        /// The image of the store's pod; the operator's own store image when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image: Option<String> = None,
    }
}

settings! {
    /// How the pods are made and where they run.
    pub struct PodSpec {}
    kubernetes {
        /// Labels of the nodes to run on.
        pub node_selector: BTreeMap<String, String> = BTreeMap::new(),
        /// Taints that the pods tolerate.
        #[schemars(with = "Vec<k8s_openapi::api::core::v1::Toleration>")]
        pub tolerations: Vec<Json> = Vec::new(),
        /// Rules of where to run.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(schema_with = "crate::schema::any_object")]
        pub affinity: Option<Map<String, Json>> = None,
        /// Labels of the pods, beside the operator's.
        pub labels: BTreeMap<String, String> = BTreeMap::new(),
        /// Annotations of the pods.
        pub annotations: BTreeMap<String, String> = BTreeMap::new(),
        /// Annotations of the pods' service account: workload identity of the cloud.
        pub service_account_annotations: BTreeMap<String, String> = BTreeMap::new(),
        /// What the container asks for and may use.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<k8s_openapi::api::core::v1::ResourceRequirements>")]
        pub resources: Option<Map<String, Json>> = None,
        /// Further environment of the container.
        #[schemars(with = "Vec<k8s_openapi::api::core::v1::EnvVar>")]
        pub env: Vec<Json> = Vec::new(),
        /// The pods' priority class.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub priority_class_name: Option<String> = None,
        /// A pod template that is merged over the operator's, as `kubectl patch` does: for whatever has no field here.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(schema_with = "crate::schema::any_object")]
        pub overrides: Option<Map<String, Json>> = None,
    }
}

settings! {
    /// Who may reach the pods.
    pub struct NetworkPolicySpec {}
    kubernetes {
        /// Whether to make a NetworkPolicy.
        pub enabled: bool = false,
        /// Who may send requests (`NetworkPolicyPeer`); everybody when empty. Metrics and probes stay open to the cluster.
        #[schemars(with = "Vec<k8s_openapi::api::networking::v1::NetworkPolicyPeer>")]
        pub from: Vec<Json> = Vec::new(),
    }
}

settings! {
    /// The ServiceMonitor of the pods.
    pub struct MonitoringSpec {}
    kubernetes {
        /// Whether to make one, where the cluster knows that kind.
        pub service_monitor: bool = false,
        /// Its labels, which a Prometheus selects it by.
        pub labels: BTreeMap<String, String> = BTreeMap::new(),
    }
}

settings! {
    /// Other namespaces whose channels may name a registry: those of `names`, and those that `selector` selects.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::allowed_namespaces_rules))]
    pub struct AllowedNamespaces {}
    kubernetes {
        /// Namespaces by name.
        #[schemars(length(max = 500), inner(length(min = 1, max = 63)))]
        pub names: Vec<String> = Vec::new(),
        /// Namespaces by their labels.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>")]
        pub selector: Option<Map<String, Json>> = None,
    }
}
