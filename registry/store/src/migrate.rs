//! Migrations: one history table a crate, run by `granary migrate`, checked by `granary serve`.

use std::collections::BTreeMap;

use refinery::{Migration, Runner};

use crate::database::{ConnectError, connect_directly};
use crate::{Database, DatabaseOptions, DbError, Schema};

/// The migrations of one crate.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The crate, which names the history table: `migration_CRATE`.
    pub owner: &'static str,
    /// Names (`V1__what`) and statements, in order.
    pub files: &'static [(&'static str, &'static str)],
}

/// The migrations of the shared tables; they run before any other.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "store",
    files: &[
        ("V1__foundation", include_str!("../migrations/V1__foundation.sql")),
        ("V2__operator", include_str!("../migrations/V2__operator.sql")),
        ("V3__audit", include_str!("../migrations/V3__audit.sql")),
        ("V4__documents", include_str!("../migrations/V4__documents.sql")),
    ],
};

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement around the migrations failed.
    #[error("the schema could not be prepared")]
    Prepare(#[source] tokio_postgres::Error),
    /// A migration failed; those before it hold.
    #[error("a migration of {owner} failed")]
    Run {
        /// Whose.
        owner: &'static str,
        /// Why.
        source: refinery::Error,
    },
}

/// Migrations that a schema lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `store/V1__foundation` and the like.
    pub names: Vec<String>,
}

impl Migrations {
    fn history_table(self) -> String {
        format!("migration_{}", self.owner)
    }

    fn parsed(self) -> Result<Vec<Migration>, MigrateError> {
        let parse = |(name, sql): &(&str, &str)| Migration::unapplied(name, sql);
        self.files
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|source| MigrateError::Run { owner: self.owner, source })
    }
}

/// Creates the schema where it is missing and applies what it lacks, one process at a time (an advisory lock
/// keyed by the schema). `options.url` must lead to Postgres itself, not to a transaction-mode pooler.
/// Migrations that are newer than this program are left alone. Returns the names of those applied.
pub async fn migrate(options: &DatabaseOptions, sets: &[Migrations]) -> Result<Vec<String>, MigrateError> {
    let mut client = connect_directly(options).await?;
    let schema = &options.schema;
    client
        .execute(
            "select pg_advisory_lock(hashtextextended('granary migrations of ' || $1, 0))",
            &[&schema.as_str()],
        )
        .await
        .map_err(MigrateError::Prepare)?;
    // The role may lack the right to create schemas; that is fine where the schema is there.
    let exists = client
        .query_opt("select 1 from pg_namespace where nspname = $1", &[&schema.as_str()])
        .await
        .map_err(MigrateError::Prepare)?
        .is_some();
    if !exists {
        client.batch_execute(&format!("create schema \"{schema}\"")).await.map_err(MigrateError::Prepare)?;
    }
    client.batch_execute(&format!("set search_path to \"{schema}\"")).await.map_err(MigrateError::Prepare)?;
    let mut applied = Vec::new();
    for set in sets {
        let mut runner = Runner::new(&set.parsed()?).set_abort_missing(false);
        runner.set_migration_table_name(set.history_table());
        let report = runner
            .run_async(&mut client)
            .await
            .map_err(|source| MigrateError::Run { owner: set.owner, source })?;
        applied
            .extend(report.applied_migrations().iter().map(|migration| format!("{}/{migration}", set.owner)));
    }
    // The lock goes with the connection.
    Ok(applied)
}

/// Which of these migrations the schema lacks; newer ones than ours do not matter.
pub async fn missing_migrations(database: &Database, sets: &[Migrations]) -> Result<Missing, DbError> {
    let mut names = Vec::new();
    for set in sets {
        let applied = applied_names(database, database.schema(), *set).await?;
        let lacks = |name: &&&str| !applied.iter().any(|done| done == **name);
        names.extend(
            set.files.iter().map(|(name, _)| name).filter(lacks).map(|name| format!("{}/{name}", set.owner)),
        );
    }
    Ok(Missing { names })
}

/// How many migrations of each owner the schema has, those of other programs included. May run through a pooler.
pub async fn applied_migrations(database: &Database) -> Result<BTreeMap<String, i64>, DbError> {
    let schema = database.schema().to_string();
    let tables =
        "select tablename::text from pg_tables where schemaname = $1 and tablename like 'migration\\_%'";
    let mut applied = BTreeMap::new();
    for row in database.query(tables, &[&schema]).await? {
        let table: String = row.try_get(0)?;
        let Some(owner) = table.strip_prefix("migration_") else { continue };
        let count = format!("select count(*) from \"{schema}\".\"{table}\"");
        let count = database.query_opt(&count, &[]).await?.map_or(Ok(0), |row| row.try_get(0))?;
        applied.insert(owner.to_owned(), count);
    }
    Ok(applied)
}

pub(crate) async fn applied_names(
    database: &Database,
    schema: &Schema,
    set: Migrations,
) -> Result<Vec<String>, DbError> {
    let table = format!("\"{schema}\".{}", set.history_table());
    let exists = database.query_opt("select to_regclass($1) is not null", &[&table]).await?;
    if !exists.is_some_and(|row| row.get(0)) {
        return Ok(Vec::new());
    }
    let rows = database.query(&format!("select 'V' || version || '__' || name from {table}"), &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
