//! The settings of a `conda` channel.

use serde::{Deserialize, Serialize};

/// The most bytes of all notices together: what conda reads of them is bounded.
pub(crate) const MAX_NOTICES: usize = 64 << 10;

/// Settings of a `conda` channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
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
}

impl Default for CondaSettings {
    fn default() -> Self {
        Self { notices: Vec::new(), current_repodata: true, repodata_patches: CondaPatches::default() }
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
