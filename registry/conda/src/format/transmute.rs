//! From `.tar.bz2` to `.conda` (CEP 35): the same entries, byte by byte, in two archives that are compressed by zstd.

use std::io::{self, Write};

use granary_archive::{ArchiveError, Halves, TarSplitter};

use super::name::PackageFile;

/// How well it is compressed: packages are made once and fetched often.
const LEVEL: i32 = 16;
/// How much is unpacked at a time.
const PIECE: usize = 64 << 10;
/// The format's own file.
const FORMAT: &[u8] = b"{\"conda_pkg_format_version\": 2}";
/// What the zip archive of a package cannot hold, as it is written here.
const TOO_LARGE: u64 = 0xffff_ffff;
/// Midnight of the first of January 1980, the first time that a zip archive can tell.
const TIME: [u8; 4] = [0, 0, 0x21, 0];
/// The version of the zip format that says all that is used of it.
const VERSION: [u8; 2] = [20, 0];

/// Why a package cannot be transmuted.
#[derive(Debug, thiserror::Error)]
pub enum TransmuteError {
    /// What it holds.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Its compression.
    #[error("the compressed data of the package is broken")]
    Compression(#[from] bzip2::Error),
    /// What is written cannot be.
    #[error("the parts of the package cannot be written")]
    Write(#[from] io::Error),
    /// It would be a `.conda` of 4 GiB or more.
    #[error("the package is too large for a .conda")]
    TooLarge,
}

/// A file that is counted while it is written.
#[derive(Debug)]
pub struct Part<W> {
    /// Where it was written.
    pub file: W,
    /// How long it is, in bytes.
    pub length: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Part<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Parts<W: Write> {
    info: zstd::stream::write::Encoder<'static, Part<W>>,
    contents: zstd::stream::write::Encoder<'static, Part<W>>,
}

impl<W: Write> Halves for Parts<W> {
    type Error = TransmuteError;

    fn is_first(&self, path: &[u8]) -> bool {
        path.strip_prefix(b"info").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    fn write(&mut self, is_first: bool, bytes: &[u8]) -> Result<(), TransmuteError> {
        Ok(if is_first { &mut self.info } else { &mut self.contents }.write_all(bytes)?)
    }
}

/// Transmutes a package while its bytes pass.
pub struct Transmuter<W: Write> {
    splitter: TarSplitter<Parts<W>>,
    /// None before the first byte, and between two streams.
    stream: Option<bzip2::Decompress>,
    output: Vec<u8>,
}

impl<W: Write> Transmuter<W> {
    /// Writes the two parts to these files: the first gets `info/`.
    ///
    /// # Errors
    /// Where there is no memory to compress.
    pub fn new(info: W, contents: W) -> Result<Self, TransmuteError> {
        let encoder = |file| {
            let part = Part { file, length: 0, crc: crc32fast::Hasher::new() };
            let mut encoder = zstd::stream::write::Encoder::new(part, LEVEL)?;
            encoder.include_checksum(true)?;
            Ok::<_, io::Error>(encoder)
        };
        let parts = Parts { info: encoder(info)?, contents: encoder(contents)? };
        Ok(Self { splitter: TarSplitter::new(parts), stream: None, output: vec![0; PIECE] })
    }

    /// Takes the next bytes of the `.tar.bz2`, in pieces of any size.
    ///
    /// # Errors
    /// [`TransmuteError`].
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), TransmuteError> {
        loop {
            if input.is_empty() && self.stream.is_none() {
                return Ok(());
            }
            let stream = self.stream.get_or_insert_with(|| bzip2::Decompress::new(false));
            let before = (stream.total_in(), stream.total_out());
            let status = stream.decompress(input, &mut self.output);
            let consumed = usize::try_from(stream.total_in() - before.0).unwrap_or(input.len());
            let produced = usize::try_from(stream.total_out() - before.1).unwrap_or(0);
            self.splitter.write(&self.output[..produced])?;
            input = &input[consumed..];
            match status {
                Ok(bzip2::Status::StreamEnd) => self.stream = None,
                // All that there is has been used, and all that it gives has come.
                _ if consumed == 0 && produced == 0 && input.is_empty() => return Ok(()),
                Ok(_) if consumed > 0 || produced > 0 => {}
                Ok(_) => return Err(ArchiveError::Truncated.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends both parts: `info/` first.
    ///
    /// # Errors
    /// [`TransmuteError`].
    pub fn finish(self) -> Result<(Part<W>, Part<W>), TransmuteError> {
        if self.stream.is_some() {
            return Err(ArchiveError::Truncated.into());
        }
        let Parts { info, contents } = self.splitter.finish()?;
        Ok((info.finish()?, contents.finish()?))
    }
}

/// What stands in a `.conda` around its parts: before the contents, between them and `info/`, and behind that.
///
/// # Errors
/// [`TransmuteError::TooLarge`].
pub fn frame<W>(
    file: &PackageFile,
    info: &Part<W>,
    contents: &Part<W>,
) -> Result<[Vec<u8>; 3], TransmuteError> {
    let format = crc32fast::hash(FORMAT);
    let stem = file.stem();
    let entries = [
        ("metadata.json".to_owned(), format, FORMAT.len() as u64),
        (format!("pkg-{stem}.tar.zst"), contents.crc.clone().finalize(), contents.length),
        (format!("info-{stem}.tar.zst"), info.crc.clone().finalize(), info.length),
    ];
    let fits = |length: u64| {
        u32::try_from(length).ok().filter(|_| length < TOO_LARGE).ok_or(TransmuteError::TooLarge)
    };
    let (mut pieces, mut offset) = ([Vec::new(), Vec::new(), Vec::new()], 0);
    let mut directory = Vec::new();
    for (index, (name, crc, length)) in entries.iter().enumerate() {
        let size = fits(*length)?.to_le_bytes();
        let name_length = u16::try_from(name.len()).map_err(|_| TransmuteError::TooLarge)?.to_le_bytes();
        // What the local header and the directory have in common: no flags, stored.
        let common =
            [&VERSION[..], &[0, 0, 0, 0], &TIME, &crc.to_le_bytes(), &size, &size, &name_length, &[0, 0]]
                .concat();
        let local = [b"PK\x03\x04", common.as_slice(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02", &VERSION[..], &common].concat());
        // No comment, first disk, no attributes but those of a file that everybody may read.
        directory.extend([0; 6]);
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(fits(offset)?.to_le_bytes());
        directory.extend(name.as_bytes());
        offset += local.len() as u64 + length;
        // The format's own file stands with what is before the contents.
        let piece = &mut pieces[index.saturating_sub(1)];
        piece.extend(local);
        if index == 0 {
            piece.extend(FORMAT);
        }
    }
    let end = [
        &b"PK\x05\x06\0\0\0\0\x03\0\x03\0"[..],
        &fits(directory.len() as u64)?.to_le_bytes(),
        &fits(offset)?.to_le_bytes(),
        &[0, 0],
    ];
    pieces[2] = [directory, end.concat()].concat();
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_no_package_is_refused() {
        let transmuter = || Transmuter::new(Vec::new(), Vec::new()).unwrap();
        assert!(transmuter().write(b"garbage").is_err());
        assert!(transmuter().finish().is_err());
        let mut cut = transmuter();
        cut.write(b"BZh9").unwrap();
        assert!(matches!(cut.finish(), Err(TransmuteError::Archive(ArchiveError::Truncated))));
    }
}
