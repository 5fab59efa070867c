//! Terminals that get a token by somebody's word in a browser: the device authorization grant (RFC 8628), in which this
//! registry is the authorization server. So it works with every way of logging in.

use granary_core::{SubjectName, TokenScope};
use granary_store::{DbError, Scope};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::accounts::{AccountError, NewToken, Owner, TokenKind, token_document};
use crate::attempts::{AttemptError, network_of};
use crate::caller::{Caller, Recognition};
use crate::people::Whence;
use crate::random::Unguessable;
use crate::service::Identity;
use crate::token::TokenText;

pub use crate::user_code::{UserCode, UserCodeError};

/// How long somebody may take to type the code.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// How often a terminal may ask, in seconds; and how much longer it has to wait if it asks sooner (section 3.5).
const INTERVAL: i32 = 5;
/// The longest that a terminal is made to wait, in seconds.
const LONGEST_INTERVAL: i32 = 60;
/// How long a token lives where nobody says.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How many terminals of one network may wait at a time: the more, the easier a code is guessed.
const WAITING: i64 = 50;
/// The longest label, in characters.
const MAX_LABEL: usize = 128;
/// How many rows one statement removes at most.
const PRUNE_BATCH: i64 = 5000;
/// How many codes are tried until one is free.
const TRIES: usize = 4;

/// Why a terminal gets no token, or nobody can say that it may have one.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Too many terminals of this network wait.
    #[error("too many terminals of your network wait for somebody to log in; try again in some minutes")]
    TooMany,
    /// The label is too long, or not printable.
    #[error("a label has at most {MAX_LABEL} characters, none of them a control character")]
    Label,
    /// There is no such code, or it is over.
    #[error("there is no terminal that waits with this code")]
    Unknown,
    /// Too many wrong codes came from there.
    #[error("too many wrong codes; try again in {} s", retry_after.as_secs())]
    LockedOut {
        /// When to try again; a whole number of seconds.
        retry_after: std::time::Duration,
    },
    /// Only somebody in a browser may give a terminal a token: what else is carried may be narrowed.
    #[error("log in with a browser to let a terminal in")]
    NoSession,
    /// The token could not be written down.
    #[error("the token")]
    Account(#[source] AccountError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<AttemptError> for DeviceError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::LockedOut { retry_after } => Self::LockedOut { retry_after },
            AttemptError::Database(error) => Self::Database(error),
        }
    }
}

/// What a terminal asks for.
#[derive(Debug)]
pub struct DeviceRequest {
    /// What the token is for.
    pub label: String,
    /// What it is narrowed to.
    pub scope: Option<TokenScope>,
    /// How long it lives; 30 days where nothing is said, and never longer than tokens may.
    pub lifetime: Option<SignedDuration>,
}

/// What a terminal is told at first (section 3.2).
#[derive(Debug)]
pub struct Terminal {
    /// By which it asks for its token.
    pub device_code: Unguessable,
    /// What the person types.
    pub user_code: UserCode,
    /// How long both count.
    pub expires_in: SignedDuration,
    /// How many seconds to wait between two questions.
    pub interval: i32,
}

/// What a person is asked, before they say yes.
#[derive(Debug)]
pub struct Asked {
    /// What the token is for, as the terminal says.
    pub label: String,
    /// What it is narrowed to.
    pub scope: Option<TokenScope>,
    /// How long it lives.
    pub lifetime: SignedDuration,
    /// Where the terminal is.
    pub address: Option<String>,
    /// When it asked.
    pub requested_at: Timestamp,
}

/// What a terminal is told when it asks for its token (section 3.5).
#[derive(Debug)]
pub enum DeviceAnswer {
    /// Nobody has said anything yet.
    Pending,
    /// As before, and it asks too often: it has to wait so many seconds between two questions from now on.
    SlowDown(i32),
    /// Somebody said no.
    Denied,
    /// Nobody said anything in time, or the code is none.
    Expired,
    /// Somebody said yes.
    Granted(Granted),
}

/// A token that a terminal gets, once.
#[derive(Debug)]
pub struct Granted {
    /// The token.
    pub token: TokenText,
    /// Whose it is.
    pub account: SubjectName,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A terminal's row, as it stands while it asks.
struct Waiting {
    expires_at: Timestamp,
    interval: i32,
    asked_at: Option<Timestamp>,
    account: Option<SubjectName>,
    refused: bool,
    label: String,
    scope: Option<TokenScope>,
    lifetime: SignedDuration,
}

impl Waiting {
    fn read(row: &Row) -> Result<Self, DbError> {
        let account: Option<&str> = row.try_get(3)?;
        Ok(Self {
            expires_at: row.try_get(0)?,
            interval: row.try_get(1)?,
            asked_at: row.try_get(2)?,
            account: account.map(crate::accounts::read_name).transpose()?,
            refused: row.try_get(4)?,
            label: row.try_get(5)?,
            scope: read_scope(row.try_get(6)?)?,
            lifetime: SignedDuration::from_secs(row.try_get(7)?),
        })
    }
}

fn read_scope(value: Option<Value>) -> Result<Option<TokenScope>, DbError> {
    value.map(serde_json::from_value).transpose().map_err(|error| DbError::decode("token scope", error))
}

impl Identity {
    /// A terminal asks for a token.
    pub async fn request_device(
        &self,
        request: &DeviceRequest,
        whence: &Whence<'_>,
    ) -> Result<Terminal, DeviceError> {
        if request.label.chars().count() > MAX_LABEL || request.label.contains(char::is_control) {
            return Err(DeviceError::Label);
        }
        let (sql, now) = (&self.accounts().sql, self.clock().now());
        let network =
            whence.address.map_or_else(|| "unknown".to_owned(), |address| network_of(address).to_string());
        let waiting = self.database().query_opt(&sql.count_devices, &[&network, &now]).await?;
        let waiting: i64 = waiting.map(|row| row.try_get(0)).transpose().map_err(DbError::from)?.unwrap_or(0);
        if waiting >= WAITING {
            return Err(DeviceError::TooMany);
        }
        let most = self.accounts().max_token_lifetime.unwrap_or(SignedDuration::MAX);
        let lifetime = request.lifetime.unwrap_or(TOKEN_LIFETIME).min(most).as_secs();
        let scope = request.scope.as_ref().map(serde_json::to_value).transpose();
        let scope = scope.map_err(|error| DbError::decode("token scope", error))?;
        let address = whence.address.map(|address| address.to_string());
        let device_code = Unguessable::generate(&mut rand::rng());
        for _ in 0..TRIES {
            let user_code = UserCode::generate(&mut rand::rng());
            let made = self
                .database()
                .execute(
                    &sql.insert_device,
                    &[
                        &device_code.sha256().as_bytes().as_slice(),
                        &user_code.letters(),
                        &request.label,
                        &scope,
                        &lifetime,
                        &address,
                        &network,
                        &now,
                        &(now + LIFETIME),
                        &INTERVAL,
                    ],
                )
                .await?;
            if made == 1 {
                return Ok(Terminal { device_code, user_code, expires_in: LIFETIME, interval: INTERVAL });
            }
        }
        Err(DeviceError::TooMany)
    }

    /// What the terminal with this code asks for. Wrong codes of an account, and of an address, are counted like wrong
    /// passwords.
    pub async fn device_request(
        &self,
        caller: &Caller,
        code: &UserCode,
        whence: &Whence<'_>,
    ) -> Result<Asked, DeviceError> {
        let counted = counted(caller)?;
        self.attempts().admit(Some(&counted), whence.address).await?;
        let (sql, now) = (&self.accounts().sql, self.clock().now());
        let row = self.database().query_opt(&sql.device_of_user, &[&code.letters(), &now]).await?;
        let Some(row) = row else {
            self.attempts().failed(Some(&counted), whence.address).await?;
            return Err(DeviceError::Unknown);
        };
        let read = |row: &Row| -> Result<Asked, DbError> {
            Ok(Asked {
                label: row.try_get(0)?,
                scope: read_scope(row.try_get(1)?)?,
                lifetime: SignedDuration::from_secs(row.try_get(2)?),
                address: row.try_get(3)?,
                requested_at: row.try_get(4)?,
            })
        };
        Ok(read(&row)?)
    }

    /// Says yes or no to a terminal, once, in the name of the caller, who has to have a session.
    pub async fn decide_device(
        &self,
        caller: &Caller,
        code: &UserCode,
        allow: bool,
        whence: &Whence<'_>,
    ) -> Result<(), DeviceError> {
        let counted = counted(caller)?;
        self.attempts().admit(Some(&counted), whence.address).await?;
        let account = caller.account().ok_or(DeviceError::NoSession)?;
        let account = allow.then(|| account.as_str());
        let (accounts, now) = (self.accounts(), self.clock().now());
        let tx = accounts.store.begin().await?;
        let params: [granary_store::Param<'_>; 4] = [&code.letters(), &now, &account, &!allow];
        if tx.execute(&accounts.sql.decide_device, &params).await? == 0 {
            tx.rollback().await?;
            self.attempts().failed(Some(&counted), whence.address).await?;
            return Err(DeviceError::Unknown);
        }
        let action = if allow { "allow terminal" } else { "refuse terminal" };
        tx.audit(&whence.audit_entry(&caller.actor(), caller.credential(), action, json!({}))).await?;
        Ok(tx.commit().await?)
    }

    /// A terminal asks for its token. It is given out once.
    pub async fn device_token(
        &self,
        code: &Unguessable,
        whence: &Whence<'_>,
    ) -> Result<DeviceAnswer, DeviceError> {
        let (accounts, now) = (self.accounts(), self.clock().now());
        let sql = &accounts.sql;
        let digest = code.sha256();
        let digest = digest.as_bytes().as_slice();
        let mut tx = accounts.store.begin().await?;
        let Some(row) = tx.query_opt(&sql.device, &[&digest]).await? else {
            tx.rollback().await?;
            return Ok(DeviceAnswer::Expired);
        };
        let waiting = Waiting::read(&row)?;
        let span = SignedDuration::from_secs(i64::from(waiting.interval));
        if waiting.asked_at.is_some_and(|at| now.duration_since(at) < span) {
            let interval = (waiting.interval + INTERVAL).min(LONGEST_INTERVAL);
            tx.execute(&sql.device_asked, &[&digest, &now, &interval]).await?;
            tx.commit().await?;
            return Ok(DeviceAnswer::SlowDown(interval));
        }
        let is_over = waiting.refused || waiting.expires_at <= now;
        let Some(account) = waiting.account.filter(|_| !is_over) else {
            if is_over {
                tx.execute(&sql.delete_device, &[&digest]).await?;
            } else {
                tx.execute(&sql.device_asked, &[&digest, &now, &waiting.interval]).await?;
            }
            tx.commit().await?;
            return Ok(match (waiting.refused, is_over) {
                (true, _) => DeviceAnswer::Denied,
                (false, true) => DeviceAnswer::Expired,
                (false, false) => DeviceAnswer::Pending,
            });
        };
        tx.execute(&sql.delete_device, &[&digest]).await?;
        let token = TokenText::generate(&mut rand::rng());
        let expires_at = now.checked_add(waiting.lifetime).unwrap_or(Timestamp::MAX);
        let label = if waiting.label.is_empty() { "terminal" } else { &waiting.label };
        let new = NewToken { label, scope: waiting.scope, expires_at: Some(expires_at), parent: None };
        accounts.insert_token(&tx, Owner::Account(&account), &token, TokenKind::Api, &new).await?;
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        let detail = json!({
            "account": account,
            "token": token.id(),
            "scope": new.scope,
            "expiresAt": expires_at,
            "madeBy": "terminal",
        });
        tx.audit(&whence.audit_entry(account.as_str(), "none".to_owned(), "create token", detail)).await?;
        tx.commit().await?;
        Ok(DeviceAnswer::Granted(Granted { token, account, expires_at }))
    }

    /// Removes terminals that waited in vain. Says how many.
    pub(crate) async fn prune_devices(&self) -> Result<u64, DbError> {
        let (sql, now) = (&self.accounts().sql, self.clock().now());
        self.database().execute(&sql.prune_devices, &[&now, &PRUNE_BATCH]).await
    }
}

/// By what wrong codes of somebody are counted: no account has a name with spaces.
fn counted(caller: &Caller) -> Result<String, DeviceError> {
    match (&caller.recognition, caller.account()) {
        (Recognition::Session(_), Some(account)) => Ok(format!("terminal codes of {account}")),
        _ => Err(DeviceError::NoSession),
    }
}
