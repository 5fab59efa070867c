//! To whom a right is given, and who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, PackagePattern, PatternError, SubjectName, TokenScope};

/// The name of the issuer whose tokens are those of the cluster's own service accounts.
pub const CLUSTER_ISSUER: &str = "kubernetes";

/// A text that names no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It begins with no kind of subject.
    #[error(
        "a subject is user:NAME, group:NAME, serviceaccount:NAMESPACE/NAME, workload:ISSUER?CLAIM=PATTERN, \
         authenticated or anonymous"
    )]
    Kind,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A service account has a namespace and a name.
    #[error("a service account is NAMESPACE/NAME, each of lower-case letters, digits, - and .")]
    ServiceAccount,
    /// Workloads of an issuer are told apart by their claims: an issuer may sign for the whole world.
    #[error("a workload is ISSUER?CLAIM=PATTERN&CLAIM=PATTERN, with at least one claim")]
    Claims,
    /// A claim's value is no pattern.
    #[error("the claim {0}: {1}")]
    Pattern(String, PatternError),
    /// A pattern of nothing but wildcards binds nothing.
    #[error("the claim {0} fits every value: name the one that you mean")]
    Unbound(String),
}

/// To whom a grant is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum Subject {
    /// Everybody, logged in or not.
    Anonymous,
    /// Every person who is logged in. Workloads are not among them: whoever signs for them may sign for strangers too.
    Authenticated,
    /// One user.
    User(SubjectName),
    /// Everybody in a group.
    Group(SubjectName),
    /// Workloads that an issuer vouches for, with these claims.
    Workload(WorkloadSubject),
}

/// Workloads by what their tokens say: all of the claims have to fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkloadSubject {
    /// The issuer's name in the registry's configuration, which also fixes the audience.
    pub issuer: SubjectName,
    /// Claims, those within others by their path (`kubernetes.io/namespace`), and what each has to be.
    pub claims: BTreeMap<String, PackagePattern>,
}

impl WorkloadSubject {
    fn covers(&self, workload: &Workload) -> bool {
        // No claims would cover everybody whom the issuer signs for.
        self.issuer == workload.issuer
            && !self.claims.is_empty()
            && self.claims.iter().all(|(claim, pattern)| {
                workload.claims.get(claim).is_some_and(|value| pattern.matches(value))
            })
    }
}

impl Subject {
    /// Whether the subject is, or takes in, who asks.
    pub fn covers(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Anonymous, _) | (Self::Authenticated, Principal::User { .. }) => true,
            (Self::User(name), Principal::User { name: user, .. }) => name == user,
            (Self::Group(name), Principal::User { groups, .. }) => groups.contains(name),
            (Self::Workload(subject), Principal::Workload { workload, .. }) => subject.covers(workload),
            _ => false,
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.split_once(':') {
            Some(("user", name)) => Ok(Self::User(name.parse()?)),
            Some(("group", name)) => Ok(Self::Group(name.parse()?)),
            Some(("serviceaccount", name)) => service_account(name),
            Some(("workload", rest)) => workload(rest),
            None if text == "anonymous" => Ok(Self::Anonymous),
            None if text == "authenticated" => Ok(Self::Authenticated),
            _ => Err(SubjectError::Kind),
        }
    }
}

fn service_account(text: &str) -> Result<Subject, SubjectError> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    let (namespace, name) = text.split_once('/').ok_or(SubjectError::ServiceAccount)?;
    if !is_name(namespace) || !is_name(name) {
        return Err(SubjectError::ServiceAccount);
    }
    let pattern = format!("system:serviceaccount:{namespace}:{name}");
    let pattern = pattern.parse().map_err(|error| SubjectError::Pattern("sub".to_owned(), error))?;
    Ok(Subject::Workload(WorkloadSubject {
        issuer: CLUSTER_ISSUER.parse()?,
        claims: BTreeMap::from([("sub".to_owned(), pattern)]),
    }))
}

fn workload(text: &str) -> Result<Subject, SubjectError> {
    let (issuer, claims) = text.split_once('?').ok_or(SubjectError::Claims)?;
    let issuer = issuer.parse()?;
    let mut read = BTreeMap::new();
    for claim in claims.split('&') {
        let (name, pattern) = claim.split_once('=').ok_or(SubjectError::Claims)?;
        if name.is_empty() {
            return Err(SubjectError::Claims);
        }
        let parsed: PackagePattern =
            pattern.parse().map_err(|error| SubjectError::Pattern(name.to_owned(), error))?;
        if pattern.bytes().all(|byte| matches!(byte, b'*' | b'?')) {
            return Err(SubjectError::Unbound(name.to_owned()));
        }
        if read.insert(name.to_owned(), parsed).is_some() {
            return Err(SubjectError::Claims);
        }
    }
    Ok(Subject::Workload(WorkloadSubject { issuer, claims: read }))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Authenticated => f.write_str("authenticated"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Workload(WorkloadSubject { issuer, claims }) => {
                let mut between = '?';
                write!(f, "workload:{issuer}")?;
                for (claim, pattern) in claims {
                    write!(f, "{between}{claim}={pattern}")?;
                    between = '&';
                }
                Ok(())
            }
        }
    }
}

/// Something that runs by itself, vouched for by an issuer that the registry trusts: a pod, a job of a CI system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The issuer's name in the registry's configuration.
    pub issuer: SubjectName,
    /// Whom the token is about: its `sub`.
    pub subject: String,
    /// All claims that are texts, numbers or truth values, those within others by their path.
    pub claims: BTreeMap<String, String>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workload:{}:{}", self.issuer, self.subject)
    }
}

/// Who is asking, as far as the decision needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// Somebody with a name.
    User {
        /// The account.
        name: SubjectName,
        /// The groups that the account is in.
        groups: Vec<SubjectName>,
        /// An admin of the registry may do everything on every channel.
        admin: bool,
        /// What the credential is narrowed to, if it is a token.
        scope: Option<TokenScope>,
    },
    /// A workload.
    Workload {
        /// Which.
        workload: Workload,
        /// What the credential is narrowed to, if it is a token of ours.
        scope: Option<TokenScope>,
    },
}

impl Principal {
    /// What the credential is narrowed to.
    pub fn scope(&self) -> Option<&TokenScope> {
        match self {
            Self::Anonymous => None,
            Self::User { scope, .. } | Self::Workload { scope, .. } => scope.as_ref(),
        }
    }

    /// The same with a credential that is not narrowed.
    #[must_use]
    pub fn unscoped(&self) -> Self {
        let mut whole = self.clone();
        if let Self::User { scope, .. } | Self::Workload { scope, .. } = &mut whole {
            *scope = None;
        }
        whole
    }

    /// Whether an admin of the registry asks, by a credential that may be a narrow one.
    pub const fn is_admin(&self) -> bool {
        matches!(self, Self::User { admin: true, .. })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    fn workload(issuer: &str, claims: &[(&str, &str)]) -> Principal {
        let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let workload = Workload { issuer: issuer.parse().unwrap(), subject: "s".to_owned(), claims };
        Principal::Workload { workload, scope: None }
    }

    #[test]
    fn a_subject_reads_back_as_it_is_written() {
        for text in [
            "anonymous",
            "authenticated",
            "user:ada@example.org",
            "group:team",
            "workload:ci?ref=v*&repository=acme/x",
        ] {
            assert_eq!(subject(text).to_string(), text);
        }
        assert_eq!(
            subject("serviceaccount:team-a/publisher"),
            subject("workload:kubernetes?sub=system:serviceaccount:team-a:publisher")
        );
    }

    #[test]
    fn what_binds_nobody_in_particular_is_no_subject() {
        for text in [
            "ada",
            "user:",
            "team:x",
            "Anonymous",
            "user: ada",
            "",
            "workload:ci",
            "workload:ci?",
            "workload:ci?=x",
            "workload:ci?sub=",
            "workload:ci?sub=*",
            "workload:ci?sub=**?",
            "workload:ci?a=1&a=2",
            "workload:?a=b",
            "serviceaccount:x",
            "serviceaccount:a/",
            "serviceaccount:*/x",
            "serviceaccount:a:b/c",
            "serviceaccount:a/b/c",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_workload_is_covered_when_all_claims_of_its_own_issuer_fit() {
        let ci = subject("workload:ci?repository=acme/x&ref=refs/tags/*");
        let claims = [("repository", "acme/x"), ("ref", "refs/tags/v1"), ("sub", "s")];
        assert!(ci.covers(&workload("ci", &claims)));
        assert!(!ci.covers(&workload("other", &claims)), "the same claims of another issuer");
        assert!(!ci.covers(&workload("ci", &claims[..1])), "a claim that is missing");
        assert!(!ci.covers(&workload("ci", &[("repository", "acme/x2"), ("ref", "refs/tags/v1")])));
        assert!(!ci.covers(&Principal::Anonymous));
    }

    #[test]
    fn a_workload_is_no_logged_in_person() {
        let ci = workload("ci", &[("sub", "s")]);
        assert!(!Subject::Authenticated.covers(&ci));
        assert!(!subject("user:s").covers(&ci));
        assert!(Subject::Anonymous.covers(&ci));
        let bound_to_nothing =
            Subject::Workload(WorkloadSubject { issuer: "ci".parse().unwrap(), claims: BTreeMap::new() });
        assert!(!bound_to_nothing.covers(&ci));
    }
}
