//! Where a channel's packages come from, as somebody writes it.

use std::time::Duration;

use granary_core::PackagePattern;
use serde::{Deserialize, Serialize};

use crate::value::{HttpUrl, Raw};

/// Where a channel's packages come from: exactly one of these; `hosted` when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::source_rules))]
pub struct ChannelSource {
    /// Uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted: Option<HostedSource>,
    /// A channel of another registry: what is asked for is fetched from there, and kept. `conda` channels only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySource>,
    /// A copy of a channel of another registry, brought up to date again and again. `conda` channels only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSource>,
    /// Other channels of this registry, seen as one. `conda` channels only.
    #[serde(default, rename = "virtual", skip_serializing_if = "Option::is_none")]
    pub virtual_: Option<VirtualSource>,
}

/// A channel that holds what is uploaded to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct HostedSource {}

/// A channel of another registry, asked for what clients ask us for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct ProxySource {
    /// The channel's URL, above its subdirs: `https://upstream.example/channel`.
    pub url: Raw<HttpUrl>,
    /// The packages that are shown, as patterns of names with `*` and `?`; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub include: Vec<Raw<PackagePattern>>,
    /// The packages that are not shown after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub exclude: Vec<Raw<PackagePattern>>,
    /// How old an index may be before the other registry is asked whether it has changed. With `0s`, it is asked for each
    /// request.
    #[serde(default = "at_once")]
    pub revalidate_after: Raw<Duration>,
    /// Whether the other registry may be at an address that the internet does not reach: in this cluster, on this network, on
    /// this machine.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

impl ProxySource {
    /// A proxy of the channel at this URL, with every setting at its default.
    pub fn new(url: &str) -> Self {
        Self {
            url: Raw::new(url),
            include: Vec::new(),
            exclude: Vec::new(),
            revalidate_after: at_once(),
            allow_private_addresses: false,
        }
    }
}

fn at_once() -> Raw<Duration> {
    Raw::new("0s")
}

/// A copy of a channel of another registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct MirrorSource {
    /// The channel's URL, above its subdirs: `https://upstream.example/channel`.
    pub url: Raw<HttpUrl>,
    /// The subdirs that are copied: `linux-64`, `noarch`. When empty, those that the other registry names, or else those of
    /// the usual platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 50)))]
    pub subdirs: Vec<String>,
    /// The packages that are copied: a name, a version and a build string with a space between them, each with `*` and `?`,
    /// of which the last ones may be left out (`zlib`, `python 3.13.*`, `numpy 2.* py313*`); all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub include: Vec<Raw<PackagePattern>>,
    /// The packages that are not copied after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub exclude: Vec<Raw<PackagePattern>>,
    /// How long after a synchronisation the next one begins; at least a minute.
    #[serde(default = "hourly")]
    pub schedule: Raw<Duration>,
    /// What happens to a package that the other registry lists no longer, or that is no longer wanted.
    #[serde(default)]
    pub removal: Removal,
    /// Whether the other registry may be at an address that the internet does not reach: in this cluster, on this network, on
    /// this machine.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

impl MirrorSource {
    /// A mirror of the channel at this URL, with every setting at its default.
    pub fn new(url: &str) -> Self {
        Self {
            url: Raw::new(url),
            subdirs: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            schedule: hourly(),
            removal: Removal::default(),
            allow_private_addresses: false,
        }
    }
}

fn hourly() -> Raw<Duration> {
    Raw::new("1h")
}

/// What happens in a mirror to packages that are gone from where they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum Removal {
    /// They stay.
    #[default]
    Keep,
    /// They go here too.
    Follow,
}

/// Channels of this registry, seen as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct VirtualSource {
    /// The channels, of the same format, the most trusted one first. Who reads sees of each what they may read there.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 20)))]
    pub channels: Vec<String>,
    /// Whose packages of a name are shown where several channels have it.
    #[serde(default)]
    pub priority: Priority,
}

/// Whose packages of a name a virtual channel shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum Priority {
    /// Those of the first channel that has the name: nothing can be slipped in from a later one.
    #[default]
    Strict,
    /// Those of all channels; of a file name, the file of the first one.
    Flexible,
}
