//! Gzip (RFC 1952), pushed: one member and nothing behind it.

use crate::check_unpacked;
use crate::error::ArchiveError;
use crate::inflate::Inflater;

/// The longest header; real ones hold a file name at most.
const MAX_HEADER: usize = 4096;

/// Unpacks one gzip member as it comes.
#[derive(Debug)]
pub struct Gunzip {
    state: State,
    is_empty: bool,
    unpacked: u64,
    crc: crc32fast::Hasher,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    Data(Inflater),
    Trailer(Vec<u8>),
    Done,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gunzip {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { state: State::Header(Vec::new()), is_empty: true, unpacked: 0, crc: crc32fast::Hasher::new() }
    }

    /// Takes the next bytes, giving each piece of output to `sink`.
    ///
    /// # Errors
    /// What is wrong with the member, or that it unpacks to too much; and those of `sink`.
    pub fn push<E: From<ArchiveError>>(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.is_empty &= input.is_empty();
        while !input.is_empty() {
            match &mut self.state {
                State::Header(bytes) => {
                    let before = bytes.len();
                    bytes.extend_from_slice(&input[..input.len().min(MAX_HEADER)]);
                    let Some(length) = header_length(bytes)? else {
                        if bytes.len() >= MAX_HEADER {
                            return Err(ArchiveError::Malformed("the gzip header is too long").into());
                        }
                        return Ok(());
                    };
                    input = &input[length - before..];
                    self.state = State::Data(Inflater::new());
                }
                State::Data(inflater) => {
                    let Self { unpacked, crc, .. } = self;
                    let progress = inflater.push(input, |piece, packed| {
                        *unpacked += piece.len() as u64;
                        check_unpacked(*unpacked, packed)?;
                        crc.update(piece);
                        sink(piece)
                    })?;
                    input = &input[progress.used..];
                    if progress.ended {
                        self.state = State::Trailer(Vec::with_capacity(8));
                    }
                }
                State::Trailer(bytes) => {
                    let used = input.len().min(8 - bytes.len());
                    bytes.extend_from_slice(&input[..used]);
                    input = &input[used..];
                    if bytes.len() == 8 {
                        let mut expected = self.crc.clone().finalize().to_le_bytes().to_vec();
                        // The length is told modulo 2^32.
                        expected.extend_from_slice(&self.unpacked.to_le_bytes()[..4]);
                        if *bytes != expected {
                            return Err(ArchiveError::Checksum { name: String::from("the archive") }.into());
                        }
                        self.state = State::Done;
                    }
                }
                State::Done => return Err(ArchiveError::TrailingData.into()),
            }
        }
        Ok(())
    }

    /// Checks that the member is complete.
    ///
    /// # Errors
    /// Where it is not.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        match self.state {
            State::Done => Ok(()),
            State::Header(_) if self.is_empty => Err(ArchiveError::NotAnArchive { expected: "tar.gz" }),
            _ => Err(ArchiveError::Truncated),
        }
    }
}

/// The length of the header, once it is all there.
fn header_length(bytes: &[u8]) -> Result<Option<usize>, ArchiveError> {
    const HEADER_CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0b1110_0000;

    let magic = [0x1f, 0x8b, 8];
    if !magic.starts_with(&bytes[..bytes.len().min(magic.len())]) {
        return Err(ArchiveError::NotAnArchive { expected: "tar.gz" });
    }
    let Some(&flags) = bytes.get(3) else { return Ok(None) };
    if flags & RESERVED != 0 {
        return Err(ArchiveError::Malformed("reserved flags in the gzip header"));
    }
    let mut length = 10;
    if flags & EXTRA != 0 {
        let Some(extra) = bytes.get(length..length + 2) else { return Ok(None) };
        length += 2 + usize::from(u16::from_le_bytes([extra[0], extra[1]]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let end = bytes.get(length..).and_then(|rest| rest.iter().position(|&byte| byte == 0));
            let Some(end) = end else { return Ok(None) };
            length += end + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        length += 2;
    }
    Ok((bytes.len() >= length).then_some(length))
}
