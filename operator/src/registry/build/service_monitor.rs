//! What Prometheus scrapes.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::metadata;
use crate::labels::{self, Component};
use crate::registry::validate::ValidatedRegistry;

/// The kind.
fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
    ApiResource::from_gvk_with_plural(&kind, "servicemonitors")
}

/// The monitor, when the spec asks for one and the cluster knows the kind.
pub fn service_monitor(registry: &ValidatedRegistry) -> Option<DynamicObject> {
    let extra = registry.service_monitor.as_ref()?;
    let spec = json!({
        "selector": {"matchLabels": labels::selector(&registry.name, Component::Registry)},
        "endpoints": [{"port": "management", "path": "/metrics"}],
    });
    let mut monitor = DynamicObject::new(&registry.name, &resource()).data(json!({"spec": spec}));
    monitor.metadata = metadata(registry, &registry.name, Component::Registry);
    let mut all = extra.clone();
    all.extend(labels::labels(&registry.name, Component::Registry));
    monitor.metadata.labels = Some(all);
    Some(monitor)
}
