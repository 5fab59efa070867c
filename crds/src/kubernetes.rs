//! The resources as Kubernetes knows them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube::CustomResourceExt;

use crate::channel::ChannelObject;
use crate::registry::RegistryObject;

/// What a channel object that has no `spec.name` must hold to: it is the channel's name then.
const OBJECT_NAME: (&str, &str) = (
    "has(self.spec.name) || size(self.metadata.name) <= 128",
    "the object's name is the channel's, and has at most 128 characters; write a shorter one in spec.name",
);

/// What the name of a registry must hold to.
const REGISTRY_NAME: (&str, &str) = (
    "size(self.metadata.name) <= 46 && self.metadata.name.matches('^[a-z][a-z0-9-]*$')",
    "write a name of at most 46 lower-case letters, digits and '-', beginning with a letter: the objects of the registry are named after it",
);

/// Both definitions, `PackageRegistry` first.
pub fn resource_definitions() -> [CustomResourceDefinition; 2] {
    let mut definitions = [RegistryObject::crd(), ChannelObject::crd()];
    for (definition, rule) in definitions.iter_mut().zip([REGISTRY_NAME, OBJECT_NAME]) {
        add_rule(definition, rule);
    }
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            close(schema);
        }
    }
    definitions
}

/// Adds a rule about the object as a whole.
fn add_rule(definition: &mut CustomResourceDefinition, (rule, message): (&str, &str)) {
    let schemas = definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        schema.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
            rule: rule.to_owned(),
            message: Some(message.to_owned()),
            ..ValidationRule::default()
        });
    }
}

/// Leaves out that an object has no further fields: every schema of Kubernetes means that, and its type checker of
/// admission policies fails on one that says so.
fn close(schema: &mut JSONSchemaProps) {
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(false))) {
        schema.additional_properties = None;
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        close(values);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        close(items);
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| close(property));
}

/// A definition as the YAML that is kept beside the code.
pub fn crd_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

#[cfg(test)]
mod tests;
