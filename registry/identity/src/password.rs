//! Passwords: argon2id, off the async threads, a bounded number at a time.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

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
    /// The process is stopping.
    #[error("the password check was interrupted")]
    Interrupted,
}

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Each hash takes 19 MiB for some 20 ms: so many at a time, the rest wait.
    running: Arc<Semaphore>,
}

/// What a password is checked against when there is no account: an unknown name takes as long as a wrong word.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keQ$4kHtoZnkCbUAFvKHmD0nTHyGBFRjJVHhYTiLjcYcFvA";

impl Default for Passwords {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(2)) }
    }
}

/// Argon2id with 19 MiB, two passes, one lane: the smallest of the settings that OWASP recommends.
fn hasher() -> Result<Argon2<'static>, PasswordError> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19_456, 2, 1, None)?))
}

impl Passwords {
    /// The hash of a password, in PHC form.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        self.run(move || Ok(hasher()?.hash_password(password.expose_secret().as_bytes())?.to_string())).await
    }

    /// Whether the password fits the hash; takes as long when there is no hash.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
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

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit =
            Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Interrupted)?;
        tokio::task::spawn_blocking(move || {
            // Held until the hash is done, even when the request goes away: else a flood would pile up.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|_| PasswordError::Interrupted)?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        assert!(!Passwords::default().verify("anything".into(), None).await.unwrap());
    }
}
