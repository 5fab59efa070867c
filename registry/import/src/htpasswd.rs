//! Password files of Apache's `htpasswd`, which an authenticator of the registry reads as they are.
//!
//! Format: the manual of Apache httpd, "Password Formats": a line `NAME:HASH` each, empty lines and lines that begin with `#`
//! are passed over.

use std::collections::BTreeSet;
use std::fmt;

use granary_core::SubjectName;

use crate::report::Report;

/// How a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashKind {
    /// bcrypt: `$2y$`, `$2b$`, `$2a$`.
    Bcrypt,
    /// Apache's own MD5: `$apr1$`.
    Apr1,
    /// SHA-1 without salt: `{SHA}`.
    Sha,
    /// `crypt(3)` with SHA-256 or SHA-512: `$5$`, `$6$`.
    CryptSha,
    /// `crypt(3)` with MD5: `$1$`.
    CryptMd5,
    /// `crypt(3)` with DES, or the password itself: the two cannot be told apart for certain.
    CryptOrPlain,
}

impl HashKind {
    fn of(hash: &str) -> Self {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| hash.starts_with(prefix));
        match hash {
            _ if begins(&["$2y$", "$2b$", "$2a$"]) => Self::Bcrypt,
            _ if begins(&["$apr1$"]) => Self::Apr1,
            _ if begins(&["{SHA}"]) => Self::Sha,
            _ if begins(&["$5$", "$6$"]) => Self::CryptSha,
            _ if begins(&["$1$"]) => Self::CryptMd5,
            _ => Self::CryptOrPlain,
        }
    }

    /// Whether the authenticator `htpasswd` can check it.
    pub const fn is_carried(self) -> bool {
        matches!(self, Self::Bcrypt | Self::Apr1 | Self::Sha)
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt => "bcrypt",
            Self::Apr1 => "apr1",
            Self::Sha => "SHA-1",
            Self::CryptSha => "SHA crypt",
            Self::CryptMd5 => "MD5 crypt",
            Self::CryptOrPlain => "crypt or plain text",
        })
    }
}

/// A password file that has been read.
#[derive(Debug, Default)]
pub struct Htpasswd {
    /// Who may log in by it, and how the password is hashed.
    pub carried: Vec<(SubjectName, HashKind)>,
    /// What the authenticator will not take, and what else there is to know.
    pub report: Report,
}

/// Reads a password file. No hash is kept.
pub fn read(text: &str) -> Htpasswd {
    let mut read = Htpasswd::default();
    let mut seen = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':') else {
            read.report.not_carried(format!("line {number}: is not NAME:HASH"));
            continue;
        };
        // Some servers keep a group or a comment behind the hash.
        let kind = HashKind::of(hash.split(':').next().unwrap_or_default());
        let Ok(subject) = name.parse::<SubjectName>() else {
            read.report.not_carried(format!(
                "line {number}: {name:?} is no name of an account here: letters, digits, '.', '_', '-' and '@'"
            ));
            continue;
        };
        if !seen.insert(subject.clone()) {
            read.report.note(format!("line {number}: {name} is there already, and the first line counts"));
        } else if kind.is_carried() {
            read.carried.push((subject, kind));
        } else {
            read.report.not_carried(format!(
                "{name}: its password is kept as {kind}, which is not checked here; \
                 hash it anew with `htpasswd -B FILE {name}`"
            ));
        }
    }
    if read.carried.iter().any(|(_, kind)| *kind == HashKind::Sha) {
        read.report
            .note("SHA-1 without salt is soon guessed by whoever gets hold of the file; bcrypt is not");
    }
    read
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn each_kind_of_hash_is_known() {
        let file = "# people\n\nada:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n\
                    bob:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\neve:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n\
                    mal:rqXexS6ZhobKA\nold:$1$abc$def\nnew:$6$abc$def\nno name:{SHA}x\nbroken\nada:{SHA}x\r\n";
        let read = read(file);
        let carried: Vec<_> = read.carried.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(carried, [("ada", HashKind::Bcrypt), ("bob", HashKind::Apr1), ("eve", HashKind::Sha)]);
        let report = read.report.to_string();
        for part in
            ["mal: ", "old: ", "new: ", "line 9: \"no name\"", "line 10: is not", "line 11: ada is there"]
        {
            assert!(report.contains(part), "{part}: {report}");
        }
        assert!(!report.contains("rqXexS6ZhobKA"), "{report}");
        assert!(!read.report.is_complete());
    }
}
