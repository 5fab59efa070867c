//! The client for S3: one for all buckets of a registry.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::{ProxyConfig, ProxyError};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpClientBuilder, Connector};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use secrecy::{ExposeSecret, SecretString};

/// Who the store takes us for.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A key from configuration.
    Static {
        /// The access key id.
        access_key_id: String,
        /// The secret access key.
        secret_access_key: SecretString,
        /// The session token of temporary credentials.
        session_token: Option<SecretString>,
    },
    /// What the environment gives: variables, web identity (a Kubernetes service account), a profile, the
    /// instance's metadata, in that order.
    Environment,
}

/// The proxy for connections over TLS. Plain HTTP never takes one.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// The URL of the proxy, with user and password if it wants them.
    pub https: Option<SecretString>,
    /// Hosts, domains and networks that are reached without it, separated by commas.
    pub no_proxy: String,
}

impl Proxy {
    /// What `HTTPS_PROXY` and `NO_PROXY` say (in lower case too, which goes first as in curl).
    pub fn from_environment() -> Self {
        let read = |lower: &str, upper: &str| {
            std::env::var(lower).or_else(|_| std::env::var(upper)).ok().filter(|value| !value.is_empty())
        };
        Self {
            https: read("https_proxy", "HTTPS_PROXY").map(SecretString::from),
            no_proxy: read("no_proxy", "NO_PROXY").unwrap_or_default(),
        }
    }
}

/// How long the store may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// Without a single byte of a body that is being read.
    pub idle: Duration,
    /// For one attempt: a request with its body, up to the head of the answer.
    pub attempt: Duration,
    /// How often an operation is tried in all.
    pub attempts: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            idle: Duration::from_secs(30),
            attempt: Duration::from_secs(90),
            attempts: 3,
        }
    }
}

/// How to reach an object store.
#[derive(Debug, Clone)]
pub struct ObjectStoreOptions {
    /// The URL of the store; absent means that of the region at AWS.
    pub endpoint: Option<String>,
    /// The URL under which clients of the registry reach the store: presigned URLs sign their host. Without
    /// it nothing is presigned.
    pub public_endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Who we are.
    pub credentials: Credentials,
    /// Whether the bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// A PEM file of certificate authorities that are trusted beside those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy.
    pub proxy: Proxy,
    /// The time limits.
    pub timeouts: Timeouts,
}

/// Why an [`ObjectStore`] cannot be set up: always a matter of its options.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not an `http` or `https` URL with a host.
    #[error("the object store endpoint `{0}` is not an http or https URL")]
    Endpoint(String),
    /// The bundle of certificate authorities cannot be read.
    #[error("the CA bundle {} cannot be read", path.display())]
    BundleUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bundle is no PEM file, or has no certificate in it.
    #[error("the CA bundle {} is not a PEM file of certificates", path.display())]
    BundleMalformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A certificate of the bundle cannot be an authority.
    #[error("the CA bundle {} holds a certificate that cannot be used", path.display())]
    BundleUnusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The proxy's URL is not one. It is not shown, as it may hold a password.
    #[error("the URL of the HTTPS proxy is not valid")]
    Proxy(#[source] ProxyError),
}

/// An object store: cheap to clone.
#[derive(Clone)]
pub struct ObjectStore(Arc<Inner>);

struct Inner {
    client: Client,
    /// Signs for the public endpoint; never sends.
    public: Option<Client>,
    region: String,
    at_aws: bool,
    idle: Duration,
    /// Cleared once the store has said that it knows no conditional writes.
    conditional_put: AtomicBool,
}

impl fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStore").field("region", &self.0.region).finish_non_exhaustive()
    }
}

impl ObjectStore {
    /// Sets up a client. Nothing is sent: a store that is down is no error here.
    pub async fn connect(options: ObjectStoreOptions) -> Result<Self, ConnectError> {
        if let Some(endpoint) = &options.endpoint {
            check_endpoint(endpoint)?;
        }
        if let Some(endpoint) = &options.public_endpoint {
            check_endpoint(endpoint)?;
        }
        let http = http_client(&options)?;
        let credentials = credentials(&options, &http).await;
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(options.region.clone()))
            .credentials_provider(credentials)
            .http_client(http)
            .force_path_style(options.path_style)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(options.timeouts.connect)
                    .operation_attempt_timeout(options.timeouts.attempt)
                    .build(),
            )
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(options.timeouts.attempts.max(1))
                    .with_initial_backoff(Duration::from_millis(100))
                    .with_max_backoff(Duration::from_secs(2)),
            )
            // Reads have an idle limit of their own, which counts only while somebody wants bytes.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // The CRC-32 trailers that are the default since 2025 break other vendors' stores; integrity is
            // by Content-MD5 on the way in and by SHA-256 on the way out.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);

        let client = |endpoint: Option<&String>| {
            let mut config = config.clone();
            config.set_endpoint_url(endpoint.cloned());
            Client::from_conf(config.build())
        };
        Ok(Self(Arc::new(Inner {
            client: client(options.endpoint.as_ref()),
            public: options.public_endpoint.as_ref().map(|endpoint| client(Some(endpoint))),
            at_aws: options.endpoint.is_none(),
            region: options.region,
            idle: options.timeouts.idle,
            conditional_put: AtomicBool::new(true),
        })))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn public_client(&self) -> Option<&Client> {
        self.0.public.as_ref()
    }

    /// The region to ask for when a bucket is made; AWS wants none named in its first region.
    pub(crate) fn location_constraint(&self) -> Option<&str> {
        Some(self.0.region.as_str()).filter(|region| self.0.at_aws && *region != "us-east-1")
    }

    pub(crate) fn idle(&self) -> Duration {
        self.0.idle
    }

    pub(crate) fn has_conditional_put(&self) -> bool {
        self.0.conditional_put.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_conditional_put(&self) {
        if self.0.conditional_put.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "the object store has no conditional writes; new objects rest on unique keys alone"
            );
        }
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), ConnectError> {
    let scheme_is_known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    match endpoint.parse::<Uri>() {
        Ok(uri) if scheme_is_known(&uri) && uri.host().is_some() => Ok(()),
        _ => Err(ConnectError::Endpoint(endpoint.to_owned())),
    }
}

async fn credentials(options: &ObjectStoreOptions, http: &SharedHttpClient) -> SharedCredentialsProvider {
    match &options.credentials {
        Credentials::Static { access_key_id, secret_access_key, session_token } => {
            SharedCredentialsProvider::new(AwsCredentials::new(
                access_key_id,
                secret_access_key.expose_secret(),
                session_token.as_ref().map(|token| token.expose_secret().to_owned()),
                None,
                "granary configuration",
            ))
        }
        Credentials::Environment => {
            let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
                .http_client(http.clone())
                .region(Region::new(options.region.clone()))
                .load()
                .await;
            config.credentials_provider().unwrap_or_else(|| {
                // The loader has a provider unless it was told to have none; an empty key is refused by any store.
                SharedCredentialsProvider::new(AwsCredentials::new("", "", None, None, "none"))
            })
        }
    }
}

fn http_client(options: &ObjectStoreOptions) -> Result<SharedHttpClient, ConnectError> {
    let tls = TlsContext::builder().with_trust_store(trust_store(options)?).build().unwrap_or_default();
    let proxy = match &options.proxy.https {
        Some(url) => ProxyConfig::https(url.expose_secret())
            .map_err(ConnectError::Proxy)?
            .no_proxy(&options.proxy.no_proxy),
        None => ProxyConfig::disabled(),
    };
    let plain = options.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
        && matches!(options.credentials, Credentials::Static { .. });
    if plain {
        // Without TLS the roots of the system need not be in memory.
        return Ok(HttpClientBuilder::new().build_http());
    }
    Ok(HttpClientBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls.clone()).build()
    }))
}

/// The roots of the system and those of the bundle, which is checked here: the HTTP client panics on a bad one.
fn trust_store(options: &ObjectStoreOptions) -> Result<TrustStore, ConnectError> {
    let store = TrustStore::default();
    let Some(path) = &options.ca_bundle else { return Ok(store) };
    let bundle = std::fs::read(path)
        .map_err(|source| ConnectError::BundleUnreadable { path: path.clone(), source })?;
    let malformed = |source| ConnectError::BundleMalformed { path: path.clone(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&bundle).collect::<Result<_, _>>().map_err(malformed)?;
    if certificates.is_empty() {
        return Err(malformed(pem::Error::NoItemsFound));
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|source| ConnectError::BundleUnusable { path: path.clone(), source })?;
    }
    Ok(store.with_pem_certificate(bundle))
}
