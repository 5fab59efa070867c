//! Writes gzipped tar archives, right ones and wrong ones.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// One header and its data.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub prefix: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: u8,
    pub data: Vec<u8>,
    /// The size field, if it is not the octal length of the data.
    pub size_field: Option<Vec<u8>>,
    pub magic: [u8; 8],
    /// A number added to the right checksum.
    pub checksum_error: u64,
}

pub const POSIX: [u8; 8] = *b"ustar\x0000";
pub const GNU: [u8; 8] = *b"ustar  \0";
pub const OLD: [u8; 8] = [0; 8];

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry {
        name: name.as_ref().to_vec(),
        prefix: Vec::new(),
        link: Vec::new(),
        kind: b'0',
        data: data.as_ref().to_vec(),
        size_field: None,
        magic: POSIX,
        checksum_error: 0,
    }
}

pub fn of_kind(kind: u8, name: &str, data: impl AsRef<[u8]>) -> Entry {
    Entry { kind, ..file(name, data) }
}

pub fn folder(name: &str) -> Entry {
    of_kind(b'5', name, b"")
}

pub fn symlink(name: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..of_kind(b'2', name, b"") }
}

pub fn hardlink(name: &str, target: &str) -> Entry {
    Entry { link: target.into(), ..of_kind(b'1', name, b"") }
}

/// An extended header with these records.
pub fn pax(records: &[(&str, &str)]) -> Entry {
    of_kind(b'x', "pax", records.iter().map(|(key, value)| pax_record(key, value)).collect::<String>())
}

fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    format!("{length} {key}={value}\n")
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(
            124,
            &self.size_field.clone().unwrap_or_else(|| format!("{:011o}\0", self.data.len()).into_bytes()),
        );
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, &self.magic);
        put(345, &self.prefix);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{:06o}\0 ", sum + self.checksum_error).as_bytes());
        out.extend_from_slice(&block);
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// The tar archive, with the blocks of zeros at its end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.write(&mut out);
    }
    out.resize((out.len() + 1024).next_multiple_of(10_240), 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    gzip(&tar(entries))
}

/// The entries of a good source distribution.
pub fn sdist_entries(more: &[Entry]) -> Vec<Entry> {
    let mut entries = vec![folder("demo_pkg-1.0/"), file("demo_pkg-1.0/setup.py", b"setup()\n")];
    entries.extend_from_slice(more);
    entries.push(file("demo_pkg-1.0/PKG-INFO", crate::METADATA));
    entries
}

/// A good source distribution with these entries more.
pub fn sdist(more: &[Entry]) -> Vec<u8> {
    tar_gz(&sdist_entries(more))
}
