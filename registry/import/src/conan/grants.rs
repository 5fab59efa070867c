//! Rules of which the first that matches decides, as grants of which any is enough.
//!
//! Rule *i* decides what matches its pattern and no pattern before it, so it becomes a grant over its pattern `except` those
//! before it. The grants of all rules together give exactly what the rules give, however the grants are ordered.
//!
//! An `except` is left out where it takes nothing away: where its pattern and the rule's have no reference in common, and where
//! the rule that it comes from gives to the same people anyway.
//!
//! Roles are not as free as the two lists are: who may publish may read. A right to write holds here where the same
//! people may read, which is where clients could use it: they ask what is there before they upload. So a writing
//! rule becomes one grant for each reading rule that decides over some of the same references, unless all of these give
//! to everybody whom it gives to.

use std::collections::BTreeSet;

use granary_core::{Role, SubjectName};
use granary_crds::{Permission, Raw, Visibility};

use super::reference::{Pattern, RulePattern, Spellings};
use super::rules::{Rule, Rules, Whom};
use super::{ConanOptions, Generation};

/// The most entries of a list in a permission.
const MAX_LIST: usize = 500;

/// A grant over one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Draft {
    whom: Whom,
    role: Role,
    pattern: Pattern,
    except: BTreeSet<Pattern>,
}

/// What the rules become.
pub(super) struct Granted {
    pub(super) visibility: Visibility,
    pub(super) permissions: Vec<Permission>,
    /// Rules by which some could write what they could not read.
    pub(super) write_only: Vec<String>,
    /// Rules that none gets as far as, since one before them matches all that they do.
    pub(super) unreached: Vec<String>,
}

/// A rule that can decide something.
struct Step<'a> {
    pattern: &'a Pattern,
    whom: Whom,
    rule: &'a Rule,
}

/// The rules that can decide something, and the texts of those that are never reached.
fn steps(rules: &[Rule]) -> (Vec<Step<'_>>, Vec<String>) {
    const NOBODY: Whom = Whom::Users(BTreeSet::new());
    let (mut steps, mut unreached): (Vec<Step<'_>>, Vec<String>) = (Vec::new(), Vec::new());
    for rule in rules {
        let (pattern, whom) = match &rule.pattern {
            RulePattern::Matches(pattern, _) => (pattern, rule.whom()),
            RulePattern::Never => continue,
            // Whoever gets this far is refused.
            RulePattern::Unreadable => (&Pattern::EVERYTHING, NOBODY),
        };
        // There is always a reference that no rule names, so that only a single rule can match all that another does.
        if steps.iter().any(|step| step.pattern.covers(pattern)) {
            unreached.push(rule.text.clone());
        } else {
            steps.push(Step { pattern, whom, rule });
        }
    }
    (steps, unreached)
}

/// The versions that rules name.
pub(super) fn spellings(rules: &Rules) -> Spellings {
    let mut spellings = Spellings::default();
    for rule in rules.all() {
        if let RulePattern::Matches(pattern, written) = &rule.pattern
            && let Some(key) = pattern.version_key()
        {
            spellings.add(key, written.as_deref(), rules.generation);
        }
    }
    spellings
}

/// Turns rules into grants; `users` are those who have an account.
pub(super) fn grants(rules: &Rules, options: &ConanOptions, users: &BTreeSet<SubjectName>) -> Granted {
    let (read, mut unreached) = steps(&rules.read);
    let (write, unreached_writing) = steps(&rules.write);
    unreached.extend(unreached_writing);
    let mut write_only = Vec::new();
    let mut drafts = Vec::new();
    for (index, step) in read.iter().enumerate() {
        let before = read[..index].iter();
        drafts.extend(draft(Role::Reader, step.whom.clone(), step.pattern.clone(), before));
    }
    for (index, step) in write.iter().enumerate().filter(|(_, step)| !step.whom.is_nobody()) {
        let before = &write[..index];
        let own = is_own(rules.generation, step);
        if !own && !readable(step, &before.iter(), &read) {
            write_only.push(step.rule.text.clone());
        }
        // The rules before it that make no exception are part of what the grant gives.
        let taking = before.iter().filter(|earlier| !earlier.whom.covers(&step.whom));
        if own || options.writers_may_read || readable(step, &taking, &read) {
            drafts.extend(draft(Role::Maintainer, step.whom.clone(), step.pattern.clone(), before.iter()));
            continue;
        }
        for (reading, other) in read.iter().enumerate() {
            if let Some(pattern) = step.pattern.and(other.pattern) {
                let before = before.iter().chain(&read[..reading]);
                drafts.extend(draft(Role::Maintainer, step.whom.and(&other.whom), pattern, before));
            }
        }
    }
    if rules.generation == Generation::One {
        drafts.extend(users.iter().filter(|user| super::reference::is_legal(user.as_str())).map(|user| {
            Draft {
                whom: Whom::Users(BTreeSet::from([user.clone()])),
                role: Role::Maintainer,
                pattern: Pattern::of_user(user.as_str()),
                except: BTreeSet::new(),
            }
        }));
    }
    drop_needless(&mut drafts);
    let visibility = take_visibility(&mut drafts);
    Granted { visibility, permissions: permissions(drafts, &spellings(rules)), write_only, unreached }
}

/// Whether all whom a writing rule gives to may read all that it matches and none of `before` does.
fn readable<'a>(
    step: &Step<'_>,
    before: &(impl Iterator<Item = &'a Step<'a>> + Clone),
    read: &[Step<'_>],
) -> bool {
    let all_decided = read.iter().any(|other| other.pattern.covers(step.pattern));
    all_decided
        && read.iter().enumerate().all(|(index, other)| {
            let Some(both) = step.pattern.and(other.pattern) else { return true };
            let decided_before = before.clone().any(|earlier| earlier.pattern.covers(&both))
                || read[..index].iter().any(|earlier| earlier.pattern.covers(&both));
            decided_before || other.whom.covers(&step.whom)
        })
}

/// Whether a rule gives to a user what is that user's anyway.
fn is_own(generation: Generation, step: &Step<'_>) -> bool {
    let owner = step.pattern.user().and_then(|user| user.parse().ok());
    let owner = owner.map(|owner| Whom::Users(BTreeSet::from([owner])));
    generation == Generation::One && owner.is_some_and(|owner| owner.covers(&step.whom))
}

/// A grant over what no step before it decides otherwise; none when that is nothing, or for nobody.
fn draft<'a>(
    role: Role,
    whom: Whom,
    pattern: Pattern,
    before: impl Iterator<Item = &'a Step<'a>>,
) -> Option<Draft> {
    let taking: Vec<&Pattern> = before
        .filter(|step| !step.whom.covers(&whom) && step.pattern.and(&pattern).is_some())
        .map(|step| step.pattern)
        .collect();
    if whom.is_nobody() || taking.iter().any(|earlier| earlier.covers(&pattern)) {
        return None;
    }
    let widest = |pattern: &&&Pattern| !taking.iter().any(|other| other != *pattern && other.covers(pattern));
    let except = taking.iter().filter(widest).map(|pattern| (*pattern).clone()).collect();
    Some(Draft { whom, role, pattern, except })
}

/// Leaves out grants that another one gives all of.
fn drop_needless(drafts: &mut Vec<Draft>) {
    let gives_all = |big: &Draft, small: &Draft| {
        big.role >= small.role
            && big.whom.covers(&small.whom)
            && big.pattern.covers(&small.pattern)
            && big.except.iter().all(|pattern| {
                pattern.and(&small.pattern).is_none()
                    || small.except.iter().any(|other| other.covers(pattern))
            })
    };
    let mut index = 0;
    while index < drafts.len() {
        let needless = (0..drafts.len()).any(|other| {
            other != index
                && gives_all(&drafts[other], &drafts[index])
                // Of two that give the same, the first stays.
                && !(other > index && gives_all(&drafts[index], &drafts[other]))
        });
        if needless {
            drafts.remove(index);
        } else {
            index += 1;
        }
    }
}

/// A grant to read everything is the channel's visibility.
fn take_visibility(drafts: &mut Vec<Draft>) -> Visibility {
    for (whom, visibility) in [(Whom::Everybody, Visibility::Public), (Whom::LoggedIn, Visibility::Internal)]
    {
        let said = Draft { whom, role: Role::Reader, pattern: Pattern::EVERYTHING, except: BTreeSet::new() };
        if drafts.contains(&said) {
            drafts.retain(|draft| *draft != said);
            return visibility;
        }
    }
    Visibility::Private
}

/// Grants as they are written, with those in one that have two of subjects, role and packages in common.
fn permissions(drafts: Vec<Draft>, spellings: &Spellings) -> Vec<Permission> {
    struct Joined {
        whom: Whom,
        role: Role,
        patterns: Vec<Pattern>,
        except: BTreeSet<Pattern>,
    }
    let mut joined: Vec<Joined> = Vec::new();
    for Draft { whom, role, pattern, except } in drafts {
        match joined.iter_mut().find(|own| own.whom == whom && own.role == role && own.except == except) {
            Some(own) => own.patterns.push(pattern),
            None => joined.push(Joined { whom, role, patterns: vec![pattern], except }),
        }
    }
    let mut permissions = Vec::new();
    for Joined { whom, role, patterns, except } in joined {
        let subjects: Vec<_> = match whom {
            Whom::Everybody => vec![Raw::new("anonymous")],
            Whom::LoggedIn => vec![Raw::new("authenticated")],
            Whom::Users(users) => users.iter().map(|user| Raw::new(format!("user:{user}"))).collect(),
        };
        let texts = |patterns: &mut dyn Iterator<Item = &Pattern>| -> Vec<Raw<_>> {
            patterns.flat_map(|pattern| pattern.texts(spellings)).map(Raw::new).collect()
        };
        let everything = patterns.contains(&Pattern::EVERYTHING);
        let packages = if everything { Vec::new() } else { texts(&mut patterns.iter()) };
        let except = texts(&mut except.iter());
        let permission = |packages: &[Raw<_>]| Permission {
            subjects: subjects.clone(),
            role,
            packages: packages.to_vec(),
            except: except.clone(),
        };
        if everything {
            permissions.push(permission(&[]));
        }
        permissions.extend(packages.chunks(MAX_LIST).map(permission));
    }
    permissions
}
