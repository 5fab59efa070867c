//! `conan_server`: its `server.conf`.
//!
//! Sources: `conans/server/conf/__init__.py` (how the file is read), `conans/server/service/authorize.py` (how rules are
//! evaluated) of `conan` 1.66 and `conan_server` 2.33.

mod grants;
mod ini;
mod reference;
mod rules;
mod settings;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use granary_core::{ChannelName, Format, SubjectName};
use granary_crds::{ChannelSpec, RegistryRef};

pub use ini::{Ini, IniError, Items};
pub use reference::{Generation, Reference};
pub use rules::{ConanAction, Rules};
pub use settings::ConfError;

use crate::output::{AccountLine, Import, channel, is_plain_password, object_name};
use crate::proof::Question;
use crate::report::Report;
use reference::{RulePattern, is_legal};
use secrecy::ExposeSecret;
use settings::ServerConf;

/// What to make of a `server.conf`.
#[derive(Debug, Clone)]
pub struct ConanOptions {
    /// Which server read the file.
    pub generation: Generation,
    /// The channel to make.
    pub channel: ChannelName,
    /// The registry that it names.
    pub registry: Option<String>,
    /// The namespace of the object.
    pub namespace: Option<String>,
    /// Whether those who may write but not read may do both, rather than neither.
    pub writers_may_read: bool,
}

/// A `server.conf` that has been read.
#[derive(Debug)]
pub struct ConanImport {
    /// The channel, the accounts and the report.
    pub import: Import,
    /// The rules, evaluated as the old server does.
    pub rules: Rules,
    options: ConanOptions,
    users: BTreeSet<SubjectName>,
}

impl ConanImport {
    /// The questions to prove the import by, with the old server's answers: about every combination of what the rules name, or
    /// an even choice of at most `references` of them.
    pub fn questions(&self, references: usize) -> impl Iterator<Item = Question> {
        table::questions(&self.rules, &self.users, &self.options, references)
    }

    /// The references that these are about.
    pub fn references(&self, most: usize) -> Vec<Reference> {
        table::references(&self.rules, most)
    }
}

/// Reads a `server.conf`. `environment` are variables that the old server ran with: those of its own stand before the file.
pub fn import(
    text: &str,
    environment: &BTreeMap<String, String>,
    options: ConanOptions,
) -> Result<ConanImport, ConfError> {
    let conf = ServerConf::read(text, environment)?;
    let rules = Rules::new(options.generation, &conf.read, &conf.write);
    let mut report = Report::default();
    let accounts = accounts(&conf, &mut report);
    let users: BTreeSet<SubjectName> = accounts.iter().map(|account| account.name.clone()).collect();
    let users = owners(&rules, &users);
    let granted = grants::grants(&rules, &options, &users);
    report_server(&conf, &mut report);
    report_rules(&rules, &mut report);
    report_grants(&granted, &rules, &options, &mut report);
    let mut spec = ChannelSpec::new(Format::Conan);
    let name = object_name(options.channel.as_str(), &mut BTreeSet::new());
    if name != options.channel.as_str() {
        spec.name = Some(options.channel.to_string());
    }
    spec.registry_ref = options.registry.clone().map(|name| RegistryRef { name, namespace: None });
    spec.visibility = granted.visibility;
    spec.permissions = granted.permissions;
    let channels = vec![channel(name, options.namespace.as_deref(), spec)];
    Ok(ConanImport { import: Import { channels, accounts, report }, rules, options, users })
}

/// All who are known by name: those with an account, and those in rules, who may have theirs elsewhere.
fn owners(rules: &Rules, users: &BTreeSet<SubjectName>) -> BTreeSet<SubjectName> {
    let listed = rules.all().flat_map(|rule| &rule.users).filter_map(|user| user.parse().ok());
    users.iter().cloned().chain(listed).collect()
}

fn accounts(conf: &ServerConf, report: &mut Report) -> Vec<AccountLine> {
    let mut accounts = Vec::new();
    for (name, password) in &conf.users {
        let Ok(subject) = name.parse::<SubjectName>() else {
            report.not_carried(format!(
                "the user {name:?}: a name here is letters, digits, '.', '_', '-' and '@'; make an account with another one"
            ));
            continue;
        };
        if is_plain_password(password.expose_secret()) {
            accounts.push(AccountLine { name: subject, password: password.clone() });
        } else {
            report.not_carried(format!(
                "the password of {name}: it is empty, of several lines, or begins as a hash does; \
                 run `granary user create {name} --password-file FILE`"
            ));
        }
    }
    accounts
}

/// Keys of `[server]`, and where what they say is said now.
const ELSEWHERE: [(&str, &str); 10] = [
    (
        "jwt_secret",
        "tokens are random texts whose hashes the database keeps, so there is nothing to sign with",
    ),
    ("jwt_expire_minutes", "how long a token may live is identity.maxTokenLifetime of the PackageRegistry"),
    (
        "ssl_enabled",
        "publicUrl of the PackageRegistry says how clients reach it, tls which certificate it has",
    ),
    ("port", "listen of the PackageRegistry; in a cluster, its Service"),
    (
        "public_port",
        "publicUrl of the PackageRegistry; URLs of files follow from the request when it is absent",
    ),
    ("host_name", "publicUrl or host of the PackageRegistry"),
    (
        "authorize_timeout",
        "URLs of downloads that the object store signs live 5 minutes; uploads carry the caller's credential",
    ),
    ("disk_authorize_timeout", "it never had a meaning"),
    ("disk_storage_path", "files are in the channel's bucket, within objectStore of the PackageRegistry"),
    ("updown_secret", "URLs of downloads are signed by the object store"),
];

fn report_server(conf: &ServerConf, report: &mut Report) {
    for (key, _) in &conf.server {
        if let Some((_, place)) = ELSEWHERE.iter().find(|(known, _)| known == key) {
            if conf.get(key).is_some() {
                report.elsewhere(format!("{key}: {place}"));
            }
            continue;
        }
        match key.as_str() {
            "custom_authenticator" | "custom_authorizer" => {}
            "store_adapter" => report.elsewhere(
                "store_adapter: objectStore of the PackageRegistry is any S3 store, or one of its own (`granary store`)",
            ),
            _ => report.note(format!("{key}: conan_server does not know this key, and it means nothing here")),
        }
    }
    if let Some(plugin) = conf.get("custom_authenticator") {
        report.not_carried(format!(
            "custom_authenticator {plugin}: [users] is not used with it. Name what it asks under \
             identity.authenticators of the PackageRegistry: htpasswd, ldap, sql, or http for anything else"
        ));
    }
    if let Some(plugin) = conf.get("custom_authorizer") {
        report.not_carried(format!(
            "custom_authorizer {plugin}: both lists of permissions are not used with it, so the channel has none. \
             Write what the plugin decides as permissions of the channel"
        ));
    }
    for variable in &conf.variables {
        report
            .note(format!("{variable} is set here and stands before what the file says, as in conan_server"));
    }
    for section in &conf.unknown_sections {
        report
            .note(format!("[{section}]: conan_server does not know this section, and it means nothing here"));
    }
}

fn report_rules(rules: &Rules, report: &mut Report) {
    for rule in rules.all() {
        let text = &rule.text;
        match &rule.pattern {
            RulePattern::Unreadable => report.note(format!(
                "the rule {text:?} is no reference: the old server answered 500 to everybody who got as far as this \
                 rule, and here nobody has what it or a later one would have decided"
            )),
            RulePattern::Never if rules.generation == Generation::Two && !text.contains('@') => {
                report.note(format!(
                    "the rule {text} never matched a request, so it gives nothing here either; for recipes without user \
                     and channel write {text}@_/_"
                ));
            }
            RulePattern::Never => report.note(format!(
                "the rule {text:?} never matched a request, so it gives nothing here either: `*` stands only for a whole \
                 part, and quotes are letters"
            )),
            RulePattern::Matches(pattern, written) => {
                if written.is_some() {
                    let versions: Vec<String> = pattern.texts(&grants::spellings(rules));
                    report.note(format!(
                        "the rule {text} was also one for other spellings of its version: {}. Still others, with more \
                         than four items or zeros before a number, are packages of their own here",
                        versions.join(", ")
                    ));
                }
            }
        }
        for user in rule.foreign_users() {
            report.not_carried(format!(
                "{user:?} in the rule {text}: that is no name of an account here (a list has commas between its names, \
                 and nothing after a value is a comment)"
            ));
        }
    }
}

fn report_grants(granted: &grants::Granted, rules: &Rules, options: &ConanOptions, report: &mut Report) {
    for text in &granted.unreached {
        report.note(format!("the rule {text} is never reached: one before it matches all that it does"));
    }
    for text in &granted.write_only {
        if options.writers_may_read {
            report.note(format!(
                "by the rule {text} some might write what they could not read; now they may read it"
            ));
        } else {
            report.not_carried(format!(
                "by the rule {text} some might write what they could not read, which no client of Conan can use: who may \
                 publish may read here. Those rights are left out; --writers-may-read gives both"
            ));
        }
    }
    if rules.generation == Generation::One {
        report.note(
            "a 1.x server lets the user of a recipe do everything with it; the channel has that as a permission for each \
             user that the file names, and new users need one of their own",
        );
        report.not_carried(
            "a 1.x server lets everybody, also without a login, write and delete recipes without user and channel, \
             whatever the rules say: that is not repeated",
        );
        let odd = owners(rules, &BTreeSet::new()).into_iter().filter(|user| !is_legal(user.as_str()));
        for user in odd {
            report.note(format!("{user} cannot be the user of a recipe, so there is nothing that they own"));
        }
    }
}

#[cfg(test)]
mod tests;
