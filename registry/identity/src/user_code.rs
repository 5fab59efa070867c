//! What a person types to say which terminal they mean (RFC 8628, section 6.1).

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt};

/// Letters that are told from each other by everybody and make no words: no vowels. Twenty of them, so that a code is one
/// of 2.5 · 10¹⁰.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is eight letters, such as BDFG-HJKL")]
pub struct UserCodeError;

/// Eight letters, shown with a dash in the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// A new one from this source of randomness, which must be a cryptographic one.
    pub(crate) fn generate(random: &mut impl Rng) -> Self {
        Self((0..LENGTH).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect())
    }

    /// The letters, without the dash.
    pub(crate) fn letters(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = self.0.split_at(LENGTH / 2);
        write!(f, "{start}-{end}")
    }
}

impl FromStr for UserCode {
    type Err = UserCodeError;

    /// As somebody types it: in letters of either case, with dashes and spaces anywhere.
    fn from_str(text: &str) -> Result<Self, UserCodeError> {
        let typed = text.chars().filter(|c| *c != '-' && !c.is_whitespace()).map(|c| c.to_ascii_uppercase());
        let letters: String = typed.take(LENGTH + 1).collect();
        if letters.len() == LENGTH && letters.bytes().all(|byte| ALPHABET.contains(&byte)) {
            Ok(Self(letters))
        } else {
            Err(UserCodeError)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        for _ in 0..100 {
            let code = UserCode::generate(&mut rand::rng());
            let shown = code.to_string();
            assert_eq!(shown.len(), 9);
            for typed in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), format!(" {shown} ")] {
                assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
            }
        }
        for other in ["", "BDFG-HJK", "BDFG-HJKLM", "ADFG-HJKL", "BDFG_HJKL", "BDFG-HJK1", "ßDFG-HJKL"] {
            assert_eq!(other.parse::<UserCode>(), Err(UserCodeError), "{other}");
        }
    }
}
