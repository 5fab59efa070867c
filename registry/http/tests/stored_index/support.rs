//! A database with a channel, and a source of names in a table.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{collections::BTreeSet, iter};

use granary_core::{ChannelName, Clock, Format, ManualClock};
use granary_embedded::postgres::{Options, Postgres};
use granary_http::index::{RangeSource, Section};
use granary_http::stored_index::{StoredIndex, StoredSource};
use granary_store::objects::{
    BlobCache, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers,
    Proxy, Timeouts, Uploads,
};
use granary_store::{Database, DatabaseOptions, DbError, MIGRATIONS, Scope, Store, migrate};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

pub struct Place {
    pub clock: ManualClock,
    pub scope: Scope,
    pub store: Store,
    /// What is published now.
    present: Mutex<BTreeSet<String>>,
    client: Client,
    postgres: Postgres,
    _folder: TempDir,
}

impl Place {
    pub async fn new() -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap();
        let postgres = Postgres::start(&Options::new(&folder.path().join("postgres"))).await.unwrap();
        migrate(&options(&postgres.url()), &[MIGRATIONS]).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let channel = "set search_path to granary; \
            insert into channel (format, name, bucket, settings, origin, state) values ('conda', 'main', 'bucket', '{}', 'api', 'active'); \
            insert into revision_slot (scope, slot, n) select 1, slot, 0 from generate_series(0, 15) as slot; \
            create table name (name text collate \"C\" primary key)";
        client.batch_execute(channel).await.unwrap();
        let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
        let store = store(&postgres.url(), clock.clone()).await;
        let name = ChannelName::parse(Format::Conda, "main").unwrap();
        store.revisions().refresh(&[Scope::REGISTRY]).await.unwrap();
        let scope = store.directory().find(Format::Conda, &name).await.unwrap().unwrap().scope;
        Self { clock, scope, store, present: Mutex::default(), client, postgres, _folder: folder }
    }

    /// Another process over the same database.
    pub async fn process(&self) -> StoredIndex {
        StoredIndex::new(store(&self.postgres.url(), self.clock.clone()).await, 1 << 20)
    }

    /// The source whose records are so many bytes longer than their names.
    pub fn names(&self, padding: usize) -> Names<'_> {
        Names { place: self, padding, read: AtomicUsize::new(0) }
    }

    pub async fn refresh(&self, index: &StoredIndex) {
        index.store().revisions().refresh(&[self.scope]).await.unwrap();
    }

    pub async fn publish<N: AsRef<str>>(&self, names: &[N]) {
        self.change(names, "insert into \"granary\".name select unnest($1::text[]) on conflict do nothing")
            .await;
        self.present.lock().unwrap().extend(names.iter().map(|name| name.as_ref().to_owned()));
    }

    pub async fn remove<N: AsRef<str>>(&self, names: &[N]) {
        self.change(names, "delete from \"granary\".name where name = any($1::text[])").await;
        self.present.lock().unwrap().retain(|name| !names.iter().any(|gone| gone.as_ref() == name));
    }

    async fn change<N: AsRef<str>>(&self, names: &[N], statement: &str) {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let mut tx = self.store.begin().await.unwrap();
        tx.execute(statement, &[&names]).await.unwrap();
        for name in names {
            tx.touch(self.scope, format!("name:{name}"));
        }
        tx.commit().await.unwrap();
    }

    /// The text that every process has to tell now.
    pub fn expected(&self, padding: usize) -> String {
        let present = self.present.lock().unwrap();
        let records: Vec<String> = present.iter().map(|name| record(name, padding)).collect();
        format!("[{}]", records.join(","))
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    pub async fn run(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap();
    }

    /// Waits until what the document is made of has been saved, which happens in the background.
    pub async fn checkpoint_saved(&self) {
        while self.number("select count(*) from document_checkpoint").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn stop(self) {
        self.postgres.stop().await.unwrap();
    }
}

/// The list of the names, in JSON that is not quite JSON.
pub struct Names<'a> {
    place: &'a Place,
    padding: usize,
    /// How many records were read.
    pub read: AtomicUsize,
}

fn record(name: &str, padding: usize) -> String {
    iter::once(name).chain(iter::repeat_n(".", padding)).collect()
}

impl RangeSource for Names<'_> {
    type Error = DbError;

    fn prefix(&self) -> &'static str {
        "name:"
    }

    fn sections(&self) -> Vec<Section> {
        vec![Section { start: String::new(), head: "[".to_owned() }]
    }

    fn tail(&self) -> String {
        "]".to_owned()
    }

    fn separator(&self) -> &'static str {
        ","
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let names = self.names(from, to).await?;
        self.read.fetch_add(names.len(), Ordering::Relaxed);
        let record = |name: String| {
            let record = format!(",{}", record(&name, self.padding)).into_bytes();
            (name, record)
        };
        Ok(names.into_iter().map(record).collect())
    }
}

impl StoredSource for Names<'_> {
    fn mean_names(&self) -> NonZeroU32 {
        NonZeroU32::new(64).unwrap()
    }

    async fn names(&self, from: &str, to: Option<&str>) -> Result<Vec<String>, DbError> {
        let query = "select name from \"granary\".name where name >= $1 and ($2::text is null or name < $2) order by name";
        let rows = self.place.store.database().query(query, &[&from, &to]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// The registry as one process has it. Its object store is never asked.
async fn store(url: &str, clock: ManualClock) -> Store {
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
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let buffers = PartBuffers::new(PartBufferOptions { count: 1, ..PartBufferOptions::default() });
    let uploads = Uploads::new(objects.clone(), buffers, Arc::clone(&clock));
    let cache = CacheOptions { folder: PathBuf::new(), disk_bytes: 0, memory_bytes: 0 };
    let database = Database::new(&options(url)).unwrap();
    Store::new(database, objects, uploads, BlobCache::open(&cache).unwrap(), clock)
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
