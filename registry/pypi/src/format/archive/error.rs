//! Why the archive of a distribution is refused.

/// Why the archive of a distribution is refused. Names of entries are shown escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It would be as an archive of anything.
    #[error(transparent)]
    Archive(#[from] granary_archive::ArchiveError),
    /// An entry outside the one folder that the file name tells.
    #[error("the entry {name:?} is not inside one folder {expected:?}")]
    OutsideFolder {
        /// The entry.
        name: String,
        /// The folder.
        expected: String,
    },
    /// A wheel without one of the files that make it a wheel.
    #[error("the wheel has no {name}")]
    Missing {
        /// What is missing.
        name: &'static str,
    },
    /// A `.dist-info` folder that does not belong to this wheel, or a second one.
    #[error(
        "the wheel holds {name:?} beside or instead of the one .dist-info folder that its file name tells"
    )]
    DistInfo {
        /// The folder.
        name: String,
    },
    /// `RECORD` is not the list it should be.
    #[error("line {line} of RECORD is malformed")]
    RecordLine {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A file that `RECORD` does not list.
    #[error("RECORD does not list {name:?}, which the wheel holds")]
    NotInRecord {
        /// The entry.
        name: String,
    },
    /// A file that only `RECORD` lists.
    #[error("RECORD lists {name:?}, which the wheel does not hold")]
    OnlyInRecord {
        /// The path.
        name: String,
    },
}
