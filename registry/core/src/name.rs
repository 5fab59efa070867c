//! Names of channels and of subjects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The package format that a channel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Conan recipes and packages.
    Conan,
    /// Python wheels and source distributions.
    #[serde(rename = "pypi")]
    PyPi,
    /// conda packages.
    Conda,
    /// Quilt 2 data packages.
    Quilt,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Conan, Self::PyPi, Self::Conda, Self::Quilt];

    /// The name in URLs, resources and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conan => "conan",
            Self::PyPi => "pypi",
            Self::Conda => "conda",
            Self::Quilt => "quilt",
        }
    }

    /// How many segments the name of a channel may have.
    const fn max_segments(self) -> usize {
        match self {
            // As devpi's `user/index`.
            Self::PyPi => 2,
            Self::Conan | Self::Conda | Self::Quilt => 1,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(NameError::Format)
    }
}

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not one of the formats.
    #[error("the format is one of conan, pypi, conda and quilt")]
    Format,
    /// The name is empty or too long.
    #[error("a name has 1 to {0} characters")]
    Length(usize),
    /// A character that no name may hold.
    #[error("a name is letters, digits, '.', '_' and '-', and begins with a letter or a digit")]
    Character,
    /// Too many segments for the format.
    #[error("a channel of this format has a name of at most {0} segments between slashes")]
    Segments(usize),
}

/// Checks one segment: ASCII letters, digits, `.`, `_`, `-`, beginning with a letter or digit.
fn check_segment(segment: &str) -> Result<(), NameError> {
    let mut bytes = segment.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_well && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

/// The name of a channel: one segment, or for a `PyPI` channel up to two (`user/index`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ChannelName(String);

impl ChannelName {
    /// The longest name, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Where a channel of this format stands below what serves the format: as the server that ours replaces had it.
    pub fn place(&self, format: Format) -> String {
        match format {
            Format::Conda => format!("get/{self}"),
            Format::Conan | Format::PyPi | Format::Quilt => self.to_string(),
        }
    }

    /// Reads the name of a channel of this format.
    pub fn parse(format: Format, text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(NameError::Length(Self::MAX_LENGTH));
        }
        if text.split('/').count() > format.max_segments() {
            return Err(NameError::Segments(format.max_segments()));
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(text.to_owned()))
    }

    /// The name as it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name has one segment.
    pub fn is_single_segment(&self) -> bool {
        !self.0.contains('/')
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a user or of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SubjectName(String);

impl SubjectName {
    /// The longest name, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubjectName {
    type Err = NameError;

    /// Like a segment of a channel's name, and `@` may stand inside (people are often named by address).
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(NameError::Length(Self::MAX_LENGTH));
        }
        check_segment(&text.replace('@', "-"))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SubjectName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_pypi_channel_may_have_two_segments_and_no_other_format_may() {
        assert!(ChannelName::parse(Format::PyPi, "team/dev").is_ok());
        assert_eq!(ChannelName::parse(Format::PyPi, "a/b/c"), Err(NameError::Segments(2)));
        assert_eq!(ChannelName::parse(Format::Conda, "team/dev"), Err(NameError::Segments(1)));
    }

    #[test]
    fn a_channel_stands_where_its_clients_expect_it() {
        let name = |format| ChannelName::parse(format, "tools").unwrap();
        assert_eq!(name(Format::PyPi).place(Format::PyPi), "tools");
        assert_eq!(name(Format::Conda).place(Format::Conda), "get/tools");
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for name in
            ["", ".", "..", "../x", "a/", "/a", "a//b", "+simple", "a b", "a\0", "a\\b", "é", "-a", "a%2fb"]
        {
            assert!(ChannelName::parse(Format::PyPi, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_subject_may_be_an_address() {
        assert!("ada@example.org".parse::<SubjectName>().is_ok());
        assert!("@x".parse::<SubjectName>().is_err());
    }
}
