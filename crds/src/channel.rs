//! The `Channel` resource as somebody writes it.

use std::collections::BTreeMap;

use granary_core::{Format, PackagePattern, Role, Subject};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::conda::CondaSettings;
use crate::source::ChannelSource;
use crate::value::{ByteSize, Raw};

/// A `Channel` object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Channel {
    /// `granary.dev/v1alpha1`.
    pub api_version: String,
    /// `Channel`.
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ChannelSpec,
    /// What was found; written by the operator, ignored in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Json>,
}

/// What of an object's metadata matters here. Everything else that Kubernetes knows is accepted and left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// The object's name.
    pub name: String,
    /// The object's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a channel should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "kubernetes",
    kube(
        group = "granary.dev",
        version = "v1alpha1",
        kind = "Channel",
        root = "ChannelObject",
        plural = "channels",
        shortname = "pkgch",
        category = "granary",
        namespaced,
        status = "crate::status::ChannelStatus",
        derive = "PartialEq",
        doc = "A place that packages of one format are published to and installed from, with a bucket and permissions of its own.",
        printcolumn = r#"{"name":"Format","type":"string","jsonPath":".spec.format"}"#,
        printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
        printcolumn = r#"{"name":"Packages","type":"integer","jsonPath":".status.packages"}"#,
        printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
        printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
        printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
    )
)]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::channel_rules))]
pub struct ChannelSpec {
    /// The registry that serves the channel. May be left out in files: the server that reads them is the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ref: Option<RegistryRef>,
    /// The channel's name in URLs; the object's name when absent. A `PyPI` channel may be named `user/index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 128)))]
    pub name: Option<String>,
    /// What kind of packages the channel holds: `conan`, `pypi`, `conda` or `quilt`.
    #[cfg_attr(feature = "kubernetes", schemars(schema_with = "crate::schema::format"))]
    pub format: Format,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 200)))]
    pub title: Option<String>,
    /// Some lines for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 10_000)))]
    pub description: Option<String>,
    /// Who may read every package, beside whom `permissions` name.
    #[serde(default)]
    pub visibility: Visibility,
    /// Who may do what; permissions add up. At most 500.
    #[serde(default)]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 500)))]
    pub permissions: Vec<Permission>,
    /// Where the packages come from.
    #[serde(default)]
    pub source: ChannelSource,
    /// Settings of a `conan` channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conan: Option<NoSettings>,
    /// Settings of a `pypi` channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pypi: Option<PyPiSettings>,
    /// Settings of a `conda` channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<CondaSettings>,
    /// Settings of a `quilt` channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quilt: Option<NoSettings>,
    /// How files are handed out.
    #[serde(default)]
    pub downloads: ChannelDownloads,
    /// What an upload may be.
    #[serde(default)]
    pub limits: ChannelLimits,
    /// The bucket that holds the channel's files.
    #[serde(default)]
    pub bucket: BucketSpec,
    /// What happens to bucket and rows when the object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Take over a channel of this name that was made through an API.
    #[serde(default)]
    pub adopt: bool,
}

impl ChannelSpec {
    /// A private, hosted channel with every setting at its default.
    pub fn new(format: Format) -> Self {
        Self {
            registry_ref: None,
            name: None,
            format,
            title: None,
            description: None,
            visibility: Visibility::default(),
            permissions: Vec::new(),
            source: ChannelSource::default(),
            conan: None,
            pypi: None,
            conda: None,
            quilt: None,
            downloads: ChannelDownloads::default(),
            limits: ChannelLimits::default(),
            bucket: BucketSpec::default(),
            deletion_policy: DeletionPolicy::default(),
            adopt: false,
        }
    }
}

/// Names a `PackageRegistry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::registry_ref_rules))]
pub struct RegistryRef {
    /// The object's name.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub name: String,
    /// The object's namespace; that of the channel when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 63)))]
    pub namespace: Option<String>,
}

/// Who may read every package of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum Visibility {
    /// Everybody, logged in or not.
    Public,
    /// Everybody who is logged in.
    Internal,
    /// Nobody but those whom `permissions` name.
    #[default]
    Private,
}

/// Gives some subjects a role over some packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::permission_rules))]
pub struct Permission {
    /// To whom: `user:NAME`, `group:NAME`, `serviceaccount:NAMESPACE/NAME`, `workload:ISSUER?CLAIM=PATTERN`,
    /// `authenticated` or `anonymous`.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 500)))]
    pub subjects: Vec<Raw<Subject>>,
    /// What they may: `Reader`, `Publisher`, `Maintainer` or `Owner`, each with all that the one before has.
    #[cfg_attr(feature = "kubernetes", schemars(schema_with = "crate::schema::role"))]
    pub role: Role,
    /// Over which packages, as patterns with `*` and `?`; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 500)))]
    pub packages: Vec<Raw<PackagePattern>>,
    /// Over which packages not after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 500)))]
    pub except: Vec<Raw<PackagePattern>>,
}

/// The settings of a format that has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct NoSettings {}

/// Settings of a `pypi` channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct PyPiSettings {
    /// Whether a maintainer may replace a file by other bytes of the same name.
    #[serde(default)]
    pub allow_overwrite: bool,
}

/// How files are handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct ChannelDownloads {
    /// Whether downloads are redirected to a presigned URL of the object store. Needs `objectStore.publicEndpoint`
    /// of the registry.
    #[serde(default)]
    pub redirect: bool,
}

/// What an upload may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::upload_limit_rules))]
pub struct ChannelLimits {
    /// The largest upload; the registry's `limits.maxUploadSize` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_upload_size: Option<Raw<ByteSize>>,
    /// The most that the channel's files may be together; no limit when absent. For `conda` channels alone so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Raw<ByteSize>>,
}

/// The bucket that holds a channel's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::bucket_rules))]
pub struct BucketSpec {
    /// The bucket's name; made from format and channel when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 3, max = 63)))]
    pub name: Option<String>,
    /// Take a bucket that holds objects already. One that another channel owns is never taken.
    #[serde(default)]
    pub adopt: bool,
    /// Turn the store's own versioning on or off; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<bool>,
    /// Encryption at rest by the store.
    #[serde(default)]
    pub encryption: EncryptionSpec,
    /// What the store clears away by itself.
    #[serde(default)]
    pub lifecycle: LifecycleSpec,
}

/// Encryption at rest by the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::encryption_rules))]
pub struct EncryptionSpec {
    /// Which.
    #[serde(default, rename = "type")]
    pub type_: EncryptionType,
    /// The key, for `aws:kms`; the store's default key when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 2048)))]
    pub kms_key_id: Option<String>,
}

/// The kinds of encryption, as S3 names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum EncryptionType {
    /// Whatever the store does by default.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Keys that the store manages.
    #[serde(rename = "AES256")]
    Aes256,
    /// A key of a key management service.
    #[serde(rename = "aws:kms")]
    AwsKms,
}

/// What the store clears away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct LifecycleSpec {
    /// Days after which the parts of an upload that was never finished go; 1 to 365.
    #[cfg_attr(feature = "kubernetes", schemars(range(min = 1, max = 365)))]
    pub abort_incomplete_uploads_after_days: u16,
}

impl Default for LifecycleSpec {
    fn default() -> Self {
        Self { abort_incomplete_uploads_after_days: 2 }
    }
}

/// What happens to bucket and rows when the object is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They go.
    Delete,
}
