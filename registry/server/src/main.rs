//! `granary`: the one binary of the registry. Wiring only; what it wires stands in the other crates.

mod admin;
mod assemble;
mod audit_command;
mod channel_folder;
mod cli;
mod config;
mod dev;
mod doctor;
mod import_command;
mod import_packages;
mod login_command;
mod netrc;
mod periodic;
mod run;
mod store_command;

use std::process::ExitCode;

use clap::Parser;
use granary_process::Failure;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("granary: a TLS provider was installed twice");
        return ExitCode::FAILURE;
    }
    // As many workers as processors: nothing here blocks one for long.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("granary: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command(cli.command)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("granary: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn command(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(args) => run::serve(args).await.map(|()| ExitCode::SUCCESS),
        Command::Dev(args) => Box::pin(dev::dev(args)).await.map(|()| ExitCode::SUCCESS),
        Command::Store(args) => Box::pin(store_command::store(args)).await.map(|()| ExitCode::SUCCESS),
        Command::Migrate(args) => admin::migrate(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::doctor(&args).await,
        Command::Token(args) => admin::token(args).await.map(|()| ExitCode::SUCCESS),
        Command::Login(args) => login_command::login(args).await.map(|()| ExitCode::SUCCESS),
        Command::User(args) => admin::user(args).await.map(|()| ExitCode::SUCCESS),
        Command::Can(args) => admin::can(&args).await,
        Command::Audit(args) => audit_command::audit(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Routes(args) => admin::routes(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Jobs(args) => admin::jobs(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Scrub(args) => admin::scrub(&args).await,
        Command::Import(args) => import_command::import(args).await,
    }
}
