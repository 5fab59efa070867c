//! Conan references, and the patterns over them that stand before the colon of a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::ini::strip;

/// Which server read the rules. They differ in what a reference may be, in when two versions are the same, and in the
/// rule about owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The server within `conan` 1.x.
    One,
    /// `conan_server` 2.x.
    Two,
}

/// A recipe, as a request names it: `name/version@user/channel`.
///
/// **This text is the package name that grants of a `conan` channel are about**, with `_` where a recipe has no user
/// and no channel, as it has in the URLs of Conan's protocol: `zlib/1.3.1@_/_`. The version stands as it was written:
/// Conan takes `1.0` and `1.0.0` for the same version when it looks for the newest, and keeps them as two recipes. Neither part
/// holds a `/` or an `@`, so that `*` in a pattern never reaches from one part into the next as long as the pattern
/// has all four.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The name.
    pub name: String,
    /// The version, as written.
    pub version: String,
    /// The user, or `_`.
    pub user: String,
    /// The channel, or `_`.
    pub channel: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}/{}", self.name, self.version, self.user, self.channel)
    }
}

/// What stands for no user and no channel.
pub(crate) const ABSENT: &str = "_";

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// `*`.
    Any,
    /// This and nothing else. Of a version this is its [`Generation::version_key`].
    Is(String),
}

impl Part {
    fn of(text: &str) -> Self {
        if text == "*" { Self::Any } else { Self::Is(text.to_owned()) }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(own) => own == text,
        }
    }
}

/// Name, version, user and channel of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pattern([Part; 4]);

/// The place of the version in a pattern.
const VERSION: usize = 1;

impl Pattern {
    pub(crate) const EVERYTHING: Self = Self([Part::Any, Part::Any, Part::Any, Part::Any]);

    /// All recipes of a user.
    pub(crate) fn of_user(user: &str) -> Self {
        Self([Part::Any, Part::Any, Part::Is(user.to_owned()), Part::Any])
    }

    pub(crate) fn parts(&self) -> &[Part; 4] {
        &self.0
    }

    /// What the version is compared by; none when every version matches.
    pub(crate) fn version_key(&self) -> Option<&str> {
        match &self.0[VERSION] {
            Part::Any => None,
            Part::Is(key) => Some(key),
        }
    }

    /// The user, where the pattern names one.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.0[2] {
            Part::Any => None,
            Part::Is(user) => Some(user),
        }
    }

    /// Whether a reference of this generation matches.
    pub(crate) fn matches(&self, reference: &Reference, generation: Generation) -> bool {
        let version = generation.version_key(&reference.version);
        let texts = [&reference.name, &version, &reference.user, &reference.channel];
        self.0.iter().zip(texts).all(|(part, text)| part.matches(text))
    }

    /// The references that match both; none when there are none.
    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        for (own, other) in both.0.iter_mut().zip(&other.0) {
            match (&*own, other) {
                (_, Part::Any) => {}
                (Part::Any, _) => *own = other.clone(),
                (own, other) if own == other => {}
                _ => return None,
            }
        }
        Some(both)
    }

    /// Whether every reference that matches the other matches this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| *own == Part::Any || own == other)
    }

    /// The patterns of a grant for it: one for each spelling of its version.
    pub(crate) fn texts(&self, spellings: &Spellings) -> Vec<String> {
        let text = |part: &Part| match part {
            Part::Any => "*".to_owned(),
            Part::Is(text) => text.clone(),
        };
        let versions = match &self.0[VERSION] {
            Part::Any => vec!["*".to_owned()],
            Part::Is(key) => spellings.of(key),
        };
        let [name, _, user, channel] = &self.0;
        let (name, user, channel) = (text(name), text(user), text(channel));
        versions.iter().map(|version| format!("{name}/{version}@{user}/{channel}")).collect()
    }
}

/// What stands before the colon of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RulePattern {
    /// These references.
    Matches(Pattern, Option<String>),
    /// A reference, but none that a request can name: the server goes on to the next rule.
    Never,
    /// No reference: the server answers 500 to everybody who gets as far as this rule.
    Unreadable,
}

impl Generation {
    /// What two spellings of one version have in common.
    pub(crate) fn version_key(self, version: &str) -> String {
        match self {
            Self::One => version_key_of_one(version),
            Self::Two => version_key_of_two(version),
        }
    }

    /// Reads the pattern of a rule as `ConanFileReference.loads` (1.x) and `RecipeReference.loads` (2.x) do.
    pub(crate) fn pattern(self, text: &str) -> RulePattern {
        let fields = match self {
            Self::One => fields_of_one(text),
            Self::Two => fields_of_two(text),
        };
        let Some([name, version, user, channel]) = fields else { return RulePattern::Unreadable };
        let user_and_channel = match (self, user, channel) {
            (Self::One, user, channel) => Some((user.unwrap_or(ABSENT), channel.unwrap_or(ABSENT))),
            // A request to a 2.x server names `_`, and a rule without a user and a channel does not mean that.
            (Self::Two, user, channel) => user.zip(channel),
        };
        let Some((name, version, (user, channel))) =
            name.zip(version).zip(user_and_channel).map(|((name, version), rest)| (name, version, rest))
        else {
            return RulePattern::Never;
        };
        let possible = |text: &str| text == "*" || is_legal(text);
        let version_part = match version {
            "*" => Part::Any,
            version => Part::Is(self.version_key(version)),
        };
        // A version may be written in a way that no reference may and be the same as one that may (` 1`, of 2.x).
        let version_possible = possible(version) || !self.spellings_of(&self.version_key(version)).is_empty();
        // A recipe has both user and channel, or neither.
        let (user, channel) = match (user, channel) {
            (ABSENT, "*") | ("*", ABSENT) => (ABSENT, ABSENT),
            both => both,
        };
        let half = (user == ABSENT) != (channel == ABSENT);
        if half || !(possible(name) && version_possible && possible(user) && possible(channel)) {
            return RulePattern::Never;
        }
        let written = (version_part != Part::Any && is_legal(version)).then(|| version.to_owned());
        let pattern = Pattern([Part::of(name), version_part, Part::of(user), Part::of(channel)]);
        RulePattern::Matches(pattern, written)
    }
}

/// Whether the text may be a part of a reference: letters, digits, `_`, `+`, `.` and `-`, beginning with one of the first
/// three. No part is longer than a hundred and one.
pub(crate) fn is_legal(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && text.len() <= 101 && text.bytes().all(inner)
}

type Fields<'a> = [Option<&'a str>; 4];

/// `ConanFileReference.loads` with its validation.
fn fields_of_one(text: &str) -> Option<Fields<'_>> {
    let something = |text: Option<&'_ str>| text.is_some_and(|text| !text.is_empty() && text != ABSENT);
    let (text, revision) = match text.split_once('#') {
        Some((text, revision)) => (text, Some(revision)),
        None => (text, None),
    };
    let (name_version, user_channel) = match pair(text, '@')? {
        Pair::Two(name_version, user_channel) => (name_version, Some(user_channel)),
        Pair::One(name_version) => (name_version, None),
        Pair::Nothing => return None,
    };
    let Pair::Two(name, version) = pair(name_version, '/')? else { return None };
    let version = strip(version);
    let user_channel = user_channel.map_or(Some(Pair::Nothing), |text| pair(text, '/'))?;
    let (user, channel) = match user_channel {
        Pair::Two(user, channel) => (Some(user), Some(channel)),
        Pair::One(user) => (Some(user), None),
        Pair::Nothing => (None, None),
    };
    let user = user.filter(|_| something(user));
    let channel = channel.filter(|_| something(channel));
    let is_name = |text: &str| text == "*" || Generation::One.is_part(text);
    let is_range = |text: &str| {
        (text.starts_with('[') && text.ends_with(']')) || (text.starts_with('(') && text.ends_with(')'))
    };
    let is_host_version = |text: &str| text.starts_with("<host_version") && text.ends_with('>');
    let is_revision = |text: &str| {
        text == ABSENT || (text.len() <= 51 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let valid = something(Some(name))
        && something(Some(version))
        && is_name(name)
        && (is_name(version) || is_range(version) || is_host_version(version))
        && user.is_some() == channel.is_some()
        && user.is_none_or(is_name)
        && channel.is_none_or(is_name)
        && revision.is_none_or(is_revision);
    valid.then_some([Some(name), Some(version), user, channel])
}

enum Pair<'a> {
    Two(&'a str, &'a str),
    One(&'a str),
    /// Nothing at all, or the separator alone.
    Nothing,
}

/// `_split_pair`; none where it raises.
fn pair(text: &str, separator: char) -> Option<Pair<'_>> {
    if text.is_empty() || text.strip_prefix(separator) == Some("") {
        return Some(Pair::Nothing);
    }
    match text.split_once(separator) {
        None => Some(Pair::One(text)),
        Some((left, right)) => (!right.contains(separator)).then_some(Pair::Two(left, right)),
    }
}

/// `RecipeReference.loads`, which validates nothing.
fn fields_of_two(text: &str) -> Option<Fields<'_>> {
    let text = match text.rsplit_once('%') {
        // A time, as Python's `float` takes it.
        Some((text, time)) => strip(time).replace('_', "").parse::<f64>().is_ok().then_some(text)?,
        None => text,
    };
    let text = text.split_once('#').map_or(text, |(text, _)| text);
    let (name_version, user_channel) = match text.split_once('@') {
        Some((name_version, user_channel)) => (name_version, Some(user_channel)),
        None => (text, None),
    };
    let (name, version) = name_version.split_once('/')?;
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let (user, channel) = match user_channel.filter(|text| !text.is_empty()) {
        None => (None, None),
        Some(text) => match text.split_once('/') {
            Some((user, channel)) => (Some(user).filter(|user| !user.is_empty()), Some(channel)),
            None => (Some(text), None),
        },
    };
    Some([Some(name), Some(version), user, channel])
}

/// What Conan 1 compares versions by (`conans/model/version.py`): items between dots and dashes, numbers by their value,
/// zeros at the end left out; and the text behind the last `+`.
fn version_key_of_one(version: &str) -> String {
    let (main, build) = version.rsplit_once('+').unwrap_or((version, ""));
    let number = |item: &str| !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit());
    let items = main.split(['.', '-']).map(|text| if number(text) { item(text) } else { text.to_owned() });
    let mark = if build.is_empty() { "" } else { "+" };
    format!("{}{mark}{build}", without_zeros(items.collect()))
}

/// What Conan 2 compares versions by (`conan/internal/model/version.py`): items between dots, numbers by their value,
/// zeros at the end left out; and the same of what follows the first `-` and the last `+`.
fn version_key_of_two(version: &str) -> String {
    let (main, rest) = Generation::Two.split_main(version);
    let (pre, build) = match rest.rsplit_once('+') {
        Some((pre, build)) => (pre, Some(build)),
        None => (rest, None),
    };
    // A text that reads like a number is one.
    let items = |text: &str| without_zeros(text.split('.').map(item).collect());
    let mut key = items(main);
    for (mark, part) in [("-", pre.strip_prefix('-')), ("+", build)] {
        if let Some(part) = part {
            key.push_str(mark);
            key.push_str(&items(part));
        }
    }
    key
}

/// Items without the zeros at their end; `0` when nothing else is left.
fn without_zeros(mut items: Vec<String>) -> String {
    while items.last().is_some_and(|item| item == "0") {
        items.pop();
    }
    if items.is_empty() { "0".to_owned() } else { items.join(".") }
}

/// Python's `int(text)` in its shortest form, or the text.
fn item(text: &str) -> String {
    let trimmed = strip(text);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let is_number =
        digits.split('_').all(|run| !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number {
        return text.to_owned();
    }
    let digits = digits.replace('_', "");
    let digits = digits.trim_start_matches('0');
    match (negative, digits) {
        (_, "") => "0".to_owned(),
        (true, digits) => format!("-{digits}"),
        (false, digits) => digits.to_owned(),
    }
}

/// How many items a version is spelled with at most, where Conan would take any number of zeros.
const SPELLED_ITEMS: usize = 4;

impl Generation {
    /// A version's items, and what follows them.
    fn split_main(self, version: &str) -> (&str, &str) {
        let end = version.rfind('+').unwrap_or(version.len());
        match self {
            Self::One => version.split_at(end),
            Self::Two => version.split_at(version[..end].find('-').unwrap_or(end)),
        }
    }

    /// Whether a reference may have the text as a part. A 1.x server wants two to 51 characters.
    fn is_part(self, text: &str) -> bool {
        is_legal(text) && (self == Self::Two || (2..=51).contains(&text.len()))
    }

    /// How a version may be written: with zeros at its end, up to four items.
    fn spellings_of(self, version: &str) -> BTreeSet<String> {
        let (main, rest) = self.split_main(version);
        let separators: &[char] = match self {
            Self::One => &['.', '-'],
            Self::Two => &['.'],
        };
        let (mut kept, mut items) = (main, main.split(separators).count());
        while items > 0 {
            let (before, last) =
                kept.rfind(separators).map_or(("", kept), |at| (&kept[..at], &kept[at + 1..]));
            if item(last) != "0" {
                break;
            }
            (kept, items) = (before, items - 1);
        }
        (items.max(1)..=SPELLED_ITEMS.max(items))
            .map(|count| {
                let zeros = ".0".repeat(count - items);
                let main = format!("{kept}{zeros}");
                format!("{}{rest}", if items == 0 { &main[1..] } else { &main })
            })
            .filter(|spelling| {
                self.is_part(spelling) && self.version_key(spelling) == self.version_key(version)
            })
            .collect()
    }
}

/// How the versions that rules name may be written.
///
/// A rule for `1.0` is also one for `1`, `1.0.0` and `1.0.0.0`, which are four patterns here. What a pattern cannot say is "any
/// number of zeros", nor zeros before a number (nor, in Conan 1, dashes for dots): versions with more than four items, and
/// `01.0` where no rule is written so, are packages of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spellings(BTreeMap<String, BTreeSet<String>>);

impl Spellings {
    /// Takes in the version of a rule, as written.
    pub(crate) fn add(&mut self, key: &str, written: Option<&str>, generation: Generation) {
        let all = self.0.entry(key.to_owned()).or_default();
        all.extend(generation.spellings_of(key));
        if let Some(written) = written {
            all.insert(written.to_owned());
            all.extend(generation.spellings_of(written));
        }
    }

    /// All spellings of a version.
    pub(crate) fn of(&self, key: &str) -> Vec<String> {
        self.0.get(key).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    /// Every version that some rule names, in every spelling.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out() {
        use Generation::{One, Two};
        for (generation, same) in [
            (Two, &["1", "1.0", "1.0.0.0.0", "01", "1.00"][..]),
            (Two, &["0", "0.0", "00"]),
            (Two, &["1.2-beta", "1.2.0-beta.0", "01.2-beta"]),
            (Two, &["1+a", "1.0+a", "1+a.0"]),
            (Two, &["cci.2020", "cci.02020.0"]),
            (Two, &["1+2+3", "1+2+3.0"]),
            (One, &["1", "1.0", "1-0", "1.00.0", "01", "1+"]),
            (One, &["1.2-rc", "1.2.rc", "1-2.rc.0"]),
            (One, &["1+a", "1.0+a"]),
        ] {
            for version in same {
                assert_eq!(generation.version_key(version), generation.version_key(same[0]), "{version}");
            }
        }
        for (generation, one, other) in [
            (Two, "1.0", "1.0-0"),
            (Two, "1", "1.0.1"),
            (Two, "1.0", "1.0+0"),
            (Two, "1.a", "1.A"),
            (Two, "10", "1"),
            (Two, "1-", "1-0"),
            (One, "1.0-rc", "1-rc"),
            (One, "1+a", "1+a.0"),
            (One, "1", "1_0"),
        ] {
            assert_ne!(generation.version_key(one), generation.version_key(other), "{one} {other}");
        }
    }

    #[test]
    fn a_version_is_spelled_with_up_to_four_items() {
        for generation in [Generation::One, Generation::Two] {
            let mut spellings = Spellings::default();
            let mut add =
                |version: &str| spellings.add(&generation.version_key(version), Some(version), generation);
            add("1.0");
            add("2023.01-rc");
            add("0.0");
            let of = |version| spellings.of(&generation.version_key(version));
            // A 1.x server takes no version of one character.
            let short = usize::from(generation == Generation::One);
            assert_eq!(of("1"), ["1", "1.0", "1.0.0", "1.0.0.0"][short..]);
            assert_eq!(of("0"), ["0", "0.0", "0.0.0", "0.0.0.0"][short..]);
            let dated = of("2023.1-rc");
            assert!(dated.contains(&"2023.01-rc".to_owned()), "{dated:?}");
            let extended = if generation == Generation::One { "2023.01-rc.0" } else { "2023.01.0-rc" };
            assert!(dated.contains(&extended.to_owned()), "{dated:?}");
        }
    }

    #[test]
    fn both_generations_read_patterns_in_their_own_way() {
        use Generation::{One, Two};
        let kind = |generation: Generation, text: &str| match generation.pattern(text) {
            RulePattern::Matches(..) => 'm',
            RulePattern::Never => 'n',
            RulePattern::Unreadable => 'u',
        };
        for (text, one, two) in [
            ("*/*@*/*", 'm', 'm'),
            ("pkg/1.0@_/_", 'm', 'm'),
            ("pkg/1.0", 'm', 'n'),
            ("pkg/1.0@", 'm', 'n'),
            ("pkg/1.0@user", 'u', 'n'),
            ("pkg/1@*/*", 'u', 'm'),
            ("\"pkg/1.0@u1/ch\"", 'u', 'n'),
            ("glob*/1.0@*/*", 'u', 'n'),
            ("pkg?/1.0@*/*", 'u', 'n'),
            ("pkg/[>1]@*/*", 'n', 'n'),
            ("pkg", 'u', 'u'),
            ("pkg/1.0@us/ch#rev", 'm', 'm'),
            ("pkg/1.0@us/ch#r-v", 'u', 'm'),
            ("pkg/1.0@us/ch%1", 'u', 'm'),
            ("pkg/1.0@us/ch%x", 'u', 'u'),
            ("pkg/1/0@us/ch", 'u', 'n'),
            ("/1.0@us/ch", 'u', 'u'),
        ] {
            assert_eq!((kind(One, text), kind(Two, text)), (one, two), "{text}");
        }
    }
}
