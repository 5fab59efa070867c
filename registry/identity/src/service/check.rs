//! The check of each kind of credential, for those that are not remembered.

use std::net::IpAddr;
use std::sync::Arc;

use granary_core::{Principal, SubjectName, TokenScope, Workload};
use granary_store::{DbError, Stamp};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use subtle::ConstantTimeEq as _;
use tokio_postgres::Row;

use super::{AuthError, Identity, Remembered};
use crate::accounts::{AccountError, TokenKind, account_document, read_name, token_document};
use crate::authenticators::{Known, Verdict};
use crate::caller::{Caller, Recognition};
use crate::token::TokenText;
use crate::turns::Turn;

/// Whose accounts the registry keeps itself, as the column `source` says it.
const LOCAL: &str = "local";

fn read(error: tokio_postgres::Error) -> AuthError {
    AuthError::Database(DbError::Postgres(error))
}

fn read_names(texts: Vec<&str>) -> Result<Vec<SubjectName>, DbError> {
    texts.into_iter().map(read_name).collect()
}

/// A column that holds JSON, or nothing.
fn read_json<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: usize,
    what: &'static str,
) -> Result<Option<T>, AuthError> {
    let value: Option<serde_json::Value> = row.try_get(column).map_err(read)?;
    Ok(value.map(serde_json::from_value).transpose().map_err(|error| DbError::decode(what, error))?)
}

impl Identity {
    /// A token of ours, which is carried as this kind.
    pub(super) async fn check_token(&self, text: &str, carried: TokenKind) -> Result<Remembered, AuthError> {
        let token: TokenText = text.parse().map_err(|_| AuthError::Invalid)?;
        // Stamps first: a change that comes after them makes what follows stale, never wrongly fresh.
        let own = self.stamped(token_document(token.id()));
        let row = self.database().query_opt(&self.accounts.sql.token, &[&token.id()]).await?;
        let row = row.ok_or(AuthError::Invalid)?;
        let account: Option<&str> = row.try_get(0).map_err(read)?;
        let (row, owner, depends_on) = match account {
            None => (Some(row), None, vec![own]),
            Some(name) => {
                let name = read_name(name)?;
                let account = self.stamped(account_document(name.as_str()));
                // The account was read before its stamp: read it again, now that a later change would be noticed.
                let again = self.database().query_opt(&self.accounts.sql.token, &[&token.id()]).await?;
                (again, Some(name), vec![own, account])
            }
        };
        let row = row.ok_or(AuthError::Invalid)?;
        let stored: &[u8] = row.try_get(2).map_err(read)?;
        let expires_at: Option<Timestamp> = row.try_get(4).map_err(read)?;
        let kind = TokenKind::read(row.try_get(1).map_err(read)?)?;
        if kind != carried
            || !bool::from(stored.ct_eq(token.sha256().as_bytes()))
            || expires_at.is_some_and(|end| end <= self.clock.now())
        {
            return Err(AuthError::Invalid);
        }
        let scope: Option<TokenScope> = read_json(&row, 3, "token scope")?;
        let principal = if let Some(name) = owner {
            let (admin, disabled): (bool, bool) =
                (row.try_get(5).map_err(read)?, row.try_get(6).map_err(read)?);
            if disabled {
                return Err(AuthError::Invalid);
            }
            let groups = read_names(row.try_get(7).map_err(read)?)?;
            let admin = admin || self.admins.contains(&name);
            Principal::User { name, groups, admin, scope }
        } else {
            let workload: Workload = read_json(&row, 8, "workload of a token")?.ok_or(AuthError::Invalid)?;
            // An issuer that is trusted no more takes what was made on its word with it.
            if !self.workloads.knows(&workload.issuer) {
                return Err(AuthError::Invalid);
            }
            Principal::Workload { workload, scope }
        };
        let id: Arc<str> = token.id().into();
        let recognition = match kind {
            TokenKind::Session => Recognition::Session(Arc::clone(&id)),
            TokenKind::Api => Recognition::Token(Arc::clone(&id)),
        };
        Ok(Remembered {
            caller: Arc::new(Caller { principal, recognition }),
            expires_at,
            depends_on,
            token: Some(id),
            signed: None,
        })
    }

    /// A token that an issuer signed for a workload.
    pub(super) async fn check_signed(&self, text: &str) -> Result<Remembered, AuthError> {
        let verified = self.workloads.verify(text).await.map_err(AuthError::Signed)?;
        let principal = Principal::Workload { workload: verified.workload.clone(), scope: None };
        let recognition = Recognition::Signed(verified.jti.as_deref().map(Arc::from));
        Ok(Remembered {
            caller: Arc::new(Caller { principal, recognition }),
            expires_at: Some(verified.expires_at),
            depends_on: Vec::new(),
            token: None,
            signed: Some(verified),
        })
    }

    /// A password: the registry's own accounts first, then whoever else knows some.
    ///
    /// It is looked at in a turn of which there are few, and which lasts until a wrong one is counted: of many guesses that are
    /// sent at once, all but the first few are refused.
    pub(super) async fn check_password(
        &self,
        user: &str,
        password: SecretString,
        address: Option<IpAddr>,
    ) -> Result<Remembered, AuthError> {
        self.attempts.admit(Some(user), address).await?;
        let name: Option<SubjectName> = user.parse().ok();
        let document = self.stamped(account_document(user));
        let row = match &name {
            Some(name) => self.database().query_opt(&self.accounts.sql.account, &[&name.as_str()]).await?,
            None => None,
        };
        let is_local = match &row {
            // Who has no password anywhere takes as long as who is not there.
            Some(row) => row.try_get::<_, &str>(4).map_err(read)? == LOCAL || self.authenticators.is_empty(),
            None => self.authenticators.is_empty(),
        };
        let turn = match &name {
            Some(_) if !is_local => Arc::new(self.authenticators.turn().await?),
            _ => Arc::new(self.accounts.passwords.turn().await?),
        };
        self.attempts.admit(Some(user), address).await?;
        let checked = match name {
            Some(name) if !is_local => self.check_elsewhere(name, password).await,
            name => self.check_here(&turn, name.zip(row), password, document).await,
        };
        match &checked {
            Ok(_) => self.attempts.succeeded(user, address).await?,
            Err(AuthError::Invalid) => self.attempts.failed(Some(user), address).await?,
            Err(_) => {}
        }
        drop(turn);
        checked
    }

    /// The password of one of the registry's own accounts; of nobody where there is none.
    async fn check_here(
        &self,
        turn: &Arc<Turn>,
        account: Option<(SubjectName, Row)>,
        password: SecretString,
        document: (Arc<str>, Option<Stamp>),
    ) -> Result<Remembered, AuthError> {
        let hash: Option<String> = match &account {
            Some((_, row)) => row.try_get(0).map_err(read)?,
            None => None,
        };
        let fits = self.accounts.passwords.verify_in(Arc::clone(turn), password, hash).await?;
        let (Some((name, row)), true) = (account, fits) else { return Err(AuthError::Invalid) };
        let (admin, disabled): (bool, bool) = (row.try_get(1).map_err(read)?, row.try_get(2).map_err(read)?);
        if disabled {
            return Err(AuthError::Invalid);
        }
        let groups = read_names(row.try_get(3).map_err(read)?)?;
        Ok(self.recognised(name, groups, admin, document, None))
    }

    /// A password that other sources may know.
    async fn check_elsewhere(
        &self,
        name: SubjectName,
        password: SecretString,
    ) -> Result<Remembered, AuthError> {
        match self.authenticators.check(&name, password).await? {
            Verdict::Right(known) => self.external(&name, known).await,
            Verdict::Unknown | Verdict::Wrong => Err(AuthError::Invalid),
        }
    }

    /// Somebody whom another source knows: they have an account here that says so.
    async fn external(&self, name: &SubjectName, known: Known) -> Result<Remembered, AuthError> {
        // Before the account is looked at, as everywhere.
        let document = self.stamped(account_document(name.as_str()));
        let admin = match self.accounts.ensure_external(name, &known.source, &known.groups).await {
            Ok(Some(admin)) => admin,
            Ok(None) => return Err(AuthError::Invalid),
            Err(AccountError::Foreign(_)) => {
                tracing::warn!(account = %name, source = %known.source, "the account belongs to another source");
                return Err(AuthError::Invalid);
            }
            Err(AccountError::Database(error)) => return Err(error.into()),
            Err(error) => return Err(AuthError::Account(error)),
        };
        let believed = SignedDuration::try_from(known.cache_for).unwrap_or(SignedDuration::ZERO);
        Ok(self.recognised(name.clone(), known.groups, admin, document, Some(self.clock.now() + believed)))
    }

    fn recognised(
        &self,
        name: SubjectName,
        groups: Vec<SubjectName>,
        admin: bool,
        document: (Arc<str>, Option<Stamp>),
        expires_at: Option<Timestamp>,
    ) -> Remembered {
        let admin = admin || self.admins.contains(&name);
        let principal = Principal::User { name, groups, admin, scope: None };
        Remembered {
            caller: Arc::new(Caller { principal, recognition: Recognition::Password }),
            expires_at,
            depends_on: vec![document],
            token: None,
            signed: None,
        }
    }
}
