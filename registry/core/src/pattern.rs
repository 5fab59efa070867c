//! Patterns over package names, as grants and tokens carry them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or too much.
    #[error("a package pattern has 1 to {0} characters")]
    Length(usize),
    /// A control character.
    #[error("a package pattern holds no control characters")]
    Character,
    /// Too many wildcards: each one costs time on every request.
    #[error("a package pattern has at most {0} wildcards")]
    Wildcards(usize),
}

/// A pattern over package names: `*` stands for any run of characters, `?` for one character.
///
/// Names are compared as the protocol normalises them; letters compare exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PackagePattern(String);

impl PackagePattern {
    /// The longest pattern, in bytes.
    pub const MAX_LENGTH: usize = 256;
    /// The most `*` in a pattern.
    pub const MAX_WILDCARDS: usize = 8;

    /// The pattern that every name matches.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` fits. Linear in the pattern's length times the name's.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                Some(b'?') => {
                    p += 1;
                    n += 1;
                    while n < name.len() && (name[n] & 0xC0) == 0x80 {
                        n += 1;
                    }
                }
                _ => match retry {
                    Some((star, from)) => {
                        retry = Some((star, from + 1));
                        p = star + 1;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for PackagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(PatternError::Length(Self::MAX_LENGTH));
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::Character);
        }
        if text.matches('*').count() > Self::MAX_WILDCARDS {
            return Err(PatternError::Wildcards(Self::MAX_WILDCARDS));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PackagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PackagePattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<PackagePattern>().is_ok_and(|pattern| pattern.matches(name))
    }

    #[test]
    fn wildcards_cover_what_they_should() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("acme-*", "acme-core", true),
            ("acme-*", "acme", false),
            ("*-core", "acme-core", true),
            ("a*b*c", "a-b-b-c", true),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("numpy", "numpy2", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_every_prefix_with_a_star(name in "[a-z0-9.-]{1,30}", cut in 0usize..30) {
            prop_assert!(matches(&name, &name));
            let prefix = &name[..cut.min(name.len())];
            let pattern = format!("{prefix}*");
            prop_assert!(matches(&pattern, &name));
        }
    }
}
