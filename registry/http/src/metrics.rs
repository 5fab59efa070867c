//! What is counted of every request. Labels come from sets of a known size: never a path, a name or an address.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::body::BodyObserver;

/// Requests for which there is no route.
const NO_ROUTE: &str = "none";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: Arc<str>,
}

/// The metrics of one server. Cloning shares them.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: Family<RequestLabels, Counter>,
    duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    bytes_out: Counter<u64, AtomicU64>,
    bytes_in: Counter<u64, AtomicU64>,
    no_route: Arc<str>,
}

/// From 1 ms to about 65 s.
fn duration_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 9))
}

impl HttpMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let inner = Inner {
            requests: Family::default(),
            duration: Family::new_with_constructor(duration_buckets),
            in_flight: Gauge::default(),
            bytes_out: Counter::default(),
            bytes_in: Counter::default(),
            no_route: NO_ROUTE.into(),
        };
        let registry = registry.sub_registry_with_prefix("granary_http");
        registry.register("requests", "Requests that have been answered to the end", inner.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From the head of a request to the last byte of its answer",
            Unit::Seconds,
            inner.duration.clone(),
        );
        registry.register("requests_in_flight", "Requests that are being answered", inner.in_flight.clone());
        registry.register_with_unit(
            "response",
            "Bytes of response bodies",
            Unit::Bytes,
            inner.bytes_out.clone(),
        );
        registry.register_with_unit(
            "request",
            "Bytes of request bodies",
            Unit::Bytes,
            inner.bytes_in.clone(),
        );
        Self { inner: Arc::new(inner) }
    }

    /// A request has begun. Give the result to the [`Body`](crate::Body) of its response to observe.
    pub fn begin(&self, method: &Method) -> RequestMetrics {
        self.inner.in_flight.inc();
        RequestMetrics {
            metrics: Arc::clone(&self.inner),
            begun: Instant::now(),
            method: method_class(method),
            route: Arc::clone(&self.inner.no_route),
            // What is recorded when nobody waits for the answer any more, as nginx does.
            status: 499,
            bytes_out: 0,
        }
    }

    /// So many bytes of a request's body have been read.
    pub fn received(&self, bytes: u64) {
        self.inner.bytes_in.inc_by(bytes);
    }
}

/// The methods that have a label of their own; a client can invent others without end.
fn method_class(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PUSH" => "PUSH",
        _ => "other",
    }
}

/// One request being counted. It is recorded when this is dropped; without a status it was given up by the
/// client (499).
#[derive(Debug)]
pub struct RequestMetrics {
    metrics: Arc<Inner>,
    begun: Instant,
    method: &'static str,
    route: Arc<str>,
    status: u16,
    bytes_out: u64,
}

impl RequestMetrics {
    /// The pattern of the route that answers.
    pub fn set_route(&mut self, pattern: &Arc<str>) {
        self.route = Arc::clone(pattern);
    }

    /// The status of the answer.
    pub fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl BodyObserver for RequestMetrics {
    fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }
}

impl Drop for RequestMetrics {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        metrics.in_flight.dec();
        metrics.bytes_out.inc_by(self.bytes_out);
        let route = Arc::clone(&self.route);
        // A handler that panics takes this with it; its caller is told 500.
        let status = if std::thread::panicking() { 500 } else { self.status };
        let labels = RequestLabels { method: self.method, route: Arc::clone(&route), status };
        metrics.requests.get_or_create(&labels).inc();
        let seconds = self.begun.elapsed().as_secs_f64();
        metrics.duration.get_or_create(&RouteLabels { method: self.method, route }).observe(seconds);
    }
}
