//! The questions by which an import is proved.

use std::collections::BTreeSet;

use granary_core::{Action, SubjectName};

use super::reference::{ABSENT, Part, RulePattern, is_legal};
use super::rules::{ConanAction, Rules};
use super::{ConanOptions, Generation, Reference, grants};
use crate::proof::{Asker, Question};

/// The most users that are asked for by name.
const MAX_USERS: usize = 60;

/// The actions of `conan_server`, and what each is here.
const ACTIONS: [(ConanAction, Action); 3] = [
    (ConanAction::Read, Action::Read),
    (ConanAction::Write, Action::Publish),
    (ConanAction::Delete, Action::Remove),
];

/// Every combination of what rules name in each part of a reference, beside something that no rule names; an even choice of
/// them where there are more than `most`.
pub(super) fn references(rules: &Rules, most: usize) -> Vec<Reference> {
    let mut parts: [BTreeSet<String>; 4] = Default::default();
    for rule in rules.all() {
        if let RulePattern::Matches(pattern, _) = &rule.pattern {
            for (values, part) in parts.iter_mut().zip(pattern.parts()) {
                if let Part::Is(text) = part
                    && is_legal(text)
                {
                    values.insert(text.clone());
                }
            }
        }
    }
    let spellings = grants::spellings(rules);
    let [names, versions, users, channels] = &mut parts;
    *versions = spellings.all().filter(|version| is_legal(version)).map(str::to_owned).collect();
    for (values, other) in
        [(names, "unnamed"), (versions, "7.7-unnamed"), (users, "somebody"), (channels, "elsewhere")]
    {
        values.insert(other.to_owned());
    }
    // A recipe without a user has no channel either, and the other way round.
    for values in &mut parts[2..] {
        values.remove(ABSENT);
    }
    let of = |part: usize| parts[part].iter().collect::<Vec<_>>();
    let (names, versions, users, channels) = (of(0), of(1), of(2), of(3));
    let homes: Vec<(&str, &str)> = std::iter::once((ABSENT, ABSENT))
        .chain(users.iter().flat_map(|user| channels.iter().map(|channel| (user.as_str(), channel.as_str()))))
        .collect();
    let all = names.len() * versions.len() * homes.len();
    let reference = |index: usize| {
        let (user, channel) = homes[index % homes.len()];
        let index = index / homes.len();
        Reference {
            name: names[index % names.len()].clone(),
            version: versions[index / names.len() % versions.len()].clone(),
            user: user.to_owned(),
            channel: channel.to_owned(),
        }
    };
    if all <= most {
        return (0..all).map(reference).collect();
    }
    // A stride without a factor in common with the number of combinations reaches them in an even spread.
    let stride = (all / most..all).find(|stride| greatest_common_divisor(*stride, all) == 1).unwrap_or(1);
    (0..most).map(|step| reference(step * stride % all)).collect()
}

fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// Everybody who is named, somebody who is not, and who is not logged in.
fn askers(rules: &Rules, users: &BTreeSet<SubjectName>) -> Vec<Asker> {
    let listed = rules.all().flat_map(|rule| &rule.users).filter_map(|user| user.parse().ok());
    let mut named: BTreeSet<SubjectName> = users.iter().cloned().chain(listed).collect();
    let mut askers: Vec<Asker> =
        std::iter::from_fn(|| named.pop_first()).take(MAX_USERS).map(Asker::named).collect();
    askers.extend("an-unnamed-user".parse().ok().map(Asker::named));
    askers.push(Asker::ANONYMOUS);
    askers
}

/// The questions with the answers of the old rules, as far as they can be carried over: who may not read may not write.
pub(super) fn questions(
    rules: &Rules,
    users: &BTreeSet<SubjectName>,
    options: &ConanOptions,
    references: usize,
) -> impl Iterator<Item = Question> {
    let askers = askers(rules, users);
    let owners: BTreeSet<SubjectName> = super::owners(rules, users);
    self::references(rules, references).into_iter().flat_map(move |reference| {
        let package = reference.to_string();
        let mut questions = Vec::with_capacity(askers.len() * ACTIONS.len());
        for asker in &askers {
            let user = asker.user.as_ref().map(SubjectName::as_str);
            // Somebody of whom nothing but the name of their recipes is known.
            let unknown_owner = rules.generation == Generation::One
                && asker
                    .user
                    .as_ref()
                    .is_some_and(|user| !owners.contains(user) && user.as_str() == reference.user);
            if unknown_owner {
                continue;
            }
            let allow = |action| rules.allow(user, action, &reference);
            for (old, action) in ACTIONS {
                let allowed = match old {
                    ConanAction::Read if options.writers_may_read => {
                        allow(ConanAction::Read) || allow(ConanAction::Write)
                    }
                    ConanAction::Write | ConanAction::Delete if !options.writers_may_read => {
                        allow(old) && allow(ConanAction::Read)
                    }
                    _ => allow(old),
                };
                questions.push(Question {
                    channel: options.channel.to_string(),
                    asker: asker.clone(),
                    action,
                    package: Some(package.clone()),
                    allowed,
                });
            }
        }
        questions
    })
}
