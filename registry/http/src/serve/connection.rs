//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::activity::{Activity, RequestGuard, Verdict, Watched};
use super::{ServeSettings, Server};
use crate::body::BoxError;
use crate::listen::Peer;
use crate::{Body, respond};

/// What a client that begins with HTTP/2 sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the head of a usual request, so that it is read in one go.
const FIRST_READ: usize = 4096;

/// What hyper keeps for reading and for writing at a time. A body of one piece is written in one go however large
/// it is; this bounds what a stream puts into memory in front of a slow client.
const BUFFER: usize = 256 * 1024;

/// How much a client may send of one HTTP/2 stream, and of all of a connection, before we have read it.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

impl<S, F> Server<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    /// Serves one connection to its end.
    pub(super) async fn connection<T>(self: Arc<Self>, mut stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::new());
        let settings = self.settings;
        let beginning = tokio::select! {
            beginning = tokio::time::timeout(settings.header_timeout, read_beginning(&mut stream)) => beginning,
            // Nothing has been asked yet.
            () = self.stop.cancelled() => return,
            () = self.abort.cancelled() => return,
        };
        let (prefix, is_http2) = match beginning {
            Ok(Ok(Some(beginning))) => beginning,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%error, "a connection broke before its first request"),
            Err(_) => return tracing::debug!("a connection was closed: no request came"),
        };
        let io = TokioIo::new(Watched::new(stream, prefix, Arc::clone(&activity)));
        let server = Arc::clone(&self);
        let noted = Arc::clone(&activity);
        let service = service_fn(move |request: Request<Incoming>| {
            let guard = noted.request(!request.body().is_end_stream());
            Arc::clone(&server).answer(request, peer, guard)
        });
        if is_http2 {
            activity.set_http2();
            self.drive(http2_builder(&settings).serve_connection(io, service), &activity).await;
        } else {
            self.drive(http1_builder(&settings).serve_connection(io, service), &activity).await;
        }
    }

    /// Runs a connection, looking now and then whether it has taken too long over something.
    async fn drive<C>(&self, connection: C, activity: &Activity)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = std::pin::pin!(connection);
        // Tokens of its own: waiting on a shared one would have all connections queue for its lock.
        let (stop, abort) = (self.stop.child_token(), self.abort.child_token());
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut aborted = std::pin::pin!(abort.cancelled());
        let period = Activity::period(&self.settings);
        let mut look = std::pin::pin!(tokio::time::sleep(period));
        let mut finishing = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
                    }
                    return;
                }
                () = &mut aborted => return,
                () = &mut stopped, if !finishing => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut look => {
                    match activity.verdict(&self.settings) {
                        Verdict::Keep => {}
                        Verdict::Finish if finishing => {}
                        Verdict::Finish => {
                            finishing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        Verdict::Abort(reason) => return tracing::debug!(reason, "a connection was closed"),
                    }
                    look.as_mut().reset(tokio::time::Instant::now() + period);
                }
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        guard: RequestGuard,
    ) -> Result<Response<Tracked>, Infallible> {
        let is_head = request.method() == Method::HEAD;
        // The service is called within, since it may panic before it returns its future.
        let answered = AssertUnwindSafe(async { (self.service)(request, peer).await }).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_message(&*panic), "a request handler has panicked");
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        });
        if is_head {
            leave_out_body(&mut response);
        }
        Ok(response.map(|body| Tracked { body, _guard: guard }))
    }
}

/// Reads until it is clear which version of HTTP the client speaks. `None` when it has gone without a word.
async fn read_beginning<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<Option<(Bytes, bool)>> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        if read.starts_with(PREFACE) {
            return Ok(Some((read.freeze(), true)));
        }
        if !PREFACE.starts_with(&read) {
            return Ok(Some((read.freeze(), false)));
        }
    }
}

fn http1_builder(settings: &ServeSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Activity` watches over the head: hyper would set a timer anew for every request.
        .header_read_timeout(None)
        .max_header_size(settings.max_header_bytes)
        .max_buf_size(BUFFER.max(settings.max_header_bytes))
        .writev(true);
    builder
}

fn http2_builder(settings: &ServeSettings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(128)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Leaves the headers as they would be with the body.
fn leave_out_body(response: &mut Response<Body>) {
    let body = std::mem::take(response.body_mut());
    let has_length = response.headers().contains_key(CONTENT_LENGTH);
    let status = response.status();
    let may_have_length = status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
    if let Some(length) = body.length().filter(|_| !has_length && may_have_length) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The body of a response, holding the request open until it has been sent.
struct Tracked {
    body: Body,
    _guard: RequestGuard,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
