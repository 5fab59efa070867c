//! `granary dev`: a whole registry on a bare machine. Starts Postgres and an object store of its own; from there on
//! every line is the one that `serve` runs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granary_core::SystemClock;
use granary_crds::{
    AdminsSpec, CacheSpec, DatabaseSpec, LogFormat, ObjectStoreSpec, PackageRegistrySpec, Raw, SealingSpec,
    TelemetrySpec,
};
use granary_embedded::object_store::{Credentials, ObjectStore};
use granary_embedded::postgres::{Options, Postgres};
use granary_http::ListenAddress;
use granary_identity::{ServerRole, TokenText};
use granary_process::{Context, Failure, stop_on_signals, telemetry};
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::assemble::{self, Assembled, MIGRATIONS};
use crate::cli::{DevArgs, LogStyle};
use crate::{config, run};

/// The account that the admin token acts for.
const ADMIN: &str = "admin";

/// The channels that a new data folder begins with.
const FIRST_CHANNELS: [(&str, &str); 2] = [("dev.yaml", DEV), ("channel0.yaml", CHANNEL0)];

/// The users that come with the first channels, with what they may do to the registry: for trying out the API of conda channels.
const TEST_USERS: [(&str, Option<ServerRole>); 4] = [
    ("alice", Some(ServerRole::Owner)),
    ("bob", Some(ServerRole::Maintainer)),
    ("carol", Some(ServerRole::Member)),
    ("dave", None),
];

const DEV: &str = "\
# A channel that everybody may read and the admin may publish to. Edit it, or add files beside it: they are
# applied within a second.
apiVersion: granary.dev/v1alpha1
kind: Channel
metadata:
  name: dev
spec:
  format: pypi
  visibility: public
";
const CHANNEL0: &str = "\
# A channel of conda packages. Its members may be changed through the API beside it, as Quetz has it.
apiVersion: granary.dev/v1alpha1
kind: Channel
metadata:
  name: channel0
spec:
  format: conda
  description: Description of channel0
  visibility: public
";

/// Runs `granary dev`.
pub async fn dev(args: DevArgs) -> Result<(), Failure> {
    let stop = stop_on_signals()?;
    let data = Data::open(&args.data_dir)?;
    let spec = spec(&args, &data);
    let registry = config::validate(&spec)?;
    let tracing = telemetry::start("granary", &registry.telemetry, None)?;
    let mut postgres = if let Some(url) = &args.database_url {
        data.write_secret("database-url", url)?;
        None
    } else {
        let postgres = Postgres::start(&Options::new(&data.path("postgres"))).await.context("Postgres")?;
        data.write_secret("database-url", &postgres.url())?;
        Some(postgres)
    };
    let objects_ended = CancellationToken::new();
    let (endpoint, objects) = serve_objects(&data, objects_ended.clone()).await?;
    data.sealing_keys()?;
    let spec = with_endpoint(spec, &endpoint);
    data.write_config(&spec)?;
    let registry = config::validate(&spec)?;

    let database = config::database(&registry)?;
    granary_store::migrate(&config::migration_options(database)?, &MIGRATIONS).await.context("migrations")?;
    let is_first = args.channels.is_none();
    let assembled = assemble::assemble_with(&registry, is_first).await?;
    let token_file = args.admin_token_file.clone().unwrap_or_else(|| data.path("admin-token"));
    let token = admin_token(&assembled, &token_file).await?;
    let channels = match &args.channels {
        Some(folder) => folder.clone(),
        None => data.first_channels()?,
    };

    let key = if is_first { Some(test_users(&assembled, &data).await?) } else { None };
    let talk = args.admin_token_file.is_none();
    let served = {
        let serving = run::run(
            &registry,
            &assembled,
            Some(channels.clone()),
            tracing.is_on(),
            stop.clone(),
            |addresses| {
                announce(addresses, talk.then_some((&token, channels.as_path(), &data)));
                if let Some(key) = &key {
                    // As `quetz run --dev` says it, which scripts look for.
                    println!("Test API key created for user \"{}\": {}", TEST_USERS[0].0, key.expose());
                }
            },
        );
        tokio::select! {
            served = serving => served,
            () = postgres_ended(&mut postgres) => {
                Err(Failure::new(format!("Postgres has ended by itself: see its log below {}", data.path("postgres").display())))
            }
        }
    };
    objects_ended.cancel();
    objects.await.context("the object store has failed")?;
    if let Some(postgres) = postgres {
        postgres.stop().await.context("Postgres")?;
    }
    tracing.finish();
    served
}

/// Never returns where there is no Postgres of ours.
async fn postgres_ended(postgres: &mut Option<Postgres>) {
    match postgres {
        Some(postgres) => {
            let ended = postgres.ended().await;
            tracing::error!(?ended, "Postgres has ended by itself");
        }
        None => std::future::pending().await,
    }
}

/// The folder of everything.
struct Data(PathBuf);

impl Data {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let what = format!("the data folder {}", folder.display());
        std::fs::create_dir_all(folder.join("secrets")).context(&what)?;
        Ok(Self(folder.canonicalize().context(&what)?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.0.join("secrets").join(name)
    }

    fn write_secret(&self, name: &str, text: &str) -> Result<(), Failure> {
        write_private(&self.secret(name), text)
    }

    /// The secret of this name, made at random when there is none.
    fn random_secret(&self, name: &str) -> Result<String, Failure> {
        let path = self.secret(name);
        if path.exists() {
            return std::fs::read_to_string(&path).context(&path.display().to_string());
        }
        let bytes: [u8; 20] = rand::rng().random();
        let text = hex::encode(bytes);
        write_private(&path, &text)?;
        Ok(text)
    }

    /// Keys that secrets are encrypted with, made at random when there are none.
    fn sealing_keys(&self) -> Result<(), Failure> {
        let path = self.secret("sealing-keys");
        if path.exists() {
            return Ok(());
        }
        let bytes: [u8; 32] = rand::rng().random();
        write_private(&path, &STANDARD.encode(bytes))
    }

    /// With this file, `granary token`, `granary doctor` and even `granary serve` reach the same registry.
    fn write_config(&self, spec: &PackageRegistrySpec) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(spec).context("the config file")?;
        write_private(&self.path("config.yaml"), &text)
    }

    fn first_channels(&self) -> Result<PathBuf, Failure> {
        let folder = self.path("channels");
        if !folder.exists() {
            std::fs::create_dir_all(&folder).context("the channels folder")?;
            for (name, text) in FIRST_CHANNELS {
                std::fs::write(folder.join(name), text).context("the first channels")?;
            }
        }
        Ok(folder)
    }
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context(&path.display().to_string())
}

/// The registry that the arguments describe, but for the object store's address, which is not known yet.
fn spec(args: &DevArgs, data: &Data) -> PackageRegistrySpec {
    PackageRegistrySpec {
        database: Some(DatabaseSpec {
            url_file: Some(data.secret("database-url")),
            schema: Raw::new(args.schema.as_str()),
            ..DatabaseSpec::default()
        }),
        object_store: Some(ObjectStoreSpec {
            access_key_id_file: Some(data.secret("object-store-key-id")),
            secret_access_key_file: Some(data.secret("object-store-key")),
            bucket_prefix: args.bucket_prefix.clone(),
            ..ObjectStoreSpec::default()
        }),
        listen: vec![Raw::new(args.listen.to_string())],
        management_listen: Raw::new(args.management_listen.to_string()),
        sealing: SealingSpec { keys_file: Some(data.secret("sealing-keys")), ..SealingSpec::default() },
        cache: CacheSpec { dir: Some(data.path("cache")), ..CacheSpec::default() },
        admins: AdminsSpec::default(),
        telemetry: TelemetrySpec {
            log_format: match args.log_format {
                LogStyle::Json => LogFormat::Json,
                LogStyle::Human => LogFormat::Human,
            },
            log_filter: args.log.clone(),
            ..TelemetrySpec::default()
        },
        ..PackageRegistrySpec::default()
    }
}

fn with_endpoint(mut spec: PackageRegistrySpec, endpoint: &str) -> PackageRegistrySpec {
    if let Some(store) = &mut spec.object_store {
        store.endpoint = Some(Raw::new(endpoint));
        // Clients of a development registry are on the same machine.
        store.public_endpoint = Some(Raw::new(endpoint));
    }
    spec
}

async fn serve_objects(data: &Data, ended: CancellationToken) -> Result<(String, JoinHandle<()>), Failure> {
    let credentials = Credentials::new(
        &data.random_secret("object-store-key-id")?,
        &data.random_secret("object-store-key")?,
    );
    let store = ObjectStore::open(&data.path("objects"), credentials, Arc::new(SystemClock))
        .context("the object store")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the object store's port")?;
    let endpoint = format!("http://{}", listener.local_addr().context("the object store's port")?);
    let serving = tokio::spawn(async move { store.serve(listener, ended).await });
    Ok((endpoint, serving))
}

/// The token of the admin: from its file, or made and written there.
async fn admin_token(assembled: &Assembled, file: &Path) -> Result<TokenText, Failure> {
    let name = format!("the admin token file {}", file.display());
    let token: TokenText = if file.exists() {
        let text = std::fs::read_to_string(file).context(&name)?;
        text.trim().parse().context(&format!("{name} (remove it, and one is made)"))?
    } else {
        let token = TokenText::generate(&mut rand::rng());
        write_private(file, token.expose())?;
        token
    };
    let accounts = assembled.identity.accounts();
    let admin = ADMIN.parse().context("the admin account")?;
    accounts.ensure_admin(&admin, None).await.context("the admin account")?;
    accounts.ensure_token(&admin, &token).await.context("the admin token")?;
    Ok(token)
}

/// Makes the users for trying things out, where they are not there yet. Gives a key of the first of them, the same at each start.
async fn test_users(assembled: &Assembled, data: &Data) -> Result<TokenText, Failure> {
    let accounts = assembled.identity.accounts();
    for (name, role) in TEST_USERS {
        let name = name.parse().context("a test user")?;
        accounts.ensure_test_user(&name, role).await.context("a test user")?;
    }
    let path = data.secret("test-api-key");
    let token: TokenText = if path.exists() {
        let text = std::fs::read_to_string(&path).context(&path.display().to_string())?;
        text.trim().parse().context(&format!("{} (remove it, and one is made)", path.display()))?
    } else {
        let token = TokenText::generate(&mut rand::rng());
        write_private(&path, token.expose())?;
        token
    };
    let name = TEST_USERS[0].0.parse().context("a test user")?;
    accounts.ensure_token(&name, &token).await.context("the test user's key")?;
    Ok(token)
}

/// One line for scripts, and for people what to paste.
fn announce(addresses: &[ListenAddress], people: Option<(&TokenText, &Path, &Data)>) {
    let Some(ListenAddress::Tcp(address)) = addresses.first() else { return };
    let url = format!("http://{address}");
    println!("ready {url}");
    let Some((token, channels, data)) = people else { return };
    let (token, dev) = (token.expose(), format!("{url}/pypi/dev"));
    let credentials = format!("http://__token__:{token}@{address}/pypi/dev");
    println!(
        "
Granary serves at {url}; the channels are the files in {channels}.
Admin token: {token}

  twine upload --repository-url {dev}/ -u __token__ -p {token} dist/*
  uv publish --publish-url {dev}/ --token {token} dist/*
  pip install --index-url {dev}/+simple/ NAME
  uv pip install --default-index {dev}/+simple/ NAME

Where a channel is not public, log in: pip install --index-url {credentials}/+simple/ NAME
More tokens: granary token --config {config} create --user admin --role Publisher
Ctrl-C stops; the data stays in {folder}.",
        channels = channels.display(),
        config = data.path("config.yaml").display(),
        folder = data.0.display(),
    );
}
