//! `repodata.json` (CEP 36), in pieces that stay as they are while other packages come and go.

use super::name::{ArchiveKind, Subdir};

/// What stands before the records of each kind of archive: `.tar.bz2` first, then `.conda`.
///
/// # Errors
/// None that is known: a text is always JSON.
pub fn heads(subdir: &Subdir) -> [String; 2] {
    // The characters of a subdir need no escape.
    [format!("{{\"info\":{{\"subdir\":\"{subdir}\"}},\"packages\":{{"), "},\"packages.conda\":{".to_owned()]
}

/// What stands behind all records.
pub const TAIL: &str = "},\"removed\":[],\"repodata_version\":1}";

/// A record, with the comma before it: `record` is its JSON.
pub fn entry(file_name: &str, record: &str) -> String {
    // The characters of a file's name need no escape.
    format!(",\n\"{file_name}\":{record}")
}

/// The section of [`heads`] that packages of this kind stand in.
pub const fn section(kind: ArchiveKind) -> usize {
    match kind {
        ArchiveKind::TarBz2 => 0,
        ArchiveKind::Conda => 1,
    }
}
