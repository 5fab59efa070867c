//! The specs of `PackageRegistry` and `Channel` (group `granary.dev`, version `v1alpha1`) and the one validation
//! that operator and server both call.
//!
//! A spec holds what somebody wrote: [`ChannelSpec`], [`PackageRegistrySpec`]. Texts with a grammar of their own
//! stand in it as [`Raw`]. [`validate_channel`] and [`validate_registry`] read them once and return either the
//! typed form ([`ValidChannel`], [`ValidRegistry`]) or every [`Problem`] at once, each with the path of the field.
//!
//! The server's config file is a `PackageRegistry` ([`read_registry`]), overridden by the environment
//! ([`apply_environment`]). Channels come from YAML files ([`read_channels`], [`read_folder`]) or from Kubernetes.
//! Nothing here opens a connection; the one function that reads a file is [`SecretSource::load`].

mod bucket;
mod channel;
mod conda;
mod deployment;
mod file;
mod identity;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod options;
mod problem;
mod provider;
mod registry;
#[cfg(feature = "kubernetes")]
mod schema;
mod secret;
mod source;
#[cfg(feature = "kubernetes")]
mod status;
mod validate;
mod value;

pub use bucket::{BucketName, BucketNameError, BucketNaming, BucketNamingError};
#[cfg(feature = "kubernetes")]
pub use channel::ChannelObject;
pub use channel::{
    BucketSpec, Channel, ChannelDownloads, ChannelLimits, ChannelSpec, DeletionPolicy, EncryptionSpec,
    EncryptionType, LifecycleSpec, NoSettings, ObjectMeta, Permission, PyPiSettings, RegistryRef, Visibility,
};
pub use conda::{CondaNotice, CondaNoticeLevel, CondaPatches, CondaRetention, CondaSettings};
pub use deployment::{
    AllowedNamespaces, Autoscaling, CertificateRef, GatewaySpec, IngressSpec, IssuerKind, IssuerRef,
    LocalReference, MonitoringSpec, NetworkPolicySpec, ParentRef, PodSpec, PullPolicy, SecretKeyRef,
    StorageSpec, TlsSpec,
};
pub use file::{
    FileProblem, FileReading, FolderProblem, FolderReading, Located, RegistryFile, read_channels,
    read_folder, read_registry,
};
pub use identity::{
    AuditSpec, AuthenticatorSpec, HttpSpec, IdentitySpec, IssuerSpec, LdapSpec, LoginsSpec, PasswordsSpec,
    SecretFileSpec, ServiceAccountsSpec, SqlSpec,
};
#[cfg(feature = "kubernetes")]
pub use kubernetes::{crd_yaml, resource_definitions};
pub use options::{OptionDoc, apply_environment, help_text, options, reference_page};
pub use problem::Problem;
pub use provider::{GitHubSpec, OidcSpec, ProviderSpec, SessionsSpec};
#[cfg(feature = "kubernetes")]
pub use registry::RegistryObject;
pub use registry::{
    AdminsSpec, CacheSpec, ChannelsByApiSpec, CondaSpec, DatabaseSecretRef, DatabaseSpec, HostsSpec,
    InitialAdminSpec, JobsSpec, LimitsSpec, LogFormat, ObjectStoreSecretRef, ObjectStoreSpec, OutboundSpec,
    PackageRegistrySpec, ProtocolHostSpec, ProxySpec, SealingSpec, TelemetrySpec,
};
pub use secret::{Secret, SecretSource};
pub use source::{ChannelSource, HostedSource, MirrorSource, Priority, ProxySource, Removal, VirtualSource};
#[cfg(feature = "kubernetes")]
pub use status::{ChannelStatus, RegistryStatus};
pub use validate::{
    Admins, Authenticator, AuthenticatorSource, BucketPlan, Cache, ChannelSettings, Database, Encryption,
    GitHub, Identity, InitialAdmin, Issuer, Jobs, KeySource, Ldap, Limits, Logins, Mirror, ObjectStore, Oidc,
    Outbound, PasswordCost, PasswordSource, Provider, ProviderKind, Proxy, Sessions, Source, Telemetry,
    ValidChannel, ValidRegistry, Virtual, validate_channel, validate_channel_spec, validate_registry,
};
pub use value::{ByteSize, Cidr, HostName, HttpUrl, ListenAddress, Raw, SchemaName, Value, ValueError};

/// The API group of both resources.
pub const GROUP: &str = "granary.dev";
/// The version of both resources.
pub const VERSION: &str = "v1alpha1";
/// What stands as `apiVersion` in both resources.
pub const API_VERSION: &str = "granary.dev/v1alpha1";
