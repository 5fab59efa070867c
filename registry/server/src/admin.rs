//! The commands beside serving: migrations, accounts, tokens, jobs, scrubbing.

use std::path::PathBuf;
use std::process::ExitCode;

use granary_account::Question;
use granary_core::{Clock, SystemClock, TokenScope};
use granary_http::metrics::HttpMetrics;
use granary_identity::{Accounts, NewAccount, NewToken, TokenText};
use granary_process::{Context, Failure};
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::assemble::{self, Assembled, MIGRATIONS};
use crate::cli::{CanArgs, ConfigArgs, TokenAction, TokenArgs, UserAction, UserArgs};
use crate::config;

/// Who acts, as the audit names it.
const OPERATOR: &str = "command line";

/// Runs `granary migrate`.
pub async fn migrate(args: &ConfigArgs) -> Result<(), Failure> {
    let registry = config::load(args)?;
    let options = config::migration_options(config::database(&registry)?)?;
    let applied = granary_store::migrate(&options, &MIGRATIONS).await.context("the schema")?;
    if applied.is_empty() {
        println!("the schema {} is up to date", options.schema);
    }
    for name in applied {
        println!("applied {name}");
    }
    Ok(())
}

/// What a command works on, beside a server that may run.
pub async fn open(args: &ConfigArgs) -> Result<Assembled, Failure> {
    let mut registry = config::load(args)?;
    // The server beside us has the cache.
    registry.cache.max_size = 0;
    assemble::assemble(&registry).await
}

/// Runs `granary token`.
pub async fn token(args: TokenArgs) -> Result<(), Failure> {
    let assembled = open(&args.config).await?;
    let accounts = assembled.identity.accounts();
    match args.action {
        TokenAction::Create { user, role, channel, package, expires_in_days, label } => {
            let scope = TokenScope::of(role, channel, package);
            let expires_at = expires_in_days
                .map(|days| SystemClock.now() + SignedDuration::from_hours(24 * i64::from(days)));
            let token = TokenText::generate(&mut rand::rng());
            let new = NewToken { label: &label, scope, expires_at, parent: None };
            accounts.add_token(OPERATOR, &user, &token, &new).await.context("the token")?;
            println!("{}", token.expose());
        }
        TokenAction::List { user } => list_tokens(accounts, &user).await?,
        TokenAction::Revoke { id } => {
            accounts.revoke_token(OPERATOR, &id).await.context("the token")?;
            println!("revoked {id}");
        }
    }
    Ok(())
}

async fn list_tokens(accounts: &Accounts, user: &granary_core::SubjectName) -> Result<(), Failure> {
    let show = |time: Option<jiff::Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    println!("ID\tROLE\tEXPIRES\tLAST USED\tLABEL");
    for token in accounts.tokens_of(user).await.context("the tokens")? {
        let role = token.scope.as_ref().map_or("all", |scope| scope.role.as_str());
        println!(
            "{}\t{role}\t{}\t{}\t{}",
            token.id,
            show(token.expires_at),
            show(token.last_used_at),
            token.label
        );
    }
    Ok(())
}

/// Runs `granary user`.
pub async fn user(args: UserArgs) -> Result<(), Failure> {
    let assembled = open(&args.config).await?;
    let accounts = assembled.identity.accounts();
    match args.action {
        UserAction::Create { name, password_file, group, admin } => {
            let password = password_file.map(password).transpose()?;
            let account = NewAccount { name: name.clone(), password, admin, groups: group };
            accounts.create(OPERATOR, account).await.context("the account")?;
            println!("made {name}");
        }
        UserAction::Password { name, password_file } => {
            let password = password(password_file)?;
            accounts.set_password(OPERATOR, &name, password).await.context("the account")?;
            println!("{name} has another password");
        }
        UserAction::Disable { name } => {
            accounts.set_disabled(OPERATOR, &name, true).await.context("the account")?;
            println!("disabled {name}");
        }
        UserAction::Enable { name } => {
            accounts.set_disabled(OPERATOR, &name, false).await.context("the account")?;
            println!("enabled {name}");
        }
    }
    Ok(())
}

fn password(file: PathBuf) -> Result<SecretString, Failure> {
    let loaded = granary_crds::SecretSource::File(file).load().context("the password file")?;
    Ok(loaded.into_secret_string())
}

/// Runs `granary jobs`.
pub async fn jobs(args: &ConfigArgs) -> Result<(), Failure> {
    let assembled = open(args).await?;
    println!("KIND\tSTATE\tJOBS\tLAST ERROR");
    for count in assembled.store.jobs().counts().await.context("the job queue")? {
        let error = count.last_error.unwrap_or_else(|| "-".to_owned());
        println!("{}\t{}\t{}\t{error}", count.kind, count.state, count.count);
    }
    Ok(())
}

/// Runs `granary scrub`: reads everything, whenever it was last read.
pub async fn scrub(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let assembled = open(args).await?;
    let started = SystemClock.now();
    let mut read = 0;
    loop {
        // Everything that was last read before this run began.
        let since = SystemClock.now().duration_since(started);
        let scrubbed = assembled
            .store
            .scrub(since.try_into().unwrap_or_default())
            .await
            .context("the files cannot be read")?;
        read += scrubbed.read;
        if scrubbed.read == 0 {
            break;
        }
    }
    let damaged = assembled.store.damaged_blobs().await.context("the database")?;
    println!("read {read} files, {damaged} damaged");
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `granary can`: the answer, and as the exit code whether it is yes.
pub async fn can(args: &CanArgs) -> Result<ExitCode, Failure> {
    let mut question = Question::read(&args.subject, &args.action, &args.channel, args.package.as_deref())
        .context("the question")?;
    question.groups.clone_from(&args.group);
    let assembled = open(&args.config).await?;
    let channel = assembled.store.directory().find(question.format, &question.channel).await;
    let channel = channel.context("the channel")?;
    let answer = granary_account::answer(assembled.identity.accounts(), &question, channel.as_deref())
        .await
        .context("the question")?;
    println!("{}: {}", if answer.allowed { "yes" } else { "no" }, answer.because);
    for grant in answer.grant.iter().chain(&answer.lesser) {
        println!("{}", serde_json::to_string(grant).context("a grant")?);
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `granary routes`.
pub async fn routes(args: &ConfigArgs) -> Result<(), Failure> {
    let assembled = open(args).await?;
    let metrics = HttpMetrics::new(&mut prometheus_client::registry::Registry::default());
    let front = assemble::front(&config::load(args)?, &assembled, metrics, false)?;
    for (host, table) in front.hosts().iter() {
        for route in table.iter() {
            let pattern = route.pattern();
            let path = host.map_or_else(|| pattern.to_string(), |host| format!("//{host}{pattern}"));
            println!("{}\t{path}\t{}", route.method(), route.access());
        }
    }
    Ok(())
}
