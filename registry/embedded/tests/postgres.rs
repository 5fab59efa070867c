//! The private server: started, stopped, killed and started again, with a real `PostgreSQL`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use granary_embedded::postgres::{Error, LogTo, Network, Options, Password, Postgres};
use rustix::process::{Pid, Signal, getpgid, kill_process, test_kill_process};
use tokio_postgres::{Client, NoTls};

fn folder(mode: u32) -> tempfile::TempDir {
    let permissions = fs::Permissions::from_mode(mode);
    tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap()
}

/// A folder that the server's user can enter, although root made it.
fn open_folder() -> tempfile::TempDir {
    folder(0o755)
}

async fn connect(server: &Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn show(client: &Client, setting: &str) -> String {
    client.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0)
}

fn server_process(data: &Path) -> Pid {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

async fn wait_for_end(process: Pid, limit: Duration) {
    let start = Instant::now();
    while test_kill_process(process).is_ok() {
        assert!(start.elapsed() < limit, "the process did not end within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_a_stop_and_a_crash() {
    let folder = open_folder();
    let options = Options::new(&folder.path().join("postgres"));
    let data = options.dir.join("data");
    let server = Postgres::start(&options).await.unwrap();
    let client = connect(&server).await;
    for (setting, expected) in [
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("max_connections", "100"),
        ("jit", "off"),
    ] {
        assert_eq!(show(&client, setting).await, expected, "{setting}");
    }
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    assert!(matches!(Postgres::start(&options).await, Err(Error::InUse(_))));
    // A client that stays connected, in the middle of a transaction, does not keep the server from stopping.
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (100)").await.unwrap();
    let process = server_process(&data);
    let begun = Instant::now();
    server.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5) && test_kill_process(process).is_err());
    assert!(!data.join("postmaster.pid").exists());

    let mut server = Postgres::start(&options).await.unwrap();
    let client = connect(&server).await;
    client.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
    kill_process(server_process(&data), Signal::KILL).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(5), server.ended()).await.unwrap().unwrap();
    assert!(!status.success());
    server.stop().await.unwrap();

    let server = Postgres::start(&options).await.unwrap();
    let client = connect(&server).await;
    let sum: i64 = client.query_one("SELECT sum(n) FROM kept", &[]).await.unwrap().get(0);
    assert_eq!(sum, 3);
    server.stop().await.unwrap();
    assert!(
        fs::read_to_string(options.dir.join("postgres.log")).unwrap().contains("ready to accept connections")
    );
}

/// The other half of [`the_server_ends_with_its_parent`]: a process that starts a server and is killed.
#[tokio::test(flavor = "multi_thread")]
async fn parent() {
    if let Some(dir) = std::env::var_os("GRANARY_TEST_PARENT") {
        let server = Postgres::start(&Options::new(Path::new(&dir))).await.unwrap();
        let client = connect(&server).await;
        client.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();
        fs::write(Path::new(&dir).join("started"), "").unwrap();
        tokio::time::sleep(Duration::from_mins(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_with_its_parent() {
    let folder = open_folder();
    let dir = folder.path().join("postgres");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent"])
        .env("GRANARY_TEST_PARENT", &dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !dir.join("started").exists() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the server did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let process = server_process(&dir.join("data"));
    parent.kill().unwrap();
    parent.wait().unwrap();
    // At once, while the server that was left may still be shutting down.
    let server = Postgres::start(&Options::new(&dir)).await.unwrap();
    wait_for_end(process, Duration::ZERO).await;
    let client = connect(&server).await;
    assert_eq!(client.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_ends_the_server() {
    let folder = open_folder();
    let options = Options::new(&folder.path().join("postgres"));
    let server = Postgres::start(&options).await.unwrap();
    let process = server_process(&options.dir.join("data"));
    // Ctrl-C goes to the process group of the terminal, which must not be the server's.
    assert_ne!(getpgid(Some(process)).unwrap(), getpgid(None).unwrap());
    drop(server);
    wait_for_end(process, Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_or_odd_path_is_no_obstacle() {
    let folder = open_folder();
    let dir = folder.path().join("with, a comma").join("long".repeat(25));
    DirBuilder::new().recursive(true).mode(0o755).create(&dir).unwrap();
    let options = Options::new(&dir.join("postgres"));
    for expected in [0_i64, 1] {
        let server = Postgres::start(&options).await.unwrap();
        let socket =
            server.url().split_once("host=").unwrap().1.split_once('&').unwrap().0.replace("%2F", "/");
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
        let client = connect(&server).await;
        client.batch_execute("CREATE TABLE IF NOT EXISTS kept (n int)").await.unwrap();
        let count: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
        assert_eq!(count, expected);
        client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        server.stop().await.unwrap();
    }
}

/// Root's own folders are closed to the user as whom the server runs then; to anyone else this is a folder like others.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_folder_keeps_its_data_outside() {
    let closed = folder(0o700);
    let outside = open_folder();
    let options =
        Options { outside: outside.path().join("outside"), ..Options::new(&closed.path().join("postgres")) };
    for round in 0..2 {
        let server = Postgres::start(&options).await.unwrap();
        let client = connect(&server).await;
        let table = if round == 0 { "CREATE TABLE kept (n int)" } else { "INSERT INTO kept VALUES (1)" };
        client.batch_execute(table).await.unwrap();
        server.stop().await.unwrap();
    }
    if rustix::process::geteuid().is_root() {
        let home = PathBuf::from(fs::read_to_string(options.dir.join("location")).unwrap());
        assert!(home.starts_with(&options.outside) && home.join("data/PG_VERSION").exists());
        fs::remove_dir_all(home).unwrap();
        assert!(matches!(Postgres::start(&options).await, Err(Error::Gone { .. })));
    } else {
        assert!(options.dir.join("data/PG_VERSION").exists());
    }
}

/// An address that nobody listens on now.
fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_over_tcp_need_the_password_of_the_last_start() {
    let folder = open_folder();
    let address = free_address();
    let with = |password: &str| Options {
        network: Some(Network { address, password: Password::new(password.to_owned().into()).unwrap() }),
        log: LogTo::Events,
        ..Options::new(&folder.path().join("postgres"))
    };
    let come = async |password: &str| {
        let mut config = tokio_postgres::Config::new();
        config.host(address.ip().to_string()).port(address.port()).user("granary").dbname("granary");
        let (client, connection) = config.password(password).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok::<Client, tokio_postgres::Error>(client)
    };

    // Made for the socket alone, as by `granary dev`.
    let options = Options::new(&folder.path().join("postgres"));
    Postgres::start(&options).await.unwrap().stop().await.unwrap();

    let server = Postgres::start(&with("it's the first")).await.unwrap();
    server.probe().ask().await.unwrap();
    assert!(come("").await.is_err() && come("its the first").await.is_err());
    let client = come("it's the first").await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'granary'";
    let stored: String = client.query_one(stored, &[]).await.unwrap().get(0);
    assert!(stored.starts_with("SCRAM-SHA-256$"), "{stored}");
    server.stop().await.unwrap();

    // As Kubernetes leaves the files of a volume to a group.
    fs::set_permissions(options.dir.join("data"), fs::Permissions::from_mode(0o2770)).unwrap();
    let server = Postgres::start(&with("the second")).await.unwrap();
    assert!(come("it's the first").await.is_err());
    let client = come("the second").await.unwrap();
    assert_eq!(client.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 1);
    let probe = server.probe();
    server.stop().await.unwrap();
    assert!(probe.ask().await.is_err());

    let server = Postgres::start(&options).await.unwrap();
    assert!(come("the second").await.is_err());
    server.stop().await.unwrap();
    fs::write(options.dir.join("data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let failed = Postgres::start(&with("the second")).await.unwrap_err();
    assert!(failed.to_string().contains("no_such_setting"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_broken_is_said() {
    let folder = open_folder();
    let dir = folder.path().join("postgres");
    let options = Options { binaries: Some(folder.path().to_owned()), ..Options::new(&dir) };
    assert!(matches!(Postgres::start(&options).await, Err(Error::NotInFolder(_))));

    let options = Options::new(&dir);
    Postgres::start(&options).await.unwrap().stop().await.unwrap();
    fs::write(dir.join("data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    match Postgres::start(&options).await {
        Err(error @ Error::Ended { .. }) => assert!(error.to_string().contains("no_such_setting"), "{error}"),
        other => panic!("{other:?}"),
    }
    fs::write(dir.join("data/PG_VERSION"), "3\n").unwrap();
    assert!(matches!(Postgres::start(&options).await, Err(Error::OtherVersion { wanted: 3, .. })));
}
