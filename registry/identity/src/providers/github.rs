//! GitHub, which is no issuer of `OpenID` Connect for people: OAuth (RFC 6749) and its REST API, as its documentation
//! describes them ("Authorizing OAuth apps", "REST API endpoints for users, organization members and teams").

use granary_core::SubjectName;
use granary_crds::GitHub;
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, LINK, USER_AGENT};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ask::{AskError, ask, form, load, parse};
use super::authorization::{self, Request};
use super::person::{Person, PersonError, group_names};
use super::{Answered, Identified, ProviderError, Secrets};

/// Which organizations and teams somebody is in.
const SCOPE: &str = "read:org";
/// How many pages of a hundred are read of a list.
const MAX_PAGES: usize = 20;

const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");
const API_VERSION_VALUE: HeaderValue = HeaderValue::from_static("2022-11-28");
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
/// Requests without one are refused.
const AGENT: HeaderValue = HeaderValue::from_static("granary");

/// GitHub, or a server of it.
#[derive(Debug)]
pub(super) struct GitHubProvider {
    spec: GitHub,
    /// Groups that everybody is in.
    groups: Vec<SubjectName>,
    http: Client,
}

/// Answered with 200 also where the code is refused.
#[derive(Deserialize)]
#[serde(untagged)]
enum Redeemed {
    Token { access_token: String },
    Refused { error: String },
}

#[derive(Debug, Deserialize)]
struct User {
    /// Stays when the login changes, and is never given to somebody else.
    id: u64,
    login: String,
}

#[derive(Debug, Deserialize)]
struct Organization {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

impl GitHubProvider {
    pub(super) fn new(spec: GitHub, groups: Vec<SubjectName>, http: Client) -> Self {
        Self { spec, groups, http }
    }

    pub(super) fn authorization_url(
        &self,
        redirect_uri: &str,
        secrets: &Secrets,
    ) -> Result<Url, ProviderError> {
        let endpoint = parse(&format!("{}/login/oauth/authorize", self.spec.url))?;
        let request = Request {
            client_id: &self.spec.client_id,
            redirect_uri,
            scope: SCOPE,
            state: &secrets.state,
            nonce: None,
            verifier: &secrets.verifier,
        };
        Ok(authorization::url(&endpoint, &request))
    }

    pub(super) async fn identify(&self, answered: &Answered<'_>) -> Result<Identified, ProviderError> {
        let token = self.redeem(answered).await?;
        let user: User = self.get(&token, &self.api("user")?).await?.0;
        let organizations: Vec<Organization> = self.list(&token, "user/orgs").await?;
        let own = self.own(&organizations);
        if own.is_empty() {
            return Err(PersonError::NotMember.into());
        }
        let teams: Vec<Team> = self.list(&token, "user/teams").await?;
        let named = groups(&own, &teams);
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let name = user.login.parse().map_err(|_| PersonError::BadName("login".to_owned()))?;
        let groups = group_names(&self.groups, &named);
        Ok(Identified { person: Person { subject: user.id.to_string(), name, groups }, used: None })
    }

    async fn redeem(&self, answered: &Answered<'_>) -> Result<SecretString, ProviderError> {
        let endpoint = parse(&format!("{}/login/oauth/access_token", self.spec.url))?;
        let secret = load(&self.spec.client_secret).await?;
        let fields = [
            ("client_id", self.spec.client_id.as_str()),
            ("client_secret", secret.expose_secret()),
            ("code", answered.code),
            ("redirect_uri", answered.redirect_uri),
            ("code_verifier", answered.verifier.expose()),
        ];
        match ask(&self.http, form(&self.http, &endpoint, &fields)).await?.ok()?.json()? {
            Redeemed::Token { access_token } => Ok(access_token.into()),
            Redeemed::Refused { error } => {
                tracing::warn!(error, "GitHub refuses to redeem a code");
                Err(ProviderError::CodeRefused)
            }
        }
    }

    fn api(&self, path: &str) -> Result<Url, ProviderError> {
        Ok(parse(&format!("{}/{path}", self.spec.api_url))?)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        token: &SecretString,
        url: &Url,
    ) -> Result<(T, HeaderMap), ProviderError> {
        let request = self
            .http
            .get(url.clone())
            .header(ACCEPT, MEDIA_TYPE)
            .header(API_VERSION, API_VERSION_VALUE)
            .header(USER_AGENT, AGENT)
            .bearer_auth(token.expose_secret());
        let answer = ask(&self.http, request).await?;
        // An organization that demands single sign-on, or that has not approved the app, or too many questions.
        if answer.status == StatusCode::FORBIDDEN {
            return Err(ProviderError::Withheld);
        }
        let answer = answer.ok()?;
        Ok((answer.json()?, answer.headers))
    }

    /// All pages of a list.
    async fn list<T: DeserializeOwned>(
        &self,
        token: &SecretString,
        path: &str,
    ) -> Result<Vec<T>, ProviderError> {
        let first = self.api(&format!("{path}?per_page=100"))?;
        let (mut all, mut next) = (Vec::new(), Some(first.clone()));
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { return Ok(all) };
            let (page, headers): (Vec<T>, HeaderMap) = self.get(token, &url).await?;
            all.extend(page);
            next = next_page(&headers, &first)?;
        }
        Ok(all)
    }

    /// Those of the configuration that somebody is in, spelled as they are there.
    fn own(&self, organizations: &[Organization]) -> Vec<&SubjectName> {
        let is_in = |name: &&SubjectName| {
            organizations.iter().any(|organization| organization.login.eq_ignore_ascii_case(name.as_str()))
        };
        self.spec.organizations.iter().filter(is_in).collect()
    }
}

/// Organizations, and teams as `ORGANIZATION.TEAM`: no organization has a dot in its name. Those of other organizations are
/// left out: anybody can found one, and name it like a group of ours.
fn groups(own: &[&SubjectName], teams: &[Team]) -> Vec<String> {
    let mut groups: Vec<String> = own.iter().map(ToString::to_string).collect();
    for team in teams {
        let mut own = own.iter();
        if let Some(name) = own.find(|name| team.organization.login.eq_ignore_ascii_case(name.as_str())) {
            groups.push(format!("{name}.{}", team.slug));
        }
    }
    groups
}

/// The page after this one, by the header `Link` (RFC 8288). It has to be of the same API: the token goes there.
fn next_page(headers: &HeaderMap, first: &Url) -> Result<Option<Url>, ProviderError> {
    let links = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    for link in links.flat_map(|value| value.split(',')) {
        let Some((target, parameters)) = link.trim().strip_prefix('<').and_then(|rest| rest.split_once('>'))
        else {
            continue;
        };
        if parameters.split(';').any(|parameter| parameter.trim() == "rel=\"next\"") {
            let url = parse(target)?;
            if url.origin() == first.origin() {
                return Ok(Some(url));
            }
            return Err(AskError::Redirected { url: first.clone(), answered: url }.into());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn teams_are_groups_of_their_organization() {
        let own: Vec<SubjectName> = ["acme", "Other-Org"].map(|name| name.parse().unwrap()).to_vec();
        let own: Vec<&SubjectName> = own.iter().collect();
        let team = |organization: &str, slug: &str| Team {
            slug: slug.to_owned(),
            organization: Organization { login: organization.to_owned() },
        };
        let teams = [team("Acme", "backend"), team("evil", "backend"), team("other-org", "core_1")];
        assert_eq!(groups(&own, &teams), ["acme", "Other-Org", "acme.backend", "Other-Org.core_1"]);
    }

    #[test]
    fn the_next_page_is_of_the_same_api() {
        let first = Url::parse("https://api.git.example/user/orgs?per_page=100").unwrap();
        let of = |link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_static(link));
            next_page(&headers, &first)
        };
        let next = of(
            r#"<https://api.git.example/user/orgs?page=1>; rel="prev", <https://api.git.example/user/orgs?page=3>; rel="next""#,
        );
        assert_eq!(next.unwrap().unwrap().query(), Some("page=3"));
        assert_eq!(of(r#"<https://api.git.example/x>; rel="last""#).unwrap(), None);
        assert_eq!(of("nonsense").unwrap(), None);
        assert_eq!(next_page(&HeaderMap::new(), &first).unwrap(), None);
        for elsewhere in
            [r#"<https://evil.example/>; rel="next""#, r#"<http://api.git.example/user/orgs>; rel="next""#]
        {
            assert!(of(elsewhere).is_err(), "{elsewhere}");
        }
        assert!(of(r#"</user/orgs?page=2>; rel="next""#).is_err());
    }
}
