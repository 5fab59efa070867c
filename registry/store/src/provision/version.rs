//! Which schemas this program may write to. An operator and the pods of a registry are of different versions for
//! a while, and after a rollback for long.

use std::ops::RangeFrom;

use crate::migrate::applied_names;
use crate::{Database, DbError, MIGRATIONS};

/// The versions of the shared tables (the numbers of their migrations) that this program can write: it needs what
/// the first of them brought. Newer ones add to it, until one says in the schema itself that it takes something
/// away ([`SchemaVersion::oldest_writer`]).
pub const WRITABLE: RangeFrom<u32> = 2..;

/// The version of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The newest migration that this program knows.
    pub known: u32,
    /// The newest migration that the schema has; none where it was never migrated.
    pub applied: Option<u32>,
    /// The oldest version whose programs may still write to the schema, as the schema says.
    pub oldest_writer: u32,
}

/// Why a schema must not be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Migrations are missing.
    #[error("the schema was never migrated")]
    NotMigrated,
    /// Migrations are missing.
    #[error("the schema has version {applied} and at least {needed} is needed: its migrations have not run")]
    TooOld {
        /// What it has.
        applied: u32,
        /// What it needs to have.
        needed: u32,
    },
    /// The schema has changed so that this program would write it wrongly.
    #[error("the schema is written by programs that know version {oldest_writer}; this one knows {known}")]
    TooNew {
        /// What a program has to know.
        oldest_writer: u32,
        /// What this one knows.
        known: u32,
    },
}

impl SchemaVersion {
    /// Whether this program may write to the schema.
    pub fn check(&self) -> Result<(), Unwritable> {
        match self.applied {
            None => Err(Unwritable::NotMigrated),
            Some(applied) if !WRITABLE.contains(&applied) => {
                Err(Unwritable::TooOld { applied, needed: WRITABLE.start })
            }
            Some(_) if self.oldest_writer > self.known => {
                Err(Unwritable::TooNew { oldest_writer: self.oldest_writer, known: self.known })
            }
            Some(_) => Ok(()),
        }
    }
}

/// Reads the version of the shared tables. May run through a pooler.
pub async fn schema_version(database: &Database) -> Result<SchemaVersion, DbError> {
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    let known = MIGRATIONS.files.iter().filter_map(|(name, _)| number(name)).max().unwrap_or_default();
    let names = applied_names(database, database.schema(), MIGRATIONS).await?;
    let applied: Option<u32> = names.iter().filter_map(|name| number(name)).max();
    let oldest_writer = match applied {
        Some(applied) if WRITABLE.contains(&applied) => {
            let query = database.schema().qualify("select oldest_writer from @registry");
            let row = database.query_opt(&query, &[]).await?;
            let oldest: i32 = row.map_or(Ok(1), |row| row.try_get(0))?;
            u32::try_from(oldest).map_err(|error| DbError::decode("schema version", error))?
        }
        _ => 1,
    };
    Ok(SchemaVersion { known, applied, oldest_writer })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn newer_schemas_are_written_until_they_say_otherwise() {
        let version = |applied, oldest_writer| SchemaVersion { known: 2, applied, oldest_writer };
        assert_eq!(version(None, 1).check(), Err(Unwritable::NotMigrated));
        assert_eq!(version(Some(1), 1).check(), Err(Unwritable::TooOld { applied: 1, needed: 2 }));
        assert_eq!(version(Some(2), 1).check(), Ok(()));
        assert_eq!(version(Some(7), 2).check(), Ok(()));
        assert_eq!(version(Some(7), 3).check(), Err(Unwritable::TooNew { oldest_writer: 3, known: 2 }));
    }
}
