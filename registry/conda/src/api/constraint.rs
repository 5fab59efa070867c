//! What a version has to be: `>=1.2,<2`, `1.2.*`, `==1.0|!=3`. A comma is "and" and binds closer than a bar, which is "or".

use crate::format::version::Version;

/// A text that says nothing about versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write versions such as 1.2.*, >=1.2,<2 or ==1.0|==1.1")]
pub(crate) struct ConstraintError;

#[derive(Debug, Clone)]
enum Condition {
    Any,
    Equal(Version),
    Unequal(Version),
    Above(Version),
    AboveOrEqual(Version),
    Below(Version),
    BelowOrEqual(Version),
    Begins(Version),
    BeginsNot(Version),
    /// At least this, and beginning with the other.
    Compatible(Version, Version),
}

/// Alternatives of conditions that hold together.
#[derive(Debug, Clone)]
pub(crate) struct Constraint(Vec<Vec<Condition>>);

fn version(text: &str) -> Result<Version, ConstraintError> {
    text.parse().map_err(|_| ConstraintError)
}

fn condition(text: &str) -> Result<Condition, ConstraintError> {
    let text = text.trim();
    if text == "*" {
        return Ok(Condition::Any);
    }
    let operators = ["==", "!=", ">=", "<=", "~=", ">", "<", "="];
    let (operator, rest) = operators
        .into_iter()
        .find_map(|operator| text.strip_prefix(operator).map(|rest| (operator, rest.trim())))
        .unwrap_or(("", text));
    let start = rest.strip_suffix(".*").or_else(|| rest.strip_suffix('*'));
    let plain = start.unwrap_or(rest);
    let read = version(plain)?;
    Ok(match (operator, start.is_some()) {
        ("" | "==" | "=", true) | ("=", false) => Condition::Begins(read),
        ("!=", true) => Condition::BeginsNot(read),
        ("" | "==", false) => Condition::Equal(read),
        ("!=", false) => Condition::Unequal(read),
        (">", _) => Condition::Above(read),
        (">=", _) => Condition::AboveOrEqual(read),
        ("<", _) => Condition::Below(read),
        ("<=", _) => Condition::BelowOrEqual(read),
        _ => {
            let (before, _) = plain.rsplit_once('.').ok_or(ConstraintError)?;
            Condition::Compatible(read, version(before)?)
        }
    })
}

impl Condition {
    fn admits(&self, version: &Version) -> bool {
        match self {
            Self::Any => true,
            Self::Equal(other) => version == other,
            Self::Unequal(other) => version != other,
            Self::Above(other) => version > other,
            Self::AboveOrEqual(other) => version >= other,
            Self::Below(other) => version < other,
            Self::BelowOrEqual(other) => version <= other,
            Self::Begins(start) => version.starts_with(start),
            Self::BeginsNot(start) => !version.starts_with(start),
            Self::Compatible(least, start) => version >= least && version.starts_with(start),
        }
    }
}

impl Constraint {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, ConstraintError> {
        let all = |text: &str| text.split(',').map(condition).collect::<Result<Vec<_>, _>>();
        Ok(Self(text.split('|').map(all).collect::<Result<_, _>>()?))
    }

    /// Whether a version is one of those. What is no version is none.
    pub(crate) fn admits(&self, version: &str) -> bool {
        let Ok(version) = version.parse::<Version>() else { return false };
        self.0.iter().any(|all| all.iter().all(|condition| condition.admits(&version)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn versions_fit_or_do_not() {
        for (constraint, fitting, others) in [
            ("*", &["1", "2.0"][..], &[][..]),
            (">=1.2,<2", &["1.2", "1.10"], &["1.1", "2.0"]),
            ("1.2.*", &["1.2", "1.2.3"], &["1.20", "1.1"]),
            ("=1.2", &["1.2.3"], &["1.3"]),
            ("1.2", &["1.2", "1.2.0"], &["1.2.1"]),
            ("!=1.2", &["1.3"], &["1.2"]),
            ("==1.0|==1.1", &["1.0", "1.1"], &["1.2"]),
            ("~=1.4.2", &["1.4.2", "1.4.9"], &["1.5", "1.4.1"]),
            (">1", &["1.1", "2"], &["1", "1rc1"]),
        ] {
            let constraint = Constraint::parse(constraint).unwrap();
            assert!(fitting.iter().all(|version| constraint.admits(version)), "{constraint:?}");
            assert!(!others.iter().any(|version| constraint.admits(version)), "{constraint:?}");
        }
    }

    #[test]
    fn nonsense_is_none() {
        for text in ["", ">=", "1,,2", "a b", "~=1"] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
    }
}
