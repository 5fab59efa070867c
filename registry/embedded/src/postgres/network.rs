//! Clients that come over TCP: who may, and with which password.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::binaries::Binaries;
use super::error::{Context, Error};
use super::place::RunAs;
use super::{NAME, run};

/// Whoever may enter the socket's folder is let in, as without TCP; all others need the password.
/// <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>
const WHO_MAY: &str = "\
# Written anew at each start.
local all all trust
host all all all scram-sha-256
";

/// An address for clients that come over TCP, and the password of the superuser `granary` there.
#[derive(Debug, Clone)]
pub struct Network {
    /// Where the server listens; `0.0.0.0` and `[::]` are all addresses of IPv4 and of IPv6. The port is never 0.
    pub address: SocketAddr,
    /// Set at each start, before the server listens: the one before is void then.
    pub password: Password,
}

/// A password that can be given to a role.
#[derive(Clone)]
pub struct Password(SecretString);

/// A text that is no [`Password`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The server would let nobody in.
    #[error("the password is empty")]
    Empty,
    /// Line ends and the like, which mostly come from a file by mistake.
    #[error("the password contains control characters")]
    Control,
}

impl Password {
    /// Takes a text of at least one character, none of them a control character.
    ///
    /// # Errors
    /// [`PasswordError`] says what is wrong with the text.
    pub fn new(text: SecretString) -> Result<Self, PasswordError> {
        if text.expose_secret().is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.expose_secret().contains(char::is_control) {
            return Err(PasswordError::Control);
        }
        Ok(Self(text))
    }

    /// The statement that sets it. It is one line, as the single-user mode reads them.
    fn statement(&self) -> SecretString {
        let quoted = self.0.expose_secret().replace('\'', "''");
        format!("ALTER ROLE {NAME} PASSWORD '{quoted}'\n").into()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// Sets the password, and writes who may connect; the answer is that file.
///
/// In the single-user mode, so that the server never listens with a password that is void. It recovers from a crash,
/// too, as the server itself would.
pub(super) async fn prepare(
    network: &Network,
    home: &Path,
    data: &Path,
    binaries: &Binaries,
    run_as: &RunAs,
) -> Result<PathBuf, Error> {
    let mut single = run_as.command(&binaries.postgres());
    single.args(["--single", "-D"]).arg(data);
    // A statement that fails is not logged: it has the password in it.
    for setting in ["exit_on_error=on", "password_encryption=scram-sha-256", "log_min_error_statement=panic"]
    {
        single.args(["-c", setting]);
    }
    single.args(["-c", "log_statement=none", "-c", "standard_conforming_strings=on", "postgres"]);
    run(single, "postgres --single", network.password.statement().expose_secret().as_bytes()).await?;

    let path = home.join("pg_hba.conf");
    // A file of its own each time, since this process may not be allowed to write into the one before.
    let fresh = home.join("pg_hba.conf.new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(WHO_MAY.as_bytes())
    };
    write().context("write", &fresh)?;
    run_as.give(&fresh)?;
    fs::rename(&fresh, &path).context("write", &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_password_is_quoted_and_never_shown() {
        let password = Password::new("it's \\ \"odd\"".to_owned().into()).unwrap();
        let statement = password.statement();
        assert_eq!(statement.expose_secret(), "ALTER ROLE granary PASSWORD 'it''s \\ \"odd\"'\n");
        assert_eq!(format!("{password:?}"), "[hidden]");
    }

    #[test]
    fn an_empty_or_broken_password_is_refused() {
        for (text, expected) in [("", PasswordError::Empty), ("two\nlines", PasswordError::Control)] {
            assert_eq!(Password::new(text.to_owned().into()).unwrap_err(), expected);
        }
    }
}
