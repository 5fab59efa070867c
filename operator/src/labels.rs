//! The labels of the objects that the operator makes, and how it finds them again.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Who manages the objects; also the field manager of server-side apply.
pub const MANAGER: &str = "granary-operator";

/// Names the `PackageRegistry` that an object belongs to.
pub const REGISTRY: &str = "granary.dev/registry";

/// The key that says which part of a registry an object belongs to.
pub const COMPONENT: &str = "app.kubernetes.io/component";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The keys that are the operator's: nobody else sets them on its objects.
pub const RESERVED: [&str; 5] = [NAME, INSTANCE, MANAGED_BY, COMPONENT, REGISTRY];

/// The parts of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The pods that serve, and what leads to them.
    Registry,
    /// Postgres and S3 of a registry that has none of its own.
    Store,
    /// The jobs that bring the schema up to date.
    Migrate,
}

impl Component {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Store => "store",
            Self::Migrate => "migrate",
        }
    }
}

/// The labels of an object.
pub fn labels(registry: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(registry, component);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(REGISTRY.to_owned(), registry.to_owned());
    labels
}

/// The labels that pods are selected by. They never change: the selector of a Deployment is immutable.
pub fn selector(registry: &str, component: Component) -> BTreeMap<String, String> {
    [(NAME, "granary"), (INSTANCE, registry), (COMPONENT, component.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Whether the operator made an object: one that somebody else made is never removed.
pub fn is_managed(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

/// Selects what the operator manages, in the syntax of a label selector.
pub fn managed() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Selects objects with all of these labels.
pub fn selecting(labels: &BTreeMap<String, String>) -> String {
    let equal = |(key, value): (&String, &String)| format!("{key}={value}");
    labels.iter().map(equal).collect::<Vec<_>>().join(",")
}
