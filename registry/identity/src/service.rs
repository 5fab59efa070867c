//! From credentials to a caller, with what was checked before remembered for as long as it is true.
//!
//! The caller of [`Identity::authenticate`] has refreshed [`Scope::REGISTRY`] for the request: a token revoked
//! or a password changed before that moment no longer counts, on any pod.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use granary_core::{Clock, Principal, Sha256, SubjectName, TokenScope};
use granary_store::{Database, DbError, Revisions, Scope, Stamp, Store};
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use rand::RngExt;
use secrecy::ExposeSecret;

use crate::accounts::{Accounts, account_document, token_document};
use crate::caller::{Caller, Recognition};
use crate::credential::Credential;
use crate::password::{PasswordError, Passwords};
use crate::sql::Statements;
use crate::token::{TOKEN_PREFIX, TokenText};

/// How many credentials are remembered.
const REMEMBERED: u64 = 20_000;

/// Why nobody could be recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credential is wrong, has expired or belongs to a disabled account: one answer for all of these.
    #[error("the user name, password or token is not valid")]
    Invalid,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A password could not be checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
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
}

/// Recognises callers.
#[derive(Debug, Clone)]
pub struct Identity {
    accounts: Accounts,
    revisions: Revisions,
    clock: Arc<dyn Clock>,
    remembered: Cache<Sha256, Arc<Remembered>>,
    /// Mixed into what the cache is keyed by, so that a dump of memory holds no plain hash of a password.
    pepper: [u8; 32],
    admins: Arc<HashSet<SubjectName>>,
    used: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl Identity {
    /// An identity service over the registry's accounts; `admins` are admins whatever their rows say.
    pub fn new(store: &Store, admins: impl IntoIterator<Item = SubjectName>) -> Self {
        let sql = Arc::new(Statements::new(store.database().schema()));
        Self {
            accounts: Accounts { store: store.clone(), sql, passwords: Passwords::default() },
            revisions: store.revisions().clone(),
            clock: Arc::clone(store.clock()),
            remembered: Cache::new(REMEMBERED),
            pepper: rand::rng().random(),
            admins: Arc::new(admins.into_iter().collect()),
            used: Arc::default(),
        }
    }

    /// Accounts and tokens.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Recognises the caller by the first of these credentials; with none, nobody in particular.
    pub async fn authenticate(&self, credentials: &[Credential]) -> Result<Arc<Caller>, AuthError> {
        let Some(credential) = credentials.first() else { return Ok(Arc::new(Caller::ANONYMOUS)) };
        let key = self.cache_key(credential);
        if let Some(caller) = self.recall(&key) {
            return Ok(caller);
        }
        let checked = Arc::new(match credential {
            Credential::Token(text) | Credential::Session(text) => {
                self.check_token(text.expose_secret()).await?
            }
            Credential::Basic { password, .. } if password.expose_secret().starts_with(TOKEN_PREFIX) => {
                self.check_token(password.expose_secret()).await?
            }
            Credential::Basic { user, password } => self.check_password(user, password.clone()).await?,
        });
        self.note_use(&checked);
        let caller = Arc::clone(&checked.caller);
        self.remembered.insert(key, checked);
        Ok(caller)
    }

    fn cache_key(&self, credential: &Credential) -> Sha256 {
        let (user, secret) = match credential {
            Credential::Token(text) | Credential::Session(text) => ("", text),
            Credential::Basic { user, password } => (user.as_str(), password),
        };
        let secret = secret.expose_secret();
        let mut input = Vec::with_capacity(self.pepper.len() + user.len() + 1 + secret.len());
        input.extend_from_slice(&self.pepper);
        input.extend_from_slice(user.as_bytes());
        input.push(0);
        input.extend_from_slice(secret.as_bytes());
        Sha256::of(&input)
    }

    fn recall(&self, key: &Sha256) -> Option<Arc<Caller>> {
        let remembered = self.remembered.get(key)?;
        let unchanged = remembered
            .depends_on
            .iter()
            .all(|(document, stamp)| self.revisions.stamp(Scope::REGISTRY, document) == *stamp);
        let alive = remembered.expires_at.is_none_or(|end| end > self.clock.now());
        if unchanged && alive {
            self.note_use(&remembered);
            Some(Arc::clone(&remembered.caller))
        } else {
            self.remembered.invalidate(key);
            None
        }
    }

    fn stamped(&self, document: String) -> (Arc<str>, Option<Stamp>) {
        let stamp = self.revisions.stamp(Scope::REGISTRY, &document);
        (document.into(), stamp)
    }

    async fn check_token(&self, text: &str) -> Result<Remembered, AuthError> {
        let token: TokenText = text.parse().map_err(|_| AuthError::Invalid)?;
        // Stamps first: a change that comes after them makes what follows stale, never wrongly fresh.
        let own = self.stamped(token_document(token.id()));
        let row = self.database().query_opt(&self.accounts.sql.token, &[&token.id()]).await?;
        let row = row.ok_or(AuthError::Invalid)?;
        let stored: &[u8] = row.try_get(2).map_err(DbError::from)?;
        let name: SubjectName = read_name(row.try_get(0).map_err(DbError::from)?)?;
        let account = self.stamped(account_document(name.as_str()));
        // The account was read before its stamp: read it again, now that a later change would be noticed.
        let row = match self.database().query_opt(&self.accounts.sql.token, &[&token.id()]).await? {
            Some(row) if equal(stored, token.sha256().as_bytes()) => row,
            _ => return Err(AuthError::Invalid),
        };
        let read = |error| AuthError::Database(DbError::Postgres(error));
        let kind: &str = row.try_get(1).map_err(read)?;
        let scope: Option<serde_json::Value> = row.try_get(3).map_err(read)?;
        let expires_at: Option<Timestamp> = row.try_get(4).map_err(read)?;
        let (admin, disabled): (bool, bool) = (row.try_get(5).map_err(read)?, row.try_get(6).map_err(read)?);
        if disabled || expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(AuthError::Invalid);
        }
        let scope: Option<TokenScope> = scope
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::decode("token scope", error))?;
        let groups = read_names(row.try_get(7).map_err(read)?)?;
        let id: Arc<str> = token.id().into();
        let recognition = match kind {
            "session" => Recognition::Session(Arc::clone(&id)),
            _ => Recognition::Token(Arc::clone(&id)),
        };
        let admin = admin || self.admins.contains(&name);
        let caller = Caller { principal: Principal::User { name, groups, admin, scope }, recognition };
        Ok(Remembered {
            caller: Arc::new(caller),
            expires_at,
            depends_on: vec![own, account],
            token: Some(id),
        })
    }

    async fn check_password(
        &self,
        user: &str,
        password: secrecy::SecretString,
    ) -> Result<Remembered, AuthError> {
        let name: Option<SubjectName> = user.parse().ok();
        let document = self.stamped(account_document(user));
        let row = match &name {
            Some(name) => self.database().query_opt(&self.accounts.sql.account, &[&name.as_str()]).await?,
            None => None,
        };
        let read = |error| AuthError::Database(DbError::Postgres(error));
        let hash: Option<String> = match &row {
            Some(row) => row.try_get(0).map_err(read)?,
            None => None,
        };
        let fits = self.accounts.passwords.verify(password, hash).await?;
        let (Some(name), Some(row), true) = (name, row, fits) else { return Err(AuthError::Invalid) };
        let (admin, disabled): (bool, bool) = (row.try_get(1).map_err(read)?, row.try_get(2).map_err(read)?);
        if disabled {
            return Err(AuthError::Invalid);
        }
        let groups = read_names(row.try_get(3).map_err(read)?)?;
        let admin = admin || self.admins.contains(&name);
        let caller = Caller {
            principal: Principal::User { name, groups, admin, scope: None },
            recognition: Recognition::Password,
        };
        Ok(Remembered { caller: Arc::new(caller), expires_at: None, depends_on: vec![document], token: None })
    }

    fn database(&self) -> &Database {
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

    /// Removes tokens that ended more than a day ago.
    pub async fn prune_tokens(&self) -> Result<u64, DbError> {
        let before = self.clock.now() - SignedDuration::from_hours(24);
        self.database().execute(&self.accounts.sql.prune_tokens, &[&before]).await
    }
}

/// Compares without telling by its duration how much was equal.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn read_name(text: &str) -> Result<SubjectName, DbError> {
    text.parse().map_err(|error: granary_core::NameError| DbError::decode("account name", error))
}

fn read_names(texts: Vec<&str>) -> Result<Vec<SubjectName>, DbError> {
    texts.into_iter().map(read_name).collect()
}
