//! Reading an archive while it passes, in bounded memory and one pass.
//!
//! The bytes of an upload go past a [`ZipReader`] or a [`TarReader`] on their way to the object store: no second read, no
//! temporary file. What is of interest in an archive, and what else has to hold, is for a protocol to say, as [`Entries`].
//! Refused is an archive that two readers could read differently, that would write outside its folder, or that unpacks to
//! far more than it is.
//!
//! | archive | what is checked |
//! |---|---|
//! | zip | every local header in sequence, then the central directory from its end; both must tell the same entries, with no byte between or behind them |
//! | tar | every header with its checksum; nothing behind the end; links that stay inside |
//! | gzip | one member with right checksum and length |
//!
//! In a zip archive only entries that are read, or whose length no header tells, are inflated: a checksum of another entry is
//! compared between the two directories but not with the bytes.
//!
//! # Memory
//! Kept are the names of the entries (at most 16 MiB, and 16 bytes for each of at most 100,000); of a zip archive also 32 bytes
//! an entry and the central directory (16 MiB); and what [`Entries`] keep. It grows only with bytes that were received or
//! inflated, and is freed with the reader.

mod central;
mod error;
mod gzip;
mod inflate;
mod kept;
mod paths;
mod split;
mod tar;
mod tar_reader;
mod zip;

pub use error::{ArchiveError, PathProblem};
pub use gzip::Gunzip;
pub use kept::Keeping;
pub use paths::{EntryKind, Names};
pub use split::{Halves, TarSplitter};
pub use tar_reader::{Links, TarReader};
pub use zip::ZipReader;

/// The most entries of an archive.
pub const MAX_ENTRIES: usize = 100_000;
/// The most bytes of all names together.
pub const MAX_NAME_BYTES: usize = 16 << 20;
/// The longest name of an entry, in bytes.
pub const MAX_NAME_LENGTH: usize = 4096;
/// The largest central directory of a zip archive, with its end record.
pub const MAX_DIRECTORY: usize = 16 << 20;
/// The most that an archive may unpack to.
pub const MAX_UNPACKED: u64 = 16 << 30;
/// The most that an archive may unpack to for each of its bytes, once it unpacks to [`RATIO_FREE`].
pub const MAX_RATIO: u64 = 200;
/// What an archive may unpack to however small it is.
pub const RATIO_FREE: u64 = 64 << 20;

/// What is done with the entries of an archive as they pass.
pub trait Entries {
    /// Why an archive is refused.
    type Error: From<ArchiveError>;

    /// An entry begins, whose path has been checked. Says whether its bytes are of interest.
    ///
    /// # Errors
    /// Where an archive of this kind has no such entry.
    fn begin(&mut self, entry: &Entry<'_>) -> Result<Interest, Self::Error>;

    /// Takes the next bytes of the entry that began last, which is of interest.
    ///
    /// # Errors
    /// Where they cannot be what they should be.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The entry that began last is of interest, and complete; its checksum is right where it has one.
    ///
    /// # Errors
    /// Where its bytes are not what they should be.
    fn end(&mut self) -> Result<(), Self::Error>;
}

/// An entry of an archive.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its path, without the slash at the end of a folder's.
    pub path: &'a str,
    /// What it is.
    pub kind: EntryKind,
    /// Whether its bytes stand in a zip archive as they are; always in a tar archive.
    pub stored: bool,
}

/// What is to be done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Its bytes are skipped.
    Skip,
    /// Its bytes are handed on.
    Read {
        /// The most that it may have.
        limit: u64,
    },
}

/// What a whole archive was.
#[derive(Debug)]
pub struct Archive {
    /// The names of its entries.
    pub names: Names,
    /// What the entries unpack to, in bytes, as the archive declares it.
    pub unpacked_size: u64,
}

/// Refuses an archive that unpacks to too much, in all or for what it is.
///
/// # Errors
/// [`ArchiveError::UnpacksTooLarge`].
pub fn check_unpacked(unpacked: u64, packed: u64) -> Result<(), ArchiveError> {
    if unpacked > MAX_UNPACKED || (unpacked > RATIO_FREE && unpacked / MAX_RATIO > packed) {
        return Err(ArchiveError::UnpacksTooLarge);
    }
    Ok(())
}
