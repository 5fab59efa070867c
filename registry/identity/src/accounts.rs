//! Accounts and tokens: making, listing and revoking them.

use granary_core::{SubjectName, TokenScope};
use granary_store::{AuditEntry, DbError, Param, PublishTx, Scope, Store};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::password::{PasswordError, Passwords};
use crate::sql::Statements;
use crate::token::TokenText;

/// Why an account or a token could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There is an account of this name.
    #[error("the account {0} exists already")]
    Exists(SubjectName),
    /// There is no account of this name.
    #[error("there is no account {0}")]
    Unknown(SubjectName),
    /// There is no such token.
    #[error("there is no token {0}")]
    UnknownToken(String),
}

/// A new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its name.
    pub name: SubjectName,
    /// Its password; without one it logs in by tokens only.
    pub password: Option<SecretString>,
    /// Whether it may do everything.
    pub admin: bool,
    /// The groups it is in.
    pub groups: Vec<SubjectName>,
}

/// What is known of a token besides its secret.
#[derive(Debug, Clone)]
pub struct TokenInfo {
    /// The public part.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// What it is narrowed to.
    pub scope: Option<TokenScope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last presented, to within a minute.
    pub last_used_at: Option<Timestamp>,
}

/// Accounts and tokens.
#[derive(Debug, Clone)]
pub struct Accounts {
    pub(crate) store: Store,
    pub(crate) sql: std::sync::Arc<Statements>,
    pub(crate) passwords: Passwords,
}

pub(crate) fn account_document(name: &str) -> String {
    format!("account:{name}")
}

pub(crate) fn token_document(id: &str) -> String {
    format!("token:{id}")
}

impl Accounts {
    /// Makes an account.
    pub async fn create(&self, by: &str, account: NewAccount) -> Result<(), AccountError> {
        let hash = match account.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let groups: Vec<&str> = account.groups.iter().map(SubjectName::as_str).collect();
        let mut tx = self.store.begin().await?;
        let name = account.name.as_str();
        if tx.execute(&self.sql.insert_account, &[&name, &hash, &account.admin, &groups]).await? == 0 {
            tx.rollback().await?;
            return Err(AccountError::Exists(account.name));
        }
        tx.touch(Scope::REGISTRY, account_document(name));
        audit(&tx, by, "create account", json!({ "account": name, "admin": account.admin })).await?;
        Ok(tx.commit().await?)
    }

    /// The hash of a password, as [`Accounts::ensure_admin`] takes it.
    pub async fn hash(&self, password: SecretString) -> Result<String, AccountError> {
        Ok(self.passwords.hash(password).await?)
    }

    /// Sees to it that an admin of this name exists, without touching the password of one that does.
    /// True when the account was made.
    pub async fn ensure_admin(
        &self,
        name: &SubjectName,
        password_hash: Option<&str>,
    ) -> Result<bool, AccountError> {
        let mut tx = self.store.begin().await?;
        let groups: Vec<&str> = Vec::new();
        let made =
            tx.execute(&self.sql.insert_account, &[&name.as_str(), &password_hash, &true, &groups]).await?
                == 1;
        let raised = !made && tx.execute(&self.sql.make_admin, &[&name.as_str()]).await? == 1;
        if !made && !raised {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.touch(Scope::REGISTRY, account_document(name.as_str()));
        audit(&tx, "config", "create admin", json!({ "account": name.as_str() })).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Makes the first admin with its token, both or neither. Fails when there is an account of this name.
    pub async fn make_first_admin(&self, name: &SubjectName, token: &TokenText) -> Result<(), AccountError> {
        let (no_hash, no_groups): (Option<&str>, Vec<&str>) = (None, Vec::new());
        let (no_scope, no_end): (Option<Value>, Option<Timestamp>) = (None, None);
        let mut tx = self.store.begin().await?;
        if tx.execute(&self.sql.insert_account, &[&name.as_str(), &no_hash, &true, &no_groups]).await? == 0 {
            tx.rollback().await?;
            return Err(AccountError::Exists(name.clone()));
        }
        let sha256 = token.sha256();
        let label = "made at the first start";
        tx.execute(
            &self.sql.insert_token,
            &[&token.id(), &name.as_str(), &"api", &sha256.as_bytes().as_slice(), &label, &no_scope, &no_end],
        )
        .await?;
        tx.touch(Scope::REGISTRY, account_document(name.as_str()));
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        audit(&tx, "granary", "create admin", json!({ "account": name.as_str(), "token": token.id() }))
            .await?;
        Ok(tx.commit().await?)
    }

    /// Gives an account another password, which every pod asks for from its next request on.
    pub async fn set_password(
        &self,
        by: &str,
        account: &SubjectName,
        password: SecretString,
    ) -> Result<(), AccountError> {
        let hash = self.passwords.hash(password).await?;
        self.change(by, account, "set password", &self.sql.set_password, &hash).await
    }

    /// Lets an account log in no more, by whatever credential, or again.
    pub async fn set_disabled(
        &self,
        by: &str,
        account: &SubjectName,
        disabled: bool,
    ) -> Result<(), AccountError> {
        let action = if disabled { "disable account" } else { "enable account" };
        self.change(by, account, action, &self.sql.set_disabled, &disabled).await
    }

    /// Sets one column of an account by a statement that takes its name and the value.
    async fn change(
        &self,
        by: &str,
        account: &SubjectName,
        action: &'static str,
        statement: &str,
        value: Param<'_>,
    ) -> Result<(), AccountError> {
        let name = account.as_str();
        let mut tx = self.store.begin().await?;
        if tx.execute(statement, &[&name, value]).await? == 0 {
            tx.rollback().await?;
            return Err(AccountError::Unknown(account.clone()));
        }
        tx.touch(Scope::REGISTRY, account_document(name));
        audit(&tx, by, action, json!({ "account": name })).await?;
        Ok(tx.commit().await?)
    }

    /// Whether anybody may administer the registry.
    pub async fn any_admin(&self) -> Result<bool, AccountError> {
        Ok(self.store.database().query_opt(&self.sql.any_admin, &[]).await?.is_some())
    }

    /// Gives an account a new token; its text is shown once and cannot be had again.
    pub async fn add_token(
        &self,
        by: &str,
        account: &SubjectName,
        token: &TokenText,
        label: &str,
        scope: Option<&TokenScope>,
        expires_at: Option<Timestamp>,
    ) -> Result<(), AccountError> {
        self.insert_token(by, account, token, "api", label, scope, expires_at).await
    }

    /// Sees to it that this very token exists: for a token that was chosen before the server started.
    pub async fn ensure_token(&self, account: &SubjectName, token: &TokenText) -> Result<(), AccountError> {
        self.insert_token("config", account, token, "api", "from a file", None, None).await
    }

    #[expect(clippy::too_many_arguments, reason = "one row of a table")]
    async fn insert_token(
        &self,
        by: &str,
        account: &SubjectName,
        token: &TokenText,
        kind: &str,
        label: &str,
        scope: Option<&TokenScope>,
        expires_at: Option<Timestamp>,
    ) -> Result<(), AccountError> {
        let scope: Option<Value> = scope
            .map(serde_json::to_value)
            .transpose()
            .map_err(|error| DbError::decode("token scope", error))?;
        let mut tx = self.store.begin().await?;
        if tx.query_opt(&self.sql.account, &[&account.as_str()]).await?.is_none() {
            tx.rollback().await?;
            return Err(AccountError::Unknown(account.clone()));
        }
        let sha256 = token.sha256();
        let inserted = tx
            .execute(
                &self.sql.insert_token,
                &[
                    &token.id(),
                    &account.as_str(),
                    &kind,
                    &sha256.as_bytes().as_slice(),
                    &label,
                    &scope,
                    &expires_at,
                ],
            )
            .await?;
        if inserted == 0 {
            return Ok(tx.rollback().await?);
        }
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        audit(
            &tx,
            by,
            "create token",
            json!({ "account": account.as_str(), "token": token.id(), "scope": scope }),
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Ends a token, on all pods before their next request.
    pub async fn revoke_token(&self, by: &str, id: &str) -> Result<(), AccountError> {
        let mut tx = self.store.begin().await?;
        if tx.query_opt(&self.sql.delete_token, &[&id]).await?.is_none() {
            tx.rollback().await?;
            return Err(AccountError::UnknownToken(id.to_owned()));
        }
        tx.touch(Scope::REGISTRY, token_document(id));
        audit(&tx, by, "revoke token", json!({ "token": id })).await?;
        Ok(tx.commit().await?)
    }

    /// The tokens of an account.
    pub async fn tokens_of(&self, account: &SubjectName) -> Result<Vec<TokenInfo>, AccountError> {
        let rows = self.store.database().query(&self.sql.tokens_of, &[&account.as_str()]).await?;
        let read = |row: &tokio_postgres::Row| -> Result<TokenInfo, DbError> {
            let scope: Option<Value> = row.try_get(3)?;
            Ok(TokenInfo {
                id: row.try_get(0)?,
                label: row.try_get(2)?,
                scope: scope
                    .map(serde_json::from_value)
                    .transpose()
                    .map_err(|error| DbError::decode("token scope", error))?,
                created_at: row.try_get(4)?,
                expires_at: row.try_get(5)?,
                last_used_at: row.try_get(6)?,
            })
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }
}

async fn audit(tx: &PublishTx, by: &str, action: &'static str, detail: Value) -> Result<(), DbError> {
    tx.audit(&AuditEntry {
        actor: by.to_owned(),
        credential: "none".to_owned(),
        address: None,
        action,
        channel: None,
        package: None,
        detail,
        outcome: "done",
        request_id: None,
    })
    .await
}
