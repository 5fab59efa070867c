//! `spec.pod`: how the pods are made and where they run.

use std::collections::BTreeMap;

use granary_crds::PodSpec;
use k8s_openapi::api::core::v1::{Affinity, EnvVar, PodTemplateSpec, ResourceRequirements, Toleration};
use serde_json::{Map, Value as Json};

use super::parse::{parse, parse_list};
use super::{Problems, names};
use crate::labels;

/// The field of a strategic merge patch that says what to do with what it stands in.
pub const PATCH_DIRECTIVE: &str = "$patch";

/// The variables that the operator sets itself.
const RESERVED_VARIABLES: [&str; 3] =
    ["GRANARY_CONFIG", "GRANARY_OUTBOUND_HTTPS_PROXY", "GRANARY_DATABASE_DIRECT_URL_FILE"];

/// How the pods are made and where they run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodPlan {
    /// Labels of the nodes to run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Rules of where to run.
    pub affinity: Option<Affinity>,
    /// Labels of the pods, none of them the operator's.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of their service account.
    pub service_account_annotations: BTreeMap<String, String>,
    /// What the container asks for and may use; the operator's own reckoning when absent.
    pub resources: Option<ResourceRequirements>,
    /// Further environment of the container.
    pub env: Vec<EnvVar>,
    /// The pods' priority class.
    pub priority_class_name: Option<String>,
    /// A patch of the pod template that can be read as one.
    pub overrides: Map<String, Json>,
}

/// Reads `spec.pod`.
pub fn pods(problems: &mut Problems, spec: &PodSpec, autoscaled: bool) -> PodPlan {
    label_map(problems, "spec.pod.nodeSelector", &spec.node_selector);
    label_map(problems, "spec.pod.labels", &spec.labels);
    reserved_labels(problems, "spec.pod.labels", spec.labels.keys());
    annotations(problems, "spec.pod.annotations", &spec.annotations);
    annotations(problems, "spec.pod.serviceAccountAnnotations", &spec.service_account_annotations);
    if let Some(name) = &spec.priority_class_name {
        problems.object_name("spec.pod.priorityClassName", name, "priority class");
    }
    let resources: Option<ResourceRequirements> = spec.resources.as_ref().and_then(|json| {
        parse(problems, "spec.pod.resources", "resource requirements", &Json::Object(json.clone()))
    });
    if autoscaled && resources.as_ref().is_some_and(|resources| !asks_for_cpu(resources)) {
        problems.add(
            "spec.pod.resources",
            "autoscaling compares the CPU that is used with what is asked for: add requests.cpu",
        );
    }
    PodPlan {
        node_selector: spec.node_selector.clone(),
        tolerations: parse_list(problems, "spec.pod.tolerations", "a toleration", &spec.tolerations),
        affinity: spec.affinity.as_ref().and_then(|json| {
            parse(problems, "spec.pod.affinity", "an affinity", &Json::Object(json.clone()))
        }),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        service_account_annotations: spec.service_account_annotations.clone(),
        resources,
        env: environment(problems, &spec.env),
        priority_class_name: spec.priority_class_name.clone(),
        overrides: overrides(problems, spec.overrides.as_ref()),
    }
}

/// A limit stands in for a request that is not written.
fn asks_for_cpu(resources: &ResourceRequirements) -> bool {
    [&resources.requests, &resources.limits].into_iter().flatten().any(|map| map.contains_key("cpu"))
}

pub(super) fn label_map(problems: &mut Problems, path: &str, map: &BTreeMap<String, String>) {
    annotations(problems, path, map);
    for (key, _) in map.iter().filter(|(_, value)| !names::is_label_value(value)) {
        problems.add(
            format!("{path}.{key}"),
            "write at most 63 letters, digits, '-', '_' and '.', with a letter or a digit at both ends",
        );
    }
}

pub(super) fn annotations(problems: &mut Problems, path: &str, map: &BTreeMap<String, String>) {
    for key in map.keys().filter(|key| !names::is_label_key(key)) {
        problems.add(format!("{path}.{key}"), "write a key such as team or example.com/team");
    }
}

fn reserved_labels<'a>(problems: &mut Problems, path: &str, keys: impl Iterator<Item = &'a String>) {
    for key in keys.filter(|key| labels::RESERVED.contains(&key.as_str())) {
        problems.add(
            format!("{path}.{key}"),
            "this label is the operator's, which finds the pods by it; remove it here",
        );
    }
}

fn environment(problems: &mut Problems, list: &[Json]) -> Vec<EnvVar> {
    let env: Vec<EnvVar> = parse_list(problems, "spec.pod.env", "an environment variable", list);
    for (index, variable) in env.iter().enumerate() {
        let path = format!("spec.pod.env[{index}].name");
        if variable.name.is_empty() || variable.name.contains('=') {
            problems.add(path, "name the variable, without '='");
        } else if RESERVED_VARIABLES.contains(&variable.name.as_str()) {
            problems.add(path, "the operator sets this variable itself; remove it here");
        } else if env[..index].iter().any(|earlier| earlier.name == variable.name) {
            problems.add(path, "this variable is named twice; keep one of them");
        }
    }
    env
}

fn overrides(problems: &mut Problems, patch: Option<&Map<String, Json>>) -> Map<String, Json> {
    const PATH: &str = "spec.pod.overrides";
    let Some(patch) = patch else { return Map::new() };
    let mut template = Json::Object(patch.clone());
    take_directives(problems, PATH, &mut template);
    let template: Option<PodTemplateSpec> = parse(problems, PATH, "a pod template", &template);
    let Some(template) = template else { return Map::new() };
    if let Some(labels) = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()) {
        reserved_labels(problems, &format!("{PATH}.metadata.labels"), labels.keys());
    }
    let pod = template.spec.unwrap_or_default();
    let lists = [("containers", pod.containers), ("initContainers", pod.init_containers.unwrap_or_default())];
    for (list, containers) in lists {
        for (index, _) in containers.iter().enumerate().filter(|(_, container)| container.name.is_empty()) {
            problems.add(
                format!("{PATH}.spec.{list}[{index}].name"),
                "name the container; the operator's is called registry",
            );
        }
    }
    patch.clone()
}

/// Takes the directives out of a patch, so that the rest can be read as what is patched.
fn take_directives(problems: &mut Problems, path: &str, patch: &mut Json) {
    match patch {
        Json::Object(map) => {
            if map.remove(PATCH_DIRECTIVE).is_some_and(|directive| directive != "delete") {
                problems.add(
                    format!("{path}.{PATCH_DIRECTIVE}"),
                    "only `$patch: delete` is understood; set a field to null to remove it",
                );
            }
            for (key, value) in map {
                take_directives(problems, &format!("{path}.{key}"), value);
            }
        }
        Json::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                take_directives(problems, &format!("{path}[{index}]"), value);
            }
        }
        _ => {}
    }
}
