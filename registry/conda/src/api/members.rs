//! Members of channels and packages, which are grants: a channel's member has a grant over all packages, a package's member
//! one over that package alone.
//!
//! Grants that came through the API are kept few: one for each role and package, with all of its users.

use std::collections::BTreeMap;

use granary_core::{Grant, GrantSource, PackagePattern, Principal, Role, Subject, SubjectName};
use serde::Serialize;

/// How many users one channel's grants of the API may name together.
const MOST_MEMBERS: usize = 5000;

/// What a member may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberRole {
    /// Read.
    Member,
    /// Also publish and remove.
    Maintainer,
    /// Also change the channel, or the package's members.
    Owner,
}

impl MemberRole {
    /// How the roles are told apart in a problem with one.
    pub(crate) const PATTERN: &str = "owner|maintainer|member";

    /// The role of this name.
    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Member, Self::Maintainer, Self::Owner].into_iter().find(|role| role.as_str() == text)
    }

    /// The name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Maintainer => "maintainer",
            Self::Owner => "owner",
        }
    }

    /// What a grant of it gives.
    pub(crate) const fn gives(self) -> Role {
        match self {
            Self::Member => Role::Reader,
            Self::Maintainer => Role::Maintainer,
            Self::Owner => Role::Owner,
        }
    }

    /// The nearest to what a grant gives.
    pub(crate) const fn nearest(role: Role) -> Self {
        match role {
            Role::Reader => Self::Member,
            Role::Publisher | Role::Maintainer => Self::Maintainer,
            Role::Owner => Self::Owner,
        }
    }
}

/// Why members are not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemberError {
    /// The grant is a resource's.
    #[error(
        "{0} is a member by the Channel resource, which is changed where it is kept (in Git, as a rule) and not through this API"
    )]
    OfResource(SubjectName),
    /// There is no such member.
    #[error("user {0} is not a member")]
    Unknown(SubjectName),
    /// Too many.
    #[error(
        "a channel has at most {MOST_MEMBERS} members through this API: give a group a grant in the Channel resource"
    )]
    TooMany,
}

/// Whether a grant is over the whole channel (without a package), or over this one package.
fn is_about(grant: &Grant, package: Option<&str>) -> bool {
    let patterns = grant.packages.iter().map(PackagePattern::as_str);
    grant.except.is_empty()
        && match package {
            None => grant.packages.is_empty() || patterns.clone().any(|pattern| pattern == "*"),
            Some(package) => !grant.packages.is_empty() && patterns.clone().any(|pattern| pattern == package),
        }
}

fn users(grant: &Grant) -> impl Iterator<Item = &SubjectName> {
    grant.subjects.iter().filter_map(|subject| match subject {
        Subject::User(name) => Some(name),
        _ => None,
    })
}

/// The members of a channel, or of a package, with the highest of their roles. Groups and workloads are no members.
pub(crate) fn members<'a>(
    grants: impl IntoIterator<Item = &'a Grant>,
    package: Option<&str>,
) -> BTreeMap<&'a str, MemberRole> {
    let mut members = BTreeMap::new();
    for grant in grants.into_iter().filter(|grant| is_about(grant, package)) {
        let role = MemberRole::nearest(grant.role);
        for name in users(grant) {
            let known = members.entry(name.as_str()).or_insert(role);
            *known = role.max(*known);
        }
    }
    members
}

/// The packages that a user is a member of, with the highest of their roles.
pub(crate) fn packages_of<'a>(grants: &'a [Grant], user: &SubjectName) -> BTreeMap<&'a str, MemberRole> {
    let mut packages = BTreeMap::new();
    let of_user =
        grants.iter().filter(|grant| grant.except.is_empty() && users(grant).any(|name| name == user));
    for grant in of_user {
        let role = MemberRole::nearest(grant.role);
        let plain =
            grant.packages.iter().map(PackagePattern::as_str).filter(|name| !name.contains(['*', '?']));
        for package in plain {
            let known = packages.entry(package).or_insert(role);
            *known = role.max(*known);
        }
    }
    packages
}

/// Whether a grant of an owner names this very package to who asks, by a credential that is not narrowed.
pub(crate) fn owns_package(grants: &[Grant], principal: &Principal, package: &str) -> bool {
    principal.scope().is_none()
        && grants.iter().any(|grant| {
            grant.role == Role::Owner
                && is_about(grant, Some(package))
                && grant.subjects.iter().any(|subject| subject.covers(principal))
        })
}

/// Whether a resource makes somebody a member.
fn is_of_resource(of_resource: &[Grant], user: &SubjectName, package: Option<&str>) -> bool {
    members(of_resource, package).contains_key(user.as_str())
}

/// Makes somebody a member with this role, whatever role they had before.
pub(crate) fn set(
    (grants, of_resource): (&mut Vec<Grant>, &[Grant]),
    user: &SubjectName,
    package: Option<&PackagePattern>,
    role: MemberRole,
) -> Result<(), MemberError> {
    let about = package.map(PackagePattern::as_str);
    if is_of_resource(of_resource, user, about) {
        return Err(MemberError::OfResource(user.clone()));
    }
    take(grants, user, about);
    if grants.iter().map(|grant| grant.subjects.len()).sum::<usize>() >= MOST_MEMBERS {
        return Err(MemberError::TooMany);
    }
    let subject = Subject::User(user.clone());
    let packages: Vec<PackagePattern> = package.into_iter().cloned().collect();
    // A grant to everybody is no list of members.
    let same = |grant: &&mut Grant| {
        grant.role == role.gives()
            && grant.packages == packages
            && grant.except.is_empty()
            && users(grant).next().is_some()
    };
    match grants.iter_mut().find(same) {
        Some(grant) => grant.subjects.push(subject),
        None => grants.push(Grant {
            subjects: vec![subject],
            role: role.gives(),
            packages,
            except: Vec::new(),
            source: GrantSource::Api,
        }),
    }
    Ok(())
}

/// Takes somebody out of the members.
pub(crate) fn remove(
    (grants, of_resource): (&mut Vec<Grant>, &[Grant]),
    user: &SubjectName,
    package: Option<&str>,
) -> Result<(), MemberError> {
    if is_of_resource(of_resource, user, package) {
        return Err(MemberError::OfResource(user.clone()));
    }
    if take(grants, user, package) { Ok(()) } else { Err(MemberError::Unknown(user.clone())) }
}

/// Whether there was one.
fn take(grants: &mut Vec<Grant>, user: &SubjectName, package: Option<&str>) -> bool {
    let mut found = false;
    for grant in grants.iter_mut().filter(|grant| is_about(grant, package)) {
        let before = grant.subjects.len();
        grant.subjects.retain(|subject| !matches!(subject, Subject::User(name) if name == user));
        found |= grant.subjects.len() < before;
    }
    // A grant to nobody means nothing.
    grants.retain(|grant| !grant.subjects.is_empty());
    found
}

/// Whether everybody may read all of it.
pub(crate) fn is_public<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> bool {
    grants.into_iter().any(|grant| is_about(grant, None) && grant.subjects.contains(&Subject::Anonymous))
}

/// Lets everybody read all of it, or not. Says whether that was otherwise before.
pub(crate) fn set_public(grants: &mut Vec<Grant>, public: bool) -> bool {
    if is_public(&*grants) == public {
        return false;
    }
    if public {
        grants.insert(
            0,
            Grant {
                subjects: vec![Subject::Anonymous],
                role: Role::Reader,
                packages: Vec::new(),
                except: Vec::new(),
                source: GrantSource::Api,
            },
        );
    } else {
        for grant in grants.iter_mut().filter(|grant| is_about(grant, None)) {
            grant.subjects.retain(|subject| *subject != Subject::Anonymous);
        }
        grants.retain(|grant| !grant.subjects.is_empty());
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn user(name: &str) -> SubjectName {
        name.parse().unwrap()
    }

    fn grant(subject: &str, role: Role, packages: &[&str]) -> Grant {
        let packages = packages.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let subjects = vec![subject.parse().unwrap()];
        Grant { subjects, role, packages, except: vec![], source: GrantSource::Resource }
    }

    #[test]
    fn members_come_and_go_and_leave_nothing() {
        let mut grants = Vec::new();
        let acme: PackagePattern = "acme".parse().unwrap();
        set((&mut grants, &[]), &user("ada"), None, MemberRole::Owner).unwrap();
        set((&mut grants, &[]), &user("bob"), None, MemberRole::Owner).unwrap();
        set((&mut grants, &[]), &user("bob"), Some(&acme), MemberRole::Maintainer).unwrap();
        assert_eq!(grants.len(), 2, "one for each role and package");
        let told = |grants: &[Grant], package| {
            members(grants, package)
                .into_iter()
                .map(|(name, role)| format!("{name}:{}", role.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&grants, None), ["ada:owner", "bob:owner"]);
        assert_eq!(told(&grants, Some("acme")), ["bob:maintainer"]);
        set((&mut grants, &[]), &user("bob"), None, MemberRole::Member).unwrap();
        assert_eq!(told(&grants, None), ["ada:owner", "bob:member"]);
        assert_eq!(packages_of(&grants, &user("bob")), [("acme", MemberRole::Maintainer)].into());
        for name in ["ada", "bob"] {
            remove((&mut grants, &[]), &user(name), None).unwrap();
        }
        assert_eq!(remove((&mut grants, &[]), &user("ada"), None), Err(MemberError::Unknown(user("ada"))));
        remove((&mut grants, &[]), &user("bob"), Some("acme")).unwrap();
        assert_eq!(grants, []);
    }

    #[test]
    fn what_a_resource_says_stands() {
        let of_resource = [grant("user:ada", Role::Publisher, &[]), grant("group:team", Role::Owner, &[])];
        let mut grants = Vec::new();
        let refused = Err(MemberError::OfResource(user("ada")));
        assert_eq!(set((&mut grants, &of_resource), &user("ada"), None, MemberRole::Owner), refused);
        assert_eq!(remove((&mut grants, &of_resource), &user("ada"), None), refused);
        assert_eq!(members(&of_resource, None), [("ada", MemberRole::Maintainer)].into());
    }

    #[test]
    fn everybody_is_no_member() {
        let mut grants = Vec::new();
        assert!(set_public(&mut grants, true) && is_public(&grants) && !set_public(&mut grants, true));
        set((&mut grants, &[]), &user("ada"), None, MemberRole::Member).unwrap();
        assert_eq!(grants.len(), 2);
        assert!(set_public(&mut grants, false) && !is_public(&grants));
        assert_eq!(members(&grants, None), [("ada", MemberRole::Member)].into());
    }

    #[test]
    fn the_owner_of_a_package_is_one_of_that_package() {
        let grants =
            [grant("user:ada", Role::Owner, &["acme"]), grant("user:bob", Role::Maintainer, &["acme"])];
        let ask = |name: &str, package: &str| {
            let principal = Principal::User { name: user(name), groups: vec![], admin: false, scope: None };
            owns_package(&grants, &principal, package)
        };
        assert!(ask("ada", "acme") && !ask("ada", "other") && !ask("bob", "acme"));
    }
}
