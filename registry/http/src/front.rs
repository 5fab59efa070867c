//! The front door: every request comes in here, gets its id, its span and its log line, and is handed to the
//! route that answers it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use granary_identity::{TOKEN_PREFIX, TokenText};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use opentelemetry::propagation::Extractor;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use crate::body::BodyLimits;
use crate::credentials::{self, Carrier};
use crate::listen::Peer;
use crate::metrics::HttpMetrics;
use crate::path::Query;
use crate::pipeline::{Arrival, Services};
use crate::proxy::{Origin, TrustedProxies};
use crate::refusal::Refusal;
use crate::routes::{Hosts, Lookup};
use crate::{Body, RequestBody, RequestPath, respond};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How the front door behaves.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Whose forwarding headers are believed.
    pub proxies: TrustedProxies,
    /// How long a request's body may stand still.
    pub body_idle: Duration,
    /// Whether a span is opened for each request: only of use where traces are sent somewhere.
    pub traces: bool,
}

/// Answers every request of the registry.
#[derive(Debug)]
pub struct Front {
    hosts: Hosts<Arrival>,
    services: Services,
    carriers: Vec<Carrier>,
    metrics: HttpMetrics,
    settings: FrontSettings,
}

impl Front {
    /// A front door before these routes. `carriers` are the ways of carrying a credential that protocols add.
    pub fn new(
        hosts: Hosts<Arrival>,
        services: Services,
        carriers: Vec<Carrier>,
        metrics: HttpMetrics,
        settings: FrontSettings,
    ) -> Self {
        Self { hosts, services, carriers, metrics, settings }
    }

    /// Every route, for those who want to enumerate them.
    pub fn hosts(&self) -> &Hosts<Arrival> {
        &self.hosts
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let begun = Instant::now();
        let mut measured = self.metrics.begin(request.method());
        let origin = self.settings.proxies.origin(peer, request.uri(), request.headers());
        let id = request_id(request.headers());
        let span = self.span(&request, &id);
        let (method, client) = (request.method().clone(), origin.client);
        let raw_path = request.uri().path().to_owned();
        let Dispatched { mut response, route, shown_path } =
            self.dispatch(request, origin, &id).instrument(span).await;
        let seen = Seen { method, path: masked(shown_path.unwrap_or(raw_path)), client };
        let status = response.status();
        if let Some(route) = &route {
            measured.set_route(route);
        }
        measured.set_status(status);
        log(&seen, &id, status, response.body().length(), begun.elapsed());
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response.map(|body| body.observed(measured))
    }

    /// Answers by the route that the request finds.
    async fn dispatch(&self, request: Request<Incoming>, origin: Origin, id: &Arc<str>) -> Dispatched {
        let (parts, body) = request.into_parts();
        let parsed = RequestPath::parse(parts.uri.path())
            .and_then(|path| Ok((path, Query::parse(parts.uri.query())?)));
        let (path, query) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                // Nobody can tell where a token stands in it.
                let shown_path = Some(format!("(unreadable; {} bytes)", parts.uri.path().len()));
                let response = plain(&Refusal::bad_request(error.to_string()));
                return Dispatched { response, route: None, shown_path };
            }
        };
        let found = match credentials::find(&parts.headers, &path, &self.carriers, origin.scheme) {
            Ok(found) => found,
            Err(error) => {
                let carried = |carrier: &Carrier| carrier(&parts.headers, &path)?.path;
                let shown_path = self.carriers.iter().find_map(carried).map(|without| text_of(&without));
                let response = plain(&Refusal::unauthorized(error.to_string()));
                return Dispatched { response, route: None, shown_path };
            }
        };
        let shown_path = found.path.as_ref().map(text_of);
        let path = found.path.unwrap_or(path);
        let host = parts.uri.host().or_else(|| parts.headers.get(HOST)?.to_str().ok());
        let (response, route) = match self.hosts.table(host).find(&parts.method, &path) {
            Lookup::Found(matched) => {
                let idle = self.settings.body_idle;
                let limits = BodyLimits { max_bytes: u64::MAX, idle, ..BodyLimits::default() };
                let body = RequestBody::new(body, &parts.headers, limits);
                let arrival = Arrival {
                    services: self.services.clone(),
                    body: Mutex::new(self.counted(body)),
                    method: parts.method,
                    path: Arc::new(path),
                    query: Arc::new(query),
                    headers: Arc::new(parts.headers),
                    params: Arc::new(matched.params),
                    credentials: found.credentials,
                    origin,
                    request_id: Arc::clone(id),
                };
                let route = Arc::clone(matched.route.pattern());
                (matched.route.handler()(arrival).await, Some(route))
            }
            Lookup::MethodNotAllowed { allow } => (respond::method_not_allowed(&allow), None),
            Lookup::NotFound => (plain(&Refusal::not_found("there is nothing at this path")), None),
        };
        Dispatched { response, route, shown_path }
    }

    fn counted(&self, body: RequestBody) -> RequestBody {
        if body.declared() == Some(0) {
            return body;
        }
        let metrics = self.metrics.clone();
        body.counted(move |bytes| metrics.received(bytes))
    }

    fn span(&self, request: &Request<Incoming>, id: &str) -> Span {
        if !self.settings.traces {
            return Span::none();
        }
        let span = tracing::info_span!("request", method = %request.method(), request_id = id);
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&TraceHeaders(request.headers()))
        });
        // A parent that cannot be set leaves the span a root: nothing is lost but the link.
        let _ = span.set_parent(parent);
        span
    }
}

/// An answer, and what is known of the request by then.
struct Dispatched {
    response: Response<Body>,
    /// The pattern of the route that gave it.
    route: Option<Arc<str>>,
    /// The path as a log may have it, where the request's own would tell a token.
    shown_path: Option<String>,
}

fn text_of(path: &RequestPath) -> String {
    format!("/{}", path.segments().join("/"))
}

/// The path without the secrets of tokens of ours, wherever somebody put one.
fn masked(path: String) -> String {
    if !path.contains(TOKEN_PREFIX) {
        return path;
    }
    let segments = path.split('/').map(|segment| match segment.parse::<TokenText>() {
        Ok(token) => format!("{TOKEN_PREFIX}{}_…", token.id()),
        Err(_) => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// What the log says of a request, beside its outcome. The query is left out: secrets have been seen in some.
struct Seen {
    method: http::Method,
    path: String,
    client: Option<std::net::IpAddr>,
}

fn log(seen: &Seen, id: &str, status: StatusCode, length: Option<u64>, took: Duration) {
    tracing::info!(
        target: "granary::request",
        request_id = id,
        method = %seen.method,
        path = seen.path,
        status = status.as_u16(),
        bytes = length,
        client = seen.client.map(tracing::field::display),
        microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}

/// The id that a proxy gave the request, where it is fit for a log, or a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let fit = |text: &&str| {
        (8..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit) {
        Some(id) => id.into(),
        None => Arc::from(&*Uuid::now_v7().simple().encode_lower(&mut Uuid::encode_buffer())),
    }
}

/// A refusal of a request that has come to no protocol.
fn plain(refusal: &Refusal) -> Response<Body> {
    refusal.finish(respond::text(refusal.status, refusal.message.clone()))
}

struct TraceHeaders<'a>(&'a HeaderMap);

impl Extractor for TraceHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
