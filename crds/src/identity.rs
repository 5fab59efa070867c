//! Who people and workloads are, beside the accounts that the registry keeps itself.
//!
//! Secrets of all sources stand in one folder, a file each, and sources name them by key: one Secret to mount in
//! Kubernetes, one folder elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use granary_core::SubjectName;
use serde::{Deserialize, Serialize};

use crate::deployment::LocalReference;
use crate::options::settings;
use crate::provider::{ProviderSpec, SessionsSpec};
use crate::value::{ByteSize, HttpUrl, Raw};

settings! {
    /// Who people and workloads are, beside the accounts that the registry keeps itself.
    pub struct IdentitySpec {
        /// The folder of the secrets that the sources below name by their keys.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub secrets_dir: Option<PathBuf> = None,
        /// What a password's hash costs.
        pub passwords: PasswordsSpec = PasswordsSpec::default(),
        /// How many wrong passwords are borne.
        pub logins: LoginsSpec = LoginsSpec::default(),
        /// What follows from a login in a browser.
        pub sessions: SessionsSpec = SessionsSpec::default(),
        /// What is kept of who did what.
        pub audit: AuditSpec = AuditSpec::default(),
        /// The most that a token's lifetime may be; unlimited when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub max_token_lifetime: Option<Raw<Duration>> = None,
    }
    file {
        /// Who signs for workloads: tokens of these issuers are taken as credentials.
        #[schemars(length(max = 16))]
        pub issuers: Vec<IssuerSpec> = Vec::new(),
        /// Who is asked, in this order, about a user name that no account of the registry's own has.
        #[schemars(length(max = 16))]
        pub authenticators: Vec<AuthenticatorSpec> = Vec::new(),
        /// Who says of people in a browser who they are.
        #[schemars(length(max = 16))]
        pub providers: Vec<ProviderSpec> = Vec::new(),
    }
    kubernetes {
        /// The Secret that holds the secrets of the sources, each under the key by which they name it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secret_ref: Option<LocalReference> = None,
        /// The service accounts of the cluster.
        pub service_accounts: ServiceAccountsSpec = ServiceAccountsSpec::default(),
    }
}

settings! {
    /// What a password's hash (argon2id) costs. Hashes that exist keep what they were made with.
    pub struct PasswordsSpec {
        /// Memory for one hash.
        pub memory: Raw<ByteSize> = Raw::new("19Mi"),
        /// Passes over the memory.
        pub passes: u32 = 2,
        /// Lanes that may be computed at once.
        pub lanes: u32 = 1,
    }
}

settings! {
    /// How many wrong passwords are borne, by all pods together.
    pub struct LoginsSpec {
        /// Wrong passwords for one user name from one address within `within`; further ones wait until it is over.
        pub failures_per_user: u32 = 10,
        /// Wrong passwords and tokens from one address within `within`, whatever the name.
        pub failures_per_address: u32 = 100,
        /// The span of time that both count in.
        pub within: Raw<Duration> = Raw::new("5m"),
    }
}

settings! {
    /// What is kept of who did what.
    pub struct AuditSpec {
        /// How long rows are kept.
        pub retention: Raw<Duration> = Raw::new("365d"),
    }
}

settings! {
    /// The service accounts of the cluster, whose projected tokens are taken as credentials.
    pub struct ServiceAccountsSpec {}
    kubernetes {
        /// Whether they are.
        pub enabled: bool = true,
        /// The audience that their tokens have to name.
        #[schemars(length(min = 1, max = 253))]
        pub audience: String = "granary".to_owned(),
    }
}

/// Somebody who signs for workloads: a cluster, a CI system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct IssuerSpec {
    /// What permissions call it: `workload:NAME?CLAIM=PATTERN`.
    pub name: Raw<SubjectName>,
    /// Its URL, exactly as tokens name it (`iss`).
    pub url: Raw<HttpUrl>,
    /// The audiences that its tokens may be made for (`aud`); one of them has to be named.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 16)))]
    pub audiences: Vec<String>,
    /// The URL of its keys; found by its discovery document when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<Raw<HttpUrl>>,
    /// A file with its keys, which then are not fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(skip))]
    pub jwks_file: Option<PathBuf>,
}

/// Somebody who knows passwords: exactly one of the sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct AuthenticatorSpec {
    /// What accounts of it are marked with.
    pub name: Raw<SubjectName>,
    /// Groups that everybody of it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 64)))]
    pub groups: Vec<Raw<SubjectName>>,
    /// How long an answer is believed: a password that was changed there works here so much longer.
    #[serde(default = "believed")]
    pub cache_for: Raw<Duration>,
    /// A list of user names and passwords: one of the secrets, with a line `NAME: PASSWORD` for each, where the password
    /// may be an argon2 or bcrypt hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<SecretFileSpec>,
    /// An htpasswd file (bcrypt, apr1, SHA-1): one of the secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<SecretFileSpec>,
    /// A table of another database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlSpec>,
    /// A service that answers yes or no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSpec>,
    /// A directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<LdapSpec>,
}

fn believed() -> Raw<Duration> {
    Raw::new("1m")
}

/// A file among the secrets. It is read again when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct SecretFileSpec {
    /// Its key.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub key: String,
}

/// A table of a Postgres database that holds user names and password hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct SqlSpec {
    /// The key of the connection string: `postgresql://USER:PASSWORD@HOST/DATABASE`.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub url_key: String,
    /// The query: `$1` is the user name; the first column of its one row is the hash (argon2, bcrypt, or what htpasswd
    /// takes), a second one, if there is one, an array of groups.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 4096)))]
    pub query: String,
}

/// A service that answers yes or no.
///
/// It gets a POST with `{"username": …, "password": …}` and answers 200 with `{"groups": [ … ]}` or an empty body, 401 or 403 for a
/// wrong password, 404 for a name that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct HttpSpec {
    /// Its URL.
    pub url: Raw<HttpUrl>,
    /// The key of a token that it gets as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_key: Option<String>,
}

/// A directory: the entry of a name is searched for, then its password is tried by a bind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct LdapSpec {
    /// `ldaps://HOST[:PORT]`, or `ldap://HOST[:PORT]` with `startTls`.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 8, max = 512)))]
    pub url: String,
    /// Whether TLS is begun on a plain connection. With neither this nor `ldaps`, passwords pass in the clear.
    #[serde(default)]
    pub start_tls: bool,
    /// Who searches; nobody in particular when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_dn: Option<String>,
    /// The key of their password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_password_key: Option<String>,
    /// Where people are searched for.
    pub user_base: String,
    /// Which entry is theirs; `{user}` stands for the name, escaped.
    #[serde(default = "user_filter")]
    pub user_filter: String,
    /// Where groups are searched for; nowhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_base: Option<String>,
    /// Which groups are theirs; `{dn}` stands for their entry, `{user}` for the name.
    #[serde(default = "group_filter")]
    pub group_filter: String,
    /// The attribute that is a group's name.
    #[serde(default = "group_attribute")]
    pub group_attribute: String,
}

fn user_filter() -> String {
    "(uid={user})".to_owned()
}

fn group_filter() -> String {
    "(member={dn})".to_owned()
}

fn group_attribute() -> String {
    "cn".to_owned()
}
