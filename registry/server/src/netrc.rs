//! The file `~/.netrc`, from which pip, curl and many others take passwords: one entry is put in or replaced, and all else
//! stays as it is written.
//!
//! Its grammar is that of ftp(1), with the comments that Python's `netrc` takes.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Puts an entry into a file, which is made with mode 0600 if it is not there, and replaced as a whole: nobody sees half of it.
/// A file that others may read has that taken from them.
pub fn put(path: &Path, host: &str, login: &str, password: &str) -> io::Result<()> {
    // Through links: a file may live among somebody's dotfiles.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    // Made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(".netrc-").tempfile_in(folder)?;
    file.write_all(with_entry(&text, host, login, password).as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// The text with one entry for the host, in the place of the first that it had. A new one stands before `default`, behind which
/// nothing is read.
fn with_entry(text: &str, host: &str, login: &str, password: &str) -> String {
    let entry = format!("machine {host} login {login} password {password}");
    let read = read(text, host);
    let Some(first) = read.own.first() else {
        let at = read.default.unwrap_or(text.len());
        let (before, after) = text.split_at(at);
        let line_end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        return format!("{before}{line_end}{entry}\n{after}");
    };
    let mut with = String::with_capacity(text.len() + entry.len());
    let mut done = 0;
    for own in &read.own {
        with.push_str(&text[done..own.start]);
        if own == first {
            with.push_str(&entry);
        }
        done = own.end;
    }
    with + &text[done..]
}

/// Where the entries of a host stand, and where `default` begins.
struct Places {
    own: Vec<Range<usize>>,
    default: Option<usize>,
}

fn read(text: &str, host: &str) -> Places {
    let mut words = Words { text, at: 0 };
    let mut places = Places { own: Vec::new(), default: None };
    // The entry that the words belong to, if it is one of the host's.
    let mut open: Option<Range<usize>> = None;
    while let Some(word) = words.next() {
        match &text[word.clone()] {
            "machine" => {
                places.own.extend(open.take());
                let name = words.next();
                open = name.filter(|name| &text[name.clone()] == host).map(|name| word.start..name.end);
            }
            "default" => {
                places.own.extend(open.take());
                places.default = places.default.or(Some(word.start));
            }
            "macdef" => {
                places.own.extend(open.take());
                words.skip_macro();
            }
            comment if comment.starts_with('#') => words.skip_line(word.start),
            // login, user, account, password: each with a value that may be any word.
            _ => {
                let value = words.next();
                if let (Some(open), Some(value)) = (&mut open, value) {
                    open.end = value.end;
                }
            }
        }
    }
    places.own.extend(open);
    places
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl Words<'_> {
    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find("\n\n").map_or(rest.len(), |end| end + 2);
    }

    fn skip_line(&mut self, from: usize) {
        let rest = &self.text[from..];
        self.at = from + rest.find('\n').map_or(rest.len(), |end| end + 1);
    }
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = &self.text[self.at..];
        let start = self.at + rest.find(|c: char| !c.is_whitespace())?;
        let word = &self.text[start..];
        self.at = start + word.find(char::is_whitespace).unwrap_or(word.len());
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NEW: &str = "machine packages.example login ada password granary_x_y";

    fn with(text: &str) -> String {
        with_entry(text, "packages.example", "ada", "granary_x_y")
    }

    #[test]
    fn an_entry_is_put_where_it_is_read() {
        for (before, after) in [
            ("", format!("{NEW}\n")),
            ("machine a login b password c\n", format!("machine a login b password c\n{NEW}\n")),
            ("machine a login b password c", format!("machine a login b password c\n{NEW}\n")),
            ("machine a login b\ndefault login c\n", format!("machine a login b\n{NEW}\ndefault login c\n")),
            ("default login c password machine", format!("{NEW}\ndefault login c password machine")),
        ] {
            assert_eq!(with(before), after, "{before:?}");
        }
    }

    #[test]
    fn an_entry_is_replaced_and_nothing_else_is_touched() {
        for (before, after) in [
            ("machine packages.example login old password old\n", format!("{NEW}\n")),
            (
                "# mine\nmachine packages.example\n  login old\n  password #old\n# next\nmachine b login c\n",
                format!("# mine\n{NEW}\n# next\nmachine b login c\n"),
            ),
            // A value may be any word, also one that means something elsewhere.
            (
                "machine a login machine password packages.example\nmachine packages.example password default\n",
                format!("machine a login machine password packages.example\n{NEW}\n"),
            ),
            (
                "machine a\nmacdef init\nmachine packages.example login x\n\nmachine packages.example login y\n",
                format!("machine a\nmacdef init\nmachine packages.example login x\n\n{NEW}\n"),
            ),
            ("# machine packages.example login x\n", format!("# machine packages.example login x\n{NEW}\n")),
            (
                "machine packages.example login a\nmachine b login c\nmachine packages.example login d\n",
                format!("{NEW}\nmachine b login c\n\n"),
            ),
            (
                "machine packages.example.evil login a\n",
                format!("machine packages.example.evil login a\n{NEW}\n"),
            ),
            ("machine packages.example", NEW.to_owned()),
        ] {
            assert_eq!(with(before), after, "{before:?}");
            assert_eq!(with(&with(before)), after, "twice: {before:?}");
        }
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join(".netrc"));
        std::fs::write(&real, "machine a login b password c\n").unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o644)).unwrap();
        symlink(&real, &link).unwrap();
        put(&link, "packages.example", "ada", "granary_x_y").unwrap();
        assert_eq!(std::fs::read_to_string(&real).unwrap(), format!("machine a login b password c\n{NEW}\n"));
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink());
        let fresh = folder.path().join("fresh");
        put(&fresh, "packages.example", "ada", "granary_x_y").unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
