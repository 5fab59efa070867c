//! Reading the archive of a distribution while it passes, in bounded memory and one pass.
//!
//! The bytes of an upload go past [`ArchiveReader`] on their way to the object store. It keeps the metadata file, and refuses
//! what [`granary_archive`] refuses of any archive, and what a distribution must not be:
//!
//! | archive | what is checked besides |
//! |---|---|
//! | wheel | one `.dist-info` folder, that of its file name; `RECORD` against the entries |
//! | zip, tar.gz | one top folder, that of its file name, in which all links stay |
//!
//! # Memory
//! Kept is, beside what every archive takes, the metadata file (10 MiB); of a wheel also `RECORD` (16 MiB) and `WHEEL` (1 MiB).
//! That is 64 MiB for a hostile archive, at most twice as much allocated while buffers grow, and less than a mebibyte for
//! nearly every real one.

mod error;
mod files;
mod record;

pub use error::ArchiveError;

use granary_archive::{Archive, Gunzip, Links, TarReader, ZipReader};

use super::filename::{DistributionFile, Kind, PackageType};
use files::Files;
use record::check_record;

/// The largest `RECORD` of a wheel.
pub const MAX_RECORD: u64 = 16 << 20;
/// The largest `WHEEL` file.
pub const MAX_WHEEL: u64 = 1 << 20;

/// What the archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveContents {
    /// The exact bytes of `METADATA` (always there in a wheel) or of `PKG-INFO`.
    pub metadata: Option<Vec<u8>>,
    /// The exact bytes of a wheel's `WHEEL` file.
    pub wheel: Option<Vec<u8>>,
    /// How many entries there are, folders included.
    pub entries: usize,
    /// What the entries unpack to, in bytes, as the archive declares it.
    pub unpacked_size: u64,
}

/// Reads the archive of one distribution as its bytes pass.
#[derive(Debug)]
pub struct ArchiveReader {
    format: Format,
    failed: Option<ArchiveError>,
}

#[derive(Debug)]
enum Format {
    Zip(Box<ZipReader<Files>>),
    TarGz(Box<(Gunzip, TarReader<Files>)>),
}

impl ArchiveReader {
    /// A reader for the archive that is this file.
    pub fn new(file: &DistributionFile) -> Self {
        let files = Files::of(file);
        let format = match file.kind() {
            Kind::Wheel { .. } | Kind::SdistZip => Format::Zip(Box::new(ZipReader::new(files))),
            Kind::SdistTarGz => {
                Format::TarGz(Box::new((Gunzip::new(), TarReader::new(files, Links::WithinTopFolder))))
            }
        };
        Self { format, failed: None }
    }

    /// Takes the next bytes, in pieces of any size. After an error it gives the same error again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = match &mut self.format {
            Format::Zip(reader) => reader.write(bytes),
            Format::TarGz(readers) => {
                let (gunzip, tar) = &mut **readers;
                gunzip.push(bytes, |piece| tar.write(piece))
            }
        };
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Makes the checks that need the whole archive.
    pub fn finish(self) -> Result<ArchiveContents, ArchiveError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (files, archive) = match self.format {
            Format::Zip(reader) => reader.finish()?,
            Format::TarGz(readers) => {
                let (gunzip, tar) = *readers;
                gunzip.finish()?;
                tar.finish()?
            }
        };
        contents(files, &archive)
    }
}

fn contents(files: Files, archive: &Archive) -> Result<ArchiveContents, ArchiveError> {
    if files.package_type() == PackageType::BdistWheel {
        let folder = files.folder.as_deref().ok_or(ArchiveError::Missing { name: ".dist-info folder" })?;
        let record = files.record.as_deref().ok_or(ArchiveError::Missing { name: "RECORD" })?;
        if files.metadata.is_none() || files.wheel.is_none() {
            let name = if files.metadata.is_none() { "METADATA" } else { "WHEEL" };
            return Err(ArchiveError::Missing { name });
        }
        check_record(record, folder, &archive.names)?;
    }
    Ok(ArchiveContents {
        metadata: files.metadata,
        wheel: files.wheel,
        entries: archive.names.len(),
        unpacked_size: archive.unpacked_size,
    })
}
