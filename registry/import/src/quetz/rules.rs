//! Who may do what in Quetz (`quetz/authorization.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use granary_core::{Action, ChannelName, SubjectName};

use super::Snapshot;
use crate::proof::{Asker, Question};

/// What a member of the server, of a channel or of a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuetzRole {
    /// May read.
    Member,
    /// May also upload and delete.
    Maintainer,
    /// May also replace files and say who is a member.
    Owner,
}

impl FromStr for QuetzRole {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "member" => Ok(Self::Member),
            "maintainer" => Ok(Self::Maintainer),
            "owner" => Ok(Self::Owner),
            _ => Err(()),
        }
    }
}

type Members = BTreeMap<SubjectName, QuetzRole>;

/// The people of a Quetz and what they may. Names of channels do not tell upper case from lower.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    people: BTreeSet<SubjectName>,
    elevated: BTreeSet<SubjectName>,
    private: BTreeSet<String>,
    channels: BTreeMap<String, Members>,
    packages: BTreeMap<String, BTreeMap<String, Members>>,
}

impl Roles {
    /// What a database says. Users without a name stand for API keys and are left out, as are those whose name none can
    /// have here.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut roles = Self::default();
        let mut names: BTreeMap<&[u8], SubjectName> = BTreeMap::new();
        for user in &snapshot.users {
            let Some(name) = user.name.as_deref().and_then(|name| name.parse::<SubjectName>().ok()) else {
                continue;
            };
            if matches!(user.role, Some(QuetzRole::Owner | QuetzRole::Maintainer)) {
                roles.elevated.insert(name.clone());
            }
            roles.people.insert(name.clone());
            names.insert(&user.id, name);
        }
        for channel in snapshot.channels.iter().filter(|channel| channel.private) {
            roles.private.insert(channel.name.to_ascii_lowercase());
        }
        for member in &snapshot.channel_members {
            if let Some(name) = names.get(member.user_id.as_slice()) {
                let members = roles.channels.entry(member.channel.to_ascii_lowercase()).or_default();
                members.insert(name.clone(), member.role);
            }
        }
        for member in &snapshot.package_members {
            if let Some(name) = names.get(member.user_id.as_slice()) {
                let packages = roles.packages.entry(member.channel.to_ascii_lowercase()).or_default();
                packages.entry(member.package.clone()).or_default().insert(name.clone(), member.role);
            }
        }
        roles
    }

    pub(super) fn channel_members(&self, channel: &str) -> Vec<(&SubjectName, &QuetzRole)> {
        self.channels.get(&channel.to_ascii_lowercase()).into_iter().flatten().collect()
    }

    pub(super) fn package_members(&self, channel: &str) -> Vec<(&str, Vec<(&SubjectName, &QuetzRole)>)> {
        let packages = self.packages.get(&channel.to_ascii_lowercase()).into_iter().flatten();
        packages.map(|(package, members)| (package.as_str(), members.iter().collect())).collect()
    }

    /// Whether the server's own role lets a user do everything (`is_user_elevated`).
    pub fn is_elevated(&self, user: &SubjectName) -> bool {
        self.elevated.contains(user)
    }

    /// What the server answers: to see a package, to upload one, to delete one, to say who is a member of a channel.
    pub fn allow(&self, user: Option<&SubjectName>, action: Action, channel: &str, package: &str) -> bool {
        let channel = channel.to_ascii_lowercase();
        let in_channel = user.and_then(|user| self.channels.get(&channel)?.get(user).copied());
        let in_package = user.and_then(|user| self.packages.get(&channel)?.get(package)?.get(user).copied());
        let either = in_channel.max(in_package);
        let elevated = user.is_some_and(|user| self.is_elevated(user));
        elevated
            || match action {
                Action::Read => !self.private.contains(&channel) || either.is_some(),
                Action::Publish | Action::Remove => either >= Some(QuetzRole::Maintainer),
                Action::Administer => in_channel == Some(QuetzRole::Owner),
            }
    }

    /// Everybody, a stranger and who is not logged in, about each channel and each package that has members.
    pub(super) fn questions(&self, channels: &[ChannelName]) -> impl Iterator<Item = Question> {
        let mut askers = vec![Asker::ANONYMOUS];
        let stranger = "an-unnamed-user".parse().ok();
        for user in self.people.iter().cloned().chain(stranger) {
            let admin = self.is_elevated(&user);
            askers.push(Asker { user: Some(user), groups: Vec::new(), admin });
        }
        let mut questions = Vec::new();
        for channel in channels {
            let known = self.packages.get(&channel.as_str().to_ascii_lowercase()).into_iter().flatten();
            let packages = known.map(|(package, _)| package.as_str()).chain(["some-package"]);
            let packages: Vec<&str> = packages.collect();
            for asker in &askers {
                let mut ask = |action, package: Option<&str>| {
                    let allowed = self.allow(
                        asker.user.as_ref(),
                        action,
                        channel.as_str(),
                        package.unwrap_or_default(),
                    );
                    questions.push(Question {
                        channel: channel.to_string(),
                        asker: asker.clone(),
                        action,
                        package: package.map(str::to_owned),
                        allowed,
                    });
                };
                for package in &packages {
                    for action in [Action::Read, Action::Publish, Action::Remove] {
                        ask(action, Some(package));
                    }
                }
                ask(Action::Administer, None);
            }
        }
        questions.into_iter()
    }
}
