//! Lists of names and passwords, as `conan_server` keeps them below `[users]` of its `server.conf`.
//!
//! A line is `NAME: PASSWORD`. Blanks around both say nothing, and the password may hold colons. It may be an argon2 or a
//! bcrypt hash, told by how it begins.

use super::file::Entries;
use super::hash::StoredPassword;

/// Reads such a list.
pub(super) fn read(text: &str) -> Entries {
    Entries::read(text, split, StoredPassword::hash_or_plain)
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (name, password) = line.split_once(':')?;
    Some((name.trim(), password.trim()))
}
