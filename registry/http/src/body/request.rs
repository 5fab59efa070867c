//! The body of a request: counted, limited, and never waited for without end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{BoxError, ByteStream};

/// What a request's body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// The largest body, in bytes.
    pub max_bytes: u64,
    /// How long to wait for the next bytes.
    pub idle: Duration,
    /// The least that a client has to send, in bytes per second of waiting for it: who drips holds buffers that
    /// others wait for. It counts once the waits add up to `idle`.
    pub min_rate: u64,
}

impl Default for BodyLimits {
    /// 1 GiB, 30 seconds and 1 KiB a second.
    fn default() -> Self {
        Self { max_bytes: 1 << 30, idle: Duration::from_secs(30), min_rate: 1024 }
    }
}

/// Why a request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// It is larger, or says that it is larger, than the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The client sent nothing for too long.
    #[error("the client sent nothing for {} seconds", idle.as_secs_f64())]
    Stalled {
        /// How long it was waited for.
        idle: Duration,
    },
    /// The connection ended, or the framing broke, before the body was complete.
    #[error("the body ended before it was complete")]
    Incomplete(#[source] BoxError),
}

enum Source {
    Connection(Incoming),
    Stream(ByteStream),
}

/// The body of a request, as a stream of its bytes.
///
/// One that declares more than the limit fails before any of it is read, so a client that waits for
/// `100 Continue` never sends it. After an error the stream is at its end.
pub struct RequestBody {
    source: Option<Source>,
    declared: Option<u64>,
    received: u64,
    limits: BodyLimits,
    // Runs only while the client is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// How long the client was waited for, over all its chunks.
    waited: Duration,
    wait_began: Option<Instant>,
    count: Option<Box<dyn Fn(u64) + Send>>,
}

impl RequestBody {
    /// The body of a request that came over a connection.
    pub fn new(incoming: Incoming, headers: &HeaderMap, limits: BodyLimits) -> Self {
        // hyper has checked the header against the framing; with chunks there is none.
        let declared = incoming.size_hint().exact().or_else(|| {
            headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.parse().ok())
        });
        Self::with_source(Source::Connection(incoming), declared, limits)
    }

    /// A body from any stream of bytes; `declared` is the length that its headers told, if any.
    pub fn from_stream<S, E>(stream: S, declared: Option<u64>, limits: BodyLimits) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::with_source(Source::Stream(super::boxed(stream)), declared, limits)
    }

    /// A body that is in memory already.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let declared = bytes.len() as u64;
        let stream = futures_util::stream::iter([Ok::<_, BoxError>(bytes)]);
        Self::from_stream(stream, Some(declared), BodyLimits { max_bytes: u64::MAX, ..BodyLimits::default() })
    }

    fn with_source(source: Source, declared: Option<u64>, limits: BodyLimits) -> Self {
        Self {
            source: Some(source),
            declared,
            received: 0,
            limits,
            timer: None,
            waiting: false,
            waited: Duration::ZERO,
            wait_began: None,
            count: None,
        }
    }

    /// The length that the request declared, if it did.
    pub fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Tells `count` of the bytes that come from now on.
    #[must_use]
    pub fn counted(mut self, count: impl Fn(u64) + Send + 'static) -> Self {
        self.count = Some(Box::new(count));
        self
    }

    /// Whether the client has sent less than it has to, over all the time that it was waited for.
    fn drips(&mut self) -> bool {
        if let Some(began) = self.wait_began.take() {
            self.waited += began.elapsed();
        }
        let owed = u128::from(self.limits.min_rate) * self.waited.as_millis() / 1000;
        self.waited > self.limits.idle && u128::from(self.received) < owed
    }

    /// Sets another limit, such as the channel's, once that is known.
    #[must_use]
    pub fn limited_to(mut self, max_bytes: u64) -> Self {
        self.limits.max_bytes = max_bytes;
        self
    }

    /// Refuses a body that is known to be too large, without reading any of it.
    pub fn check_declared(&self) -> Result<(), RequestBodyError> {
        let limit = self.limits.max_bytes;
        match self.declared {
            Some(declared) if declared > limit => Err(RequestBodyError::TooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// Reads a small body whole: at most `max_bytes`, whatever the limit of this body is otherwise.
    pub async fn collect(self, max_bytes: u64) -> Result<Bytes, RequestBodyError> {
        let lower = self.limits.max_bytes.min(max_bytes);
        let mut body = self.limited_to(lower);
        let Some(first) = body.next().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = body.next().await.transpose()? else { return Ok(first) };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = body.next().await.transpose()? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.source {
            None => Poll::Ready(None),
            Some(Source::Stream(stream)) => stream.as_mut().poll_next(context),
            Some(Source::Connection(incoming)) => loop {
                match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => {
                        // Trailers mean nothing to us.
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                }
            },
        }
    }

    /// Whether the client has been waited for too long.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = self.limits.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + idle);
        }
        timer.as_mut().poll(context)
    }

    fn fail(&mut self, error: RequestBodyError) -> Poll<Option<Result<Bytes, RequestBodyError>>> {
        self.source = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// No bytes: what is left when a handler has taken the body.
impl Default for RequestBody {
    fn default() -> Self {
        Self::from_bytes(Bytes::new())
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, RequestBodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.source.is_some()
            && let Err(error) = self.check_declared()
        {
            return self.fail(error);
        }
        match self.poll_source(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.waiting = false;
                self.received += chunk.len() as u64;
                if let Some(count) = &self.count {
                    count(chunk.len() as u64);
                }
                if self.drips() {
                    let idle = self.limits.idle;
                    return self.fail(RequestBodyError::Stalled { idle });
                }
                let limit = self.limits.max_bytes;
                if self.received > limit {
                    return self.fail(RequestBodyError::TooLarge { limit });
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(RequestBodyError::Incomplete(error)),
            Poll::Ready(None) => {
                self.source = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.wait_began.get_or_insert_with(Instant::now);
                ready!(self.poll_stalled(context));
                let idle = self.limits.idle;
                self.fail(RequestBodyError::Stalled { idle })
            }
        }
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody")
            .field("declared", &self.declared)
            .field("received", &self.received)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
