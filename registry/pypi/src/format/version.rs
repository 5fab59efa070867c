//! Versions as PEP 440 defines them.

use std::fmt;
use std::str::FromStr;

use pep440_rs::{LocalSegment, PrereleaseKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Longer than [`Version::MAX_LENGTH`].
    #[error("a version has at most {} characters", Version::MAX_LENGTH)]
    Length,
    /// Not the grammar of PEP 440.
    #[error("{text:?} is not a version as PEP 440 defines it: {reason}")]
    Grammar {
        /// What was read.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A version (PEP 440). Displayed in its normal form (`1.0-RC1` as `1.0rc1`); equal and ordered as PEP 440
/// says, so that `1` equals `1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pep440_rs::Version);

impl Version {
    /// The longest version, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Whether this is an alpha, beta, release candidate or development release.
    pub fn is_prerelease(&self) -> bool {
        self.0.any_prerelease()
    }

    /// [`Version::sort_key`] as hexadecimal digits: equal exactly where the versions are, such as `1.0` and `1.0.0`.
    pub fn key_text(&self) -> String {
        hex::encode(self.sort_key())
    }

    /// Bytes that compare (as `memcmp` and Postgres's `bytea` do) as the versions do, and are equal for
    /// equal versions: the identity of a release and its place in an `ORDER BY`.
    ///
    /// The order of the parts is that of PEP 440: epoch, release without trailing zeros, pre-release,
    /// post-release, development release, local version. An absent part is a byte below or above all others,
    /// whichever PEP 440 asks.
    pub fn sort_key(&self) -> Vec<u8> {
        const LOWEST: u8 = 0;
        const HIGHEST: u8 = u8::MAX;

        let version = &self.0;
        let mut key = Vec::with_capacity(16);
        push_number(&mut key, version.epoch());

        let release = version.release();
        let significant = release.iter().rposition(|&number| number != 0).map_or(0, |last| last + 1);
        for &number in &release[..significant] {
            push_number(&mut key, number);
        }
        key.push(LOWEST);

        match version.pre() {
            // A development release of a final version comes before that version's pre-releases.
            None if version.post().is_none() && version.dev().is_some() => key.push(LOWEST),
            None => key.push(HIGHEST),
            Some(pre) => {
                key.push(match pre.kind {
                    PrereleaseKind::Alpha => 1,
                    PrereleaseKind::Beta => 2,
                    PrereleaseKind::Rc => 3,
                });
                push_number(&mut key, pre.number);
            }
        }
        match version.post() {
            None => key.push(LOWEST),
            Some(number) => push_number(&mut key, number),
        }
        match version.dev() {
            None => key.push(HIGHEST),
            Some(number) => push_number(&mut key, number),
        }
        for segment in version.local() {
            match segment {
                LocalSegment::String(text) => {
                    key.push(1);
                    key.extend_from_slice(text.as_bytes());
                    key.push(LOWEST);
                }
                LocalSegment::Number(number) => {
                    key.push(2);
                    push_number(&mut key, *number);
                }
            }
        }
        key.push(LOWEST);
        key
    }
}

/// A number as 1 + the count of its significant bytes, then these: 1 to 9 bytes, none of which begins with
/// a byte below 1 or above 9.
fn push_number(key: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let significant = &bytes[zeros..];
    key.extend(u8::try_from(significant.len() + 1));
    key.extend_from_slice(significant);
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(VersionError::Length);
        }
        text.parse().map(Self).map_err(|error: pep440_rs::VersionParseError| VersionError::Grammar {
            text: text.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_shown_in_their_normal_form() {
        for (text, normal) in [
            ("1.0-RC1", "1.0rc1"),
            ("v1.0", "1.0"),
            ("1.0-1", "1.0.post1"),
            ("1.0+Ubuntu_1", "1.0+ubuntu.1"),
            ("1!2.0.0", "1!2.0.0"),
            ("01.002", "1.2"),
            (" 1.0 ", "1.0"),
        ] {
            assert_eq!(version(text).to_string(), normal);
        }
        for text in ["", "x", "1.0.*", "1.0/..", "1.0 1.0", "99999999999999999999999"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert_eq!("1".repeat(129).parse::<Version>(), Err(VersionError::Length));
    }

    #[test]
    fn the_sort_key_orders_as_the_specification_does() {
        let ordered = [
            "0",
            "1.dev0",
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0+5.1",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.1",
            "1.0.255",
            "1.0.256",
            "1.1.dev1",
            "1.10",
            "1!0.1",
        ];
        for pair in ordered.windows(2) {
            let [low, high] = [version(pair[0]), version(pair[1])];
            assert!(low < high && low.sort_key() < high.sort_key(), "{low} < {high}");
        }
        assert_eq!(version("1.0").sort_key(), version("1.0.0").sort_key());
    }

    fn any_version() -> impl Strategy<Value = Version> {
        let number = prop_oneof![0..3_u64, 250..260_u64, any::<u32>().prop_map(u64::from)];
        let release = prop::collection::vec(number.clone(), 1..4);
        let suffix =
            |name: &'static str| prop::option::of(number.clone().prop_map(move |n| format!("{name}{n}")));
        let local = prop::collection::vec("[a-z0-9]{1,3}", 0..3);
        (
            0..2_u64,
            release,
            prop_oneof![suffix("a"), suffix("b"), suffix("rc")],
            suffix(".post"),
            suffix(".dev"),
            local,
        )
            .prop_map(|(epoch, release, pre, post, dev, local)| {
                let release = release.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
                let suffixes: String = [pre, post, dev].into_iter().flatten().collect();
                let local = if local.is_empty() { String::new() } else { format!("+{}", local.join(".")) };
                version(&format!("{epoch}!{release}{suffixes}{local}"))
            })
    }

    proptest! {
        #[test]
        fn keys_compare_as_versions_do(a in any_version(), b in any_version()) {
            prop_assert_eq!(a.sort_key().cmp(&b.sort_key()), a.cmp(&b), "{} {}", a, b);
            prop_assert_eq!(version(&a.to_string()), a);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Version>();
        }
    }
}
