//! The server: accepts connections, speaks HTTP/1.1 and HTTP/2 (without TLS, by prior knowledge), and ends
//! in good order.
//!
//! A connection costs one task. What keeps it from staying for ever: a head that does not come to its end, a
//! client that takes nothing of its answer, and doing nothing at all. How long a handler may take, and
//! how long a body may stall, is decided by who calls it ([`RequestBody`](crate::RequestBody)).

mod activity;
mod connection;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Body;
use crate::listen::{Accepted, Listener, Peer};

/// How connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeSettings {
    /// From the first byte of a request's head (for the first request: from the connection) to its last.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept. It should be longer than proxies keep theirs, so that
    /// none of them sends a request into a connection that is just being closed.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a client that was refused in mid-body may go on sending, so that it reads the answer before the
    /// connection breaks.
    pub linger: Duration,
    /// The largest head, in bytes.
    pub max_header_bytes: usize,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// How long requests may take to finish once the server is told to stop.
    pub drain_timeout: Duration,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            linger: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            max_connections: 8192,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be broken off at the end of the drain time.
    pub aborted: usize,
}

/// Serves until `stop` is cancelled, then stops accepting, lets running requests finish within the drain
/// time, and breaks off the rest. A panic in `service` becomes `500`.
///
/// `service` gets a request and its peer. Its future is dropped when the client goes away.
pub async fn serve<S, F>(
    listeners: Vec<Listener>,
    settings: ServeSettings,
    service: S,
    stop: CancellationToken,
) -> Drained
where
    S: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let server = Arc::new(Server {
        service,
        settings,
        permits: Arc::new(Semaphore::new(settings.max_connections)),
        connections: TaskTracker::new(),
        stop: stop.clone(),
        abort: CancellationToken::new(),
    });
    // Should this future be dropped, nothing of the server stays behind.
    let _abort = server.abort.clone().drop_guard();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(Arc::clone(&server).accept_from(listener)))
        .collect();
    stop.cancelled().await;
    for task in accepting {
        if let Err(error) = task.await {
            tracing::error!(%error, "an accepting task has failed");
        }
    }
    server.connections.close();
    if tokio::time::timeout(settings.drain_timeout, server.connections.wait()).await.is_ok() {
        return Drained { aborted: 0 };
    }
    let aborted = server.connections.len();
    server.abort.cancel();
    server.connections.wait().await;
    Drained { aborted }
}

struct Server<S> {
    service: S,
    settings: ServeSettings,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl<S, F> Server<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn accept_from(self: Arc<Self>, listener: Listener) {
        let ended = async {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.abort.cancelled() => {}
            }
        };
        tokio::pin!(ended);
        loop {
            let next = async {
                // Before accepting: who has to wait does so in the system's queue.
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = &mut ended => return,
                next = next => next,
            };
            let Ok(permit) = permit else { return };
            let server = Arc::clone(&self);
            match accepted {
                Ok(Accepted::Tcp(stream, peer)) => {
                    self.connections.spawn(async move {
                        server.connection(stream, Peer::Tcp(peer)).await;
                        drop(permit);
                    });
                }
                Ok(Accepted::Unix(stream)) => {
                    self.connections.spawn(async move {
                        server.connection(stream, Peer::Unix).await;
                        drop(permit);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Most likely no file descriptor is left: let connections end before the next try.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Whether only the connection that was to be accepted has failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected
    )
}
