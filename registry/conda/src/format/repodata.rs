//! `repodata.json` (CEP 36), in pieces that stay as they are while other packages come and go.

use super::name::{ArchiveKind, Subdir};

/// A list of `repodata.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `packages`: records of `.tar.bz2` files.
    Packages,
    /// `packages.conda`: records of `.conda` files.
    PackagesConda,
    /// `removed`: the names of files that are not offered any more.
    Removed,
    /// `signatures`: of the records, in channels that sign them (content trust).
    Signatures,
}

impl Section {
    /// Those of every document, in their order.
    pub const ALL: [Self; 3] = [Self::Packages, Self::PackagesConda, Self::Removed];
    /// Those of a document with signatures.
    pub const SIGNED: [Self; 4] = [Self::Packages, Self::PackagesConda, Self::Removed, Self::Signatures];

    /// The list that a package of this kind stands in while it is offered.
    pub const fn of(kind: ArchiveKind) -> Self {
        match kind {
            ArchiveKind::TarBz2 => Self::Packages,
            ArchiveKind::Conda => Self::PackagesConda,
        }
    }

    /// Its number, in the database and in the names of documents.
    pub const fn number(self) -> i16 {
        match self {
            Self::Packages => 0,
            Self::PackagesConda => 1,
            Self::Removed => 2,
            Self::Signatures => 3,
        }
    }

    /// What stands before its entries.
    pub fn head(self, subdir: &Subdir) -> String {
        match self {
            // The characters of a subdir need no escape.
            Self::Packages => format!("{{\"info\":{{\"subdir\":\"{subdir}\"}},\"packages\":{{"),
            Self::PackagesConda => "},\"packages.conda\":{".to_owned(),
            Self::Removed => "},\"removed\":[".to_owned(),
            Self::Signatures => "],\"signatures\":{".to_owned(),
        }
    }

    /// An entry, with the comma before it: `record` is its JSON.
    pub fn entry(self, file_name: &str, record: &str) -> String {
        // The characters of a file's name need no escape.
        match self {
            Self::Packages | Self::PackagesConda | Self::Signatures => format!(",\n\"{file_name}\":{record}"),
            Self::Removed => format!(",\n\"{file_name}\""),
        }
    }
}

/// What stands behind all entries.
pub const TAIL: &str = "],\"repodata_version\":1}";

/// What stands behind them where the last list is that of signatures.
pub const SIGNED_TAIL: &str = "},\"repodata_version\":1}";

/// The signatures of a record: public keys and signatures in hex.
pub fn signatures<'a>(signatures: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let each =
        signatures.into_iter().map(|(key, signature)| format!("\"{key}\":{{\"signature\":\"{signature}\"}}"));
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}
