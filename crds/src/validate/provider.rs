//! Validation of identity providers.

use std::time::Duration;

use granary_core::SubjectName;

use super::identity::keyed;
use crate::identity::IdentitySpec;
use crate::problem::Problems;
use crate::provider::{GitHubSpec, OidcSpec, ProviderSpec};
use crate::secret::SecretSource;
use crate::value::HttpUrl;

/// Where GitHub itself is.
pub(crate) const GITHUB: &str = "https://github.com";
/// Where GitHub's own API is; that of a GitHub Enterprise Server is below the server's URL.
const GITHUB_API: &str = "https://api.github.com";
/// The path of the REST API of a GitHub Enterprise Server.
const ENTERPRISE_API: &str = "/api/v3";

/// What follows from a login in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// How long somebody stays logged in.
    pub lifetime: Duration,
}

/// Somebody who says of people in a browser who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// What accounts of it are marked with.
    pub name: SubjectName,
    /// What its button says.
    pub title: String,
    /// Groups that everybody of it is in.
    pub groups: Vec<SubjectName>,
    /// Which kind it is.
    pub kind: ProviderKind,
}

/// The kinds of identity providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// An issuer of `OpenID` Connect.
    Oidc(Oidc),
    /// GitHub.
    GitHub(GitHub),
}

/// An issuer of `OpenID` Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// Its URL, exactly as its tokens name it.
    pub issuer: String,
    /// The name by which it knows this registry.
    pub client_id: String,
    /// The secret that it gave to this registry; none for a public client.
    pub client_secret: Option<SecretSource>,
    /// What is asked for; `openid` is among it.
    pub scopes: Vec<String>,
    /// The claim that becomes the account's name.
    pub username_claim: String,
    /// The claim that lists the groups.
    pub groups_claim: String,
}

/// GitHub, or a GitHub Enterprise Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHub {
    /// Its URL.
    pub url: HttpUrl,
    /// The URL of its REST API.
    pub api_url: HttpUrl,
    /// The OAuth app's id.
    pub client_id: String,
    /// The OAuth app's secret.
    pub client_secret: SecretSource,
    /// Whose members may log in; at least one.
    pub organizations: Vec<SubjectName>,
}

/// Reads the provider at `path`.
pub(super) fn provider(
    problems: &mut Problems,
    path: &str,
    all: &IdentitySpec,
    spec: &ProviderSpec,
) -> Option<Provider> {
    let name = problems.read(&format!("{path}.name"), &spec.name);
    let groups = problems.read_list(&format!("{path}.groups"), &spec.groups);
    if spec.title.as_ref().is_some_and(|title| title.trim().is_empty()) {
        problems.add(format!("{path}.title"), "write what the button says, or leave it out");
    }
    let mut kinds = Vec::new();
    if let Some(oidc) = &spec.oidc {
        kinds.push(self::oidc(problems, &format!("{path}.oidc"), all, oidc).map(ProviderKind::Oidc));
    }
    if let Some(github) = &spec.github {
        kinds.push(self::github(problems, &format!("{path}.github"), all, github).map(ProviderKind::GitHub));
    }
    if kinds.len() != 1 {
        problems.add(path, "name one of oidc and github");
    }
    let kind = kinds.pop().flatten();
    let name = name?;
    let title = spec.title.clone().unwrap_or_else(|| name.to_string());
    Some(Provider { name, title, groups, kind: kind? })
}

fn oidc(problems: &mut Problems, path: &str, all: &IdentitySpec, spec: &OidcSpec) -> Option<Oidc> {
    let issuer = problems.read(&format!("{path}.issuer"), &spec.issuer);
    given(problems, &format!("{path}.clientId"), &spec.client_id);
    given(problems, &format!("{path}.usernameClaim"), &spec.username_claim);
    given(problems, &format!("{path}.groupsClaim"), &spec.groups_claim);
    // RFC 6749, section 3.3.
    let is_scope = |scope: &String| {
        !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    };
    if !spec.scopes.iter().all(is_scope) {
        problems.add(format!("{path}.scopes"), "write each scope as a text of its own, without spaces");
    } else if !spec.scopes.iter().any(|scope| scope == "openid") {
        problems.add(format!("{path}.scopes"), "add openid: without it there is no ID token");
    }
    let client_secret = match &spec.client_secret_key {
        None => None,
        Some(key) => Some(keyed(problems, &format!("{path}.clientSecretKey"), all, key)?),
    };
    issuer?;
    Some(Oidc {
        issuer: spec.issuer.text().to_owned(),
        client_id: spec.client_id.clone(),
        client_secret,
        scopes: spec.scopes.clone(),
        username_claim: spec.username_claim.clone(),
        groups_claim: spec.groups_claim.clone(),
    })
}

fn github(problems: &mut Problems, path: &str, all: &IdentitySpec, spec: &GitHubSpec) -> Option<GitHub> {
    let url = problems.read(&format!("{path}.url"), &spec.url);
    let api_url = problems.read_optional(&format!("{path}.apiUrl"), spec.api_url.as_ref());
    given(problems, &format!("{path}.clientId"), &spec.client_id);
    let client_secret = keyed(problems, &format!("{path}.clientSecretKey"), all, &spec.client_secret_key);
    let organizations = problems.read_list(&format!("{path}.organizations"), &spec.organizations);
    if spec.organizations.is_empty() {
        let message = "name the organizations whose members may log in: anybody can have a GitHub account";
        problems.add(format!("{path}.organizations"), message);
    }
    let url = url?;
    let derived =
        if url.as_str() == GITHUB { GITHUB_API.to_owned() } else { format!("{url}{ENTERPRISE_API}") };
    let api_url = match api_url? {
        Some(api_url) => api_url,
        None => derived.parse().ok()?,
    };
    Some(GitHub {
        url,
        api_url,
        client_id: spec.client_id.clone(),
        client_secret: client_secret?,
        organizations,
    })
}

fn given(problems: &mut Problems, path: &str, text: &str) {
    if text.is_empty() {
        problems.add(path, "this must not be empty");
    }
}
