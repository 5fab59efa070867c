//! Errors of the API: a refusal in words, or a list of what is wrong with the input, in the shape of `FastAPI`'s 422.

use granary_http::{Body, Refusal, respond};
use granary_identity::{AccountError, UserError};
use granary_store::{ApplyError, DbError};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

/// A step to where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Step {
    /// `body`, `query` or `path`, or a field.
    Name(String),
    /// A place in a list, or in a text that is no JSON.
    Place(usize),
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// One thing that is wrong with the input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// What kind of problem it is, as pydantic names it.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Where.
    pub(crate) loc: Vec<Step>,
    /// What is expected.
    pub(crate) msg: String,
    /// What was there; the object around it where it is missing.
    pub(crate) input: Value,
    /// What the message speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<Value>,
}

impl Problem {
    /// A value that makes no sense to whoever reads it.
    pub(crate) fn value(loc: Vec<Step>, message: &str, input: Value) -> Self {
        let msg = format!("Value error, {message}");
        Self { kind: "value_error", loc, msg, input, ctx: Some(json!({ "error": {} })) }
    }

    /// What was to be there and is not.
    pub(crate) fn missing(loc: Vec<Step>, around: Value) -> Self {
        Self { kind: "missing", loc, msg: "Field required".to_owned(), input: around, ctx: None }
    }
}

/// Why a request of the API is not granted.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// In words.
    Refusal(Refusal),
    /// The input is wrong in these places.
    Invalid(Vec<Problem>),
}

impl ApiError {
    /// 422 in words.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::Refusal(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message.into()))
    }

    /// The answer: a refusal goes the way of all refusals.
    pub(crate) fn answer(self) -> Result<Response<Body>, Refusal> {
        match self {
            Self::Refusal(refusal) => Err(refusal),
            Self::Invalid(problems) => {
                respond::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "detail": problems }))
                    .map_err(Refusal::internal)
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        Self::Refusal(error.into())
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

impl From<tokio_postgres::Error> for ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let message = error.to_string();
        Self::Refusal(match error {
            AccountError::Database(error) => error.into(),
            AccountError::Unknown(_) | AccountError::UnknownToken(_) => Refusal::not_found(message),
            AccountError::Lifetime(_) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            AccountError::Exists(_) | AccountError::Foreign(_) => Refusal::conflict(message),
            AccountError::Password(_) => Refusal::internal(error),
        })
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        let message = error.to_string();
        Self::Refusal(match error {
            UserError::Anonymous => Refusal::unauthorized(message),
            UserError::Unknown(_) => Refusal::not_found(message),
            UserError::Role(_) => Refusal::forbidden(message),
            UserError::LastOwner(_) => Refusal::conflict(message),
            UserError::Account(error) => return error.into(),
        })
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        Self::Refusal(match error {
            ApplyError::Database(error) => error.into(),
            ApplyError::Exists(_) | ApplyError::Excluded { .. } | ApplyError::BeingDeleted(_) => {
                Refusal::conflict(message)
            }
            error => Refusal::internal(error),
        })
    }
}
