//! A private `PostgreSQL` server in a folder, reached by a Unix socket that only its owner may enter; and over TCP with
//! a password, where [`Options::network`] says so.
//!
//! ```text
//! DIR/lock           held by the process that runs the server
//! DIR/postgres.log   what the server says, unless it goes to the log of this process
//! DIR/pg_hba.conf    who may connect; only where TCP clients may
//! DIR/data/          the cluster
//! DIR/socket/        the socket, if its path is short enough; else it is in a new folder below $XDG_RUNTIME_DIR or /tmp
//! DIR/location       only where the server's user cannot enter DIR: the folder that holds `data` and `socket` instead
//! ```
//!
//! Started by root, the server runs as another user, for it refuses to run as root: the owner of the data there is, else
//! `postgres`, else `nobody`.
//!
//! The server is no direct child. Between stands a shell that waits for the end of a pipe whose other end this process
//! holds: when the process stops the server, or ends in whatever way, `kill -9` included, the pipe closes and the shell
//! shuts the server down. Both are in a process group of their own, so that Ctrl-C in a terminal does not reach them
//! and they are stopped in order.

mod binaries;
mod error;
mod leftovers;
mod log;
mod network;
mod place;
mod ready;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::folder_lock::FolderLock;

pub use error::Error;
pub use log::LogTo;
pub use network::{Network, Password, PasswordError};

use binaries::Binaries;
use error::Context;
use log::Log;
use place::RunAs;

/// Runs the server (`"$@"`) until it ends by itself or standard input is at its end; then the answer is the server's.
/// SIGINT asks the server for a fast shutdown: it breaks off transactions and writes a checkpoint.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(read -r _ <&3; kill -INT "$server") 2>/dev/null &
watch=$!
wait "$server"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"#;

/// The role and the database that the registry uses.
const NAME: &str = "granary";
/// Without TCP only the name of the socket depends on it.
const PORT: u16 = 5432;
/// Begins the names of folders in which data is being made.
const UNFINISHED: &str = "new-";
/// How long a fast shutdown may take, and after it an immediate one.
const STOP_LIMITS: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(5)];
/// Between two looks whether the server is ready.
const POLL: Duration = Duration::from_millis(20);
/// The bits of a data folder's mode with which the server refuses to start: writing by the group, anything by others.
const TOO_OPEN: u32 = 0o027;

/// How to run the server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for everything, made if it is missing. Nothing else may be in it.
    pub dir: PathBuf,
    /// The folder of the programs `postgres` and `initdb`; `None` to look for it on the `PATH` and where packages put it.
    pub binaries: Option<PathBuf>,
    /// Below this the data is kept if root starts the server and its user cannot enter `dir` (as with one in `/root`).
    pub outside: PathBuf,
    /// How long the server may take until it accepts connections; a recovery after a crash is part of it.
    pub start_limit: Duration,
    /// Clients that come over TCP; without it there is the socket alone.
    pub network: Option<Network>,
    /// How many connections the server takes at a time.
    pub max_connections: u32,
    /// Where its log goes.
    pub log: LogTo,
}

impl Options {
    /// A server in `dir`. The environment variable `GRANARY_POSTGRES_BIN` names the folder of the programs.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            binaries: std::env::var_os("GRANARY_POSTGRES_BIN").map(PathBuf::from),
            outside: PathBuf::from("/var/lib/granary"),
            start_limit: Duration::from_mins(1),
            network: None,
            max_connections: 100,
            log: LogTo::File,
        }
    }
}

/// A running server. Dropping it shuts the server down too, but waits for nothing.
#[derive(Debug)]
pub struct Postgres {
    supervisor: Child,
    /// The pipe whose end the supervisor waits for.
    lifeline: Option<ChildStdin>,
    data: PathBuf,
    socket: Socket,
    port: u16,
    _lock: FolderLock,
}

#[derive(Debug)]
enum Socket {
    Own(PathBuf),
    Temporary(TempDir),
}

impl Socket {
    fn path(&self) -> &Path {
        match self {
            Self::Own(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// Asks a server whether it takes connections. Outlives it.
#[derive(Debug, Clone)]
pub struct Probe(PathBuf);

/// Why a server takes no connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// There is a server, but it lets nobody in now.
    #[error("PostgreSQL refuses connections: {0}")]
    Refused(String),
    /// Nobody listens on the socket.
    #[error("PostgreSQL does not listen")]
    NoServer,
}

impl Probe {
    fn new(socket: &Path, port: u16) -> Self {
        Self(socket.join(format!(".s.PGSQL.{port}")))
    }

    /// Connects, as a client would, and hangs up. Has no time limit of its own.
    ///
    /// # Errors
    /// [`NotReady`] says why there is no connection.
    pub async fn ask(&self) -> Result<(), NotReady> {
        ready::ask(&self.0, NAME).await
    }
}

impl Postgres {
    /// Starts the server, after making its data if there is none, and waits until it accepts connections. A server that
    /// was left on the same data by a process that is gone is waited for and, if need be, shut down.
    ///
    /// If the future is dropped before it is ready, the server ends.
    ///
    /// # Errors
    /// Each [`Error`] says what to do about it.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let dir = &options.dir;
        let directory = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        directory.context("create", dir)?;
        let dir = &dir.canonicalize().context("find", dir)?;
        let lock = FolderLock::take(dir).context("lock", &dir.join(FolderLock::FILE))?;
        let lock = lock.ok_or_else(|| Error::InUse(dir.clone()))?;
        let run_as = RunAs::choose(dir)?;
        let home = place::home(dir, &options.outside, &run_as).await?;
        let data = home.join("data");
        leftovers::end(&data).await?;
        let binaries = Binaries::find(options.binaries.as_deref(), &data).await?;
        if !data.exists() {
            create_cluster(&home, &data, &binaries, &run_as).await?;
        }
        make_private(&data)?;
        let who_may = match &options.network {
            Some(network) => Some(network::prepare(network, &home, &data, &binaries, &run_as).await?),
            None => None,
        };
        let socket = make_socket_folder(&home, &run_as)?;
        let port = options.network.as_ref().map_or(PORT, |network| network.address.port());
        let mut log = Log::open(options.log, dir)?;

        let mut command = run_as.command(Path::new("/bin/sh"));
        command.args(["-c", SUPERVISOR, "sh"]).arg(binaries.postgres());
        command.arg("-D").arg(&data).arg("-k").arg(socket.path()).args(["-p", &port.to_string()]);
        for setting in settings(options) {
            command.args(["-c", &setting]);
        }
        if let Some(file) = who_may {
            let mut setting = OsString::from("hba_file=");
            setting.push(&file);
            command.arg("-c").arg(setting);
        }
        log.attach(&mut command)?;
        command.stdin(Stdio::piped());
        let mut supervisor = command.spawn().context("run", Path::new("/bin/sh"))?;
        log.follow(&mut supervisor);
        let lifeline = supervisor.stdin.take();
        let mut server = Self { supervisor, lifeline, data, socket, port, _lock: lock };

        let deadline = Instant::now() + options.start_limit;
        let probe = server.probe();
        let mut refusal = NotReady::NoServer;
        loop {
            match probe.ask().await {
                Ok(()) => return Ok(server),
                Err(NotReady::NoServer) => {}
                Err(refused) => refusal = refused,
            }
            if let Ok(status) = timeout(POLL, server.ended()).await {
                return Err(Error::Ended { status: status?, log: log.quote().await });
            }
            if Instant::now() > deadline {
                server.stop().await?;
                return Err(Error::NotReady { reason: refusal, log: log.quote().await });
            }
        }
    }

    /// What asks this server whether it takes connections.
    pub fn probe(&self) -> Probe {
        Probe::new(self.socket.path(), self.port)
    }

    /// Where to connect, as `tokio-postgres` and libpq read it: a database and a role `granary`, without a password.
    pub fn url(&self) -> String {
        // The path holds only characters that need no encoding but the slash, see `place::fits_socket`.
        let host = self.socket.path().to_string_lossy().replace('/', "%2F");
        let port = self.port;
        format!("postgresql:///{NAME}?host={host}&port={port}&user={NAME}")
    }

    /// Waits until the server ends by itself, which it does only on a fault or if someone else shuts it down. May be
    /// dropped and called again.
    ///
    /// # Errors
    /// [`Error::Io`] if the process cannot be waited for.
    pub async fn ended(&mut self) -> Result<ExitStatus, Error> {
        self.supervisor.wait().await.context("wait for", Path::new("postgres"))
    }

    /// Shuts the server down: open transactions are rolled back, and what was committed is on disk.
    ///
    /// # Errors
    /// [`Error::StillRunning`] if the server did not end although it was told twice; [`Error::Io`].
    pub async fn stop(mut self) -> Result<(), Error> {
        self.lifeline = None;
        let mut ended = timeout(STOP_LIMITS[0], self.ended()).await;
        if ended.is_err() {
            tracing::warn!("PostgreSQL did not shut down in time; shutting it down at once");
            leftovers::signal(&self.data, Signal::QUIT);
            ended = timeout(STOP_LIMITS[1], self.ended()).await;
        }
        match ended {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    tracing::warn!(%status, "PostgreSQL had not shut down cleanly; it will recover at the next start");
                }
                Ok(())
            }
            Err(_) => Err(Error::StillRunning(self.data.clone())),
        }
    }
}

/// What the server is told on its command line.
fn settings(options: &Options) -> Vec<String> {
    let address = options.network.as_ref().map(|network| network.address.ip().to_string());
    let mut settings = vec![
        format!("listen_addresses={}", address.unwrap_or_default()),
        format!("max_connections={}", options.max_connections),
    ];
    let always = [
        "shared_buffers=64MB",
        "jit=off",
        "fsync=on",
        "synchronous_commit=on",
        "logging_collector=off",
        "log_destination=stderr",
    ];
    settings.extend(always.map(str::to_owned));
    if options.log == LogTo::Events {
        // An event has a time of its own, and its level comes from the severity, which stands first then.
        settings.push("log_line_prefix=".to_owned());
        settings.push("log_checkpoints=off".to_owned());
    }
    if options.network.is_some() {
        // A statement that fails may have a password in it.
        settings.push("log_min_error_statement=panic".to_owned());
        settings.push("password_encryption=scram-sha-256".to_owned());
    }
    settings
}

/// Takes from the data what the server does not start with: Kubernetes gives all files of a volume to the group of a
/// pod's `fsGroup`, for reading and writing.
fn make_private(data: &Path) -> Result<(), Error> {
    let mode = fs::metadata(data).context("read", data)?.permissions().mode();
    if mode & TOO_OPEN == 0 {
        return Ok(());
    }
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).context("change the permissions of", data)
}

/// Makes the data with the role and the database in it. It gets its name when it is complete.
async fn create_cluster(home: &Path, data: &Path, binaries: &Binaries, run_as: &RunAs) -> Result<(), Error> {
    for entry in fs::read_dir(home).context("list", home)? {
        let path = entry.context("list", home)?.path();
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(UNFINISHED.as_bytes())) {
            // May fail where the program that made it still runs, as it does when only its parent was killed.
            let _ = fs::remove_dir_all(&path);
        }
    }
    let fresh = home.join(format!("{UNFINISHED}{}", Uuid::new_v4().simple()));
    let mut initdb = run_as.command(&binaries.initdb());
    initdb.arg("-D").arg(&fresh).args(["-U", NAME, "--encoding=UTF8", "--locale=C"]);
    initdb.args(["--auth-local=trust", "--auth-host=reject"]);
    run(initdb, "initdb", b"").await?;

    // In the single-user mode, for then no client program is needed.
    let mut single = run_as.command(&binaries.postgres());
    single.args(["--single", "-D"]).arg(&fresh).args(["-c", "exit_on_error=on", "postgres"]);
    run(single, "postgres --single", format!("CREATE DATABASE {NAME}\n").as_bytes()).await?;

    fs::rename(&fresh, data).context("create", data)?;
    File::open(home).and_then(|home| home.sync_all()).context("sync", home)
}

async fn run(mut command: tokio::process::Command, program: &'static str, input: &[u8]) -> Result<(), Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("run", Path::new(program))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early does not read it all; its status says why.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await.context("run", Path::new(program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Program {
        program,
        status: output.status,
        output: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

fn make_socket_folder(home: &Path, run_as: &RunAs) -> Result<Socket, Error> {
    let own = home.join("socket");
    // Whatever a server that was killed left there is gone with it.
    match fs::remove_dir_all(&own) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => result.context("remove", &own)?,
    }
    let socket = if place::fits_socket(&own) {
        fs::DirBuilder::new().mode(0o700).create(&own).context("create", &own)?;
        Socket::Own(own)
    } else {
        let base = run_as.runtime_folder();
        let folder = tempfile::Builder::new()
            .prefix("granary-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&base)
            .context("create", &base)?;
        Socket::Temporary(folder)
    };
    run_as.give(socket.path())?;
    Ok(socket)
}
