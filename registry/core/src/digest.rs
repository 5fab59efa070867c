//! The digests that package clients declare and check.

use std::fmt;
use std::str::FromStr;

use blake2::Blake2b;
use blake2::digest::consts::U32;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A text that is not the digest it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {algorithm} digest is {expected} hexadecimal digits")]
pub struct DigestError {
    algorithm: &'static str,
    expected: usize,
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $algorithm:literal, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The digest whose raw bytes these are.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Lower-case hexadecimal digits.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = DigestError;

            fn try_from(bytes: &[u8]) -> Result<Self, DigestError> {
                bytes.try_into().map(Self).map_err(|_| DigestError { algorithm: $algorithm, expected: $length * 2 })
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            /// Reads hexadecimal digits of either case.
            fn from_str(text: &str) -> Result<Self, DigestError> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| DigestError { algorithm: $algorithm, expected: $length * 2 })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($algorithm, ":{}"), self.to_hex())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(
    /// A SHA-256 digest: what identifies a blob.
    Sha256, "sha256", 32
);
digest!(
    /// An MD5 digest: kept because old clients declare it, never trusted alone.
    Md5, "md5", 16
);
digest!(
    /// A `BLAKE2b` digest of 256 bits, as `PyPI` uploads declare it.
    Blake2b256, "blake2b-256", 32
);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl Md5 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(md5::Md5::digest(bytes).into())
    }
}

/// Every digest of one stream of bytes, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256, the identity of the bytes.
    pub sha256: Sha256,
    /// MD5, for clients that still declare it.
    pub md5: Md5,
    /// `BLAKE2b`-256, for `PyPI` uploads.
    pub blake2b256: Blake2b256,
    /// Length in bytes.
    pub size: u64,
}

/// Computes [`Digests`] while the bytes pass.
#[derive(Default, Clone)]
pub struct Hasher {
    sha256: sha2::Sha256,
    md5: md5::Md5,
    blake2b256: Blake2b<U32>,
    size: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.blake2b256.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// How many bytes have passed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digests of all that has passed.
    pub fn finish(self) -> Digests {
        Digests {
            sha256: Sha256(self.sha256.finalize().into()),
            md5: Md5(self.md5.finalize().into()),
            blake2b256: Blake2b256(self.blake2b256.finalize().into()),
            size: self.size,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn digests_of_the_empty_stream_are_the_published_ones() {
        let digests = Hasher::new().finish();
        assert_eq!(
            digests.sha256.to_hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digests.md5.to_hex(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(
            digests.blake2b256.to_hex(),
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
        );
    }

    #[test]
    fn a_digest_is_read_in_either_case_and_in_its_exact_length_only() {
        let hex = "D41D8CD98F00B204E9800998ECF8427E";
        assert_eq!(hex.parse::<Md5>().map(|d| d.to_hex()), Ok(hex.to_lowercase()));
        assert!(hex.parse::<Sha256>().is_err());
        assert!("zz".repeat(16).parse::<Md5>().is_err());
    }
}
