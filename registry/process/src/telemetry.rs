//! Logs on standard error, and traces over OTLP.

use std::io::IsTerminal;

use async_trait::async_trait;
use bytes::Bytes;
use granary_crds::{LogFormat, Telemetry};
use http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::failure::{Context, Failure};

/// Libraries that report as errors or news what is neither: `s3s` each answer that is not a success. What the
/// configuration says comes behind and wins. `tokio_postgres` would tell the values of every statement, among them what
/// somebody typed into the field of the user name by mistake: whoever wants that has to name it.
const QUIET: &str = "s3s=off,refinery_core=warn,tokio_postgres=info";

/// Keeps traces flowing; the last ones are sent when it is ended.
#[derive(Debug, Default)]
pub struct Tracing {
    provider: Option<SdkTracerProvider>,
}

impl Tracing {
    /// Whether spans are sent anywhere.
    pub fn is_on(&self) -> bool {
        self.provider.is_some()
    }

    /// Sends what has not been sent yet.
    pub fn finish(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Whether something goes to the collector: every span, but of what is told within them only what stands in logs as well.
/// Below that, libraries tell of values that nobody else should see.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() || *metadata.level() <= Level::INFO
}

/// Where the collector takes traces: at the path that the OTLP specification names, unless the URL has one.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { base.to_owned() } else { format!("{base}/v1/traces") }
}

/// Sends spans on our runtime: the exporter calls from a thread of its own, which has none.
#[derive(Debug)]
struct OtlpClient {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}

/// Sets up logs on standard error and, where an endpoint is named, traces over OTLP.
/// `service` is the name that traces carry.
pub fn start(
    service: &'static str,
    telemetry: &Telemetry,
    client: Option<reqwest::Client>,
) -> Result<Tracing, Failure> {
    let filter =
        EnvFilter::try_new(format!("{QUIET},{}", telemetry.log_filter)).context("telemetry.logFilter")?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match telemetry.log_format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Human => {
            lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).compact().boxed()
        }
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    let Some(endpoint) = &telemetry.otlp_endpoint else {
        registry.try_init().context("logs were set up twice")?;
        return Ok(Tracing::default());
    };
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let client = OtlpClient { client: client.unwrap_or_default(), runtime: Handle::current() };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_url(&endpoint.to_string()))
        .with_http_client(client)
        .build()
        .context("telemetry.otlpEndpoint")?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(service));
    registry.with(layer.with_filter(filter_fn(is_traced))).try_init().context("logs were set up twice")?;
    Ok(Tracing { provider: Some(provider) })
}
