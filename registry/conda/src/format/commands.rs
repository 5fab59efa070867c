//! Which commands a package brings, and the map from commands to packages that conda-suggest reads.
//!
//! The map's lines are `COMMAND:PACKAGE`, sorted by command and then by package, since its reader bisects them
//! (`Mapfile` in `conda_suggest/finder.py`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::version::Version;

/// The most commands of one package that are kept.
pub const MOST: usize = 10_000;
/// The longest command, in bytes: that of a file's name.
const LONGEST: usize = 255;
/// Where the programs of a package stand: on Unix, on Windows, and in Python packages for every platform.
const FOLDERS: [&str; 3] = ["bin/", "Scripts/", "python-scripts/"];

/// The command that a file of a package is, if it is one.
pub fn of_path(path: &str) -> Option<&str> {
    FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)).filter(|command| is_command(command))
}

/// The commands that `info/link.json` has installers make for a Python package: `NAME = MODULE:FUNCTION`.
/// What is not as it should be describes no command.
pub fn of_link_json(bytes: &[u8]) -> impl Iterator<Item = String> {
    let link: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let points = link.pointer("/noarch/entry_points").and_then(Value::as_array).cloned().unwrap_or_default();
    points.into_iter().filter_map(|point| {
        let (command, _) = point.as_str()?.split_once('=')?;
        Some(command.trim()).filter(|command| is_command(command)).map(str::to_owned)
    })
}

/// What can stand in a map: no separator of its own, and nothing that a reader may take for the end of a line.
fn is_command(text: &str) -> bool {
    let splits = |c: char| c.is_control() || matches!(c, ':' | '/' | '\u{2028}' | '\u{2029}');
    (1..=LONGEST).contains(&text.len()) && !text.contains(splits)
}

/// One build of a package, as far as the map is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build<'a> {
    /// The version.
    pub version: &'a str,
    /// What it brings.
    pub commands: Vec<&'a str>,
}

/// The commands of a package: those of all builds of its newest version, by the order of CEP 33. A version that does
/// not follow it is older than all that do.
pub fn of_newest<'a>(builds: &[Build<'a>]) -> BTreeSet<&'a str> {
    let version = |build: &Build<'_>| build.version.parse::<Version>().ok();
    let newest = builds.iter().map(version).max().flatten();
    let of_newest = builds.iter().filter(|build| version(build) == newest);
    of_newest.flat_map(|build| build.commands.iter().copied()).collect()
}

/// The map of these packages and their commands.
pub fn map<'a>(packages: impl IntoIterator<Item = (&'a str, &'a [String])>) -> String {
    let packages = packages.into_iter();
    let mut lines: Vec<(&str, &str)> = packages
        .flat_map(|(package, commands)| commands.iter().map(move |command| (command.as_str(), package)))
        .collect();
    lines.sort_unstable();
    let mut map = String::new();
    for (command, package) in lines {
        map.extend([command, ":", package, "\n"]);
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn commands_stand_directly_in_the_folders_of_programs() {
        for (path, command) in [("bin/git", "git"), ("Scripts/x.exe", "x.exe"), ("python-scripts/a b", "a b")]
        {
            assert_eq!(of_path(path), Some(command));
        }
        for path in ["bin/", "bin/dir/x", "lib/bin/x", "sbin/x", "bin/a:b", "bin/a\u{85}b", "share/bin"] {
            assert_eq!(of_path(path), None, "{path}");
        }
    }

    #[test]
    fn entry_points_are_commands() {
        let link = br#"{"noarch": {"type": "python", "entry_points": ["acme = acme.cli:main", "no", 1, "a/b = x:y"]}}"#;
        assert_eq!(of_link_json(link).collect::<Vec<_>>(), ["acme"]);
        for other in [&b"{}"[..], b"[]", b"no json", br#"{"noarch": {"entry_points": {}}}"#] {
            assert_eq!(of_link_json(other).count(), 0);
        }
    }

    #[test]
    fn the_newest_version_counts_and_not_the_greatest_text() {
        let build = |version, commands: &[&'static str]| Build { version, commands: commands.to_vec() };
        let builds = [
            build("9.0", &["old"]),
            build("10.0", &["a"]),
            build("10.0.0", &["b", "a"]),
            build("10.0rc1", &["candidate"]),
            build("1!?", &["none"]),
        ];
        assert_eq!(of_newest(&builds).into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(of_newest(&[build("?", &["x"])]).len(), 1);
        assert!(of_newest(&[]).is_empty());
    }

    #[test]
    fn the_map_is_sorted_by_command_and_package() {
        let (git, hub) = (["git".to_owned(), "git-lfs".to_owned()], ["git".to_owned()]);
        let packages = [("hub", &hub[..]), ("git", &git[..]), ("nothing", &[])];
        assert_eq!(map(packages), "git:git\ngit:hub\ngit-lfs:git\n");
        assert_eq!(map([]), "");
    }
}
