//! What a dependency asks for, as far as it is needed to know which packages satisfy it: name, version and build.
//!
//! Channels, subdirs and the other fields of a spec are not looked at: they are for whoever solves.

use super::version::Version;

/// A dependency. What cannot be read asks for nothing that there is.
#[derive(Debug, Clone)]
pub struct MatchSpec {
    name: String,
    version: VersionSpec,
    build: Option<String>,
}

/// Which versions.
#[derive(Debug, Clone)]
enum VersionSpec {
    Any,
    /// Of these texts nothing is known.
    None,
    All(Vec<Self>),
    OneOf(Vec<Self>),
    Compared(Operator, Version),
    /// A text with `*`, whatever a version is.
    Glob(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    StartsWith,
    StartsNotWith,
    /// `~=`: at least this, and the same but for the last component.
    Compatible,
}

impl MatchSpec {
    /// Reads a dependency: `NAME`, `NAME VERSION`, `NAME VERSION BUILD`, `NAME=VERSION=BUILD`, `NAME[version='…',build='…']`, each
    /// with a channel and a comment around it.
    pub fn parse(text: &str) -> Self {
        let text = text.split('#').next().unwrap_or_default().trim();
        let (text, bracket) = match text.split_once('[') {
            Some((before, fields)) => (before.trim(), fields.trim_end_matches(']')),
            None => (text, ""),
        };
        let text = text.rsplit_once("::").map_or(text, |(_, rest)| rest);
        let end = text.find([' ', '=', '<', '>', '!', '~']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let rest = rest.trim();
        let (mut version, mut build) = (rest.to_owned(), None);
        if let Some((before, after)) = split_build(rest) {
            before.clone_into(&mut version);
            build = Some(after.to_owned()).filter(|build| build != "*");
        } else if rest.starts_with('=') && !rest.starts_with("==") && !rest.contains([',', '|']) {
            // NAME=VERSION and NAME=VERSION=BUILD
            match rest[1..].split_once('=') {
                Some((before, after)) if !before.is_empty() => {
                    version = format!("=={before}");
                    build = Some(after.to_owned()).filter(|build| build != "*");
                }
                _ => {}
            }
        }
        let mut spec =
            Self { name: name.trim().to_ascii_lowercase(), version: VersionSpec::parse(&version), build };
        for (field, value) in bracket_fields(bracket) {
            match field {
                "version" => spec.version = VersionSpec::parse(value),
                "build" => spec.build = Some(value.to_owned()).filter(|build| build != "*"),
                _ => {}
            }
        }
        spec
    }

    /// The package that is asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a package of the name with this version and build is what is asked for.
    pub fn matches(&self, version: &str, build: &str) -> bool {
        self.version.matches(version) && self.build.as_deref().is_none_or(|spec| glob(spec, build))
    }
}

/// A version and a build with a space in between. Operators may have a space behind them.
fn split_build(rest: &str) -> Option<(&str, &str)> {
    let (before, after) = rest.rsplit_once(char::is_whitespace)?;
    let before = before.trim();
    let is_operator = before.is_empty() || before.ends_with(['=', '<', '>', '!', '~', ',', '|', '(']);
    let is_version = after.starts_with(['=', '<', '>', '!', '~', ',', '|', ')']);
    (!is_operator && !is_version).then_some((before, after))
}

fn bracket_fields(fields: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = fields;
    std::iter::from_fn(move || {
        let (field, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let (value, behind) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => after.split_once(',').map_or((after, ""), |(value, rest)| (value, rest)),
        };
        rest = behind.trim_start_matches([',', ' ']);
        Some((field.trim(), value.trim()))
    })
}

/// Whether `*` in a pattern can stand for what the text has there. In a time that both lengths bound.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

impl VersionSpec {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() || text == "*" {
            return Self::Any;
        }
        Self::one_of(text, 0).unwrap_or(Self::None)
    }

    /// `|` binds less than `,`.
    fn one_of(text: &str, depth: usize) -> Option<Self> {
        let parts = split_outside(text, '|')?;
        let specs = parts.into_iter().map(|part| Self::all(part, depth)).collect::<Option<Vec<_>>>()?;
        Some(if specs.len() == 1 { specs.into_iter().next()? } else { Self::OneOf(specs) })
    }

    fn all(text: &str, depth: usize) -> Option<Self> {
        let parts = split_outside(text, ',')?;
        let specs = parts.into_iter().map(|part| Self::single(part, depth)).collect::<Option<Vec<_>>>()?;
        Some(if specs.len() == 1 { specs.into_iter().next()? } else { Self::All(specs) })
    }

    fn single(text: &str, depth: usize) -> Option<Self> {
        const DEEPEST: usize = 16;
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
            return if depth < DEEPEST { Self::one_of(inner, depth + 1) } else { None };
        }
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("~=", Operator::Compatible),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("=", Operator::StartsWith),
        ];
        let found = operators.iter().find_map(|(mark, operator)| Some((text.strip_prefix(mark)?, *operator)));
        if text == "*" {
            return Some(Self::Any);
        }
        let (version, operator) = match found {
            Some((version, operator)) => match (version.trim().strip_suffix(".*"), operator) {
                (Some(start), Operator::NotEqual) => (start, Operator::StartsNotWith),
                (Some(start), Operator::Equal) => (start, Operator::StartsWith),
                (Some(start), operator) => (start, operator),
                (None, operator) => (version.trim(), operator),
            },
            None => match text.strip_suffix('*') {
                Some(start) if !start.contains('*') => (start.trim_end_matches('.'), Operator::StartsWith),
                _ if text.contains('*') => return Some(Self::Glob(text.to_ascii_lowercase())),
                _ => (text, Operator::Equal),
            },
        };
        Some(Self::Compared(operator, version.parse().ok()?))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::All(specs) => specs.iter().all(|spec| spec.matches(text)),
            Self::OneOf(specs) => specs.iter().any(|spec| spec.matches(text)),
            Self::Glob(pattern) => glob(pattern, &text.to_ascii_lowercase()),
            Self::Compared(operator, than) => {
                text.parse().is_ok_and(|version| operator.holds(&version, than))
            }
        }
    }
}

/// The parts between these characters that stand in no parentheses; `None` where these do not match.
fn split_outside(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut depth, mut begin, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            c if c == separator && depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (depth == 0).then_some(parts)
}

impl Operator {
    fn holds(self, version: &Version, than: &Version) -> bool {
        match self {
            Self::Equal => version == than,
            Self::NotEqual => version != than,
            Self::Less => version < than,
            Self::LessOrEqual => version <= than,
            Self::Greater => version > than,
            Self::GreaterOrEqual => version >= than,
            Self::StartsWith => version.starts_with(than),
            Self::StartsNotWith => !version.starts_with(than),
            Self::Compatible => version >= than && version.starts_with(&than.without_last()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn dependencies_ask_for_versions_and_builds() {
        for (spec, version, build, matches) in [
            ("a", "1", "0", true),
            ("a *", "1", "0", true),
            ("a 1.0", "1.0.0", "0", true),
            ("a 1.0", "1.0.1", "0", false),
            ("a 1.0.*", "1.0.1", "0", true),
            ("a 1.0*", "1.0.1", "0", true),
            ("a =1.0", "1.0.1", "0", true),
            ("a=1.0", "1.0.1", "0", true),
            ("a=1.0", "1.1", "0", false),
            ("a==1.0", "1.0.1", "0", false),
            ("a=1.0=py_0", "1.0", "py_0", true),
            ("a=1.0=py_0", "1.0.1", "py_0", false),
            ("a 1.0 py*_0", "1.0", "py39_0", true),
            ("a 1.0 py*_0", "1.0", "py39_1", false),
            ("a * *_cpython", "3.9", "h_cpython", true),
            ("a >=1,<2", "1.5", "0", true),
            ("a >=1,<2", "2.0", "0", false),
            ("a >=1,<2.0a0", "2.0a1", "0", false),
            ("a >= 1.0", "1.5", "0", true),
            ("a 1.5|1.6", "1.6", "0", true),
            ("a 1.5|>=1.7,<1.9", "1.8", "0", true),
            ("a (1.5|>=1.7),<1.6", "1.8", "0", false),
            ("a !=1.5.*", "1.5.1", "0", false),
            ("a !=1.5", "1.5.1", "0", true),
            ("a ~=1.5.2", "1.5.9", "0", true),
            ("a ~=1.5.2", "1.6", "0", false),
            ("a 1.*.3", "1.2.3", "0", true),
            ("a[version='>=2',build=x*]", "2.1", "xy", true),
            ("a[version='>=2',build=x*]", "2.1", "y", false),
            ("conda-forge::a >=2 # comment", "2", "0", true),
            ("a ((1)", "1", "0", false),
            ("a >=", "1", "0", false),
            ("a 1!2.0", "1!2.0", "0", true),
            ("a >=1", "1..2", "0", false),
        ] {
            let spec_ = MatchSpec::parse(spec);
            assert_eq!(spec_.name(), "a", "{spec}");
            assert_eq!(spec_.matches(version, build), matches, "{spec} {version} {build}");
        }
        let deep = format!("a {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(!MatchSpec::parse(&deep).matches("1", "0"));
    }
}
