//! The `PackageRegistry` resource as somebody writes it, which is also the server's config file.
//!
//! The doc comments of the fields are the option reference: `docs/configuration.md` and `--help` are made from them.

use std::path::PathBuf;
use std::time::Duration;

use granary_core::{Subject, SubjectName};
use serde::{Deserialize, Serialize};

use crate::deployment::{
    AllowedNamespaces, Autoscaling, CertificateRef, GatewaySpec, IngressSpec, LocalReference, MonitoringSpec,
    NetworkPolicySpec, PodSpec, PullPolicy, SecretKeyRef, StorageSpec, TlsSpec,
};
use crate::identity::IdentitySpec;
use crate::options::settings;
use crate::secret::Secret;
use crate::value::{ByteSize, Cidr, HostName, HttpUrl, ListenAddress, Raw, SchemaName};

settings! {
    /// What a registry should be.
    #[cfg_attr(feature = "kubernetes", derive(kube::CustomResource))]
    #[cfg_attr(
        feature = "kubernetes",
        kube(
            group = "granary.dev",
            version = "v1alpha1",
            kind = "PackageRegistry",
            root = "RegistryObject",
            plural = "packageregistries",
            shortname = "pkgreg",
            category = "granary",
            namespaced,
            status = "crate::status::RegistryStatus",
            derive = "PartialEq",
            doc = "A registry: pods that serve channels, with their database, object store and way in.",
            printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
            printcolumn = r#"{"name":"Channels","type":"integer","jsonPath":".status.channels"}"#,
            printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".status.pods"}"#,
            printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
            printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
            printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
        )
    )]
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::registry_rules))]
    pub struct PackageRegistrySpec {
        /// The addresses to serve on: `IP:PORT`, `[IPV6]:PORT`, `unix:/PATH` or `unix:/PATH?mode=660` (octal).
        #[schemars(skip)]
        pub listen: Vec<Raw<ListenAddress>> = vec![Raw::new("0.0.0.0:8080")],
        /// The address of `/livez`, `/readyz` and `/metrics`.
        #[schemars(skip)]
        pub management_listen: Raw<ListenAddress> = Raw::new("0.0.0.0:9090"),
        /// The URL that clients know the registry by, with the path it is mounted at. When absent, each request's own
        /// host is used (and what a trusted proxy says about it).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub public_url: Option<Raw<HttpUrl>> = None,
        /// How long the bytes of a deleted file are kept, so that a database restored from a backup of that age finds them.
        pub backup_retention: Raw<Duration> = Raw::new("7d"),
        /// The Postgres that holds everything but the files.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub database: Option<DatabaseSpec> = None,
        /// The S3 store that holds the files.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub object_store: Option<ObjectStoreSpec> = None,
        /// Protocols that have a host of their own.
        pub hosts: HostsSpec = HostsSpec::default(),
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
        /// Who people and workloads are.
        pub identity: IdentitySpec = IdentitySpec::default(),
        /// The keys that secrets are encrypted with before Postgres gets them.
        pub sealing: SealingSpec = SealingSpec::default(),
        /// Logs and traces.
        pub telemetry: TelemetrySpec = TelemetrySpec::default(),
        /// What runs by itself.
        pub jobs: JobsSpec = JobsSpec::default(),
        /// What concerns all `conda` channels.
        pub conda: CondaSpec = CondaSpec::default(),
    }
    kubernetes {
        /// While true, the operator writes nothing: neither to Kubernetes (but for the status) nor to Postgres nor to buckets.
        pub paused: bool = false,
        /// The image of the pods; the operator's own when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image: Option<String> = None,
        /// When the image is pulled.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_pull_policy: Option<PullPolicy> = None,
        /// Secrets to pull the image with.
        pub image_pull_secrets: Vec<LocalReference> = Vec::new(),
        /// How many pods serve. Left to the autoscaler where `autoscaling` is given.
        #[schemars(range(min = 0, max = 1000))]
        pub replicas: i32 = 2,
        /// Lets the number of pods follow their load.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub autoscaling: Option<Autoscaling> = None,
        /// The host of all protocols, each below its own path: `/pypi`, `/conan`, `/conda`, `/quilt`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub host: Option<Raw<HostName>> = None,
        /// The Ingress that leads to the pods. Made when a host is given and `gateway` is not.
        pub ingress: IngressSpec = IngressSpec::default(),
        /// A Gateway to attach to, by an HTTPRoute in place of an Ingress.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub gateway: Option<GatewaySpec> = None,
        /// The certificate of the hosts.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tls: Option<TlsSpec> = None,
        /// The volume of the store that the operator runs itself when neither `database` nor `objectStore` is given.
        pub storage: StorageSpec = StorageSpec::default(),
        /// How the pods are made and where they run.
        pub pod: PodSpec = PodSpec::default(),
        /// Who may reach the pods.
        pub network_policy: NetworkPolicySpec = NetworkPolicySpec::default(),
        /// The ServiceMonitor of the pods, made where the cluster knows that kind.
        pub monitoring: MonitoringSpec = MonitoringSpec::default(),
        /// Other namespaces whose channels may name this registry. Channels of its own namespace always may.
        pub allowed_namespaces: AllowedNamespaces = AllowedNamespaces::default(),
    }
}

settings! {
    /// Protocols that have a host of their own, with their channels below its root.
    pub struct HostsSpec {
        /// The host of all `pypi` channels, as devpi has them: `https://HOST/USER/INDEX/`.
        pub pypi: ProtocolHostSpec = ProtocolHostSpec::default(),
        /// The host of all `conda` channels, as Quetz has them: `https://HOST/get/CHANNEL/`, with its API beside them.
        pub conda: ProtocolHostSpec = ProtocolHostSpec::default(),
    }
}

settings! {
    /// What concerns all `conda` channels.
    pub struct CondaSpec {
        /// Channels that are made by `POST /api/channels`, as Quetz has it, beside those that objects describe.
        pub channels_by_api: ChannelsByApiSpec = ChannelsByApiSpec::default(),
    }
}

settings! {
    /// Channels that are made through an API.
    pub struct ChannelsByApiSpec {
        /// Who may make channels, beside admins and whoever has a server role: subjects as permissions name them, such as
        /// `group:builders` or `authenticated`. Who makes a channel owns it.
        #[schemars(length(max = 500))]
        pub allowed: Vec<Raw<Subject>> = Vec::new(),
    }
}

settings! {
    /// The host of one protocol.
    pub struct ProtocolHostSpec {
        /// The host's name. Without one, the protocol is served below its path of every host.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub host: Option<Raw<HostName>> = None,
    }
}

settings! {
    /// The Postgres that holds everything but the files.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::database_rules))]
    pub struct DatabaseSpec {
        /// The connection string: `postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=require`. May lead through a pooler in
        /// transaction mode.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub url: Option<Secret> = None,
        /// A file that holds the connection string.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub url_file: Option<PathBuf> = None,
        /// The connection string for migrations, past any pooler; the other one when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub direct_url: Option<Secret> = None,
        /// A file that holds the connection string for migrations.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub direct_url_file: Option<PathBuf> = None,
        /// The schema that holds the tables; never `public`.
        pub schema: Raw<SchemaName> = Raw::new("granary"),
        /// The most connections of one process.
        pub max_connections: u32 = 16,
        /// A PEM file with the certificate authorities that may sign the server's certificate, beside the system's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub ca_file: Option<PathBuf> = None,
        /// A PEM file with the client's certificate.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub client_cert_file: Option<PathBuf> = None,
        /// A PEM file with the client certificate's key.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub client_key_file: Option<PathBuf> = None,
    }
    kubernetes {
        /// The Secret with the connection string of a role that may make roles and schemas. The operator makes a schema
        /// with two roles of its own there: one for migrations, and one for the pods that can only read and write rows.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secret_ref: Option<DatabaseSecretRef> = None,
        /// Whether the operator makes roles and schema. When false, pods use the Secret's connection string as it is.
        pub provision: bool = true,
        /// Certificate authorities that may sign the server's certificate.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ca_ref: Option<CertificateRef> = None,
    }
}

/// The Secret that holds connection strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct DatabaseSecretRef {
    /// The Secret's name, in the registry's namespace.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub name: String,
    /// The key of the connection string: `postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full`.
    #[serde(default = "url")]
    pub url_key: String,
    /// The key of the connection string past any pooler. Where the Secret has none, the other one is used.
    #[serde(default = "direct_url")]
    pub direct_url_key: String,
}

fn url() -> String {
    "url".to_owned()
}

fn direct_url() -> String {
    "direct-url".to_owned()
}

settings! {
    /// The S3 store that holds the files.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::object_store_rules))]
    pub struct ObjectStoreSpec {
        /// The store's URL; that of AWS in the region when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub endpoint: Option<Raw<HttpUrl>> = None,
        /// The store's URL as clients reach it. Channels with `downloads.redirect` need it: a presigned URL signs its host.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub public_endpoint: Option<Raw<HttpUrl>> = None,
        /// The region.
        pub region: String = "us-east-1".to_owned(),
        /// What the name of every bucket begins with. Prefix and suffix have at most 32 characters together.
        pub bucket_prefix: String = "granary-".to_owned(),
        /// What the name of every bucket ends with.
        pub bucket_suffix: String = String::new(),
        /// The access key's id. With no keys at all, the process's own identity is used (environment, web identity, instance).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub access_key_id: Option<Secret> = None,
        /// A file that holds the access key's id.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub access_key_id_file: Option<PathBuf> = None,
        /// The access key.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secret_access_key: Option<Secret> = None,
        /// A file that holds the access key.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub secret_access_key_file: Option<PathBuf> = None,
        /// Whether buckets stand in the path of a URL rather than in its host name. Most stores other than AWS need it.
        pub path_style: bool = true,
    }
    kubernetes {
        /// The Secret with the access key of the pods, which reads and writes objects. Without one, the pods' own
        /// identity is used (`pod.serviceAccountAnnotations`).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secret_ref: Option<ObjectStoreSecretRef> = None,
        /// The Secret with the access key of the operator, which makes buckets; that of the pods when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub provisioner_secret_ref: Option<ObjectStoreSecretRef> = None,
    }
}

/// The Secret that holds an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
pub struct ObjectStoreSecretRef {
    /// The Secret's name, in the registry's namespace.
    #[cfg_attr(feature = "kubernetes", schemars(length(min = 1, max = 253)))]
    pub name: String,
    /// The key that holds the access key's id.
    #[serde(default = "access_key_id")]
    pub access_key_id_key: String,
    /// The key that holds the access key itself.
    #[serde(default = "secret_access_key")]
    pub secret_access_key_key: String,
}

fn access_key_id() -> String {
    "access-key-id".to_owned()
}

fn secret_access_key() -> String {
    "secret-access-key".to_owned()
}

settings! {
    /// The proxies before the server.
    pub struct ProxySpec {
        /// Networks whose `Forwarded` and `X-Forwarded-*` headers are believed: that of the ingress. Nobody's when empty.
        #[schemars(length(max = 64))]
        pub trusted: Vec<Raw<Cidr>> = Vec::new(),
    }
}

settings! {
    /// Connections that the server opens itself, but for Postgres.
    pub struct OutboundSpec {
        /// A PEM file with certificate authorities to trust beside the system's.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub ca_file: Option<PathBuf> = None,
        /// The proxy to go through: `http://HOST:PORT`, with user and password if it wants them.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub https_proxy: Option<Secret> = None,
        /// Hosts and networks to reach directly: `store`, `.internal.example`, `10.0.0.0/8`.
        pub no_proxy: Vec<String> = Vec::new(),
    }
    kubernetes {
        /// Certificate authorities to trust beside the system's: those of the object store and of what else is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ca_ref: Option<CertificateRef> = None,
    }
}

settings! {
    /// What a request may cost.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::upload_limit_rules))]
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
        /// The most requests a second that a pod answers to one caller with a credential, in bursts of ten times as many; 0 for
        /// any number.
        pub requests_per_caller: u32 = 0,
        /// The same for requests without a credential from one address.
        pub requests_per_address: u32 = 0,
    }
}

settings! {
    /// What is kept near.
    pub struct CacheSpec {
        /// The folder that files are cached in; a folder of the process's own when absent. Its contents may vanish at any time.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub dir: Option<PathBuf> = None,
        /// How much of the folder may be filled; 0 turns the cache off.
        pub max_size: Raw<ByteSize> = Raw::new("1Gi"),
        /// How much memory index documents may take: one half for those that are held whole, one for the parts of large ones.
        pub memory: Raw<ByteSize> = Raw::new("128Mi"),
    }
}

settings! {
    /// Who may do everything.
    pub struct AdminsSpec {
        /// The account that is made when the registry has no account yet.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub initial: Option<InitialAdminSpec> = None,
        /// The names of further accounts that are admins.
        pub users: Vec<Raw<SubjectName>> = Vec::new(),
    }
}

settings! {
    /// The account that is made when the registry has no account yet.
    #[cfg_attr(feature = "kubernetes", schemars(transform = crate::schema::initial_admin_rules))]
    pub struct InitialAdminSpec {
        /// The account's name.
        pub name: Raw<SubjectName> = Raw::new("admin"),
        /// A file that holds the password.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub password_file: Option<PathBuf> = None,
        /// The password's argon2 hash (`$argon2id$…`).
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub password_hash: Option<Secret> = None,
    }
    kubernetes {
        /// The Secret that holds the password.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub password_secret_ref: Option<SecretKeyRef> = None,
    }
}

settings! {
    /// The keys that secrets are encrypted with before Postgres gets them: the private keys of channels that sign.
    pub struct SealingSpec {
        /// The keys, one a line, each 32 random bytes in base64. The first one encrypts, and each of them decrypts.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keys: Option<Secret> = None,
        /// A file that holds the keys.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(skip)]
        pub keys_file: Option<PathBuf> = None,
    }
    kubernetes {
        /// The Secret that holds the keys.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secret_ref: Option<SecretKeyRef> = None,
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
        #[serde(skip_serializing_if = "Option::is_none")]
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
#[cfg_attr(feature = "kubernetes", derive(schemars::JsonSchema))]
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
