//! Apache's variant of MD5-crypt: `$apr1$SALT$HASH`, as `htpasswd -m` writes it.
//!
//! The format has no document of its own; its source is `apr_md5_encode` in `crypto/apr_md5.c` of APR-util. It is MD5-crypt of
//! FreeBSD but for the text `$apr1$`, which goes into the digest too.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

/// What such a hash begins with.
pub(super) const PREFIX: &str = "$apr1$";

/// The digits of MD5-crypt's base 64, which goes from the low bits to the high ones.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which bytes of the digest go into a group of four digits, the highest first.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

/// The length of a hash without its prefix and its salt.
const LENGTH: usize = 22;

/// A hash, taken apart.
#[derive(Clone)]
pub(super) struct Apr1 {
    salt: String,
    hash: String,
}

impl Apr1 {
    /// Reads `$apr1$SALT$HASH`, where the salt has 1 to 8 characters.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let is_hash = hash.len() == LENGTH && hash.bytes().all(|byte| DIGITS.contains(&byte));
        let is_salt = (1..=8).contains(&salt.len());
        (is_salt && is_hash).then(|| Self { salt: salt.to_owned(), hash: hash.to_owned() })
    }

    /// Whether the hash is of this password.
    pub(super) fn is(&self, password: &str) -> bool {
        encode(&digest(password.as_bytes(), self.salt.as_bytes()))
            .as_bytes()
            .ct_eq(self.hash.as_bytes())
            .into()
    }
}

fn digest(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let mut inner = md5(&[password, salt, password]);
    let mut outer = Md5::new().chain_update(password).chain_update(PREFIX).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        outer.update(&inner[..chunk.len()]);
    }
    // One byte for each bit of the length: nothing for a set one, the first letter for another. So it was written
    // once, and so it stays.
    let mut length = password.len();
    while length != 0 {
        outer.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    inner = outer.finalize().into();
    for round in 0..1000 {
        let is_odd = round % 2 == 1;
        inner = md5(&[
            if is_odd { password } else { &inner },
            if round % 3 == 0 { &[] } else { salt },
            if round % 7 == 0 { &[] } else { password },
            if is_odd { &inner } else { password },
        ]);
    }
    inner
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    parts.iter().fold(Md5::new(), md5::Digest::chain_update).finalize().into()
}

fn encode(digest: &[u8; 16]) -> String {
    let mut text = String::with_capacity(LENGTH);
    let mut push = |mut bits: u32, digits: usize| {
        for _ in 0..digits {
            text.push(char::from(DIGITS[(bits & 0x3f) as usize]));
            bits >>= 6;
        }
    };
    for group in GROUPS {
        push(group.iter().fold(0, |bits, at| bits << 8 | u32::from(digest[*at])), 4);
    }
    push(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hashes_are_those_of_apache() {
        // The first two are those of Apache's documentation; the others were made by `htpasswd -m`.
        for (password, hash) in [
            ("myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
            ("myPassword", "$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0"),
            ("a", "$apr1$IDTOsapr$CIYcM.a4AOcY1e6Wake3y/"),
            ("secret", "$apr1$b9wKwlEt$ECZHE0HdpKhURwO4vHxBm."),
            ("sixteen-letters!", "$apr1$lVpbajnZ$6Z7PqCWt84TQ8tXSxgqZv1"),
            ("seventeen-letters", "$apr1$U2vPiz.m$gz1OU5CUuvLq2K5oEB1cT."),
            ("p$ss w:rd'\\\"#ü€", "$apr1$NFnayZJO$tHXVbED/ZdvcTJtw8na2h/"),
            (
                "a password that is much longer than the thirty-two bytes of two digests, and than that again",
                "$apr1$whX9tycR$mvoWBF2MCY3VPXErfMS8a0",
            ),
        ] {
            let parsed = Apr1::parse(hash).unwrap();
            assert!(parsed.is(password), "{hash}");
            assert!(!parsed.is(&format!("{password}x")), "{hash}");
            assert!(!parsed.is(&password[1..]), "{hash}");
        }
    }

    #[test]
    fn what_is_no_such_hash_is_refused() {
        for text in [
            "",
            "$apr1$",
            "$apr1$r31.....$",
            "$apr1$$HqJZimcKQFAMYayBlzkrA/",
            "$apr1$ninechars$HqJZimcKQFAMYayBlzkrA/",
            "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA",
            "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA=",
            "$1$r31.....$HqJZimcKQFAMYayBlzkrA/",
        ] {
            assert!(Apr1::parse(text).is_none(), "{text}");
        }
    }
}
