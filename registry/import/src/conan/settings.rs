//! `server.conf` and the variables that override it.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::ini::{Ini, IniError, Items};

/// Why a `server.conf` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// It is no INI file as Python reads it.
    #[error("conan_server would not start with this file")]
    Ini(#[from] IniError),
    /// A section is missing.
    #[error("conan_server would not start with this file: it has no section [{0}]")]
    Section(&'static str),
    /// `CONAN_SERVER_USERS` is not what it has to be.
    #[error("CONAN_SERVER_USERS is NAME:PASSWORD,NAME:PASSWORD")]
    UsersVariable,
}

/// A `server.conf`, as the server of one generation understands it.
#[derive(Debug)]
pub(super) struct ServerConf {
    /// `[server]`, with the values of variables in place of its own. May hold secrets.
    pub(super) server: Items,
    /// The variables that are set, by their names.
    pub(super) variables: Vec<String>,
    pub(super) read: Items,
    pub(super) write: Items,
    /// Names and passwords, none if a plugin knows them.
    pub(super) users: Vec<(String, SecretString)>,
    /// Sections that the server never looks at.
    pub(super) unknown_sections: Vec<String>,
}

/// Variables that stand before what the file says, and the keys of `[server]` that they stand for.
const VARIABLES: [(&str, &str); 11] = [
    ("CONAN_UPDOWN_SECRET", "updown_secret"),
    ("CONAN_AUTHORIZE_TIMEOUT", "authorize_timeout"),
    ("CONAN_STORAGE_PATH", "disk_storage_path"),
    ("CONAN_JWT_SECRET", "jwt_secret"),
    ("CONAN_JWT_EXPIRE_MINUTES", "jwt_expire_minutes"),
    ("CONAN_SSL_ENABLED", "ssl_enabled"),
    ("CONAN_SERVER_PORT", "port"),
    ("CONAN_SERVER_PUBLIC_PORT", "public_port"),
    ("CONAN_HOST_NAME", "host_name"),
    ("CONAN_CUSTOM_AUTHENTICATOR", "custom_authenticator"),
    ("CONAN_CUSTOM_AUTHORIZER", "custom_authorizer"),
];

impl ServerConf {
    pub(super) fn read(text: &str, environment: &BTreeMap<String, String>) -> Result<Self, ConfError> {
        let ini = Ini::parse(text)?;
        let mut server = ini.items("server")?.unwrap_or_default();
        let mut variables = Vec::new();
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        for (variable, key) in VARIABLES {
            if let Some(value) = set(variable) {
                server.retain(|(other, _)| other != key);
                server.push((key.to_owned(), value.clone()));
                variables.push(variable.to_owned());
            }
        }
        let section = |name: &'static str| ini.items(name)?.ok_or(ConfError::Section(name));
        // With a plugin for it, a section may be missing.
        let has = |key: &str| server.iter().any(|(other, value)| other == key && !value.is_empty());
        let (read, write) = if has("custom_authorizer") {
            (Items::new(), Items::new())
        } else {
            (section("read_permissions")?, section("write_permissions")?)
        };
        let users = match (has("custom_authenticator"), set("CONAN_SERVER_USERS")) {
            (true, _) => Vec::new(),
            (false, Some(users)) => {
                variables.push("CONAN_SERVER_USERS".to_owned());
                users_variable(users)?
            }
            (false, None) => {
                section("users")?.into_iter().map(|(name, password)| (name, password.into())).collect()
            }
        };
        let known = ["server", "read_permissions", "write_permissions", "users"];
        let unknown_sections =
            ini.sections().filter(|name| !known.contains(name)).map(str::to_owned).collect();
        Ok(Self { server, variables, read, write, users, unknown_sections })
    }

    /// The value of a key of `[server]`; an empty one counts as none.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.server
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }
}

/// `NAME:PASSWORD,NAME:PASSWORD`. What follows a second colon is no part of the password. The last of a name counts.
fn users_variable(text: &str) -> Result<Vec<(String, SecretString)>, ConfError> {
    let mut users: Vec<(String, SecretString)> = Vec::new();
    for pair in text.split(',') {
        let mut parts = pair.split(':');
        let (Some(name), Some(password)) = (parts.next(), parts.next()) else {
            return Err(ConfError::UsersVariable);
        };
        users.retain(|(other, _)| other != name);
        users.push((name.to_owned(), password.to_owned().into()));
    }
    Ok(users)
}
