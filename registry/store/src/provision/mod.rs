//! The schema of a registry and the two roles that may use it, made by an administrator's connection, and which
//! schemas this program may write to.

mod catalogue;
mod scram;
mod version;

use std::time::Duration;

use granary_core::Sha256;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use crate::connection_string::ConnectionString;
use crate::database::{ConnectError, connect_directly, parse_url};
use crate::{DatabaseOptions, DbError, Schema};

use catalogue::{Catalogue, Role, RoleState};
pub use version::{SchemaVersion, Unwritable, WRITABLE, schema_version};

/// What begins the comments that say whose a schema or a role is.
const OWNER_MARK: &str = "granary.dev: ";
/// How long all of it may take, waiting for another operator included.
const LIMIT: Duration = Duration::from_mins(1);
/// The longest identifier that Postgres keeps whole, in bytes.
const MAX_IDENTIFIER: usize = 63;

/// A schema and two roles that shall be there.
#[derive(Debug, Clone)]
pub struct SchemaPlan {
    /// The schema.
    pub schema: Schema,
    /// Whose they are, such as `NAMESPACE/NAME`. Others' are never touched.
    pub owner_id: String,
    /// The password of the role that owns the schema, for migrations. Printable ASCII.
    pub owner_password: SecretString,
    /// The password of the role that reads and writes rows, for the pods. Printable ASCII.
    pub app_password: SecretString,
    /// Which of the two roles for pods is in use, and has `app_password`. The other one is left as it is.
    pub turn: Turn,
    /// Whether to set the passwords where the administrator may not read what they are now, which only a superuser
    /// may. Where they can be compared, they are set when they differ, whatever stands here.
    pub set_passwords: bool,
}

/// Two roles for the pods take turns: with another password comes the other role, so that pods of before can go on
/// until they are replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Turn {
    /// The one that a schema begins with.
    #[default]
    First,
    /// The other one.
    Second,
}

impl Turn {
    /// The one whose turn is next.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// What the role's name ends with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "app",
            Self::Second => "app2",
        }
    }
}

/// The roles of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Owns the schema and everything in it.
    pub owner: String,
    /// Reads and writes rows.
    pub app: String,
}

impl Roles {
    /// How the roles of a schema are named. Roles belong to a whole server, so the database is part of it.
    pub fn of(database: &str, schema: &Schema, turn: Turn) -> Self {
        let hash = &Sha256::of(format!("{database}/{schema}").as_bytes()).to_hex()[..8];
        let name = |end: &str| {
            let room = MAX_IDENTIFIER - hash.len() - end.len() - 2;
            // A schema's name is ASCII.
            let schema = &schema.as_str()[..schema.as_str().len().min(room)];
            format!("{schema}_{hash}_{end}")
        };
        Self { owner: name("owner"), app: name(turn.as_str()) }
    }
}

/// What [`ensure_schema`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The role that owns the schema.
    pub owner_role: String,
    /// The role of the pods.
    pub app_role: String,
    /// Whether anything was written.
    pub changed: bool,
}

/// Why a schema could not be provided.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionSchemaError {
    /// The database cannot be reached, or does not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The administrator's role lacks a right.
    #[error("the role `{role}` lacks a right: it needs CREATEROLE and, on the database, CREATE")]
    Denied {
        /// The administrator.
        role: String,
        /// What Postgres says.
        source: tokio_postgres::Error,
    },
    /// The schema is another registry's.
    #[error("the schema `{schema}` belongs to {by}")]
    SchemaClaimed {
        /// The schema.
        schema: String,
        /// Whose it is.
        by: String,
    },
    /// There is a schema of this name that no registry made.
    #[error("there is a schema `{schema}` already that no registry made; name another or remove it")]
    SchemaForeign {
        /// The schema.
        schema: String,
    },
    /// There is a role of this name that this registry did not make.
    #[error("there is a role `{role}` already that this registry did not make")]
    RoleForeign {
        /// The role.
        role: String,
        /// The registry that made it, where one did.
        by: Option<String>,
    },
    /// A password that Postgres and its clients could read in different ways.
    #[error("the password of the {0} role is not 1 to 256 printable ASCII characters")]
    Password(&'static str),
}

impl From<tokio_postgres::Error> for ProvisionSchemaError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl ProvisionSchemaError {
    /// Whether the database is out of reach, so that the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_unavailable(),
            Self::Database(error) => error.is_unavailable(),
            _ => false,
        }
    }

    /// Whether schema or role are somebody else's.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::SchemaClaimed { .. } | Self::SchemaForeign { .. } | Self::RoleForeign { .. })
    }
}

/// Makes the schema and its two roles what the plan says, creating what is missing, in one transaction. Doing it
/// again writes nothing. `admin.url` must lead to Postgres itself, not to a transaction-mode pooler; its role is a
/// superuser, or may create roles and has CREATE on the database. `admin.schema` is not looked at.
pub async fn ensure_schema(
    admin: &DatabaseOptions,
    plan: &SchemaPlan,
) -> Result<Provisioned, ProvisionSchemaError> {
    check_password("owner", &plan.owner_password)?;
    check_password("app", &plan.app_password)?;
    let work = async {
        let mut client = connect_directly(admin).await?;
        ensure(&mut client, plan).await
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(DbError::TimedOut.into()))
}

/// Takes the right to log in from the role for pods whose turn it is not. To be called once no pod uses it any more. True
/// when it had that right. A role that this registry did not make is not touched.
pub async fn retire_other_role(
    admin: &DatabaseOptions,
    plan: &SchemaPlan,
) -> Result<bool, ProvisionSchemaError> {
    let work = async {
        let mut client = connect_directly(admin).await?;
        let tx = client.transaction().await?;
        let database: String = tx.query_one("select current_database()::text", &[]).await?.try_get(0)?;
        let other = Roles::of(&database, &plan.schema, plan.turn.other()).app;
        let found = Catalogue { tx: &tx }.role(&other).await?;
        let mark = format!("{OWNER_MARK}{}", plan.owner_id);
        let is_used = found.is_some_and(|role| role.may_log_in() && role.comment.as_deref() == Some(&*mark));
        if is_used {
            tx.batch_execute(&format!("alter role {} nologin password null", quoted(&other))).await?;
            tx.commit().await?;
        }
        Ok(is_used)
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(DbError::TimedOut.into()))
}

fn check_password(whose: &'static str, password: &SecretString) -> Result<(), ProvisionSchemaError> {
    let text = password.expose_secret();
    let is_fine = (1..=256).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_fine { Ok(()) } else { Err(ProvisionSchemaError::Password(whose)) }
}

async fn ensure(client: &mut Client, plan: &SchemaPlan) -> Result<Provisioned, ProvisionSchemaError> {
    let tx = client.transaction().await?;
    let key = format!("granary schema {}", plan.schema);
    tx.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
    let admin = tx.query_one("select current_user::text, current_database()::text", &[]).await?;
    let (admin, database): (String, String) = (admin.try_get(0)?, admin.try_get(1)?);
    let roles = Roles::of(&database, &plan.schema, plan.turn);
    let mut changes = Changes { tx: &tx, admin: &admin, changed: false };
    changes.write(plan, &roles, &database).await?;
    let changed = changes.changed;
    if changed {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(Provisioned { owner_role: roles.owner, app_role: roles.app, changed })
}

/// What is written, only where the catalogue says that it is needed.
struct Changes<'a> {
    tx: &'a Transaction<'a>,
    admin: &'a str,
    changed: bool,
}

impl Changes<'_> {
    async fn write(
        &mut self,
        plan: &SchemaPlan,
        roles: &Roles,
        database: &str,
    ) -> Result<(), ProvisionSchemaError> {
        let catalogue = Catalogue { tx: self.tx };
        let (schema, mark) = (plan.schema.as_str(), format!("{OWNER_MARK}{}", plan.owner_id));
        let found = catalogue.schema(schema).await?;
        // Everything is looked at before the first thing is touched.
        if let Some(found) = &found {
            check_schema(schema, found.comment.as_deref(), &mark)?;
        }
        let passwords = [(&roles.owner, &plan.owner_password), (&roles.app, &plan.app_password)];
        let mut states = Vec::new();
        for (name, password) in passwords {
            let role = catalogue.role(name).await?;
            if let Some(role) = &role {
                check_role(name, role.comment.as_deref(), &mark)?;
            }
            states.push((name, password, role));
        }
        for (name, password, role) in states {
            self.write_role(name, password.expose_secret(), role, plan.set_passwords, &mark).await?;
            if !catalogue.may_connect(name).await? {
                self.run(format!("grant connect on database {} to {}", quoted(database), quoted(name)))
                    .await?;
            }
        }
        self.write_schema(schema, found, roles, &mark).await
    }

    async fn write_role(
        &mut self,
        name: &str,
        password: &str,
        found: Option<Role>,
        set_password: bool,
        mark: &str,
    ) -> Result<(), ProvisionSchemaError> {
        let quoted_name = quoted(name);
        let with_password = || format!("password {}", literal(&scram::verifier(password)));
        let Some(role) = found else {
            self.run(format!("create role {quoted_name} login {}", with_password())).await?;
            return self.run(format!("comment on role {quoted_name} is {}", literal(mark))).await;
        };
        let mut words: Vec<String> = role.unwanted().into_iter().map(str::to_owned).collect();
        let differs = match &role.verifier {
            RoleState::Known(verifier) => !scram::matches(verifier, password),
            RoleState::Hidden => set_password,
        };
        if differs {
            words.push(with_password());
        }
        if words.is_empty() {
            Ok(())
        } else {
            self.run(format!("alter role {quoted_name} {}", words.join(" "))).await
        }
    }

    async fn write_schema(
        &mut self,
        schema: &str,
        found: Option<catalogue::FoundSchema>,
        roles: &Roles,
        mark: &str,
    ) -> Result<(), ProvisionSchemaError> {
        let catalogue = Catalogue { tx: self.tx };
        let (name, owner, app) = (quoted(schema), quoted(&roles.owner), quoted(&roles.app));
        // To give the schema to its owner, and later to act as that.
        if !catalogue.may_become(&roles.owner).await? {
            self.run(format!("grant {owner} to {}", quoted(self.admin))).await?;
        }
        match found {
            None => {
                self.run(format!("create schema {name} authorization {owner}")).await?;
                self.run_as(&owner, format!("comment on schema {name} is {}", literal(mark))).await?;
            }
            Some(found) => {
                if found.owner != roles.owner {
                    self.run(format!("alter schema {name} owner to {owner}")).await?;
                }
                // Such as after a restore that left the owners out.
                for table in catalogue.tables_of_others(schema, &roles.owner).await? {
                    self.run(format!("alter table {name}.{} owner to {owner}", quoted(&table))).await?;
                }
            }
        }
        let rights = catalogue.rights(schema, roles).await?;
        if rights.public {
            self.run_as(&owner, format!("revoke all on schema {name} from public")).await?;
        }
        if !rights.usage {
            self.run_as(&owner, format!("grant usage on schema {name} to {app}")).await?;
        }
        if !rights.tables {
            let grant =
                format!("grant select, insert, update, delete on all tables in schema {name} to {app}");
            self.run_as(&owner, grant).await?;
        }
        if !rights.sequences {
            let grant = format!("grant usage, select on all sequences in schema {name} to {app}");
            self.run_as(&owner, grant).await?;
        }
        if !rights.defaults {
            let alter = format!("alter default privileges for role {owner} in schema {name}");
            self.run_as(&owner, format!("{alter} grant select, insert, update, delete on tables to {app}"))
                .await?;
            self.run_as(&owner, format!("{alter} grant usage, select on sequences to {app}")).await?;
        }
        Ok(())
    }

    async fn run(&mut self, statement: String) -> Result<(), ProvisionSchemaError> {
        self.changed = true;
        self.tx.batch_execute(&statement).await.map_err(|error| {
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                ProvisionSchemaError::Denied { role: self.admin.to_owned(), source: error }
            } else {
                error.into()
            }
        })
    }

    /// As another role: an administrator who is none of its members by inheritance may still become it.
    async fn run_as(&mut self, role: &str, statement: String) -> Result<(), ProvisionSchemaError> {
        self.run(format!("set local role {role}; {statement}; reset role")).await
    }
}

fn check_schema(schema: &str, comment: Option<&str>, mark: &str) -> Result<(), ProvisionSchemaError> {
    let schema = schema.to_owned();
    match comment {
        Some(comment) if comment == mark => Ok(()),
        Some(comment) => match comment.strip_prefix(OWNER_MARK) {
            Some(by) => Err(ProvisionSchemaError::SchemaClaimed { schema, by: by.to_owned() }),
            None => Err(ProvisionSchemaError::SchemaForeign { schema }),
        },
        None => Err(ProvisionSchemaError::SchemaForeign { schema }),
    }
}

fn check_role(role: &str, comment: Option<&str>, mark: &str) -> Result<(), ProvisionSchemaError> {
    if comment == Some(mark) {
        return Ok(());
    }
    let by = comment.and_then(|comment| comment.strip_prefix(OWNER_MARK)).map(str::to_owned);
    Err(ProvisionSchemaError::RoleForeign { role: role.to_owned(), by })
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Right whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The connection string with which a role reaches what the administrator's reaches: hosts, database and all other
/// parameters stay.
pub fn role_url(admin_url: &str, role: &str, password: &SecretString) -> Result<SecretString, ConnectError> {
    let config = parse_url(admin_url)?;
    let mut url = ConnectionString::parse(admin_url);
    url.set_role(role, password.expose_secret(), config.get_dbname().or_else(|| config.get_user()));
    Ok(url.to_string().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn roles_are_told_apart_by_database_and_fit() {
        let schema: Schema = "granary".parse().unwrap();
        let roles = Roles::of("packages", &schema, Turn::First);
        assert_eq!(roles.owner, "granary_9ab83076_owner");
        assert_ne!(roles, Roles::of("other", &schema, Turn::First));
        assert_ne!(roles.app, Roles::of("packages", &schema, Turn::Second).app);
        let long: Schema = "x".repeat(63).parse().unwrap();
        assert_eq!(Roles::of("packages", &long, Turn::First).owner.len(), 63);
        assert_eq!(Roles::of("packages", &long, Turn::Second).app.len(), 63);
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal(r"it's \ fine"), r"E'it''s \\ fine'");
    }
}
