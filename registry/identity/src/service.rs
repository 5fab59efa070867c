//! From credentials to a caller, with what was checked before remembered for as long as it is true.
//!
//! The caller of [`Identity::authenticate`] has refreshed [`Scope::REGISTRY`] for the request: a token revoked
//! or a password changed before that moment no longer counts, on any pod.

mod check;
mod mint;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use granary_core::{Clock, Sha256, SubjectName};
use granary_crds::Logins;
use granary_store::{Database, DbError, Revisions, Scope, Stamp, Store};
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use rand::RngExt;
use secrecy::ExposeSecret;

use crate::accounts::{AccountError, Accounts, TokenKind};
use crate::attempts::{AttemptError, Attempts};
use crate::authenticators::{AuthenticatorError, Authenticators};
use crate::caller::Caller;
use crate::credential::Credential;
use crate::password::{PasswordError, Passwords};
use crate::providers::Providers;
use crate::sql::Statements;
use crate::token::TOKEN_PREFIX;
use crate::turns::Full;
use crate::workloads::{Verified, WorkloadError, Workloads};

pub use mint::{MintError, Minted};

/// How many credentials are remembered.
const REMEMBERED: u64 = 20_000;

/// Why nobody could be recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credential is wrong, has expired or belongs to a disabled account: one answer for all of these.
    #[error("the user name, password or token is not valid")]
    Invalid,
    /// The token of a workload is not good. What is wrong with it is told: whoever holds it can read it.
    #[error("the token is not valid")]
    Signed(#[source] WorkloadError),
    /// There were too many wrong credentials before this one.
    #[error("too many wrong passwords or tokens; wait before you try again")]
    LockedOut {
        /// For how long.
        retry_after: Duration,
    },
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked")]
    Busy(#[from] Full),
    /// A source of passwords cannot be asked.
    #[error("a source of passwords cannot be asked")]
    Authenticator(#[from] AuthenticatorError),
    /// The account could not be written down.
    #[error("the account")]
    Account(#[source] AccountError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A password could not be checked.
    #[error(transparent)]
    Password(PasswordError),
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy(full) => Self::Busy(full),
            error => Self::Password(error),
        }
    }
}

impl From<AttemptError> for AuthError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::LockedOut { retry_after } => Self::LockedOut { retry_after },
            AttemptError::Database(error) => Self::Database(error),
        }
    }
}

/// Whom an identity service asks, beside its own tables.
#[derive(Debug)]
pub struct Sources {
    /// Accounts that are admins whatever their rows say.
    pub admins: HashSet<SubjectName>,
    /// How passwords are hashed.
    pub passwords: Passwords,
    /// Who knows the passwords of others than the registry's own accounts.
    pub authenticators: Authenticators,
    /// Who signs for workloads.
    pub workloads: Workloads,
    /// How many wrong credentials are borne.
    pub logins: Logins,
    /// The most that a token's lifetime may be.
    pub max_token_lifetime: Option<SignedDuration>,
    /// Who says of people in a browser who they are.
    pub providers: Providers,
    /// How long a browser's session lasts.
    pub session_lifetime: SignedDuration,
}

/// A credential that was good, and for how long it is.
#[derive(Debug)]
struct Remembered {
    caller: Arc<Caller>,
    expires_at: Option<Timestamp>,
    /// The documents that it depends on, with the stamps they had.
    depends_on: Vec<(Arc<str>, Option<Stamp>)>,
    /// The token to note as used.
    token: Option<Arc<str>>,
    /// What an issuer signed, whose keys may change.
    signed: Option<Verified>,
}

/// Recognises callers.
#[derive(Debug, Clone)]
pub struct Identity {
    accounts: Accounts,
    authenticators: Authenticators,
    workloads: Workloads,
    attempts: Attempts,
    providers: Providers,
    session_lifetime: SignedDuration,
    revisions: Revisions,
    clock: Arc<dyn Clock>,
    remembered: Cache<Sha256, Arc<Remembered>>,
    /// Mixed into what the cache is keyed by, so that a dump of memory holds no plain hash of a password.
    pepper: [u8; 32],
    admins: Arc<HashSet<SubjectName>>,
    used: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl Identity {
    /// An identity service over the registry's accounts and other sources.
    pub fn new(store: &Store, sources: Sources) -> Self {
        let sql = Arc::new(Statements::new(store.database().schema()));
        Self {
            accounts: Accounts {
                store: store.clone(),
                sql,
                passwords: sources.passwords,
                max_token_lifetime: sources.max_token_lifetime,
            },
            authenticators: sources.authenticators,
            workloads: sources.workloads,
            attempts: Attempts::new(store, sources.logins),
            providers: sources.providers,
            session_lifetime: sources.session_lifetime,
            revisions: store.revisions().clone(),
            clock: Arc::clone(store.clock()),
            remembered: Cache::new(REMEMBERED),
            pepper: rand::rng().random(),
            admins: Arc::new(sources.admins),
            used: Arc::default(),
        }
    }

    /// Accounts and tokens.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Who signs for workloads.
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// Who says of people in a browser who they are.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// How long a browser's session lasts.
    pub fn session_lifetime(&self) -> SignedDuration {
        self.session_lifetime
    }

    /// Whether the configuration names this account as an admin.
    pub(crate) fn is_configured_admin(&self, name: &SubjectName) -> bool {
        self.admins.contains(name)
    }

    pub(crate) fn has_configured_admins(&self) -> bool {
        !self.admins.is_empty()
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Recognises the caller by the first of these credentials; with none, nobody in particular. `address` is where the
    /// request comes from, as far as that is known.
    ///
    /// Requests that come with the same credential at the same moment have it checked once.
    ///
    /// # Errors
    /// Shared by all who waited for the same check.
    pub async fn authenticate(
        &self,
        credentials: &[Credential],
        address: Option<IpAddr>,
    ) -> Result<Arc<Caller>, Arc<AuthError>> {
        let Some(credential) = credentials.first() else { return Ok(Arc::new(Caller::ANONYMOUS)) };
        let key = self.cache_key(credential);
        loop {
            if let Some(remembered) = self.recall(&key).await {
                self.note_use(&remembered);
                return Ok(Arc::clone(&remembered.caller));
            }
            let entry = self.remembered.entry(key);
            let entry = match entry.or_try_insert_with(self.admit(credential, address)).await {
                Ok(entry) => entry,
                // The browser keeps it: they are nobody in particular now, and may log in again.
                Err(error) if matches!(*error, AuthError::Invalid) && is_session(credential) => {
                    return Ok(Arc::new(Caller::ANONYMOUS));
                }
                Err(error) => return Err(error),
            };
            // What another request began may have missed what this one has to know: it has to be recalled.
            if entry.is_fresh() {
                let checked = entry.into_value();
                self.note_use(&checked);
                return Ok(Arc::clone(&checked.caller));
            }
        }
    }

    /// Checks a credential that is not remembered, unless there were too many wrong ones.
    async fn admit(
        &self,
        credential: &Credential,
        address: Option<IpAddr>,
    ) -> Result<Arc<Remembered>, AuthError> {
        let secret = match credential {
            Credential::Basic { user, password } if !is_token(password.expose_secret()) => {
                return self.check_password(user, password.clone(), address).await.map(Arc::new);
            }
            // pip and conan can only send a token as a password.
            Credential::Basic { password: secret, .. } | Credential::Token(secret) => secret.expose_secret(),
            // Nobody guesses 256 bits, and a cookie that has ended is sent again and again without anybody meaning it.
            Credential::Session(secret) => {
                let checked = self.check_token(secret.expose_secret(), TokenKind::Session).await;
                return checked.map(Arc::new);
            }
        };
        self.attempts.admit(None, address).await?;
        let checked = if Workloads::looks_like_token(secret) {
            self.check_signed(secret).await
        } else {
            self.check_token(secret, TokenKind::Api).await
        };
        if let Err(AuthError::Invalid | AuthError::Signed(_)) = &checked {
            self.attempts.failed(None, address).await?;
        }
        checked.map(Arc::new)
    }

    fn cache_key(&self, credential: &Credential) -> Sha256 {
        // What is good as the one is not as the other.
        let (kind, user, secret) = match credential {
            Credential::Token(text) => (b't', "", text),
            Credential::Session(text) => (b's', "", text),
            Credential::Basic { user, password } => (b'b', user.as_str(), password),
        };
        let secret = secret.expose_secret();
        let mut input = Vec::with_capacity(self.pepper.len() + 1 + user.len() + 1 + secret.len());
        input.extend_from_slice(&self.pepper);
        input.push(kind);
        input.extend_from_slice(user.as_bytes());
        input.push(0);
        input.extend_from_slice(secret.as_bytes());
        Sha256::of(&input)
    }

    /// What is known of a credential, if that is still true.
    async fn recall(&self, key: &Sha256) -> Option<Arc<Remembered>> {
        let remembered = self.remembered.get(key).await?;
        let unchanged = remembered
            .depends_on
            .iter()
            .all(|(document, stamp)| self.revisions.stamp(Scope::REGISTRY, document) == *stamp);
        let alive = remembered.expires_at.is_none_or(|end| end > self.clock.now());
        let trusted = remembered.signed.as_ref().is_none_or(|signed| self.workloads.still_trusts(signed));
        if unchanged && alive && trusted {
            return Some(remembered);
        }
        self.remembered.invalidate(key).await;
        None
    }

    fn stamped(&self, document: String) -> (Arc<str>, Option<Stamp>) {
        let stamp = self.revisions.stamp(Scope::REGISTRY, &document);
        (document.into(), stamp)
    }

    pub(crate) fn database(&self) -> &Database {
        self.accounts.store.database()
    }

    fn note_use(&self, remembered: &Remembered) {
        if let Some(id) = &remembered.token {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            if !used.contains(id) {
                used.insert(Arc::clone(id));
            }
        }
    }

    /// Writes down which tokens were used since the last call; called about once a minute.
    pub async fn flush_last_used(&self) -> Result<(), DbError> {
        let ids: Vec<String> = self
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|id| id.to_string())
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let written =
            self.database().execute(&self.accounts.sql.token_used, &[&ids, &self.clock.now()]).await;
        if written.is_err() {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.extend(ids.into_iter().map(Arc::from));
        }
        written.map(drop)
    }

    /// Removes what has ended: tokens that did so more than a day ago, lock-outs, logins, and the memory of tokens that were
    /// used up.
    pub async fn prune(&self) -> Result<u64, DbError> {
        let before = self.clock.now() - SignedDuration::from_hours(24);
        let tokens = self.database().execute(&self.accounts.sql.prune_tokens, &[&before]).await?;
        let logins = self.prune_logins().await? + self.prune_devices().await?;
        Ok(tokens + logins + self.attempts.prune().await? + self.prune_used().await?)
    }
}

const fn is_session(credential: &Credential) -> bool {
    matches!(credential, Credential::Session(_))
}

/// Whether a text is meant to be a token of ours.
fn is_token(text: &str) -> bool {
    text.starts_with(TOKEN_PREFIX) || Workloads::looks_like_token(text)
}
