//! Who may do what: roles, grants and the one function that decides.

mod grants;

use serde::{Deserialize, Serialize};

pub use grants::Grants;

use crate::{ChannelName, Format, PackagePattern, Principal, Subject};

/// What a request does to a package or to a channel. Every route names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Look at indexes and download files.
    Read,
    /// Add files.
    Publish,
    /// Replace a file by another of the same name, yank, delete.
    Remove,
    /// Change the channel itself.
    Administer,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Read, Self::Publish, Self::Remove, Self::Administer];

    /// The name in logs and in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Remove => "remove",
            Self::Administer => "administer",
        }
    }
}

/// What a grant gives. Each role holds all that the one before it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// May read.
    Reader,
    /// May also publish.
    Publisher,
    /// May also yank, delete and replace.
    Maintainer,
    /// May also change the channel.
    Owner,
}

impl Role {
    /// Whether the role includes the action.
    pub const fn includes(self, action: Action) -> bool {
        match action {
            Action::Read => true,
            Action::Publish => self as u8 >= Self::Publisher as u8,
            Action::Remove => self as u8 >= Self::Maintainer as u8,
            Action::Administer => self as u8 >= Self::Owner as u8,
        }
    }

    /// The name in resources and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "Reader",
            Self::Publisher => "Publisher",
            Self::Maintainer => "Maintainer",
            Self::Owner => "Owner",
        }
    }
}

/// Where a grant came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantSource {
    /// A resource: only Git may change it.
    Resource,
    /// An API of a protocol.
    Api,
}

/// Gives some subjects a role over some packages of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub subjects: Vec<Subject>,
    /// What they may.
    pub role: Role,
    /// Over which packages; a grant that names none of them covers all.
    pub packages: Vec<PackagePattern>,
    /// Packages that the grant does not cover after all.
    pub except: Vec<PackagePattern>,
    /// Who may change it.
    pub source: GrantSource,
}

impl Grant {
    fn covers_package(&self, package: Option<&str>) -> bool {
        match package {
            // A question about the channel as a whole: may the caller do this to any package of it?
            None => true,
            Some(name) => {
                (self.packages.is_empty() || self.packages.iter().any(|pattern| pattern.matches(name)))
                    && !self.except.iter().any(|pattern| pattern.matches(name))
            }
        }
    }

    /// Whether this grant covers every package of the channel.
    fn covers_all_packages(&self) -> bool {
        self.except.is_empty()
            && (self.packages.is_empty() || self.packages.iter().any(|pattern| pattern.as_str() == "*"))
    }
}

/// What a token narrows its owner's rights to. A token never gives a right that its owner lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenScope {
    /// Channels, as `format/name` patterns; none means all.
    #[serde(default)]
    pub channels: Vec<PackagePattern>,
    /// Packages; none means all.
    #[serde(default)]
    pub packages: Vec<PackagePattern>,
    /// The highest role that the token carries.
    pub role: Role,
    /// Further reaches: what one of them admits, the scope admits. They have neither alternatives nor makers of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<Self>,
    /// The scope of the token that made this one: what either of them lacks, both lack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Box<Self>>,
}

impl TokenScope {
    /// The scope that narrows to these, or none where nothing of it narrows. Without a role, that of an owner is the highest.
    pub fn of(
        role: Option<Role>,
        channels: Vec<PackagePattern>,
        packages: Vec<PackagePattern>,
    ) -> Option<Self> {
        let narrows = role.is_some() || !channels.is_empty() || !packages.is_empty();
        narrows.then(|| Self {
            channels,
            packages,
            role: role.unwrap_or(Role::Owner),
            or: Vec::new(),
            within: None,
        })
    }

    /// The scope that admits what any of these admits; none of none.
    pub fn any_of(scopes: Vec<Self>) -> Option<Self> {
        let mut scopes = scopes.into_iter();
        scopes.next().map(|first| Self { or: scopes.collect(), ..first })
    }

    /// The reaches of this scope, any of which is enough; what it is within counts beside.
    pub fn reaches(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.or)
    }

    /// The scope of a token that a holder of `maker` makes with this scope: no wider than either.
    #[must_use]
    pub fn made_by(self, maker: Option<&Self>) -> Self {
        Self { within: maker.cloned().map(Box::new), ..self }
    }

    /// This scope and all that it is within.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |scope| scope.within.as_deref())
    }

    /// Whether the scope reaches this far.
    pub fn admits(
        &self,
        format: Format,
        channel: &ChannelName,
        action: Action,
        package: Option<&str>,
    ) -> bool {
        self.all()
            .all(|scope| scope.reaches().any(|reach| reach.admits_itself(format, channel, action, package)))
    }

    fn admits_itself(
        &self,
        format: Format,
        channel: &ChannelName,
        action: Action,
        package: Option<&str>,
    ) -> bool {
        self.role.includes(action)
            && (action != Action::Administer || self.packages.is_empty())
            && (self.channels.is_empty() || {
                let full_name = format!("{format}/{channel}");
                self.channels.iter().any(|pattern| pattern.matches(&full_name))
            })
            && package.is_none_or(|name| {
                self.packages.is_empty() || self.packages.iter().any(|pattern| pattern.matches(name))
            })
    }
}

/// The answer of [`decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Allowed: by this grant, or because the principal is an admin.
    Allowed(Option<&'a Grant>),
    /// Not allowed.
    Denied,
}

impl Decision<'_> {
    /// Whether the request may go on.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// Decides whether `principal` may do `action` to `package` of a channel that has these grants.
///
/// With no package the question is about the channel: whether the action is allowed on at least one package
/// (reading the list of projects, opening an upload whose name is not known yet). [`Action::Administer`] is
/// given only by grants over the whole channel. Who presents a narrow token may at least do what anybody may.
pub fn decide<'a>(
    grants: &'a Grants,
    principal: &Principal,
    format: Format,
    channel: &ChannelName,
    action: Action,
    package: Option<&str>,
) -> Decision<'a> {
    if principal.scope().is_some_and(|scope| !scope.admits(format, channel, action, package)) {
        return decide(grants, &Principal::Anonymous, format, channel, action, package);
    }
    if principal.is_admin() {
        return Decision::Allowed(None);
    }
    let gives = |grant: &Grant| {
        grant.role.includes(action)
            && grant.covers_package(package)
            && (action != Action::Administer || grant.covers_all_packages())
    };
    let found = grants.covering(principal).find(|(_, grant)| gives(grant));
    found.map_or(Decision::Denied, |(_, grant)| Decision::Allowed(Some(grant)))
}

/// Why a principal may do something, or may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation<'a> {
    /// Because they are an admin of the registry.
    Admin,
    /// Because of this grant: its place among the channel's, from 0.
    Granted(usize, &'a Grant),
    /// Their token does not reach so far, although they themselves may.
    TokenTooNarrow,
    /// No grant gives it. These cover who asks, but not this: another package, or a lower role.
    NoGrant(Vec<(usize, &'a Grant)>),
}

impl Explanation<'_> {
    /// Whether they may.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Admin | Self::Granted(..))
    }
}

/// The answer of [`decide`] with its reason.
pub fn explain<'a>(
    grants: &'a Grants,
    principal: &Principal,
    format: Format,
    channel: &ChannelName,
    action: Action,
    package: Option<&str>,
) -> Explanation<'a> {
    match decide(grants, principal, format, channel, action, package) {
        Decision::Allowed(None) => Explanation::Admin,
        Decision::Allowed(Some(grant)) => {
            let place = grants.iter().position(|other| std::ptr::eq(other, grant)).unwrap_or_default();
            Explanation::Granted(place, grant)
        }
        Decision::Denied => {
            let narrow = principal.scope().is_some();
            if narrow && decide(grants, &principal.unscoped(), format, channel, action, package).is_allowed()
            {
                return Explanation::TokenTooNarrow;
            }
            Explanation::NoGrant(grants.covering(principal).collect())
        }
    }
}

/// The packages of a channel that a principal may read: what a list of packages is filtered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// All of them.
    All,
    /// Those that a filter lets through.
    Some(ReadFilter),
}

/// Packages that are readable by some grant, and within a token's scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFilter {
    /// Of the grants that cover the principal: patterns (none: all packages) and exceptions.
    granted: Vec<(Vec<PackagePattern>, Vec<PackagePattern>)>,
    /// What anybody may read, whatever the scope of a token.
    anonymous: Vec<(Vec<PackagePattern>, Vec<PackagePattern>)>,
    /// The scopes of a token, each of which has to let a package through; none: no limit.
    scope: Vec<Vec<PackagePattern>>,
}

impl ReadFilter {
    /// Whether the package is readable.
    pub fn admits(&self, package: &str) -> bool {
        let any = |patterns: &[PackagePattern]| patterns.iter().any(|pattern| pattern.matches(package));
        let covered = |grants: &[(Vec<PackagePattern>, Vec<PackagePattern>)]| {
            grants.iter().any(|(packages, except)| (packages.is_empty() || any(packages)) && !any(except))
        };
        covered(&self.anonymous) || (covered(&self.granted) && self.scope.iter().all(|scope| any(scope)))
    }

    /// A text that is the same for filters that let the same packages through by the same rules.
    pub fn fingerprint(&self) -> String {
        format!("{:?}", (&self.granted, &self.anonymous, &self.scope))
    }
}

/// What of a channel with these grants the principal may read. Agrees with [`decide`] for every package.
pub fn readable(grants: &Grants, principal: &Principal, format: Format, channel: &ChannelName) -> Readable {
    let covering = |principal: &Principal| -> Vec<&Grant> {
        grants.covering(principal).map(|(_, grant)| grant).collect()
    };
    let anonymous = covering(&Principal::Anonymous);
    let (admin, scope) = (principal.is_admin(), principal.scope());
    let admitted = scope.is_none_or(|scope| scope.admits(format, channel, Action::Read, None));
    let granted = if admitted && !admin { covering(principal) } else { Vec::new() };
    // Of the reaches that take in this channel, one without patterns takes in all of it.
    let narrowed = scope.into_iter().flat_map(TokenScope::all).map(|scope| {
        let reaches =
            scope.reaches().filter(|reach| reach.admits_itself(format, channel, Action::Read, None));
        let packages: Vec<_> = reaches.map(|reach| reach.packages.clone()).collect();
        if packages.iter().any(Vec::is_empty) { Vec::new() } else { packages.concat() }
    });
    let scope: Vec<_> = narrowed.filter(|packages| !packages.is_empty()).collect();
    let all = |grants: &[&Grant]| grants.iter().any(|grant| grant.covers_all_packages());
    if all(&anonymous) || (scope.is_empty() && admitted && (admin || all(&granted))) {
        return Readable::All;
    }
    let patterns = |grants: Vec<&Grant>| {
        grants.into_iter().map(|grant| (grant.packages.clone(), grant.except.clone())).collect::<Vec<_>>()
    };
    let mut granted = patterns(granted);
    if admin && admitted {
        granted.push((Vec::new(), Vec::new()));
    }
    Readable::Some(ReadFilter { granted, anonymous: patterns(anonymous), scope })
}

#[cfg(test)]
mod tests;
