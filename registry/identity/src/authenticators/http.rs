//! A service that answers yes or no.

use std::io;

use granary_crds::{HttpUrl, SecretSource};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::{is_distrust, is_passing};
use super::{Answer, NoAnswer, answered};
use crate::outbound::{load, read_body};

/// The most bytes of an answer.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a service cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The file with the token cannot be read.
    #[error("the token for the service cannot be read")]
    Token(#[source] io::Error),
    /// The question cannot be put.
    #[error("the question to the service cannot be written")]
    Question(#[from] serde_json::Error),
    /// The service cannot be reached, or broke off.
    #[error("the service cannot be reached")]
    Http(#[source] reqwest::Error),
    /// The service answered something that is neither yes nor no.
    #[error("the service answered {0}; 200, 401, 403 and 404 mean something here")]
    Status(StatusCode),
    /// The client went elsewhere, and took a password along.
    #[error("the client follows redirects, which it must not where it carries passwords")]
    Redirected,
    /// The answer is too long.
    #[error("the service answered 200 with more than {BODY_LIMIT} bytes")]
    TooLong,
    /// The answer is not what it should be.
    #[error("the service answered 200 with a body that is neither empty nor {{\"groups\": [ … ]}}")]
    Body(#[source] serde_json::Error),
    /// It did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl ServiceError {
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Token(error) => is_passing(error),
            Self::Http(error) => !error.is_builder() && !is_distrust(error),
            Self::Question(_) | Self::Redirected => false,
            Self::Status(_) | Self::TooLong | Self::Body(_) | Self::NoAnswer(_) => true,
        }
    }
}

impl From<reqwest::Error> for ServiceError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

#[derive(Serialize)]
struct Question<'a> {
    username: &'a str,
    password: &'a str,
}

#[derive(Debug, Default, Deserialize)]
struct Yes {
    #[serde(default)]
    groups: Vec<String>,
}

/// A service that gets a name and a password and says whether they belong together.
pub(super) struct Service {
    client: Client,
    url: String,
    token: Option<SecretSource>,
}

impl Service {
    pub(super) fn new(client: Client, url: &HttpUrl, token: Option<SecretSource>) -> Self {
        Self { client, url: url.as_str().to_owned(), token }
    }

    pub(super) async fn check(&self, user: &str, password: &SecretString) -> Result<Answer, ServiceError> {
        answered(self.ask(user, password)).await?
    }

    async fn ask(&self, user: &str, password: &SecretString) -> Result<Answer, ServiceError> {
        let question = Question { username: user, password: password.expose_secret() };
        let mut request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(serde_json::to_vec(&question)?);
        if let Some(token) = &self.token {
            request = request.bearer_auth(load(token).await.map_err(ServiceError::Token)?.expose());
        }
        let request = request.build()?;
        let url = request.url().clone();
        let response = self.client.execute(request).await?;
        if *response.url() != url {
            return Err(ServiceError::Redirected);
        }
        match response.status() {
            StatusCode::OK => Ok(Answer::Right(read(response).await?.groups)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Answer::Wrong),
            StatusCode::NOT_FOUND => Ok(Answer::Unknown),
            other => Err(ServiceError::Status(other)),
        }
    }
}

async fn read(mut response: Response) -> Result<Yes, ServiceError> {
    let body = read_body(&mut response, BODY_LIMIT).await?.ok_or(ServiceError::TooLong)?;
    if body.trim_ascii().is_empty() {
        return Ok(Yes::default());
    }
    serde_json::from_slice(&body).map_err(ServiceError::Body)
}
