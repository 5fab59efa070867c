//! Password files: read when they are first asked about, and again when they have changed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use granary_core::{Clock, Sha256, SubjectName};
use granary_crds::SecretSource;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::error::{is_interrupted, is_passing};
use super::hash::{HashError, StoredPassword};
use super::{Answer, fits};
use crate::password::{PasswordError, Passwords};

/// How often it is looked whether a file has changed, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many lines of a file that are left out are named in the log, each time that it is read.
const NAMED_LINES: usize = 10;

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the password file cannot be read")]
    Read(#[from] io::Error),
    /// A password could not be compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl FileError {
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Read(error) => is_passing(error),
            Self::Password(error) => is_interrupted(error),
        }
    }
}

/// Why a line of a password file is left out.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("a colon stands between the name and the password, and here is none")]
    NoColon,
    #[error("the name stands further up already")]
    Again,
    #[error(transparent)]
    Hash(HashError),
}

/// What a password file says.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By name. Without a password where nothing can be compared with what stands there: the name is known all the
    /// same.
    sorted: Vec<(String, Option<StoredPassword>)>,
    /// With the numbers of their lines.
    problems: Vec<(usize, LineError)>,
}

impl Entries {
    /// Reads lines; those that are empty and those that begin with `#` say nothing. The first line of a name counts.
    pub(super) fn read<'a>(
        text: &'a str,
        split: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
        parse: impl Fn(&str) -> Result<StoredPassword, HashError>,
    ) -> Self {
        let mut entries = Self::default();
        let mut numbered = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let Some((name, password)) = split(line) else {
                entries.problems.push((number, LineError::NoColon));
                continue;
            };
            let stored =
                parse(password).map_err(|error| entries.problems.push((number, LineError::Hash(error))));
            numbered.push((name, number, stored.ok()));
        }
        // By their names, and for each by the line: the sort is stable.
        numbered.sort_by_key(|(name, ..)| *name);
        for (name, number, stored) in numbered {
            if entries.sorted.last().is_some_and(|(last, _)| last == name) {
                entries.problems.push((number, LineError::Again));
            } else {
                entries.sorted.push((name.to_owned(), stored));
            }
        }
        entries.problems.sort_by_key(|(number, _)| *number);
        entries
    }

    /// The password of a name, if the name is known; and of that, if there is one.
    #[expect(clippy::option_option, reason = "a name that is known and has no password is one")]
    fn find(&self, name: &str) -> Option<Option<&StoredPassword>> {
        let at = self.sorted.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.sorted[at].1.as_ref())
    }

    /// The password of somebody, always the same one for a name: to work on for a name that is not known, so that the
    /// time this takes tells nothing in a file of several kinds of hashes either.
    fn stand_in(&self, name: &str) -> Option<&StoredPassword> {
        let [a, b, c, d, ..] = *Sha256::of(name.as_bytes()).as_bytes();
        let at =
            usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(0).checked_rem(self.sorted.len())?;
        self.sorted.get(at)?.1.as_ref()
    }
}

/// A file of names and passwords.
pub(super) struct PasswordFile {
    name: SubjectName,
    source: SecretSource,
    read: fn(&str) -> Entries,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    looked_at: Timestamp,
    version: Version,
    entries: Arc<Entries>,
}

/// What tells a file from what it was before. Of the file itself, not of the links to it: in Kubernetes a folder of
/// secrets changes by a link that points elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// Of a secret that is no file there is only one.
    fn of(source: &SecretSource) -> io::Result<Self> {
        let SecretSource::File(path) = source else { return Ok(Self::default()) };
        let data = std::fs::metadata(path)?;
        Ok(Self {
            device: data.dev(),
            inode: data.ino(),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

impl PasswordFile {
    pub(super) fn new(
        name: SubjectName,
        source: SecretSource,
        read: fn(&str) -> Entries,
        clock: Arc<dyn Clock>,
        passwords: Passwords,
    ) -> Self {
        Self { name, source, read, clock, passwords, loaded: Mutex::default() }
    }

    /// Asks about a name. With `is_last` an unknown one takes as long as a wrong password.
    pub(super) async fn check(
        &self,
        user: &str,
        password: &SecretString,
        is_last: bool,
    ) -> Result<Answer, FileError> {
        let entries = self.entries().await?;
        if let Some(stored) = entries.find(user) {
            let is_right = fits(&self.passwords, password, stored.cloned()).await?;
            Ok(if is_right { Answer::Right(Vec::new()) } else { Answer::Wrong })
        } else {
            if is_last {
                fits(&self.passwords, password, entries.stand_in(user).cloned()).await?;
            }
            Ok(Answer::Unknown)
        }
    }

    /// What the file says, or said less than a second ago.
    async fn entries(&self) -> Result<Arc<Entries>, FileError> {
        let mut loaded = self.loaded.lock().await;
        let now = self.clock.now();
        let is_fresh = |loaded: &&Loaded| {
            // A clock that was put back makes nothing fresh.
            let age = Duration::try_from(now.duration_since(loaded.looked_at));
            age.is_ok_and(|age| age < LOOK_EVERY)
        };
        if let Some(loaded) = loaded.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&loaded.entries));
        }
        let known = loaded.as_ref().map(|loaded| (loaded.version, Arc::clone(&loaded.entries)));
        let (source, read) = (self.source.clone(), self.read);
        let look = tokio::task::spawn_blocking(move || look(&source, known, read));
        let Look { version, entries, is_new } = look.await.map_err(io::Error::other)??;
        if is_new {
            self.log(&entries);
        }
        *loaded = Some(Loaded { looked_at: now, version, entries: Arc::clone(&entries) });
        Ok(entries)
    }

    fn log(&self, entries: &Entries) {
        let (name, problems) = (&self.name, &entries.problems);
        tracing::info!(authenticator = %name, names = entries.sorted.len(), "the password file was read");
        for (line, problem) in problems.iter().take(NAMED_LINES) {
            tracing::warn!(authenticator = %name, line, %problem, "a line of the password file is of no use");
        }
        if let Some(more) = problems.len().checked_sub(NAMED_LINES).filter(|more| *more > 0) {
            tracing::warn!(authenticator = %name, more, "more lines of the password file are of no use");
        }
    }
}

/// What looking after a file brought.
struct Look {
    version: Version,
    entries: Arc<Entries>,
    is_new: bool,
}

/// The version first: a change in between makes it look old the next time, never new.
fn look(
    source: &SecretSource,
    known: Option<(Version, Arc<Entries>)>,
    read: fn(&str) -> Entries,
) -> io::Result<Look> {
    let version = Version::of(source)?;
    if let Some((_, entries)) = known.filter(|(known, _)| *known == version) {
        return Ok(Look { version, entries, is_new: false });
    }
    let entries = Arc::new(read(source.load()?.expose()));
    Ok(Look { version, entries, is_new: true })
}
