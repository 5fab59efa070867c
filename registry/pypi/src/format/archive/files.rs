//! The files of a distribution that are read, and the folder that they have to be in.

use granary_archive::{Entries, Entry, Interest, Keeping};

use super::error::ArchiveError;
use super::{MAX_RECORD, MAX_WHEEL};
use crate::format::filename::{DistributionFile, PackageType};
use crate::format::metadata::CoreMetadata;

/// What is kept of a distribution's entries.
#[derive(Debug)]
pub(super) struct Files {
    file: DistributionFile,
    /// The folder that holds the metadata: a wheel's `.dist-info`, or the one top folder of a source.
    pub(super) folder: Option<String>,
    pub(super) metadata: Option<Vec<u8>>,
    pub(super) wheel: Option<Vec<u8>>,
    pub(super) record: Option<Vec<u8>>,
    keeping: Keeping<Kept>,
}

/// The files whose bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Metadata,
    Wheel,
    Record,
}

impl Kept {
    const fn limit(self) -> u64 {
        match self {
            Self::Metadata => CoreMetadata::MAX_SIZE as u64,
            Self::Wheel => MAX_WHEEL,
            Self::Record => MAX_RECORD,
        }
    }
}

impl Files {
    pub(super) fn of(file: &DistributionFile) -> Self {
        Self {
            file: file.clone(),
            folder: None,
            metadata: None,
            wheel: None,
            record: None,
            keeping: Keeping::default(),
        }
    }

    pub(super) fn package_type(&self) -> PackageType {
        self.file.package_type()
    }

    /// Whether this file is one that is kept; refuses folders that do not belong to the distribution.
    fn kept(&mut self, path: &str) -> Result<Option<Kept>, ArchiveError> {
        let (top, below) = path.split_once('/').map_or((path, None), |(top, below)| (top, Some(below)));
        if self.file.package_type() == PackageType::Sdist {
            self.check_top_folder(top, path)?;
            return Ok((below == Some("PKG-INFO")).then_some(Kept::Metadata));
        }
        if !top.to_ascii_lowercase().ends_with(".dist-info") {
            return Ok(None);
        }
        let is_ours = top.strip_suffix(".dist-info").is_some_and(|stem| self.file.is_named_by(stem));
        let is_the_one = self.folder.as_deref().is_none_or(|folder| folder == top);
        if !is_ours || !is_the_one {
            return Err(ArchiveError::DistInfo { name: top.to_owned() });
        }
        self.folder.get_or_insert_with(|| top.to_owned());
        Ok(match below {
            Some("METADATA") => Some(Kept::Metadata),
            Some("WHEEL") => Some(Kept::Wheel),
            Some("RECORD") => Some(Kept::Record),
            _ => None,
        })
    }

    /// Checks that a top folder is `NAME-VERSION` and the only one.
    fn check_top_folder(&mut self, top: &str, path: &str) -> Result<(), ArchiveError> {
        match &self.folder {
            Some(folder) if folder == top => Ok(()),
            None if self.file.is_named_by(top) => {
                self.folder = Some(top.to_owned());
                Ok(())
            }
            folder => {
                let named = || format!("{}-{}", self.file.name(), self.file.version());
                let expected = folder.clone().unwrap_or_else(named);
                Err(ArchiveError::OutsideFolder { name: path.to_owned(), expected })
            }
        }
    }
}

impl Entries for Files {
    type Error = ArchiveError;

    fn begin(&mut self, entry: &Entry<'_>) -> Result<Interest, ArchiveError> {
        let kept = self.kept(entry.path)?;
        Ok(self.keeping.begin(kept.map(|kept| (kept, kept.limit()))))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.keeping.data(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        // A second file of this name is refused at the end.
        match self.keeping.end() {
            Some((Kept::Metadata, bytes)) => self.metadata = Some(bytes),
            Some((Kept::Wheel, bytes)) => self.wheel = Some(bytes),
            Some((Kept::Record, bytes)) => self.record = Some(bytes),
            None => {}
        }
        Ok(())
    }
}
