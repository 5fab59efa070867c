//! Who knows passwords besides the registry's own accounts: files, a table, a service, a directory.
//!
//! Sources are asked in the order of the configuration, and the first that knows a name decides about it. Nothing is
//! remembered here: who asks keeps an answer for [`Known::cache_for`].

mod apr1;
mod error;
mod file;
mod hash;
mod htpasswd;
mod http;
mod ldap;
mod sql;
mod users;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use granary_core::{Clock, SubjectName};
use granary_crds::{Authenticator, AuthenticatorSource};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

pub use error::{AuthenticatorError, SourceError};

use file::PasswordFile;
use hash::StoredPassword;
use http::Service;
use ldap::Directory;
use sql::Table;

use crate::password::{PasswordError, Passwords};
use crate::turns::{Full, Turn, Turns};

/// The longest that somebody beyond the network may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How many questions are on their way at a time.
const QUESTIONS: usize = 16;
/// How many more wait for their turn.
const WAITING: usize = 256;

/// Everybody who knows passwords besides the registry's own accounts.
#[derive(Clone)]
pub struct Authenticators {
    sources: Arc<[Asked]>,
    turns: Turns,
}

struct Asked {
    name: SubjectName,
    groups: Vec<SubjectName>,
    cache_for: Duration,
    source: Source,
}

enum Source {
    File(PasswordFile),
    Table(Table),
    Service(Service),
    Directory(Directory),
}

/// What a source says. Its groups are not names yet.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Unknown,
    Wrong,
    Right(Vec<String>),
}

/// What all sources together say about a name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No source knows the name.
    Unknown,
    /// A source knows the name, and the password is wrong.
    Wrong,
    /// The password is right.
    Right(Known),
}

/// Somebody whose password was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The name of the authenticator that said so.
    pub source: SubjectName,
    /// The groups that the configuration gives to everybody of this authenticator, then those that the source named;
    /// each once. What cannot be the name of a group is left out.
    pub groups: Vec<SubjectName>,
    /// How long the answer may be believed.
    pub cache_for: Duration,
}

impl Authenticators {
    /// Sets the sources up. No connection is opened and no password file is read before the first question.
    ///
    /// `http` asks services; it must follow no redirects ([`reqwest::redirect::Policy::none`]), for these would carry
    /// passwords to somewhere else. `outbound_ca` is a file of certificates (PEM) that directories and databases may
    /// show besides those that the system trusts. Hashes of files and tables are computed by `passwords`, together with
    /// those of the registry's own accounts.
    ///
    /// # Errors
    /// [`AuthenticatorError::Misconfigured`] when the certificates cannot be used.
    #[expect(clippy::needless_pass_by_value, reason = "the sources keep clones")]
    pub fn new(
        configured: Vec<Authenticator>,
        http: reqwest::Client,
        outbound_ca: Option<PathBuf>,
        clock: Arc<dyn Clock>,
        passwords: &Passwords,
    ) -> Result<Self, AuthenticatorError> {
        let set_up = |Authenticator { name, groups, cache_for, source }| {
            let file = |source, read| {
                let file =
                    PasswordFile::new(name.clone(), source, read, Arc::clone(&clock), passwords.clone());
                Source::File(file)
            };
            let source = match source {
                AuthenticatorSource::Users(source) => file(source, users::read),
                AuthenticatorSource::Htpasswd(source) => file(source, htpasswd::read),
                AuthenticatorSource::Sql { url, query } => Source::Table(Table::new(
                    name.clone(),
                    url,
                    query,
                    outbound_ca.clone(),
                    passwords.clone(),
                )),
                AuthenticatorSource::Http { url, token } => {
                    Source::Service(Service::new(http.clone(), &url, token))
                }
                AuthenticatorSource::Ldap(ldap) => {
                    match Directory::new(name.clone(), *ldap, outbound_ca.as_deref()) {
                        Ok(directory) => Source::Directory(directory),
                        Err(error) => return Err(AuthenticatorError::new(&name, error.into())),
                    }
                }
            };
            Ok(Asked { name, groups, cache_for, source })
        };
        let sources = configured.into_iter().map(set_up).collect::<Result<_, _>>()?;
        Ok(Self { sources, turns: Turns::new(QUESTIONS, WAITING) })
    }

    /// Whether there is no source at all.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Waits until another question can be asked.
    pub(crate) async fn turn(&self) -> Result<Turn, Full> {
        self.turns.take().await
    }

    /// Asks the sources in order. The first that knows the name decides. An empty password is wrong with everybody:
    /// nobody is asked about it.
    ///
    /// # Errors
    /// Of the first source that cannot tell: those after it are not asked, for it might have known the name.
    pub async fn check(
        &self,
        user: &SubjectName,
        password: SecretString,
    ) -> Result<Verdict, AuthenticatorError> {
        if !self.is_empty() && password.expose_secret().is_empty() {
            return Ok(Verdict::Wrong);
        }
        for (index, asked) in self.sources.iter().enumerate() {
            let is_last = index + 1 == self.sources.len();
            let answer = asked.source.check(user.as_str(), &password, is_last).await;
            match answer.map_err(|error| AuthenticatorError::new(&asked.name, error))? {
                Answer::Unknown => {}
                Answer::Wrong => return Ok(Verdict::Wrong),
                Answer::Right(groups) => return Ok(Verdict::Right(asked.known(&groups))),
            }
        }
        Ok(Verdict::Unknown)
    }
}

impl Asked {
    fn known(&self, named: &[String]) -> Known {
        let mut seen = HashSet::new();
        let named = named.iter().filter_map(|name| match name.parse::<SubjectName>() {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::debug!(authenticator = %self.name, group = name, %error, "no name of a group");
                None
            }
        });
        let groups = self.groups.iter().cloned().chain(named).filter(|group| seen.insert(group.clone()));
        Known { source: self.name.clone(), groups: groups.collect(), cache_for: self.cache_for }
    }
}

impl Source {
    /// Where nobody is asked after it, a file or a table takes as long for an unknown name as for a wrong password.
    async fn check(&self, user: &str, password: &SecretString, is_last: bool) -> Result<Answer, SourceError> {
        Ok(match self {
            Self::File(file) => file.check(user, password, is_last).await?,
            Self::Table(table) => table.check(user, password, is_last).await?,
            Self::Service(service) => service.check(user, password).await?,
            Self::Directory(directory) => directory.check(user, password).await?,
        })
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|asked| asked.name.as_str())).finish()
    }
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", ANSWER_LIMIT.as_secs())]
pub struct NoAnswer;

/// Waits for an answer, but not for ever.
async fn answered<T>(question: impl Future<Output = T>) -> Result<T, NoAnswer> {
    timeout(ANSWER_LIMIT, question).await.map_err(|_| NoAnswer)
}

/// Whether the password is the one that was stored; takes about as long when nothing was, and then it is not.
async fn fits(
    passwords: &Passwords,
    password: &SecretString,
    stored: Option<StoredPassword>,
) -> Result<bool, PasswordError> {
    let password = password.clone();
    match stored {
        Some(stored) => passwords.run(move || Ok(stored.is(password.expose_secret()))).await,
        None => passwords.verify(password, None).await,
    }
}
