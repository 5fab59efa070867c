//! A directory (LDAP, RFC 4511): the entry of a name is searched for, then its password is tried by a bind.
//!
//! Each question has a connection of its own: one who searches, if somebody in particular does, finds the entry and its
//! groups on it, and at its end the entry's own password is tried. What comes before is the same for right and wrong
//! passwords.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_core::SubjectName;
use granary_crds::{Ldap, Secret};
use ldap3::{
    LdapConnAsync, LdapConnSettings, LdapError, LdapResult, ResultEntry, Scope, SearchEntry, SearchOptions,
    SearchResult, ldap_escape,
};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;

use super::error::{is_distrust, is_passing};
use super::{ANSWER_LIMIT, Answer, NoAnswer, answered};
use crate::outbound::load;

/// The most groups of one name that are asked for.
const GROUP_LIMIT: i32 = 2000;

/// Asks for entries without any attribute (RFC 4511, 4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";

/// Result codes (RFC 4511, appendix A).
mod code {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const PROTOCOL_ERROR: u32 = 2;
    pub(super) const TIME_LIMIT_EXCEEDED: u32 = 3;
    pub(super) const SIZE_LIMIT_EXCEEDED: u32 = 4;
    pub(super) const AUTH_METHOD_NOT_SUPPORTED: u32 = 7;
    pub(super) const STRONGER_AUTH_REQUIRED: u32 = 8;
    pub(super) const REFERRAL: u32 = 10;
    pub(super) const CONFIDENTIALITY_REQUIRED: u32 = 13;
    pub(super) const BUSY: u32 = 51;
    pub(super) const UNAVAILABLE: u32 = 52;
    pub(super) const OTHER: u32 = 80;
}

/// Why a directory cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A certificate file cannot be used.
    #[error("the certificate file {path} cannot be used")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// A certificate cannot be used.
    #[error("the certificates to trust cannot be used")]
    Tls(#[from] rustls::Error),
    /// The password of who searches cannot be read.
    #[error("the password of who searches the directory cannot be read")]
    Password(#[source] io::Error),
    /// The directory cannot be reached, or does not speak as it should.
    #[error("the directory cannot be asked")]
    Protocol(#[from] LdapError),
    /// The directory does not do what it is asked for.
    #[error("the directory refuses {what}")]
    Refused {
        /// What.
        what: &'static str,
        /// What it says.
        source: LdapResult,
    },
    /// It did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// What it answered is not LDAP.
    #[error("the answer of the directory cannot be read")]
    Broken,
}

impl DirectoryError {
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Password(error) => is_passing(error),
            Self::Refused { source, .. } => is_outage(source.rc),
            Self::Protocol(LdapError::LdapResult { result }) => is_outage(result.rc),
            Self::Certificate { .. }
            | Self::Tls(_)
            | Self::Protocol(
                LdapError::FilterParsing
                | LdapError::UrlParsing { .. }
                | LdapError::UnknownScheme(_)
                | LdapError::DNSName { .. },
            ) => false,
            Self::Protocol(error) => !is_distrust(error),
            Self::NoAnswer(_) | Self::Broken => true,
        }
    }
}

/// Whether the same question may be answered later.
fn is_outage(rc: u32) -> bool {
    matches!(rc, code::TIME_LIMIT_EXCEEDED | code::BUSY | code::UNAVAILABLE | code::OTHER)
}

/// A directory that holds people, and perhaps groups.
pub(super) struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    name: SubjectName,
    ldap: Ldap,
    /// For a directory that is asked by TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// Whose entry it is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nobody,
    Several,
    /// With its distinguished name.
    One(String),
}

impl Directory {
    pub(super) fn new(name: SubjectName, ldap: Ldap, ca_file: Option<&Path>) -> Result<Self, DirectoryError> {
        // The scheme was validated, and schemes have no case (RFC 3986, 3.1).
        let is_ldaps = ldap.spec.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ldaps:"));
        let tls = if is_ldaps || ldap.spec.start_tls { Some(Arc::new(trust(ca_file)?)) } else { None };
        if tls.is_none() {
            tracing::warn!(authenticator = %name, "passwords pass to the directory in the clear: set startTls, or write ldaps://");
        }
        Ok(Self { inner: Arc::new(Inner { name, ldap, tls }) })
    }

    pub(super) async fn check(&self, user: &str, password: &SecretString) -> Result<Answer, DirectoryError> {
        // A bind with a name and no password is one of nobody in particular, and succeeds (RFC 4513, 5.1.2).
        if password.expose_secret().is_empty() {
            return Ok(Answer::Wrong);
        }
        let (inner, user, password) = (Arc::clone(&self.inner), user.to_owned(), password.clone());
        // The crate panics over answers that are no LDAP, so it has a task of its own; which ends with this question.
        let mut task = JoinSet::new();
        let question = async {
            task.spawn(async move { inner.ask(&user, &password).await });
            match task.join_next().await {
                Some(Ok(answer)) => answer,
                Some(Err(_)) | None => Err(DirectoryError::Broken),
            }
        };
        answered(question).await?
    }
}

impl Inner {
    async fn ask(&self, user: &str, password: &SecretString) -> Result<Answer, DirectoryError> {
        let bind_password = match &self.ldap.bind_password {
            Some(source) => Some(load(source).await.map_err(DirectoryError::Password)?),
            None => None,
        };
        let mut settings = LdapConnSettings::new().set_starttls(self.ldap.spec.start_tls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &self.ldap.spec.url).await?;
        // What drives the connection ends when the questions are done, and these end with the connection. Why it ended
        // they do not learn; so that comes first.
        let (answer, end) =
            tokio::join!(self.questions(ldap, user, password, bind_password), connection.drive());
        match (answer, end) {
            (Err(DirectoryError::Protocol(_)), Err(end)) => Err(end.into()),
            (answer, _) => answer,
        }
    }

    async fn questions(
        &self,
        mut ldap: ldap3::Ldap,
        user: &str,
        password: &SecretString,
        bind_password: Option<Secret>,
    ) -> Result<Answer, DirectoryError> {
        if let (Some(dn), Some(password)) = (&self.ldap.spec.bind_dn, bind_password) {
            let result = ldap.simple_bind(dn, password.expose()).await?;
            if result.rc != code::SUCCESS {
                return Err(DirectoryError::Refused { what: "the bind of who searches", source: result });
            }
        }
        let dn = match self.find(&mut ldap, user).await? {
            Found::Nobody => return Ok(Answer::Unknown),
            Found::Several => {
                tracing::warn!(authenticator = %self.name, user, "several entries of the directory fit one name");
                return Ok(Answer::Wrong);
            }
            Found::One(dn) => dn,
        };
        let groups = self.groups(&mut ldap, user, &dn).await?;
        let result = ldap.simple_bind(&dn, password.expose_secret()).await?;
        let answer = match result.rc {
            code::SUCCESS => Answer::Right(groups),
            code::PROTOCOL_ERROR
            | code::AUTH_METHOD_NOT_SUPPORTED
            | code::STRONGER_AUTH_REQUIRED
            | code::REFERRAL
            | code::CONFIDENTIALITY_REQUIRED => {
                return Err(DirectoryError::Refused { what: "binds with a password", source: result });
            }
            rc if is_outage(rc) => {
                return Err(DirectoryError::Refused { what: "a bind for now", source: result });
            }
            // Wrong passwords, but also accounts that are locked or have no password, each server in its own way.
            _ => Answer::Wrong,
        };
        // A farewell that nobody has to hear.
        ldap.unbind().await.ok();
        Ok(answer)
    }

    /// The entry of a name.
    async fn find(&self, ldap: &mut ldap3::Ldap, user: &str) -> Result<Found, DirectoryError> {
        let spec = &self.ldap.spec;
        let filter = fill(&spec.user_filter, &[("{user}", user)]);
        // Two are enough to see that there are several.
        let (mut found, is_cut) =
            search(ldap, 2, &spec.user_base, &filter, NO_ATTRIBUTES, "the search for people").await?;
        if is_cut || found.len() > 1 {
            return Ok(Found::Several);
        }
        Ok(found.pop().map_or(Found::Nobody, |entry| Found::One(entry.dn)))
    }

    /// The names of the groups that an entry is in.
    async fn groups(
        &self,
        ldap: &mut ldap3::Ldap,
        user: &str,
        dn: &str,
    ) -> Result<Vec<String>, DirectoryError> {
        let spec = &self.ldap.spec;
        let Some(base) = &spec.group_base else { return Ok(Vec::new()) };
        let filter = fill(&spec.group_filter, &[("{user}", user), ("{dn}", dn)]);
        let attribute = spec.group_attribute.as_str();
        let (found, is_cut) =
            search(ldap, GROUP_LIMIT, base, &filter, attribute, "the search for groups").await?;
        if is_cut {
            // Who is in fewer groups may do less, never more.
            tracing::warn!(authenticator = %self.name, user, groups = found.len(), "the directory names no more groups");
        }
        // No other attribute was asked for.
        Ok(found.into_iter().flat_map(|entry| entry.attrs.into_values().flatten()).collect())
    }
}

/// Entries below `base`, and whether there are more of them than were asked for or the directory tells.
async fn search(
    ldap: &mut ldap3::Ldap,
    limit: i32,
    base: &str,
    filter: &str,
    attribute: &str,
    what: &'static str,
) -> Result<(Vec<SearchEntry>, bool), DirectoryError> {
    let seconds = i32::try_from(ANSWER_LIMIT.as_secs()).unwrap_or(i32::MAX);
    ldap.with_search_options(SearchOptions::new().sizelimit(limit).timelimit(seconds));
    let SearchResult(entries, result) = ldap.search(base, Scope::Subtree, filter, vec![attribute]).await?;
    if !matches!(result.rc, code::SUCCESS | code::SIZE_LIMIT_EXCEEDED) {
        return Err(DirectoryError::Refused { what, source: result });
    }
    // References to other directories are not followed.
    let is_entry = |entry: &ResultEntry| !entry.is_ref() && !entry.is_intermediate();
    let entries = entries.into_iter().filter(is_entry).map(SearchEntry::construct).collect();
    Ok((entries, result.rc == code::SIZE_LIMIT_EXCEEDED))
}

/// Puts values, escaped (RFC 4515), where a filter names them. In one pass: what a value holds is never a place for
/// another one.
fn fill(filter: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(filter.len() + 64);
    let mut rest = filter;
    while let Some(letter) = rest.chars().next() {
        if let Some((place, value)) = values.iter().find(|(place, _)| rest.starts_with(place)) {
            filled.push_str(&ldap_escape(*value));
            rest = &rest[place.len()..];
        } else {
            filled.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    filled
}

/// Trusts what the system trusts, and the certificates of a file. Certificate and host name are always checked.
fn trust(ca_file: Option<&Path>) -> Result<ClientConfig, DirectoryError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |source| DirectoryError::Certificate { path: path.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unusable)? {
            roots.add(certificate.map_err(unusable)?)?;
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
