//! Archives against [`granary_pypi::format::ArchiveReader`]: good ones, a corpus of hostile ones (each refused for
//! its own reason), and any bytes in any pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pieces;
mod tar_corpus;
mod tar_writer;
mod wheel_corpus;
mod zip_writer;

use granary_pypi::format::{ArchiveContents, ArchiveError, ArchiveReader, DistributionFile};

const WHEEL: &str = "demo_pkg-1.0-py3-none-any.whl";
const SDIST: &str = "demo_pkg-1.0.tar.gz";
const ZIP_SDIST: &str = "demo_pkg-1.0.zip";
const METADATA: &[u8] = b"Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.0\n";

/// A hostile archive: what it is, its bytes, and whether an error is the one it gets.
type Case = (&'static str, Vec<u8>, fn(&ArchiveError) -> bool);

/// Reads an archive in one piece.
fn read(filename: &str, bytes: &[u8]) -> Result<ArchiveContents, ArchiveError> {
    read_pieces(filename, [bytes])
}

fn read_pieces<'a>(
    filename: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<ArchiveContents, ArchiveError> {
    let file: DistributionFile = filename.parse().unwrap();
    let mut reader = ArchiveReader::new(&file);
    for piece in pieces {
        reader.write(piece)?;
    }
    reader.finish()
}

/// Bytes that do not compress well, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    next.take(length).collect()
}
