//! What of a channel is shown: what its resource includes, as far as who asks may read it.

use std::sync::Arc;

use granary_core::{PackagePattern, ReadFilter, Sha256};
use granary_crds::Mirror;

use crate::format::PackageFile;
use crate::format::foreign::document::{Listed, Sieve};

/// Which names are shown. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    include: Arc<[PackagePattern]>,
    exclude: Arc<[PackagePattern]>,
    filter: Option<Arc<ReadFilter>>,
    /// Of the virtual channel through which it is read.
    outer: Option<Arc<ReadFilter>>,
}

impl Rules {
    pub(super) fn new(
        include: &[PackagePattern],
        exclude: &[PackagePattern],
        filter: Option<ReadFilter>,
    ) -> Self {
        Self { include: include.into(), exclude: exclude.into(), filter: filter.map(Arc::new), outer: None }
    }

    /// As far as another filter admits it, too.
    pub(super) fn and(self, outer: Option<ReadFilter>) -> Self {
        Self { outer: outer.map(Arc::new), ..self }
    }

    /// What the caller may read of the channel itself.
    pub(super) fn filter(&self) -> Option<ReadFilter> {
        self.filter.as_deref().cloned()
    }

    /// Whether the channel has packages of this name, whoever asks.
    pub(super) fn includes(&self, name: &str) -> bool {
        let any = |patterns: &[PackagePattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// Whether packages of this name are shown.
    pub(super) fn admits(&self, name: &str) -> bool {
        let is_readable =
            |filter: &Option<Arc<ReadFilter>>| filter.as_ref().is_none_or(|filter| filter.admits(name));
        self.includes(name) && is_readable(&self.filter) && is_readable(&self.outer)
    }

    /// Whether nothing is left out.
    pub(super) fn admits_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.filter.is_none() && self.outer.is_none()
    }

    /// What tells documents apart that are made by other rules.
    pub(super) fn class(&self) -> String {
        if self.admits_all() {
            return String::new();
        }
        let text = |filter: &Option<Arc<ReadFilter>>| filter.as_ref().map(|filter| filter.fingerprint());
        let filters = (text(&self.filter), text(&self.outer));
        Sha256::of(format!("{:?}", (&self.include, &self.exclude, filters)).as_bytes()).to_hex()
    }
}

impl Sieve for Rules {
    fn keeps(&mut self, name: &str, listed: &Listed<'_>) -> bool {
        // A record that says another name than its file's is judged by both.
        let of_file = listed.key.parse::<PackageFile>().ok();
        self.admits(name) && of_file.is_none_or(|file| self.admits(file.name().as_str()))
    }

    fn keeps_unknown(&self) -> bool {
        self.admits_all()
    }
}

/// Whether a mirror copies a package. Patterns may leave out their last words.
pub(super) fn wants(mirror: &Mirror, name: &str, version: &str, build: &str) -> bool {
    let package = format!("{name} {version} {build}");
    let any = |patterns: &[PackagePattern]| {
        patterns.iter().any(|pattern| match pattern.as_str().split(' ').count() {
            1 => pattern.matches(name),
            2 => pattern.matches(&format!("{name} {version}")),
            _ => pattern.matches(&package),
        })
    };
    (mirror.include.is_empty() || any(&mirror.include)) && !any(&mirror.exclude)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_a_mirror_wants() {
        let mirror = Mirror {
            include: ["zlib", "python 3.13.*", "numpy 2.* py313*", "r-*"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            exclude: ["r-* 0.*"].map(|text| text.parse().unwrap()).to_vec(),
            ..Mirror::default()
        };
        for (name, version, build, expected) in [
            ("zlib", "1.3", "h_0", true),
            ("zlib-ng", "1.3", "h_0", false),
            ("python", "3.13.1", "h_0", true),
            ("python", "3.12.1", "h_0", false),
            ("numpy", "2.1", "py313_0", true),
            ("numpy", "2.1", "py312_0", false),
            ("numpy", "1.26", "py313_0", false),
            ("r-base", "4.4", "0", true),
            ("r-base", "0.4", "0", false),
        ] {
            assert_eq!(wants(&mirror, name, version, build), expected, "{name} {version} {build}");
        }
        assert!(wants(&Mirror::default(), "anything", "1", "0"));
    }
}
