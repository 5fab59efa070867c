//! What can keep the server from running.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::NotReady;

/// What can keep the server from running, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server is installed.
    #[error(
        "no PostgreSQL server binaries found; install them (Debian: `apt-get install postgresql`), or set \
         GRANARY_POSTGRES_BIN to the folder that holds `postgres` and `initdb`"
    )]
    NotInstalled,
    /// The folder that was named holds no server.
    #[error(
        "{0} does not hold the programs `postgres` and `initdb`; GRANARY_POSTGRES_BIN must name a folder that does"
    )]
    NotInFolder(PathBuf),
    /// The data needs another version.
    #[error(
        "the data in {data} was made by PostgreSQL {wanted}, but only {found} is installed; install it (Debian: \
         `apt-get install postgresql-{wanted}`), or move the data by pg_dump and pg_restore"
    )]
    OtherVersion {
        /// Where the data is.
        data: PathBuf,
        /// The major version it needs.
        wanted: u32,
        /// The major versions there are.
        found: String,
    },
    /// Another process runs the server.
    #[error("{0} is in use by another process; stop that one, or choose another data folder")]
    InUse(PathBuf),
    /// The data belongs to someone else.
    #[error(
        "{path} belongs to the user with the id {owner}; start granary as that user, or choose another data folder"
    )]
    NotOurs {
        /// Where the data is.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// There is no user as whom the server can run.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` on this machine; make one \
         (`useradd --system postgres`), or start granary as another user"
    )]
    NoUser,
    /// The user as whom the server runs cannot enter the folder.
    #[error(
        "the user `{user}`, as whom PostgreSQL runs, cannot enter {path}; choose a data folder that others may enter"
    )]
    Unreachable {
        /// As whom the server runs.
        user: String,
        /// The folder.
        path: PathBuf,
    },
    /// The database was kept outside its folder, and is not there.
    #[error(
        "the database was kept in {home}, which is gone; bring it back, or remove {pointer} to begin with an empty one"
    )]
    Gone {
        /// Where it was.
        home: PathBuf,
        /// What says so.
        pointer: PathBuf,
    },
    /// The data could not be made.
    #[error("`{program}` failed ({status}): {output}")]
    Program {
        /// What ran.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// The server ended before it accepted connections.
    #[error("PostgreSQL ended while it started ({status}); {log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// What it said last, and where more of it stands.
        log: String,
    },
    /// The server did not accept connections in time.
    #[error("PostgreSQL did not accept connections in time ({reason}); {log}")]
    NotReady {
        /// What the server answered last.
        reason: NotReady,
        /// What it said last, and where more of it stands.
        log: String,
    },
    /// A server does not end.
    #[error(
        "a PostgreSQL server on {0} does not end; its process id is the first line of `postmaster.pid` there"
    )]
    StillRunning(PathBuf),
    /// A file operation or a program's start failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Says what was tried, and with what, when an I/O operation fails.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
