//! Bodies of responses and of requests.

mod request;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

pub use request::{BodyLimits, RequestBody, RequestBodyError};

/// What a body that is made while it is sent may fail with. It cuts the response off and is logged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes that come one after the other, made or fetched while they are sent.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// A stream that did not hold as many bytes as were announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body ended {missing} bytes early or went on for {surplus} bytes too many")]
pub struct LengthMismatch {
    /// Bytes that were announced and did not come.
    pub missing: u64,
    /// Bytes that came in the last chunk and were not announced.
    pub surplus: u64,
}

/// Learns what leaves the server; it is dropped with the body, which is when the response has ended.
pub trait BodyObserver: Send {
    /// So many bytes have been handed to the connection.
    fn sent(&mut self, bytes: u64);
}

/// The body of a response.
///
/// Its length is known exactly (and becomes `Content-Length`) in every form but [`Body::unsized_stream`].
#[derive(Default)]
pub struct Body {
    content: Content,
    observer: Option<Box<dyn BodyObserver>>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    One(Bytes),
    Chunks {
        chunks: Box<dyn Iterator<Item = Bytes> + Send>,
        left: u64,
    },
    Stream {
        stream: ByteStream,
        left: Option<u64>,
    },
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { content: Content::Empty, observer: None }
    }

    /// Bytes that are in memory already; they are shared, not copied.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Content::One(bytes).into() }
    }

    /// Chunks in memory, `length` bytes together, laid end to end without copying.
    pub fn chunks<I>(chunks: I, length: u64) -> Self
    where
        I: IntoIterator<Item = Bytes>,
        I::IntoIter: Send + 'static,
    {
        Content::Chunks { chunks: Box::new(chunks.into_iter()), left: length }.into()
    }

    /// A stream of exactly `length` bytes. One that holds fewer or more fails with [`LengthMismatch`].
    pub fn stream<S, E>(stream: S, length: u64) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Content::Stream { stream: boxed(stream), left: Some(length) }.into()
    }

    /// A stream whose length nobody knows yet.
    pub fn unsized_stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Content::Stream { stream: boxed(stream), left: None }.into()
    }

    /// The bytes that are still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::One(bytes) => Some(bytes.len() as u64),
            Content::Chunks { left, .. } => Some(*left),
            Content::Stream { left, .. } => *left,
        }
    }

    /// Lets `observer` count what is sent from now on.
    #[must_use]
    pub fn observed(mut self, observer: impl BodyObserver + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// The next chunk, not yet counted.
    fn next_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::One(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(bytes)))
            }
            Content::Chunks { chunks, left } => {
                let chunk = chunks.find(|chunk| !chunk.is_empty());
                Poll::Ready(check_length(left, chunk.map(Ok)))
            }
            Content::Stream { stream, left } => {
                let next = std::task::ready!(stream.as_mut().poll_next(context));
                Poll::Ready(match left {
                    Some(left) => check_length(left, next),
                    None => next,
                })
            }
        }
    }
}

/// Takes what came off what was announced.
fn check_length(left: &mut u64, next: Option<Result<Bytes, BoxError>>) -> Option<Result<Bytes, BoxError>> {
    match next {
        None if *left > 0 => {
            let missing = std::mem::take(left);
            Some(Err(LengthMismatch { missing, surplus: 0 }.into()))
        }
        Some(Ok(chunk)) => {
            let length = chunk.len() as u64;
            if let Some(rest) = left.checked_sub(length) {
                *left = rest;
                Some(Ok(chunk))
            } else {
                let surplus = length - std::mem::take(left);
                Some(Err(LengthMismatch { missing: 0, surplus }.into()))
            }
        }
        other => other,
    }
}

fn boxed<S, E>(stream: S) -> ByteStream
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    use futures_util::TryStreamExt;
    Box::pin(stream.map_err(Into::into))
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self { content, observer: None }
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(chunks: Vec<Bytes>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self::chunks(chunks, length)
    }
}

impl<T: Into<Bytes>> From<Option<T>> for Body {
    fn from(bytes: Option<T>) -> Self {
        bytes.map_or_else(Self::empty, Self::bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = std::task::ready!(self.next_chunk(context));
        match &next {
            Some(Ok(chunk)) => {
                if let Some(observer) = &mut self.observer {
                    observer.sent(chunk.len() as u64);
                }
            }
            // Nothing more is asked of a source that has failed.
            Some(Err(_)) => self.content = Content::Empty,
            None => {}
        }
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = std::task::ready!(http_body::Body::poll_frame(self, context));
        // Our frames are data, never trailers.
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("length", &self.length()).finish_non_exhaustive()
    }
}
