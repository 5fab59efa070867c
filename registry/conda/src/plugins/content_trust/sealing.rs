//! Secrets at rest: private keys are encrypted (AES-256-GCM) with keys of the registry's configuration before Postgres gets them.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// The length of a key, in bytes.
const KEY_LENGTH: usize = 32;
/// How much of a key's digest names it.
const ID_LENGTH: usize = 8;

/// Why a secret cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The configuration holds no key at all, or something else.
    #[error("sealing.keys has to hold keys, one a line: 32 random bytes in base64 each")]
    Keys,
    /// The key that it was sealed with is not among the keys.
    #[error("the key that a secret was sealed with is not in sealing.keys any more")]
    UnknownKey,
    /// It was changed, or belongs elsewhere.
    #[error("a sealed secret is damaged")]
    Damaged,
}

/// The keys: the first one seals, and each of them opens.
pub struct SealingKeys(Vec<([u8; ID_LENGTH], RandomizedNonceKey)>);

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({})", self.0.len())
    }
}

impl SealingKeys {
    /// Reads keys, one a line: 32 random bytes in base64 each.
    ///
    /// # Errors
    /// [`SealingError::Keys`].
    pub fn parse(text: &SecretString) -> Result<Self, SealingError> {
        let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<_> = lines.map(Self::key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(SealingError::Keys) } else { Ok(Self(keys)) }
    }

    fn key(line: &str) -> Result<([u8; ID_LENGTH], RandomizedNonceKey), SealingError> {
        let bytes = STANDARD.decode(line).map_err(|_| SealingError::Keys)?;
        if bytes.len() != KEY_LENGTH {
            return Err(SealingError::Keys);
        }
        let id = *digest(&SHA256, &bytes).as_ref().first_chunk().ok_or(SealingError::Keys)?;
        Ok((id, RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| SealingError::Keys)?))
    }

    /// Encrypts a secret. It can be opened only as belonging to the same `place`.
    ///
    /// # Errors
    /// [`SealingError::Keys`] where the processor fails at it.
    pub fn seal(&self, secret: &[u8], place: &str) -> Result<Vec<u8>, SealingError> {
        let (id, key) = self.0.first().ok_or(SealingError::Keys)?;
        let mut text = secret.to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(place), &mut text).map_err(|_| SealingError::Keys)?;
        Ok([id.as_slice(), nonce.as_ref(), &text].concat())
    }

    /// Decrypts what [`SealingKeys::seal`] made.
    ///
    /// # Errors
    /// [`SealingError`].
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<Vec<u8>, SealingError> {
        let (id, rest) = sealed.split_first_chunk::<ID_LENGTH>().ok_or(SealingError::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealingError::Damaged)?;
        let (_, key) = self.0.iter().find(|(known, _)| known == id).ok_or(SealingError::UnknownKey)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret =
            key.open_in_place(nonce, Aad::from(place), &mut text).map_err(|_| SealingError::Damaged)?;
        Ok(secret.to_vec())
    }

    /// Whether the key that seals now has sealed it.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        self.0.first().is_some_and(|(id, _)| sealed.starts_with(id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn keys(bytes: &[u8]) -> SealingKeys {
        let lines: Vec<String> = bytes.iter().map(|byte| STANDARD.encode([*byte; KEY_LENGTH])).collect();
        SealingKeys::parse(&lines.join("\n").into()).unwrap()
    }

    #[test]
    fn a_secret_is_opened_by_its_key_in_its_place_alone() {
        let sealed = keys(&[1]).seal(b"secret", "here").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(keys(&[1]).open(&sealed, "here").unwrap(), b"secret");
        assert_eq!(keys(&[1]).open(&sealed, "there"), Err(SealingError::Damaged));
        assert_eq!(keys(&[2]).open(&sealed, "here"), Err(SealingError::UnknownKey));
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(keys(&[1]).open(&changed, "here"), Err(SealingError::Damaged));
        assert_eq!(keys(&[1]).open(b"short", "here"), Err(SealingError::Damaged));
    }

    #[test]
    fn a_new_key_goes_before_the_old_one() {
        let sealed = keys(&[1]).seal(b"secret", "here").unwrap();
        let both = keys(&[2, 1]);
        assert_eq!(both.open(&sealed, "here").unwrap(), b"secret");
        assert!(keys(&[1]).is_current(&sealed) && !both.is_current(&sealed));
        let again = both.seal(b"secret", "here").unwrap();
        assert!(both.is_current(&again));
        assert_eq!(keys(&[2]).open(&again, "here").unwrap(), b"secret");
    }

    #[test]
    fn keys_are_of_32_bytes_in_base64() {
        for text in
            ["", "\n", "x", "AAAA", &STANDARD.encode([0; 31]), &format!("{}\nx", STANDARD.encode([0; 32]))]
        {
            assert!(SealingKeys::parse(&text.to_owned().into()).is_err(), "{text}");
        }
    }
}
