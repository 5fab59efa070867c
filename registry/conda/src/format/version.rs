//! Versions and their order, as conda has it: epoch, numbers and letters in turn, and a local part.

use std::cmp::Ordering;

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version has letters, digits, '.', '_', '-', '*', an epoch before '!' and a local part behind '+'")]
pub struct VersionError;

/// One run of digits or of other characters. In the order of their variants: `DEV` stands before everything, `post` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `dev`.
    Dev,
    /// Any other letters, in lower case.
    Text(String),
    /// A number of any size, without zeros before it; the empty one is 0.
    Number(String),
    /// `post`.
    Post,
}

/// What stands where one version has a piece and the other one has none.
const ZERO: Piece = Piece::Number(String::new());

impl Piece {
    const fn rank(&self) -> u8 {
        match self {
            Self::Dev => 0,
            Self::Text(_) => 1,
            Self::Number(_) => 2,
            Self::Post => 3,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => {
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

type Component = Vec<Piece>;

/// A version that can be compared with others.
#[derive(Debug, Clone)]
pub struct Version {
    /// The epoch, then what stands between the dots.
    version: Vec<Component>,
    /// What stands behind `+`.
    local: Vec<Component>,
}

fn component(text: &str) -> Result<Component, VersionError> {
    let class = |c: char| {
        if c.is_ascii_digit() {
            0
        } else if c == '*' {
            1
        } else {
            2
        }
    };
    let mut pieces = Component::new();
    // Numbers and letters take turns, beginning with a number.
    if !text.chars().next().ok_or(VersionError)?.is_ascii_digit() {
        pieces.push(ZERO);
    }
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| class(c) != class(first)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        pieces.push(match run {
            _ if class(first) == 0 => Piece::Number(run.trim_start_matches('0').to_owned()),
            "dev" => Piece::Dev,
            "post" => Piece::Post,
            _ => Piece::Text(run.to_owned()),
        });
        rest = behind;
    }
    Ok(pieces)
}

fn components(text: &str) -> Result<Vec<Component>, VersionError> {
    text.split(['.', '_']).map(component).collect()
}

impl std::str::FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut text = text.trim().to_ascii_lowercase();
        if text.contains('-') && !text.contains('_') {
            text = text.replace('-', "_");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*.+!_".contains(&byte)) {
            return Err(VersionError);
        }
        let (epoch, rest) = text.split_once('!').unwrap_or(("0", &text));
        if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) || rest.contains('!') {
            return Err(VersionError);
        }
        let (version, local) = match rest.split_once('+') {
            Some((version, local)) if !local.contains('+') => (version, Some(local)),
            Some(_) => return Err(VersionError),
            None => (rest, None),
        };
        let mut all = vec![component(epoch)?];
        all.extend(components(version)?);
        Ok(Self { version: all, local: local.map(components).transpose()?.unwrap_or_default() })
    }
}

/// As if the shorter list went on with zeros.
fn compare(left: &[Component], right: &[Component]) -> Ordering {
    for index in 0..left.len().max(right.len()) {
        let (left, right) = (
            left.get(index).map(Vec::as_slice).unwrap_or_default(),
            right.get(index).map(Vec::as_slice).unwrap_or_default(),
        );
        for index in 0..left.len().max(right.len()) {
            let order = left.get(index).unwrap_or(&ZERO).compare(right.get(index).unwrap_or(&ZERO));
            if order.is_ne() {
                return order;
            }
        }
    }
    Ordering::Equal
}

impl Version {
    /// Whether this version begins with the other one: `1.2.3` and `1.2rc1` begin with `1.2`.
    pub fn starts_with(&self, start: &Self) -> bool {
        let (all, start) = if start.local.is_empty() {
            (&self.version, &start.version)
        } else if compare(&self.version, &start.version).is_eq() {
            (&self.local, &start.local)
        } else {
            return false;
        };
        let Some((last, before)) = start.split_last() else { return true };
        if compare(&all[..before.len().min(all.len())], before).is_ne() {
            return false;
        }
        let component = all.get(before.len()).map(Vec::as_slice).unwrap_or_default();
        let Some((last, before)) = last.split_last() else { return true };
        let head: Component = component.iter().take(before.len()).cloned().collect();
        if compare(&[head], &[before.to_vec()]).is_ne() {
            return false;
        }
        match (component.get(before.len()).unwrap_or(&ZERO), last) {
            (Piece::Text(text), Piece::Text(start)) => text.starts_with(start.as_str()),
            (piece, last) => piece.compare(last).is_eq(),
        }
    }
}

impl Version {
    /// The version without its last component; of one component nothing is left but the epoch.
    #[must_use]
    pub fn without_last(&self) -> Self {
        let mut version = self.version.clone();
        if version.len() > 1 {
            version.pop();
        }
        Self { version, local: Vec::new() }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.version, &other.version).then_with(|| compare(&self.local, &other.local))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// The order of two texts as versions. What is no version stands below all that are, in the order of its letters.
pub fn order(left: &str, right: &str) -> Ordering {
    match (left.parse::<Version>(), right.parse::<Version>()) {
        (Ok(left), Ok(right)) => left.cmp(&right),
        (Err(_), Err(_)) => left.cmp(right),
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Ok(_)) => Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn the_order_is_condas() {
        // The order that conda documents of its versions.
        let groups: [&[&str]; 22] = [
            &["0.4", "0.4.0"],
            &["0.4.1.rc", "0.4.1.RC"],
            &["0.4.1"],
            &["0.5a1"],
            &["0.5b3"],
            &["0.5C1"],
            &["0.5"],
            &["0.9.6"],
            &["0.960923"],
            &["1.0"],
            &["1.1dev1"],
            &["1.1a1"],
            &["1.1.0dev1", "1.1.dev1"],
            &["1.1.a1"],
            &["1.1.0rc1"],
            &["1.1.0", "1.1"],
            &["1.1.0post1", "1.1.post1"],
            &["1.1post1"],
            &["1996.07.12"],
            &["1!0.4.1"],
            &["1!3.1.1.6"],
            &["2!0.4.1"],
        ];
        for (index, group) in groups.iter().enumerate() {
            for text in *group {
                for other in *group {
                    assert_eq!(version(text), version(other));
                }
                for later in &groups[index + 1..] {
                    assert!(version(text) < version(later[0]), "{text} {}", later[0]);
                }
            }
        }
        assert!(version("1.0+1") > version("1.0") && version("1.0+1.2") > version("1.0+1.1"));
        assert!(version("99999999999999999999999999") > version("9999999999999999999999"));
    }

    #[test]
    fn a_version_begins_with_another() {
        for (text, start, does) in [
            ("1.2.3", "1.2", true),
            ("1.2", "1.2", true),
            ("1.20", "1.2", false),
            ("1.2rc1", "1.2", true),
            ("1.2.0", "1.2.0.0", true),
            ("1.alpha2", "1.alpha", true),
            ("1.alphabet", "1.alpha", true),
            ("1!1.2", "1.2", false),
            ("1.2+3.4", "1.2+3", true),
            ("1.3+3.4", "1.2+3", false),
            ("2", "2.0", true),
        ] {
            assert_eq!(version(text).starts_with(&version(start)), does, "{text} {start}");
        }
    }

    #[test]
    fn texts_that_are_no_versions() {
        for text in ["", " ", "1..2", "1!2!3", "a!1", "1+2+3", "1 2", "ä", "1.", "_1"] {
            assert_eq!(text.parse::<Version>().unwrap_err(), VersionError, "{text}");
        }
        assert_eq!(order("1..2", "1.0"), Ordering::Less);
        assert_eq!(order("1.0", "1..2"), Ordering::Greater);
        assert_eq!(order("1..2", "1..3"), Ordering::Less);
        assert_eq!(order("1.10", "1.9"), Ordering::Greater);
    }
}
