//! Which bucket a channel has.

use std::fmt;
use std::str::FromStr;

use granary_core::{ChannelName, Format, Sha256};

/// The longest name of a bucket.
const MAX_LENGTH: usize = 63;
/// The hexadecimal digits of a hash at the end of a name: 80 bits.
const HASH_LENGTH: usize = 20;
/// Beginnings and ends that S3 keeps for itself.
const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// A text that names no bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a bucket has a name of 3 to 63 lower-case letters, digits and '-', with a letter or digit at both ends, \
     and none that S3 reserves (xn--…, …-s3alias)"
)]
pub struct BucketNameError;

/// The name of a bucket that every S3 store accepts. Dots are refused: with them the certificate of a store that
/// is addressed by host name does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(String);

impl BucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

impl FromStr for BucketName {
    type Err = BucketNameError;

    fn from_str(text: &str) -> Result<Self, BucketNameError> {
        let legal = (3..=MAX_LENGTH).contains(&text.len())
            && text.bytes().all(is_label)
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !RESERVED_PREFIXES.iter().any(|reserved| text.starts_with(reserved))
            && !RESERVED_SUFFIXES.iter().any(|reserved| text.ends_with(reserved));
        if legal { Ok(Self(text.to_owned())) } else { Err(BucketNameError) }
    }
}

/// A prefix and a suffix that cannot frame bucket names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketNamingError {
    /// A bad beginning.
    #[error("the bucket prefix is lower-case letters, digits and '-', beginning with a letter or a digit")]
    Prefix,
    /// A bad end.
    #[error("the bucket suffix is lower-case letters, digits and '-', ending with a letter or a digit")]
    Suffix,
    /// Too long together.
    #[error("bucket prefix and suffix have at most {0} characters together, so that names fit between them")]
    Length(usize),
}

/// How the buckets of one registry are named: `PREFIX` `FORMAT-CHANNEL` `SUFFIX`.
///
/// Where the channel's name cannot stand there (upper case, a dot, a slash, too long), a readable part and a hash of
/// the full name stand instead. Two channels never have one name: a format holds no `-`, so that `FORMAT-CHANNEL`
/// is read in one way only, and a channel whose own name looks like it ends with such a hash is hashed as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketNaming {
    prefix: String,
    suffix: String,
}

impl BucketNaming {
    /// The most characters of prefix and suffix together.
    pub const MAX_FRAME: usize = 32;

    /// Checks a prefix and a suffix; both may be empty.
    pub fn new(prefix: &str, suffix: &str) -> Result<Self, BucketNamingError> {
        if !prefix.bytes().all(is_label)
            || prefix.starts_with('-')
            || RESERVED_PREFIXES.iter().any(|reserved| prefix.starts_with(reserved))
        {
            return Err(BucketNamingError::Prefix);
        }
        if !suffix.bytes().all(is_label)
            || suffix.ends_with('-')
            || RESERVED_SUFFIXES.iter().any(|reserved| suffix.ends_with(reserved))
        {
            return Err(BucketNamingError::Suffix);
        }
        if prefix.len() + suffix.len() > Self::MAX_FRAME {
            return Err(BucketNamingError::Length(Self::MAX_FRAME));
        }
        Ok(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
    }

    /// The bucket of a channel that names none itself. Depends on nothing but its arguments.
    pub fn bucket(&self, format: Format, channel: &ChannelName) -> BucketName {
        let name = channel.as_str();
        let plain = format!("{}{format}-{name}{}", self.prefix, self.suffix);
        match plain.parse() {
            Ok(bucket) if !looks_hashed(name) => bucket,
            _ => self.hashed(format, name),
        }
    }

    fn hashed(&self, format: Format, name: &str) -> BucketName {
        let hash = &Sha256::of(format!("{format}/{name}").as_bytes()).to_hex()[..HASH_LENGTH];
        let room = MAX_LENGTH
            .saturating_sub(self.prefix.len() + self.suffix.len() + format.as_str().len() + HASH_LENGTH + 2);
        let readable: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(room)
            .collect();
        BucketName(format!("{}{format}-{readable}-{hash}{}", self.prefix, self.suffix))
    }
}

/// Whether a channel's name ends as a hashed name does.
fn looks_hashed(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_LENGTH
            && end.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn bucket(naming: &BucketNaming, format: Format, name: &str) -> String {
        naming.bucket(format, &ChannelName::parse(format, name).unwrap()).to_string()
    }

    #[test]
    fn a_name_that_fits_stays_readable() {
        let naming = BucketNaming::new("granary-", "").unwrap();
        assert_eq!(bucket(&naming, Format::PyPi, "team"), "granary-pypi-team");
        assert_eq!(bucket(&naming, Format::Conda, "team"), "granary-conda-team");
        let framed = BucketNaming::new("acme-", "-eu1").unwrap();
        assert_eq!(bucket(&framed, Format::Conan, "stable"), "acme-conan-stable-eu1");
        let bare = BucketNaming::new("", "").unwrap();
        assert_eq!(bucket(&bare, Format::Quilt, "x"), "quilt-x");
    }

    #[test]
    fn a_name_that_does_not_fit_is_hashed_and_stays_the_same_forever() {
        let naming = BucketNaming::new("granary-", "").unwrap();
        // Fixed texts: a change here would give every such channel a new, empty bucket.
        assert_eq!(bucket(&naming, Format::PyPi, "team/dev"), "granary-pypi-team-dev-5db3c26f826ee83c50d0");
        assert_eq!(bucket(&naming, Format::PyPi, "Team"), "granary-pypi-team-b63f88fe7eeb90341c9b");
    }

    #[test]
    fn names_made_to_collide_do_not() {
        let naming = BucketNaming::new("granary-", "").unwrap();
        let hashed = bucket(&naming, Format::PyPi, "a/b");
        let twin = hashed.strip_prefix("granary-pypi-").unwrap();
        assert_ne!(bucket(&naming, Format::PyPi, twin), hashed);
        assert_ne!(bucket(&naming, Format::PyPi, "a/b"), bucket(&naming, Format::PyPi, "a-b"));
        assert_ne!(bucket(&naming, Format::PyPi, "a.b"), bucket(&naming, Format::PyPi, "a_b"));
    }

    #[test]
    fn frames_are_checked() {
        assert_eq!(BucketNaming::new("Granary-", ""), Err(BucketNamingError::Prefix));
        assert_eq!(BucketNaming::new("-a", ""), Err(BucketNamingError::Prefix));
        assert_eq!(BucketNaming::new("", "a-"), Err(BucketNamingError::Suffix));
        assert_eq!(BucketNaming::new("", "-s3alias"), Err(BucketNamingError::Suffix));
        assert_eq!(BucketNaming::new(&"a".repeat(30), "bcd"), Err(BucketNamingError::Length(32)));
    }

    #[test]
    fn bucket_names_are_what_stores_accept() {
        for good in ["abc", "a-b-c", "0numbers9", &"a".repeat(63)] {
            assert!(good.parse::<BucketName>().is_ok(), "{good}");
        }
        for bad in ["ab", "Abc", "a_b", "a.b", "-ab", "ab-", "xn--abc", "abc-s3alias", "é12", &"a".repeat(64)]
        {
            assert!(bad.parse::<BucketName>().is_err(), "{bad}");
        }
    }

    fn channels() -> impl Strategy<Value = (Format, String)> {
        prop_oneof![
            (Just(Format::PyPi), "[a-cA-C0-9][a-cA-C0-9._-]{0,70}(/[a-c][a-c.-]{0,40})?"),
            (Just(Format::Conda), "[a-c][a-c._-]{0,80}"),
            (Just(Format::Conan), "[a-c][a-c-]{0,3}"),
        ]
    }

    proptest! {
        #[test]
        fn every_channel_has_a_legal_bucket_of_its_own(
            prefix in "([a-z][a-z-]{0,15})?",
            suffix in "([a-z-]{0,15}[a-z])?",
            channels in proptest::collection::vec(channels(), 1..40),
        ) {
            prop_assume!(BucketNaming::new(&prefix, &suffix).is_ok());
            let naming = BucketNaming::new(&prefix, &suffix).unwrap();
            let mut seen = HashMap::new();
            for (format, name) in channels {
                let name = ChannelName::parse(format, &name).unwrap();
                let bucket = naming.bucket(format, &name);
                prop_assert_eq!(bucket.as_str().parse(), Ok(bucket.clone()));
                let other = seen.insert(bucket, (format, name.clone()));
                prop_assert!(other.is_none_or(|other| other == (format, name)));
            }
        }
    }
}
