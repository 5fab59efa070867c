//! Names of entries: what a path may be, and which may stand together.

use std::cmp::Ordering;

use crate::error::{ArchiveError, PathProblem};
use crate::{MAX_ENTRIES, MAX_NAME_BYTES, MAX_NAME_LENGTH};

/// Reads a path of parts between slashes, relative and plain.
pub(crate) fn check_path(bytes: &[u8]) -> Result<&str, ArchiveError> {
    let error = |problem| ArchiveError::Path { name: String::from_utf8_lossy(bytes).into_owned(), problem };
    if bytes.len() > MAX_NAME_LENGTH {
        return Err(ArchiveError::Path {
            name: String::from_utf8_lossy(&bytes[..MAX_NAME_LENGTH]).into_owned(),
            problem: PathProblem::Length,
        });
    }
    let path = std::str::from_utf8(bytes).map_err(|_| error(PathProblem::Encoding))?;
    if path.chars().any(char::is_control) {
        return Err(error(PathProblem::Control));
    }
    if path.contains('\\') {
        return Err(error(PathProblem::Backslash));
    }
    let has_drive = bytes.get(1) == Some(&b':') && bytes[0].is_ascii_alphabetic();
    if path.starts_with('/') || has_drive {
        return Err(error(PathProblem::Absolute));
    }
    for part in path.split('/') {
        match part {
            "" => return Err(error(PathProblem::Empty)),
            "." | ".." => return Err(error(PathProblem::Dots)),
            _ if part.len() > 255 => return Err(error(PathProblem::Length)),
            _ => {}
        }
    }
    Ok(path)
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A hard or symbolic link.
    Link,
}

/// The names of all entries, in one piece of memory.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// Where in `text` each name ends, and what the entry is.
    ends: Vec<(usize, EntryKind)>,
}

impl Names {
    /// Adds a path that was checked (of a folder: without its trailing slash).
    ///
    /// # Errors
    /// Where there are too many.
    pub fn push(&mut self, path: &str, kind: EntryKind) -> Result<(), ArchiveError> {
        if self.ends.len() >= MAX_ENTRIES {
            return Err(ArchiveError::TooManyEntries);
        }
        if self.text.len() + path.len() > MAX_NAME_BYTES {
            return Err(ArchiveError::TooManyNames);
        }
        self.text.push_str(path);
        self.ends.push((self.text.len(), kind));
        Ok(())
    }

    /// How many there are, folders included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The name and kind of the entry with this index.
    pub(crate) fn get(&self, index: usize) -> (&str, EntryKind) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, kind) = self.ends[index];
        (&self.text[start..end], kind)
    }

    /// The name of the entry that came last; nothing where there is none.
    pub(crate) fn last(&self) -> String {
        let last = self.len().checked_sub(1);
        last.map_or_else(String::new, |last| self.get(last).0.to_owned())
    }

    /// The names of all entries, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, EntryKind)> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Refuses names that exclude each other: one twice, or one below a file or a link. A folder may be
    /// there twice if `folders_may_repeat`, as tar archives have them.
    pub(crate) fn check(&self, folders_may_repeat: bool) -> Result<(), ArchiveError> {
        // Sorted with '/' below all else, whatever is below an entry follows it at once.
        let mut sorted: Vec<(&str, EntryKind)> = self.iter().collect();
        sorted.sort_unstable_by(|one, other| compare_paths(one.0, other.0));
        for pair in sorted.windows(2) {
            let [(name, kind), (next, next_kind)] = [pair[0], pair[1]];
            let both_folders = kind == EntryKind::Folder && next_kind == EntryKind::Folder;
            if name == next && !(both_folders && folders_may_repeat) {
                return Err(ArchiveError::Duplicate { name: name.to_owned() });
            }
            let is_below = next.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
            if is_below && kind != EntryKind::Folder {
                return Err(ArchiveError::NotAFolder { name: name.to_owned() });
            }
        }
        Ok(())
    }
}

fn compare_paths(one: &str, other: &str) -> Ordering {
    // No path that was checked holds a NUL.
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    one.bytes().map(key).cmp(other.bytes().map(key))
}
