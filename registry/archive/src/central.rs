//! The second reader of zip archives: from the end, through the central directory.
//!
//! Installers read an archive from its end, streaming ones from its beginning. What both see must be the same
//! archive (CVE-2025-54368 and its kin): the same entries, end to end, with no byte that only one of them reads.

use crate::error::ArchiveError;
use crate::paths::Names;
use crate::zip::{DESCRIPTOR, EntryFacts, UTF8, ZIP64, check_name, find_extra, u16_at, u32_at, u64_at};

const ENTRY_SIGNATURE: [u8; 4] = *b"PK\x01\x02";
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END64_SIGNATURE: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_SIGNATURE: [u8; 4] = *b"PK\x06\x07";

/// What ends the sequence of local entries.
pub(crate) const DIRECTORY_SIGNATURES: [[u8; 4]; 3] = [ENTRY_SIGNATURE, END64_SIGNATURE, END_SIGNATURE];

const ENTRY: usize = 46;
const END: usize = 22;
const END64: usize = 56;
const LOCATOR: usize = 20;

/// Where the end records say that the directory is.
struct Directory {
    entries: u64,
    offset: u64,
    size: u64,
    /// How many bytes at the end of the archive the end records are.
    end_records: usize,
}

/// Reads everything from the first byte of the central directory, which is at `start` of the archive, and
/// compares it with what the sequential reader saw.
pub(crate) fn compare(
    tail: &[u8],
    start: u64,
    entries: &[EntryFacts],
    names: &Names,
) -> Result<(), ArchiveError> {
    let directory = read_end(tail, start)?;
    let disagree = |what| ArchiveError::ReadersDisagree { name: String::from("the archive"), what };
    let records = &tail[..tail.len() - directory.end_records];
    if directory.offset != start || directory.size != records.len() as u64 {
        return Err(disagree("the place of the directory"));
    }
    if directory.entries != entries.len() as u64 {
        return Err(disagree("the number of entries"));
    }

    let mut seen = vec![false; entries.len()];
    let mut rest = records;
    while !rest.is_empty() {
        let (record, after) = split_record(rest)?;
        let found = read_record(&record)?;
        // The sequential reader's entries are in the order of their offsets.
        let index = entries
            .binary_search_by_key(&found.offset, |entry| entry.offset)
            .map_err(|_| named(&record, "the place"))?;
        let entry = &entries[index];
        if std::mem::replace(&mut seen[index], true) {
            return Err(named(&record, "the place"));
        }
        compare_entry(&record, &found, entry, names.get(index))?;
        rest = after;
    }
    match seen.iter().position(|seen| !seen) {
        Some(index) => {
            Err(ArchiveError::ReadersDisagree { name: names.get(index).0.to_owned(), what: "the presence" })
        }
        None => Ok(()),
    }
}

/// Finds the end record (4.3.16) at the very end, and the 64-bit one (4.3.14) if there is a locator for it.
fn read_end(tail: &[u8], start: u64) -> Result<Directory, ArchiveError> {
    let end_at = tail.len().checked_sub(END).ok_or(ArchiveError::Truncated)?;
    let end = &tail[end_at..];
    if !end.starts_with(&END_SIGNATURE) {
        return Err(misplaced_end(tail));
    }
    if u16_at(end, 20) != 0 {
        return Err(ArchiveError::Truncated);
    }
    let counts = [u16_at(end, 8), u16_at(end, 10)];
    let [size, offset] = [u32_at(end, 12), u32_at(end, 16)];
    if counts[0] != counts[1] {
        return Err(ArchiveError::Malformed("an archive of several disks"));
    }

    // Readers look for the locator in this place whatever else stands there.
    let locator_at = end_at.checked_sub(LOCATOR);
    let Some(locator_at) = locator_at.filter(|&at| tail[at..].starts_with(&LOCATOR_SIGNATURE)) else {
        if u32_at(end, 4) != 0 {
            return Err(ArchiveError::Malformed("an archive of several disks"));
        }
        return Ok(Directory {
            entries: counts[0].into(),
            offset: offset.into(),
            size: size.into(),
            end_records: END,
        });
    };
    let end64_at = locator_at
        .checked_sub(END64)
        .filter(|&at| u64_at(tail, locator_at + 8) == start + at as u64)
        .ok_or(ArchiveError::Malformed("the locator does not point to the end record before it"))?;
    let end64 = &tail[end64_at..locator_at];
    if !end64.starts_with(&END64_SIGNATURE) || u64_at(end64, 4) != (END64 - 12) as u64 {
        return Err(ArchiveError::Malformed("the 64-bit end record"));
    }
    if u64_at(end64, 16) != 0 || u64_at(end64, 24) != u64_at(end64, 32) || u32_at(tail, locator_at + 4) != 0 {
        return Err(ArchiveError::Malformed("an archive of several disks"));
    }
    let directory = Directory {
        entries: u64_at(end64, 32),
        size: u64_at(end64, 40),
        offset: u64_at(end64, 48),
        end_records: END64 + LOCATOR + END,
    };
    let agrees32 = |short: u32, long: u64| short == u32::MAX || u64::from(short) == long;
    let agrees16 = |short: u16, long: u64| short == u16::MAX || u64::from(short) == long;
    if agrees32(size, directory.size)
        && agrees32(offset, directory.offset)
        && agrees16(counts[0], directory.entries)
    {
        Ok(directory)
    } else {
        Err(ArchiveError::ReadersDisagree { name: String::from("the archive"), what: "the two end records" })
    }
}

/// Why the last bytes are no end record: a comment, other data behind it, or there is none.
fn misplaced_end(tail: &[u8]) -> ArchiveError {
    let found = tail.windows(END).rposition(|window| window.starts_with(&END_SIGNATURE));
    match found {
        None => ArchiveError::Truncated,
        Some(at) if tail.len() - at - END == usize::from(u16_at(tail, at + 20)) => ArchiveError::Comment,
        Some(_) => ArchiveError::TrailingData,
    }
}

/// One record of the central directory (4.3.12).
struct Record<'a> {
    fixed: &'a [u8],
    name: &'a [u8],
    extra: &'a [u8],
}

fn split_record(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), ArchiveError> {
    let malformed = ArchiveError::Malformed("a record of the central directory");
    if !bytes.starts_with(&ENTRY_SIGNATURE) {
        return Err(malformed);
    }
    let (fixed, rest) = bytes.split_at_checked(ENTRY).ok_or_else(|| malformed.clone())?;
    let (name, rest) = rest.split_at_checked(u16_at(fixed, 28).into()).ok_or_else(|| malformed.clone())?;
    let (extra, rest) = rest.split_at_checked(u16_at(fixed, 30).into()).ok_or(malformed)?;
    if u16_at(fixed, 32) != 0 {
        return Err(ArchiveError::Comment);
    }
    Ok((Record { fixed, name, extra }, rest))
}

fn named(record: &Record<'_>, what: &'static str) -> ArchiveError {
    ArchiveError::ReadersDisagree { name: String::from_utf8_lossy(record.name).into_owned(), what }
}

fn read_record(record: &Record<'_>) -> Result<EntryFacts, ArchiveError> {
    let Record { fixed, name, extra } = *record;
    if u16_at(fixed, 34) != 0 {
        return Err(ArchiveError::Malformed("an archive of several disks"));
    }
    // The 64-bit field holds those values, in this order, that the record leaves to it, and nothing more.
    let zip64 = find_extra(extra, ZIP64)?.unwrap_or_default();
    let mut values = zip64.chunks_exact(8).map(|value| u64_at(value, 0));
    let mut value = |at| match u32_at(fixed, at) {
        u32::MAX => values.next().ok_or_else(|| named(record, "the length")),
        short => Ok(short.into()),
    };
    let unpacked = value(24)?;
    let packed = value(20)?;
    let offset = value(42)?;
    if values.next().is_some() || !zip64.len().is_multiple_of(8) {
        return Err(named(record, "the length"));
    }

    // The upper half of the external attributes is the mode of a file on Unix.
    let mode = u32_at(fixed, 38) >> 16;
    let name = || String::from_utf8_lossy(name).into_owned();
    match mode & 0o170_000 {
        0 | 0o100_000 | 0o040_000 => {}
        0o120_000 => return Err(ArchiveError::SymbolicLink { name: name() }),
        _ => return Err(ArchiveError::SpecialFile { name: name() }),
    }
    Ok(EntryFacts {
        offset,
        flags: u16_at(fixed, 8),
        method: u16_at(fixed, 10),
        crc: u32_at(fixed, 16),
        packed,
        unpacked,
    })
}

fn compare_entry(
    record: &Record<'_>,
    found: &EntryFacts,
    entry: &EntryFacts,
    (name, kind): (&str, crate::paths::EntryKind),
) -> Result<(), ArchiveError> {
    const SAME_FLAGS: u16 = crate::zip::ENCRYPTED | DESCRIPTOR | UTF8;

    let (found_name, found_kind) =
        check_name(record.name, found.flags, record.extra).map_err(|_| named(record, "the name"))?;
    if (found_name, found_kind) != (name, kind) {
        return Err(named(record, "the name"));
    }
    if found.flags & SAME_FLAGS != entry.flags & SAME_FLAGS {
        return Err(named(record, "the flags"));
    }
    if found.method != entry.method {
        return Err(named(record, "the compression"));
    }
    if found.crc != entry.crc {
        return Err(named(record, "the checksum"));
    }
    if (found.packed, found.unpacked) != (entry.packed, entry.unpacked) {
        return Err(named(record, "the length"));
    }
    Ok(())
}
