//! Who sends a request, once a credential has been checked.

use std::borrow::Cow;
use std::sync::Arc;

use granary_core::{Principal, SubjectName};

/// By what a caller was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognition {
    /// Not at all.
    Anonymous,
    /// A password.
    Password,
    /// A token with this public id.
    Token(Arc<str>),
    /// A browser session with this public id.
    Session(Arc<str>),
    /// A token that an issuer signed for a workload, with its `jti` where it has one.
    Signed(Option<Arc<str>>),
}

/// Who sends a request, and by what we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What decides on rights.
    pub principal: Principal,
    /// By what we know.
    pub recognition: Recognition,
}

impl Caller {
    /// Nobody in particular.
    pub const ANONYMOUS: Self = Self { principal: Principal::Anonymous, recognition: Recognition::Anonymous };

    /// Whether nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.principal == Principal::Anonymous
    }

    /// The account, if there is one.
    pub fn account(&self) -> Option<&SubjectName> {
        match &self.principal {
            Principal::Anonymous | Principal::Workload { .. } => None,
            Principal::User { name, .. } => Some(name),
        }
    }

    /// The account's name, a workload's issuer and subject, or `anonymous`: for logs and the audit.
    pub fn actor(&self) -> Cow<'_, str> {
        match &self.principal {
            Principal::Anonymous => Cow::Borrowed("anonymous"),
            Principal::User { name, .. } => Cow::Borrowed(name.as_str()),
            Principal::Workload { workload, .. } => Cow::Owned(workload.to_string()),
        }
    }

    /// An admin whose credential is not narrowed.
    pub fn is_admin(&self) -> bool {
        matches!(self.principal, Principal::User { admin: true, scope: None, .. })
    }

    /// The kind of credential with its public id: for logs and the audit.
    pub fn credential(&self) -> String {
        match &self.recognition {
            Recognition::Anonymous => "none".to_owned(),
            Recognition::Password => "password".to_owned(),
            Recognition::Token(id) => format!("token {id}"),
            Recognition::Session(id) => format!("session {id}"),
            Recognition::Signed(Some(id)) => format!("signed token {id}"),
            Recognition::Signed(None) => "signed token".to_owned(),
        }
    }
}
