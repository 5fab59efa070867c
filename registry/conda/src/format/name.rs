//! Names (CEP 26): of packages, of their files, of the folders of a channel.

use std::fmt;
use std::str::FromStr;

/// The longest name, version and build string, in bytes.
const MAX_PART: usize = 64;

/// A name that is none. The messages say what one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a package's name.
    #[error(
        "a package's name has at most 64 lower-case letters, digits and single '.', '_', '-', and begins with a letter, a digit or '_'"
    )]
    Package,
    /// Not a version.
    #[error("a version has at most 64 letters, digits, '.', '_', '+' and '!'")]
    Version,
    /// Not a build string.
    #[error("a build string has at most 64 letters, digits, '_', '.' and '+'")]
    Build,
    /// Not a folder of a channel.
    #[error("a subdir is noarch or a platform such as linux-64")]
    Subdir,
    /// Not a package's file.
    #[error("a package's file is NAME-VERSION-BUILD.conda or NAME-VERSION-BUILD.tar.bz2")]
    File,
}

/// A package's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

impl PackageName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || is_separator(byte);
        let bytes = text.as_bytes();
        let begins_well = bytes.first().is_some_and(|&first| first == b'_' || !is_separator(first));
        let is_single = !bytes.windows(2).any(|pair| is_separator(pair[0]) && is_separator(pair[1]));
        if bytes.len() <= MAX_PART && begins_well && is_single && bytes.iter().copied().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Package)
        }
    }
}

/// A folder of a channel: packages for one platform, or for all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subdir(String);

impl Subdir {
    /// The folder of packages for all platforms, which every channel has.
    pub const NOARCH: &str = "noarch";

    /// That one.
    pub fn noarch() -> Self {
        Self(Self::NOARCH.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subdir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Subdir {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let legal = |part: &str, more: &[u8]| {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte);
            !part.is_empty() && part.bytes().all(legal)
        };
        let is_platform =
            text.split_once('-').is_some_and(|(system, machine)| legal(system, b"") && legal(machine, b"_"));
        if text == Self::NOARCH || (text.len() <= MAX_PART && is_platform) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Subdir)
        }
    }
}

/// How a package is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveKind {
    /// `.tar.bz2`: one archive.
    TarBz2,
    /// `.conda`: the metadata and the contents apart, in a zip archive.
    Conda,
}

impl ArchiveKind {
    /// What its files' names end with.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::TarBz2 => ".tar.bz2",
            Self::Conda => ".conda",
        }
    }
}

/// The name of a package's file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PackageFile {
    name: PackageName,
    version: String,
    build: String,
    kind: ArchiveKind,
}

impl PackageFile {
    /// The package's name.
    pub const fn name(&self) -> &PackageName {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The build string.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// How it is packed.
    pub const fn kind(&self) -> ArchiveKind {
        self.kind
    }

    /// The name of the same package, packed otherwise.
    #[must_use]
    pub fn with_kind(&self, kind: ArchiveKind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The name without its extension.
    pub fn stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.build)
    }
}

impl fmt::Display for PackageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem(), self.kind.extension())
    }
}

impl FromStr for PackageFile {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let kinds = [ArchiveKind::Conda, ArchiveKind::TarBz2];
        let (stem, kind) = kinds
            .into_iter()
            .find_map(|kind| text.strip_suffix(kind.extension()).map(|stem| (stem, kind)))
            .ok_or(NameError::File)?;
        let (rest, build) = stem.rsplit_once('-').ok_or(NameError::File)?;
        let (name, version) = rest.rsplit_once('-').ok_or(NameError::File)?;
        let consists_of = |text: &str, more: &[u8]| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            (1..=MAX_PART).contains(&text.len()) && text.bytes().all(legal)
        };
        if !consists_of(version, b"._+!") {
            return Err(NameError::Version);
        }
        if !consists_of(build, b"_.+") {
            return Err(NameError::Build);
        }
        Ok(Self { name: name.parse()?, version: version.to_owned(), build: build.to_owned(), kind })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn names_of_packages() {
        for name in ["zlib", "_libgcc_mutex", "r-base", "python_abi", "7zip", "a", "ca-certificates", "x.y-z"]
        {
            assert_eq!(name.parse::<PackageName>().unwrap().as_str(), name);
        }
        for name in ["", "-a", ".a", "__glibc", "A", "a--b", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(name.parse::<PackageName>(), Err(NameError::Package), "{name}");
        }
    }

    #[test]
    fn folders_of_channels() {
        for subdir in
            ["noarch", "linux-64", "osx-arm64", "win-64", "emscripten-wasm32", "zos-z", "linux-x86_64"]
        {
            assert_eq!(subdir.parse::<Subdir>().unwrap().as_str(), subdir);
        }
        for subdir in ["", "linux", "linux-", "-64", "Linux-64", "..", "linux-64/..", "a b-c"] {
            assert_eq!(subdir.parse::<Subdir>(), Err(NameError::Subdir), "{subdir}");
        }
    }

    #[test]
    fn names_of_files() {
        let file: PackageFile = "ca-certificates-2024.8.30-hbcca054_0.conda".parse().unwrap();
        assert_eq!(file.name().as_str(), "ca-certificates");
        assert_eq!(
            (file.version(), file.build(), file.kind()),
            ("2024.8.30", "hbcca054_0", ArchiveKind::Conda)
        );
        for text in
            ["zlib-1.3.1-h_1.conda", "x-1!2.0+local-0.tar.bz2", "_x86_64-microarch-level-1-2_x86_64.conda"]
        {
            assert_eq!(text.parse::<PackageFile>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("zlib-1.3.1.conda", NameError::File),
            ("zlib.conda", NameError::File),
            ("zlib-1.3.1-0.zip", NameError::File),
            ("zlib-1 3-0.conda", NameError::Version),
            ("zlib--0.conda", NameError::Version),
            ("zlib-1-.conda", NameError::Build),
            ("zlib-1-a b.conda", NameError::Build),
            ("Zlib-1-0.conda", NameError::Package),
            ("../zlib-1-0.conda", NameError::Package),
        ] {
            assert_eq!(text.parse::<PackageFile>(), Err(error), "{text}");
        }
    }
}
