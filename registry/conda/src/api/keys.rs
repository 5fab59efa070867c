//! The roles of an API key, which are the scope of a token: what a key names, it reaches, and nothing else.

use granary_core::{ChannelName, Format, PackagePattern, TokenScope};
use serde::Serialize;

use super::members::MemberRole;
use crate::format::PackageName;

/// What a key may do where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyRole {
    /// The channel.
    pub(crate) channel: String,
    /// One package of it, or all.
    pub(crate) package: Option<String>,
    /// What it may.
    pub(crate) role: MemberRole,
}

/// A role names something that cannot be the name of a channel or package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role names no channel or package")]
pub(crate) struct NoName;

/// What a key with these roles reaches; `None`, all that its owner may, with no roles.
pub(crate) fn scope(roles: &[KeyRole]) -> Result<Option<TokenScope>, NoName> {
    let mut scopes = Vec::with_capacity(roles.len());
    for role in roles {
        ChannelName::parse(Format::Conda, &role.channel).map_err(|_| NoName)?;
        let channel = format!("{}/{}", Format::Conda, role.channel).parse().map_err(|_| NoName)?;
        let packages: Vec<PackagePattern> = match &role.package {
            None => Vec::new(),
            Some(package) => {
                // A name holds no wildcards.
                package.parse::<PackageName>().map_err(|_| NoName)?;
                vec![package.parse().map_err(|_| NoName)?]
            }
        };
        scopes.extend(TokenScope::of(Some(role.role.gives()), vec![channel], packages));
    }
    Ok(TokenScope::any_of(scopes))
}

/// The roles that a scope stands for. Of what is about other formats than conda there are none.
pub(crate) fn roles(scope: &TokenScope) -> Vec<KeyRole> {
    let mut roles = Vec::new();
    for reach in scope.reaches() {
        let any = [PackagePattern::any()];
        let channels = if reach.channels.is_empty() { &any[..] } else { &reach.channels };
        for channel in channels {
            let name = match channel.as_str() {
                "*" => "*",
                other => match other.split_once('/') {
                    Some((format, name)) if format == Format::Conda.as_str() => name,
                    _ => continue,
                },
            };
            let packages = reach.packages.iter().map(|package| Some(package.to_string()));
            let packages: Vec<Option<String>> =
                if reach.packages.is_empty() { vec![None] } else { packages.collect() };
            roles.extend(packages.into_iter().map(|package| KeyRole {
                channel: name.to_owned(),
                package,
                role: MemberRole::nearest(reach.role),
            }));
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use granary_core::{Action, Grants, Principal, decide};

    use super::*;

    fn role(channel: &str, package: Option<&str>, role: MemberRole) -> KeyRole {
        KeyRole { channel: channel.to_owned(), package: package.map(str::to_owned), role }
    }

    #[test]
    fn a_key_reaches_what_its_roles_name_and_tells_them_again() {
        let given = [
            role("main", None, MemberRole::Member),
            role("dev", Some("acme"), MemberRole::Maintainer),
            role("dev", Some("tool"), MemberRole::Owner),
        ];
        let scope = scope(&given).unwrap();
        assert_eq!(roles(scope.as_ref().unwrap()), given);
        let key = Principal::User { name: "ada".parse().unwrap(), groups: vec![], admin: true, scope };
        let may = |channel: &str, action, package| {
            let name = ChannelName::parse(Format::Conda, channel).unwrap();
            decide(&Grants::default(), &key, Format::Conda, &name, action, package).is_allowed()
        };
        assert!(may("main", Action::Read, Some("x")) && !may("main", Action::Publish, Some("x")));
        assert!(may("dev", Action::Publish, Some("acme")) && !may("dev", Action::Read, Some("x")));
        assert!(!may("other", Action::Read, None));
        // A package's owner owns no channel.
        assert!(!may("dev", Action::Administer, None));
    }

    #[test]
    fn no_roles_are_no_limit_and_no_name_is_no_key() {
        assert_eq!(scope(&[]), Ok(None));
        for (channel, package) in
            [("a*", None), ("", None), ("a/b", None), ("a", Some("b*")), ("a", Some(""))]
        {
            assert_eq!(
                scope(&[role(channel, package, MemberRole::Member)]),
                Err(NoName),
                "{channel} {package:?}"
            );
        }
    }
}
