//! A strategic merge of pod templates, as `kubectl patch` does it, as far as a pod template needs it: objects
//! merge, `null` removes, lists whose elements have a key merge by it, other lists are replaced. An element
//! or object with `$patch: delete` is removed.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value as Json};

use super::BuildError;
use crate::registry::validate::PATCH_DIRECTIVE;

/// The lists of a pod template that merge, with the keys of their elements (`x-kubernetes-patch-merge-key`).
const MERGE_KEYS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// Merges a patch into a pod template.
pub fn merge_template(
    template: PodTemplateSpec,
    patch: &Map<String, Json>,
) -> Result<PodTemplateSpec, BuildError> {
    if patch.is_empty() {
        return Ok(template);
    }
    let mut json = serde_json::to_value(template).map_err(BuildError::Template)?;
    if let Json::Object(template) = &mut json {
        merge(template, patch);
    }
    serde_json::from_value(json).map_err(BuildError::Template)
}

/// Merges a patch into an object.
fn merge(base: &mut Map<String, Json>, patch: &Map<String, Json>) {
    for (field, patch) in patch {
        if patch.is_null() || deletes(patch) {
            base.remove(field);
            continue;
        }
        match (base.get_mut(field), patch) {
            (Some(Json::Object(base)), Json::Object(patch)) => merge(base, patch),
            (Some(Json::Array(base)), Json::Array(patch)) => {
                let key = MERGE_KEYS.iter().find(|(list, _)| list == field);
                match key {
                    Some((_, key)) => merge_list(base, patch, key),
                    None => base.clone_from(patch),
                }
            }
            _ => {
                base.insert(field.clone(), fresh(patch));
            }
        }
    }
}

fn deletes(patch: &Json) -> bool {
    patch.get(PATCH_DIRECTIVE).is_some_and(|directive| directive == "delete")
}

/// Merges each element into that with the same key; those that are new follow at the end.
fn merge_list(base: &mut Vec<Json>, patch: &[Json], key: &str) {
    for element in patch {
        let same = |other: &Json| element.get(key).is_some() && other.get(key) == element.get(key);
        let found = base.iter().position(same);
        match (found, element) {
            (Some(index), _) if deletes(element) => {
                base.remove(index);
            }
            (None, _) if deletes(element) => {}
            (Some(index), Json::Object(patch)) => {
                if let Json::Object(base) = &mut base[index] {
                    merge(base, patch);
                }
            }
            _ => base.push(fresh(element)),
        }
    }
}

/// A part of the patch that nothing was there for, without what it would remove.
fn fresh(patch: &Json) -> Json {
    match patch {
        Json::Object(patch) => {
            let mut object = Map::new();
            merge(&mut object, patch);
            Json::Object(object)
        }
        Json::Array(list) => {
            Json::Array(list.iter().filter(|element| !deletes(element)).map(fresh).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn merged(base: Json, patch: Json) -> Json {
        let (Json::Object(mut base), Json::Object(patch)) = (base, patch) else { panic!("two objects") };
        merge(&mut base, &patch);
        Json::Object(base)
    }

    #[test]
    fn elements_merge_by_their_key_and_the_rest_is_replaced() {
        let base = json!({
            "containers": [{"name": "registry", "args": ["serve"], "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
            "tolerations": [{"key": "a"}],
            "securityContext": {"runAsUser": 65532, "runAsNonRoot": true},
        });
        let patch = json!({
            "containers": [
                {"name": "registry", "args": ["serve", "--x"],
                 "env": [{"name": "A", "value": "2"}, {"name": "B"}],
                 "volumeMounts": [{"name": "tmp", "mountPath": "/var/tmp"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ],
            "tolerations": [{"key": "b"}],
            "securityContext": {"runAsUser": null},
            "dnsPolicy": "None",
        });
        let expected = json!({
            "containers": [
                {"name": "registry", "args": ["serve", "--x"],
                 "env": [{"name": "A", "value": "2"}, {"name": "B"}],
                 "volumeMounts":
                    [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tmp", "mountPath": "/var/tmp"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ],
            "tolerations": [{"key": "b"}],
            "securityContext": {"runAsNonRoot": true},
            "dnsPolicy": "None",
        });
        assert_eq!(merged(base, patch), expected);
    }

    #[test]
    fn what_is_deleted_is_gone_and_what_is_new_brings_no_directives() {
        let base =
            json!({"volumes": [{"name": "cache", "emptyDir": {}}, {"name": "tmp"}], "affinity": {"a": 1}});
        let patch = json!({
            "volumes": [
                {"name": "tmp", "$patch": "delete"},
                {"name": "absent", "$patch": "delete"},
                {"name": "cache", "emptyDir": null,
                 "persistentVolumeClaim": {"claimName": "c", "readOnly": null}},
            ],
            "affinity": {"$patch": "delete"},
        });
        let expected = json!({"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}]});
        assert_eq!(merged(base, patch), expected);
    }
}
