//! `granary store`: a Postgres and an S3 server in one container, on one volume, for a registry that has neither of a
//! cloud. The registry reaches both over the network, as it would any other.
//!
//! ```text
//! DIR/postgres/   the database, see `granary_embedded::postgres`
//! DIR/objects/    the buckets, see `granary_embedded::object_store`
//! ```

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use granary_core::SystemClock;
use granary_crds::{LogFormat, Secret, SecretSource, Telemetry};
use granary_embedded::object_store::{Credentials, ObjectStore};
use granary_embedded::postgres::{LogTo, Network, Options, Password, Postgres, Probe};
use granary_http::management::{Management, Readiness};
use granary_http::{BoxError, ListenAddress, Listener, ServeSettings};
use granary_process::{Context, Failure, stop_on_signals, telemetry};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry as Metrics, Unit};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::cli::{LogStyle, StoreArgs};

/// What begins the names of the variables.
const VARIABLES: &str = "GRANARY_STORE_";
/// Enough for the pods of a registry, its operator and an administrator; each takes at most 16 by default.
const MAX_CONNECTIONS: u32 = 200;
/// How long a recovery after a crash may take. Until then the process is alive, but not ready.
const START_LIMIT: Duration = Duration::from_mins(30);

/// Runs `granary store`.
pub async fn store(args: StoreArgs) -> Result<(), Failure> {
    let stop = stop_on_signals()?;
    let tracing = telemetry::start("granary-store", &log_settings(&args), None)?;
    let secrets = Secrets::load(|name| env::var(name).ok())?;
    let data = data_folder(&args.data_dir)?;
    if args.postgres_listen.port() == 0 {
        return Err(Failure::new("--postgres-listen: port 0 is no address that clients could be given"));
    }

    let buckets = ObjectStore::open(&data.join("objects"), secrets.keys, Arc::new(SystemClock))
        .context("the object store")?;
    let listener =
        TcpListener::bind(args.s3_listen).await.context(&format!("cannot listen on {}", args.s3_listen))?;
    let s3_address = listener.local_addr().context("the S3 address")?;
    let probe = Arc::new(OnceLock::new());
    let readiness = Arc::new(readiness(Arc::clone(&probe), s3_address));
    let drained = CancellationToken::new();
    let management = manage(args.management_listen, &readiness, &data, drained.clone())?;

    let halt = stop.child_token();
    let objects = {
        let halt = halt.clone();
        tokio::spawn(async move { buckets.serve(listener, halt).await })
    };
    tracing::info!(address = %s3_address, "serving S3");
    let told = {
        let (halt, readiness) = (halt.clone(), Arc::clone(&readiness));
        tokio::spawn(async move {
            halt.cancelled().await;
            readiness.begin_drain();
        })
    };
    let options = Options {
        network: Some(Network { address: args.postgres_listen, password: secrets.password }),
        max_connections: MAX_CONNECTIONS,
        // Never anywhere but on the volume.
        outside: data.clone(),
        start_limit: START_LIMIT,
        log: LogTo::Events,
        ..Options::new(&data.join("postgres"))
    };
    let kept = run_postgres(&options, &probe, &stop).await;
    halt.cancel();
    objects.await.context("the object store has failed")?;
    told.await.context("a task has failed")?;
    drained.cancel();
    management.await.context("the management server has failed")?;
    tracing.finish();
    kept
}

/// Until it is told to stop. That Postgres ends by itself is a failure.
async fn run_postgres(
    options: &Options,
    probe: &OnceLock<Probe>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut postgres = tokio::select! {
        started = Postgres::start(options) => started.context("Postgres")?,
        () = stop.cancelled() => return Ok(()),
    };
    probe.get_or_init(|| postgres.probe());
    if let Some(network) = &options.network {
        tracing::info!(address = %network.address, "serving Postgres");
    }
    tokio::select! {
        () = stop.cancelled() => postgres.stop().await.context("Postgres"),
        ended = postgres.ended() => {
            let status = ended.context("Postgres")?;
            Err(Failure::new(format!("Postgres has ended by itself ({status})")))
        }
    }
}

/// What clients need to be let in.
#[derive(Debug)]
struct Secrets {
    password: Password,
    keys: Credentials,
}

impl Secrets {
    /// Reads them from the variables, or from the files that the variables ending in `_FILE` name.
    fn load(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let read = |name: &str| secret(&variable, &format!("{VARIABLES}{name}"));
        let password = Password::new(read("POSTGRES_PASSWORD")?.into_secret_string())
            .context(&format!("{VARIABLES}POSTGRES_PASSWORD"))?;
        let (id, key) = (read("ACCESS_KEY_ID")?, read("SECRET_ACCESS_KEY")?);
        Ok(Self { password, keys: Credentials::new(id.expose(), key.expose()) })
    }
}

fn secret(variable: impl Fn(&str) -> Option<String>, name: &str) -> Result<Secret, Failure> {
    let given = |name: &str| variable(name).filter(|text| !text.is_empty());
    let file = format!("{name}_FILE");
    let source = match (given(name), given(&file)) {
        (Some(text), None) => SecretSource::Inline(Secret::new(text)),
        (None, Some(path)) => SecretSource::File(PathBuf::from(path)),
        (None, None) => return Err(Failure::new(format!("set {name}, or {file} to a file that holds it"))),
        (Some(_), Some(_)) => return Err(Failure::new(format!("set {name} or {file}, not both"))),
    };
    let secret = source.load().context(&file)?;
    if secret.expose().is_empty() {
        return Err(Failure::new(format!("{file}: the file is empty")));
    }
    Ok(secret)
}

fn log_settings(args: &StoreArgs) -> Telemetry {
    let log_format = match args.log_format {
        LogStyle::Json => LogFormat::Json,
        LogStyle::Human => LogFormat::Human,
    };
    Telemetry { log_format, log_filter: args.log.clone(), otlp_endpoint: None }
}

/// The folder, made if it is missing. Those below it are this process's own, whoever owns the volume.
fn data_folder(path: &Path) -> Result<PathBuf, Failure> {
    let what = format!("the data folder {}", path.display());
    std::fs::create_dir_all(path).context(&what)?;
    path.canonicalize().context(&what)
}

/// Ready while both servers take connections.
fn readiness(probe: Arc<OnceLock<Probe>>, s3: SocketAddr) -> Readiness {
    Readiness::new()
        .check("postgres", move || {
            let probe = Arc::clone(&probe);
            async move {
                match probe.get() {
                    Some(probe) => probe.ask().await.map_err(BoxError::from),
                    None => Err(BoxError::from("starting")),
                }
            }
        })
        .check("object-store", move || async move { TcpStream::connect(s3).await.map(drop) })
}

/// Serves the management address until `end`.
fn manage(
    address: SocketAddr,
    readiness: &Arc<Readiness>,
    data: &Path,
    end: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let mut metrics = Metrics::default();
    metrics.register_collector(Box::new(VolumeMetrics(data.to_owned())));
    let management = Management::new(Arc::clone(readiness), Arc::new(metrics));
    let address = ListenAddress::Tcp(address);
    let listener = Listener::bind(&address).context(&format!("cannot listen on {address}"))?;
    let address = listener.local_address().context("the management address")?;
    tracing::info!(%address, "management: /livez, /readyz, /metrics");
    Ok(tokio::spawn(async move {
        let serving = granary_http::serve(
            vec![listener],
            ServeSettings::default(),
            move |request, _| {
                let management = management.clone();
                async move { management.answer(request.method().clone(), request.uri().path().to_owned()).await }
            },
            end,
        );
        serving.await;
    }))
}

/// How full the volume is: what an administrator has to know of a store before its clients do.
#[derive(Debug)]
struct VolumeMetrics(PathBuf);

impl Collector for VolumeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let volume = match granary_embedded::volume(&self.0) {
            Ok(volume) => volume,
            Err(error) => {
                tracing::warn!(%error, "cannot tell how full the volume is");
                return Ok(());
            }
        };
        for (name, help, bytes) in [
            ("granary_store_volume_size", "What the volume can hold", volume.size),
            ("granary_store_volume_free", "What can still be written to the volume", volume.free),
        ] {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Secrets, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Secrets::load(find).map_err(|failure| failure.to_string())
    }

    #[test]
    fn secrets_come_from_variables_or_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "from a file\n").unwrap();
        let keys = [
            ("GRANARY_STORE_ACCESS_KEY_ID", "granary"),
            ("GRANARY_STORE_SECRET_ACCESS_KEY", "a-planted-key"),
        ];
        let with = |more: &[(&str, &str)]| load(&[&keys, more].concat());

        let path = file.to_str().unwrap();
        let secrets = with(&[("GRANARY_STORE_POSTGRES_PASSWORD_FILE", path)]).unwrap();
        assert!(!format!("{secrets:?}").contains("a-planted-key"));
        with(&[("GRANARY_STORE_POSTGRES_PASSWORD", "text")]).unwrap();

        assert!(with(&[]).unwrap_err().contains("GRANARY_STORE_POSTGRES_PASSWORD_FILE"));
        let both =
            [("GRANARY_STORE_POSTGRES_PASSWORD", "text"), ("GRANARY_STORE_POSTGRES_PASSWORD_FILE", path)];
        assert!(with(&both).unwrap_err().contains("not both"));
        std::fs::write(&file, "\n").unwrap();
        assert!(with(&[("GRANARY_STORE_POSTGRES_PASSWORD_FILE", path)]).unwrap_err().contains("empty"));
        std::fs::write(&file, "two\nlines").unwrap();
        assert!(with(&[("GRANARY_STORE_POSTGRES_PASSWORD_FILE", path)]).unwrap_err().contains("control"));
    }
}
