//! What an import gives: channels as YAML, accounts as lines.

use std::collections::BTreeSet;

use granary_core::SubjectName;
use granary_crds::{
    API_VERSION, Channel, ChannelSpec, ObjectMeta, Permission, PyPiSettings, RegistryRef, ValidChannel,
    Visibility, validate_channel,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::report::Report;

/// Why an import cannot be put out.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A channel holds more than a channel may.
    #[error("the channel {channel} cannot be described: {problems}")]
    Channel {
        /// Which.
        channel: String,
        /// What is wrong, each with the path of its field.
        problems: String,
    },
    /// The YAML cannot be written.
    #[error("the YAML cannot be written")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// What was read from an old server.
#[derive(Debug, Default)]
pub struct Import {
    /// The channels, to be applied.
    pub channels: Vec<Channel>,
    /// Who has a password there that can be checked here: the lines of a `users` file.
    pub accounts: Vec<AccountLine>,
    /// What could not be carried over, and what else there is to know.
    pub report: Report,
}

impl Import {
    /// The channels as they validate: what the server will make of them.
    pub fn valid_channels(&self) -> Result<Vec<ValidChannel>, OutputError> {
        self.channels
            .iter()
            .map(|channel| {
                validate_channel(channel).map_err(|problems| OutputError::Channel {
                    channel: channel.metadata.name.clone(),
                    problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                })
            })
            .collect()
    }
}

/// A line of a `users` file, as `identity.authenticators` of the registry reads it.
#[derive(Debug, Clone)]
pub struct AccountLine {
    /// Who.
    pub name: SubjectName,
    /// The password, or its hash.
    pub password: SecretString,
}

/// The text of a `users` file: `NAME: PASSWORD`, a line each.
pub fn users_file(accounts: &[AccountLine]) -> SecretString {
    let line = |account: &AccountLine| format!("{}: {}\n", account.name, account.password.expose_secret());
    accounts.iter().map(line).collect::<String>().into()
}

/// What to add to the spec of a `PackageRegistry` so that it asks a file of passwords: `source` is `users` or `htpasswd`,
/// `key` the file's name in the Secret (elsewhere: in the folder) of `identity`.
pub fn authenticator_yaml(name: &SubjectName, source: &str, key: &str) -> String {
    let key = serde_json::Value::from(key);
    format!("identity:\n  authenticators:\n  - name: {name}\n    {source}: {{key: {key}}}\n")
}

/// Whether a password may stand in a `users` file and be read as itself: one line, and nothing that looks like a hash.
pub(crate) fn is_plain_password(password: &str) -> bool {
    !password.is_empty()
        && password.trim() == password
        && !password.starts_with(['$', '{'])
        && !password.chars().any(char::is_control)
}

/// A `Channel` object with nothing but what is said of it.
pub(crate) fn channel(object_name: String, namespace: Option<&str>, spec: ChannelSpec) -> Channel {
    Channel {
        api_version: API_VERSION.to_owned(),
        kind: "Channel".to_owned(),
        metadata: ObjectMeta {
            name: object_name,
            namespace: namespace.map(str::to_owned),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// A name that Kubernetes takes for an object, made of a channel's name, and not among those that are taken.
pub fn object_name(channel: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = String::with_capacity(channel.len());
    for letter in channel.chars() {
        match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_lowercase() || letter.is_ascii_digit() => name.push(letter),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = match name.trim_end_matches('-') {
        "" => "channel",
        name => name,
    };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// The channels as YAML documents, with no field that is at its default.
pub fn channel_yaml(channels: &[Channel], made_from: &str) -> Result<String, OutputError> {
    let mut yaml = format!("# Made from {made_from}.\n");
    for channel in channels {
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(&Document::of(channel))?);
    }
    Ok(yaml)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: &'a ObjectMeta,
    spec: Spec<'a>,
}

/// The fields that imports set.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    registry_ref: Option<&'a RegistryRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a String>,
    format: granary_core::Format,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a String>,
    visibility: Visibility,
    #[serde(skip_serializing_if = "<[Permission]>::is_empty")]
    permissions: &'a [Permission],
    #[serde(skip_serializing_if = "Option::is_none")]
    pypi: Option<PyPiSettings>,
}

impl<'a> Document<'a> {
    fn of(channel: &'a Channel) -> Self {
        let spec = &channel.spec;
        Self {
            api_version: &channel.api_version,
            kind: &channel.kind,
            metadata: &channel.metadata,
            spec: Spec {
                registry_ref: spec.registry_ref.as_ref(),
                name: spec.name.as_ref(),
                format: spec.format,
                title: spec.title.as_ref(),
                description: spec.description.as_ref(),
                visibility: spec.visibility,
                permissions: &spec.permissions,
                pypi: spec.pypi,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use granary_core::{Format, Role};
    use granary_crds::{Raw, apply_environment, read_channels, read_registry, validate_registry};

    use super::*;

    #[test]
    fn a_channel_reads_back_as_it_was() {
        let mut spec = ChannelSpec::new(Format::PyPi);
        spec.name = Some("user/dev".into());
        spec.title = Some("yes: \"no\" #1".into());
        spec.description = Some("one\ntwo\n\n".into());
        spec.visibility = Visibility::Public;
        spec.pypi = Some(PyPiSettings { allow_overwrite: true });
        spec.registry_ref = Some(RegistryRef { name: "packages".into(), namespace: None });
        spec.permissions = vec![Permission {
            subjects: vec![Raw::new("user:null"), Raw::new("anonymous")],
            role: Role::Maintainer,
            packages: vec![Raw::new("*"), Raw::new("010"), Raw::new("true")],
            except: vec![Raw::new("a-*")],
        }];
        let made = [channel("user-dev".into(), Some("tools"), spec)];
        let yaml = channel_yaml(&made, "a test").unwrap();
        let reading = read_channels(&yaml);
        assert_eq!(reading.problems, [], "{yaml}");
        assert_eq!(reading.channels[0].channel, validate_channel(&made[0]).unwrap(), "{yaml}");
    }

    #[test]
    fn an_authenticator_is_one_of_a_registry() {
        let yaml = authenticator_yaml(&"old-server".parse().unwrap(), "users", "users: \"x\".txt");
        let mut file = read_registry(&yaml).unwrap();
        let variables = [("GRANARY_IDENTITY_SECRETS_DIR".to_owned(), "/run/secrets".to_owned())];
        apply_environment(&mut file.spec, variables).unwrap();
        let problems = validate_registry(&file.spec).err().unwrap_or_default();
        assert!(problems.iter().all(|problem| !problem.path.contains("identity")), "{problems:?}");
        assert_eq!(file.spec.identity.authenticators[0].users.as_ref().unwrap().key, "users: \"x\".txt");
    }

    #[test]
    fn object_names_are_those_of_kubernetes_and_differ() {
        let taken = &mut BTreeSet::new();
        assert_eq!(object_name("Ada/dev", taken), "ada-dev");
        assert_eq!(object_name("ada.dev", taken), "ada-dev-2");
        assert_eq!(object_name("__", taken), "channel");
    }
}
