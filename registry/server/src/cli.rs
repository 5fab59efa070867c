//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use granary_core::{PackagePattern, Role, SubjectName};

/// A package registry for Kubernetes: Python packages now; Conan, conda and data packages to come.
#[derive(Debug, Parser)]
#[command(name = "granary", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a registry whose database and object store exist already.
    #[command(after_long_help = options_help())]
    Serve(ServeArgs),
    /// Serve a registry for development: starts a private Postgres and an object store of its own.
    Dev(DevArgs),
    /// Run a Postgres and an S3 server on one volume, for a registry that has neither.
    #[command(after_long_help = STORE_SECRETS)]
    Store(StoreArgs),
    /// Bring the database schema up to date. `serve` refuses to start before.
    Migrate(ConfigArgs),
    /// Check database, object store, clock and configuration, and say what is wrong and how to mend it.
    Doctor(ConfigArgs),
    /// Make, list and revoke API tokens.
    Token(TokenArgs),
    /// Make accounts.
    User(UserArgs),
    /// Show the job queue.
    Jobs(ConfigArgs),
    /// Read all stored files again now and compare them with their digests.
    Scrub(ConfigArgs),
}

/// Secrets have no place on a command line, where every process can read them.
const STORE_SECRETS: &str = "\
Secrets come from the environment; each may also stand in a file, named by the variable with _FILE behind:
  GRANARY_STORE_POSTGRES_PASSWORD   of the superuser `granary`, set at each start
  GRANARY_STORE_ACCESS_KEY_ID       of the S3 server
  GRANARY_STORE_SECRET_ACCESS_KEY   of the S3 server";

fn options_help() -> String {
    granary_crds::help_text()
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The config file: a `PackageRegistry` resource, or its spec alone. Every option may also come from the
    /// environment (`GRANARY_DATABASE_URL` and so on: see `granary serve --help`).
    #[arg(long, env = "GRANARY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A folder of Channel resources (YAML) to apply and to watch.
    #[arg(long, value_name = "DIR")]
    pub channels: Option<PathBuf>,
}

/// Arguments of `dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Where everything is kept: database, objects, cache, admin token.
    #[arg(long, value_name = "DIR", default_value = ".granary")]
    pub data_dir: PathBuf,
    /// Where to serve; port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub management_listen: SocketAddr,
    /// A folder of Channel resources (YAML) to apply and to watch; without it, one public channel `dev`.
    #[arg(long, value_name = "DIR")]
    pub channels: Option<PathBuf>,
    /// The file of the admin token: made if it does not exist [default: DIR/admin-token].
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// A Postgres that runs already; without it, a private one is started.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The schema within the database.
    #[arg(long, value_name = "NAME", default_value = "granary")]
    pub schema: String,
    /// What begins the name of every bucket.
    #[arg(long, value_name = "TEXT", default_value = "granary-")]
    pub bucket_prefix: String,
    /// How a line of the log is written.
    #[arg(long, value_enum, default_value_t = LogStyle::Human)]
    pub log_format: LogStyle,
    /// What is logged, such as `info` or `granary::request=warn,info`.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub log: String,
}

/// Arguments of `store`.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Where everything is kept: a folder `postgres` and a folder `objects` are made in it.
    #[arg(long, env = "GRANARY_STORE_DATA_DIR", value_name = "DIR", default_value = "/data")]
    pub data_dir: PathBuf,
    /// Where Postgres listens.
    #[arg(
        long,
        env = "GRANARY_STORE_POSTGRES_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:5432"
    )]
    pub postgres_listen: SocketAddr,
    /// Where the S3 server listens.
    #[arg(long, env = "GRANARY_STORE_S3_LISTEN", value_name = "ADDR:PORT", default_value = "0.0.0.0:9000")]
    pub s3_listen: SocketAddr,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(
        long,
        env = "GRANARY_STORE_MANAGEMENT_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:9090"
    )]
    pub management_listen: SocketAddr,
    /// How a line of the log is written.
    #[arg(long, env = "GRANARY_LOG_FORMAT", value_enum, default_value_t = LogStyle::Json)]
    pub log_format: LogStyle,
    /// What is logged, such as `info` or `postgres=warn,info`.
    #[arg(long, env = "GRANARY_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogStyle {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Arguments of `token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenAction {
    /// Make a token and print it: it cannot be shown again.
    Create {
        /// The account that the token acts for.
        #[arg(long)]
        user: SubjectName,
        /// The most that the token may do; without it, all that the account may.
        #[arg(long, value_parser = role)]
        role: Option<Role>,
        /// Only these channels, as format/name; `*` stands for any characters. May be repeated.
        #[arg(long, value_name = "PATTERN")]
        channel: Vec<PackagePattern>,
        /// Only these packages. May be repeated.
        #[arg(long, value_name = "PATTERN")]
        package: Vec<PackagePattern>,
        /// After how many days it ends; without it, never.
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the tokens of an account.
    List {
        /// The account.
        #[arg(long)]
        user: SubjectName,
    },
    /// End a token.
    Revoke {
        /// Its id: the part between the first and the second underscore.
        id: String,
    },
}

/// Arguments of `user`.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(subcommand)]
    pub action: UserAction,
}

/// What to do with accounts.
#[derive(Debug, Clone, Subcommand)]
pub enum UserAction {
    /// Make an account.
    Create {
        /// Its name.
        name: SubjectName,
        /// Read its password from this file; without it, it logs in by tokens only.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Put it in a group. May be repeated.
        #[arg(long)]
        group: Vec<SubjectName>,
        /// Let it do everything.
        #[arg(long)]
        admin: bool,
    },
    /// Give an account another password; the old one stops working at once.
    Password {
        /// Its name.
        name: SubjectName,
        /// Read the password from this file: `/dev/stdin` for what is piped in.
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Let an account log in no more, by password or token.
    Disable {
        /// Its name.
        name: SubjectName,
    },
    /// Let a disabled account log in again.
    Enable {
        /// Its name.
        name: SubjectName,
    },
}

fn role(text: &str) -> Result<Role, String> {
    [Role::Reader, Role::Publisher, Role::Maintainer, Role::Owner]
        .into_iter()
        .find(|role| role.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| "one of Reader, Publisher, Maintainer and Owner".to_owned())
}
