//! The settings of a `conda` channel.

use granary_core::PackagePattern;
use serde::{Deserialize, Serialize};

use crate::value::Raw;

/// The most bytes of all notices together: what conda reads of them is bounded.
pub(crate) const MAX_NOTICES: usize = 64 << 10;

/// Settings of a `conda` channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and they go together in any way"
)]
pub struct CondaSettings {
    /// What conda shows to the channel's users (CEP 6). At most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub notices: Vec<CondaNotice>,
    /// Whether there is a `current_repodata.json`: the newest of each package and what that needs. Asked for by conda's
    /// classic solver alone.
    pub current_repodata: bool,
    /// Where the patch instructions of the channel come from.
    pub repodata_patches: CondaPatches,
    /// Whether the maps of conda-suggest are served: which command comes with which package.
    pub suggest: bool,
    /// Whether packages are signed as conda's content trust has it. Needs `sealing.keys` of the registry.
    pub content_trust: bool,
    /// Whether only those who have signed the registry's terms of service may upload; owners of the channel always may.
    pub terms_of_service: bool,
    /// Whether each `.tar.bz2` gets a `.conda` with the same contents beside it.
    pub transmutation: bool,
    /// Whether `repodata.json.zck` is served.
    pub zchunk: bool,
    /// Which packages are deleted by and by; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<CondaRetention>,
}

impl Default for CondaSettings {
    fn default() -> Self {
        Self {
            notices: Vec::new(),
            current_repodata: true,
            repodata_patches: CondaPatches::default(),
            suggest: false,
            content_trust: false,
            terms_of_service: false,
            transmutation: false,
            zchunk: false,
            retention: None,
        }
    }
}

/// Where the patch instructions of a `conda` channel come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct CondaPatches {
    /// The `noarch` package whose newest version holds them; `CHANNEL-repodata-patches` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 64)))]
    pub package: Option<String>,
}

/// Which packages of a `conda` channel are deleted by and by: of each name in each subdir those that are neither among the newest
/// nor young. Looked at every hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct CondaRetention {
    /// So many builds of a name stay in each subdir, the newest by version, build number and time.
    #[cfg_attr(feature = "kubernetes", schemars(range(min = 1, max = 100_000)))]
    pub keep_newest: u32,
    /// What was uploaded within so many days stays as well.
    #[serde(default)]
    #[cfg_attr(feature = "kubernetes", schemars(range(max = 36_500)))]
    pub older_than_days: u32,
    /// Of which names, as patterns with `*` and `?`; of all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 100)))]
    pub packages: Vec<Raw<PackagePattern>>,
}

/// Something that conda tells the channel's users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct CondaNotice {
    /// Tells it from others: conda shows each once.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 128)))]
    pub id: String,
    /// The text.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 10_000)))]
    pub message: String,
    /// How much it matters.
    #[serde(default)]
    pub level: CondaNoticeLevel,
    /// Since when it holds, such as `2026-03-01T12:00:00Z`.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 64)))]
    pub created_at: String,
    /// Until when it is shown.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 64)))]
    pub expires_at: String,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub enum CondaNoticeLevel {
    /// Good to know.
    #[default]
    Info,
    /// Somebody should do something.
    Warning,
    /// Somebody has to.
    Critical,
}
