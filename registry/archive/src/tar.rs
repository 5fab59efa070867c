//! Tar headers: POSIX ustar and pax (IEEE 1003.1), the GNU format, and the one before both.

use crate::error::ArchiveError;

/// The unit of a tar archive.
pub(crate) const BLOCK: usize = 512;

/// What a header introduces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Folder,
    SymbolicLink,
    HardLink,
    /// Extended header of the next entry.
    Pax,
    /// Extended header of all entries that follow.
    PaxGlobal,
    /// The name of the next entry, where it is too long for the header.
    GnuLongName,
    /// The link target of the next entry.
    GnuLongLink,
    /// A device, a pipe, a sparse file or something unknown.
    Other,
}

/// One header block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) kind: Type,
}

/// Reads a header block; `None` for a block of zeros, which ends the archive.
pub(crate) fn parse_header(block: &[u8; BLOCK]) -> Result<Option<Header>, ArchiveError> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    check_sum(block)?;
    let magic = &block[257..265];
    let is_posix = magic == b"ustar\x0000";
    let is_gnu = magic == b"ustar  \0";
    let is_old = magic.iter().all(|&byte| byte == 0);
    if !is_posix && !is_gnu && !is_old {
        return Err(ArchiveError::Malformed("the magic of a tar header"));
    }

    let mut name = until_nul(&block[..100]).to_vec();
    let prefix = until_nul(&block[345..500]);
    if !prefix.is_empty() {
        // In the GNU format times and sparse maps may stand here, which some readers take for a folder.
        if !is_posix {
            return Err(ArchiveError::Malformed("a tar header with extra fields"));
        }
        name = [prefix, b"/", &name].concat();
    }
    let kind = match block[156] {
        // Before ustar a folder was a file with a slash at its end.
        b'0' | 0 if name.ends_with(b"/") => Type::Folder,
        b'0' | 0 => Type::File,
        b'1' => Type::HardLink,
        b'2' => Type::SymbolicLink,
        b'5' => Type::Folder,
        b'x' => Type::Pax,
        b'g' => Type::PaxGlobal,
        b'L' => Type::GnuLongName,
        b'K' => Type::GnuLongLink,
        _ => Type::Other,
    };
    let link = until_nul(&block[157..257]).to_vec();
    Ok(Some(Header { name, link, size: number(&block[124..136])?, kind }))
}

/// The sum of all bytes, with the sum's own field as spaces. Old writers summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), ArchiveError> {
    let expected = number(&block[148..156])?;
    let summed =
        block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte });
    let unsigned: u64 = summed.clone().map(u64::from).sum();
    let signed: i64 = summed.map(|byte| i64::from(byte.cast_signed())).sum();
    if expected == unsigned || i64::try_from(expected) == Ok(signed) {
        Ok(())
    } else {
        Err(ArchiveError::Checksum { name: String::from("a tar header") })
    }
}

/// A number: octal digits between spaces and NULs, or (where the highest bit is set) in base 256.
fn number(field: &[u8]) -> Result<u64, ArchiveError> {
    let malformed = ArchiveError::Malformed("a number in a tar header");
    let Some((&first, rest)) = field.split_first() else { return Err(malformed) };
    if first & 0x80 != 0 {
        // 0xff begins a negative number.
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        let mut bytes = [0; 8];
        bytes[8 - low.len()..].copy_from_slice(low);
        let fits = first == 0x80 && high.iter().all(|&byte| byte == 0);
        return if fits { Ok(u64::from_be_bytes(bytes)) } else { Err(malformed) };
    }
    let text = std::str::from_utf8(until_nul(field)).map_err(|_| malformed.clone())?.trim_matches(' ');
    match text {
        "" => Ok(0),
        _ if text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) => {
            u64::from_str_radix(text, 8).map_err(|_| malformed)
        }
        _ => Err(malformed),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// What a pax header says about the next entry, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PaxRecords {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
}

/// Reads the records `LENGTH KEY=VALUE\n` of a pax header.
pub(crate) fn parse_pax(mut bytes: &[u8]) -> Result<PaxRecords, ArchiveError> {
    let malformed = ArchiveError::Malformed("a record of an extended header");
    let mut records = PaxRecords::default();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or_else(|| malformed.clone())?;
        let length: usize = parse_decimal(&bytes[..space]).ok_or_else(|| malformed.clone())?;
        let record = bytes.get(space + 1..length).ok_or_else(|| malformed.clone())?;
        bytes = &bytes[length..];
        let record = record.strip_suffix(b"\n").ok_or_else(|| malformed.clone())?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(|| malformed.clone())?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let is_repeated = match key {
            b"path" => records.path.replace(value.to_vec()).is_some(),
            b"linkpath" => records.link.replace(value.to_vec()).is_some(),
            b"size" => {
                let size = parse_decimal(value).ok_or_else(|| malformed.clone())?;
                records.size.replace(size).is_some()
            }
            _ if key.starts_with(b"GNU.sparse.") || key == b"hdrcharset" => {
                return Err(ArchiveError::ExtendedHeader { key: String::from_utf8_lossy(key).into_owned() });
            }
            // Times, owners, comments and what vendors add: nothing that moves an entry.
            _ => false,
        };
        if is_repeated {
            return Err(ArchiveError::ExtendedHeader { key: String::from_utf8_lossy(key).into_owned() });
        }
    }
    Ok(records)
}

fn parse_decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}
