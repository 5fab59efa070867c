//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use granary_crds::{LogFormat, PullPolicy};

/// The operator of Granary: makes what `PackageRegistry` and `Channel` objects say.
#[derive(Debug, Parser)]
#[command(name = "granary-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Print the definitions of both resources as YAML.
    Crds,
    /// Ask a URL and fail unless it answers with success: for `helm test`.
    Probe(ProbeArgs),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, env = "GRANARY_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The namespaces to look at; all of them when none is named.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The image of registries that name none.
    #[arg(long, env = "GRANARY_IMAGE", default_value_t = format!("granary:{}", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The image of the store of registries that have no database of their own.
    #[arg(long, env = "GRANARY_STORE_IMAGE", default_value_t = format!("granary-store:{}", env!("CARGO_PKG_VERSION")))]
    pub store_image: String,
    /// When images are pulled.
    #[arg(long, env = "GRANARY_IMAGE_PULL_POLICY")]
    pub image_pull_policy: Option<PullPolicyArg>,
    /// Whether to wait for the lease, so that one of several operators works.
    #[arg(long, env = "GRANARY_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// The pod's name, which the lease and events carry.
    #[arg(long, env = "POD_NAME", default_value = "granary-operator")]
    pub pod_name: String,
    /// The pod's namespace, which holds the lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,
    /// How a line of the log is written.
    #[arg(long, env = "GRANARY_LOG_FORMAT", default_value = "json")]
    pub log_format: LogStyle,
    /// What is logged.
    #[arg(long, env = "GRANARY_LOG", default_value = "info,kube_runtime=warn,kube_client=warn")]
    pub log: String,
    /// The OTLP collector that traces are sent to over HTTP.
    #[arg(long, env = "GRANARY_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The URL: `http://HOST:PORT/PATH`.
    #[arg(long)]
    pub url: String,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PullPolicyArg {
    /// Whenever a pod starts.
    #[value(name = "Always")]
    Always,
    /// Where the node does not have it.
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    /// Not at all.
    #[value(name = "Never")]
    Never,
}

impl From<PullPolicyArg> for PullPolicy {
    fn from(policy: PullPolicyArg) -> Self {
        match policy {
            PullPolicyArg::Always => Self::Always,
            PullPolicyArg::IfNotPresent => Self::IfNotPresent,
            PullPolicyArg::Never => Self::Never,
        }
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogStyle {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

impl From<LogStyle> for LogFormat {
    fn from(style: LogStyle) -> Self {
        match style {
            LogStyle::Json => Self::Json,
            LogStyle::Human => Self::Human,
        }
    }
}
