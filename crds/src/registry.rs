//! The `PackageRegistry` resource as somebody writes it, which is also the server's config file.
//!
//! The doc comments of the fields are the option reference: `docs/configuration.md` and `--help` are made from them.

use std::path::PathBuf;
use std::time::Duration;

use granary_core::SubjectName;
use serde::{Deserialize, Serialize};

use crate::options::settings;
use crate::secret::Secret;
use crate::value::{ByteSize, Cidr, HttpUrl, ListenAddress, Raw, SchemaName};

settings! {
    /// What a registry should be.
    pub struct PackageRegistrySpec {
        /// The addresses to serve on: `IP:PORT`, `[IPV6]:PORT`, `unix:/PATH` or `unix:/PATH?mode=660` (octal).
        pub listen: Vec<Raw<ListenAddress>> = vec![Raw::new("0.0.0.0:8080")],
        /// The address of `/livez`, `/readyz` and `/metrics`.
        pub management_listen: Raw<ListenAddress> = Raw::new("0.0.0.0:9090"),
        /// The URL that clients know the registry by, with the path it is mounted at. When absent, each request's own
        /// host is used (and what a trusted proxy says about it).
        pub public_url: Option<Raw<HttpUrl>> = None,
        /// How long the bytes of a deleted file are kept, so that a database restored from a backup of that age finds them.
        pub backup_retention: Raw<Duration> = Raw::new("7d"),
        /// The Postgres that holds everything but the files.
        pub database: Option<DatabaseSpec> = None,
        /// The S3 store that holds the files.
        pub object_store: Option<ObjectStoreSpec> = None,
        /// The proxies before the server.
        pub proxy: ProxySpec = ProxySpec::default(),
        /// Connections that the server opens itself.
        pub outbound: OutboundSpec = OutboundSpec::default(),
        /// What a request may cost.
        pub limits: LimitsSpec = LimitsSpec::default(),
        /// What is kept near.
        pub cache: CacheSpec = CacheSpec::default(),
        /// Who may do everything.
        pub admins: AdminsSpec = AdminsSpec::default(),
        /// Logs and traces.
        pub telemetry: TelemetrySpec = TelemetrySpec::default(),
        /// What runs by itself.
        pub jobs: JobsSpec = JobsSpec::default(),
    }
}

settings! {
    /// The Postgres that holds everything but the files.
    pub struct DatabaseSpec {
        /// The connection string: `postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=require`. May lead through a pooler in
        /// transaction mode.
        pub url: Option<Secret> = None,
        /// A file that holds the connection string.
        pub url_file: Option<PathBuf> = None,
        /// The connection string for migrations, past any pooler; the other one when absent.
        pub direct_url: Option<Secret> = None,
        /// A file that holds the connection string for migrations.
        pub direct_url_file: Option<PathBuf> = None,
        /// The schema that holds the tables; never `public`.
        pub schema: Raw<SchemaName> = Raw::new("granary"),
        /// The most connections of one process.
        pub max_connections: u32 = 16,
        /// A PEM file with the certificate authorities that may sign the server's certificate, beside the system's.
        pub ca_file: Option<PathBuf> = None,
        /// A PEM file with the client's certificate.
        pub client_cert_file: Option<PathBuf> = None,
        /// A PEM file with the client certificate's key.
        pub client_key_file: Option<PathBuf> = None,
    }
}

settings! {
    /// The S3 store that holds the files.
    pub struct ObjectStoreSpec {
        /// The store's URL; that of AWS in the region when absent.
        pub endpoint: Option<Raw<HttpUrl>> = None,
        /// The store's URL as clients reach it. Channels with `downloads.redirect` need it: a presigned URL signs its host.
        pub public_endpoint: Option<Raw<HttpUrl>> = None,
        /// The region.
        pub region: String = "us-east-1".to_owned(),
        /// What the name of every bucket begins with. Prefix and suffix have at most 32 characters together.
        pub bucket_prefix: String = "granary-".to_owned(),
        /// What the name of every bucket ends with.
        pub bucket_suffix: String = String::new(),
        /// The access key's id. With no keys at all, the process's own identity is used (environment, web identity, instance).
        pub access_key_id: Option<Secret> = None,
        /// A file that holds the access key's id.
        pub access_key_id_file: Option<PathBuf> = None,
        /// The access key.
        pub secret_access_key: Option<Secret> = None,
        /// A file that holds the access key.
        pub secret_access_key_file: Option<PathBuf> = None,
        /// Whether buckets stand in the path of a URL rather than in its host name. Most stores other than AWS need it.
        pub path_style: bool = true,
    }
}

settings! {
    /// The proxies before the server.
    pub struct ProxySpec {
        /// Networks whose `Forwarded` and `X-Forwarded-*` headers are believed: that of the ingress. Nobody's when empty.
        pub trusted: Vec<Raw<Cidr>> = Vec::new(),
    }
}

settings! {
    /// Connections that the server opens itself, but for Postgres.
    pub struct OutboundSpec {
        /// A PEM file with certificate authorities to trust beside the system's.
        pub ca_file: Option<PathBuf> = None,
        /// The proxy to go through: `http://HOST:PORT`, with user and password if it wants them.
        pub https_proxy: Option<Secret> = None,
        /// Hosts and networks to reach directly: `store`, `.internal.example`, `10.0.0.0/8`.
        pub no_proxy: Vec<String> = Vec::new(),
    }
}

settings! {
    /// What a request may cost.
    pub struct LimitsSpec {
        /// The largest upload, for channels that set no limit of their own.
        pub max_upload_size: Raw<ByteSize> = Raw::new("1Gi"),
        /// How long a request's body, or a client that reads an answer, may stand still.
        pub request_timeout: Raw<Duration> = Raw::new("30s"),
        /// How long a client may take to send a request's headers.
        pub header_timeout: Raw<Duration> = Raw::new("10s"),
        /// The most connections at a time; more of them wait to be accepted.
        pub max_connections: u32 = 10_000,
        /// How long open requests may go on after SIGTERM. Less than the pod's grace period.
        pub drain_timeout: Raw<Duration> = Raw::new("25s"),
        /// How many part buffers of 8 MiB all uploads share. With more uploads than buffers, uploads wait.
        pub upload_buffers: u32 = 8,
    }
}

settings! {
    /// What is kept near.
    pub struct CacheSpec {
        /// The folder that files are cached in; a folder of the process's own when absent. Its contents may vanish at any time.
        pub dir: Option<PathBuf> = None,
        /// How much of the folder may be filled; 0 turns the cache off.
        pub max_size: Raw<ByteSize> = Raw::new("1Gi"),
        /// How much memory index documents may take.
        pub memory: Raw<ByteSize> = Raw::new("64Mi"),
    }
}

settings! {
    /// Who may do everything.
    pub struct AdminsSpec {
        /// The account that is made when the registry has no account yet.
        pub initial: Option<InitialAdminSpec> = None,
        /// The names of further accounts that are admins.
        pub users: Vec<Raw<SubjectName>> = Vec::new(),
    }
}

settings! {
    /// The account that is made when the registry has no account yet.
    pub struct InitialAdminSpec {
        /// The account's name.
        pub name: Raw<SubjectName> = Raw::new("admin"),
        /// A file that holds the password.
        pub password_file: Option<PathBuf> = None,
        /// The password's argon2 hash (`$argon2id$…`).
        pub password_hash: Option<Secret> = None,
    }
}

settings! {
    /// Logs and traces.
    pub struct TelemetrySpec {
        /// How a line of the log is written.
        pub log_format: LogFormat = LogFormat::Json,
        /// What is logged: a level, or levels by module (`info,granary_store=debug`).
        pub log_filter: String = "info".to_owned(),
        /// The OTLP collector that traces are sent to over HTTP (`http://collector:4318`); none are sent when absent.
        pub otlp_endpoint: Option<Raw<HttpUrl>> = None,
    }
}

settings! {
    /// What runs by itself.
    pub struct JobsSpec {
        /// How often files that nothing refers to are looked for.
        pub collect_every: Raw<Duration> = Raw::new("1h"),
        /// How often stored files are read again and compared with their digests.
        pub scrub_every: Raw<Duration> = Raw::new("24h"),
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Human,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Json, Self::Human];

    /// The name in the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Human => "human",
        }
    }
}
