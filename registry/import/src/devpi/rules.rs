//! Who may do what with an index, as devpi-server decides it (`BaseStageCustomizer` in `model.py`, `RootFactory` in
//! `view_auth.py`).

use std::collections::BTreeSet;

use granary_core::{Action, ChannelName, Subject, SubjectName};

use crate::proof::{Asker, Question};

/// Somebody in an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// `:ANONYMOUS:`: everybody.
    Everybody,
    /// `:AUTHENTICATED:`: whoever is logged in.
    LoggedIn,
    /// `:NAME`: a group, which plugins know.
    Group(String),
    /// A user.
    User(String),
}

impl Principal {
    /// Reads an entry of a list.
    pub fn parse(text: &str) -> Self {
        match text {
            ":ANONYMOUS:" => Self::Everybody,
            ":AUTHENTICATED:" => Self::LoggedIn,
            _ => match text.strip_prefix(':') {
                Some(group) => Self::Group(group.to_owned()),
                None => Self::User(text.to_owned()),
            },
        }
    }

    /// The entry without its colon.
    pub fn text(&self) -> &str {
        match self {
            Self::Everybody => "ANONYMOUS",
            Self::LoggedIn => "AUTHENTICATED",
            Self::Group(name) | Self::User(name) => name,
        }
    }

    /// Whom it means here; none if no account or group can have that name.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Self::Everybody => Some(Subject::Anonymous),
            Self::LoggedIn => Some(Subject::Authenticated),
            Self::Group(name) => name.parse().ok().map(Subject::Group),
            Self::User(name) => name.parse().ok().map(Subject::User),
        }
    }

    fn is(&self, asker: &Asker) -> bool {
        match self {
            Self::Everybody => true,
            Self::LoggedIn => asker.user.is_some(),
            Self::Group(name) => asker.groups.iter().any(|group| group.as_str() == name),
            Self::User(name) => asker.user.as_ref().is_some_and(|user| user.as_str() == name),
        }
    }
}

/// An index, as far as its rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// `user/index`.
    pub channel: ChannelName,
    /// The user.
    pub owner: String,
    /// Who may upload.
    pub acl_upload: Vec<Principal>,
    /// Whether files may be replaced and deleted.
    pub volatile: bool,
}

impl Index {
    /// Who may change the index: its user (and root, who may change them all), or those that `--restrict-modify` names.
    pub fn owners(&self, restrict_modify: Option<&[Principal]>) -> Vec<Principal> {
        match restrict_modify {
            None => vec![Principal::User(self.owner.clone())],
            Some(principals) => principals.to_vec(),
        }
    }

    /// What the server answers.
    ///
    /// Everybody may read. Who may change an index may give themselves every right over it, and counts as having them
    /// all. Deleting is asked without `--force`, by which those in `acl_upload` may delete from any index.
    pub fn allow(&self, restrict_modify: Option<&[Principal]>, asker: &Asker, action: Action) -> bool {
        let root = restrict_modify.is_none() && Principal::User("root".to_owned()).is(asker);
        let modify = root || self.owners(restrict_modify).iter().any(|principal| principal.is(asker));
        let upload = self.acl_upload.iter().any(|principal| principal.is(asker));
        match action {
            Action::Read => true,
            Action::Publish => upload || modify,
            Action::Remove => (upload && self.volatile) || modify,
            Action::Administer => modify,
        }
    }
}

/// Everybody who is named anywhere, each group by a member, a stranger and who is not logged in; each about every index.
pub(super) fn questions(
    indexes: &[Index],
    users: &BTreeSet<SubjectName>,
    restrict_modify: Option<&[Principal]>,
) -> impl Iterator<Item = Question> {
    let principals =
        || indexes.iter().flat_map(|index| &index.acl_upload).chain(restrict_modify.unwrap_or_default());
    let mut names = users.clone();
    let mut groups = BTreeSet::new();
    for principal in principals() {
        match principal.subject() {
            Some(Subject::User(name)) => drop(names.insert(name)),
            Some(Subject::Group(name)) => drop(groups.insert(name)),
            _ => {}
        }
    }
    let stranger: Option<SubjectName> = "an-unnamed-user".parse().ok();
    let mut askers = vec![Asker::ANONYMOUS];
    for user in names.into_iter().chain(stranger.clone()) {
        let admin = restrict_modify.is_none() && user.as_str() == "root";
        askers.push(Asker { user: Some(user), groups: Vec::new(), admin });
    }
    askers.extend(groups.into_iter().map(|group| Asker {
        user: stranger.clone(),
        groups: vec![group],
        admin: false,
    }));
    let asked = |index: &Index, asker: &Asker, action| Question {
        channel: index.channel.to_string(),
        asker: asker.clone(),
        action,
        package: (action != Action::Administer).then(|| "some-project".to_owned()),
        allowed: index.allow(restrict_modify, asker, action),
    };
    let actions = [Action::Read, Action::Publish, Action::Remove, Action::Administer];
    let all = |index| {
        askers
            .iter()
            .flat_map(move |asker| actions.map(|action| asked(index, asker, action)))
            .collect::<Vec<_>>()
    };
    indexes.iter().flat_map(all).collect::<Vec<_>>().into_iter()
}
