//! File names of distributions: wheels (PEP 427, 491) and source distributions (PEP 625 and older ones).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{ProjectName, ProjectNameError};
use super::version::{Version, VersionError};

/// A file name that no distribution may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilenameError {
    /// Empty, or longer than [`DistributionFile::MAX_LENGTH`].
    #[error("a file name has 1 to {} characters", DistributionFile::MAX_LENGTH)]
    Length,
    /// A character that no file name may hold, or a leading dot.
    #[error(
        "a file name is ASCII letters, digits, '.', '_', '-', '+' and '!', and begins with a letter, a digit or '_'"
    )]
    Character,
    /// Neither a wheel nor a source distribution.
    #[error(
        "the file is to be a wheel (.whl) or a source distribution (.tar.gz, or .zip as older tools wrote)"
    )]
    Extension,
    /// Not the five or six parts of a wheel's name.
    #[error(
        "the name of a wheel is NAME-VERSION-PYTHON-ABI-PLATFORM.whl, with a build number that begins with a digit \
         after the version if there is one"
    )]
    Wheel,
    /// No place where name and version could meet.
    #[error("the name of a source distribution is NAME-VERSION.tar.gz")]
    Sdist,
    /// The name in it is no name.
    #[error("the file name holds no project name")]
    Name(#[from] ProjectNameError),
    /// The version in it is no version.
    #[error("the file name holds no version: {0}")]
    Version(#[from] VersionError),
    /// The file belongs to another project or release.
    #[error("the file {filename} is not one of {name} {version}")]
    OtherRelease {
        /// The file's name.
        filename: String,
        /// The project it was to belong to.
        name: String,
        /// The version it was to have.
        version: String,
    },
}

/// What kind of distribution a file is. The public index knows more, which no tool of today makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageType {
    /// A wheel.
    BdistWheel,
    /// A source distribution.
    Sdist,
}

impl PackageType {
    /// The name in forms and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BdistWheel => "bdist_wheel",
            Self::Sdist => "sdist",
        }
    }
}

impl fmt::Display for PackageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the end of the file name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A wheel and its tags, each a set joined by dots (`py2.py3`).
    Wheel {
        /// The build number, which begins with a digit.
        build: Option<String>,
        /// For which Pythons: `cp312`, `py3`.
        python_tag: String,
        /// For which binary interface: `cp312`, `abi3`, `none`.
        abi_tag: String,
        /// For which platforms: `any`, `manylinux_2_28_x86_64`.
        platform_tag: String,
    },
    /// A source distribution, as a gzipped tar archive.
    SdistTarGz,
    /// A source distribution, as a zip archive: what older tools wrote on Windows.
    SdistZip,
}

/// The name of a file that is a distribution, and what it tells.
#[derive(Debug, Clone)]
pub struct DistributionFile {
    filename: String,
    name: ProjectName,
    version: Version,
    kind: Kind,
}

impl DistributionFile {
    /// The longest file name, in characters: what file systems hold.
    pub const MAX_LENGTH: usize = 255;

    /// Reads a file name that is known to belong to this release. The names of source distributions written
    /// before PEP 625 may hold hyphens anywhere, and only with this knowledge can they be read.
    pub fn parse_for(filename: &str, name: &ProjectName, version: &Version) -> Result<Self, FilenameError> {
        let other_release = || FilenameError::OtherRelease {
            filename: filename.to_owned(),
            name: name.to_string(),
            version: version.to_string(),
        };
        match split_extension(filename)? {
            (stem, Extension::Wheel) => {
                let file = Self::wheel(filename, stem)?;
                if file.name == *name && file.version == *version { Ok(file) } else { Err(other_release()) }
            }
            (stem, extension) if names_release(stem, name, version) => Ok(Self {
                filename: filename.to_owned(),
                name: name.clone(),
                version: version.clone(),
                kind: extension.sdist_kind(),
            }),
            _ => Err(other_release()),
        }
    }

    /// What makes two files the same to an installer, however their names are spelled: normalised project, version
    /// by its order, build number, and the tags as sets.
    pub fn key(&self) -> String {
        let release = format!("{} {}", self.name.normalized(), self.version.key_text());
        let sorted = |tags: &str| {
            let tags = tags.to_ascii_lowercase();
            let mut tags: Vec<&str> = tags.split('.').collect();
            tags.sort_unstable();
            tags.dedup();
            tags.join(".")
        };
        match &self.kind {
            Kind::Wheel { build, python_tag, abi_tag, platform_tag } => {
                let build = build.as_deref().unwrap_or_default().to_ascii_lowercase();
                let tags = [sorted(python_tag), sorted(abi_tag), sorted(platform_tag)].join("-");
                format!("{release} {build} {tags}")
            }
            Kind::SdistTarGz => format!("{release} tar.gz"),
            Kind::SdistZip => format!("{release} zip"),
        }
    }

    /// The file name, as it was given.
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// The project's name.
    pub fn name(&self) -> &ProjectName {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// What the end of the name tells.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Wheel or source distribution.
    pub fn package_type(&self) -> PackageType {
        match self.kind {
            Kind::Wheel { .. } => PackageType::BdistWheel,
            Kind::SdistTarGz | Kind::SdistZip => PackageType::Sdist,
        }
    }

    /// What the public index shows as `python_version`: the wheel's Python tag, or `source`.
    pub fn python_version(&self) -> &str {
        match &self.kind {
            Kind::Wheel { python_tag, .. } => python_tag,
            Kind::SdistTarGz | Kind::SdistZip => "source",
        }
    }

    /// Whether `stem` is `NAME-VERSION` of this release in any spelling: the folder in a source
    /// distribution, or that of a wheel's `.dist-info`.
    pub fn is_named_by(&self, stem: &str) -> bool {
        names_release(stem, &self.name, &self.version)
    }

    fn wheel(filename: &str, stem: &str) -> Result<Self, FilenameError> {
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, version, build, tags) = match parts[..] {
            [name, version, python, abi, platform] => (name, version, None, [python, abi, platform]),
            [name, version, build, python, abi, platform] => {
                (name, version, Some(build), [python, abi, platform])
            }
            _ => return Err(FilenameError::Wheel),
        };
        let is_tag = |tag: &&str| tag.split('.').all(|one| !one.is_empty() && !one.contains(['+', '!']));
        let starts_with_digit = |build: &str| build.starts_with(|first: char| first.is_ascii_digit());
        if !tags.iter().all(is_tag) || !build.is_none_or(starts_with_digit) {
            return Err(FilenameError::Wheel);
        }
        let [python_tag, abi_tag, platform_tag] = tags.map(str::to_owned);
        Ok(Self {
            filename: filename.to_owned(),
            name: name.parse()?,
            version: version.parse()?,
            kind: Kind::Wheel { build: build.map(str::to_owned), python_tag, abi_tag, platform_tag },
        })
    }
}

impl FromStr for DistributionFile {
    type Err = FilenameError;

    /// Reads a file name on its own. The version of a source distribution is what follows the last hyphen,
    /// as PEP 625 says; prefer [`DistributionFile::parse_for`] where name and version are known.
    fn from_str(filename: &str) -> Result<Self, FilenameError> {
        match split_extension(filename)? {
            (stem, Extension::Wheel) => Self::wheel(filename, stem),
            (stem, extension) => {
                let (name, version) = stem.rsplit_once('-').ok_or(FilenameError::Sdist)?;
                Ok(Self {
                    filename: filename.to_owned(),
                    name: name.parse()?,
                    version: version.parse()?,
                    kind: extension.sdist_kind(),
                })
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Extension {
    Wheel,
    TarGz,
    Zip,
}

impl Extension {
    fn sdist_kind(self) -> Kind {
        match self {
            Self::Wheel | Self::Zip => Kind::SdistZip,
            Self::TarGz => Kind::SdistTarGz,
        }
    }
}

/// Checks the characters of a file name and takes its extension off.
fn split_extension(filename: &str) -> Result<(&str, Extension), FilenameError> {
    if filename.is_empty() || filename.len() > DistributionFile::MAX_LENGTH {
        return Err(FilenameError::Length);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'!');
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !filename.bytes().all(allowed) || !filename.bytes().next().is_some_and(first) {
        return Err(FilenameError::Character);
    }
    [(".whl", Extension::Wheel), (".tar.gz", Extension::TarGz), (".zip", Extension::Zip)]
        .into_iter()
        .find_map(|(suffix, extension)| Some((filename.strip_suffix(suffix)?, extension)))
        .ok_or(FilenameError::Extension)
}

/// Whether some hyphen of `stem` has this name on its left and this version on its right.
fn names_release(stem: &str, name: &ProjectName, version: &Version) -> bool {
    stem.match_indices('-').any(|(at, _)| {
        stem[..at].parse::<ProjectName>().as_ref() == Ok(name)
            && stem[at + 1..].parse::<Version>().as_ref() == Ok(version)
    })
}

#[cfg(test)]
mod tests;
