//! devpi-server: what `devpi-export` writes.
//!
//! Sources: `devpi_server/importexport.py` (the file `dataindex.json`, `dumpversion` 1 and 2), `model.py` and `view_auth.py`
//! (who may do what), `auth.py` (password hashes) of devpi-server 6.20.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use granary_core::{ChannelName, Format, Role, SubjectName};
use granary_crds::{ChannelSpec, Permission, PyPiSettings, Raw, RegistryRef, Visibility};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

pub use rules::{Index, Principal};

use crate::output::{AccountLine, Import, channel, object_name};
use crate::proof::Question;
use crate::report::Report;

/// The file of an export that says who and what there is.
pub const INDEX_FILE: &str = "dataindex.json";

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not the JSON that `devpi-export` writes.
    #[error("{INDEX_FILE} is not what devpi-export writes")]
    Json(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("the dumpversion is not known: 1 and 2 are")]
    Version,
}

/// What to make of an export.
#[derive(Debug, Clone, Default)]
pub struct DevpiOptions {
    /// The registry that the channels name.
    pub registry: Option<String>,
    /// The namespace of the objects.
    pub namespace: Option<String>,
    /// What `--restrict-modify` of the old server said, which no export holds; none if it was not given.
    pub restrict_modify: Option<Vec<Principal>>,
}

/// An export that has been read.
#[derive(Debug)]
pub struct DevpiImport {
    /// The channels, the accounts and the report.
    pub import: Import,
    /// The indexes that became channels, with their rules.
    pub indexes: Vec<Index>,
    users: BTreeSet<SubjectName>,
    restrict_modify: Option<Vec<Principal>>,
}

impl DevpiImport {
    /// The questions to prove the import by, with the old server's answers.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        rules::questions(&self.indexes, &self.users, self.restrict_modify.as_deref())
    }
}

#[derive(Deserialize)]
struct Export {
    #[serde(default)]
    dumpversion: Option<Json>,
    users: BTreeMap<String, User>,
    indexes: BTreeMap<String, ExportedIndex>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    pwhash: Option<String>,
    #[serde(default)]
    pwsalt: Option<String>,
}

#[derive(Deserialize)]
struct ExportedIndex {
    indexconfig: Map<String, Json>,
}

/// Reads the text of a `dataindex.json`.
pub fn import(text: &str, options: DevpiOptions) -> Result<DevpiImport, ExportError> {
    let export: Export = serde_json::from_str(text)?;
    let version = export.dumpversion.as_ref().and_then(|version| match version {
        Json::String(text) => text.parse().ok(),
        version => version.as_u64(),
    });
    if !matches!(version, Some(1 | 2)) {
        return Err(ExportError::Version);
    }
    let mut report = Report::default();
    let accounts = accounts(&export.users, &options, &mut report);
    let (mut indexes, mut channels) = (Vec::new(), Vec::new());
    let taken = &mut BTreeSet::new();
    for (name, exported) in &export.indexes {
        if let Some(index) = read_index(name, &exported.indexconfig, &mut report) {
            report_index(&index, &exported.indexconfig, &mut report);
            let mut spec = spec(&index, &options, &mut report);
            prose(&mut spec, name, &exported.indexconfig, &mut report);
            channels.push(channel(object_name(name, taken), options.namespace.as_deref(), spec));
            indexes.push(index);
        }
    }
    report.elsewhere(
        "accounts: devpi lets anybody make one (unless it ran with --restrict-modify); here `granary user create` does, \
         or whoever identity.authenticators of the PackageRegistry name",
    );
    report.elsewhere(
        "indexes: their users change them in devpi; here a channel is what its file says, and who may change that is up \
         to Git",
    );
    if !indexes.is_empty() {
        report.note("acl_toxresult_upload: results of tox are not taken");
    }
    let users = export.users.keys().filter_map(|user| user.parse().ok()).collect();
    let restrict_modify = options.restrict_modify;
    Ok(DevpiImport { import: Import { channels, accounts, report }, indexes, users, restrict_modify })
}

fn accounts(users: &BTreeMap<String, User>, options: &DevpiOptions, report: &mut Report) -> Vec<AccountLine> {
    let mut accounts = Vec::new();
    for (name, user) in users {
        let Ok(subject) = name.parse::<SubjectName>() else {
            report.not_carried(format!(
                "the user {name:?}: a name here is letters, digits, '.', '_', '-' and '@', and begins with one of the first \
                 two"
            ));
            continue;
        };
        if name == "root" && options.restrict_modify.is_none() {
            report.note(
                "root may do everything in devpi: make the account an admin by admins.users of the PackageRegistry, or \
                 better, people's own accounts",
            );
        }
        match &user.pwhash {
            Some(hash) if user.pwsalt.is_none() && hash.starts_with("$argon2") => {
                accounts.push(AccountLine { name: subject, password: hash.clone().into() });
            }
            Some(_) => report.not_carried(format!(
                "the password of {name}: an old devpi hashed it with SHA-256, and nobody has logged in since. Give a new \
                 one with `granary user create {name} --password-file FILE`"
            )),
            None => report.note(format!(
                "{name} has no password of its own: a plugin knew it. Name who is to be asked under \
                 identity.authenticators of the PackageRegistry"
            )),
        }
    }
    accounts
}

/// Reads the rules of an index; none if it cannot be a channel.
fn read_index(name: &str, config: &Map<String, Json>, report: &mut Report) -> Option<Index> {
    let kind = config.get("type").and_then(Json::as_str).unwrap_or("stage");
    if kind == "mirror" {
        let url = config.get("mirror_url").and_then(Json::as_str).unwrap_or_default();
        // A URL may hold a password.
        let host = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        report.not_carried(format!(
            "{name}: it mirrors {host}, and channels that fetch from elsewhere are not served yet"
        ));
        return None;
    }
    if kind != "stage" {
        report.not_carried(format!(
            "{name}: its type {kind} comes from a plugin of devpi, whose rules are not known here"
        ));
        return None;
    }
    let Some((user, _)) = name.split_once('/') else {
        report.not_carried(format!("{name:?}: is not named USER/INDEX"));
        return None;
    };
    let channel = match ChannelName::parse(Format::PyPi, name) {
        Ok(channel) => channel,
        Err(error) => {
            report.not_carried(format!("the index {name:?}: {error}"));
            return None;
        }
    };
    let listed = |value: &Json| match value {
        Json::Array(values) => values.iter().filter_map(Json::as_str).map(Principal::parse).collect(),
        Json::String(text) => text.split(',').map(str::trim).map(Principal::parse).collect(),
        _ => Vec::new(),
    };
    Some(Index {
        channel,
        owner: user.to_owned(),
        acl_upload: config.get("acl_upload").map(listed).unwrap_or_default(),
        volatile: config.get("volatile").and_then(Json::as_bool).unwrap_or(true),
    })
}

fn report_index(index: &Index, config: &Map<String, Json>, report: &mut Report) {
    let name = &index.channel;
    let texts = |key: &str| -> Vec<&str> {
        let values = config.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Json::as_str).collect()
    };
    let bases = texts("bases");
    if !bases.is_empty() {
        report.not_carried(format!(
            "{name}: its bases {}: channels made of others are not served yet. Until then clients name both \
             (pip: --extra-index-url; whoever may publish to one of them can then stand in for the other)",
            bases.join(", ")
        ));
    }
    if !texts("mirror_whitelist").is_empty() {
        report.note(format!("{name}: its mirror_whitelist has no meaning without bases"));
    }
    if config.get("custom_data").is_some_and(|data| !data.is_null()) {
        report.not_carried(format!("{name}: its custom_data"));
    }
    for principal in &index.acl_upload {
        if principal.subject().is_none() {
            report.not_carried(format!(
                "{name}: {:?} in acl_upload is no name of an account or group here",
                principal.text()
            ));
        }
    }
}

fn spec(index: &Index, options: &DevpiOptions, report: &mut Report) -> ChannelSpec {
    let mut spec = ChannelSpec::new(Format::PyPi);
    spec.name = Some(index.channel.to_string());
    spec.registry_ref = options.registry.clone().map(|name| RegistryRef { name, namespace: None });
    spec.visibility = Visibility::Public;
    if index.volatile {
        spec.pypi = Some(PyPiSettings { allow_overwrite: true });
    }
    let owners: Vec<Principal> = index.owners(options.restrict_modify.as_deref());
    let uploading = if index.volatile { Role::Maintainer } else { Role::Publisher };
    // An owner may do all that uploading takes.
    let uploaders: Vec<Principal> =
        index.acl_upload.iter().filter(|principal| !owners.contains(principal)).cloned().collect();
    for (principals, role) in [(&owners, Role::Owner), (&uploaders, uploading)] {
        let mut subjects: Vec<_> = principals.iter().filter_map(Principal::subject).collect();
        subjects.sort_by_key(ToString::to_string);
        subjects.dedup();
        if !subjects.is_empty() {
            spec.permissions.push(Permission {
                subjects: subjects.into_iter().map(|subject| Raw::new(subject.to_string())).collect(),
                role,
                packages: Vec::new(),
                except: Vec::new(),
            });
        }
    }
    for owner in owners.iter().filter(|owner| !index.acl_upload.contains(owner) && owner.text() != "root") {
        report.note(format!(
            "{}: {} is not in acl_upload and could put itself there; an Owner may publish here",
            index.channel,
            owner.text()
        ));
    }
    if !index.volatile && !uploaders.is_empty() {
        report.note(format!(
            "{}: it is not volatile, so those in acl_upload become Publisher, who delete and replace nothing. In devpi \
             they could delete with --force all the same",
            index.channel
        ));
    }
    spec
}

/// Title and description, as far as they may stand in a channel.
fn prose(spec: &mut ChannelSpec, name: &str, config: &Map<String, Json>, report: &mut Report) {
    let text = |key: &str| config.get(key).and_then(Json::as_str).filter(|text| !text.is_empty());
    for (key, most, lines) in [("title", 200, false), ("description", 10_000, true)] {
        let Some(text) = text(key) else { continue };
        let legal = |letter: char| !letter.is_control() || (lines && matches!(letter, '\n' | '\t'));
        if text.chars().count() > most || !text.chars().all(legal) {
            report.not_carried(format!(
                "{name}: its {key}, which is longer than {most} characters or has control characters"
            ));
        } else if lines {
            spec.description = Some(text.to_owned());
        } else {
            spec.title = Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
