//! The spec as the pods get it: without what only the operator reads, and with files in the place of
//! references.

use std::path::PathBuf;

use granary_core::CLUSTER_ISSUER;
use granary_crds::{
    AdminsSpec, DatabaseSpec, IdentitySpec, InitialAdminSpec, IssuerSpec, ObjectStoreSpec, OutboundSpec,
    PackageRegistrySpec, Raw, SealingSpec,
};

/// The folder that everything is mounted below.
pub const FOLDER: &str = "/etc/granary";
/// The config file, within [`FOLDER`] like all that follow.
pub const CONFIG: &str = "config.yaml";
/// The connection string of the pods.
pub const DATABASE_URL: &str = "secrets/database/url";
/// The connection string of the role that migrates. Only migration jobs have this file.
pub const DATABASE_OWNER_URL: &str = "secrets/database/owner-url";
/// Certificate authorities for Postgres.
pub const DATABASE_CA: &str = "ca/database.crt";
/// Certificate authorities for everything else.
pub const OUTBOUND_CA: &str = "ca/outbound.crt";
/// The access key's id.
pub const ACCESS_KEY_ID: &str = "secrets/object-store/access-key-id";
/// The access key.
pub const SECRET_ACCESS_KEY: &str = "secrets/object-store/secret-access-key";
/// The folder of the secrets of identity sources.
pub const IDENTITY_SECRETS: &str = "secrets/identity";
/// The keys of who signs for the cluster's service accounts; also the key in the `ConfigMap`.
pub const CLUSTER_KEYS: &str = "kubernetes-jwks.json";
/// The first admin's password.
pub const ADMIN_PASSWORD: &str = "secrets/admin/password";
/// The keys that secrets are encrypted with.
pub const SEALING_KEYS: &str = "secrets/sealing/keys";
/// The folder of the cache.
pub const CACHE: &str = "/var/cache/granary";
/// The port of requests.
pub const HTTP_PORT: i32 = 8080;
/// The port of probes and metrics.
pub const MANAGEMENT_PORT: i32 = 9090;
/// The port of the S3 server of a store of the operator's own.
pub const STORE_S3_PORT: i32 = 9000;

/// The full path of a file that is mounted.
pub fn path(file: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(file)
}

/// What the pods' spec depends on beside the user's.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where the S3 server of the operator's own store is, when it runs one.
    pub own_store: Option<&'a str>,
    /// The URL that clients know the registry by.
    pub public_url: Option<&'a str>,
    /// Whether pods are reached by IPv6.
    pub ipv6: bool,
    /// Whether files are cached.
    pub caches: bool,
    /// Who signs for the cluster's service accounts, if their tokens are taken.
    pub cluster_issuer: Option<&'a str>,
}

/// The spec as the pods get it. What is set here replaces what the user may have written in its place.
pub fn server_spec(spec: &PackageRegistrySpec, surroundings: Surroundings<'_>) -> PackageRegistrySpec {
    let any = if surroundings.ipv6 { "[::]" } else { "0.0.0.0" };
    // What only the operator reads goes back to its default, which is left out of the config.
    let PackageRegistrySpec {
        paused,
        image,
        image_pull_policy,
        image_pull_secrets,
        replicas,
        autoscaling,
        host,
        ingress,
        gateway,
        tls,
        storage,
        pod,
        network_policy,
        monitoring,
        allowed_namespaces,
        ..
    } = PackageRegistrySpec::default();
    let mut server = PackageRegistrySpec {
        paused,
        image,
        image_pull_policy,
        image_pull_secrets,
        replicas,
        autoscaling,
        host,
        ingress,
        gateway,
        tls,
        storage,
        pod,
        network_policy,
        monitoring,
        allowed_namespaces,
        listen: vec![Raw::new(format!("{any}:{HTTP_PORT}"))],
        management_listen: Raw::new(format!("{any}:{MANAGEMENT_PORT}")),
        public_url: surroundings.public_url.map(Raw::new),
        database: Some(database(spec.database.as_ref())),
        object_store: Some(object_store(spec.object_store.as_ref(), surroundings.own_store)),
        outbound: outbound(&spec.outbound),
        admins: admins(&spec.admins),
        identity: identity(&spec.identity, surroundings.cluster_issuer),
        sealing: sealing(&spec.sealing),
        ..spec.clone()
    };
    server.cache.dir = surroundings.caches.then(|| PathBuf::from(CACHE));
    server
}

fn database(given: Option<&DatabaseSpec>) -> DatabaseSpec {
    let given = given.cloned().unwrap_or_default();
    let DatabaseSpec { secret_ref, provision, ca_ref, .. } = DatabaseSpec::default();
    DatabaseSpec {
        secret_ref,
        provision,
        ca_ref,
        url: None,
        url_file: Some(path(DATABASE_URL)),
        direct_url: None,
        direct_url_file: None,
        ca_file: given.ca_ref.as_ref().map(|_| path(DATABASE_CA)),
        client_cert_file: None,
        client_key_file: None,
        ..given
    }
}

fn object_store(given: Option<&ObjectStoreSpec>, own_store: Option<&str>) -> ObjectStoreSpec {
    let mut given = given.cloned().unwrap_or_default();
    if let Some(endpoint) = own_store {
        given.endpoint = Some(Raw::new(endpoint));
    }
    let has_key = own_store.is_some() || given.secret_ref.is_some();
    let ObjectStoreSpec { secret_ref, provisioner_secret_ref, .. } = ObjectStoreSpec::default();
    ObjectStoreSpec {
        secret_ref,
        provisioner_secret_ref,
        access_key_id: None,
        access_key_id_file: has_key.then(|| path(ACCESS_KEY_ID)),
        secret_access_key: None,
        secret_access_key_file: has_key.then(|| path(SECRET_ACCESS_KEY)),
        ..given
    }
}

/// The proxy's URL may hold a password, which a `ConfigMap` is no place for: the pods have it from the
/// environment.
fn outbound(given: &OutboundSpec) -> OutboundSpec {
    OutboundSpec {
        ca_ref: None,
        ca_file: given.ca_ref.as_ref().map(|_| path(OUTBOUND_CA)),
        https_proxy: None,
        ..given.clone()
    }
}

fn admins(given: &AdminsSpec) -> AdminsSpec {
    let initial = given.initial.as_ref().map(|initial| InitialAdminSpec {
        password_secret_ref: None,
        password_file: Some(path(ADMIN_PASSWORD)),
        password_hash: None,
        ..initial.clone()
    });
    AdminsSpec { initial, ..given.clone() }
}

fn sealing(given: &SealingSpec) -> SealingSpec {
    SealingSpec {
        secret_ref: None,
        keys: None,
        keys_file: given.secret_ref.as_ref().map(|_| path(SEALING_KEYS)),
    }
}

fn identity(given: &IdentitySpec, cluster_issuer: Option<&str>) -> IdentitySpec {
    let IdentitySpec { secret_ref, service_accounts, .. } = IdentitySpec::default();
    let mut pods = IdentitySpec {
        secrets_dir: given.secret_ref.as_ref().map(|_| path(IDENTITY_SECRETS)),
        secret_ref,
        service_accounts,
        ..given.clone()
    };
    pods.issuers.extend(cluster_issuer.map(|url| IssuerSpec {
        name: Raw::new(CLUSTER_ISSUER),
        url: Raw::new(url),
        audiences: vec![given.service_accounts.audience.clone()],
        jwks_url: None,
        jwks_file: Some(path(CLUSTER_KEYS)),
    }));
    pods
}
