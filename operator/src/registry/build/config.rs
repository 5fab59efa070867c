//! The `ConfigMap` NAME-config with the pods' config file.

use std::collections::BTreeMap;

use granary_crds::{AdminsSpec, DatabaseSpec, InitialAdminSpec, ObjectStoreSpec, PackageRegistrySpec};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value as Json};

use super::{BuildError, digest, metadata};
use crate::labels::Component;
use crate::registry::validate::{ValidatedRegistry, server};

/// The config file.
pub struct Config {
    /// The object that holds it.
    pub object: ConfigMap,
    /// The file itself: JSON, which is YAML as well.
    pub text: String,
    /// Its digest, for the annotation that rolls the pods.
    pub checksum: String,
}

/// The name of the `ConfigMap`.
pub fn name(registry: &ValidatedRegistry) -> String {
    format!("{}-config", registry.name)
}

/// Writes the config file.
pub fn config(registry: &ValidatedRegistry) -> Result<Config, BuildError> {
    let text = text(&registry.server_spec).map_err(BuildError::Config)?;
    let mut data = BTreeMap::from([(server::CONFIG.to_owned(), text.clone())]);
    let keys = registry.cluster_keys.clone();
    data.extend(keys.map(|keys| (server::CLUSTER_KEYS.to_owned(), keys)));
    let checksum = digest(data.values().map(String::as_str));
    let object = ConfigMap {
        metadata: metadata(registry, &name(registry), Component::Registry),
        data: Some(data),
        ..ConfigMap::default()
    };
    Ok(Config { object, text, checksum })
}

/// Only what differs from the defaults: an older image, which refuses options that it does not know, then
/// starts as long as nobody uses the newer ones.
fn text(spec: &PackageRegistrySpec) -> Result<String, serde_json::Error> {
    let defaults = serde_json::to_value(PackageRegistrySpec {
        database: Some(DatabaseSpec::default()),
        object_store: Some(ObjectStoreSpec::default()),
        admins: AdminsSpec { initial: Some(InitialAdminSpec::default()), ..AdminsSpec::default() },
        ..PackageRegistrySpec::default()
    })?;
    let mut changed = changed(serde_json::to_value(spec)?, &defaults).unwrap_or_else(|| Map::new().into());
    // That there is a store says something even when all of it is as always: a store of AWS in the usual
    // region.
    if let Json::Object(changed) = &mut changed {
        changed.entry("objectStore").or_insert_with(|| Map::new().into());
    }
    serde_json::to_string_pretty(&changed)
}

/// The part of a value that differs from the default.
fn changed(value: Json, default: &Json) -> Option<Json> {
    match (value, default) {
        (Json::Object(value), Json::Object(default)) => {
            let changed: Map<String, Json> = value
                .into_iter()
                .filter_map(|(key, value)| {
                    let value = match default.get(&key) {
                        Some(default) => changed(value, default)?,
                        None => value,
                    };
                    Some((key, value))
                })
                .collect();
            (!changed.is_empty()).then_some(Json::Object(changed))
        }
        (value, default) => (value != *default).then_some(value),
    }
}
