//! The exchange of a signed token for one of ours: once, for a short time, with the rights that the workload has.

use std::net::IpAddr;

use granary_core::Sha256;
use granary_store::DbError;
use jiff::{SignedDuration, Timestamp};

use super::{AuthError, Identity};
use crate::accounts::{AccountError, NewToken};
use crate::token::TokenText;
use crate::workloads::Verified;

/// How long a token lives that was made for a signed one.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// A token that was made for a signed one.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: TokenText,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The signed token is not good, or cannot be checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// It was exchanged before.
    #[error("the token was used before; ask its issuer for a new one")]
    Used,
    /// The new one could not be written down.
    #[error("the token")]
    Account(#[source] AccountError),
}

impl From<DbError> for MintError {
    fn from(error: DbError) -> Self {
        Self::Auth(AuthError::Database(error))
    }
}

impl Identity {
    /// Exchanges a signed token. On all pods together, each is taken once.
    pub async fn mint(&self, signed: &str, address: Option<IpAddr>) -> Result<Minted, MintError> {
        self.attempts.admit(None, address).await.map_err(AuthError::from)?;
        let verified = match self.workloads.verify(signed).await {
            Ok(verified) => verified,
            Err(error) if error.is_unavailable() => return Err(AuthError::Signed(error).into()),
            Err(error) => {
                self.attempts.failed(None, address).await?;
                return Err(AuthError::Signed(error).into());
            }
        };
        let id = id_of(signed, &verified);
        if !self.use_once(&verified.workload.issuer, &id, verified.expires_at).await? {
            return Err(MintError::Used);
        }
        let token = TokenText::generate(&mut rand::rng());
        let lifetime = self.accounts.max_token_lifetime.map_or(LIFETIME, |most| most.min(LIFETIME));
        let expires_at = self.clock.now() + lifetime;
        let new = NewToken { label: "exchanged", expires_at: Some(expires_at), ..NewToken::default() };
        let actor = verified.workload.to_string();
        let made = self.accounts.add_workload_token(&actor, &verified.workload, &token, &new).await;
        made.map_err(MintError::Account)?;
        Ok(Minted { token, expires_at })
    }
}

/// What tells a signed token from all others: its `jti`. One without is told by what was signed, since the same claims may
/// bear more than one valid signature.
fn id_of(signed: &str, verified: &Verified) -> String {
    verified.jti.clone().unwrap_or_else(|| {
        let content = signed.rsplit_once('.').map_or(signed, |(content, _)| content);
        format!("sha256:{}", Sha256::of(content.as_bytes()))
    })
}
