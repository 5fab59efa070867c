//! Quetz: its database, in SQLite or Postgres.
//!
//! Sources: `quetz/db_models.py` (the tables), `quetz/authorization.py` (who may do what) of quetz-server 0.10.

mod packages;
mod rules;
mod sql;

use std::collections::{BTreeMap, BTreeSet};

use granary_core::{ChannelName, Format, PackagePattern, Role, SubjectName};
use granary_crds::{
    ChannelSource, ChannelSpec, MirrorSource, Permission, ProxySource, Raw, RegistryRef, Visibility,
};

pub use packages::{QuetzPackage, read_packages_postgres, read_packages_sqlite};
pub use rules::{QuetzRole, Roles};
pub use sql::{ReadError, Snapshot, read_postgres, read_sqlite};

use crate::output::{Import, channel, object_name};
use crate::proof::Question;
use crate::report::Report;
use sql::{ApiKey, ChannelRow};

/// The most entries of a list in a permission.
const MAX_LIST: usize = 500;

/// What to make of a database.
#[derive(Debug, Clone, Default)]
pub struct QuetzOptions {
    /// The registry that the channels name.
    pub registry: Option<String>,
    /// The namespace of the objects.
    pub namespace: Option<String>,
}

/// A database that has been read.
#[derive(Debug)]
pub struct QuetzImport {
    /// The channels and the report. Quetz keeps no passwords, so there are no accounts.
    pub import: Import,
    /// The people of Quetz and what they may.
    pub roles: Roles,
    channels: Vec<ChannelName>,
}

impl QuetzImport {
    /// The questions to prove the import by, with the old server's answers.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.roles.questions(&self.channels)
    }
}

/// Turns what was read from a database into channels.
pub fn import(snapshot: &Snapshot, options: &QuetzOptions) -> QuetzImport {
    let mut report = Report::default();
    let roles = Roles::of(snapshot);
    report_people(snapshot, &mut report);
    let mut channels = Vec::new();
    let mut objects = Vec::new();
    let taken = &mut BTreeSet::new();
    for row in &snapshot.channels {
        let Some(name) = channel_name(row, &mut report) else { continue };
        let mut spec = ChannelSpec::new(Format::Conda);
        let object = object_name(name.as_str(), taken);
        if object != name.as_str() {
            spec.name = Some(name.to_string());
        }
        spec.registry_ref = options.registry.clone().map(|name| RegistryRef { name, namespace: None });
        describe(&mut spec, row, &mut report);
        spec.source = source(row, &mut report);
        spec.visibility = if row.private { Visibility::Private } else { Visibility::Public };
        spec.permissions = permissions(row, &roles, &mut report);
        objects.push(channel(object, options.namespace.as_deref(), spec));
        channels.push(name);
    }
    for key in &snapshot.api_keys {
        report_key(key, snapshot, &mut report);
    }
    report.note(
        "a maintainer of a channel in Quetz may also change its settings and delete it: here that is up to Git. An owner of a \
         package may replace its files, and a maintainer only delete them: here a Maintainer does both, where the channel lets \
         files be replaced",
    );
    let import = Import { channels: objects, accounts: Vec::new(), report };
    QuetzImport { import, roles, channels }
}

fn channel_name(row: &ChannelRow, report: &mut Report) -> Option<ChannelName> {
    let name = &row.name;
    if let Some(url) = row.mirror_channel_url.as_ref().filter(|url| holds_login(url)) {
        let host = url.rsplit_once('@').map_or(url.as_str(), |(_, rest)| rest);
        let host = host.split_once("/t/").map_or(host, |(host, _)| host);
        let mode = row.mirror_mode.as_deref().unwrap_or("mirror");
        report.not_carried(format!(
            "{name}: it is a {mode} of {host} with a login there, which a channel cannot have yet"
        ));
        return None;
    }
    match ChannelName::parse(Format::Conda, name) {
        Ok(name) => Some(name),
        Err(error) => {
            report.not_carried(format!("the channel {name:?}: {error}"));
            None
        }
    }
}

/// Whether a URL holds a password or a token.
fn holds_login(url: &str) -> bool {
    url.contains('@') || url.contains("/t/")
}

/// Where the packages of a channel come from that is a proxy or a mirror.
fn source(row: &ChannelRow, report: &mut Report) -> ChannelSource {
    let Some(url) = &row.mirror_channel_url else { return ChannelSource::default() };
    report.note(format!(
        "{}: its includelist and excludelist, if it has any: write them as patterns of names (`x*`) into source",
        row.name
    ));
    if row.mirror_mode.as_deref() == Some("proxy") {
        ChannelSource { proxy: Some(ProxySource::new(url)), ..ChannelSource::default() }
    } else {
        ChannelSource { mirror: Some(MirrorSource::new(url)), ..ChannelSource::default() }
    }
}

fn describe(spec: &mut ChannelSpec, row: &ChannelRow, report: &mut Report) {
    let legal = |text: &str| {
        text.chars().count() <= 10_000
            && text.chars().all(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
    };
    match row.description.as_deref().filter(|text| !text.is_empty()) {
        Some(text) if legal(text) => spec.description = Some(text.to_owned()),
        Some(_) => report.not_carried(format!("{}: its description has control characters", row.name)),
        None => {}
    }
    if let Some(limit) = row.size_limit.filter(|limit| *limit > 0) {
        spec.limits.max_size = Some(Raw::new(limit.to_string()));
    }
}

/// What the members of a channel and of its packages get.
fn permissions(row: &ChannelRow, roles: &Roles, report: &mut Report) -> Vec<Permission> {
    let mut permissions = Vec::new();
    let permission = |subjects: &BTreeSet<&SubjectName>, role, packages: &[String]| Permission {
        subjects: subjects.iter().map(|name| Raw::new(format!("user:{name}"))).collect(),
        role,
        packages: packages.iter().map(Raw::new).collect(),
        except: Vec::new(),
    };
    let members = roles.channel_members(&row.name);
    for (old, role) in [
        (QuetzRole::Owner, Role::Owner),
        (QuetzRole::Maintainer, Role::Maintainer),
        (QuetzRole::Member, Role::Reader),
    ] {
        let subjects: BTreeSet<_> =
            members.iter().filter(|(_, member)| **member == old).map(|(name, _)| *name).collect();
        // Everybody reads a public channel.
        if !subjects.is_empty() && (row.private || role != Role::Reader) {
            let subjects: Vec<_> = subjects.into_iter().collect();
            for some in subjects.chunks(MAX_LIST) {
                permissions.push(permission(&some.iter().copied().collect(), role, &[]));
            }
        }
    }
    // Packages with the same people are in one permission.
    let mut joined: BTreeMap<(Role, BTreeSet<&SubjectName>), Vec<String>> = BTreeMap::new();
    for (package, members) in roles.package_members(&row.name) {
        if package.parse::<PackagePattern>().is_err() || package.contains(['*', '?']) {
            report.not_carried(format!("{}: the members of the package {package:?}", row.name));
            continue;
        }
        for role in [Role::Maintainer, Role::Reader] {
            let has = |member: QuetzRole| (member == QuetzRole::Member) == (role == Role::Reader);
            let subjects: BTreeSet<_> =
                members.iter().filter(|(_, member)| has(**member)).map(|(name, _)| *name).collect();
            if !subjects.is_empty() && (row.private || role != Role::Reader) {
                joined.entry((role, subjects)).or_default().push(package.to_owned());
            }
        }
        if row.private {
            report.note(format!(
                "{}: members of single packages could see them in Quetz' API and not download them; here they may do both",
                row.name
            ));
        }
    }
    for ((role, subjects), packages) in joined {
        permissions.extend(packages.chunks(MAX_LIST).map(|packages| permission(&subjects, role, packages)));
    }
    permissions
}

fn report_people(snapshot: &Snapshot, report: &mut Report) {
    for user in &snapshot.users {
        // Users without a name stand for API keys, or were deleted.
        let Some(name) = &user.name else { continue };
        if name.parse::<SubjectName>().is_err() {
            report.not_carried(format!(
                "the user {name:?}: a name here is letters, digits, '.', '_', '-' and '@', and begins with one of the first \
                 two"
            ));
            continue;
        }
        match user.role {
            Some(QuetzRole::Owner | QuetzRole::Maintainer) => report.elsewhere(format!(
                "{name} is an owner or a maintainer of the server, who may do everything: name them in admins.users of the \
                 PackageRegistry"
            )),
            Some(QuetzRole::Member) => report.elsewhere(format!(
                "{name} is a member of the server, who may make channels: here whoever may write to Git does"
            )),
            None => {}
        }
        let identities: Vec<_> = snapshot
            .identities
            .iter()
            .filter(|identity| identity.user_id.as_deref() == Some(user.id.as_slice()))
            .map(|identity| match &identity.name {
                Some(known) if known != name => format!("{} (as {known})", identity.provider),
                _ => identity.provider.clone(),
            })
            .collect();
        let by = if identities.is_empty() { "nothing".to_owned() } else { identities.join(", ") };
        report.note(format!(
            "{name} logged in by {by}: whoever logs in here by that name has these rights; `granary user create {name}` makes an \
             account"
        ));
    }
    if snapshot.has_credentials {
        report.not_carried(
            "passwords of quetz-sql-authenticator: they are kept as PBKDF2, which is not checked here. Give new ones with \
             `granary user password`",
        );
    }
}

/// An API key of Quetz is a random text in its database. Tokens here have a form of their own, so keys are made anew.
fn report_key(key: &ApiKey, snapshot: &Snapshot, report: &mut Report) {
    let name_of = |id: &[u8]| {
        let user = snapshot.users.iter().find(|user| user.id == id);
        user.and_then(|user| user.name.clone())
    };
    let owner = key.owner_id.as_deref().and_then(name_of).unwrap_or_else(|| "nobody".to_owned());
    let description = key.description.as_deref().unwrap_or_default();
    let until = key.expire_at.as_ref().map_or_else(String::new, |date| format!(" (until {date})"));
    let mut made = Vec::new();
    // A key with roles acts for a user of its own, which has no name.
    if let Some(id) = key.user_id.as_deref().filter(|id| name_of(id).is_none()) {
        let role_of = |role| match role {
            QuetzRole::Owner => "Owner",
            QuetzRole::Maintainer => "Maintainer",
            QuetzRole::Member => "Reader",
        };
        for member in snapshot.channel_members.iter().filter(|member| member.user_id == id) {
            made.push(format!("--channel conda/{} --role {}", member.channel, role_of(member.role)));
        }
        for member in snapshot.package_members.iter().filter(|member| member.user_id == id) {
            made.push(format!(
                "--channel conda/{} --package {} --role {}",
                member.channel,
                member.package,
                role_of(member.role)
            ));
        }
    } else {
        made.push(String::new());
    }
    let commands: Vec<String> = made
        .into_iter()
        .map(|scope| format!("`{}`", format!("granary token create --user {owner} {scope}").trim_end()))
        .collect();
    report.not_carried(format!(
        "the API key {description:?} of {owner}{until}: keys are made anew here, with {}",
        if commands.is_empty() {
            "nothing, since it had no right left".to_owned()
        } else {
            commands.join(" and ")
        }
    ));
}

#[cfg(test)]
mod tests;
