//! What the operator holds of each registry: the ways to its database and its object store, and what was seen there last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use granary_core::{ChannelName, Format, SystemClock};
use granary_crds::BucketNaming;
use granary_store::objects::{
    BlobCache, CacheError, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions,
    PartBuffers, Proxy, Timeouts, Uploads,
};
use granary_store::{ChannelStats, Database, DatabaseOptions, Fingerprint, Store};
use secrecy::SecretString;

use crate::conditions::Reason;
use crate::files::Files;
use crate::registry::AdmittedNamespaces;

/// Connections of the operator to the database of one registry. Rows are few and small; pods need theirs more.
const MAX_CONNECTIONS: usize = 4;
/// How long a bucket's settings are believed.
pub const BUCKET_BELIEVED: Duration = Duration::from_mins(15);

/// Names an object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A registry as channels meet it.
#[derive(Debug, Clone)]
pub struct Link {
    /// Who may name it, as far as that is known.
    pub admission: Option<AdmittedNamespaces>,
    /// Whether the operator may write.
    pub paused: bool,
    /// The way to its database and store, or why there is none.
    pub connection: Result<Arc<Connection>, Reason>,
}

/// How to reach a registry's database and object store.
#[derive(Debug, Clone)]
pub struct Access {
    /// The owner role's connection string.
    pub database_url: SecretString,
    /// The schema.
    pub schema: String,
    /// Certificate authorities of the database, as PEM.
    pub database_ca: Option<String>,
    /// The store, but for the files of the two below.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Whether buckets stand in the path.
    pub path_style: bool,
    /// The operator's access key; its own identity when none.
    pub store_key: Option<(String, SecretString)>,
    /// Certificate authorities of the store, as PEM.
    pub store_ca: Option<String>,
    /// The proxy to go through.
    pub https_proxy: Option<SecretString>,
    /// Hosts to reach directly.
    pub no_proxy: String,
    /// How buckets are named.
    pub naming: BucketNaming,
}

/// The ways to one registry's database and object store.
#[derive(Debug)]
pub struct Connection {
    /// Postgres and S3.
    pub store: Store,
    /// How buckets are named.
    pub naming: BucketNaming,
    /// The URL of each format's channels, without a slash at its end; empty where no host is known.
    pub endpoints: HashMap<Format, String>,
    /// A digest of everything that the connection was made of.
    pub checksum: String,
    seen: Mutex<Seen>,
    has_rounds: AtomicBool,
    /// Certificates on disk, for clients that take paths.
    _files: Files,
}

/// What was seen in the database and the store.
#[derive(Debug, Default)]
struct Seen {
    fingerprints: HashMap<(Format, ChannelName), Fingerprint>,
    stats: HashMap<(Format, ChannelName), ChannelStats>,
    buckets: HashMap<Key, (i64, Instant)>,
    count: Option<i64>,
}

/// Why a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A certificate cannot be put on disk.
    #[error("a file cannot be written")]
    File(#[from] std::io::Error),
    /// The cache, which holds nothing here, cannot be set up.
    #[error("the cache of files")]
    Cache(#[source] CacheError),
    /// The schema has no name.
    #[error("the schema")]
    Schema(#[from] granary_store::SchemaError),
    /// The database's settings hold no connection.
    #[error("the database")]
    Database(#[from] granary_store::ConnectError),
    /// The object store's settings hold no connection.
    #[error("the object store")]
    ObjectStore(#[from] granary_store::objects::ConnectError),
}

impl Connection {
    /// Prepares both ways; opens no connection to Postgres yet.
    pub async fn open(
        access: &Access,
        endpoints: HashMap<Format, String>,
        checksum: String,
    ) -> Result<Self, AccessError> {
        let files = Files::new()?;
        let database = Database::new(&database_options(
            access,
            files.pem("database.pem", access.database_ca.as_deref())?,
        )?)?;
        let proxy = match &access.https_proxy {
            Some(url) => Proxy { https: Some(url.clone()), no_proxy: access.no_proxy.clone() },
            None => Proxy::from_environment(),
        };
        let objects = ObjectStore::connect(ObjectStoreOptions {
            endpoint: access.endpoint.clone(),
            public_endpoint: None,
            region: access.region.clone(),
            credentials: match &access.store_key {
                Some((id, secret)) => Credentials::Static {
                    access_key_id: id.clone(),
                    secret_access_key: secret.clone(),
                    session_token: None,
                },
                None => Credentials::Environment,
            },
            path_style: access.path_style,
            ca_bundle: files.pem("store.pem", access.store_ca.as_deref())?,
            proxy,
            timeouts: Timeouts::default(),
        })
        .await?;
        let clock = Arc::new(SystemClock);
        // The operator neither uploads nor downloads files.
        let buffers = PartBuffers::new(PartBufferOptions { count: 1, ..PartBufferOptions::default() });
        let uploads = Uploads::new(objects.clone(), buffers, clock.clone());
        let cache = BlobCache::open(&CacheOptions { folder: files.folder(), disk_bytes: 0, memory_bytes: 0 })
            .map_err(AccessError::Cache)?;
        let store = Store::new(database, objects, uploads, cache, clock);
        let naming = access.naming.clone();
        Ok(Self {
            store,
            naming,
            endpoints,
            checksum,
            seen: Mutex::default(),
            has_rounds: AtomicBool::new(false),
            _files: files,
        })
    }

    /// True for the first one who asks: whose the rounds over this connection are.
    pub fn begin_rounds(&self) -> bool {
        !self.has_rounds.swap(true, Ordering::Relaxed)
    }

    /// Remembers what a channel's rows were when the operator wrote or read them last.
    pub fn saw_rows(&self, format: Format, name: &ChannelName, fingerprint: Fingerprint) {
        self.seen().fingerprints.insert((format, name.clone()), fingerprint);
    }

    /// Forgets a channel that is gone.
    pub fn forget(&self, object: &Key, format: Format, name: &ChannelName) {
        let mut seen = self.seen();
        seen.fingerprints.remove(&(format, name.clone()));
        seen.stats.remove(&(format, name.clone()));
        seen.buckets.remove(object);
    }

    /// Takes what the database holds now, and names the channels whose rows are not those that were seen.
    pub fn compare_rows(
        &self,
        now: &HashMap<(Format, ChannelName), Fingerprint>,
    ) -> Vec<(Format, ChannelName)> {
        let seen = self.seen();
        let differs = |(channel, fingerprint): &(&(Format, ChannelName), &Fingerprint)| {
            now.get(*channel) != Some(*fingerprint)
        };
        seen.fingerprints.iter().filter(differs).map(|(channel, _)| channel.clone()).collect()
    }

    /// Takes the channels' counts, and names the channels whose counts are others than before.
    pub fn take_stats(&self, stats: Vec<ChannelStats>) -> Vec<(Format, ChannelName)> {
        let mut seen = self.seen();
        let mut changed = Vec::new();
        for stat in stats {
            let channel = (stat.format, stat.name.clone());
            if seen.stats.get(&channel) != Some(&stat) {
                changed.push(channel.clone());
                seen.stats.insert(channel, stat);
            }
        }
        changed
    }

    /// Takes how many channels are served. True when that is another number than before.
    pub fn take_count(&self, count: i64) -> bool {
        self.seen().count.replace(count) != Some(count)
    }

    /// A channel's counts, as of the last look.
    pub fn stats(&self, format: Format, name: &ChannelName) -> Option<ChannelStats> {
        self.seen().stats.get(&(format, name.clone())).cloned()
    }

    /// Whether a bucket was looked at so recently, for this generation of its channel, that it is believed.
    pub fn bucket_is_believed(&self, object: &Key, generation: i64) -> bool {
        self.seen()
            .buckets
            .get(object)
            .is_some_and(|(seen, at)| *seen == generation && at.elapsed() < BUCKET_BELIEVED)
    }

    /// Remembers that a bucket was found or made as it should be.
    pub fn saw_bucket(&self, object: &Key, generation: i64) {
        self.seen().buckets.insert(object.clone(), (generation, Instant::now()));
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn database_options(
    access: &Access,
    ca_file: Option<std::path::PathBuf>,
) -> Result<DatabaseOptions, granary_store::SchemaError> {
    use secrecy::ExposeSecret;
    Ok(DatabaseOptions {
        url: access.database_url.expose_secret().to_owned(),
        schema: access.schema.parse()?,
        max_connections: MAX_CONNECTIONS,
        ca_file,
        client_certificate: None,
    })
}

/// The registries that the operator knows.
#[derive(Debug, Default)]
pub struct Links(RwLock<HashMap<Key, Link>>);

impl Links {
    /// A registry.
    pub fn get(&self, registry: &Key) -> Option<Link> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(registry).cloned()
    }

    /// Sets a registry. True when channels have to look again: it can be reached now, or differently.
    pub fn set(&self, registry: &Key, link: &Link) -> bool {
        let mut links = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = links.insert(registry.clone(), link.clone());
        match (before, &link.connection) {
            (Some(before), Ok(connection)) => {
                let same = before.connection.as_ref().is_ok_and(|known| Arc::ptr_eq(known, connection));
                !same || before.paused != link.paused || before.admission != link.admission
            }
            (None, _) => true,
            (Some(before), Err(reason)) => {
                before.connection.as_ref().err() != Some(reason) || before.paused != link.paused
            }
        }
    }

    /// Forgets a registry that is gone.
    pub fn remove(&self, registry: &Key) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(registry);
    }
}
