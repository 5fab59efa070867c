//! Finds the programs of an installed `PostgreSQL`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use tokio::process::Command;

use super::error::{Context, Error};

/// The folder of the programs `postgres` and `initdb`.
#[derive(Debug)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    /// Takes the folder that is `named`, or the first with the version that the data needs: on the `PATH`, then where
    /// Debian's and Red Hat's packages put the servers, which is not on the `PATH`, newest first.
    pub async fn find(named: Option<&Path>, data: &Path) -> Result<Self, Error> {
        let folders = match named {
            Some(folder) if is_complete(folder) => vec![folder.to_owned()],
            Some(folder) => return Err(Error::NotInFolder(folder.to_owned())),
            None => candidates(),
        };
        let wanted = data_version(data)?;
        let mut found = BTreeSet::new();
        for folder in folders {
            match (version_of(&folder).await?, wanted) {
                (Some(version), Some(wanted)) if version != wanted => {
                    found.insert(version);
                }
                (Some(_), _) => return Ok(Self(folder)),
                (None, _) => {
                    tracing::warn!(folder = %folder.display(), "not a PostgreSQL server, passed over");
                }
            }
        }
        match wanted {
            Some(wanted) if !found.is_empty() => {
                let found = found.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                Err(Error::OtherVersion { data: data.to_owned(), wanted, found })
            }
            _ => Err(Error::NotInstalled),
        }
    }

    pub fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    pub fn initdb(&self) -> PathBuf {
        self.0.join("initdb")
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<(u32, PathBuf)> = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")]
        .into_iter()
        .filter_map(|(parent, prefix)| Some((fs::read_dir(parent).ok()?, prefix)))
        .flat_map(|(entries, prefix)| entries.filter_map(Result::ok).map(move |entry| (entry, prefix)))
        .filter_map(|(entry, prefix)| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    packaged.sort_by(|a, b| b.cmp(a));
    let packaged = packaged.into_iter().map(|(_, folder)| folder);
    env::split_paths(&path).chain(packaged).filter(|folder| is_complete(folder)).collect()
}

fn is_complete(folder: &Path) -> bool {
    ["postgres", "initdb"].iter().all(|program| folder.join(program).is_file())
}

/// The major version that the data needs, if there is data.
fn data_version(data: &Path) -> Result<Option<u32>, Error> {
    if !data.exists() {
        return Ok(None);
    }
    let path = data.join("PG_VERSION");
    let text = fs::read_to_string(&path).context("read", &path)?;
    Ok(text.trim().parse().ok())
}

async fn version_of(folder: &Path) -> Result<Option<u32>, Error> {
    let program = folder.join("postgres");
    let output =
        Command::new(&program).arg("--version").kill_on_drop(true).output().await.context("run", &program)?;
    Ok(major_version(&String::from_utf8_lossy(&output.stdout)))
}

/// From `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, or `17beta1`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_major_version_is_read() {
        assert_eq!(super::major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(super::major_version("postgres (PostgreSQL) 17beta1\n"), Some(17));
        assert_eq!(super::major_version("something else"), None);
    }
}
