//! An object's file: the object's bytes, then a record of what else is known of it, in one file, so that one sync and one
//! rename make both durable together.
//!
//! ```text
//! bytes of the object … | record as JSON | length of the record, u32 LE | CRC-32 of the record, u32 LE | magic
//! ```
//!
//! The bytes stand in extents: one from 0 for a plain upload; for a multipart upload one for each part, in the order in
//! which the parts arrived, so that completing an upload copies nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use s3s::crypto::Crc32;
use serde::{Deserialize, Serialize};

use super::checks::Checksums;

const MAGIC: &[u8; 8] = b"granary1";
const FOOTER: usize = 16;
/// More than a record can reach: 10,000 parts, 1 KiB of key, a few KiB of headers.
const LONGEST_RECORD: usize = 4 << 20;

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// Without quotes: the MD5 in hex, or for a multipart upload the MD5 of the parts' MD5s and the number of parts.
    pub e_tag: String,
    pub modified: Timestamp,
    #[serde(flatten)]
    pub headers: Headers,
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub checksums: Checksums,
    /// Where in the file the object's bytes stand, in their order.
    pub extents: Vec<Extent>,
    /// The multipart upload that made it, by which a repeated completion is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
}

/// What a client says of an object when it uploads it, and gets back with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `x-amz-meta-*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A run of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub offset: u64,
    pub length: u64,
}

impl Extent {
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

impl Record {
    /// The bytes that follow the object's own.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let crc = Crc32::checksum_u32(&bytes);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        Ok(bytes)
    }

    /// Reads the record at the end of `file`, and with it the last bytes before, `hint` bytes in all where there are so
    /// many: the second result is the offset from which on they were read, and they.
    pub fn read(file: &File, hint: usize) -> io::Result<(Self, u64, Vec<u8>)> {
        let length = file.metadata()?.len();
        let mut tail = read_tail(file, length, hint.max(FOOTER))?;
        let needed = footer(&tail)?.0 + FOOTER;
        if needed > tail.len() {
            tail = read_tail(file, length, needed)?;
        }
        let (record_length, crc) = footer(&tail)?;
        let start = tail.len().checked_sub(record_length + FOOTER).ok_or_else(damaged)?;
        let json = &tail[start..start + record_length];
        if Crc32::checksum_u32(json) != crc {
            return Err(damaged());
        }
        let record: Self = serde_json::from_slice(json)?;
        let tail_offset = length - tail.len() as u64;
        if record.extents.iter().any(|extent| extent.end() > tail_offset + start as u64)
            || record.extents.iter().map(|extent| extent.length).sum::<u64>() != record.size
        {
            return Err(damaged());
        }
        tail.truncate(start);
        Ok((record, tail_offset, tail))
    }

    /// Where in the file the bytes `range` of the object stand.
    pub fn extents_of(&self, range: &Range<u64>) -> Vec<Extent> {
        let mut at = 0;
        let mut found = Vec::new();
        for extent in &self.extents {
            let (from, to) = (range.start.max(at), range.end.min(at + extent.length));
            if from < to {
                found.push(Extent { offset: extent.offset + (from - at), length: to - from });
            }
            at += extent.length;
        }
        found
    }
}

fn read_tail(file: &File, length: u64, wanted: usize) -> io::Result<Vec<u8>> {
    let wanted = usize::try_from(length).map_or(wanted, |length| length.min(wanted));
    let mut tail = vec![0; wanted];
    file.read_exact_at(&mut tail, length - wanted as u64)?;
    Ok(tail)
}

/// Length and checksum of the record.
fn footer(tail: &[u8]) -> io::Result<(usize, u32)> {
    let (_, footer) = tail.split_last_chunk::<FOOTER>().ok_or_else(damaged)?;
    let (&[l0, l1, l2, l3, c0, c1, c2, c3], magic) = footer.split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| damaged())?;
    if magic != MAGIC || length > LONGEST_RECORD {
        return Err(damaged());
    }
    Ok((length, u32::from_le_bytes([c0, c1, c2, c3])))
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file does not end with a whole record of its object")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn record() -> Record {
        Record {
            key: "k".to_owned(),
            size: 30,
            e_tag: "e".to_owned(),
            modified: Timestamp::UNIX_EPOCH,
            headers: Headers { content_type: Some("text/plain".to_owned()), ..Headers::default() },
            checksums: Checksums::default(),
            extents: vec![Extent { offset: 20, length: 10 }, Extent { offset: 0, length: 20 }],
            upload_id: None,
        }
    }

    #[test]
    fn a_range_is_found_in_the_extents() {
        let extent = |offset, length| Extent { offset, length };
        assert_eq!(record().extents_of(&(0..30)), [extent(20, 10), extent(0, 20)]);
        assert_eq!(record().extents_of(&(8..12)), [extent(28, 2), extent(0, 2)]);
        assert_eq!(record().extents_of(&(10..11)), [extent(0, 1)]);
        assert_eq!(record().extents_of(&(30..30)), []);
    }

    #[test]
    fn a_record_is_read_back_and_damage_is_seen() {
        let file = tempfile::tempfile().unwrap();
        let mut bytes = vec![7; 30];
        bytes.extend(record().encode().unwrap());
        file.write_all_at(&bytes, 0).unwrap();
        for hint in [0, 20, 4096] {
            let (read, offset, tail) = Record::read(&file, hint).unwrap();
            assert_eq!(read, record());
            assert_eq!(offset + tail.len() as u64, 30);
            assert!(tail.iter().all(|&byte| byte == 7));
        }
        for cut in 0..bytes.len() {
            file.set_len(cut as u64).unwrap();
            assert!(Record::read(&file, 4096).is_err(), "cut at {cut}");
        }
        for flipped in 30..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 1;
            file.write_all_at(&damaged, 0).unwrap();
            assert!(Record::read(&file, 4096).is_err(), "flipped at {flipped}");
        }
    }
}
