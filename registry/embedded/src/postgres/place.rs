//! As whom the server runs, and where its files can lie for that user.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use uuid::Uuid;

use super::error::{Context, Error};

/// The longest path of a socket that Linux takes, in bytes (macOS: 103).
const LONGEST_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const SOCKET_NAME: usize = "/.s.PGSQL.65535.lock".len();
/// Names the folder that is used instead.
const POINTER: &str = "location";

/// As whom the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunAs {
    Ourselves,
    /// We are root, which the server refuses to be.
    Other {
        name: String,
        uid: u32,
        gid: u32,
    },
}

impl RunAs {
    /// Chooses the owner of the data in `dir` if there is any.
    pub fn choose(dir: &Path) -> Result<Self, Error> {
        let data = home_of(dir)?.join("data");
        let owner = fs::metadata(&data).map(|data| (data.uid(), data.gid())).ok();
        let own_id = rustix::process::geteuid();
        if !own_id.is_root() {
            return match owner {
                Some((owner, _)) if owner != own_id.as_raw() => Err(Error::NotOurs { path: data, owner }),
                _ => Ok(Self::Ourselves),
            };
        }
        if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
            return Ok(Self::Other { name: uid.to_string(), uid, gid });
        }
        let path = Path::new("/etc/passwd");
        let users = fs::read_to_string(path).context("read", path)?;
        ["postgres", "nobody"].iter().find_map(|name| find_user(&users, name)).ok_or(Error::NoUser)
    }

    /// A program that runs as that user, in a process group of its own and without settings meant for other servers.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Makes the user the owner of `path`.
    pub fn give(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { uid, gid, .. } => {
                chown(path, Some(*uid), Some(*gid)).context("change the owner of", path)
            }
        }
    }

    /// Where a short-lived folder with a short path can be made.
    pub fn runtime_folder(&self) -> PathBuf {
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|_| *self == Self::Ourselves);
        runtime
            .filter(|folder| folder.is_dir() && fits_socket(&folder.join("granary-xxxxxx")))
            .unwrap_or("/tmp".into())
    }

    async fn can_enter(&self, path: &Path) -> Result<bool, Error> {
        let mut shell = self.command(Path::new("/bin/sh"));
        shell
            .args(["-c", r#"cd -- "$1""#, "sh"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Ok(shell.status().await.context("run", Path::new("/bin/sh"))?.success())
    }
}

/// The folder for the data and the socket: `dir`, or one below `outside` if the server's user cannot enter `dir`.
pub(super) async fn home(dir: &Path, outside: &Path, run_as: &RunAs) -> Result<PathBuf, Error> {
    let RunAs::Other { name, .. } = run_as else { return Ok(dir.to_owned()) };
    let home = home_of(dir)?;
    run_as.give(&home)?;
    if run_as.can_enter(&home).await? {
        return Ok(home);
    }
    let unreachable = |path: &Path| Err(Error::Unreachable { user: name.clone(), path: path.to_owned() });
    if home != dir || home.join("data").exists() {
        return unreachable(&home);
    }
    DirBuilder::new().recursive(true).mode(0o755).create(outside).context("create", outside)?;
    // A name of its own: a folder made anew at the same path must not find the data of the one before.
    let home = outside.join(format!("postgres-{}", Uuid::new_v4().simple()));
    DirBuilder::new().mode(0o700).create(&home).context("create", &home)?;
    run_as.give(&home)?;
    if !run_as.can_enter(&home).await? {
        fs::remove_dir(&home).context("remove", &home)?;
        return unreachable(outside);
    }
    let (pointer, fresh) = (dir.join(POINTER), dir.join("location.new"));
    let write = || {
        File::open(outside)?.sync_all()?;
        let mut file = File::create(&fresh)?;
        file.write_all(home.as_os_str().as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &pointer)?;
        File::open(dir)?.sync_all()
    };
    write().context("write", &pointer)?;
    tracing::warn!(user = %name, dir = %dir.display(), used = %home.display(),
        "PostgreSQL's user cannot enter the data folder, so the database is kept elsewhere");
    Ok(home)
}

/// `dir`, or the folder that is used instead.
fn home_of(dir: &Path) -> Result<PathBuf, Error> {
    let pointer = dir.join(POINTER);
    let home = match fs::read(&pointer) {
        Ok(path) => PathBuf::from(OsString::from_vec(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(dir.to_owned()),
        Err(error) => return Err(error).context("read", &pointer),
    };
    // An empty database in its stead would be a loss that nobody notices.
    if home.is_dir() { Ok(home) } else { Err(Error::Gone { home, pointer }) }
}

/// Whether a server's socket can be in `folder`: a short path, of characters that neither the server's list of folders
/// nor a URL gives a meaning.
pub(super) fn fits_socket(folder: &Path) -> bool {
    let path = folder.as_os_str().as_bytes();
    path.len() + SOCKET_NAME <= LONGEST_SOCKET
        && path.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

/// From the lines `name:password:uid:gid:…` of the password file.
fn find_user(users: &str, wanted: &str) -> Option<RunAs> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(RunAs::Other { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\npostgres:x:113:121:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        let expected = RunAs::Other { name: "postgres".to_owned(), uid: 113, gid: 121 };
        assert_eq!(find_user(users, "postgres"), Some(expected));
        assert_eq!(find_user(users, "nobody"), None);
    }

    #[test]
    fn a_socket_needs_a_short_and_plain_path() {
        assert!(fits_socket(Path::new("/srv/granary/postgres/socket")));
        assert!(!fits_socket(Path::new("/srv/my data/socket")));
        assert!(!fits_socket(Path::new(&format!("/{}", "a".repeat(100)))));
    }
}
