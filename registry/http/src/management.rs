//! The endpoints for those who run the server, on a listener of their own: `/livez`, `/readyz`, `/metrics`.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use http::{HeaderValue, Method, Response, StatusCode};
use prometheus_client::registry::Registry;

use crate::body::BoxError;
use crate::{Body, respond};

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

const METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type CheckFn = Box<dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// Whether the server can take requests.
pub struct Readiness {
    draining: AtomicBool,
    checks: Vec<(&'static str, CheckFn)>,
}

impl Readiness {
    /// Ready from the start, until a check fails or the server drains.
    pub fn new() -> Self {
        Self { draining: AtomicBool::new(false), checks: Vec::new() }
    }

    /// Adds something that has to hold. Its name stands in the answer; what its error says, only in the log.
    #[must_use]
    pub fn check<F, R, E>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let check: CheckFn = Box::new(move || {
            let check = check();
            Box::pin(async move { check.await.map_err(Into::into) })
        });
        self.checks.push((name, check));
        self
    }

    /// Not ready any more, so that no new connections are sent here. Running and further requests are still served.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What stands against being ready.
    pub async fn failing(&self) -> Vec<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            return vec!["draining"];
        }
        let results = join_all(self.checks.iter().map(async |(name, check)| {
            match tokio::time::timeout(CHECK_TIMEOUT, check()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    tracing::warn!(check = name, error = &*error as &dyn std::error::Error, "not ready");
                    Some(*name)
                }
                Err(_) => {
                    tracing::warn!(check = name, "not ready: the check takes too long");
                    Some(*name)
                }
            }
        }));
        results.await.into_iter().flatten().collect()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("draining", &self.draining).finish_non_exhaustive()
    }
}

/// Answers on the management listener.
#[derive(Debug, Clone)]
pub struct Management {
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
}

impl Management {
    /// Of this readiness and these metrics.
    pub fn new(readiness: Arc<Readiness>, registry: Arc<Registry>) -> Self {
        Self { readiness, registry }
    }

    /// Answers a request, of which method and path are all that counts.
    pub async fn answer(&self, method: Method, path: String) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            return respond::method_not_allowed(&[Method::GET, Method::HEAD]);
        }
        match path.as_str() {
            "/livez" => respond::text(StatusCode::OK, "alive"),
            "/readyz" => {
                let failing = self.readiness.failing().await;
                if failing.is_empty() {
                    respond::text(StatusCode::OK, "ready")
                } else {
                    respond::text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("not ready: {}", failing.join(", ")),
                    )
                }
            }
            "/metrics" => self.metrics(),
            _ => respond::text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics"),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => respond::content(StatusCode::OK, METRICS, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }
}
