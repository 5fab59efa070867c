//! Writes zip archives, right ones and wrong ones.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// One entry, and what is wrong with it.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// Unix mode.
    pub mode: u32,
    pub local_extra: Vec<u8>,
    pub central_extra: Vec<u8>,
    /// Bytes written over the local header (30 bytes, then the name) at an offset.
    pub local_patch: Option<(usize, Vec<u8>)>,
    /// Bytes written over the record of the central directory (46 bytes, then the name) at an offset.
    pub central_patch: Option<(usize, Vec<u8>)>,
    /// Bytes written over the data descriptor (16 or 24 bytes) at an offset.
    pub descriptor_patch: Option<(usize, Vec<u8>)>,
    /// Bytes added behind the compressed data, counted as part of it.
    pub padding: Vec<u8>,
    /// Bytes between this entry and the one before it.
    pub gap: Vec<u8>,
    /// Write the lengths as 64-bit values only.
    pub zip64: bool,
}

pub const STORED: u16 = 0;
pub const DEFLATED: u16 = 8;
pub const DESCRIPTOR: u16 = 1 << 3;
pub const UTF8: u16 = 1 << 11;

pub fn entry(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry {
        name: name.as_ref().to_vec(),
        data: data.as_ref().to_vec(),
        method: DEFLATED,
        flags: 0,
        mode: 0o100_644,
        local_extra: Vec::new(),
        central_extra: Vec::new(),
        local_patch: None,
        central_patch: None,
        descriptor_patch: None,
        padding: Vec::new(),
        gap: Vec::new(),
        zip64: false,
    }
}

impl Entry {
    pub fn stored(mut self) -> Self {
        self.method = STORED;
        self
    }

    pub fn with_descriptor(mut self) -> Self {
        self.flags |= DESCRIPTOR;
        self
    }
}

/// An archive, and what is wrong with it.
#[derive(Clone, Default)]
pub struct Zip {
    pub entries: Vec<Entry>,
    /// Entries whose record is left out of the central directory.
    pub hidden: Vec<usize>,
    /// Entries whose record comes a second time.
    pub doubled: Vec<usize>,
    /// Reverse the central directory.
    pub reversed: bool,
    pub zip64_end: bool,
    /// Bytes written over the end record (22 bytes) at an offset.
    pub end_patch: Option<(usize, Vec<u8>)>,
    /// Bytes written over the 64-bit end record and its locator (56 + 20 bytes) at an offset.
    pub end64_patch: Option<(usize, Vec<u8>)>,
    pub before: Vec<u8>,
    pub before_end: Vec<u8>,
    pub comment: Vec<u8>,
    pub after: Vec<u8>,
}

pub fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An extra field.
pub fn extra(id: u16, value: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
}

pub fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn patch(bytes: &mut [u8], patch: Option<&(usize, Vec<u8>)>) {
    if let Some((at, new)) = patch {
        bytes[*at..*at + new.len()].copy_from_slice(new);
    }
}

impl Zip {
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self { entries: entries.into_iter().collect(), ..Self::default() }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut out = self.before.clone();
        let mut directory: Vec<Vec<u8>> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            out.extend_from_slice(&entry.gap);
            let record = write_entry(&mut out, entry);
            let times =
                usize::from(!self.hidden.contains(&index)) + usize::from(self.doubled.contains(&index));
            directory.extend(std::iter::repeat_n(record, times));
        }
        if self.reversed {
            directory.reverse();
        }
        let start = u32::try_from(out.len()).unwrap();
        let count = u16::try_from(directory.len()).unwrap();
        let directory = directory.concat();
        let size = u32::try_from(directory.len()).unwrap();
        out.extend_from_slice(&directory);
        out.extend_from_slice(&self.before_end);

        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        if self.zip64_end {
            let mut end64 = b"PK\x06\x06".to_vec();
            end64.extend(u64s(&[44]));
            end64.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            end64.extend(u64s(&[count.into(), count.into(), size.into(), start.into()]));
            end64.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            end64.extend(u64s(&[out.len() as u64]));
            end64.extend_from_slice(&[1, 0, 0, 0]);
            patch(&mut end64, self.end64_patch.as_ref());
            out.extend_from_slice(&end64);
            end.extend_from_slice(&[0xff; 12]);
        } else {
            end.extend_from_slice(&count.to_le_bytes());
            end.extend_from_slice(&count.to_le_bytes());
            end.extend_from_slice(&size.to_le_bytes());
            end.extend_from_slice(&start.to_le_bytes());
        }
        end.extend_from_slice(&u16::try_from(self.comment.len()).unwrap().to_le_bytes());
        patch(&mut end, self.end_patch.as_ref());
        out.extend_from_slice(&end);
        out.extend_from_slice(&self.comment);
        out.extend_from_slice(&self.after);
        out
    }
}

/// Writes the local part of an entry; returns its record for the central directory.
fn write_entry(out: &mut Vec<u8>, entry: &Entry) -> Vec<u8> {
    let offset = u32::try_from(out.len()).unwrap();
    let mut packed = if entry.method == STORED { entry.data.clone() } else { deflate(&entry.data) };
    packed.extend_from_slice(&entry.padding);
    let crc = crc32fast::hash(&entry.data);
    let (packed_size, size) =
        (u32::try_from(packed.len()).unwrap(), u32::try_from(entry.data.len()).unwrap());
    let long_sizes = u64s(&[size.into(), packed_size.into()]);
    let (mut local_extra, mut central_extra) = (entry.local_extra.clone(), entry.central_extra.clone());
    let (short_packed, short_size) = if entry.zip64 { (u32::MAX, u32::MAX) } else { (packed_size, size) };
    if entry.zip64 {
        local_extra.extend(extra(1, &long_sizes));
        central_extra.extend(extra(1, &long_sizes));
    }
    let has_descriptor = entry.flags & DESCRIPTOR != 0;
    let name_length = u16::try_from(entry.name.len()).unwrap().to_le_bytes();
    // From the flags up to the lengths of name and extra field, as both headers have them.
    let facts = |crc: u32, packed: u32, size: u32, extra: &[u8]| {
        let mut bytes = entry.flags.to_le_bytes().to_vec();
        bytes.extend_from_slice(&entry.method.to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 0x21, 0x58]);
        bytes.extend([crc, packed, size].iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend_from_slice(&name_length);
        bytes.extend_from_slice(&u16::try_from(extra.len()).unwrap().to_le_bytes());
        bytes
    };

    let mut local = b"PK\x03\x04\x14\0".to_vec();
    let told = match (has_descriptor, entry.zip64) {
        (true, false) => (0, 0, 0),
        (true, true) => (0, u32::MAX, u32::MAX),
        (false, _) => (crc, short_packed, short_size),
    };
    if has_descriptor && entry.zip64 {
        local_extra = [entry.local_extra.clone(), extra(1, &u64s(&[0, 0]))].concat();
    }
    local.extend(facts(told.0, told.1, told.2, &local_extra));
    local.extend_from_slice(&entry.name);
    local.extend_from_slice(&local_extra);
    patch(&mut local, entry.local_patch.as_ref());
    out.extend_from_slice(&local);
    out.extend_from_slice(&packed);

    if has_descriptor {
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend_from_slice(&crc.to_le_bytes());
        if entry.zip64 {
            descriptor.extend(u64s(&[packed_size.into(), size.into()]));
        } else {
            descriptor.extend([packed_size, size].iter().flat_map(|value| value.to_le_bytes()));
        }
        patch(&mut descriptor, entry.descriptor_patch.as_ref());
        out.extend_from_slice(&descriptor);
    }

    let mut record = b"PK\x01\x02\x14\x03\x14\0".to_vec();
    record.extend(facts(crc, short_packed, short_size, &central_extra));
    record.extend_from_slice(&[0; 6]);
    record.extend_from_slice(&(entry.mode << 16).to_le_bytes());
    record.extend_from_slice(&offset.to_le_bytes());
    record.extend_from_slice(&entry.name);
    record.extend_from_slice(&central_extra);
    patch(&mut record, entry.central_patch.as_ref());
    record
}

/// The entries of a good wheel: a module, and the three files that make it a wheel.
pub fn wheel_entries(more: &[Entry]) -> Vec<Entry> {
    let mut entries = vec![entry("demo_pkg/__init__.py", b"print('hello')\n".repeat(20))];
    entries.extend_from_slice(more);
    entries.push(entry("demo_pkg-1.0.dist-info/METADATA", crate::METADATA));
    entries.push(entry("demo_pkg-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\n"));
    let record: Vec<u8> = entries
        .iter()
        .filter(|entry| !entry.name.ends_with(b"/"))
        .flat_map(|entry| [&entry.name[..], b",sha256=x,1\n"].concat())
        .chain(*b"demo_pkg-1.0.dist-info/RECORD,,\n")
        .collect();
    entries.push(entry("demo_pkg-1.0.dist-info/RECORD", record));
    entries
}

/// A good wheel with these entries more.
pub fn wheel(more: &[Entry]) -> Zip {
    Zip::of(wheel_entries(more))
}
