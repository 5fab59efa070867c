//! What a connection is doing, and the stream that notes it down.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ServeSettings;

/// How long a lingering client may pause.
const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Close it: it is between two requests.
    Finish,
    /// Break it off, for this reason.
    Abort(&'static str),
}

/// What a connection is doing. Times are in milliseconds since it was accepted, plus one; zero is "not now".
///
/// One task at a time runs a connection, so the order of these small writes does not matter.
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    http2: AtomicBool,
    /// Requests that have not been answered to their last byte.
    requests: AtomicU32,
    /// Whether the last request had a body, of which something may still be on its way.
    last_had_body: AtomicBool,
    /// Since when the head of a request is being read.
    head_since: AtomicU64,
    /// Since when there is no request.
    idle_since: AtomicU64,
    /// Since when the client takes nothing.
    blocked_since: AtomicU64,
    /// Since when the rest of a refused body is being thrown away, and when some of it last came.
    linger_since: AtomicU64,
    linger_read: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            accepted: Instant::now(),
            http2: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            last_had_body: AtomicBool::new(false),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            linger_since: AtomicU64::new(0),
            linger_read: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// With many requests on one connection, bytes that come are not the head of the next one.
    pub(super) fn set_http2(&self) {
        self.http2.store(true, Relaxed);
    }

    /// A request has been read; it ends when the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, has_body: bool) -> RequestGuard {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        self.last_had_body.store(has_body, Relaxed);
        RequestGuard(Arc::clone(self))
    }

    fn on_read(&self) {
        if self.linger_since.load(Relaxed) > 0 {
            self.linger_read.store(self.now(), Relaxed);
        } else if self.requests.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == 0
            && !self.http2.load(Relaxed)
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn on_write(&self, blocked: bool) {
        if !blocked {
            self.blocked_since.store(0, Relaxed);
        } else if self.blocked_since.load(Relaxed) == 0 {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Looks whether the connection has taken too long over something.
    pub(super) fn verdict(&self, settings: &ServeSettings) -> Verdict {
        let now = self.now();
        let over = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Relaxed);
            since > 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        if self.linger_since.load(Relaxed) > 0 {
            let ended = over(&self.linger_since, settings.linger) || over(&self.linger_read, LINGER_PAUSE);
            return if ended {
                Verdict::Abort("the client sends on after its answer")
            } else {
                Verdict::Keep
            };
        }
        if over(&self.blocked_since, settings.write_timeout) {
            return Verdict::Abort("the client does not take its answer");
        }
        if self.requests.load(Relaxed) > 0 {
            return Verdict::Keep;
        }
        if over(&self.head_since, settings.header_timeout) {
            return Verdict::Abort("the head of a request did not come to its end");
        }
        if over(&self.idle_since, settings.idle_timeout) { Verdict::Finish } else { Verdict::Keep }
    }

    /// How often to look.
    pub(super) fn period(settings: &ServeSettings) -> Duration {
        let shortest = settings.header_timeout.min(settings.idle_timeout).min(settings.write_timeout);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(5))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Relaxed);
        }
    }
}

/// The stream of a connection, noting down what happens on it. When it is shut down while the client still
/// sends a body, it reads on: closing would have the system throw away what the client has not read yet,
/// and that is the answer that says why.
pub(super) struct Watched<T> {
    stream: T,
    /// What was read to tell the two versions of HTTP apart.
    prefix: Bytes,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, prefix: Bytes, activity: Arc<Activity>) -> Self {
        Self { stream, prefix, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.has_remaining() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.activity.on_read();
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.on_write(result.is_pending());
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.on_write(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.linger_since.load(Relaxed) == 0 {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.activity.last_had_body.load(Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let now = self.activity.now();
            self.activity.linger_since.store(now, Relaxed);
            self.activity.linger_read.store(now, Relaxed);
        }
        let mut waste = [0_u8; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.activity.on_read(),
                // The end, or a connection that the client has broken: either way nobody waits for us.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
