//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use granary_core::{ChannelName, Format, PackagePattern, Role, SubjectName};
use granary_crds::Raw;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::login_command::LoginArgs;

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
    /// Get a token from a registry for this terminal: somebody allows it in a browser.
    Login(LoginArgs),
    /// Make accounts.
    User(UserArgs),
    /// Say whether somebody may do something, and by which grant. The exit code is 0 for yes and 1 for no.
    Can(CanArgs),
    /// Show who did what, and who was refused what: the newest first.
    #[command(after_long_help = AUDIT_FIELDS)]
    Audit(AuditArgs),
    /// List what is served, and what each route needs: method, path, need.
    Routes(ConfigArgs),
    /// Show the job queue.
    Jobs(ConfigArgs),
    /// Read all stored files again now and compare them with their digests.
    Scrub(ConfigArgs),
    /// Read the users and permissions of another registry, and print them as Channel objects. Changes nothing.
    Import(ImportArgs),
}

/// Secrets have no place on a command line, where every process can read them.
const STORE_SECRETS: &str = "\
Secrets come from the environment; each may also stand in a file, named by the variable with _FILE behind:
  GRANARY_STORE_POSTGRES_PASSWORD   of the superuser `granary`, set at each start
  GRANARY_STORE_ACCESS_KEY_ID       of the S3 server
  GRANARY_STORE_SECRET_ACCESS_KEY   of the S3 server";

/// What other programs read.
const AUDIT_FIELDS: &str = "\
With --json, each line is an object of these fields, of which later versions may have more:
  id          a number: the higher, the later
  at          when it was done, or refused for the first time (RFC 3339, UTC)
  actor       the account, workload:ISSUER:SUBJECT, anonymous, or the part of Granary that acted
  credential  password, `token ID`, `session ID`, `signed token ID`, none; several where refusals are summed up
  address     of the client; null where it is not known
  action      such as publish, yank, delete, create token
  channel     FORMAT/NAME, or null
  package     its normalised name, or null
  outcome     done or refused
  times       how often it was refused within the minute; 1 for what was done
  request_id  as in the log and in the response, or null; of the first, where it was refused more than once
  detail      an object that depends on the action: file, version, digest";

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

/// Arguments of `can`.
#[derive(Debug, Clone, Args)]
pub struct CanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Who: user:NAME, serviceaccount:NAMESPACE/NAME, workload:ISSUER?CLAIM=VALUE or anonymous.
    pub subject: String,
    /// What: read, publish, remove or administer.
    pub action: String,
    /// Where: FORMAT/NAME.
    pub channel: String,
    /// To which package; without it, to some package of the channel.
    pub package: Option<String>,
    /// A group that they are in, beside those that the registry knows of. May be repeated.
    #[arg(long)]
    pub group: Vec<SubjectName>,
}

/// Arguments of `audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only what this account did, or this workload (`workload:ISSUER:SUBJECT`).
    #[arg(long)]
    pub actor: Option<String>,
    /// Only in this channel.
    #[arg(long, value_name = "FORMAT/NAME", value_parser = channel)]
    pub channel: Option<String>,
    /// Only this package, by its normalised name.
    #[arg(long, value_name = "NAME")]
    pub package: Option<String>,
    /// Only this action, such as `publish` or `create token`.
    #[arg(long)]
    pub action: Option<String>,
    /// Only what was done, or what was refused.
    #[arg(long, value_enum)]
    pub outcome: Option<Outcome>,
    /// Not before this: a span of time back from now such as `24h` or `7d`, or a time such as `2026-03-01T12:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Before this, written as for --since.
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// At most so many [default: 100; with --json, all].
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub limit: Option<u64>,
    /// One JSON object a line; `granary audit --help` tells its fields.
    #[arg(long)]
    pub json: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Moment {
    /// When that is.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => SignedDuration::try_from(span)
                .ok()
                .and_then(|span| now.checked_sub(span).ok())
                .unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let message = "write a span of time such as 24h or 7d, or a time such as 2026-03-01T12:00:00Z";
        let ago = Raw::<Duration>::new(text).read().map(Self::Ago);
        ago.or_else(|_| text.parse().map(Self::At)).map_err(|_| message.to_owned())
    }
}

fn channel(text: &str) -> Result<String, String> {
    let named = text.split_once('/').filter(|(format, name)| {
        format.parse::<Format>().is_ok_and(|format| ChannelName::parse(format, name).is_ok())
    });
    named.map(|_| text.to_owned()).ok_or_else(|| "write FORMAT/NAME, such as pypi/tools".to_owned())
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

/// Arguments of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    pub source: ImportSource,
}

/// What to import.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportSource {
    /// The server.conf of a conan_server.
    ConanServer(ConanServerArgs),
    /// A password file of Apache's htpasswd.
    Htpasswd(HtpasswdArgs),
    /// The folder that devpi-export wrote.
    Devpi(DevpiArgs),
    /// The database of a Quetz: its channels and permissions, printed.
    Quetz(QuetzArgs),
    /// The packages of a Quetz, into channels of this registry that are there already.
    QuetzPackages(QuetzPackagesArgs),
}

/// What the channels belong to.
#[derive(Debug, Clone, Args)]
pub struct ImportTarget {
    /// The PackageRegistry that the channels name (registryRef); needed in a cluster.
    #[arg(long, value_name = "NAME")]
    pub registry: Option<String>,
    /// The namespace of the Channel objects.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// What an import does beside printing channels to its output and what is not in them to its error output.
#[derive(Debug, Clone, Args)]
pub struct ImportOutput {
    /// Write the accounts whose passwords can be carried over to this new file, for identity.authenticators.
    #[arg(long, value_name = "FILE")]
    pub users_file: Option<PathBuf>,
    /// Compare the old rules with the new grants over a table of who, what and which package.
    #[arg(long)]
    pub prove: bool,
    /// Write that table to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub table: Option<PathBuf>,
    /// End with exit code 2 when something could not be carried over.
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `import conan-server`. Variables of conan_server (`CONAN_SERVER_USERS` and so on) stand before the
/// file, as they do for conan_server.
#[derive(Debug, Clone, Args)]
pub struct ConanServerArgs {
    /// The file.
    pub server_conf: PathBuf,
    /// The channel to make of it.
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = conan_channel)]
    pub channel: ChannelName,
    /// Which conan_server read the file: 1 (in the package conan 1.x: a recipe's user may do everything with it) or 2.
    #[arg(long, value_name = "1|2", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub server_version: u8,
    /// Let those who could write but not read do both; otherwise they get neither.
    #[arg(long)]
    pub writers_may_read: bool,
    #[command(flatten)]
    pub target: ImportTarget,
    #[command(flatten)]
    pub output: ImportOutput,
}

/// Arguments of `import htpasswd`.
#[derive(Debug, Clone, Args)]
pub struct HtpasswdArgs {
    /// The file.
    pub file: PathBuf,
    /// What to call the authenticator.
    #[arg(long, value_name = "NAME", default_value = "htpasswd")]
    pub authenticator: SubjectName,
    /// End with exit code 2 when something could not be carried over.
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `import devpi`.
#[derive(Debug, Clone, Args)]
pub struct DevpiArgs {
    /// The folder that `devpi-export` wrote, or its dataindex.json.
    pub export: PathBuf,
    /// What `--restrict-modify` of the server was, which no export tells: users and :groups with commas between.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub restrict_modify: Option<Vec<String>>,
    #[command(flatten)]
    pub target: ImportTarget,
    #[command(flatten)]
    pub output: ImportOutput,
}

/// Arguments of `import quetz`.
#[derive(Debug, Clone, Args)]
pub struct QuetzArgs {
    /// The `SQLite` file, or `sqlite:///FILE`, or `postgresql://…` as in Quetz' own configuration. A URL with a password
    /// belongs into the variable, which is Quetz' own.
    #[arg(env = "QUETZ_SQLALCHEMY_DATABASE_URL", hide_env_values = true)]
    pub database: SecretString,
    #[command(flatten)]
    pub target: ImportTarget,
    #[command(flatten)]
    pub output: ImportOutput,
}

/// Arguments of `import quetz-packages`.
#[derive(Debug, Clone, Args)]
pub struct QuetzPackagesArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The `SQLite` file, or `sqlite:///FILE`, or `postgresql://…` as in Quetz' own configuration. A URL with a password
    /// belongs into the variable, which is Quetz' own.
    #[arg(env = "QUETZ_SQLALCHEMY_DATABASE_URL", hide_env_values = true)]
    pub database: SecretString,
    /// The folder of its packages: `channels` below the deployment, with CHANNEL/SUBDIR/FILE.
    pub folder: PathBuf,
    /// Of this channel alone; may be given several times.
    #[arg(long = "channel", value_name = "NAME")]
    pub channels: Vec<String>,
}

fn conan_channel(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(Format::Conan, text).map_err(|error| error.to_string())
}

/// The name of a role, in letters of either case.
pub(crate) fn role(text: &str) -> Result<Role, String> {
    [Role::Reader, Role::Publisher, Role::Maintainer, Role::Owner]
        .into_iter()
        .find(|role| role.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| "one of Reader, Publisher, Maintainer and Owner".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_moment_is_a_span_or_a_time() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", "2026-02-28T12:00:00Z"),
            ("7d", "2026-02-22T12:00:00Z"),
            ("1h30m", "2026-03-01T10:30:00Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.resolve(now).to_string(), expected);
        }
        for text in ["", "yesterday", "24", "-1h", "2026-01-02"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert_eq!(Moment::Ago(Duration::MAX).resolve(now), Timestamp::MIN);
    }

    #[test]
    fn a_channel_has_its_format_in_front() {
        assert_eq!(channel("pypi/team/stable").unwrap(), "pypi/team/stable");
        for text in ["dev", "pypi", "pypi/", "rpm/dev", "pypi/a b"] {
            assert!(channel(text).is_err(), "{text}");
        }
    }
}
