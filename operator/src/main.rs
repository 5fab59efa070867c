//! `granary-operator`: watches `PackageRegistry` and `Channel` objects and makes what they say: deployments, Postgres
//! schemas, buckets, permissions.
//!
//! [`run`] wires; [`registry`] and [`channel`] each go through the same steps: dereference, validate, build, apply,
//! status.

mod channel;
mod cli;
mod conditions;
mod connection;
mod files;
mod labels;
mod lease;
mod metrics;
mod operator;
mod probe;
mod registry;
mod run;
#[cfg(test)]
mod scenario;

use std::process::ExitCode;

use clap::Parser;
use granary_process::{Context, Failure};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match command(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("granary-operator: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Crds => crds(),
        Command::Probe(args) => probe::probe(&args.url),
        Command::Run(args) => {
            if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
                return Err(Failure::new("a TLS provider was installed twice"));
            }
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads")?;
            runtime.block_on(run::run(*args))
        }
    }
}

fn crds() -> Result<(), Failure> {
    for definition in granary_crds::resource_definitions() {
        let text = granary_crds::crd_yaml(&definition).context("a definition cannot be written")?;
        print!("---\n{text}");
    }
    Ok(())
}
