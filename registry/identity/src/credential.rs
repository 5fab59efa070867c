//! What a request carries to say who sends it.

use secrecy::SecretString;

/// One credential, as it was carried. Secrets never show in debug output.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `Authorization: Basic`: a user name with a password, or any user name with a token.
    Basic {
        /// The name before the colon; may be empty or `__token__`.
        user: String,
        /// What stands behind the colon.
        password: SecretString,
    },
    /// A token: `Authorization: Bearer`, `X-API-Key`, or a carrier that a protocol adds.
    Token(SecretString),
    /// A browser session's cookie.
    Session(SecretString),
}
