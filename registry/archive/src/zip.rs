//! The sequential reader of zip archives: local headers and the data behind them, as they pass.
//!
//! Formats are named by the sections of APPNOTE.TXT, the specification of zip.

use crate::central::{self, DIRECTORY_SIGNATURES};
use crate::inflate::Inflater;
use crate::paths::check_path;
use crate::{
    Archive, ArchiveError, Entries, Entry, EntryKind, Interest, MAX_DIRECTORY, MAX_UNPACKED, Names,
    check_unpacked,
};

/// Flags (4.4.4) that are looked at: encrypted, data descriptor, strong encryption, UTF-8, masked headers.
pub(crate) const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
pub(crate) const DESCRIPTOR: u16 = 1 << 3;
pub(crate) const UTF8: u16 = 1 << 11;

const LOCAL_SIGNATURE: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR_SIGNATURE: [u8; 4] = *b"PK\x07\x08";
const LOCAL_HEADER: usize = 30;

pub(crate) const STORED: u16 = 0;
pub(crate) const DEFLATED: u16 = 8;

/// What one entry's header says, in either of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryFacts {
    /// Where the local header begins.
    pub(crate) offset: u64,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u64,
    pub(crate) unpacked: u64,
}

/// The sequential reader.
#[derive(Debug)]
pub struct ZipReader<V> {
    visitor: V,
    state: State,
    /// How many bytes have passed.
    offset: u64,
    /// What the entries so far unpack to, as declared or as inflated.
    unpacked: u64,
    names: Names,
    entries: Vec<EntryFacts>,
}

#[derive(Debug)]
enum State {
    /// Collecting a signature and, if it is that of an entry, its whole local header.
    Header(Vec<u8>),
    /// Inside the data of the last entry.
    Data(Box<Data>),
    /// Collecting the data descriptor (4.3.9) of the last entry.
    Descriptor { bytes: Vec<u8>, length: usize, crc: u32, packed: u64, unpacked: u64 },
    /// Collecting the central directory and all behind it.
    Directory { start: u64, bytes: Vec<u8> },
}

/// The data of one entry.
#[derive(Debug)]
struct Data {
    /// How many bytes are still to come; `None` until a descriptor tells.
    remaining: Option<u64>,
    packed: u64,
    /// Set if the data is looked at, not only skipped.
    reading: Option<Reading>,
    /// The length of the data descriptor behind it.
    descriptor: Option<usize>,
}

#[derive(Debug)]
struct Reading {
    /// `None` if the data is stored.
    inflater: Option<Inflater>,
    ended: bool,
    crc: crc32fast::Hasher,
    unpacked: u64,
    /// The most bytes, if they are handed on.
    limit: Option<u64>,
}

impl<V: Entries> ZipReader<V> {
    /// Before the first byte. `visitor` is told of the entries.
    pub fn new(visitor: V) -> Self {
        Self {
            visitor,
            state: State::Header(Vec::new()),
            offset: 0,
            unpacked: 0,
            names: Names::default(),
            entries: Vec::new(),
        }
    }

    /// Takes the next bytes, in pieces of any size.
    ///
    /// # Errors
    /// What is wrong with the archive, or what the visitor says. Nothing may be written afterwards.
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), V::Error> {
        while !input.is_empty() {
            let used = match &mut self.state {
                State::Header(_) => self.header(input)?,
                State::Data(_) => self.data(input)?,
                State::Descriptor { .. } => self.descriptor(input)?,
                State::Directory { bytes, .. } => {
                    if bytes.len() + input.len() > MAX_DIRECTORY {
                        return Err(ArchiveError::DirectoryTooLarge.into());
                    }
                    bytes.extend_from_slice(input);
                    input.len()
                }
            };
            self.offset += used as u64;
            input = &input[used..];
        }
        Ok(())
    }

    /// Makes the checks that need the whole archive.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(self) -> Result<(V, Archive), V::Error> {
        let (start, directory) = match self.state {
            State::Directory { start, bytes } => (start, bytes),
            State::Header(bytes) if self.offset == bytes.len() as u64 => {
                return Err(ArchiveError::NotAnArchive { expected: "zip" }.into());
            }
            _ => return Err(ArchiveError::Truncated.into()),
        };
        check_unpacked(self.unpacked, self.offset)?;
        central::compare(&directory, start, &self.entries, &self.names)?;
        self.names.check(false)?;
        Ok((self.visitor, Archive { names: self.names, unpacked_size: self.unpacked }))
    }

    /// Collects a header; returns how many bytes of the input it used.
    fn header(&mut self, input: &[u8]) -> Result<usize, V::Error> {
        let State::Header(bytes) = &mut self.state else { return Ok(0) };
        let wanted = match bytes.len() {
            0..4 => 4,
            4..LOCAL_HEADER => LOCAL_HEADER,
            _ => LOCAL_HEADER + usize::from(u16_at(bytes, 26)) + usize::from(u16_at(bytes, 28)),
        };
        let used = input.len().min(wanted - bytes.len());
        bytes.extend_from_slice(&input[..used]);
        if bytes.len() < wanted {
            return Ok(used);
        }
        let has_names = wanted == LOCAL_HEADER && (u16_at(bytes, 26), u16_at(bytes, 28)) != (0, 0);
        if wanted == 4 {
            let start = self.offset + used as u64 - 4;
            if DIRECTORY_SIGNATURES.iter().any(|signature| bytes.starts_with(signature)) {
                self.state = State::Directory { start, bytes: std::mem::take(bytes) };
            } else if !bytes.starts_with(&LOCAL_SIGNATURE) {
                let error = match start {
                    0 => ArchiveError::NotAnArchive { expected: "zip" },
                    _ => ArchiveError::Malformed("no header where an entry ends"),
                };
                return Err(error.into());
            }
        } else if !has_names {
            let header = std::mem::take(bytes);
            let start = self.offset + used as u64 - header.len() as u64;
            self.begin_entry(&header, start)?;
        }
        Ok(used)
    }

    /// Reads a whole local header (4.3.7).
    fn begin_entry(&mut self, header: &[u8], offset: u64) -> Result<(), V::Error> {
        let (fixed, rest) = header.split_at(LOCAL_HEADER);
        let (raw_name, extra) = rest.split_at(usize::from(u16_at(fixed, 26)).min(rest.len()));
        let flags = u16_at(fixed, 6);
        let method = u16_at(fixed, 8);
        let (path, kind) = check_name(raw_name, flags, extra)?;
        check_flags(path, flags, method)?;

        let [packed, unpacked] = [u32_at(fixed, 18), u32_at(fixed, 22)];
        let zip64 = find_extra(extra, ZIP64)?;
        let (packed, unpacked) = local_sizes(packed, unpacked, zip64, path)?;
        let has_descriptor = flags & DESCRIPTOR != 0;
        if has_descriptor && method == STORED {
            return Err(ArchiveError::StoredWithoutLength { name: path.to_owned() }.into());
        }
        if !has_descriptor {
            if method == STORED && packed != unpacked {
                return Err(ArchiveError::Checksum { name: path.to_owned() }.into());
            }
            self.unpacked = self.unpacked.saturating_add(unpacked);
            if self.unpacked > MAX_UNPACKED {
                return Err(ArchiveError::UnpacksTooLarge.into());
            }
        }
        if kind == EntryKind::Folder && unpacked != 0 {
            return Err(ArchiveError::Malformed("a folder with data").into());
        }

        let interest = self.visitor.begin(&Entry { path, kind, stored: method == STORED })?;
        let limit = match interest {
            Interest::Read { limit } if kind == EntryKind::File => Some(limit),
            _ => None,
        };
        if let Some(limit) = limit
            && unpacked > limit
        {
            return Err(ArchiveError::MemberTooLarge { name: path.to_owned(), limit }.into());
        }
        self.names.push(path, kind)?;
        let crc = u32_at(fixed, 14);
        self.entries.push(EntryFacts { offset, flags, method, crc, packed, unpacked });

        let reading = (limit.is_some() || has_descriptor).then(|| Reading {
            inflater: (method == DEFLATED).then(Inflater::new),
            ended: false,
            crc: crc32fast::Hasher::new(),
            unpacked: 0,
            limit,
        });
        let descriptor = has_descriptor.then_some(if zip64.is_some() { 24 } else { 16 });
        let remaining = (!has_descriptor).then_some(packed);
        self.state = State::Data(Box::new(Data { remaining, packed: 0, reading, descriptor }));
        if remaining == Some(0) { self.end_data() } else { Ok(()) }
    }

    /// Takes or skips data of the last entry; returns how many bytes of the input it used.
    fn data(&mut self, input: &[u8]) -> Result<usize, V::Error> {
        let State::Data(data) = &mut self.state else { return Ok(0) };
        let available = match data.remaining {
            Some(remaining) => {
                usize::try_from(remaining).map_or(input.len(), |remaining| remaining.min(input.len()))
            }
            None => input.len(),
        };
        let mut used = available;
        let mut ended = false;
        if let Some(reading) = &mut data.reading {
            // With a descriptor nothing was declared: what is inflated counts as it comes.
            let undeclared = data.remaining.is_none();
            let (unpacked_before, start) = (self.unpacked, self.offset - data.packed);
            let (names, visitor) = (&self.names, &mut self.visitor);
            used = reading.push(&input[..available], |piece, unpacked, packed, limit| {
                if undeclared {
                    check_unpacked(unpacked_before.saturating_add(unpacked), start + packed)?;
                }
                let Some(limit) = limit else { return Ok(()) };
                if unpacked > limit {
                    return Err(ArchiveError::MemberTooLarge { name: names.last(), limit }.into());
                }
                visitor.data(piece)
            })?;
            ended = reading.ended;
        }
        data.packed += used as u64;
        if let Some(remaining) = &mut data.remaining {
            *remaining -= used as u64;
            if used < available {
                return Err(ArchiveError::Malformed("data behind the end of a compressed entry").into());
            }
            ended = *remaining == 0;
        }
        if ended {
            self.end_data()?;
        }
        Ok(used)
    }

    /// The data of the last entry is complete: checks it and keeps it, if it was looked at.
    fn end_data(&mut self) -> Result<(), V::Error> {
        let State::Data(data) = std::mem::replace(&mut self.state, State::Header(Vec::new())) else {
            return Ok(());
        };
        let Some(reading) = data.reading else { return Ok(()) };
        let Some(entry) = self.entries.last() else { return Ok(()) };
        let crc = reading.crc.finalize();
        if let Some(length) = data.descriptor {
            self.unpacked += reading.unpacked;
            self.state = State::Descriptor {
                bytes: Vec::with_capacity(length),
                length,
                crc,
                packed: data.packed,
                unpacked: reading.unpacked,
            };
        } else if (crc, reading.unpacked) != (entry.crc, entry.unpacked)
            || (reading.inflater.is_some() && !reading.ended)
        {
            return Err(self.wrong_checksum().into());
        }
        if reading.limit.is_some() { self.visitor.end() } else { Ok(()) }
    }

    /// Collects a data descriptor and compares it with what was inflated.
    fn descriptor(&mut self, input: &[u8]) -> Result<usize, V::Error> {
        let State::Descriptor { bytes, length, crc, packed, unpacked } = &mut self.state else {
            return Ok(0);
        };
        let used = input.len().min(*length - bytes.len());
        bytes.extend_from_slice(&input[..used]);
        if bytes.len() < *length {
            return Ok(used);
        }
        if !bytes.starts_with(&DESCRIPTOR_SIGNATURE) {
            return Err(ArchiveError::Malformed("no data descriptor where one was announced").into());
        }
        let sizes = match length {
            24 => (u64_at(bytes, 8), u64_at(bytes, 16)),
            _ => (u64::from(u32_at(bytes, 8)), u64::from(u32_at(bytes, 12))),
        };
        let is_right = u32_at(bytes, 4) == *crc && sizes == (*packed, *unpacked);
        let found = (*crc, *packed, *unpacked);
        self.state = State::Header(Vec::new());
        let Some(entry) = self.entries.last_mut() else { return Ok(used) };
        // Some writers fill the header in as well; then it must be right, too.
        let header_agrees = (entry.crc == 0 || entry.crc == found.0)
            && (entry.packed == 0 || entry.packed == found.1)
            && (entry.unpacked == 0 || entry.unpacked == found.2);
        (entry.crc, entry.packed, entry.unpacked) = found;
        if is_right && header_agrees { Ok(used) } else { Err(self.wrong_checksum().into()) }
    }

    fn wrong_checksum(&self) -> ArchiveError {
        ArchiveError::Checksum { name: self.names.last() }
    }
}

impl Reading {
    /// Takes data; returns how many bytes of the input it used. `sink` gets each piece, how much there was of it unpacked and
    /// packed, and the limit.
    fn push<E: From<ArchiveError>>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8], u64, u64, Option<u64>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let Self { inflater, ended, crc, unpacked, limit } = self;
        let mut take = |piece: &[u8], packed| {
            *unpacked += piece.len() as u64;
            crc.update(piece);
            sink(piece, *unpacked, packed, *limit)
        };
        let Some(inflater) = inflater else {
            take(input, 0)?;
            return Ok(input.len());
        };
        if *ended {
            return Ok(0);
        }
        let progress = inflater.push(input, take)?;
        *ended = progress.ended;
        Ok(progress.used)
    }
}

/// The extra field (4.5.3) with the 64-bit sizes.
pub(crate) const ZIP64: u16 = 0x0001;
/// The Info-ZIP extra field with another name, which only some readers prefer to the entry's own.
const UNICODE_PATH: u16 = 0x7075;

/// Finds an extra field (4.5). Refuses fields that are cut off, or there twice where that matters.
pub(crate) fn find_extra(mut extra: &[u8], wanted: u16) -> Result<Option<&[u8]>, ArchiveError> {
    let mut found = None;
    while !extra.is_empty() {
        let malformed = ArchiveError::Malformed("an extra field is cut off");
        let (head, rest) = extra.split_at_checked(4).ok_or_else(|| malformed.clone())?;
        let (value, after) = rest.split_at_checked(usize::from(u16_at(head, 2))).ok_or(malformed)?;
        if u16_at(head, 0) == wanted && found.replace(value).is_some() {
            return Err(ArchiveError::Malformed("an extra field is there twice"));
        }
        extra = after;
    }
    Ok(found)
}

/// Reads an entry's name, which is a folder's if it ends with a slash.
pub(crate) fn check_name<'a>(
    raw: &'a [u8],
    flags: u16,
    extra: &[u8],
) -> Result<(&'a str, EntryKind), ArchiveError> {
    let (path, kind) = match raw.strip_suffix(b"/") {
        Some(folder) => (check_path(folder)?, EntryKind::Folder),
        None => (check_path(raw)?, EntryKind::File),
    };
    // Without the flag the name is in code page 437, or in whatever a reader believes.
    if !path.is_ascii() && flags & UTF8 == 0 {
        return Err(ArchiveError::NameEncoding { name: path.to_owned() });
    }
    // Version, CRC-32 of the plain name, the name.
    if let Some(other) = find_extra(extra, UNICODE_PATH)?
        && other.get(5..) != Some(raw)
    {
        return Err(ArchiveError::ReadersDisagree { name: path.to_owned(), what: "the name" });
    }
    Ok((path, kind))
}

/// Refuses encryption and compressions beyond deflate.
fn check_flags(path: &str, flags: u16, method: u16) -> Result<(), ArchiveError> {
    if flags & ENCRYPTED != 0 {
        return Err(ArchiveError::Encrypted { name: path.to_owned() });
    }
    match method {
        STORED | DEFLATED => Ok(()),
        _ => Err(ArchiveError::Compression { name: path.to_owned(), method }),
    }
}

/// The two lengths of a local header. A reader may take the 64-bit field as the list of only those lengths that
/// the header leaves to it, or as both lengths in any case: refused unless both readings are the same.
fn local_sizes(
    packed: u32,
    unpacked: u32,
    zip64: Option<&[u8]>,
    path: &str,
) -> Result<(u64, u64), ArchiveError> {
    let disagree = || ArchiveError::ReadersDisagree { name: path.to_owned(), what: "the length" };
    let Some(field) = zip64 else {
        if packed == u32::MAX || unpacked == u32::MAX {
            return Err(disagree());
        }
        return Ok((packed.into(), unpacked.into()));
    };
    let mut values = field.chunks_exact(8).map(|value| u64_at(value, 0));
    let mut listed = |size: u32| match size {
        u32::MAX => values.next().ok_or_else(disagree),
        size => Ok(size.into()),
    };
    let unpacked_listed = listed(unpacked)?;
    let packed_listed = listed(packed)?;
    if field.len() >= 16 && (u64_at(field, 0), u64_at(field, 8)) != (unpacked_listed, packed_listed) {
        return Err(disagree());
    }
    Ok((packed_listed, unpacked_listed))
}

/// Two bytes, little-endian; zero beyond the end, which callers have excluded.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_le_bytes)
}

/// Four bytes, like [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

/// Eight bytes, like [`u16_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_le_bytes)
}
