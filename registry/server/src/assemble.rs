//! From a valid configuration to a store and the services on it.

use std::path::PathBuf;
use std::sync::Arc;

use granary_conda::{ApiOptions, Conda, SealingKeys};
use granary_core::{Format, SystemClock};
use granary_crds::{
    BucketNaming, ListenAddress as Address, ObjectStore as StoreConfig, Outbound, ValidRegistry,
};
use granary_http::credentials::Carrier;
use granary_http::front::{Front, FrontSettings};
use granary_http::index::IndexCache;
use granary_http::metrics::HttpMetrics;
use granary_http::pipeline::{PublicUrls, Services};
use granary_http::proxy::{ProxyHeaders, TrustedProxies};
use granary_http::rates::MonotonicClock;
use granary_http::{Hosts, ListenAddress, Mount, MountedChannel, RateLimits, Rates, StoredIndex, Table};
use granary_identity::{Authenticators, Identity, Passwords, Providers, Sources, Workloads};
use granary_process::{Context, Failure};
use granary_pypi::PyPi;
use granary_store::objects::{
    BlobCache, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers,
    Proxy, Timeouts, Uploads,
};
use granary_store::{Database, Migrations, Store};
use granary_upstream::Upstream;
use jiff::SignedDuration;

use crate::config;

/// All migrations, in the order in which they run.
pub const MIGRATIONS: [Migrations; 5] = [
    granary_store::MIGRATIONS,
    granary_upstream::MIGRATIONS,
    granary_identity::MIGRATIONS,
    granary_pypi::MIGRATIONS,
    granary_conda::MIGRATIONS,
];

/// Who may connect to a Unix socket that names no mode: its owner.
const PRIVATE_SOCKET: u32 = 0o600;
/// Hot blobs of at most 64 KiB that are kept in memory, in bytes together.
const SMALL_BLOBS_IN_MEMORY: u64 = 16 << 20;

/// A registry, ready to serve.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// Postgres and S3.
    pub store: Store,
    /// Who is who.
    pub identity: Identity,
    /// How buckets are named.
    pub naming: Arc<BucketNaming>,
    /// Python channels.
    pub pypi: Arc<PyPi>,
    /// conda channels.
    pub conda: Arc<Conda>,
}

/// Puts the store together; opens no connection.
pub async fn assemble(registry: &ValidRegistry) -> Result<Assembled, Failure> {
    assemble_with(registry, false).await
}

/// The same, and says whether anybody may be one of the users for trying things out.
pub async fn assemble_with(registry: &ValidRegistry, test_users: bool) -> Result<Assembled, Failure> {
    let database_config = config::database(registry)?;
    let database = Database::new(&config::database_options(database_config)?).context("the database")?;
    let store_config = object_store_config(registry)?;
    let objects = object_store(registry, store_config).await?;
    let buffers = PartBuffers::new(PartBufferOptions {
        count: u16::try_from(registry.limits.upload_buffers).unwrap_or(u16::MAX),
        ..PartBufferOptions::default()
    });
    let clock = Arc::new(SystemClock);
    let uploads = Uploads::new(objects.clone(), buffers, clock.clone());
    let cache = BlobCache::open(&CacheOptions {
        folder: match &registry.cache.dir {
            Some(folder) => folder.clone(),
            None if registry.cache.max_size == 0 => PathBuf::new(),
            None => own_cache_folder()?,
        },
        disk_bytes: registry.cache.max_size,
        memory_bytes: if registry.cache.max_size == 0 { 0 } else { SMALL_BLOBS_IN_MEMORY },
    })
    .context("the cache of files")?;
    let store = Store::new(database, objects, uploads, cache, clock.clone());
    let identity = Identity::new(&store, identity_sources(registry, clock)?);
    // One half for documents that are in memory whole, one for the parts of large ones.
    let memory = registry.cache.memory / 2;
    let index = IndexCache::new(store.revisions().clone(), memory);
    let naming = Arc::new(store_config.bucket_naming.clone());
    let api = ApiOptions {
        naming: Arc::clone(&naming),
        channel_makers: registry.conda_channel_makers.clone(),
        test_users,
    };
    let parts = StoredIndex::new(store.clone(), memory);
    let upstream = Upstream::new(store.clone(), upstream_client(&registry.outbound)?);
    let mut conda = Conda::new(store.clone(), parts, upstream).with_api(api);
    if let Some(keys) = &registry.sealing_keys {
        let keys = keys.load().context("sealing.keys")?.into_secret_string();
        conda = conda.with_sealing(SealingKeys::parse(&keys).context("sealing.keys")?);
    }
    Ok(Assembled {
        pypi: Arc::new(PyPi::new(store.clone(), index)),
        conda: Arc::new(conda),
        naming,
        store,
        identity,
    })
}

/// Whom to ask who somebody is. Asks nobody yet.
fn identity_sources(registry: &ValidRegistry, clock: Arc<SystemClock>) -> Result<Sources, Failure> {
    let identity = &registry.identity;
    let client = http_client(&registry.outbound)?;
    let passwords = Passwords::new(identity.passwords).context("identity.passwords")?;
    let authenticators = Authenticators::new(
        identity.authenticators.clone(),
        client.clone(),
        registry.outbound.ca_file.clone(),
        clock.clone(),
        &passwords,
    );
    Ok(Sources {
        admins: registry.admins.users.iter().cloned().collect(),
        passwords,
        authenticators: authenticators.context("identity.authenticators")?,
        workloads: Workloads::new(identity.issuers.clone(), client.clone(), clock.clone()),
        providers: Providers::new(identity.providers.clone(), client, clock),
        session_lifetime: identity.sessions.lifetime.try_into().unwrap_or(SignedDuration::MAX),
        logins: identity.logins,
        max_token_lifetime: identity.max_token_lifetime.and_then(|most| most.try_into().ok()),
    })
}

/// The client for all that is called but Postgres and the object store, with the same trust and proxies as they have.
pub fn http_client(outbound: &Outbound) -> Result<reqwest::Client, Failure> {
    // Nobody who is asked who somebody is may send us elsewhere.
    let client = client_builder(outbound)?.redirect(reqwest::redirect::Policy::none());
    client.build().context("the HTTP client")
}

/// The client for other registries.
fn upstream_client(outbound: &Outbound) -> Result<granary_upstream::Client, Failure> {
    let proxies = outbound.https_proxy.as_ref().map(|url| url.expose().to_owned());
    let environment = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let environment = environment.iter().filter_map(|name| std::env::var(name).ok());
    let host = |url: String| granary_upstream::Url::parse(&url).ok()?.host_str().map(str::to_owned);
    let hosts = proxies.into_iter().chain(environment).filter_map(host).collect();
    let (public, any) = (client_builder(outbound)?, client_builder(outbound)?);
    granary_upstream::Client::new(public, any, hosts).context("the client for other registries")
}

/// A client with the trust and the proxies that are configured.
fn client_builder(outbound: &Outbound) -> Result<reqwest::ClientBuilder, Failure> {
    let mut client = reqwest::Client::builder();
    if let Some(path) = &outbound.ca_file {
        let pem = std::fs::read(path).context("outbound.caFile")?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).context("outbound.caFile")? {
            client = client.add_root_certificate(certificate);
        }
    }
    if let Some(url) = &outbound.https_proxy {
        let direct = reqwest::NoProxy::from_string(&outbound.no_proxy.join(","));
        client = client
            .proxy(reqwest::Proxy::https(url.expose()).context("outbound.httpsProxy")?.no_proxy(direct));
    }
    Ok(client)
}

/// The object store, which `serve` needs.
pub fn object_store_config(registry: &ValidRegistry) -> Result<&StoreConfig, Failure> {
    registry.object_store.as_ref().ok_or_else(|| {
        Failure::new(
            "no object store is configured: set objectStore.endpoint, or GRANARY_OBJECT_STORE_ENDPOINT, \
             or use `granary dev`",
        )
    })
}

/// Connects to the object store.
pub async fn object_store(registry: &ValidRegistry, config: &StoreConfig) -> Result<ObjectStore, Failure> {
    let credentials = match &config.access_key {
        Some((id, secret)) => Credentials::Static {
            access_key_id: id.load().context("objectStore.accessKeyId")?.expose().to_owned(),
            secret_access_key: secret.load().context("objectStore.secretAccessKey")?.into_secret_string(),
            session_token: None,
        },
        None => Credentials::Environment,
    };
    let outbound = &registry.outbound;
    let proxy = match &outbound.https_proxy {
        Some(url) => {
            Proxy { https: Some(url.clone().into_secret_string()), no_proxy: outbound.no_proxy.join(",") }
        }
        None => Proxy::from_environment(),
    };
    ObjectStore::connect(ObjectStoreOptions {
        endpoint: config.endpoint.as_ref().map(ToString::to_string),
        public_endpoint: config.public_endpoint.as_ref().map(ToString::to_string),
        region: config.region.clone(),
        credentials,
        path_style: config.path_style,
        ca_bundle: outbound.ca_file.clone(),
        proxy,
        timeouts: Timeouts::default(),
    })
    .await
    .context("the object store")
}

/// A new folder that nobody else can have made: what stands in a cache is believed.
fn own_cache_folder() -> Result<PathBuf, Failure> {
    let folder =
        tempfile::Builder::new().prefix("granary-cache-").tempdir().context("a folder for the cache")?;
    Ok(folder.keep())
}

/// The front door with the routes of every protocol behind it.
pub fn front(
    registry: &ValidRegistry,
    assembled: &Assembled,
    metrics: HttpMetrics,
    traces: bool,
) -> Result<Front, Failure> {
    let Assembled { store, pypi, conda, .. } = assembled;
    let (single, segments) = (MountedChannel::Segments(1), MountedChannel::Segments(2));
    let account = || (Mount::new("", segments.clone()), granary_account::routes());
    let common = [
        account(),
        (Mount::new("/pypi", segments.clone()), pypi.protocol().into_routes()),
        (Mount::new("/conda", single.clone()), conda.protocol().into_routes()),
    ];
    let mut hosts = Hosts::new(Table::build(common).context("the route table")?);
    if let Some(host) = &registry.pypi_host {
        let own = [account(), (Mount::new("", segments.clone()), pypi.protocol().into_routes())];
        let own = Table::build(own).context("the route table of hosts.pypi")?;
        hosts = hosts.with_host(host.as_str(), own).context("hosts.pypi")?;
    }
    if let Some(host) = &registry.conda_host {
        let own = [account(), (Mount::new("", single), conda.protocol().into_routes())];
        let own = Table::build(own).context("the route table of hosts.conda")?;
        hosts = hosts.with_host(host.as_str(), own).context("hosts.conda")?;
    }
    let services = Services {
        store: store.clone(),
        identity: assembled.identity.clone(),
        max_upload_size: registry.limits.max_upload_size,
        public_urls: Arc::new(public_urls(registry)),
        rates: RateLimits::new(
            Rates {
                per_caller: registry.limits.requests_per_caller,
                per_address: registry.limits.requests_per_address,
            },
            &MonotonicClock,
        ),
    };
    let trusted = registry.trusted_proxies.clone();
    let settings = FrontSettings {
        proxies: TrustedProxies::new(ProxyHeaders::Either, move |ip| {
            trusted.iter().any(|cidr| cidr.contains(ip))
        }),
        body_idle: registry.limits.request_timeout,
        traces,
    };
    let carriers: Vec<Carrier> = vec![granary_conda::token_in_path];
    Ok(Front::new(hosts, services, carriers, metrics, settings))
}

/// How clients know the registry. A host of a protocol's own is reached as the common one is, and securely where nothing
/// is said of that.
fn public_urls(registry: &ValidRegistry) -> PublicUrls {
    let scheme = match &registry.public_url {
        Some(url) if !url.is_https() => "http",
        _ => "https",
    };
    let hosts = [(Format::PyPi, &registry.pypi_host), (Format::Conda, &registry.conda_host)];
    let own = hosts
        .into_iter()
        .filter_map(|(format, host)| Some((format, format!("{scheme}://{}", host.as_ref()?))));
    PublicUrls { common: registry.public_url.as_ref().map(ToString::to_string), own: own.collect() }
}

/// The address as the HTTP room knows it.
pub fn listen_address(address: &Address) -> ListenAddress {
    match address {
        Address::Tcp(address) => ListenAddress::Tcp(*address),
        Address::Unix { path, mode } => {
            ListenAddress::Unix { path: path.clone(), mode: mode.unwrap_or(PRIVATE_SOCKET) }
        }
    }
}
