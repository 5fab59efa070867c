//! Where an issuer's endpoints are (`OpenID` Connect Discovery 1.0, section 4), kept while that is fresh, and longer while it
//! cannot be asked.

use std::sync::Arc;

use granary_core::Clock;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::ask::{AskError, ask, parse};

/// How long a document is fresh.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// How long it is used after that, if it cannot be had anew.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// How often an issuer that fails is asked.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// Why it is not known where an issuer's endpoints are.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The document cannot be had.
    #[error("the discovery document cannot be had")]
    Ask(#[from] AskError),
    /// It is that of another issuer (section 4.3).
    #[error("the discovery document is that of another issuer, {0:?}")]
    OtherIssuer(String),
    /// The document of an `https` issuer names a URL of another kind.
    #[error("the discovery document names {0}, which is no https URL")]
    Insecure(Url),
}

/// Where the endpoints are, and what they want.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) userinfo: Option<Url>,
    /// The secret goes into the body, since nothing else is offered.
    pub(super) secret_in_body: bool,
    /// Answers name their issuer (RFC 9207).
    pub(super) names_issuer: bool,
}

/// The document of one issuer.
#[derive(Debug)]
pub(super) struct Discovery {
    issuer: String,
    http: Client,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<(Timestamp, Arc<Endpoints>)>,
    failure: Option<(Timestamp, Arc<DiscoveryError>)>,
}

fn is_within(at: Timestamp, now: Timestamp, span: SignedDuration) -> bool {
    // What lies ahead, by a clock that was set back, is not.
    (SignedDuration::ZERO..span).contains(&now.duration_since(at))
}

impl Discovery {
    pub(super) fn new(issuer: String, http: Client, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, http, clock, state: Mutex::default() }
    }

    /// Where the endpoints are. Who comes while they are asked for waits for the same answer.
    pub(super) async fn endpoints(&self) -> Result<Arc<Endpoints>, Arc<DiscoveryError>> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let usable = state.kept.as_ref().filter(|(at, _)| is_within(*at, now, STALE)).cloned();
        if let Some((at, endpoints)) = &usable
            && is_within(*at, now, FRESH)
        {
            return Ok(Arc::clone(endpoints));
        }
        if let Some((at, failure)) = &state.failure
            && is_within(*at, now, PAUSE)
        {
            return usable.map(|(_, endpoints)| endpoints).ok_or_else(|| Arc::clone(failure));
        }
        match self.fetch().await {
            Ok(endpoints) => {
                let endpoints = Arc::new(endpoints);
                *state = State { kept: Some((now, Arc::clone(&endpoints))), failure: None };
                Ok(endpoints)
            }
            Err(error) => {
                let error = Arc::new(error);
                // Of the moment of the failure, not of the question: that may have taken long.
                state.failure = Some((self.clock.now(), Arc::clone(&error)));
                let Some((_, endpoints)) = usable else { return Err(error) };
                let error = granary_core::report(&*error);
                tracing::warn!(issuer = self.issuer, error, "the endpoints of before are used");
                Ok(endpoints)
            }
        }
    }

    async fn fetch(&self) -> Result<Endpoints, DiscoveryError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let answer = ask(&self.http, self.http.get(parse(&url)?)).await?.ok()?;
        endpoints(&self.issuer, answer.json()?)
    }
}

#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

fn endpoints(issuer: &str, document: Document) -> Result<Endpoints, DiscoveryError> {
    if document.issuer != issuer {
        return Err(DiscoveryError::OtherIssuer(document.issuer));
    }
    let is_plain = issuer.starts_with("http:");
    let endpoint = |text: &str| {
        let url = parse(text)?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_plain => Ok(url),
            _ => Err(DiscoveryError::Insecure(url)),
        }
    };
    let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
    let offers = |method: &str| methods.iter().any(|offered| offered == method);
    Ok(Endpoints {
        authorization: endpoint(&document.authorization_endpoint)?,
        token: endpoint(&document.token_endpoint)?,
        userinfo: document.userinfo_endpoint.as_deref().map(endpoint).transpose()?,
        // Where nothing is said, it is client_secret_basic.
        secret_in_body: offers("client_secret_post") && !offers("client_secret_basic"),
        names_issuer: document.authorization_response_iss_parameter_supported,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;

    fn of(issuer: &str, changed: &Value) -> Result<Endpoints, DiscoveryError> {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
        });
        let object = document.as_object_mut().unwrap();
        object.extend(changed.as_object().unwrap().clone());
        endpoints(issuer, serde_json::from_value(document).unwrap())
    }

    #[test]
    fn a_document_is_that_of_its_issuer_and_no_less_safe() {
        let (own, plain) = ("https://issuer.example", "http://issuer.example");
        let least = of(own, &json!({})).unwrap();
        assert_eq!(least.token.as_str(), "https://issuer.example/token");
        assert!(least.userinfo.is_none() && !least.secret_in_body && !least.names_issuer);
        assert!(of(plain, &json!({})).is_ok());
        for other in ["https://issuer.example/", "https://other.example", ""] {
            let error = of(own, &json!({"issuer": other})).unwrap_err();
            assert!(matches!(error, DiscoveryError::OtherIssuer(_)), "{other}");
        }
        for endpoint in ["authorization_endpoint", "token_endpoint", "userinfo_endpoint"] {
            for url in ["http://issuer.example/x", "javascript:alert(1)", "file:///etc/passwd"] {
                let error = of(own, &json!({endpoint: url})).unwrap_err();
                assert!(matches!(error, DiscoveryError::Insecure(_)), "{endpoint} {url}");
            }
            let error = of(own, &json!({endpoint: "/relative"})).unwrap_err();
            assert!(matches!(error, DiscoveryError::Ask(AskError::Url(_))), "{endpoint}");
        }
    }

    #[test]
    fn a_secret_goes_where_the_issuer_takes_it() {
        for (methods, in_body) in [
            (json!(["client_secret_basic"]), false),
            (json!(["client_secret_post", "client_secret_basic"]), false),
            (json!(["client_secret_post", "private_key_jwt"]), true),
            (json!(["none"]), false),
        ] {
            let read =
                of("https://issuer.example", &json!({"token_endpoint_auth_methods_supported": methods}));
            assert_eq!(read.unwrap().secret_in_body, in_body, "{methods}");
        }
    }
}
