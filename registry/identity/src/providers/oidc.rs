//! An issuer of `OpenID` Connect, by the authorization code flow (Core 1.0, section 3.1).

use std::sync::Arc;

use granary_core::{Clock, SubjectName};
use granary_crds::{Issuer, KeySource, Oidc};
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::ask::{ask, form, load, with_basic};
use super::authorization::{self, Request};
use super::discovery::{Discovery, Endpoints};
use super::id_token::{self, Expected};
use super::person::{Person, group_names, groups, has_name, name};
use super::{Answered, Identified, ProviderError, Secrets};
use crate::jwt::json::{Json, Object};
use crate::jwt::keys::{Source, Untrue};
use crate::jwt::token::Unverified;

/// An issuer, with what is known of it.
#[derive(Debug)]
pub(super) struct OidcProvider {
    spec: Oidc,
    /// Groups that everybody is in.
    groups: Vec<SubjectName>,
    http: Client,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    keys: Arc<Source>,
}

/// What the token endpoint answers (RFC 6749, section 5.1; Core 1.0, section 3.1.3.3).
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

impl OidcProvider {
    pub(super) fn new(
        name: &SubjectName,
        spec: Oidc,
        groups: Vec<SubjectName>,
        http: Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let issuer = Issuer {
            name: name.clone(),
            url: spec.issuer.clone(),
            audiences: vec![spec.client_id.clone()],
            keys: KeySource::Discovered,
        };
        Self {
            groups,
            discovery: Discovery::new(spec.issuer.clone(), http.clone(), Arc::clone(&clock)),
            keys: Source::new(issuer, http.clone(), Arc::clone(&clock)),
            http,
            clock,
            spec,
        }
    }

    pub(super) async fn authorization_url(
        &self,
        redirect_uri: &str,
        secrets: &Secrets,
    ) -> Result<Url, ProviderError> {
        let endpoints = self.discovery.endpoints().await?;
        let request = Request {
            client_id: &self.spec.client_id,
            redirect_uri,
            scope: &self.spec.scopes.join(" "),
            state: &secrets.state,
            nonce: Some(&secrets.nonce),
            verifier: &secrets.verifier,
        };
        Ok(authorization::url(&endpoints.authorization, &request))
    }

    /// RFC 9207: an answer that names another issuer was meant for another client.
    pub(super) async fn check_issuer(&self, named: Option<&str>) -> Result<(), ProviderError> {
        match named {
            Some(issuer) if issuer == self.spec.issuer => Ok(()),
            Some(_) => Err(ProviderError::MixedUp),
            None if self.discovery.endpoints().await?.names_issuer => Err(ProviderError::MixedUp),
            None => Ok(()),
        }
    }

    pub(super) async fn identify(&self, answered: &Answered<'_>) -> Result<Identified, ProviderError> {
        let endpoints = self.discovery.endpoints().await?;
        let tokens = self.redeem(&endpoints, answered).await?;
        let token = Unverified::read(&tokens.id_token)?;
        // Not believed yet; but the keys are not asked for on the word of a token of somebody else.
        if token.issuer() != Some(&self.spec.issuer) {
            return Err(id_token::IdTokenError::Issuer.into());
        }
        self.keys.verify(&token).await.map_err(|untrue| match untrue {
            Untrue::Keys(error) => ProviderError::Keys(error),
            Untrue::Key(error) => ProviderError::Signature(error.into()),
        })?;
        let access_token = tokens.access_token.as_deref();
        let expected = Expected {
            issuer: &self.spec.issuer,
            client_id: &self.spec.client_id,
            nonce: answered.nonce,
            access_token,
        };
        let accepted = id_token::accept(&token, &expected, self.clock.now())?;
        let more = match (&endpoints.userinfo, access_token) {
            (Some(url), Some(access_token)) if !self.says_all(&token.payload) => {
                Some(self.userinfo(url, access_token, &accepted.subject).await?)
            }
            _ => None,
        };
        let sources: Vec<&Object> = std::iter::once(&token.payload).chain(&more).collect();
        let person = Person {
            name: name(&sources, &self.spec.username_claim)?,
            groups: group_names(&self.groups, &groups(&sources, &self.spec.groups_claim)),
            subject: accepted.subject,
        };
        Ok(Identified { person, used: Some((accepted.id, accepted.expires_at)) })
    }

    /// Whether nothing is left to ask for.
    fn says_all(&self, payload: &Object) -> bool {
        has_name(payload, &self.spec.username_claim) && payload.contains_key(&self.spec.groups_claim)
    }

    /// Core 1.0, section 3.1.3.1.
    async fn redeem(&self, endpoints: &Endpoints, answered: &Answered<'_>) -> Result<Tokens, ProviderError> {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", answered.code),
            ("redirect_uri", answered.redirect_uri),
            ("code_verifier", answered.verifier.expose()),
        ];
        let secret = match &self.spec.client_secret {
            Some(secret) => Some(load(secret).await?),
            None => None,
        };
        let request = match &secret {
            Some(secret) if !endpoints.secret_in_body => {
                let request = form(&self.http, &endpoints.token, &fields);
                with_basic(request, &self.spec.client_id, secret)
            }
            _ => {
                fields.push(("client_id", &self.spec.client_id));
                fields.extend(secret.as_ref().map(|secret| ("client_secret", secret.expose_secret())));
                form(&self.http, &endpoints.token, &fields)
            }
        };
        let answer = ask(&self.http, request).await?;
        if answer.status == reqwest::StatusCode::BAD_REQUEST {
            return Err(ProviderError::CodeRefused);
        }
        Ok(answer.ok()?.json()?)
    }

    /// Core 1.0, section 5.3: what the ID token leaves out. It counts for nobody else than the ID token is about.
    async fn userinfo(&self, url: &Url, access_token: &str, subject: &str) -> Result<Object, ProviderError> {
        let answer = ask(&self.http, self.http.get(url.clone()).bearer_auth(access_token)).await?.ok()?;
        let read = String::from_utf8(answer.body).ok().and_then(|text| Json::read(&text).ok());
        match read {
            Some(Json::Object(claims)) => match claims.get("sub").and_then(Json::as_text) {
                Some(claimed) if claimed == subject => Ok(claims),
                _ => Err(ProviderError::UserInfo),
            },
            _ => Err(ProviderError::UserInfo),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}
