//! Validation of a `PackageRegistry`, as far as the server reads it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use granary_core::{Subject, SubjectName};

use super::identity::Identity;
use crate::bucket::{BucketNaming, BucketNamingError};
use crate::problem::{Problem, Problems};
use crate::registry::{
    AdminsSpec, CacheSpec, DatabaseSpec, InitialAdminSpec, JobsSpec, LimitsSpec, LogFormat, ObjectStoreSpec,
    OutboundSpec, PackageRegistrySpec, SealingSpec, TelemetrySpec,
};
use crate::secret::{Secret, SecretSource};
use crate::value::{ByteSize, Cidr, HostName, HttpUrl, ListenAddress, Raw, SchemaName};

/// A registry whose spec holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidRegistry {
    /// Postgres; none when the spec names none (the operator then provides one, `dev` starts one).
    pub database: Option<Database>,
    /// The object store; none when the spec names none.
    pub object_store: Option<ObjectStore>,
    /// Where to serve; at least one.
    pub listen: Vec<ListenAddress>,
    /// Where to serve `/livez`, `/readyz` and `/metrics`.
    pub management_listen: ListenAddress,
    /// The URL that clients know the registry by.
    pub public_url: Option<HttpUrl>,
    /// The host that `pypi` channels have to themselves.
    pub pypi_host: Option<HostName>,
    /// The host that `conda` channels have to themselves.
    pub conda_host: Option<HostName>,
    /// Who may make `conda` channels through their API, beside admins.
    pub conda_channel_makers: Vec<Subject>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Connections that the server opens itself.
    pub outbound: Outbound,
    /// What a request may cost.
    pub limits: Limits,
    /// What is kept near.
    pub cache: Cache,
    /// How long the bytes of a deleted file are kept.
    pub backup_retention: Duration,
    /// Who may do everything.
    pub admins: Admins,
    /// Who people and workloads are.
    pub identity: Identity,
    /// The keys that secrets are encrypted with; none where no secret can be kept.
    pub sealing_keys: Option<SecretSource>,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// What runs by itself.
    pub jobs: Jobs,
}

/// How to reach Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The connection string.
    pub url: SecretSource,
    /// The connection string past any pooler, where it differs.
    pub direct_url: Option<SecretSource>,
    /// The schema of the tables.
    pub schema: SchemaName,
    /// The most connections of one process.
    pub max_connections: u32,
    /// Certificate authorities beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl Database {
    /// The connection string for migrations.
    pub fn migration_url(&self) -> &SecretSource {
        self.direct_url.as_ref().unwrap_or(&self.url)
    }
}

/// How to reach the object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStore {
    /// The store; AWS in the region when none.
    pub endpoint: Option<HttpUrl>,
    /// The store as clients reach it; without it nothing is redirected.
    pub public_endpoint: Option<HttpUrl>,
    /// The region.
    pub region: String,
    /// How buckets are named.
    pub bucket_naming: BucketNaming,
    /// The id and the key; the process's own identity when none.
    pub access_key: Option<(SecretSource, SecretSource)>,
    /// Whether buckets stand in the path of a URL.
    pub path_style: bool,
}

/// Connections that the server opens itself, but for Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Certificate authorities beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy to go through; an `http` URL that may hold a password.
    pub https_proxy: Option<Secret>,
    /// Hosts and networks to reach directly.
    pub no_proxy: Vec<String>,
}

/// What a request may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest upload in bytes, for channels that set no limit of their own.
    pub max_upload_size: u64,
    /// How long a body may stand still.
    pub request_timeout: Duration,
    /// How long the headers of a request may take.
    pub header_timeout: Duration,
    /// The most connections at a time.
    pub max_connections: u32,
    /// How long open requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// The part buffers that all uploads share.
    pub upload_buffers: u32,
    /// The most requests a second of one caller with a credential.
    pub requests_per_caller: Option<NonZeroU32>,
    /// The most requests a second from one address without one.
    pub requests_per_address: Option<NonZeroU32>,
}

/// What is kept near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The folder; the process's own when none.
    pub dir: Option<PathBuf>,
    /// How many bytes of files; 0 is no cache.
    pub max_size: u64,
    /// How many bytes of index documents in memory.
    pub memory: u64,
}

/// Who may do everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admins {
    /// The account to make when there is none.
    pub initial: Option<InitialAdmin>,
    /// Further accounts.
    pub users: Vec<SubjectName>,
}

/// The account to make when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialAdmin {
    /// Its name.
    pub name: SubjectName,
    /// Its password.
    pub password: PasswordSource,
}

/// A password that somebody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// It stands in a file.
    File(PathBuf),
    /// Only its argon2 hash is known.
    Hash(Secret),
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// How a line is written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// Where traces go.
    pub otlp_endpoint: Option<HttpUrl>,
}

/// What runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// How often to look for files that nothing refers to.
    pub collect_every: Duration,
    /// How often to compare stored files with their digests.
    pub scrub_every: Duration,
}

/// Validates a registry. Files that the spec names are not opened.
pub fn validate_registry(spec: &PackageRegistrySpec) -> Result<ValidRegistry, Vec<Problem>> {
    let problems = &mut Problems::default();
    let valid = registry(problems, spec);
    std::mem::take(problems).finish(valid)
}

/// Reads every part before it gives up on any, so that all problems are found.
fn registry(problems: &mut Problems, spec: &PackageRegistrySpec) -> Option<ValidRegistry> {
    let database = absent_or(spec.database.as_ref(), |spec| database(problems, spec));
    let object_store = absent_or(spec.object_store.as_ref(), |spec| object_store(problems, spec));
    let listen = problems.read_list("spec.listen", &spec.listen);
    if spec.listen.is_empty() {
        problems.add("spec.listen", "name at least one address");
    }
    let management_listen = problems.read("spec.managementListen", &spec.management_listen);
    let public_url = problems.read_optional("spec.publicUrl", spec.public_url.as_ref());
    let pypi_host = problems.read_optional("spec.hosts.pypi.host", spec.hosts.pypi.host.as_ref());
    let conda_host = problems.read_optional("spec.hosts.conda.host", spec.hosts.conda.host.as_ref());
    if let (Some(Some(pypi)), Some(Some(conda))) = (&pypi_host, &conda_host)
        && pypi == conda
    {
        problems.add("spec.hosts.conda.host", "this is hosts.pypi.host too; name another, or leave one out");
    }
    let allowed = &spec.conda.channels_by_api.allowed;
    let conda_channel_makers = problems.read_list("spec.conda.channelsByApi.allowed", allowed);
    let trusted_proxies = problems.read_list("spec.proxy.trusted", &spec.proxy.trusted);
    let outbound = outbound(problems, &spec.outbound);
    let limits = limits(problems, &spec.limits);
    let cache = cache(problems, &spec.cache);
    let backup_retention = problems.read("spec.backupRetention", &spec.backup_retention);
    let admins = admins(problems, &spec.admins);
    let identity = super::identity::identity(problems, &spec.identity);
    let sealing_keys = sealing_keys(problems, &spec.sealing);
    let telemetry = telemetry(problems, &spec.telemetry);
    let jobs = jobs(problems, &spec.jobs);
    Some(ValidRegistry {
        database: database?,
        object_store: object_store?,
        listen,
        management_listen: management_listen?,
        public_url: public_url?,
        pypi_host: pypi_host?,
        conda_host: conda_host?,
        conda_channel_makers,
        trusted_proxies,
        outbound,
        limits: limits?,
        cache: cache?,
        backup_retention: backup_retention?,
        admins: admins?,
        identity: identity?,
        sealing_keys,
        telemetry: telemetry?,
        jobs: jobs?,
    })
}

/// A part that may be absent: absent is well, unreadable is not.
#[expect(clippy::option_option, reason = "a part that is absent is read well")]
fn absent_or<S, T>(spec: Option<&S>, read: impl FnOnce(&S) -> Option<T>) -> Option<Option<T>> {
    match spec {
        None => Some(None),
        Some(spec) => read(spec).map(Some),
    }
}

/// A secret that stands in the spec or in a file, not in both.
fn secret(
    problems: &mut Problems,
    path: &str,
    inline: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Option<SecretSource> {
    match (inline, file) {
        (None, None) => None,
        (Some(secret), None) => Some(SecretSource::Inline(secret.clone())),
        (None, Some(file)) => Some(SecretSource::File(file.clone())),
        (Some(_), Some(_)) => {
            let name = path.rsplit('.').next().unwrap_or(path);
            problems.add(path, format!("both {name} and {name}File are set; keep one of them"));
            None
        }
    }
}

pub(super) fn at_least_one(problems: &mut Problems, path: &str, number: u32) {
    if number == 0 {
        problems.add(path, "write a number of at least 1");
    }
}

fn database(problems: &mut Problems, spec: &DatabaseSpec) -> Option<Database> {
    let urls = [
        ("spec.database.url", spec.url.as_ref(), spec.url_file.as_ref()),
        ("spec.database.directUrl", spec.direct_url.as_ref(), spec.direct_url_file.as_ref()),
    ];
    let [url, direct_url] = urls.map(|(path, inline, file)| {
        let scheme =
            |url: &Secret| ["postgresql://", "postgres://"].iter().any(|s| url.expose().starts_with(s));
        if inline.is_some_and(|url| !scheme(url)) {
            problems.add(path, "write postgresql://USER:PASSWORD@HOST/DATABASE");
        }
        secret(problems, path, inline, file)
    });
    if spec.url.is_none() && spec.url_file.is_none() {
        let message = if spec.secret_ref.is_some() {
            "set url or urlFile: only the operator reads Secrets of Kubernetes"
        } else {
            "set url or urlFile"
        };
        problems.add("spec.database.url", message);
    }
    let schema = problems.read("spec.database.schema", &spec.schema);
    at_least_one(problems, "spec.database.maxConnections", spec.max_connections);
    let client_certificate = match (&spec.client_cert_file, &spec.client_key_file) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => {
            problems.add("spec.database.clientKeyFile", "set the key that belongs to clientCertFile");
            None
        }
        (None, Some(_)) => {
            problems.add("spec.database.clientCertFile", "set the certificate that belongs to clientKeyFile");
            None
        }
    };
    Some(Database {
        url: url?,
        direct_url,
        schema: schema?,
        max_connections: spec.max_connections,
        ca_file: spec.ca_file.clone(),
        client_certificate,
    })
}

fn object_store(problems: &mut Problems, spec: &ObjectStoreSpec) -> Option<ObjectStore> {
    let endpoint = problems.read_optional("spec.objectStore.endpoint", spec.endpoint.as_ref());
    let public_endpoint =
        problems.read_optional("spec.objectStore.publicEndpoint", spec.public_endpoint.as_ref());
    if spec.region.is_empty() {
        problems.add("spec.objectStore.region", "name a region; stores that know none take us-east-1");
    }
    let naming = BucketNaming::new(&spec.bucket_prefix, &spec.bucket_suffix)
        .map_err(|error| {
            let field = if error == BucketNamingError::Suffix { "bucketSuffix" } else { "bucketPrefix" };
            problems.add(format!("spec.objectStore.{field}"), error.to_string());
        })
        .ok();
    let id_path = "spec.objectStore.accessKeyId";
    let key_path = "spec.objectStore.secretAccessKey";
    let id = secret(problems, id_path, spec.access_key_id.as_ref(), spec.access_key_id_file.as_ref());
    let key =
        secret(problems, key_path, spec.secret_access_key.as_ref(), spec.secret_access_key_file.as_ref());
    let id_given = spec.access_key_id.is_some() || spec.access_key_id_file.is_some();
    let key_given = spec.secret_access_key.is_some() || spec.secret_access_key_file.is_some();
    if spec.secret_ref.is_some() && !id_given && !key_given {
        problems.add(
            "spec.objectStore.secretRef",
            "only the operator reads Secrets of Kubernetes; set accessKeyIdFile and secretAccessKeyFile",
        );
    }
    if id_given != key_given {
        let path = if id_given { key_path } else { id_path };
        problems.add(path, "accessKeyId and secretAccessKey go together; set both or neither");
    }
    Some(ObjectStore {
        endpoint: endpoint?,
        public_endpoint: public_endpoint?,
        region: spec.region.clone(),
        bucket_naming: naming?,
        access_key: id.zip(key),
        path_style: spec.path_style,
    })
}

fn outbound(problems: &mut Problems, spec: &OutboundSpec) -> Outbound {
    let is_proxy = |proxy: &Secret| {
        let uri = proxy.expose().parse::<http::Uri>().ok();
        uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
    };
    if spec.https_proxy.as_ref().is_some_and(|proxy| !is_proxy(proxy)) {
        problems.add("spec.outbound.httpsProxy", "write a URL such as http://proxy.example:3128");
    }
    Outbound {
        ca_file: spec.ca_file.clone(),
        https_proxy: spec.https_proxy.clone(),
        no_proxy: spec.no_proxy.clone(),
    }
}

/// A span of time that is not zero.
pub(super) fn positive(problems: &mut Problems, path: &str, raw: &Raw<Duration>) -> Option<Duration> {
    let span = problems.read(path, raw)?;
    if span.is_zero() {
        problems.add(path, "write a span of time that is longer than nothing");
    }
    Some(span)
}

fn limits(problems: &mut Problems, spec: &LimitsSpec) -> Option<Limits> {
    let max_upload_size = problems.read("spec.limits.maxUploadSize", &spec.max_upload_size);
    if max_upload_size == Some(ByteSize::new(0)) {
        problems.add("spec.limits.maxUploadSize", "a limit of 0 lets nothing in; write a size such as 1Gi");
    }
    let request_timeout = positive(problems, "spec.limits.requestTimeout", &spec.request_timeout);
    let header_timeout = positive(problems, "spec.limits.headerTimeout", &spec.header_timeout);
    at_least_one(problems, "spec.limits.maxConnections", spec.max_connections);
    let drain_timeout = problems.read("spec.limits.drainTimeout", &spec.drain_timeout);
    at_least_one(problems, "spec.limits.uploadBuffers", spec.upload_buffers);
    Some(Limits {
        max_upload_size: max_upload_size?.bytes(),
        request_timeout: request_timeout?,
        header_timeout: header_timeout?,
        max_connections: spec.max_connections,
        drain_timeout: drain_timeout?,
        upload_buffers: spec.upload_buffers,
        requests_per_caller: NonZeroU32::new(spec.requests_per_caller),
        requests_per_address: NonZeroU32::new(spec.requests_per_address),
    })
}

fn cache(problems: &mut Problems, spec: &CacheSpec) -> Option<Cache> {
    let max_size = problems.read("spec.cache.maxSize", &spec.max_size);
    let memory = problems.read("spec.cache.memory", &spec.memory);
    Some(Cache { dir: spec.dir.clone(), max_size: max_size?.bytes(), memory: memory?.bytes() })
}

fn admins(problems: &mut Problems, spec: &AdminsSpec) -> Option<Admins> {
    let initial = absent_or(spec.initial.as_ref(), |spec| initial_admin(problems, spec));
    let users = problems.read_list("spec.admins.users", &spec.users);
    Some(Admins { initial: initial?, users })
}

fn initial_admin(problems: &mut Problems, spec: &InitialAdminSpec) -> Option<InitialAdmin> {
    let name = problems.read("spec.admins.initial.name", &spec.name);
    let password = match (&spec.password_file, &spec.password_hash) {
        (Some(file), None) => Some(PasswordSource::File(file.clone())),
        (None, Some(hash)) => {
            if !hash.expose().starts_with("$argon2") {
                problems.add(
                    "spec.admins.initial.passwordHash",
                    "write an argon2 hash, beginning with $argon2id$",
                );
            }
            Some(PasswordSource::Hash(hash.clone()))
        }
        _ => {
            problems.add("spec.admins.initial", "set passwordFile or passwordHash, one of the two");
            None
        }
    };
    Some(InitialAdmin { name: name?, password: password? })
}

/// Whether the keys are good is seen when they are loaded.
fn sealing_keys(problems: &mut Problems, spec: &SealingSpec) -> Option<SecretSource> {
    let path = "spec.sealing.keys";
    if spec.secret_ref.is_some() && spec.keys.is_none() && spec.keys_file.is_none() {
        problems.add("spec.sealing.secretRef", "only the operator reads Secrets of Kubernetes; set keysFile");
    }
    secret(problems, path, spec.keys.as_ref(), spec.keys_file.as_ref())
}

fn telemetry(problems: &mut Problems, spec: &TelemetrySpec) -> Option<Telemetry> {
    let otlp_endpoint = problems.read_optional("spec.telemetry.otlpEndpoint", spec.otlp_endpoint.as_ref());
    Some(Telemetry {
        log_format: spec.log_format,
        log_filter: spec.log_filter.clone(),
        otlp_endpoint: otlp_endpoint?,
    })
}

fn jobs(problems: &mut Problems, spec: &JobsSpec) -> Option<Jobs> {
    let collect_every = positive(problems, "spec.jobs.collectEvery", &spec.collect_every);
    let scrub_every = positive(problems, "spec.jobs.scrubEvery", &spec.scrub_every);
    Some(Jobs { collect_every: collect_every?, scrub_every: scrub_every? })
}
