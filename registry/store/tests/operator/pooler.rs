//! `PgBouncer` in transaction mode in front of Postgres: each statement may meet another server process.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use granary_core::{Format, SystemClock};
use granary_crds::DeletionPolicy::Delete;
use granary_store::provision::schema_version;
use granary_store::{ChannelCount, Database, Done, NewJob};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::SimpleQueryMessage;

use crate::support::{Registry, TestDatabase, channel, connect, options, store};

struct Pooler {
    process: Child,
    folder: TempDir,
    url: String,
}

impl Pooler {
    async fn start(database: &TestDatabase) -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let socket = database.socket();
        let owner = std::fs::metadata(&socket).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let config = folder.path().join("pgbouncer.ini");
        // Two server connections for everybody, so that they change hands.
        let text = format!(
            "[databases]\n* = host={socket} port=5432 user=granary\n[pgbouncer]\nunix_socket_dir = {folder}\n\
             listen_port = 6432\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n",
            socket = socket.display(),
            folder = folder.path().display(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program());
        command.arg("-q").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root; and who owns the socket may use it.
            command.uid(owner.uid()).gid(owner.gid());
        }
        let process = command.spawn().expect("pgbouncer");
        let host = folder.path().display().to_string().replace('/', "%2F");
        let url = format!("postgresql:///{}?host={host}&port=6432&user=granary", database.name);
        let pooler = Self { process, folder, url };
        let ready = async {
            while connect(&pooler.url).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ready).await.expect("pgbouncer is ready");
        pooler
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(self.folder().join("pgbouncer.ini"));
    }
}

/// The PATH of others than root leaves the administrators' programs out.
fn program() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/pgbouncer");
    if system.exists() { system } else { PathBuf::from("pgbouncer") }
}

const COUNT: ChannelCount = ChannelCount {
    format: Format::PyPi,
    query: "select count(*) as packages, count(*) as files, coalesce(sum(size), 0)::bigint as bytes, \
            max(created_at) as last_publish from @blob where channel_id = $1",
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler_that_knows_no_prepared_statements() {
    let registry = Registry::start().await;
    let pooler = Pooler::start(&registry.database).await;
    let url = format!("{}&pgbouncer=true", pooler.url);
    let version = schema_version(&Database::new(&options(&url)).unwrap()).await.unwrap();
    assert_eq!(version.check(), Ok(()));
    let stores = join_all((0..3).map(|_| store(&url, registry.buckets.address, Arc::new(SystemClock)))).await;
    // Each in its own turn and all at once: connections and servers are paired anew with every statement.
    let work = stores.iter().enumerate().map(async |(n, store)| {
        for round in 0..5 {
            let (object, name) = (format!("team/c{n}-{round}"), format!("c{n}-{round}"));
            let wanted = channel(&object, &name, "visibility: public");
            let applied = store.apply_channel(&wanted, &registry.naming).await.unwrap();
            assert!(applied.changed);
            assert!(!store.apply_channel(&wanted, &registry.naming).await.unwrap().changed);
            let found = store.channel_fingerprints().await.unwrap();
            assert_eq!(found.get(&(Format::PyPi, wanted.name.clone())), Some(&applied.fingerprint));
            let limit = Duration::from_secs(5);
            assert!(store.wait_until_active(Format::PyPi, &wanted.name, limit).await.unwrap().is_some());
            store.refresh_channel_stats(&[COUNT]).await.unwrap();
            if round % 2 == 0 {
                assert_eq!(store.retire_channel(&object, Delete).await.unwrap().removed.len(), 1);
            }
            let job = NewJob {
                kind: "work",
                dedup_key: None,
                payload: json!({}),
                run_at: store.clock().now(),
                max_attempts: 3,
            };
            store.jobs().enqueue(&job).await.unwrap();
            let jobs = store.jobs().handle("work", async |_| Ok(Done::Finished));
            jobs.work_once().await.unwrap();
            store.usage().flush().await.unwrap();
        }
    });
    join_all(work).await;
    assert!(stores[0].provision_pending(&registry.naming).await.unwrap().is_empty());
    assert!(stores[0].resume_removals().await.unwrap().is_empty());
    assert_eq!(stores[0].channel_stats().await.unwrap().len(), 6);
    // Both server processes, held by a transaction each: nothing was left behind on them.
    let clients = [connect(&pooler.url).await.unwrap(), connect(&pooler.url).await.unwrap()];
    for client in &clients {
        client.batch_execute("begin").await.unwrap();
        let left = client.simple_query("select name from pg_prepared_statements").await.unwrap();
        let rows = left.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count();
        assert_eq!(rows, 0);
    }
}
