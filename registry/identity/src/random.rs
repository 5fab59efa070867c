//! Texts that nobody can guess.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use granary_core::Sha256;
use rand::{Rng, RngExt};
use secrecy::{ExposeSecret, SecretString};

/// Random bits of an [`Unguessable`], in bytes.
const BYTES: usize = 32;
/// The letters that they make.
const LENGTH: usize = 43;

/// 256 random bits in base64url: the state of a login, what tells a browser from others, a device code.
#[derive(Debug, Clone)]
pub struct Unguessable(SecretString);

/// A text that is not 43 letters, digits, `-` and `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not {LENGTH} letters, digits, '-' and '_'")]
pub struct UnguessableError;

impl Unguessable {
    /// A new one from this source of randomness, which must be a cryptographic one.
    pub fn generate(random: &mut impl Rng) -> Self {
        let bytes: [u8; BYTES] = random.random();
        Self(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is stored of it.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.expose().as_bytes())
    }
}

impl std::str::FromStr for Unguessable {
    type Err = UnguessableError;

    fn from_str(text: &str) -> Result<Self, UnguessableError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if text.len() == LENGTH && text.bytes().all(legal) {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(UnguessableError)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_generated_text_reads_back_and_does_not_show() {
        let text = Unguessable::generate(&mut rand::rng());
        let read: Unguessable = text.expose().parse().unwrap();
        assert_eq!(read.sha256(), text.sha256());
        assert_ne!(Unguessable::generate(&mut rand::rng()).sha256(), text.sha256());
        assert!(!format!("{text:?}").contains(text.expose()));
        for other in ["", "short", &text.expose()[1..], &format!("{}x", text.expose()), &"=".repeat(LENGTH)] {
            assert!(other.parse::<Unguessable>().is_err(), "{other}");
        }
    }
}
