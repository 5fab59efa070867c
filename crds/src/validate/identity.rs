//! Validation of the sources of identity.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use granary_core::SubjectName;

use super::provider::{Provider, Sessions};
use super::registry::{at_least_one, positive};
use crate::identity::{AuthenticatorSpec, IdentitySpec, IssuerSpec, LdapSpec, LoginsSpec, PasswordsSpec};
use crate::problem::Problems;
use crate::secret::SecretSource;
use crate::value::HttpUrl;

/// Who people and workloads are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What a password's hash costs.
    pub passwords: PasswordCost,
    /// How many wrong passwords are borne.
    pub logins: Logins,
    /// How long the audit is kept.
    pub audit_retention: Duration,
    /// The most that a token's lifetime may be.
    pub max_token_lifetime: Option<Duration>,
    /// Who signs for workloads.
    pub issuers: Vec<Issuer>,
    /// Who is asked about passwords.
    pub authenticators: Vec<Authenticator>,
    /// Who says of people in a browser who they are. No two of these and of the authenticators have one name.
    pub providers: Vec<Provider>,
    /// What follows from a login in a browser.
    pub sessions: Sessions,
}

/// What an argon2id hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// How many wrong passwords are borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logins {
    /// For one name from one address.
    pub failures_per_user: u32,
    /// From one address.
    pub failures_per_address: u32,
    /// The span of time.
    pub within: Duration,
}

/// Somebody who signs for workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What permissions call it.
    pub name: SubjectName,
    /// Its URL, exactly as tokens name it.
    pub url: String,
    /// The audiences that its tokens may be made for; at least one.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Where its discovery document says.
    Discovered,
    /// At a URL.
    Url(HttpUrl),
    /// In a file.
    File(PathBuf),
}

/// Somebody who knows passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticator {
    /// What accounts of it are marked with.
    pub name: SubjectName,
    /// Groups that everybody of it is in.
    pub groups: Vec<SubjectName>,
    /// How long an answer is believed.
    pub cache_for: Duration,
    /// Whom to ask.
    pub source: AuthenticatorSource,
}

/// Whom to ask about passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticatorSource {
    /// A file of names and passwords.
    Users(SecretSource),
    /// An htpasswd file.
    Htpasswd(SecretSource),
    /// A query.
    Sql {
        /// The connection string.
        url: SecretSource,
        /// The query.
        query: String,
    },
    /// A service.
    Http {
        /// Its URL.
        url: HttpUrl,
        /// A token for it.
        token: Option<SecretSource>,
    },
    /// A directory.
    Ldap(Box<Ldap>),
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ldap {
    /// Its spec, whose URL has been checked.
    pub spec: LdapSpec,
    /// The password of who searches.
    pub bind_password: Option<SecretSource>,
}

pub(super) fn identity(problems: &mut Problems, spec: &IdentitySpec) -> Option<Identity> {
    let passwords = passwords(problems, &spec.passwords);
    let logins = logins(problems, &spec.logins);
    let audit_retention = positive(problems, "spec.identity.audit.retention", &spec.audit.retention);
    let max_token_lifetime =
        problems.read_optional("spec.identity.maxTokenLifetime", spec.max_token_lifetime.as_ref());
    let (mut names, mut urls) = (HashSet::new(), HashSet::new());
    let mut issuers = Vec::new();
    for (index, issuer) in spec.issuers.iter().enumerate() {
        let path = format!("spec.identity.issuers[{index}]");
        let read = self::issuer(problems, &path, issuer);
        if let Some(name) = read.as_ref().map(|issuer| &issuer.name)
            && !names.insert(name.clone())
        {
            problems.add(
                format!("{path}.name"),
                format!("there are two issuers {name}; give each a name of its own"),
            );
        }
        if read.is_some() && !urls.insert(issuer.url.text()) {
            problems.add(
                format!("{path}.url"),
                "another issuer has this URL: tokens could be of either; write one issuer with all audiences",
            );
        }
        issuers.extend(read);
    }
    let mut names = HashSet::new();
    let mut authenticators = Vec::new();
    for (index, authenticator) in spec.authenticators.iter().enumerate() {
        let path = format!("spec.identity.authenticators[{index}]");
        let read = self::authenticator(problems, &path, spec, authenticator);
        if let Some(name) = read.as_ref().map(|authenticator| &authenticator.name)
            && (!names.insert(name.clone()) || name.as_str() == "local")
        {
            let message = format!("the name {name} is taken; give each authenticator a name of its own");
            problems.add(format!("{path}.name"), message);
        }
        authenticators.extend(read);
    }
    let mut providers = Vec::new();
    for (index, provider) in spec.providers.iter().enumerate() {
        let path = format!("spec.identity.providers[{index}]");
        let read = super::provider::provider(problems, &path, spec, provider);
        if let Some(name) = read.as_ref().map(|provider| &provider.name)
            && (!names.insert(name.clone()) || name.as_str() == "local")
        {
            // Accounts are marked by it.
            let message =
                format!("the name {name} is taken; give each provider and authenticator a name of its own");
            problems.add(format!("{path}.name"), message);
        }
        providers.extend(read);
    }
    let lifetime = positive(problems, "spec.identity.sessions.lifetime", &spec.sessions.lifetime);
    Some(Identity {
        passwords: passwords?,
        logins: logins?,
        audit_retention: audit_retention?,
        max_token_lifetime: max_token_lifetime?,
        issuers,
        authenticators,
        providers,
        sessions: Sessions { lifetime: lifetime? },
    })
}

fn passwords(problems: &mut Problems, spec: &PasswordsSpec) -> Option<PasswordCost> {
    let memory = problems.read("spec.identity.passwords.memory", &spec.memory)?;
    let memory_kib = u32::try_from(memory.bytes() / 1024).unwrap_or(u32::MAX);
    at_least_one(problems, "spec.identity.passwords.passes", spec.passes);
    at_least_one(problems, "spec.identity.passwords.lanes", spec.lanes);
    if memory_kib < spec.lanes.saturating_mul(8) || !(7 * 1024..=1024 * 1024).contains(&memory_kib) {
        problems.add("spec.identity.passwords.memory", "write a size from 7Mi to 1Gi");
    }
    if spec.passes > 100 {
        problems.add("spec.identity.passwords.passes", "write a number from 1 to 100");
    }
    if spec.lanes > 64 {
        problems.add("spec.identity.passwords.lanes", "write a number from 1 to 64");
    }
    Some(PasswordCost { memory_kib, passes: spec.passes, lanes: spec.lanes })
}

fn logins(problems: &mut Problems, spec: &LoginsSpec) -> Option<Logins> {
    at_least_one(problems, "spec.identity.logins.failuresPerUser", spec.failures_per_user);
    at_least_one(problems, "spec.identity.logins.failuresPerAddress", spec.failures_per_address);
    Some(Logins {
        failures_per_user: spec.failures_per_user,
        failures_per_address: spec.failures_per_address,
        within: positive(problems, "spec.identity.logins.within", &spec.within)?,
    })
}

fn issuer(problems: &mut Problems, path: &str, spec: &IssuerSpec) -> Option<Issuer> {
    let name = problems.read(&format!("{path}.name"), &spec.name);
    let url = problems.read(&format!("{path}.url"), &spec.url);
    if spec.audiences.is_empty() || spec.audiences.iter().any(String::is_empty) {
        let message =
            "name the audiences that its tokens are made for: a token for another service is no credential";
        problems.add(format!("{path}.audiences"), message);
    }
    let jwks_url = problems.read_optional(&format!("{path}.jwksUrl"), spec.jwks_url.as_ref())?;
    let keys = match (jwks_url, &spec.jwks_file) {
        (None, None) => KeySource::Discovered,
        (Some(url), None) => KeySource::Url(url),
        (None, Some(file)) => KeySource::File(file.clone()),
        (Some(_), Some(_)) => {
            problems.add(format!("{path}.jwksUrl"), "both jwksUrl and jwksFile are set; keep one of them");
            return None;
        }
    };
    url?;
    Some(Issuer { name: name?, url: spec.url.text().to_owned(), audiences: spec.audiences.clone(), keys })
}

/// A secret that a source names by its key.
pub(super) fn keyed(
    problems: &mut Problems,
    path: &str,
    spec: &IdentitySpec,
    key: &str,
) -> Option<SecretSource> {
    if key.is_empty() || key.starts_with('.') || key.bytes().any(|byte| byte == b'/' || byte == 0) {
        problems.add(path, "write the name of a file in identity.secretsDir");
        return None;
    }
    let Some(folder) = &spec.secrets_dir else {
        problems.add(
            path,
            "set identity.secretsDir (in Kubernetes: identity.secretRef) to where the secrets are",
        );
        return None;
    };
    Some(SecretSource::File(folder.join(key)))
}

fn authenticator(
    problems: &mut Problems,
    path: &str,
    all: &IdentitySpec,
    spec: &AuthenticatorSpec,
) -> Option<Authenticator> {
    let name = problems.read(&format!("{path}.name"), &spec.name);
    let groups = problems.read_list(&format!("{path}.groups"), &spec.groups);
    let cache_for = problems.read(&format!("{path}.cacheFor"), &spec.cache_for);
    let mut sources = Vec::new();
    if let Some(file) = &spec.users {
        sources.push(
            keyed(problems, &format!("{path}.users.key"), all, &file.key).map(AuthenticatorSource::Users),
        );
    }
    if let Some(file) = &spec.htpasswd {
        let file = keyed(problems, &format!("{path}.htpasswd.key"), all, &file.key);
        sources.push(file.map(AuthenticatorSource::Htpasswd));
    }
    if let Some(sql) = &spec.sql {
        let url = keyed(problems, &format!("{path}.sql.urlKey"), all, &sql.url_key);
        if !sql.query.contains("$1") {
            problems.add(format!("{path}.sql.query"), "write $1 where the user name belongs");
        }
        sources.push(url.map(|url| AuthenticatorSource::Sql { url, query: sql.query.clone() }));
    }
    if let Some(http) = &spec.http {
        let url = problems.read(&format!("{path}.http.url"), &http.url);
        let token = match &http.token_key {
            None => Some(None),
            Some(key) => keyed(problems, &format!("{path}.http.tokenKey"), all, key).map(Some),
        };
        sources.push(url.zip(token).map(|(url, token)| AuthenticatorSource::Http { url, token }));
    }
    if let Some(ldap) = &spec.ldap {
        sources.push(self::ldap(problems, &format!("{path}.ldap"), all, ldap));
    }
    if sources.len() != 1 {
        problems.add(path, "name one of users, htpasswd, sql, http and ldap");
    }
    let source = sources.pop().flatten();
    Some(Authenticator { name: name?, groups, cache_for: cache_for?, source: source? })
}

fn ldap(
    problems: &mut Problems,
    path: &str,
    all: &IdentitySpec,
    spec: &LdapSpec,
) -> Option<AuthenticatorSource> {
    let url = spec.url.parse::<http::Uri>().ok().filter(|url| url.host().is_some());
    match url.as_ref().and_then(http::Uri::scheme_str) {
        Some("ldap") => {}
        Some("ldaps") if !spec.start_tls => {}
        Some("ldaps") => problems
            .add(format!("{path}.startTls"), "ldaps begins with TLS; remove startTls, or write ldap://"),
        _ => problems.add(format!("{path}.url"), "write ldaps://HOST or ldap://HOST"),
    }
    if !spec.user_filter.contains("{user}") {
        problems
            .add(format!("{path}.userFilter"), "write {user} where the name belongs, such as (uid={user})");
    }
    let bind_password = match &spec.bind_password_key {
        None => None,
        Some(key) => Some(keyed(problems, &format!("{path}.bindPasswordKey"), all, key)?),
    };
    if spec.bind_dn.is_some() != bind_password.is_some() {
        problems.add(format!("{path}.bindDn"), "bindDn and bindPasswordKey go together; set both or neither");
    }
    Some(AuthenticatorSource::Ldap(Box::new(Ldap { spec: spec.clone(), bind_password })))
}
