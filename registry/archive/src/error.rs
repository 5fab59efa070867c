//! Why an archive is refused.

use crate::{MAX_DIRECTORY, MAX_ENTRIES, MAX_NAME_BYTES, MAX_NAME_LENGTH, MAX_RATIO, MAX_UNPACKED};

/// Why an archive is refused. Names of entries are shown escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Does not begin as the format does.
    #[error("the file is not a {expected} archive")]
    NotAnArchive {
        /// The format that its name promises.
        expected: &'static str,
    },
    /// Ends too early.
    #[error("the archive is truncated")]
    Truncated,
    /// Goes on behind its end, or has a second member.
    #[error("the archive has data behind its end")]
    TrailingData,
    /// A structure is not as the format says.
    #[error("the archive is malformed: {0}")]
    Malformed(&'static str),
    /// A comment, which some readers search for another archive.
    #[error("the archive has a comment, which is not accepted")]
    Comment,
    /// Encrypted entries.
    #[error("the entry {name:?} is encrypted")]
    Encrypted {
        /// The entry.
        name: String,
    },
    /// A compression that installers need not know.
    #[error(
        "the entry {name:?} is compressed by method {method}; only stored (0) and deflate (8) are accepted"
    )]
    Compression {
        /// The entry.
        name: String,
        /// The method's number.
        method: u16,
    },
    /// A stored entry whose length is told only behind it: where it ends is a guess.
    #[error("the entry {name:?} is stored without its length in front")]
    StoredWithoutLength {
        /// The entry.
        name: String,
    },
    /// A name that is not in the encoding it claims, or claims none.
    #[error("the entry {name:?} has a name that is not marked as UTF-8")]
    NameEncoding {
        /// The entry.
        name: String,
    },
    /// A reader of the sequence and a reader of the directory would see different archives.
    #[error("the archive's directory and its contents disagree about {what} of {name:?}")]
    ReadersDisagree {
        /// The entry, or the archive.
        name: String,
        /// In what they disagree.
        what: &'static str,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("the archive has more than {} entries", MAX_ENTRIES)]
    TooManyEntries,
    /// More than [`MAX_NAME_BYTES`].
    #[error("the names in the archive have more than {} bytes", MAX_NAME_BYTES)]
    TooManyNames,
    /// More than [`MAX_DIRECTORY`].
    #[error("the directory of the archive has more than {} bytes", MAX_DIRECTORY)]
    DirectoryTooLarge,
    /// More than [`MAX_UNPACKED`], or than [`MAX_RATIO`] times what it is.
    #[error("the archive unpacks to more than {} bytes or {} times its size", MAX_UNPACKED, MAX_RATIO)]
    UnpacksTooLarge,
    /// A file that is kept is larger than it may be.
    #[error("{name:?} is larger than {limit} bytes")]
    MemberTooLarge {
        /// The entry.
        name: String,
        /// The most it may have.
        limit: u64,
    },
    /// A path that is not a plain one below the archive's root.
    #[error("the entry {name:?} has a path that is not accepted: {problem}")]
    Path {
        /// The entry.
        name: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// Two entries of one name.
    #[error("the archive holds {name:?} twice")]
    Duplicate {
        /// The entry.
        name: String,
    },
    /// An entry below one that is not a folder.
    #[error("the archive holds {name:?} as a file or link and also entries below it")]
    NotAFolder {
        /// The entry.
        name: String,
    },
    /// A link, where none may be.
    #[error("the entry {name:?} is a symbolic link")]
    SymbolicLink {
        /// The entry.
        name: String,
    },
    /// A link out of the archive's folder.
    #[error("the link {name:?} points to {target:?}, outside its folder")]
    LinkEscapes {
        /// The entry.
        name: String,
        /// Where it points to.
        target: String,
    },
    /// A device, a pipe, a sparse file or another entry that no source has.
    #[error("the entry {name:?} is neither a file nor a folder nor a link")]
    SpecialFile {
        /// The entry.
        name: String,
    },
    /// An extended header that changes what an entry is.
    #[error("the archive has an extended header {key:?} that is not accepted")]
    ExtendedHeader {
        /// Its keyword.
        key: String,
    },
    /// Bytes that are not those their checksum tells.
    #[error("the checksum or length of {name:?} is wrong")]
    Checksum {
        /// The entry, or the archive.
        name: String,
    },
    /// Compressed data that is broken.
    #[error("the compressed data of the archive is broken")]
    Deflate,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// No name at all, or one with an empty part (`a//b`).
    #[error("a part of it is empty")]
    Empty,
    /// Longer than [`MAX_NAME_LENGTH`], or with a part longer than 255 bytes.
    #[error("it is longer than {} bytes, or a part of it than 255", MAX_NAME_LENGTH)]
    Length,
    /// Not UTF-8, which excludes overlong forms.
    #[error("it is not UTF-8")]
    Encoding,
    /// Begins with `/` or with a drive letter.
    #[error("it is absolute")]
    Absolute,
    /// A part is `.` or `..`.
    #[error("a part of it is '.' or '..'")]
    Dots,
    /// A backslash, which one system takes for a separator.
    #[error("it holds a backslash")]
    Backslash,
    /// NUL or another control character.
    #[error("it holds a control character")]
    Control,
}
