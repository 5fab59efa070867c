//! The server's connections.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ObjectStore;

/// How long requests that run when the end comes may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head, and a connection may idle.
const HEAD_LIMIT: Duration = Duration::from_mins(1);
/// A pause after the machine could not give a new connection (mostly for want of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl ObjectStore {
    /// Serves S3 (path-style addresses, HTTP/1.1 and HTTP/2 in the clear) on `listener` until `shutdown` is cancelled;
    /// requests that run then have ten seconds to end.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let credentials = self.0.credentials.clone();
        let mut service = S3ServiceBuilder::new(self.clone());
        service.set_auth(SimpleAuth::from_single(credentials.access_key, credentials.secret_key));
        let service = service.build();

        let mut server = Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        server.http2().timer(TokioTimer::new());
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                // Takes the ended ones out of the set.
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the object store cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without it a small answer waits for the client's delayed acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let connection = server.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
            let connection = graceful.watch(connection);
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error = &*error, "a connection to the object store broke");
                }
            });
        }
        drop(listener);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests to the object store did not end in time and were cut off");
        }
        connections.shutdown().await;
    }
}
