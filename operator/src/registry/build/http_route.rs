//! The `HTTPRoute` that leads from a Gateway to the pods.

use granary_crds::ParentRef;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value as Json, json};

use super::{metadata, non_empty};
use crate::labels::Component;
use crate::registry::validate::{Route, ValidatedRegistry};

/// The kind.
fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    ApiResource::from_gvk_with_plural(&kind, "httproutes")
}

/// The route, when the spec names a Gateway. It matches every path and every method.
pub fn http_route(registry: &ValidatedRegistry) -> Option<DynamicObject> {
    let Some(Route::Gateway { parents, annotations }) = &registry.entrance.route else { return None };
    let hosts: Vec<&str> = registry.entrance.hosts().collect();
    let spec = json!({
        "parentRefs": parents.iter().map(parent).collect::<Vec<_>>(),
        "hostnames": hosts,
        "rules": [{
            "backendRefs": [{"name": registry.name, "port": 80}],
            // Some Gateways break off what takes longer than 15 s; a large file takes longer.
            "timeouts": {"request": "0s"},
        }],
    });
    let mut route = DynamicObject::new(&registry.name, &resource()).data(json!({"spec": spec}));
    route.metadata = metadata(registry, &registry.name, Component::Registry);
    route.metadata.annotations = non_empty(annotations.clone());
    Some(route)
}

fn parent(parent: &ParentRef) -> Json {
    let mut json = json!({"name": parent.name});
    let fields = [("namespace", &parent.namespace), ("sectionName", &parent.section_name)];
    for (field, value) in fields {
        if let Some(value) = value {
            json[field] = Json::String(value.clone());
        }
    }
    json
}
