//! A table of another Postgres database.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use granary_core::SubjectName;
use granary_crds::{Secret, SecretSource};
use granary_store::{ConnectError, Database, DatabaseOptions, DbError, SchemaError};
use secrecy::SecretString;
use tokio::task::JoinError;
use tokio_postgres::Row;

use super::error::{is_distrust, is_interrupted, is_passing};
use super::hash::StoredPassword;
use super::{Answer, NoAnswer, answered, fits};
use crate::outbound::load;
use crate::password::{PasswordError, Passwords};

/// The most connections to the database: each is in use for as long as the query takes.
const CONNECTIONS: usize = 4;

/// Why a table cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file with the connection string cannot be read.
    #[error("the connection string cannot be read")]
    Url(#[source] io::Error),
    /// The connection string cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schema that goes unused is not one.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The process is stopping.
    #[error("the connections were not set up to their end")]
    Interrupted(#[source] JoinError),
    /// The database failed, or refused the query.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The query yields something other than texts.
    #[error("the query has to yield the hash as a text, and perhaps groups as an array of texts")]
    Columns(#[source] tokio_postgres::Error),
    /// The query yields no column.
    #[error("the query yields no column: the first one has to be the hash")]
    NoColumn,
    /// It did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// A password could not be compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl TableError {
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Url(error) => is_passing(error),
            Self::Connect(error) => error.is_unavailable(),
            // A server that answers that it does not know the role, the password or the database is not down.
            Self::Database(error @ DbError::Pool(_)) => !is_refusal(error) && !is_distrust(error),
            Self::Database(error) => error.is_unavailable(),
            Self::Schema(_) | Self::Columns(_) | Self::NoColumn => false,
            Self::NoAnswer(_) | Self::Interrupted(_) => true,
            Self::Password(error) => is_interrupted(error),
        }
    }
}

/// Whether the server refused the connection for what the connection string says: classes 28 (authorization) and 3D
/// (database) of SQLSTATE.
fn is_refusal(error: &DbError) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        let code = error.downcast_ref().and_then(tokio_postgres::Error::code);
        if code.is_some_and(|code| code.code().starts_with("28") || code.code().starts_with("3D")) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the query says about a name.
enum Found {
    Nobody,
    /// The name stands there, perhaps with a hash.
    Somebody {
        hash: Option<String>,
        groups: Vec<String>,
    },
}

/// A table that holds user names and hashes of passwords.
pub(super) struct Table {
    name: SubjectName,
    url: SecretSource,
    query: String,
    ca_file: Option<PathBuf>,
    passwords: Passwords,
    /// The connections, and what they were opened with.
    open: Mutex<Option<(Secret, Database)>>,
    /// A hash that stood there: what is worked on for an unknown name, so that it takes as long.
    stand_in: Mutex<Option<StoredPassword>>,
    was_unsupported: AtomicBool,
}

impl Table {
    pub(super) fn new(
        name: SubjectName,
        url: SecretSource,
        query: String,
        ca_file: Option<PathBuf>,
        passwords: Passwords,
    ) -> Self {
        Self {
            name,
            url,
            query,
            ca_file,
            passwords,
            open: Mutex::default(),
            stand_in: Mutex::default(),
            was_unsupported: AtomicBool::new(false),
        }
    }

    /// Asks about a name. With `is_last` an unknown one takes as long as a wrong password.
    pub(super) async fn check(
        &self,
        user: &str,
        password: &SecretString,
        is_last: bool,
    ) -> Result<Answer, TableError> {
        match self.find(user).await? {
            Found::Nobody => {
                if is_last {
                    let stand_in = self.stand_in.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    fits(&self.passwords, password, stand_in).await?;
                }
                Ok(Answer::Unknown)
            }
            Found::Somebody { hash, groups } => {
                let stored = hash.and_then(|hash| self.read_hash(&hash));
                let is_right = fits(&self.passwords, password, stored).await?;
                Ok(if is_right { Answer::Right(groups) } else { Answer::Wrong })
            }
        }
    }

    fn read_hash(&self, hash: &str) -> Option<StoredPassword> {
        match StoredPassword::hash(hash) {
            Ok(stored) => {
                *self.stand_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored.clone());
                Some(stored)
            }
            Err(problem) => {
                if !self.was_unsupported.swap(true, Ordering::Relaxed) {
                    tracing::warn!(authenticator = %self.name, %problem, "a hash in the database is of no use");
                }
                None
            }
        }
    }

    async fn find(&self, user: &str) -> Result<Found, TableError> {
        let question = async {
            let database = self.database().await?;
            Ok::<_, TableError>(database.query(&self.query, &[&user]).await?)
        };
        let rows = match answered(question).await {
            Ok(rows) => rows?,
            Err(no_answer) => {
                // Nobody knows what is still to come on its connections.
                *self.open() = None;
                return Err(no_answer.into());
            }
        };
        match &rows[..] {
            [] => Ok(Found::Nobody),
            [row] => read(row),
            _ => {
                tracing::warn!(authenticator = %self.name, user, rows = rows.len(), "the query yields several rows");
                Ok(Found::Somebody { hash: None, groups: Vec::new() })
            }
        }
    }

    /// The connections. The connection string is read each time, so that what was rotated counts at once.
    async fn database(&self) -> Result<Database, TableError> {
        let url = load(&self.url).await.map_err(TableError::Url)?;
        if let Some((_, database)) = self.open().as_ref().filter(|(known, _)| *known == url) {
            return Ok(database.clone());
        }
        let text = url.expose().to_owned();
        // Certificates to trust must not turn TLS on where the connection string does not.
        let ca_file = if granary_store::wants_tls(&text)? { self.ca_file.clone() } else { None };
        let options = DatabaseOptions {
            url: text,
            // The query is not ours, and names its tables itself.
            schema: "granary".parse()?,
            max_connections: CONNECTIONS,
            ca_file,
            client_certificate: None,
        };
        let database = tokio::task::spawn_blocking(move || Database::new(&options))
            .await
            .map_err(TableError::Interrupted)??;
        *self.open() = Some((url, database.clone()));
        Ok(database)
    }

    fn open(&self) -> MutexGuard<'_, Option<(Secret, Database)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(row: &Row) -> Result<Found, TableError> {
    if row.is_empty() {
        return Err(TableError::NoColumn);
    }
    let hash = row.try_get(0).map_err(TableError::Columns)?;
    let groups: Option<Vec<Option<String>>> = match row.len() {
        1 => None,
        _ => row.try_get(1).map_err(TableError::Columns)?,
    };
    Ok(Found::Somebody { hash, groups: groups.into_iter().flatten().flatten().collect() })
}
