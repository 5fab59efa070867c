//! Identity providers: who says of people in a browser who they are.
//!
//! A login is two requests of the browser with the provider in between. What has to be the same at both ends stands in a row
//! that is used once ([`crate::logins`]); here is what is asked of the provider, and what its answers have to say.

mod ask;
mod authorization;
mod discovery;
mod github;
mod id_token;
mod oidc;
mod person;

use std::sync::Arc;

use granary_core::{Clock, SubjectName};
use granary_crds::{Provider as Configured, ProviderKind};
use jiff::Timestamp;
use rand::Rng;
use reqwest::{Client, Url};

pub use ask::AskError;
pub use discovery::DiscoveryError;
pub use id_token::IdTokenError;
pub use person::{Person, PersonError};

use github::GitHubProvider;
use oidc::OidcProvider;

use crate::jwt::fetch::KeysError;
use crate::jwt::token::SignedTokenError;
use crate::random::Unguessable;
use crate::workloads::WorkloadError;

/// Why a provider did not say who somebody is. The messages quote nothing that is secret.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It is not known where it is to be asked.
    #[error("the provider's endpoints are not known")]
    Discovery(#[from] Arc<DiscoveryError>),
    /// It gave no answer that could be read.
    #[error("the provider cannot be asked")]
    Ask(#[from] AskError),
    /// Its keys cannot be had.
    #[error("the provider's keys cannot be had")]
    Keys(#[source] Arc<KeysError>),
    /// It redeems the code for nobody, or not for us.
    #[error("the provider does not take its code back")]
    CodeRefused,
    /// The answer is that of another provider (RFC 9207).
    #[error("the answer is that of another provider")]
    MixedUp,
    /// The ID token is none.
    #[error("the ID token cannot be read")]
    Malformed(#[from] SignedTokenError),
    /// The provider did not sign the ID token.
    #[error("the ID token is not signed as it should be")]
    Signature(#[source] WorkloadError),
    /// The ID token does not count.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// What else it says is about somebody else.
    #[error("the provider's userinfo cannot be read, or is about somebody else")]
    UserInfo,
    /// It does not tell what has to be known.
    #[error(
        "the provider withholds the organizations; authorize the app for them (single sign-on), and try again"
    )]
    Withheld,
    /// What it says names nobody.
    #[error(transparent)]
    Person(#[from] PersonError),
}

impl ProviderError {
    /// Whether the same login may succeed later, without anybody doing anything about it.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Discovery(_) | Self::Ask(_) | Self::Keys(_))
    }
}

/// What a login is told from others by.
#[derive(Debug)]
pub(crate) struct Secrets {
    pub(crate) state: Unguessable,
    pub(crate) nonce: Unguessable,
    pub(crate) verifier: Unguessable,
}

impl Secrets {
    /// New ones from this source of randomness, which must be a cryptographic one.
    pub(crate) fn generate(random: &mut impl Rng) -> Self {
        let mut next = || Unguessable::generate(random);
        Self { state: next(), nonce: next(), verifier: next() }
    }
}

/// What came back by the browser, with what the login began with.
#[derive(Debug)]
pub(crate) struct Answered<'a> {
    pub(crate) code: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a Unguessable,
}

/// Whom a provider knows.
#[derive(Debug)]
pub(crate) struct Identified {
    pub(crate) person: Person,
    /// What the word is to be used up by, and when it ends anyway.
    pub(crate) used: Option<(String, Timestamp)>,
}

/// A provider of the configuration.
#[derive(Debug)]
pub struct Provider {
    name: SubjectName,
    title: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Oidc(Box<OidcProvider>),
    GitHub(GitHubProvider),
}

impl Provider {
    /// What accounts of it are marked with, and how its URLs are named.
    pub fn name(&self) -> &SubjectName {
        &self.name
    }

    /// What its button says.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where to send a browser.
    pub(crate) async fn authorization_url(
        &self,
        redirect_uri: &str,
        secrets: &Secrets,
    ) -> Result<Url, ProviderError> {
        match &self.kind {
            Kind::Oidc(oidc) => oidc.authorization_url(redirect_uri, secrets).await,
            Kind::GitHub(github) => github.authorization_url(redirect_uri, secrets),
        }
    }

    /// Refuses an answer that names another issuer (`named`) than the one that was asked.
    pub(crate) async fn check_issuer(&self, named: Option<&str>) -> Result<(), ProviderError> {
        match &self.kind {
            Kind::Oidc(oidc) => oidc.check_issuer(named).await,
            Kind::GitHub(_) => Ok(()),
        }
    }

    /// Asks who somebody is who came back with a code.
    pub(crate) async fn identify(&self, answered: &Answered<'_>) -> Result<Identified, ProviderError> {
        match &self.kind {
            Kind::Oidc(oidc) => oidc.identify(answered).await,
            Kind::GitHub(github) => github.identify(answered).await,
        }
    }
}

/// The providers of the configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Providers {
    providers: Arc<[Provider]>,
}

impl Providers {
    /// These providers. `http` must not follow redirects ([`reqwest::redirect::Policy::none`]): they would carry secrets
    /// elsewhere. Nobody is asked before the first login.
    #[expect(clippy::needless_pass_by_value, reason = "the providers keep clones")]
    pub fn new(configured: Vec<Configured>, http: Client, clock: Arc<dyn Clock>) -> Self {
        let provider = |Configured { name, title, groups, kind }| {
            let kind = match kind {
                ProviderKind::Oidc(spec) => {
                    let oidc = OidcProvider::new(&name, spec, groups, http.clone(), Arc::clone(&clock));
                    Kind::Oidc(Box::new(oidc))
                }
                ProviderKind::GitHub(spec) => Kind::GitHub(GitHubProvider::new(spec, groups, http.clone())),
            };
            Provider { name, title, kind }
        };
        Self { providers: configured.into_iter().map(provider).collect() }
    }

    /// All of them, in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter()
    }

    /// The provider of this name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.iter().find(|provider| provider.name.as_str() == name)
    }
}
