//! Identity providers: who says of people in a browser who they are, and what follows for how long.

use std::time::Duration;

use granary_core::SubjectName;
use serde::{Deserialize, Serialize};

use crate::options::settings;
use crate::value::{HttpUrl, Raw};

settings! {
    /// What follows from a login in a browser.
    pub struct SessionsSpec {
        /// How long somebody stays logged in; then, or when they log out, the session ends on all pods.
        pub lifetime: Raw<Duration> = Raw::new("12h"),
    }
}

/// Somebody who says of people in a browser who they are: exactly one of the kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct ProviderSpec {
    /// What accounts of it are marked with, and how its URLs are named: `/-/login/NAME/callback` is the redirect URI to
    /// register there.
    pub name: Raw<SubjectName>,
    /// What its button says; the name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 64)))]
    pub title: Option<String>,
    /// Groups that everybody of it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "kubernetes", schemars(length(max = 64)))]
    pub groups: Vec<Raw<SubjectName>>,
    /// An issuer of `OpenID` Connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSpec>,
    /// GitHub, or a GitHub Enterprise Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSpec>,
}

/// An issuer of `OpenID` Connect, asked by the authorization code flow with PKCE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct OidcSpec {
    /// Its URL, exactly as its tokens name it (`iss`); the discovery document is below it.
    pub issuer: Raw<HttpUrl>,
    /// The name by which it knows this registry.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 512)))]
    pub client_id: String,
    /// The key of the secret that it gave to this registry; absent for a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub client_secret_key: Option<String>,
    /// What is asked for; `openid` has to be among it.
    #[serde(default = "scopes")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 16)))]
    pub scopes: Vec<String>,
    /// The claim that becomes the account's name. With `email`, the address has to be a verified one.
    #[serde(default = "username_claim")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 128)))]
    pub username_claim: String,
    /// The claim that lists the groups.
    #[serde(default = "groups_claim")]
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 128)))]
    pub groups_claim: String,
}

/// GitHub, asked by OAuth. Members of the organizations become accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct GitHubSpec {
    /// Its URL; that of a GitHub Enterprise Server otherwise.
    #[serde(default = "github_url")]
    pub url: Raw<HttpUrl>,
    /// The URL of its REST API; derived from `url` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Raw<HttpUrl>>,
    /// The OAuth app's id.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 512)))]
    pub client_id: String,
    /// The key of the OAuth app's secret.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub client_secret_key: String,
    /// Whose members may log in. Each is a group of its members, and each of its teams one: `ORGANIZATION.TEAM`.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 64)))]
    pub organizations: Vec<Raw<SubjectName>>,
}

fn scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(str::to_owned).to_vec()
}

fn username_claim() -> String {
    "preferred_username".to_owned()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

fn github_url() -> Raw<HttpUrl> {
    Raw::new(crate::validate::GITHUB)
}
