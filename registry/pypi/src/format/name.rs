//! Names of projects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not the name of a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectNameError {
    /// Empty, or longer than [`ProjectName::MAX_LENGTH`].
    #[error("the name of a project has 1 to {} characters", ProjectName::MAX_LENGTH)]
    Length,
    /// Not the grammar of PEP 508.
    #[error(
        "the name of a project is ASCII letters, digits, '.', '_' and '-', and begins and ends with a letter or a digit"
    )]
    Character,
    /// Well-formed, but not in its normal form where that is needed.
    #[error("the normalised name of a project is lower case, with single '-' as its only separator")]
    NotNormalized,
}

/// The name of a project as its author writes it (PEP 508), with its normal form (PEP 503).
///
/// Two names are equal when their normal forms are.
#[derive(Debug, Clone)]
pub struct ProjectName {
    text: String,
    normalized: NormalizedName,
}

impl ProjectName {
    /// The longest name, in characters. The public index sets no limit of its own; the longest name seen
    /// there has 188, and a file name, which holds the name, has 255.
    pub const MAX_LENGTH: usize = 200;

    /// The name as its author writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as it stands in URLs and comparisons.
    pub fn normalized(&self) -> &NormalizedName {
        &self.normalized
    }
}

impl FromStr for ProjectName {
    type Err = ProjectNameError;

    fn from_str(text: &str) -> Result<Self, ProjectNameError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(ProjectNameError::Length);
        }
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let at_the_ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let bytes = text.bytes();
        if !bytes.clone().all(inside)
            || !at_the_ends(bytes.clone().next())
            || !at_the_ends(bytes.clone().next_back())
        {
            return Err(ProjectNameError::Character);
        }
        Ok(Self { text: text.to_owned(), normalized: NormalizedName::of(text) })
    }
}

impl PartialEq for ProjectName {
    fn eq(&self, other: &Self) -> bool {
        self.normalized == other.normalized
    }
}

impl Eq for ProjectName {}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ProjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ProjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The normal form of a project's name (PEP 503): lower case, each run of `-`, `_` and `.` one `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NormalizedName(String);

impl NormalizedName {
    /// The normal form of a text that was checked before.
    fn of(text: &str) -> Self {
        let mut normalized = String::with_capacity(text.len());
        for character in text.chars() {
            if !matches!(character, '-' | '_' | '.') {
                normalized.push(character.to_ascii_lowercase());
            } else if !normalized.ends_with('-') {
                normalized.push('-');
            }
        }
        Self(normalized)
    }

    /// The name as it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NormalizedName {
    type Err = ProjectNameError;

    /// Reads a name that is in its normal form already; for any other, read a [`ProjectName`] and redirect.
    fn from_str(text: &str) -> Result<Self, ProjectNameError> {
        let name: ProjectName = text.parse()?;
        if name.normalized.0 == text { Ok(name.normalized) } else { Err(ProjectNameError::NotNormalized) }
    }
}

impl fmt::Display for NormalizedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NormalizedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn runs_of_separators_become_one_hyphen() {
        for (text, normal) in [
            ("friendly-bard", "friendly-bard"),
            ("Friendly-Bard", "friendly-bard"),
            ("friendly.bard", "friendly-bard"),
            ("FrIeNdLy-._.-bArD", "friendly-bard"),
            ("friendly--bard", "friendly-bard"),
            ("A", "a"),
            ("0", "0"),
        ] {
            let name: ProjectName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.normalized().as_str()), (text, normal));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "-a", "a-", "_", ".", "..", "a b", "a/b", "é", "a\0", "a\n", "a%2fb", "a\\b"] {
            assert!(text.parse::<ProjectName>().is_err(), "{text:?}");
        }
        assert_eq!("a".repeat(201).parse::<ProjectName>(), Err(ProjectNameError::Length));
        assert!("a".repeat(200).parse::<ProjectName>().is_ok());
    }

    #[test]
    fn a_normalised_name_is_read_in_its_normal_form_only() {
        assert!("zope-interface".parse::<NormalizedName>().is_ok());
        assert_eq!("zope.interface".parse::<NormalizedName>(), Err(ProjectNameError::NotNormalized));
    }
}
