//! The text of a token: `granary_ID_SECRET`. The id is public, the secret is 256 random bits, and only a hash
//! of the whole is stored.

use std::str::FromStr;

use granary_core::Sha256;
use rand::{Rng, RngExt};
use secrecy::{ExposeSecret, SecretString};

/// What every token begins with, so that secret scanners find a leaked one.
pub const TOKEN_PREFIX: &str = "granary_";

const ID_LENGTH: usize = 10;
const SECRET_LENGTH: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token reads granary_ID_SECRET: {ID_LENGTH} and {SECRET_LENGTH} letters and digits")]
pub struct TokenTextError;

/// A token in the clear: exists where it is made and where it is presented.
#[derive(Debug, Clone)]
pub struct TokenText {
    id: String,
    whole: SecretString,
}

impl TokenText {
    /// A new token from this source of randomness, which must be a cryptographic one.
    pub fn generate(random: &mut impl Rng) -> Self {
        let mut letters = |count: usize| -> String {
            (0..count).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
        };
        let id = letters(ID_LENGTH);
        let whole = format!("{TOKEN_PREFIX}{id}_{}", letters(SECRET_LENGTH));
        Self { id, whole: whole.into() }
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, to be shown once.
    pub fn expose(&self) -> &str {
        self.whole.expose_secret()
    }

    /// What is stored.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.expose().as_bytes())
    }
}

impl FromStr for TokenText {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let (id, secret) =
            text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('_')).ok_or(TokenTextError)?;
        let letters =
            |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if letters(id, ID_LENGTH) && letters(secret, SECRET_LENGTH) {
            Ok(Self { id: id.to_owned(), whole: text.to_owned().into() })
        } else {
            Err(TokenTextError)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_generated_token_reads_back_and_hides_its_secret() {
        let token = TokenText::generate(&mut rand::rng());
        let read: TokenText = token.expose().parse().unwrap();
        assert_eq!(read.id(), token.id());
        assert_eq!(read.sha256(), token.sha256());
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn other_texts_are_not_tokens() {
        for text in ["", "granary_", "granary_abc_def", "password", "granary_0123456789_"] {
            assert!(text.parse::<TokenText>().is_err(), "{text}");
        }
    }
}
