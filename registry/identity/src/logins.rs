//! Logins in a browser: by a password, or by an identity provider that the browser is sent to and comes back from.
//!
//! Between the two, what has to be the same at both ends stands in a row that all pods see: keyed by the hash of the state,
//! bound to the browser by a cookie, and gone with the first that asks for it.

use std::sync::Arc;

use granary_core::{Sha256, SubjectName};
use granary_store::DbError;
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde_json::json;
use tokio_postgres::Row;

use crate::accounts::AccountError;
use crate::caller::{Caller, Recognition};
use crate::people::{Session, Whence};
use crate::providers::{Answered, Provider, ProviderError, Secrets};
use crate::random::Unguessable;
use crate::service::{AuthError, Identity};
use crate::token::TokenText;

/// How long somebody may take at the provider.
pub const LOGIN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// How many rows one statement removes at most.
const PRUNE_BATCH: i64 = 5000;
/// How many of them go when one is made, so that whoever begins logins and never ends them fills nothing.
const PRUNE_ALONG: i64 = 8;

/// Why nobody was logged in. The messages are for whoever sits at the browser.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such provider.
    #[error("there is no identity provider of this name")]
    UnknownProvider,
    /// The state is not known: used before, too old, or begun in another browser.
    #[error("this login is over, or was begun in another browser; begin again")]
    State,
    /// The provider, or the person there, said no, by this code (RFC 6749, section 4.1.2.1).
    #[error("the identity provider did not log you in: {0}")]
    Denied(String),
    /// The provider did not say who it is.
    #[error("the identity provider {provider} did not say who you are")]
    Provider {
        /// Its name.
        provider: SubjectName,
        /// Why not.
        source: ProviderError,
    },
    /// What the provider said was used before.
    #[error("what the identity provider said was used before; begin again")]
    Replayed,
    /// The name belongs to somebody else.
    #[error("the name {0} belongs to another account of this registry; ask its administrator")]
    Taken(SubjectName),
    /// The account may not log in.
    #[error("the account {0} is disabled")]
    Disabled(SubjectName),
    /// The name and the password do not belong together, or there is too much of that.
    #[error(transparent)]
    Auth(#[from] Arc<AuthError>),
}

impl From<AuthError> for LoginError {
    fn from(error: AuthError) -> Self {
        Self::Auth(Arc::new(error))
    }
}

impl From<DbError> for LoginError {
    fn from(error: DbError) -> Self {
        AuthError::Database(error).into()
    }
}

impl From<AccountError> for LoginError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Database(error) => error.into(),
            AccountError::Foreign(name) => Self::Taken(name),
            other => AuthError::Account(other).into(),
        }
    }
}

/// What a provider's answer carries, as the browser brings it.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// The provider that the path names.
    pub provider: &'a str,
    /// `state`.
    pub state: &'a Unguessable,
    /// What the browser's cookie holds.
    pub browser: &'a Unguessable,
    /// `code`, which the provider redeems.
    pub code: Option<&'a str>,
    /// `error`, in its place.
    pub error: Option<&'a str>,
    /// `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
}

/// A login that began.
struct Begun {
    provider: String,
    browser: Sha256,
    nonce: String,
    verifier: Unguessable,
    redirect_uri: String,
    next: String,
    expires_at: Timestamp,
}

impl Begun {
    fn read(row: &Row) -> Result<Self, DbError> {
        let browser: &[u8] = row.try_get(1)?;
        let verifier: &str = row.try_get(3)?;
        Ok(Self {
            provider: row.try_get(0)?,
            browser: browser.try_into().map_err(|error| DbError::decode("browser", error))?,
            nonce: row.try_get(2)?,
            verifier: verifier.parse().map_err(|error| DbError::decode("verifier", error))?,
            redirect_uri: row.try_get(4)?,
            next: row.try_get(5)?,
            expires_at: row.try_get(6)?,
        })
    }
}

impl Identity {
    fn provider(&self, name: &str) -> Result<&Provider, LoginError> {
        self.providers().get(name).ok_or(LoginError::UnknownProvider)
    }

    /// Begins a login at a provider, for the browser that holds this cookie. Returns where to send it. `next` is the page to go
    /// on with, which the caller has checked.
    pub async fn begin_login(
        &self,
        provider: &str,
        browser: &Unguessable,
        redirect_uri: &str,
        next: &str,
    ) -> Result<Url, LoginError> {
        let provider = self.provider(provider)?;
        let secrets = Secrets::generate(&mut rand::rng());
        let url = provider.authorization_url(redirect_uri, &secrets).await;
        let url = url.map_err(|source| LoginError::Provider { provider: provider.name().clone(), source })?;
        let (sql, now) = (&self.accounts().sql, self.clock().now());
        self.database().execute(&sql.prune_logins, &[&now, &PRUNE_ALONG]).await?;
        self.database()
            .execute(
                &sql.insert_login,
                &[
                    &secrets.state.sha256().as_bytes().as_slice(),
                    &provider.name().as_str(),
                    &browser.sha256().as_bytes().as_slice(),
                    &secrets.nonce.expose(),
                    &secrets.verifier.expose(),
                    &redirect_uri,
                    &next,
                    &(now + LOGIN_LIFETIME),
                ],
            )
            .await?;
        Ok(url)
    }

    /// Ends a login with what the provider answered. Returns the session, and the page to go on with.
    pub async fn finish_login(
        &self,
        callback: &Callback<'_>,
        whence: &Whence<'_>,
    ) -> Result<(Session, String), LoginError> {
        let provider = self.provider(callback.provider)?;
        let state = callback.state.sha256();
        // Used up before anything is asked: on all pods together, one request goes on.
        let row = self
            .database()
            .query_opt(&self.accounts().sql.take_login, &[&state.as_bytes().as_slice()])
            .await?;
        let begun = Begun::read(&row.ok_or(LoginError::State)?)?;
        if begun.provider != provider.name().as_str()
            || begun.browser != callback.browser.sha256()
            || begun.expires_at <= self.clock().now()
        {
            return Err(LoginError::State);
        }
        let failed = |source| LoginError::Provider { provider: provider.name().clone(), source };
        provider.check_issuer(callback.issuer).await.map_err(failed)?;
        let Some(code) = callback.code.filter(|_| callback.error.is_none()) else {
            return Err(LoginError::Denied(told(callback.error.unwrap_or("no code"))));
        };
        let answered = Answered {
            code,
            redirect_uri: &begun.redirect_uri,
            nonce: &begun.nonce,
            verifier: &begun.verifier,
        };
        let identified = provider.identify(&answered).await.map_err(failed)?;
        let accounts = self.accounts();
        let mut tx = accounts.store.begin().await?;
        if let Some((id, expires_at)) = &identified.used {
            // A provider may be an issuer for workloads too, by the same name.
            let issuer = format!("login:{}", provider.name());
            if tx.execute(&accounts.sql.use_jti, &[&issuer, id, expires_at]).await? == 0 {
                tx.rollback().await?;
                return Err(LoginError::Replayed);
            }
        }
        let (account, disabled) = match accounts
            .ensure_person(&mut tx, provider.name(), &identified.person)
            .await
        {
            Ok(account) => account,
            Err(error) => {
                if let AccountError::Foreign(name) = &error {
                    let (provider, subject) = (provider.name(), &identified.person.subject);
                    tracing::warn!(account = %name, %provider, subject, "the account belongs to somebody else");
                    tx.rollback().await?;
                }
                return Err(error.into());
            }
        };
        if disabled {
            tx.rollback().await?;
            let entry =
                whence.audit_entry(account.as_str(), provider.name().to_string(), "log in", json!({}));
            accounts.store.refused(&granary_store::AuditEntry { outcome: "refused", ..entry }).await?;
            return Err(LoginError::Disabled(account));
        }
        let session = self.new_session(account);
        accounts.insert_session(&mut tx, &session, provider.name().as_str(), whence).await?;
        tx.commit().await?;
        Ok((session, begun.next))
    }

    /// A session for somebody whose password was right just now. Of a caller who was recognised by anything else, an error: a
    /// token may be narrowed, and a session is not.
    pub async fn session_by_password(
        &self,
        caller: &Caller,
        whence: &Whence<'_>,
    ) -> Result<Session, LoginError> {
        let (Recognition::Password, Some(account)) = (&caller.recognition, caller.account()) else {
            return Err(AuthError::Invalid.into());
        };
        let session = self.new_session(account.clone());
        let mut tx = self.accounts().store.begin().await?;
        self.accounts().insert_session(&mut tx, &session, "password", whence).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// Begins a session of somebody who said nothing but a name: for the users that `granary dev` makes, and nobody else.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn session_of_test_user(
        &self,
        account: SubjectName,
        whence: &Whence<'_>,
    ) -> Result<Session, DbError> {
        let session = self.new_session(account);
        let mut tx = self.accounts().store.begin().await?;
        self.accounts().insert_session(&mut tx, &session, "test user", whence).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// Always a new one: nobody is logged in by a cookie that somebody else could have set before.
    fn new_session(&self, account: SubjectName) -> Session {
        let expires_at = self.clock().now() + self.session_lifetime();
        Session { token: TokenText::generate(&mut rand::rng()), account, expires_at }
    }

    /// Removes logins that were never ended. Says how many.
    pub(crate) async fn prune_logins(&self) -> Result<u64, DbError> {
        let (sql, now) = (&self.accounts().sql, self.clock().now());
        self.database().execute(&sql.prune_logins, &[&now, &PRUNE_BATCH]).await
    }
}

/// A code of an answer, of which anybody could have written anything: what RFC 6749 allows, and not much of it.
fn told(error: &str) -> String {
    let code: String =
        error.chars().filter(|c| c.is_ascii_alphanumeric() || "_-. ".contains(*c)).take(64).collect();
    if code.is_empty() { "without saying why".to_owned() } else { code }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_a_provider_says_is_told_without_what_could_mislead() {
        assert_eq!(told("access_denied"), "access_denied");
        assert_eq!(told("<b>call\n0800</b>"), "bcall0800b");
        assert_eq!(told(&"a".repeat(1000)).len(), 64);
        assert_eq!(told("\u{202e}"), "without saying why");
    }
}
