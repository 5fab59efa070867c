//! The rules of `server.conf`, evaluated as `conan_server` does (`conans/server/service/authorize.py`).

use std::collections::BTreeSet;

use granary_core::SubjectName;

use super::Reference;
use super::ini::{Items, strip};
use super::reference::{ABSENT, Generation, RulePattern};

/// A line of `[read_permissions]` or `[write_permissions]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What stands before the colon.
    pub(crate) text: String,
    pub(crate) pattern: RulePattern,
    /// What stands behind it, between commas.
    pub(crate) users: Vec<String>,
}

/// To whom a rule gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    /// Everybody: `*` comes first.
    Everybody,
    /// Whoever is logged in: `?` comes first.
    LoggedIn,
    /// These.
    Users(BTreeSet<SubjectName>),
}

impl Whom {
    /// Those who are in both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Users(own), Self::Users(other)) => Self::Users(own & other),
            (Self::Users(_), _) | (Self::LoggedIn, Self::Everybody) => self.clone(),
            // Of the two, the other is the smaller.
            _ => other.clone(),
        }
    }

    /// Whether it takes in all of the other.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        &self.and(other) == other
    }

    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Users(users) if users.is_empty())
    }
}

impl Rule {
    pub(crate) fn parse(text: &str, users: &str, generation: Generation) -> Self {
        Self {
            text: text.to_owned(),
            pattern: generation.pattern(text),
            users: users.split(',').map(|user| strip(user).to_owned()).collect(),
        }
    }

    /// To whom it gives. Names that are none here are left out: see [`Rule::foreign_users`].
    pub(crate) fn whom(&self) -> Whom {
        match self.users.first().map(String::as_str) {
            Some("*") => Whom::Everybody,
            Some("?") => Whom::LoggedIn,
            _ => Whom::Users(self.users.iter().filter_map(|user| user.parse().ok()).collect()),
        }
    }

    /// Names in the list that no account here can have.
    pub(crate) fn foreign_users(&self) -> impl Iterator<Item = &str> {
        let listed = match self.whom() {
            Whom::Users(_) => self.users.as_slice(),
            Whom::Everybody | Whom::LoggedIn => &[],
        };
        let foreign = |user: &&str| !user.is_empty() && user.parse::<SubjectName>().is_err();
        listed.iter().map(String::as_str).filter(foreign)
    }

    /// `username in authorized_users`, with what `*` and `?` in the first place mean.
    fn gives_to(&self, user: Option<&str>) -> bool {
        let first = self.users.first().map(String::as_str);
        first == Some("*")
            || user.is_some_and(|user| first == Some("?") || self.users.iter().any(|listed| listed == user))
    }
}

/// What a request does to a recipe, or to a package of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConanAction {
    /// Look at it, download it.
    Read,
    /// Upload it.
    Write,
    /// Delete it, which needs what writing does.
    Delete,
}

/// Both lists of rules, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub(crate) generation: Generation,
    pub(crate) read: Vec<Rule>,
    pub(crate) write: Vec<Rule>,
}

impl Rules {
    /// Takes the lines of both sections, patterns and users.
    pub fn new(generation: Generation, read: &Items, write: &Items) -> Self {
        let rules = |items: &Items| {
            items.iter().map(|(text, users)| Rule::parse(text, users, generation)).collect::<Vec<_>>()
        };
        Self { generation, read: rules(read), write: rules(write) }
    }

    /// What the server answers: the first rule that matches decides, and none means no.
    ///
    /// A 1.x server asks before any rule whether the user of the recipe is who asks, and lets them do everything. It thereby
    /// takes everybody who is not logged in for the owner of all recipes without a user, since `None == None`. That is not
    /// repeated here: owners are logged in.
    pub fn allow(&self, user: Option<&str>, action: ConanAction, reference: &Reference) -> bool {
        if self.is_owner(user, reference) {
            return true;
        }
        let rules = match action {
            ConanAction::Read => &self.read,
            ConanAction::Write | ConanAction::Delete => &self.write,
        };
        for rule in rules {
            match &rule.pattern {
                // The server answers 500.
                RulePattern::Unreadable => return false,
                RulePattern::Never => {}
                RulePattern::Matches(pattern, _) => {
                    if pattern.matches(reference, self.generation) {
                        return rule.gives_to(user);
                    }
                }
            }
        }
        false
    }

    fn is_owner(&self, user: Option<&str>, reference: &Reference) -> bool {
        self.generation == Generation::One
            && user.is_some_and(|user| user != ABSENT && user == reference.user)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Rule> {
        self.read.iter().chain(&self.write)
    }
}
