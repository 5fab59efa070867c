//! A token that counts once does so on all pods together, against a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use granary_core::{ManualClock, SubjectName};
use granary_crds::Logins;
use granary_embedded::postgres::{Options, Postgres};
use granary_identity::{Authenticators, Identity, MIGRATIONS, Passwords, Providers, Sources, Workloads};
use granary_store::objects::{
    BlobCache, CacheOptions, Credentials, ObjectStore, ObjectStoreOptions, PartBufferOptions, PartBuffers,
    Proxy, Timeouts, Uploads,
};
use granary_store::{Database, DatabaseOptions, Migrations, Store, migrate};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

struct Server {
    postgres: Postgres,
    options: DatabaseOptions,
    _folder: TempDir,
}

impl Server {
    /// With the tables of these migrations.
    async fn start(sets: &[Migrations]) -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap();
        let postgres = Postgres::start(&Options::new(&folder.path().join("postgres"))).await.unwrap();
        let options = DatabaseOptions {
            url: postgres.url(),
            schema: "granary".parse().unwrap(),
            max_connections: 10,
            ca_file: None,
            client_certificate: None,
        };
        migrate(&options, sets).await.unwrap();
        Self { postgres, options, _folder: folder }
    }

    /// What one pod has; its buckets are never asked.
    async fn pod(&self, clock: &ManualClock) -> Identity {
        let objects = ObjectStore::connect(ObjectStoreOptions {
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            credentials: Credentials::Static {
                access_key_id: "test".to_owned(),
                secret_access_key: "test".into(),
                session_token: None,
            },
            path_style: true,
            ca_bundle: None,
            proxy: Proxy::default(),
            timeouts: Timeouts::default(),
        })
        .await
        .unwrap();
        let clock = Arc::new(clock.clone());
        let buffers = PartBuffers::new(PartBufferOptions { count: 2, ..PartBufferOptions::default() });
        let uploads = Uploads::new(objects.clone(), buffers, clock.clone());
        let cache = BlobCache::open(&CacheOptions { folder: PathBuf::new(), disk_bytes: 0, memory_bytes: 0 });
        let database = Database::new(&self.options).unwrap();
        // Another test may have been first.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let client = reqwest::Client::new();
        let sources = Sources {
            admins: HashSet::new(),
            passwords: Passwords::default(),
            authenticators: Authenticators::new(Vec::new(), client.clone(), None, clock.clone()).unwrap(),
            workloads: Workloads::new(Vec::new(), client.clone(), clock.clone()),
            providers: Providers::new(Vec::new(), client, clock.clone()),
            logins: Logins {
                failures_per_user: 10,
                failures_per_address: 100,
                within: Duration::from_mins(5),
            },
            max_token_lifetime: None,
            session_lifetime: SignedDuration::from_hours(12),
        };
        Identity::new(&Store::new(database, objects, uploads, cache.unwrap(), clock), sources)
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.options.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set search_path to granary").await.unwrap();
        client
    }

    async fn stop(self) {
        self.postgres.stop().await.unwrap();
    }
}

fn issuer(name: &str) -> SubjectName {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_once_until_it_counts_no_more() {
    let server = Server::start(&[granary_store::MIGRATIONS, MIGRATIONS]).await;
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let clock = ManualClock::new(now);
    let pods = [server.pod(&clock).await, server.pod(&clock).await, server.pod(&clock).await];
    let end = now + SignedDuration::from_mins(5);

    for round in 0..5 {
        let tries: Vec<_> = (0..50)
            .map(|attempt| {
                let pod = pods[attempt % pods.len()].clone();
                tokio::spawn(async move { pod.use_once(&issuer("ci"), &format!("token-{round}"), end).await })
            })
            .collect();
        let mut won = 0;
        for attempt in tries {
            won += usize::from(attempt.await.unwrap().unwrap());
        }
        assert_eq!(won, 1);
    }

    // Issuers do not know of each other's names, and case matters.
    assert!(pods[0].use_once(&issuer("other"), "token-0", end).await.unwrap());
    assert!(pods[0].use_once(&issuer("ci"), "Token-0", end).await.unwrap());
    // The longest there is, of bytes that do not compress.
    let longest: String = (0..512_u32).map(|i| char::from(b'!' + (i * i * 31 % 93) as u8)).collect();
    assert!(pods[0].use_once(&issuer(&"a".repeat(SubjectName::MAX_LENGTH)), &longest, end).await.unwrap());

    // It is remembered for longer than the minute for which it counts beyond its end.
    clock.set(end + SignedDuration::from_secs(120));
    assert_eq!(pods[1].prune_used().await.unwrap(), 0);
    assert!(!pods[2].use_once(&issuer("ci"), "token-0", end).await.unwrap());
    clock.set(end + SignedDuration::from_secs(121));
    assert_eq!(pods[1].prune_used().await.unwrap(), 8);
    assert!(pods[2].use_once(&issuer("ci"), "token-0", end).await.unwrap());
    drop(pods);
    server.stop().await;
}

#[tokio::test]
async fn a_token_belongs_to_an_account_or_to_a_workload() {
    let first = Migrations { owner: MIGRATIONS.owner, files: &MIGRATIONS.files[..1] };
    let server = Server::start(&[granary_store::MIGRATIONS, first]).await;
    let client = server.client().await;
    let token = "insert into token (kind, sha256, id, account";
    let hash = "'api', decode(repeat('00', 32), 'hex')";
    let run = |statement: String| {
        let client = &client;
        async move { client.batch_execute(&statement).await }
    };
    run("insert into account (name) values ('ada')".to_owned()).await.unwrap();
    run(format!("{token}) values ({hash}, 'before', 'ada')")).await.unwrap();

    // What there was stays as it is, and the version before goes on working.
    assert!(!migrate(&server.options, &[granary_store::MIGRATIONS, MIGRATIONS]).await.unwrap().is_empty());
    let source: String = client.query_one("select source from account", &[]).await.unwrap().get(0);
    assert_eq!(source, "local");
    run(format!("{token}) values ({hash}, 'after', 'ada')")).await.unwrap();

    run(format!("{token}, workload) values ({hash}, 'ci', null, '{{}}')")).await.unwrap();
    for neither_or_both in [
        format!("{token}, workload) values ({hash}, 'x', 'ada', '{{}}')"),
        format!("{token}, workload) values ({hash}, 'x', null, null)"),
        "update token set account = null where id = 'after'".to_owned(),
    ] {
        let error = run(neither_or_both).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION));
        assert_eq!(error.as_db_error().unwrap().constraint(), Some("token_owner"));
    }
    run("delete from account".to_owned()).await.unwrap();
    let left: String = client.query_one("select string_agg(id, ' ') from token", &[]).await.unwrap().get(0);
    assert_eq!(left, "ci");
    drop(client);
    server.stop().await;
}
