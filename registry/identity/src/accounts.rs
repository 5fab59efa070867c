//! Accounts and tokens: making, listing and revoking them.

use granary_core::{SubjectName, TokenScope, Workload};
use granary_store::{AuditEntry, DbError, Param, PublishTx, Scope, Store};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Serialize;
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
    /// The account belongs to another source of passwords, or to the registry itself.
    #[error("the account {0} belongs to another source")]
    Foreign(SubjectName),
    /// Tokens may not live so long here.
    #[error("a token of this registry lives at most {0:#}")]
    Lifetime(SignedDuration),
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

/// A new token, beside its text.
#[derive(Debug, Clone, Default)]
pub struct NewToken<'a> {
    /// What it is for.
    pub label: &'a str,
    /// What it is narrowed to.
    pub scope: Option<TokenScope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// The token that made it: when that one is revoked, so is this.
    pub parent: Option<&'a str>,
}

/// For whom a token acts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    Account(&'a SubjectName),
    Workload(&'a Workload),
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
    /// Whose it is; nobody's when it is a workload's.
    pub account: Option<SubjectName>,
    /// What it is carried as.
    pub kind: TokenKind,
}

/// What a token is carried as. Each is taken as that alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A credential that programs send.
    Api,
    /// A browser's cookie.
    Session,
}

impl TokenKind {
    /// As the database has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Session => "session",
        }
    }

    pub(crate) fn read(text: &str) -> Result<Self, DbError> {
        let kinds = [Self::Api, Self::Session];
        let kind = kinds.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| DbError::decode("token kind", format!("{text:?} is none")))
    }
}

/// Accounts and tokens.
#[derive(Debug, Clone)]
pub struct Accounts {
    pub(crate) store: Store,
    pub(crate) sql: std::sync::Arc<Statements>,
    pub(crate) passwords: Passwords,
    pub(crate) max_token_lifetime: Option<SignedDuration>,
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
        let mut tx = self.store.begin().await?;
        if tx.execute(&self.sql.insert_account, &[&name.as_str(), &no_hash, &true, &no_groups]).await? == 0 {
            tx.rollback().await?;
            return Err(AccountError::Exists(name.clone()));
        }
        let new = NewToken { label: "made at the first start", ..NewToken::default() };
        self.insert_token(&tx, Owner::Account(name), token, TokenKind::Api, &new).await?;
        tx.touch(Scope::REGISTRY, account_document(name.as_str()));
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        audit(&tx, "granary", "create admin", json!({ "account": name.as_str(), "token": token.id() }))
            .await?;
        Ok(tx.commit().await?)
    }

    /// Sees to it that somebody whom a source of passwords knows has an account, in these groups. Returns whether it is an
    /// admin's, and nothing where it is disabled.
    pub(crate) async fn ensure_external(
        &self,
        name: &SubjectName,
        source: &SubjectName,
        groups: &[SubjectName],
    ) -> Result<Option<bool>, AccountError> {
        let groups: Vec<&str> = groups.iter().map(SubjectName::as_str).collect();
        let mut tx = self.store.begin().await?;
        let made =
            tx.execute(&self.sql.insert_external, &[&name.as_str(), &source.as_str(), &groups]).await? == 1;
        let row = tx.query_opt(&self.sql.account, &[&name.as_str()]).await?;
        let row = row.ok_or_else(|| AccountError::Unknown(name.clone()))?;
        let read = |error| AccountError::Database(DbError::Postgres(error));
        let (admin, disabled): (bool, bool) = (row.try_get(1).map_err(read)?, row.try_get(2).map_err(read)?);
        let (known, owner): (Vec<&str>, &str) =
            (row.try_get(3).map_err(read)?, row.try_get(4).map_err(read)?);
        if owner != source.as_str() {
            tx.rollback().await?;
            return Err(AccountError::Foreign(name.clone()));
        }
        if self.settle(&mut tx, source.as_str(), name.as_str(), (made, &known), &groups).await? {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok((!disabled).then_some(admin))
    }

    /// Puts the account of another source in the groups that it is in there; `before` is whether it was made just now, and the
    /// groups it has. Says whether there is anything to commit.
    pub(crate) async fn settle(
        &self,
        tx: &mut PublishTx,
        source: &str,
        account: &str,
        (made, known): (bool, &[&str]),
        groups: &[&str],
    ) -> Result<bool, DbError> {
        let moved = known != groups;
        if moved {
            tx.execute(&self.sql.set_groups, &[&account, &groups]).await?;
        }
        if made || moved {
            tx.touch(Scope::REGISTRY, account_document(account));
            let detail = json!({ "account": account, "groups": groups });
            audit(tx, source, if made { "create account" } else { "set groups" }, detail).await?;
        }
        Ok(made || moved)
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

    /// Whether an account is an admin's, and the groups that it is in; nothing when there is none of this name.
    pub async fn standing(
        &self,
        account: &SubjectName,
    ) -> Result<Option<(bool, Vec<SubjectName>)>, AccountError> {
        let row = self.store.database().query_opt(&self.sql.account, &[&account.as_str()]).await?;
        let Some(row) = row else { return Ok(None) };
        let admin = row.try_get(1).map_err(DbError::from)?;
        let groups: Vec<&str> = row.try_get(3).map_err(DbError::from)?;
        Ok(Some((admin, groups.into_iter().map(read_name).collect::<Result<_, _>>()?)))
    }

    /// Gives an account a new token; its text is shown once and cannot be had again.
    pub async fn add_token(
        &self,
        by: &str,
        account: &SubjectName,
        token: &TokenText,
        new: &NewToken<'_>,
    ) -> Result<(), AccountError> {
        self.check_lifetime(new)?;
        self.make_token(by, Owner::Account(account), token, new).await
    }

    /// Gives a workload a token. It acts for the workload with the claims that it has now.
    pub async fn add_workload_token(
        &self,
        by: &str,
        workload: &Workload,
        token: &TokenText,
        new: &NewToken<'_>,
    ) -> Result<(), AccountError> {
        self.check_lifetime(new)?;
        self.make_token(by, Owner::Workload(workload), token, new).await
    }

    /// Sees to it that this very token exists: for a token that was chosen before the server started.
    pub async fn ensure_token(&self, account: &SubjectName, token: &TokenText) -> Result<(), AccountError> {
        let new = NewToken { label: "from a file", ..NewToken::default() };
        self.make_token("config", Owner::Account(account), token, &new).await
    }

    fn check_lifetime(&self, new: &NewToken<'_>) -> Result<(), AccountError> {
        let Some(most) = self.max_token_lifetime else { return Ok(()) };
        let end = self.store.clock().now() + most;
        if new.expires_at.is_some_and(|expires_at| expires_at <= end) {
            Ok(())
        } else {
            Err(AccountError::Lifetime(most))
        }
    }

    async fn make_token(
        &self,
        by: &str,
        owner: Owner<'_>,
        token: &TokenText,
        new: &NewToken<'_>,
    ) -> Result<(), AccountError> {
        let mut tx = self.store.begin().await?;
        if let Owner::Account(account) = owner
            && tx.query_opt(&self.sql.account, &[&account.as_str()]).await?.is_none()
        {
            tx.rollback().await?;
            return Err(AccountError::Unknown(account.clone()));
        }
        if self.insert_token(&tx, owner, token, TokenKind::Api, new).await? == 0 {
            return Ok(tx.rollback().await?);
        }
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        let whose = match owner {
            Owner::Account(account) => account.to_string(),
            Owner::Workload(workload) => workload.to_string(),
        };
        let detail = json!({
            "account": whose,
            "token": token.id(),
            "scope": new.scope,
            "expiresAt": new.expires_at,
            "madeBy": new.parent,
        });
        audit(&tx, by, "create token", detail).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn insert_token(
        &self,
        tx: &PublishTx,
        owner: Owner<'_>,
        token: &TokenText,
        kind: TokenKind,
        new: &NewToken<'_>,
    ) -> Result<u64, DbError> {
        let encode = |error| DbError::decode("token", error);
        let scope = new.scope.as_ref().map(serde_json::to_value).transpose().map_err(encode)?;
        let (account, workload) = match owner {
            Owner::Account(account) => (Some(account.as_str()), None),
            Owner::Workload(workload) => (None, Some(serde_json::to_value(workload).map_err(encode)?)),
        };
        let sha256 = token.sha256();
        tx.execute(
            &self.sql.insert_token,
            &[
                &token.id(),
                &account,
                &workload,
                &kind.as_str(),
                &sha256.as_bytes().as_slice(),
                &new.label,
                &scope,
                &new.expires_at,
                &new.parent,
            ],
        )
        .await
    }

    /// What is known of one token.
    pub async fn token(&self, id: &str) -> Result<TokenInfo, AccountError> {
        let row = self.store.database().query_opt(&self.sql.token_info, &[&id]).await?;
        let row = row.ok_or_else(|| AccountError::UnknownToken(id.to_owned()))?;
        Ok(read_token(&row)?)
    }

    /// Ends a token and all that were made by it, on all pods before their next request.
    pub async fn revoke_token(&self, by: &str, id: &str) -> Result<(), AccountError> {
        let mut tx = self.store.begin().await?;
        let ended = tx.query(&self.sql.delete_token, &[&id]).await?;
        if ended.is_empty() {
            tx.rollback().await?;
            return Err(AccountError::UnknownToken(id.to_owned()));
        }
        for row in &ended {
            tx.touch(Scope::REGISTRY, token_document(row.try_get(0).map_err(DbError::from)?));
        }
        audit(&tx, by, "revoke token", json!({ "token": id })).await?;
        Ok(tx.commit().await?)
    }

    /// The tokens of an account.
    pub async fn tokens_of(&self, account: &SubjectName) -> Result<Vec<TokenInfo>, AccountError> {
        let rows = self.store.database().query(&self.sql.tokens_of, &[&account.as_str()]).await?;
        Ok(rows.iter().map(read_token).collect::<Result<_, _>>()?)
    }
}

fn read_token(row: &tokio_postgres::Row) -> Result<TokenInfo, DbError> {
    let scope: Option<Value> = row.try_get(2)?;
    let account: Option<&str> = row.try_get(6)?;
    Ok(TokenInfo {
        id: row.try_get(0)?,
        label: row.try_get(1)?,
        scope: scope
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::decode("token scope", error))?,
        created_at: row.try_get(3)?,
        expires_at: row.try_get(4)?,
        last_used_at: row.try_get(5)?,
        account: account.map(read_name).transpose()?,
        kind: TokenKind::read(row.try_get(7)?)?,
    })
}

pub(crate) async fn audit(
    tx: &PublishTx,
    by: &str,
    action: &'static str,
    detail: Value,
) -> Result<(), DbError> {
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

/// An account's name as the database has it.
pub(crate) fn read_name(text: &str) -> Result<SubjectName, DbError> {
    text.parse().map_err(|error: granary_core::NameError| DbError::decode("account name", error))
}
