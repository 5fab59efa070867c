//! Why something could not be had from another registry.

use granary_store::objects::{ObjectError, UploadError};
use granary_store::{AttachError, DbError};
use reqwest::{StatusCode, Url};

/// Why something could not be had from another registry, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not a URL that is asked for.
    #[error("the URL {0:?} cannot be asked for: write one that begins with http:// or https://")]
    Url(String),
    /// The host has no address that may be asked.
    #[error(
        "{0} is at an address that the internet does not reach; set allowPrivateAddresses where that is meant"
    )]
    PrivateAddress(String),
    /// Too many redirects, or one that leads nowhere.
    #[error("{0} redirects too often, or to nowhere")]
    Redirects(Url),
    /// There was no connection or no answer, or it broke off.
    #[error("{url} could not be fetched")]
    Request {
        /// What was asked for.
        url: Url,
        /// Why not; without the URL.
        source: reqwest::Error,
    },
    /// It took too long: to connect, to begin, to go on, or in all.
    #[error("{0} did not answer in time")]
    TimedOut(Url),
    /// An answer that is none to the question.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// It is longer than it may be.
    #[error("{url} has more than the {limit} bytes that are allowed")]
    TooLarge {
        /// What was asked for.
        url: Url,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something else than what was asked for, such as a page for people.
    #[error("{url} is not what it should be: {why}")]
    Unexpected {
        /// What was asked for.
        url: Url,
        /// What is wrong with it.
        why: String,
    },
    /// Postgres failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The object store failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The bytes could not be stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The bytes could not be referred to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The process is stopping.
    #[error("the fetch was broken off")]
    Interrupted,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other registry is away or answers wrongly.
    Upstream,
    /// The other registry takes too long.
    Slow,
    /// Our own database or object store.
    Own,
}

impl UpstreamError {
    /// Whose fault it is. What is kept already may stand in for what is the other registry's fault, never for one of ours.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::TimedOut(_) => Fault::Slow,
            Self::Url(_)
            | Self::PrivateAddress(_)
            | Self::Redirects(_)
            | Self::Request { .. }
            | Self::Status { .. }
            | Self::TooLarge { .. }
            | Self::Unexpected { .. } => Fault::Upstream,
            Self::Database(_) | Self::Object(_) | Self::Upload(_) | Self::Attach(_) | Self::Interrupted => {
                Fault::Own
            }
        }
    }
}
