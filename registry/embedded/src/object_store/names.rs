//! From an object's key to the name of its file, and back.
//!
//! All objects of a bucket lie in one flat folder, for today's file systems index their folders: no chain of folders has
//! to be made, synced and removed with an object, and a key such as `a/../../b` has no path in it that could lead
//! anywhere. What is not a lower-case letter, a digit or one of `._-` is percent-encoded (capitals too, so that two keys
//! never meet on a file system that ignores case). A key whose name would be longer than a file name may be is stored
//! under its SHA-256; the file itself holds the key.

use s3s::crypto::{Checksum, Sha256};

/// The longest file name that every common file system takes, in bytes.
const LONGEST_NAME: usize = 255;
const SPELLED: &str = "k-";
const HASHED: &str = "h-";

/// What a file name says about the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NamedKey {
    /// The name spells the key.
    Spelled(String),
    /// The name is the key's hash; the key must be read from the file.
    Hashed,
}

/// The name of the file that holds the object `key`.
pub(super) fn file_name(key: &str) -> String {
    let name = encode(key, SPELLED, |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
    });
    if name.len() <= LONGEST_NAME {
        name
    } else {
        format!("{HASHED}{}", hex::encode(Sha256::checksum(key.as_bytes())))
    }
}

/// The key that `file_name` stands for; `None` if no object has such a name.
pub(super) fn key_of(file_name: &str) -> Option<NamedKey> {
    if file_name.starts_with(HASHED) {
        return Some(NamedKey::Hashed);
    }
    let encoded = file_name.strip_prefix(SPELLED)?.as_bytes();
    let mut key = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let mut byte = [0];
            hex::decode_to_slice(after.get(..2)?, &mut byte).ok()?;
            key.push(byte[0]);
            rest = &after[2..];
        } else {
            key.push(*first);
            rest = after;
        }
    }
    String::from_utf8(key).ok().map(NamedKey::Spelled)
}

/// Percent-encodes a key for a listing with `encoding-type=url`.
pub(super) fn url_encode(key: &str) -> String {
    encode(key, "", |byte| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte))
}

fn encode(key: &str, prefix: &str, keep: impl Fn(u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut encoded = String::with_capacity(prefix.len() + key.len() + 16);
    encoded.push_str(prefix);
    for byte in key.bytes() {
        if keep(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_look_like_paths_become_plain_names() {
        assert_eq!(file_name("../../etc/passwd"), "k-..%2f..%2fetc%2fpasswd");
        assert_eq!(file_name(".."), "k-..");
        assert_eq!(file_name("A a\0"), "k-%41%20a%00");
        assert_eq!(file_name(&"é".repeat(500)).len(), 66);
        assert_eq!(key_of("stray"), None);
        assert_eq!(key_of("k-%f"), None);
        assert_eq!(key_of("k-%c3"), None);
    }

    proptest! {
        #[test]
        fn a_name_is_safe_and_leads_back_to_its_key(key in any::<String>()) {
            let name = file_name(&key);
            prop_assert!(name.len() <= LONGEST_NAME && !name.contains(['/', '\0']));
            prop_assert_eq!(name.to_ascii_lowercase(), name.clone());
            match key_of(&name).unwrap() {
                NamedKey::Spelled(read) => prop_assert_eq!(read, key),
                NamedKey::Hashed => prop_assert!(key.len() > 80),
            }
        }
    }
}
