//! What the operator found, as it stands in the `status` of an object.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a `PackageRegistry`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The URL that clients know the registry by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The URL of each protocol.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, String>,
    /// The image that the pods run, or are being moved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image that ran the last migrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated_image: Option<String>,
    /// How many migrations of each part the schema has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub migrations: BTreeMap<String, i64>,
    /// The version of the schema of the shared tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Pods that are ready, of those wanted: `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// Channels that are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// The value of the rotation annotation that the present password was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_password_rotation: Option<String>,
    /// What holds, and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What became of a `Channel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ChannelStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The channel's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The channel's bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// How many packages the channel holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<i64>,
    /// How many files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<i64>,
    /// The bytes of these files together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// When something was published last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_publish: Option<Time>,
    /// What holds, and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
