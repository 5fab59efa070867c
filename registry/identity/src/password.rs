//! Passwords: argon2id, off the async threads, a bounded number at a time.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use granary_crds::PasswordCost;
use secrecy::{ExposeSecret, SecretString};

use crate::turns::{Full, Turn, Turns};

/// How many hashes are computed at a time: each takes 19 MiB for some 20 ms.
const AT_A_TIME: usize = 2;
/// How many more wait for their turn: those of some seconds.
const WAITING: usize = 256;

/// Why a password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The hash is not an argon2 hash in PHC form.
    #[error("the password hash is not an argon2 hash in PHC form ($argon2id$…)")]
    Hash(#[from] argon2::password_hash::Error),
    /// As above, in its text.
    #[error("the password hash is not an argon2 hash in PHC form ($argon2id$…)")]
    Phc(#[from] argon2::password_hash::phc::Error),
    /// The parameters are out of range.
    #[error("the argon2 parameters are out of range")]
    Parameters(#[from] argon2::Error),
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked")]
    Busy(#[from] Full),
    /// The process is stopping.
    #[error("the password check was interrupted")]
    Interrupted,
}

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Turns,
    params: Params,
    /// What a password is checked against when there is no account: an unknown name takes as long as a wrong word.
    nobody: Arc<str>,
}

/// The salt of nobody's hash.
const NOBODY: &[u8] = b"nobody-nobody-no";
/// Nobody's hash at the usual cost.
const NOBODYS_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keQ$4kHtoZnkCbUAFvKHmD0nTHyGBFRjJVHhYTiLjcYcFvA";

impl Default for Passwords {
    /// The smallest of the settings that OWASP recommends: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self { turns: Turns::new(AT_A_TIME, WAITING), params: Params::DEFAULT, nobody: NOBODYS_HASH.into() }
    }
}

impl Passwords {
    /// Hashes at this cost from now on. Hashes that exist carry their own.
    pub fn new(cost: PasswordCost) -> Result<Self, PasswordError> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)?;
        let nobody = hasher(&params).hash_password_with_salt(b"nobody", NOBODY)?.to_string().into();
        Ok(Self { params, nobody, ..Self::default() })
    }
}

fn hasher(params: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
}

impl Passwords {
    /// The hash of a password, in PHC form.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let hasher = hasher(&self.params);
        self.run(move || Ok(hasher.hash_password(password.expose_secret().as_bytes())?.to_string())).await
    }

    /// Whether the password fits the hash; takes as long when there is no hash.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
        self.verify_in(Arc::new(self.turn().await?), password, hash).await
    }

    /// Waits until another password can be checked.
    pub(crate) async fn turn(&self) -> Result<Turn, PasswordError> {
        Ok(self.turns.take().await?)
    }

    /// As [`Passwords::verify`], by who has a turn already.
    pub(crate) async fn verify_in(
        &self,
        turn: Arc<Turn>,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let nobody = Arc::clone(&self.nobody);
        run(turn, move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| nobody.to_string());
            let parsed = PasswordHash::new(&hash)?;
            // The hash carries its own parameters.
            let fits =
                Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok();
            Ok(known && fits)
        })
        .await
    }

    /// Checks that a text is a hash that [`Passwords::verify`] can use.
    pub fn check_hash(hash: &str) -> Result<(), PasswordError> {
        PasswordHash::new(hash)?;
        Ok(())
    }

    /// Runs work that takes a processor for long, after its turn has come.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        run(Arc::new(self.turn().await?), work).await
    }
}

async fn run<T: Send + 'static>(
    turn: Arc<Turn>,
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    tokio::task::spawn_blocking(move || {
        // Held until the hash is done, even when the request goes away: else a flood would pile up.
        let _turn = turn;
        work()
    })
    .await
    .map_err(|_| PasswordError::Interrupted)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(PasswordCost { memory_kib: 19_456, passes: 2, lanes: 1 }).unwrap()
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = passwords();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        assert!(!passwords().verify("anything".into(), None).await.unwrap());
    }
}
