//! Tokens that others sign: of Kubernetes' service accounts, of jobs of CI systems, of any `OpenID` Connect issuer.
//!
//! A token counts when an issuer of the configuration signed it, for one of its audiences, for now; then its claims are
//! a [`Workload`]. What an issuer may do is for grants to say, which name claims.
//!
//! How they are read, and checked with their issuer's keys: [`crate::jwt`].

mod claims;
mod replay;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use granary_core::{Clock, Sha256, SubjectName, Workload};
use granary_crds::Issuer;
use jiff::Timestamp;

pub use claims::ClaimsError;

use crate::jwt::fetch::KeysError;
use crate::jwt::key_set::KeyError;
use crate::jwt::keys::{Source, Untrue};
use crate::jwt::token::{self, SignedTokenError, Unverified};

/// Why a token does not count. The messages never quote it.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It is no token, or none of a kind that counts.
    #[error(transparent)]
    Malformed(#[from] SignedTokenError),
    /// No issuer of the configuration says to have signed it.
    #[error("the token is of no issuer that this registry knows")]
    UnknownIssuer,
    /// Its algorithm is none that counts here, or none of the key that it names.
    #[error("the token is signed by an algorithm that does not count here, or that is not its key's")]
    Algorithm,
    /// It names a key that its issuer does not have; or none, and the issuer has not exactly one that fits.
    #[error("the token names no key of its issuer")]
    UnknownKey,
    /// Its issuer did not sign it.
    #[error("the token's signature is not its issuer's")]
    Signature,
    /// It is for somebody else.
    #[error("the token is not for this registry: its audience is another")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time, or the one at which it was made, is yet to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It lives longer than 24 hours.
    #[error("the token lives longer than 24 hours")]
    TooLong,
    /// It lacks a claim that every token here needs.
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    /// A claim is not what it should be.
    #[error("the token's claim {0} cannot be read")]
    Claim(&'static str),
    /// Permissions could not name its claims.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// The issuer's keys cannot be had, and none of the last 24 hours are known. The same token may count later.
    #[error("the keys of the issuer {issuer} cannot be had")]
    Keys {
        /// The issuer's name in the configuration.
        issuer: SubjectName,
        /// Why not.
        source: Arc<KeysError>,
    },
}

impl WorkloadError {
    /// Whether the same token may count later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Keys { .. })
    }
}

impl From<KeyError> for WorkloadError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Algorithm => Self::Algorithm,
            KeyError::Unknown => Self::UnknownKey,
            KeyError::Signature => Self::Signature,
        }
    }
}

/// A token that counts.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Whose it is.
    pub workload: Workload,
    /// The token's own name (`jti`), by which it can be kept from being used twice; at most 512 bytes.
    pub jti: Option<String>,
    /// When it was made (`iat`).
    pub issued_at: Option<Timestamp>,
    /// When it ends (`exp`). It counts 60 s longer, as far as clocks may differ.
    pub expires_at: Timestamp,
    /// The key that signed it.
    key: Sha256,
}

/// The issuers of the configuration.
#[derive(Debug, Clone)]
pub struct Workloads {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sources: Vec<Arc<Source>>,
    audiences: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Workloads {
    /// These issuers. `http` must not follow redirects ([`reqwest::redirect::Policy::none`]): what an issuer's URL leads
    /// to is refused, but would have been asked. Nothing is fetched before the first token.
    #[expect(clippy::needless_pass_by_value, reason = "the sources keep clones")]
    pub fn new(issuers: Vec<Issuer>, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        let mut audiences: Vec<String> = Vec::new();
        for audience in issuers.iter().flat_map(|issuer| &issuer.audiences) {
            if !audiences.contains(audience) {
                audiences.push(audience.clone());
            }
        }
        let source = |issuer| Source::new(issuer, http.clone(), Arc::clone(&clock));
        let sources = issuers.into_iter().map(source).collect();
        Self { inner: Arc::new(Inner { sources, audiences, clock }) }
    }

    /// Whether there is no issuer, so that no token counts.
    pub fn is_empty(&self) -> bool {
        self.inner.sources.is_empty()
    }

    /// Whether there is an issuer of this name.
    pub fn knows(&self, issuer: &SubjectName) -> bool {
        self.inner.sources.iter().any(|source| source.issuer.name == *issuer)
    }

    /// The audiences of all issuers, in the configuration's order, each once.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.inner.audiences.iter().map(String::as_str)
    }

    /// Whether a text could be such a token: three parts in base64url, and a header that names an algorithm. `typ` is not
    /// asked for, since Kubernetes leaves it out.
    pub fn looks_like_token(text: &str) -> bool {
        token::looks_like_one(text)
    }

    /// Checks a token. Asks its issuer for keys where those at hand are older than 15 min, or lack the one that it names.
    /// Must be called within a tokio runtime.
    pub async fn verify(&self, token: &str) -> Result<Verified, WorkloadError> {
        let token = Unverified::read(token)?;
        // Not believed yet: it only says whose keys to check with.
        let issuer = token.issuer().ok_or(WorkloadError::UnknownIssuer)?;
        let source = self.inner.sources.iter().find(|source| source.issuer.url == issuer);
        let source = source.ok_or(WorkloadError::UnknownIssuer)?;
        let Issuer { name, audiences, .. } = &source.issuer;
        let key = source.verify(&token).await.map_err(|untrue| match untrue {
            Untrue::Keys(error) => WorkloadError::Keys { issuer: name.clone(), source: error },
            Untrue::Key(error) => error.into(),
        })?;
        verify::accept(&token.payload, name, audiences, key, self.inner.clock.now())
    }

    /// Whether the key that signed a token that counted is still among its issuer's, and these are fresh. If not,
    /// [`Workloads::verify`] has to say again whether it counts. Its time is not looked at.
    pub fn still_trusts(&self, verified: &Verified) -> bool {
        let mut sources = self.inner.sources.iter();
        sources
            .find(|source| source.issuer.name == verified.workload.issuer)
            .is_some_and(|source| source.trusts(&verified.key))
    }
}
