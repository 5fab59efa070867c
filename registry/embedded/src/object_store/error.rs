//! What can go wrong in the object store, and how S3 says it.

use std::io;
use std::path::{Path, PathBuf};

use s3s::{S3Error, S3ErrorCode};

/// What can go wrong in the object store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process serves the same folder.
    #[error("{0} is in use by another process; stop that one, or choose another data folder")]
    InUse(PathBuf),
    /// The bucket's name breaks the rules of S3.
    #[error("a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens")]
    InvalidBucketName,
    /// There is no such bucket.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// The bucket to be created is there.
    #[error("the bucket exists already")]
    BucketExists,
    /// A bucket to be deleted holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// The bucket has no tags.
    #[error("the bucket has no tags")]
    NoSuchTagSet,
    /// There is no such object.
    #[error("the object does not exist")]
    NoSuchKey,
    /// There is no such multipart upload, or it is completed or aborted.
    #[error("the multipart upload does not exist")]
    NoSuchUpload,
    /// `If-Match` or `If-None-Match` does not hold.
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
    /// The client has the object already.
    #[error("the object has the entity tag {0}")]
    NotModified(String),
    /// The range lies beyond the object.
    #[error("the range is not satisfiable")]
    InvalidRange,
    /// `Content-MD5` is not the base64 form of 16 bytes.
    #[error("Content-MD5 is not valid")]
    InvalidDigest,
    /// The bytes do not have the digest that the client claims.
    #[error("the bytes received do not have the digest that was claimed for them")]
    BadDigest,
    /// The body ended early, or breaks its signature.
    #[error("the body ended early, or is not the one that was declared and signed")]
    IncompleteBody(#[source] Option<s3s::StdError>),
    /// A part needs a declared length.
    #[error("the length of the body is not declared")]
    MissingContentLength,
    /// A part to be joined was not uploaded, or is another than the client has in mind.
    #[error("part {0} was not uploaded, or has another entity tag or checksum")]
    InvalidPart(i32),
    /// The parts to be joined are not in ascending order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part that is not the last has less than 5 MiB.
    #[error("part {0} is smaller than 5 MiB and not the last one")]
    PartTooSmall(i32),
    /// The list of parts is empty.
    #[error("the list of parts is empty")]
    NoParts,
    /// An argument has a value that S3 does not take.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// A feature of S3 that this store lacks.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file operation did not run to its end.
    #[error("a file operation was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Says what was tried, and with which file, when an I/O operation fails.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}

impl Error {
    fn code(&self) -> S3ErrorCode {
        match self {
            Self::InUse(_) | Self::Io { .. } | Self::Interrupted(_) => S3ErrorCode::InternalError,
            Self::InvalidBucketName => S3ErrorCode::InvalidBucketName,
            Self::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Self::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Self::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Self::NoSuchTagSet => S3ErrorCode::NoSuchTagSet,
            Self::NoSuchKey => S3ErrorCode::NoSuchKey,
            Self::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Self::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            Self::NotModified(_) => S3ErrorCode::NotModified,
            Self::InvalidRange => S3ErrorCode::InvalidRange,
            Self::InvalidDigest => S3ErrorCode::InvalidDigest,
            Self::BadDigest => S3ErrorCode::BadDigest,
            Self::IncompleteBody(_) => S3ErrorCode::IncompleteBody,
            Self::MissingContentLength => S3ErrorCode::MissingContentLength,
            Self::InvalidPart(_) => S3ErrorCode::InvalidPart,
            Self::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Self::PartTooSmall(_) => S3ErrorCode::EntityTooSmall,
            Self::NoParts => S3ErrorCode::MalformedXML,
            Self::InvalidArgument(_) => S3ErrorCode::InvalidArgument,
            Self::NotImplemented(_) => S3ErrorCode::NotImplemented,
        }
    }
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let mut answer = Self::new(code.clone());
        if code == S3ErrorCode::InternalError {
            // Paths and causes are for the log, not for the client.
            tracing::error!(error = &error as &dyn std::error::Error, "the object store failed");
        } else {
            answer.set_message(error.to_string());
        }
        if let Error::NotModified(e_tag) = &error
            && let Ok(value) = http::HeaderValue::from_str(&format!("\"{e_tag}\""))
        {
            answer.set_headers(std::iter::once((http::header::ETAG, value)).collect());
        }
        answer.set_source(Box::new(error));
        answer
    }
}
