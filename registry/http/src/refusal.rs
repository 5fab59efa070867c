//! A request that is not granted: the status, what the caller is told, and what only the log is told.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use granary_identity::{AuthError, PasswordError};
use granary_store::objects::{ObjectError, UploadError};
use granary_store::{AttachError, AuditEntry, DbError};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::body::BoxError;
use crate::{Body, RequestBodyError};

/// When to come back after an outage.
const RETRY: Duration = Duration::from_secs(2);

/// Why a request is not granted. A user's mistake says what to do; a fault of ours says only that, and its cause
/// goes to the log.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What the caller is told.
    pub message: Cow<'static, str>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// For the log.
    pub cause: Option<BoxError>,
    /// For the audit, where somebody whom we know lacks a grant.
    pub denied: Option<Box<AuditEntry>>,
}

impl Refusal {
    /// A refusal with this status and message.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), retry_after: None, cause: None, denied: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: the client is asked to log in.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 500, with a cause that only the log learns.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        let refusal =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the registry made a mistake; its log says more");
        Self { cause: Some(cause.into()), ..refusal }
    }

    /// 503 with `Retry-After`: Postgres or the object store is out of reach.
    pub fn unavailable(what: &'static str, cause: impl Into<BoxError>) -> Self {
        let refusal =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{what} is out of reach; try again"));
        Self { retry_after: Some(RETRY), cause: Some(cause.into()), ..refusal }
    }

    /// 502: another registry, which has what is asked for, gave no good answer. The caller may know why.
    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(RETRY), ..Self::new(StatusCode::BAD_GATEWAY, message) }
    }

    /// 504: another registry took too long.
    pub fn gateway_timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(RETRY), ..Self::new(StatusCode::GATEWAY_TIMEOUT, message) }
    }

    /// With what the audit is to remember of it.
    #[must_use]
    pub fn denying(self, entry: AuditEntry) -> Self {
        Self { denied: Some(Box::new(AuditEntry { outcome: "refused", ..entry })), ..self }
    }

    /// Writes the cause to the log, and adds the headers that every protocol needs to a response in its own shape.
    pub fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(cause) = &self.cause {
            tracing::error!(
                status = self.status.as_u16(),
                cause = granary_core::report(cause.as_ref()),
                "a request failed"
            );
        }
        *response.status_mut() = self.status;
        if self.status == StatusCode::UNAUTHORIZED {
            // pip, twine, uv and conan log in only when they are asked to.
            let challenge = HeaderValue::from_static("Basic realm=\"granary\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        // What is refused or absent now may be there in a moment.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(pause) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        if error.is_unavailable() { Self::unavailable("the database", error) } else { Self::internal(error) }
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Database(error) => error.into(),
            AttachError::TooOld => Self::new(StatusCode::REQUEST_TIMEOUT, error.to_string()),
        }
    }
}

impl From<ObjectError> for Refusal {
    fn from(error: ObjectError) -> Self {
        if error.is_transient() {
            Self::unavailable("the object store", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<Arc<AuthError>> for Refusal {
    fn from(error: Arc<AuthError>) -> Self {
        match &*error {
            AuthError::Invalid => Self::unauthorized(error.to_string()),
            AuthError::Signed(cause) if cause.is_unavailable() => {
                Self::unavailable("the issuer of the token", error)
            }
            AuthError::Signed(_) => Self::unauthorized(granary_core::report(&error)),
            AuthError::LockedOut { retry_after } => Self {
                retry_after: Some(*retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
            },
            AuthError::Busy(_) => Self {
                retry_after: Some(RETRY),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            },
            AuthError::Authenticator(_) => Self::unavailable("a source of passwords", error),
            AuthError::Database(cause) if cause.is_unavailable() => Self::unavailable("the database", error),
            AuthError::Password(PasswordError::Interrupted) => Self::unavailable("the registry", error),
            AuthError::Account(_) | AuthError::Database(_) | AuthError::Password(_) => Self::internal(error),
        }
    }
}

impl From<RequestBodyError> for Refusal {
    fn from(error: RequestBodyError) -> Self {
        let status = match &error {
            RequestBodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RequestBodyError::Stalled { .. } => StatusCode::REQUEST_TIMEOUT,
            RequestBodyError::Incomplete(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Object(error) => error.into(),
            UploadError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            UploadError::Memory(_) => Self::unavailable("the registry's memory", error),
            UploadError::Interrupted => Self::internal(error),
        }
    }
}
