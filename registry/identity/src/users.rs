//! Accounts as others see them: who there is, what they may do to the registry as a whole, and their end.
//!
//! The rights are checked here, so that every protocol that shows accounts keeps the same ones.

use granary_core::{Principal, SubjectName};
use granary_store::{DbError, Scope};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Row;

use crate::accounts::{AccountError, Accounts, account_document, audit, read_name, token_document};
use crate::caller::Caller;
use crate::people::Whence;
use crate::service::Identity;

/// What somebody may do to the registry as a whole. Rights over channels come from grants alone, but for an owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerRole {
    /// May make channels, where the registry lets anybody make some.
    Member,
    /// May also see all accounts, and make members.
    Maintainer,
    /// An admin of the registry: may do everything.
    Owner,
}

impl ServerRole {
    /// The name, as the database and the clients have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Maintainer => "maintainer",
            Self::Owner => "owner",
        }
    }

    fn read(text: &str) -> Result<Self, DbError> {
        let roles = [Self::Member, Self::Maintainer, Self::Owner];
        let role = roles.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| DbError::decode("server role", format!("{text:?} is none")))
    }
}

/// An account that may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: SubjectName,
    /// What it may do to the registry as a whole.
    pub role: Option<ServerRole>,
}

/// Some of a list, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// These.
    pub items: Vec<T>,
    /// All, those that were left out too.
    pub total: usize,
}

/// Why somebody may not look at an account, or change it.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody is logged in.
    #[error("Not logged in")]
    Anonymous,
    /// There is none of this name that the caller may see.
    #[error("User {0} not found")]
    Unknown(String),
    /// Another role is needed.
    #[error("this operation requires {0}")]
    Role(&'static str),
    /// Nobody would be left who may do everything.
    #[error("{0} is the only owner of this registry: make another one first")]
    LastOwner(SubjectName),
    /// The accounts could not be read or written.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl From<DbError> for UserError {
    fn from(error: DbError) -> Self {
        Self::Account(error.into())
    }
}

const ELEVATED: &str = "owner or maintainer roles";

impl Accounts {
    /// Sees to it that there is an account of this name, with this role where it is new: for the users of `granary dev`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn ensure_test_user(
        &self,
        name: &SubjectName,
        role: Option<ServerRole>,
    ) -> Result<(), AccountError> {
        let is_owner = role == Some(ServerRole::Owner);
        let below = role.map(ServerRole::as_str).filter(|_| !is_owner);
        let (no_hash, no_groups): (Option<&str>, Vec<&str>) = (None, Vec::new());
        let name = name.as_str();
        let mut tx = self.store.begin().await?;
        if tx.execute(&self.sql.insert_account, &[&name, &no_hash, &is_owner, &no_groups]).await? == 0 {
            return Ok(tx.rollback().await?);
        }
        tx.execute(&self.sql.set_server_role, &[&name, &is_owner, &below]).await?;
        tx.touch(Scope::REGISTRY, account_document(name));
        audit(&tx, "granary", "create account", json!({ "account": name, "role": role })).await?;
        Ok(tx.commit().await?)
    }
}

impl Identity {
    /// What the caller may do to the registry as a whole: nothing by a credential that is narrowed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn server_role(&self, caller: &Caller) -> Result<Option<ServerRole>, DbError> {
        if caller.is_admin() {
            return Ok(Some(ServerRole::Owner));
        }
        match &caller.principal {
            Principal::User { name, scope: None, .. } => {
                Ok(self.find_user(name.as_str()).await?.and_then(|user| user.role))
            }
            _ => Ok(None),
        }
    }

    async fn is_elevated(&self, caller: &Caller) -> Result<bool, DbError> {
        Ok(self.server_role(caller).await? >= Some(ServerRole::Maintainer))
    }

    fn user(&self, row: &Row) -> Result<User, DbError> {
        let name = read_name(row.try_get(0)?)?;
        let (admin, role): (bool, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
        let role = if admin || self.is_configured_admin(&name) {
            Some(ServerRole::Owner)
        } else {
            role.map(ServerRole::read).transpose()?
        };
        Ok(User { name, role })
    }

    /// The account of this name, whoever asks; none where it may not log in.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn find_user(&self, name: &str) -> Result<Option<User>, DbError> {
        let row = self.database().query_opt(&self.accounts().sql.user, &[&name]).await?;
        row.map(|row| self.user(&row)).transpose()
    }

    /// The account of this name. Others than one's own are for maintainers; for everybody else there are none.
    ///
    /// # Errors
    /// [`UserError`] also where the caller may not see it, which looks as if there were none.
    pub async fn see_user(&self, caller: &Caller, name: &str) -> Result<User, UserError> {
        let own = caller.account().map(SubjectName::as_str);
        if caller.is_anonymous() {
            return Err(UserError::Anonymous);
        }
        let unknown = || UserError::Unknown(name.to_owned());
        if own != Some(name) && !self.is_elevated(caller).await? {
            return Err(unknown());
        }
        self.find_user(name).await?.ok_or_else(unknown)
    }

    /// Accounts whose names hold this text, by their names: `limit` of them from the one after `skip` on, all without a limit.
    /// Who is no maintainer sees their own alone.
    ///
    /// # Errors
    /// [`UserError`] where nobody is logged in, or the database fails.
    pub async fn see_users(
        &self,
        caller: &Caller,
        holding: &str,
        skip: i64,
        limit: Option<i64>,
    ) -> Result<Page<User>, UserError> {
        if caller.is_anonymous() {
            return Err(UserError::Anonymous);
        }
        let only = match caller.account() {
            _ if self.is_elevated(caller).await? => None,
            // A workload has no account.
            None => return Ok(Page { items: Vec::new(), total: 0 }),
            Some(own) => Some(own.as_str()),
        };
        let sql = &self.accounts().sql;
        let rows = self.database().query(&sql.users, &[&holding, &only, &skip, &limit]).await?;
        let items = rows.iter().map(|row| self.user(row)).collect::<Result<_, _>>()?;
        let counted = self.database().query_opt(&sql.count_users, &[&holding, &only]).await?;
        let total = counted.map_or(Ok(0), |row| row.try_get::<_, i64>(0)).map_err(DbError::from)?;
        Ok(Page { items, total: usize::try_from(total).unwrap_or(usize::MAX) })
    }

    /// Gives an account another role. A maintainer makes members and takes that back; all else is an owner's.
    ///
    /// # Errors
    /// [`UserError`] where the caller may not.
    pub async fn set_server_role(
        &self,
        caller: &Caller,
        name: &str,
        role: Option<ServerRole>,
        whence: &Whence<'_>,
    ) -> Result<(), UserError> {
        if caller.is_anonymous() {
            return Err(UserError::Anonymous);
        }
        let own = self.server_role(caller).await?;
        let needed = if role > Some(ServerRole::Member) { "owner roles" } else { ELEVATED };
        if own < Some(ServerRole::Maintainer)
            || (role > Some(ServerRole::Member) && own != Some(ServerRole::Owner))
        {
            return Err(UserError::Role(needed));
        }
        let user = self.find_user(name).await?.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
        if user.role > Some(ServerRole::Member) && own != Some(ServerRole::Owner) {
            return Err(UserError::Role("owner roles"));
        }
        let accounts = self.accounts();
        let (is_owner, below) = (role == Some(ServerRole::Owner), role.map(ServerRole::as_str));
        let below = below.filter(|_| !is_owner);
        let mut tx = accounts.store.begin().await?;
        tx.execute(&accounts.sql.set_server_role, &[&name, &is_owner, &below]).await?;
        if !self.leaves_an_owner(&tx).await? {
            tx.rollback().await?;
            return Err(UserError::LastOwner(user.name));
        }
        tx.touch(Scope::REGISTRY, account_document(name));
        let detail = json!({ "account": name, "role": role });
        tx.audit(&whence.audit_entry(&caller.actor(), caller.credential(), "set server role", detail))
            .await?;
        Ok(tx.commit().await?)
    }

    async fn leaves_an_owner(&self, tx: &granary_store::PublishTx) -> Result<bool, DbError> {
        let any = tx.query_opt(&self.accounts().sql.any_admin, &[]).await?;
        Ok(any.is_some() || self.has_configured_admins())
    }

    /// Lets an account log in no more and ends its tokens, on all pods before their next request. What it was granted stays
    /// and is worth nothing; an admin may let it in again. One's own, or, for maintainers, somebody else's below them.
    ///
    /// # Errors
    /// [`UserError`] where the caller may not.
    pub async fn end_user(&self, caller: &Caller, name: &str, whence: &Whence<'_>) -> Result<(), UserError> {
        let user = self.see_user(caller, name).await?;
        let is_own = caller.account() == Some(&user.name);
        let own = self.server_role(caller).await?;
        if is_own && caller.principal.scope().is_some() {
            return Err(UserError::Role("a credential that is not narrowed"));
        }
        if !is_own && user.role >= own && own != Some(ServerRole::Owner) {
            return Err(UserError::Role("owner roles"));
        }
        let accounts = self.accounts();
        let mut tx = accounts.store.begin().await?;
        tx.execute(&accounts.sql.set_disabled, &[&name, &true]).await?;
        if !self.leaves_an_owner(&tx).await? {
            tx.rollback().await?;
            return Err(UserError::LastOwner(user.name));
        }
        for row in &tx.query(&accounts.sql.delete_tokens_of, &[&name]).await? {
            tx.touch(Scope::REGISTRY, token_document(row.try_get(0).map_err(DbError::from)?));
        }
        tx.touch(Scope::REGISTRY, account_document(name));
        let detail = json!({ "account": name });
        tx.audit(&whence.audit_entry(&caller.actor(), caller.credential(), "disable account", detail))
            .await?;
        Ok(tx.commit().await?)
    }
}
