//! Files of Apache's `htpasswd`: a line is `NAME:HASH`; what follows another colon says nothing, as with Apache.

use super::file::Entries;
use super::hash::StoredPassword;

/// Reads such a file.
pub(super) fn read(text: &str) -> Entries {
    Entries::read(text, split, StoredPassword::hash)
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(':')?;
    Some((name, rest.split(':').next().unwrap_or(rest)))
}
