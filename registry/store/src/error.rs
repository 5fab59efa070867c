//! What can go wrong between us and Postgres.

use tokio_postgres::error::SqlState;

/// A failure of the database. [`DbError::is_unavailable`] tells an outage from a fault of ours.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No connection could be had.
    #[error("no database connection")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The database refused a statement or went away in the middle of one.
    #[error("a database statement failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    TimedOut,
    /// A stored value is not what this version can read.
    #[error("the stored {what} cannot be read")]
    Decode {
        /// Which value.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The task that asks for revisions has ended: the process is stopping.
    #[error("the registry is stopping")]
    Stopping,
    /// A failure that several waiting requests share.
    #[error("a shared database query failed")]
    Shared(#[source] std::sync::Arc<DbError>),
}

impl DbError {
    /// For a stored value that cannot be read.
    pub fn decode(what: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Decode { what, source: source.into() }
    }

    /// Whether the database is out of reach, so that the same request may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Stopping | Self::TimedOut => true,
            Self::Postgres(error) => match error.code() {
                Some(code) => is_outage(code),
                None => error.is_closed() || is_io(error),
            },
            Self::Decode { .. } => false,
            Self::Shared(error) => error.is_unavailable(),
        }
    }

    /// The constraint that a statement violated, if that is what happened.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Postgres(error) => error.as_db_error().and_then(|error| error.constraint()),
            _ => None,
        }
    }
}

pub(crate) fn is_outage(code: &SqlState) -> bool {
    *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::CANNOT_CONNECT_NOW
        || *code == SqlState::TOO_MANY_CONNECTIONS
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::QUERY_CANCELED
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        // Connections, and resources such as disk space.
        || code.code().starts_with("08")
        || code.code().starts_with("53")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}
