//! A Postgres that the tests of this program share, with a database for each, and an object store for each.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use granary_core::{ChannelName, Clock, Format, SystemClock};
use granary_crds::{BucketNaming, ValidChannel, read_channels};
use granary_embedded::object_store;
use granary_embedded::postgres::{Options, Postgres};
use granary_store::objects::{
    BlobCache, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers,
    Proxy, Timeouts, Uploads,
};
use granary_store::{Database, DatabaseOptions, MIGRATIONS, Store, migrate};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, NoTls, Row};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The server ends with the last test that holds it. It has a runtime of its own, since those of the tests end.
pub struct Server {
    runtime: Option<Runtime>,
    postgres: Option<Postgres>,
    url: String,
    _folder: TempDir,
}

static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static NEXT_DATABASE: AtomicU32 = AtomicU32::new(0);

impl Server {
    fn get() -> Arc<Self> {
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(std::thread::spawn(Self::start).join().unwrap());
        *shared = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap();
        let runtime = Runtime::new().unwrap();
        let postgres =
            runtime.block_on(Postgres::start(&Options::new(&folder.path().join("postgres")))).unwrap();
        let url = postgres.url();
        runtime.block_on(ask_for_passwords(&url));
        Self { runtime: Some(runtime), postgres: Some(postgres), url, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (runtime, postgres) = (self.runtime.take().unwrap(), self.postgres.take().unwrap());
        // A runtime must not be dropped within another.
        std::thread::spawn(move || runtime.block_on(postgres.stop()).unwrap()).join().unwrap();
    }
}

/// Everybody but the superuser needs a password.
async fn ask_for_passwords(url: &str) {
    let client = connect(url).await.unwrap();
    client
        .batch_execute("create role probe login; create role stranger login password 'stranger'")
        .await
        .unwrap();
    let file: String = client.query_one("show hba_file", &[]).await.unwrap().get(0);
    let rules = "values (1, 'local all granary trust'), (2, 'local all all scram-sha-256')";
    let write = format!("copy (select rule from ({rules}) as r (n, rule) order by n) to '{file}'");
    client.batch_execute(&write).await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    while connect(&url.replace("user=granary", "user=probe")).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database of one test.
pub struct TestDatabase {
    pub name: String,
    /// Of the superuser.
    pub url: String,
    pub client: Client,
    _server: Arc<Server>,
}

impl TestDatabase {
    pub async fn new() -> Self {
        let server = tokio::task::spawn_blocking(Server::get).await.unwrap();
        let name = format!("test_{}", NEXT_DATABASE.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&server.url).await.unwrap();
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        let url = server.url.replace("/granary?", &format!("/{name}?"));
        let client = connect(&url).await.unwrap();
        Self { name, url, client, _server: server }
    }

    /// With the shared tables in the schema `granary`.
    pub async fn migrated() -> Self {
        let database = Self::new().await;
        migrate(&options(&database.url), &[MIGRATIONS]).await.unwrap();
        database.client.batch_execute("set search_path to granary").await.unwrap();
        database
    }

    pub async fn row(&self, query: &str) -> Row {
        self.client.query_one(query, &[]).await.unwrap()
    }

    pub async fn run(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap();
    }

    /// Where the server's socket is.
    pub fn socket(&self) -> PathBuf {
        let config: tokio_postgres::Config = self.url.parse().unwrap();
        match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Unix(path) => path.clone(),
            tokio_postgres::config::Host::Tcp(_) => panic!("the server listens on a socket"),
        }
    }
}

pub fn options(url: &str) -> DatabaseOptions {
    DatabaseOptions {
        url: url.to_owned(),
        schema: "granary".parse().unwrap(),
        max_connections: 12,
        ca_file: None,
        client_certificate: None,
    }
}

const KEYS: (&str, &str) = ("test-access-key", "test-secret-key");

/// An S3 server over a folder. It can be stopped, and started again on the same folder and address.
pub struct Buckets {
    pub address: SocketAddr,
    folder: TempDir,
    running: Mutex<Option<DropGuard>>,
}

impl Buckets {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let buckets = Self { address, folder: tempfile::tempdir().unwrap(), running: Mutex::new(None) };
        buckets.serve(listener);
        buckets
    }

    fn serve(&self, listener: TcpListener) {
        let credentials = object_store::Credentials::new(KEYS.0, KEYS.1);
        let server =
            object_store::ObjectStore::open(self.folder.path(), credentials, Arc::new(SystemClock)).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { server.serve(listener, stopped).await });
        *self.running.lock().unwrap() = Some(stop.drop_guard());
    }

    pub async fn stop(&self) {
        drop(self.running.lock().unwrap().take());
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn start_again(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    /// A client without anything of ours, to look behind the scenes.
    pub fn raw(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", self.address))
            .force_path_style(true)
            .credentials_provider(aws_credential_types::Credentials::new(KEYS.0, KEYS.1, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    pub async fn names(&self) -> Vec<String> {
        let listed = self.raw().list_buckets().send().await.unwrap().buckets.unwrap_or_default();
        let mut names: Vec<String> = listed.into_iter().filter_map(|bucket| bucket.name).collect();
        names.sort_unstable();
        names
    }
}

/// Stands before a server, and lets nothing through until it is opened.
pub struct Gate {
    pub address: SocketAddr,
    opened: Arc<Semaphore>,
    reached: Arc<Semaphore>,
}

impl Gate {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate =
            Self { address, opened: Arc::new(Semaphore::new(0)), reached: Arc::new(Semaphore::new(0)) };
        let (opened, reached) = (Arc::clone(&gate.opened), Arc::clone(&gate.reached));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                reached.add_permits(1);
                let opened = Arc::clone(&opened);
                tokio::spawn(async move {
                    opened.acquire().await.unwrap().forget();
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either side may hang up first.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        gate
    }

    /// Waits until somebody stands before it.
    pub async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub fn open(&self) {
        self.opened.add_permits(1000);
    }
}

/// A registry: tables, buckets and what works on them.
pub struct Registry {
    pub database: TestDatabase,
    pub buckets: Buckets,
    pub store: Store,
    pub naming: BucketNaming,
}

impl Registry {
    pub async fn start() -> Self {
        let database = TestDatabase::migrated().await;
        let buckets = Buckets::start().await;
        let store = store(&database.url, buckets.address, Arc::new(SystemClock)).await;
        let naming = BucketNaming::new("test-", "").unwrap();
        Self { database, buckets, store, naming }
    }

    /// The same registry, as another process sees it.
    pub async fn another(&self) -> Store {
        store(&self.database.url, self.buckets.address, Arc::new(SystemClock)).await
    }

    pub async fn apply(&self, channel: &ValidChannel) -> granary_store::Applied {
        self.store.apply_channel(channel, &self.naming).await.unwrap()
    }

    pub async fn state(&self, name: &str) -> Option<String> {
        let row = self
            .database
            .client
            .query_opt("select state from granary.channel where name = $1", &[&name])
            .await
            .unwrap();
        row.map(|row| row.get(0))
    }

    /// The served channel of this name.
    pub async fn find(&self, name: &str) -> Option<Arc<granary_store::Channel>> {
        self.store.revisions().refresh(&[granary_store::Scope::REGISTRY]).await.unwrap();
        self.store.directory().find(Format::PyPi, &channel_name(name)).await.unwrap()
    }

    /// Publishes these bytes, as a protocol would.
    pub async fn publish(&self, channel: &str, bytes: &[u8]) {
        let channel = self.find(channel).await.unwrap();
        let mut upload = self.store.uploads().begin(&channel.bucket, bytes.len() as u64).await;
        upload.write(bytes).await.unwrap();
        let stored = upload.finish().await.unwrap();
        let mut tx = self.store.begin().await.unwrap();
        tx.attach_blob(&channel, &stored).await.unwrap();
        tx.touch(channel.scope, "file");
        tx.commit().await.unwrap();
    }
}

pub async fn store(url: &str, address: SocketAddr, clock: Arc<dyn Clock>) -> Store {
    let objects = ObjectStore::connect(ObjectStoreOptions {
        endpoint: Some(format!("http://{address}")),
        public_endpoint: None,
        region: "us-east-1".to_owned(),
        credentials: Credentials::Static {
            access_key_id: KEYS.0.to_owned(),
            secret_access_key: KEYS.1.into(),
            session_token: None,
        },
        path_style: true,
        ca_bundle: None,
        proxy: Proxy::default(),
        timeouts: Timeouts::default(),
    })
    .await
    .unwrap();
    let buffers = PartBuffers::new(PartBufferOptions { count: 2, ..PartBufferOptions::default() });
    let uploads = Uploads::new(objects.clone(), buffers, Arc::clone(&clock));
    let cache =
        BlobCache::open(&CacheOptions { folder: PathBuf::new(), disk_bytes: 0, memory_bytes: 0 }).unwrap();
    Store::new(Database::new(&options(url)).unwrap(), objects, uploads, cache, clock)
}

pub fn channel_name(name: &str) -> ChannelName {
    ChannelName::parse(Format::PyPi, name).unwrap()
}

/// The channel of an object `NAMESPACE/NAME`, with more of its spec as YAML in one line.
pub fn channel(object: &str, name: &str, spec: &str) -> ValidChannel {
    let (namespace, object) = object.split_once('/').unwrap();
    let text = format!(
        "apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata: {{name: {object}, namespace: {namespace}}}\n\
         spec: {{registryRef: {{name: packages}}, format: pypi, name: {name}, {spec}}}\n"
    );
    let mut reading = read_channels(&text);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    reading.channels.remove(0).channel
}
