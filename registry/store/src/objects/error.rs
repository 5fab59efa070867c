//! What can go wrong with an object, told apart by the store's error code and status, never by its prose.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use granary_core::Sha256;

/// The cause of an error, shared because one failed fill is told to all who waited for it.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// An answer of the object store that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The error code of the S3 API, such as `SlowDown`; absent when the answer had no body.
    pub code: Option<String>,
    /// The store's own words, for the log.
    pub message: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

/// Why an operation on an object or a bucket failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object, bucket or upload.
    #[error("the object store has no such object or bucket ({0})")]
    NotFound(Answer),
    /// A conditional write met an object that is there already, or another writer at that moment.
    #[error("the object store refused a conditional write ({0})")]
    PreconditionFailed(Answer),
    /// The store computed another checksum than the one that was sent along.
    #[error("the bytes were damaged on the way to the object store ({0})")]
    ChecksumRefused(Answer),
    /// The bytes that were read are not those that were stored.
    #[error("an object of {expected} reads as {actual}")]
    Corrupt {
        /// What the database says.
        expected: Sha256,
        /// What the bytes say.
        actual: Sha256,
    },
    /// The object is shorter or longer than it should be.
    #[error("an object of {expected} bytes reads as {actual} bytes")]
    WrongLength {
        /// What the database says.
        expected: u64,
        /// What arrived; of an object that is too long, what had arrived when that was seen.
        actual: u64,
    },
    /// The store cannot be reached, is overloaded or failed: later it may work.
    #[error("the object store is unavailable")]
    Unavailable(#[source] Cause),
    /// The credentials are wrong or lack a permission.
    #[error("the object store denied access ({0})")]
    Denied(Answer),
    /// The store does not have this feature.
    #[error("the object store does not support this ({0})")]
    Unsupported(Answer),
    /// The store refused the request for another reason.
    #[error("the object store refused the request ({0})")]
    Refused(Answer),
    /// The request could not be made or the answer not be read.
    #[error("the request to the object store could not be made")]
    Invalid(#[source] Cause),
}

impl ObjectError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether the object or bucket is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// What the store answered, if it did.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::NotFound(answer)
            | Self::PreconditionFailed(answer)
            | Self::ChecksumRefused(answer)
            | Self::Denied(answer)
            | Self::Unsupported(answer)
            | Self::Refused(answer) => Some(answer),
            Self::Corrupt { .. } | Self::WrongLength { .. } | Self::Unavailable(_) | Self::Invalid(_) => None,
        }
    }

    pub(crate) fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(cause))
    }

    pub(crate) fn invalid(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Invalid(Arc::new(cause))
    }

    /// Sorts an answer by its code, and where the code says nothing (HEAD has no body) by its status.
    pub(crate) fn from_answer(answer: Answer) -> Self {
        match (answer.code.as_deref().unwrap_or_default(), answer.status) {
            (
                "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch",
                _,
            ) => Self::ChecksumRefused(answer),
            ("PreconditionFailed" | "ConditionalRequestConflict", _) | (_, 412) => {
                Self::PreconditionFailed(answer)
            }
            ("NotImplemented" | "MethodNotAllowed", _) | (_, 405 | 501) => Self::Unsupported(answer),
            ("SlowDown" | "RequestTimeout" | "OperationAborted", _) | (_, 408 | 429 | 500..) => {
                Self::Unavailable(Arc::new(Overloaded(answer)))
            }
            (_, 404) => Self::NotFound(answer),
            (_, 401 | 403) => Self::Denied(answer),
            _ => Self::Refused(answer),
        }
    }
}

/// An answer that says "not now".
#[derive(Debug, thiserror::Error)]
#[error("the object store answered {0}")]
struct Overloaded(Answer);

impl<E> From<SdkError<E, HttpResponse>> for ObjectError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::ServiceError(answered) => Self::from_answer(Answer {
                status: answered.raw().status().as_u16(),
                code: answered.err().code().map(str::to_owned),
                message: answered.err().message().map(str::to_owned),
            }),
            // A failure of our own side (such as a URL that cannot be) stays one however often it is tried.
            SdkError::DispatchFailure(ref failure) if failure.is_user() => Self::invalid(error),
            SdkError::ConstructionFailure(_) => Self::invalid(error),
            other => Self::unavailable(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, code: Option<&str>) -> ObjectError {
        ObjectError::from_answer(Answer { status, code: code.map(str::to_owned), message: None })
    }

    #[test]
    fn answers_are_sorted_by_code_and_then_by_status() {
        assert!(matches!(sorted(404, None), ObjectError::NotFound(_)));
        assert!(matches!(sorted(404, Some("NoSuchKey")), ObjectError::NotFound(_)));
        assert!(matches!(sorted(400, Some("BadDigest")), ObjectError::ChecksumRefused(_)));
        assert!(matches!(sorted(412, None), ObjectError::PreconditionFailed(_)));
        assert!(matches!(
            sorted(409, Some("ConditionalRequestConflict")),
            ObjectError::PreconditionFailed(_)
        ));
        assert!(matches!(sorted(501, Some("NotImplemented")), ObjectError::Unsupported(_)));
        assert!(matches!(sorted(403, Some("SignatureDoesNotMatch")), ObjectError::Denied(_)));
        assert!(matches!(sorted(409, Some("BucketNotEmpty")), ObjectError::Refused(_)));
        for (status, code) in
            [(503, Some("SlowDown")), (500, None), (429, None), (400, Some("RequestTimeout"))]
        {
            assert!(sorted(status, code).is_transient(), "{status} {code:?}");
        }
    }

    #[test]
    fn an_answer_reads_as_status_code_and_words() {
        let answer = Answer { status: 403, code: Some("AccessDenied".into()), message: Some("no".into()) };
        assert_eq!(answer.to_string(), "403 AccessDenied: no");
    }
}
