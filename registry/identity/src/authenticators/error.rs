//! Why a source cannot tell whether a password is right.

use std::error::Error;
use std::io;

use granary_core::SubjectName;

use super::file::FileError;
use super::http::ServiceError;
use super::ldap::DirectoryError;
use super::sql::TableError;
use crate::password::PasswordError;

/// An authenticator that cannot tell whether a password is right.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticatorError {
    /// It is down, or too slow; it may answer later.
    #[error("the authenticator {name} does not answer")]
    Unavailable {
        /// Which authenticator.
        name: SubjectName,
        /// Why.
        source: SourceError,
    },
    /// It will not answer before somebody changes its configuration, or the other side.
    #[error("the authenticator {name} cannot be asked as it is configured")]
    Misconfigured {
        /// Which authenticator.
        name: SubjectName,
        /// Why.
        source: SourceError,
    },
}

/// What went wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// With a password file.
    #[error(transparent)]
    File(#[from] FileError),
    /// With a database.
    #[error(transparent)]
    Table(#[from] TableError),
    /// With a service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// With a directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl AuthenticatorError {
    pub(super) fn new(name: &SubjectName, source: SourceError) -> Self {
        let name = name.clone();
        if source.is_unavailable() {
            Self::Unavailable { name, source }
        } else {
            Self::Misconfigured { name, source }
        }
    }

    /// Which authenticator it was.
    pub fn name(&self) -> &SubjectName {
        match self {
            Self::Unavailable { name, .. } | Self::Misconfigured { name, .. } => name,
        }
    }
}

impl SourceError {
    fn is_unavailable(&self) -> bool {
        match self {
            Self::File(error) => error.is_unavailable(),
            Self::Table(error) => error.is_unavailable(),
            Self::Service(error) => error.is_unavailable(),
            Self::Directory(error) => error.is_unavailable(),
        }
    }
}

/// Whether reading a file may succeed later without anybody's doing.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    !matches!(error.kind(), InvalidData | IsADirectory | NotADirectory | NotFound | PermissionDenied)
}

/// Whether a password could not be checked now, and not because of the hash.
pub(super) fn is_interrupted(error: &PasswordError) -> bool {
    matches!(error, PasswordError::Interrupted | PasswordError::Busy(_))
}

/// Whether somewhere below is a certificate that is not trusted: that does not pass by itself.
pub(super) fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // The error within an I/O error is not its source, but its own self.
        let within = error.downcast_ref().and_then(io::Error::get_ref);
        next = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    false
}
