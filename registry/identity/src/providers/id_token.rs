//! What an ID token has to say before it counts (`OpenID` Connect Core 1.0, section 3.1.3.7), once its signature is true.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use granary_core::Sha256;
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::jwt::LEEWAY;
use crate::jwt::claim::{Unreadable, audiences, text, time};
use crate::jwt::json::Object;
use crate::jwt::token::Unverified;

/// How old a token may be that came just now.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(10);
/// The longest `sub`, in characters (section 2: 255, which not all keep).
const MAX_SUBJECT: usize = 512;
/// The longest `jti`, in bytes: it is part of an index's key.
const MAX_ID: usize = 512;

/// Why an ID token does not count. The messages never quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// It is an access token (RFC 9068), which is meant for others.
    #[error("the token is an access token and no ID token")]
    Kind,
    /// It is of another issuer.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the ID token is not for this registry: its audience or authorized party is another")]
    Audience,
    /// It belongs to another login.
    #[error("the ID token is of another login: its nonce is another")]
    Nonce,
    /// Its time is over, or it was made too long ago.
    #[error("the ID token has expired")]
    Expired,
    /// Its time is yet to come.
    #[error("the ID token is not valid yet")]
    NotYetValid,
    /// It belongs to another access token.
    #[error("the ID token is of another access token: its at_hash is another")]
    AccessToken,
    /// It lacks a claim.
    #[error("the ID token has no claim {0}")]
    Missing(&'static str),
    /// A claim is not what it should be.
    #[error("the ID token's claim {0} cannot be read")]
    Claim(&'static str),
}

impl From<Unreadable> for IdTokenError {
    fn from(Unreadable(claim): Unreadable) -> Self {
        Self::Claim(claim)
    }
}

/// What a token has to belong to.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// What came along with it.
    pub(super) access_token: Option<&'a str>,
}

/// What a token that counts says.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Whom it is about: `sub`.
    pub(super) subject: String,
    /// What tells it from all others.
    pub(super) id: String,
    /// When it ends.
    pub(super) expires_at: Timestamp,
}

/// Checks the claims of a token that its issuer signed.
pub(super) fn accept(
    token: &Unverified<'_>,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Accepted, IdTokenError> {
    let payload = &token.payload;
    if token.is_access_token {
        return Err(IdTokenError::Kind);
    }
    if token.issuer() != Some(expected.issuer) {
        return Err(IdTokenError::Issuer);
    }
    audience(payload, expected.client_id)?;
    let expires_at = time(payload, "exp")?.ok_or(IdTokenError::Missing("exp"))?;
    let issued_at = time(payload, "iat")?.ok_or(IdTokenError::Missing("iat"))?;
    let not_before = time(payload, "nbf")?;
    if now.duration_since(expires_at) >= LEEWAY || now.duration_since(issued_at) >= MAX_AGE + LEEWAY {
        return Err(IdTokenError::Expired);
    }
    if [Some(issued_at), not_before].into_iter().flatten().any(|start| start.duration_since(now) > LEEWAY) {
        return Err(IdTokenError::NotYetValid);
    }
    let nonce = text(payload, "nonce", |_| true)?.ok_or(IdTokenError::Missing("nonce"))?;
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(IdTokenError::Nonce);
    }
    if let (Some(claimed), Some(access_token)) = (text(payload, "at_hash", |_| true)?, expected.access_token)
        && Some(claimed) != at_hash(&token.algorithm, access_token).as_deref()
    {
        return Err(IdTokenError::AccessToken);
    }
    let subject = text(payload, "sub", |subject| {
        (1..=MAX_SUBJECT).contains(&subject.chars().count()) && !subject.contains(char::is_control)
    })?
    .ok_or(IdTokenError::Missing("sub"))?;
    let jti = text(payload, "jti", |id| (1..=MAX_ID).contains(&id.len()) && !id.contains(char::is_control))?;
    // The same claims may bear more than one valid signature.
    let id = jti.map_or_else(|| format!("sha256:{}", Sha256::of(token.message)), str::to_owned);
    Ok(Accepted { subject: subject.to_owned(), id, expires_at })
}

/// For us, and for nobody else without us being the one that it was issued to.
fn audience(payload: &Object, client_id: &str) -> Result<(), IdTokenError> {
    let named = audiences(payload)?.ok_or(IdTokenError::Missing("aud"))?;
    let party = text(payload, "azp", |_| true)?;
    let is_ours = named.contains(&client_id);
    let is_shared = named.iter().any(|name| *name != client_id);
    match party {
        Some(party) if party != client_id => Err(IdTokenError::Audience),
        None if is_shared => Err(IdTokenError::Audience),
        _ if is_ours => Ok(()),
        _ => Err(IdTokenError::Audience),
    }
}

/// The left half of the access token's hash, by the hash that the signature uses (section 3.1.3.6).
fn at_hash(algorithm: &str, access_token: &str) -> Option<String> {
    let hash: &Algorithm = match algorithm {
        "RS256" | "PS256" | "ES256" => &SHA256,
        "RS384" | "PS384" | "ES384" => &SHA384,
        // Ed25519 signs by SHA-512.
        "RS512" | "PS512" | "EdDSA" => &SHA512,
        _ => return None,
    };
    let digest = digest(hash, access_token.as_bytes());
    let bytes = digest.as_ref();
    Some(URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() / 2]))
}

#[cfg(test)]
mod tests;
