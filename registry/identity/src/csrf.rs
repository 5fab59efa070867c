//! What a page of ours has to send along so that a page of somebody else cannot act in its name.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq as _;

use crate::random::Unguessable;

/// A token that only those can know who know a cookie's secret, or were told by a page of ours. It is made of the secret by
/// a keyed hash (HMAC-SHA-256), so that nothing is stored, and a page that shows it does not show the secret.
#[derive(Clone)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// Of a browser's session.
    pub fn of_session(session: &SecretString) -> Self {
        Self::of(session.expose_secret(), "granary session")
    }

    /// Of a browser that nobody is logged in with yet.
    pub fn of_browser(browser: &Unguessable) -> Self {
        Self::of(browser.expose(), "granary login")
    }

    fn of(secret: &str, purpose: &str) -> Self {
        let key = Key::new(HMAC_SHA256, secret.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(sign(&key, purpose.as_bytes())))
    }

    /// The text, to stand in a page.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the token, without telling by its duration how much of it was right.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl std::fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CsrfToken")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_token_is_that_of_its_secret_and_purpose_alone() {
        let secret = "0123456789012345678901234567890123456789012";
        let token = CsrfToken::of_session(&secret.to_owned().into());
        let again = CsrfToken::of_session(&secret.to_owned().into());
        assert!(token.is(again.expose()) && !token.expose().contains(secret));
        let browser: Unguessable = secret.parse().unwrap();
        let other = CsrfToken::of_session(&"another".to_owned().into());
        for wrong in
            ["", secret, other.expose(), CsrfToken::of_browser(&browser).expose(), &token.expose()[1..]]
        {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(token.expose()));
    }
}
