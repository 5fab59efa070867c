//! What sources keep of passwords, and whether a password is that one.

use std::fmt;

use argon2::password_hash::{PasswordVerifier, phc};
use argon2::{Algorithm, Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::{BcryptError, HashParts};
use granary_core::Sha256;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use super::apr1::{self, Apr1};

/// The highest cost of bcrypt that is worked off, as with `htpasswd`: some ten seconds of a core.
const BCRYPT_LIMIT: u32 = 17;

/// The most that an argon2 hash may ask for: memory in KiB, passes, lanes. As much as the configuration may.
const ARGON2_LIMITS: (u32, u32, u32) = (1024 * 1024, 100, 64);

/// What SHA-1 hashes of `htpasswd -s` begin with.
const SHA1_PREFIX: &str = "{SHA}";

/// What a source keeps of a password.
#[derive(Clone)]
pub(super) enum StoredPassword {
    /// A hash in PHC form.
    Argon2(String),
    /// A hash in the form of crypt(3): `$2a$`, `$2b$` or `$2y$`.
    Bcrypt(String),
    /// Apache's MD5.
    Apr1(Apr1),
    /// SHA-1 without salt.
    Sha1([u8; 20]),
    /// The password itself, of which only a digest is held.
    Plain(Sha256),
}

/// A stored password that nothing can be compared with. The texts never repeat what was stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    /// A traditional hash, or one of those that begin with `$`, a digit and `$`, or a plain password.
    #[error(
        "the hash is not argon2, bcrypt, apr1 or {{SHA}}: crypt(3) is not supported; `htpasswd -B` makes a bcrypt hash"
    )]
    Unsupported,
    /// Beginning as argon2 does.
    #[error("the hash is not an argon2 hash in PHC form ($argon2id$…)")]
    Phc(#[from] phc::Error),
    /// With parameters that make no sense.
    #[error("the parameters of the argon2 hash cannot be used")]
    Argon2(#[from] argon2::password_hash::Error),
    /// Beginning as bcrypt does.
    #[error("the hash is not a bcrypt hash")]
    Bcrypt(#[from] BcryptError),
    /// Beginning as apr1 does.
    #[error("the hash is not an apr1 hash ($apr1$SALT$HASH)")]
    Apr1,
    /// Beginning as SHA-1 does.
    #[error("the hash is not {{SHA}} and a SHA-1 digest in base 64")]
    Sha1,
    /// One password would keep the processor or the memory busy for too long.
    #[error(
        "the hash costs too much: at most bcrypt with cost 17, argon2 with 1 GiB, 100 passes and 64 lanes"
    )]
    Cost,
    /// Nothing.
    #[error("there is no password")]
    Empty,
}

impl StoredPassword {
    /// Reads a hash: argon2, bcrypt, apr1 or `{SHA}`.
    pub(super) fn hash(text: &str) -> Result<Self, HashError> {
        if let Some(strong) = Self::strong(text)? {
            return Ok(strong);
        }
        if text.is_empty() {
            return Err(HashError::Empty);
        }
        if text.starts_with(apr1::PREFIX) {
            return Apr1::parse(text).map(Self::Apr1).ok_or(HashError::Apr1);
        }
        if let Some(digest) = text.strip_prefix(SHA1_PREFIX) {
            let bytes = STANDARD.decode(digest).map_err(|_| HashError::Sha1)?;
            return bytes.try_into().map(Self::Sha1).map_err(|_| HashError::Sha1);
        }
        Err(HashError::Unsupported)
    }

    /// Reads an argon2 or bcrypt hash, or else a password.
    pub(super) fn hash_or_plain(text: &str) -> Result<Self, HashError> {
        if text.is_empty() {
            return Err(HashError::Empty);
        }
        Ok(Self::strong(text)?.unwrap_or_else(|| Self::Plain(Sha256::of(text.as_bytes()))))
    }

    /// Reads what begins as an argon2 or bcrypt hash does.
    fn strong(text: &str) -> Result<Option<Self>, HashError> {
        if text.starts_with("$argon2") {
            let hash = phc::PasswordHash::new(text)?;
            Algorithm::try_from(hash.algorithm.as_str())
                .map_err(|_| HashError::Argon2(argon2::password_hash::Error::Algorithm))?;
            let params = Params::try_from(&hash)?;
            let (memory, passes, lanes) = ARGON2_LIMITS;
            if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
                return Err(HashError::Cost);
            }
            return Ok(Some(Self::Argon2(text.to_owned())));
        }
        // Not $2x$: that is what a faulty implementation wrote, which this one does not repeat.
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts: HashParts = text.parse()?;
            if parts.get_cost() > BCRYPT_LIMIT {
                return Err(HashError::Cost);
            }
            return Ok(Some(Self::Bcrypt(text.to_owned())));
        }
        Ok(None)
    }

    /// Whether this is the password. Takes up to seconds of a processor. A hash that fails to compute fits nothing.
    pub(super) fn is(&self, password: &str) -> bool {
        match self {
            Self::Argon2(hash) => phc::PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apr1(hash) => hash.is(password),
            Self::Sha1(digest) => Sha1::digest(password).as_slice().ct_eq(digest).into(),
            Self::Plain(digest) => Sha256::of(password.as_bytes()).as_bytes().ct_eq(digest.as_bytes()).into(),
        }
    }
}

impl fmt::Debug for StoredPassword {
    /// Only the kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "argon2",
            Self::Bcrypt(_) => "bcrypt",
            Self::Apr1(_) => "apr1",
            Self::Sha1(_) => "SHA-1",
            Self::Plain(_) => "plain",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        for hash in [
            // htpasswd -s, and -B with its least cost; the same with the other prefixes of one algorithm.
            "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "$2y$04$il4O5xa7fcgmNYsgCLUphOUhSZ2iBAatwDJg/Vx4VdizYN4Ks0f5C",
            "$2a$04$qgbwdsXyw2/YpHDJWNt9jeDTJnRoGwC.G1sQoSwGPH5kghXLms7mq",
            "$2b$04$zvHoiSq.8UxhTyUPCXab5e15zlT6Gi9x7Zr4hN6VOf/.6U4kA77QG",
            "$apr1$b9wKwlEt$ECZHE0HdpKhURwO4vHxBm.",
            // The program argon2 of its reference implementation: -id, -i and -d.
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$4mqQiyq0VpIzuZmp+8eSF3YJ7Av58TkEJ4LIdOVsAc4",
            "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$94U4LtGI5SKbnP2wOpAbYbf9JeGUWWLtt6tKq1mbcgY",
            "$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHQ$w2gnxX5N5iWPAdpQ+1xz58+/M8I4yFyZY8pb/gddNis",
        ] {
            let stored = StoredPassword::hash(hash).unwrap();
            assert!(stored.is("secret"), "{hash}");
            assert!(!stored.is("Secret") && !stored.is("secret ") && !stored.is(""), "{hash}");
            assert!(!format!("{stored:?}").contains('$'));
        }
    }

    #[test]
    fn bcrypt_reads_bytes_and_no_more_than_72() {
        let letters = "$2b$04$4uYT9YPf2VtO4Hw2TxWZJelvcJrb.pemYMwTxhH5lWF7mCtVt9haG";
        assert!(StoredPassword::hash(letters).unwrap().is("pässwörd€"));
        let long =
            StoredPassword::hash("$2b$04$B.tJDD939Ttmj7gifoE1Cuu4pd7T2CU4t2mYEDSxRauE/tyMVhM6i").unwrap();
        assert!(long.is(&"x".repeat(80)) && long.is(&"x".repeat(72)) && !long.is(&"x".repeat(71)));
    }

    #[test]
    fn a_plain_password_is_one_only_where_that_is_allowed() {
        let stored = StoredPassword::hash_or_plain("se:cret").unwrap();
        assert!(stored.is("se:cret") && !stored.is("se:cre") && !stored.is(""));
        assert_eq!(format!("{stored:?}"), "plain");
        assert!(matches!(StoredPassword::hash("se:cret"), Err(HashError::Unsupported)));
        // What only looks like an old hash is a password there.
        assert!(StoredPassword::hash_or_plain("$1$salt$hash").unwrap().is("$1$salt$hash"));
    }

    #[test]
    fn what_is_no_hash_says_why() {
        let error = |text: &str| StoredPassword::hash(text).unwrap_err();
        assert!(matches!(error(""), HashError::Empty));
        assert!(matches!(StoredPassword::hash_or_plain(""), Err(HashError::Empty)));
        for unsupported in
            ["rqXexS6ZhobKA", "$1$salt$HqJZimcKQFAMYayBlzkrA/", "$5$x$y", "$6$x$y", "$y$j9T$x$y", "plain"]
        {
            assert!(matches!(error(unsupported), HashError::Unsupported), "{unsupported}");
        }
        assert!(matches!(
            error("$2x$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"),
            HashError::Unsupported
        ));
        assert!(matches!(error("$2y$05$tooshort"), HashError::Bcrypt(_)));
        assert!(matches!(
            error("$2y$18$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"),
            HashError::Cost
        ));
        assert!(matches!(error("$apr1$tooshort"), HashError::Apr1));
        assert!(matches!(error("{SHA}not base 64"), HashError::Sha1));
        assert!(matches!(error("{SHA}c2hvcnQ="), HashError::Sha1));
        assert!(matches!(error("$argon2id$"), HashError::Phc(_)));
        let argon2 = |parameters: &str| {
            format!(
                "$argon2id$v=19${parameters}$bm9ib2R5LW5vYm9keQ$4kHtoZnkCbUAFvKHmD0nTHyGBFRjJVHhYTiLjcYcFvA"
            )
        };
        assert!(StoredPassword::hash(&argon2("m=1048576,t=2,p=1")).is_ok());
        for costly in ["m=1048577,t=2,p=1", "m=19456,t=101,p=1", "m=19456,t=2,p=65"] {
            assert!(matches!(error(&argon2(costly)), HashError::Cost), "{costly}");
        }
        assert!(matches!(error(&argon2("m=19456,t=0,p=1")), HashError::Argon2(_)));
        assert!(matches!(
            error(&argon2("m=19456,t=2,p=1").replace("argon2id", "argon2x")),
            HashError::Argon2(_)
        ));
    }
}
