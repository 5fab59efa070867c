//! One question to a provider: bounded in time and size, and never led elsewhere.

use std::time::Duration;

use granary_crds::SecretSource;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

use crate::outbound::{self, read_body};

/// How long a provider may take to answer one question.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MAX_BYTES: usize = 1024 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a provider gave no answer that could be read.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL cannot be asked for.
    #[error("the URL {0:?} cannot be used")]
    Url(String),
    /// The registry's own secret cannot be read.
    #[error("the secret of the provider cannot be read")]
    Secret(#[source] std::io::Error),
    /// There was no answer, or it broke off.
    #[error("the provider could not be asked")]
    Request(#[from] reqwest::Error),
    /// It took longer than 10 s.
    #[error("the provider did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
    /// Something else answered than what was asked: the client follows redirects, which it must not.
    #[error("{url} led to {answered}")]
    Redirected {
        /// What was asked for.
        url: Url,
        /// What answered.
        answered: Url,
    },
    /// The answer has more than 1 MiB.
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// The answer is not what was asked for. Redirects are not followed.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// The answer cannot be read.
    #[error("{url} answered with something else than was asked for")]
    Json {
        /// What was asked for.
        url: Url,
        /// Why not.
        source: serde_json::Error,
    },
}

/// An answer, of whatever status.
#[derive(Debug)]
pub(super) struct Answer {
    url: Url,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The answer, if its status is 200.
    pub(super) fn ok(self) -> Result<Self, AskError> {
        if self.status == StatusCode::OK {
            Ok(self)
        } else {
            Err(AskError::Status { url: self.url, status: self.status })
        }
    }

    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, AskError> {
        serde_json::from_slice(&self.body).map_err(|source| AskError::Json { url: self.url.clone(), source })
    }
}

/// Sends a request and reads all of the answer.
pub(super) async fn ask(client: &Client, request: RequestBuilder) -> Result<Answer, AskError> {
    let work = async {
        let mut request = request.build()?;
        request.headers_mut().entry(ACCEPT).or_insert(JSON);
        let url = request.url().clone();
        let mut response = client.execute(request).await?;
        if *response.url() != url {
            return Err(AskError::Redirected { url, answered: response.url().clone() });
        }
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = read_body(&mut response, MAX_BYTES).await?.ok_or(AskError::TooLarge)?;
        Ok(Answer { url, status, headers, body })
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| AskError::TimedOut)?
}

/// A `POST` of a form.
pub(super) fn form(client: &Client, url: &Url, fields: &[(&str, &str)]) -> RequestBuilder {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(pairs.join("&"))
}

/// As a form encodes it.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub(super) fn parse(url: &str) -> Result<Url, AskError> {
    Url::parse(url).map_err(|_| AskError::Url(url.to_owned()))
}

/// A secret as it is now.
pub(super) async fn load(source: &SecretSource) -> Result<secrecy::SecretString, AskError> {
    Ok(outbound::load(source).await.map_err(AskError::Secret)?.into_secret_string())
}

/// `client_secret_basic` (RFC 6749, section 2.3.1): both parts are encoded as in a form before.
pub(super) fn with_basic(
    request: RequestBuilder,
    id: &str,
    secret: &secrecy::SecretString,
) -> RequestBuilder {
    request.basic_auth(encode(id), Some(encode(secret.expose_secret())))
}
