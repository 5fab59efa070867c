//! Reading an archive while it passes, in bounded memory and one pass.
//!
//! The bytes of an upload go past [`ArchiveReader`] on their way to the object store: no second read, no
//! temporary file. It keeps the metadata file, and refuses an archive that two readers could read
//! differently, that would write outside its folder, or that unpacks to far more than it is.
//!
//! | archive | what is checked |
//! |---|---|
//! | wheel, zip | every local header in sequence, then the central directory from its end; both must tell the same entries, with no byte between or behind them; in a wheel also `RECORD` against the entries |
//! | tar.gz | one gzip member with right checksum and length; every tar header with its checksum; one top folder |
//!
//! In a zip archive only entries that are kept, or whose length no header tells, are inflated: a checksum
//! of another entry is compared between the two directories but not with the bytes.
//!
//! # Memory
//! Kept are the names of the entries (at most 16 MiB, and 16 bytes for each of at most 100,000) and the metadata file
//! (10 MiB); of a zip archive also 32 bytes an entry, the central directory (16 MiB), `RECORD` (16 MiB) and
//! `WHEEL` (1 MiB). That is 64 MiB for a hostile archive, at most twice as much allocated while buffers grow, and less
//! than a mebibyte for nearly every real one. It grows only with bytes that were received or inflated, and is freed with the reader.

mod central;
mod error;
mod gzip;
mod inflate;
mod paths;
mod record;
mod tar;
mod targz;
mod zip;

pub use error::{ArchiveError, PathProblem};

use super::filename::{DistributionFile, Kind};
use targz::TarGzReader;
use zip::ZipReader;

/// The most entries of an archive.
pub const MAX_ENTRIES: usize = 100_000;
/// The most bytes of all names together.
pub const MAX_NAME_BYTES: usize = 16 << 20;
/// The longest name of an entry, in bytes.
pub const MAX_NAME_LENGTH: usize = 4096;
/// The largest central directory of a zip archive, with its end record.
pub const MAX_DIRECTORY: usize = 16 << 20;
/// The largest `RECORD` of a wheel.
pub const MAX_RECORD: u64 = 16 << 20;
/// The largest `WHEEL` file.
pub const MAX_WHEEL: u64 = 1 << 20;
/// The most that an archive may unpack to.
pub const MAX_UNPACKED: u64 = 16 << 30;
/// The most that an archive may unpack to for each of its bytes, once it unpacks to [`RATIO_FREE`].
pub const MAX_RATIO: u64 = 200;
/// What an archive may unpack to however small it is.
pub const RATIO_FREE: u64 = 64 << 20;

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
    Zip(Box<ZipReader>),
    TarGz(Box<TarGzReader>),
}

impl ArchiveReader {
    /// A reader for the archive that is this file.
    pub fn new(file: &DistributionFile) -> Self {
        let format = match file.kind() {
            Kind::Wheel { .. } | Kind::SdistZip => Format::Zip(Box::new(ZipReader::new(file))),
            Kind::SdistTarGz => Format::TarGz(Box::new(TarGzReader::new(file))),
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
            Format::TarGz(reader) => reader.write(bytes),
        };
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Makes the checks that need the whole archive.
    pub fn finish(self) -> Result<ArchiveContents, ArchiveError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.format {
            Format::Zip(reader) => reader.finish(),
            Format::TarGz(reader) => reader.finish(),
        }
    }
}

/// Refuses an archive that unpacks to too much, in all or for what it is.
fn check_unpacked(unpacked: u64, packed: u64) -> Result<(), ArchiveError> {
    if unpacked > MAX_UNPACKED || (unpacked > RATIO_FREE && unpacked / MAX_RATIO > packed) {
        return Err(ArchiveError::UnpacksTooLarge);
    }
    Ok(())
}
