//! A Postgres for each test, and processes over it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use granary_core::{Clock, ManualClock};
use granary_embedded::postgres::{Options, Postgres};
use granary_store::objects::{
    BlobCache, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers,
    Proxy, Timeouts, Uploads,
};
use granary_store::{Database, DatabaseOptions, Migrations, Store, migrate};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A server with the tables, a clock that stands still, and a connection to look behind the scenes.
pub struct Tables {
    pub clock: ManualClock,
    pub client: Client,
    postgres: Postgres,
    _folder: TempDir,
}

impl Tables {
    pub async fn start() -> Self {
        Self::start_with(&[granary_store::MIGRATIONS, granary_identity::MIGRATIONS]).await
    }

    /// With the tables of these migrations.
    pub async fn start_with(sets: &[Migrations]) -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap();
        let postgres = Postgres::start(&Options::new(&folder.path().join("postgres"))).await.unwrap();
        migrate(&options(&postgres.url()), sets).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set search_path to granary").await.unwrap();
        let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
        Self { clock, client, postgres, _folder: folder }
    }

    /// How its database is reached.
    pub fn options(&self) -> DatabaseOptions {
        options(&self.postgres.url())
    }

    /// The registry as one process has it. Its object store is never asked.
    pub async fn store(&self) -> Store {
        let objects = ObjectStore::connect(ObjectStoreOptions {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            credentials: Credentials::Static {
                access_key_id: "test-access-key".to_owned(),
                secret_access_key: "test-secret-key".into(),
                session_token: None,
            },
            path_style: true,
            ca_bundle: None,
            proxy: Proxy::default(),
            timeouts: Timeouts::default(),
        })
        .await
        .unwrap();
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let buffers = PartBuffers::new(PartBufferOptions { count: 1, ..PartBufferOptions::default() });
        let uploads = Uploads::new(objects.clone(), buffers, Arc::clone(&clock));
        let cache = CacheOptions { folder: PathBuf::new(), disk_bytes: 0, memory_bytes: 0 };
        let database = Database::new(&self.options()).unwrap();
        Store::new(database, objects, uploads, BlobCache::open(&cache).unwrap(), clock)
    }

    /// A number that a query yields.
    pub async fn number(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    pub async fn run(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap();
    }

    pub async fn stop(self) {
        self.postgres.stop().await.unwrap();
    }
}

fn options(url: &str) -> DatabaseOptions {
    DatabaseOptions {
        url: url.to_owned(),
        schema: "granary".parse().unwrap(),
        max_connections: 8,
        ca_file: None,
        client_certificate: None,
    }
}
