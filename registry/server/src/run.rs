//! `granary serve`, and what `granary dev` has in common with it: serving until told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use granary_crds::{PasswordSource, ValidRegistry};
use granary_http::management::{Management, Readiness};
use granary_http::metrics::HttpMetrics;
use granary_http::{ListenAddress, Listener, ServeSettings};
use granary_identity::{Passwords, TokenText};
use granary_store::missing_migrations;
use prometheus_client::registry::Registry as Metrics;
use tokio_util::sync::CancellationToken;

use crate::assemble::{self, Assembled, MIGRATIONS};
use crate::channel_folder::ChannelFolder;
use crate::cli::ServeArgs;
use crate::config;
use crate::periodic;
use granary_process::{Context, Failure, stop_on_signals, telemetry};

/// How long the start waits for the channels to be applied.
const LONGEST_FIRST_LOOK: Duration = Duration::from_secs(5);

/// Runs `granary serve`.
pub async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let registry = config::load(&args.config)?;
    let client = assemble::http_client(&registry.outbound)?;
    let traced = registry.telemetry.otlp_endpoint.is_some().then_some(client);
    let tracing = telemetry::start("granary", &registry.telemetry, traced)?;
    let assembled = assemble::assemble(&registry).await?;
    check_migrations(&assembled).await?;
    initial_admin(&registry, &assembled).await?;
    let stop = stop_on_signals()?;
    let served = run(&registry, &assembled, args.channels, tracing.is_on(), stop, |addresses| {
        for address in addresses {
            tracing::info!(%address, "serving");
        }
    })
    .await;
    tracing.finish();
    served
}

/// Serves until `stop` is cancelled, then drains. `ready` gets the addresses once everything is in place.
pub async fn run(
    registry: &ValidRegistry,
    assembled: &Assembled,
    channels: Option<PathBuf>,
    traces: bool,
    stop: CancellationToken,
    ready: impl FnOnce(&[ListenAddress]),
) -> Result<(), Failure> {
    let mut metrics = Metrics::default();
    let front = Arc::new(assemble::front(registry, assembled, HttpMetrics::new(&mut metrics), traces)?);
    let serving = Arc::new(AtomicBool::new(false));
    let readiness = Arc::new(readiness(assembled, Arc::clone(&serving)));
    let management = Management::new(Arc::clone(&readiness), Arc::new(metrics));

    let listeners = bind(registry.listen.iter().map(assemble::listen_address))?;
    let addresses =
        listeners.iter().map(Listener::local_address).collect::<Result<Vec<_>, _>>().context("an address")?;
    let management_listeners = bind([assemble::listen_address(&registry.management_listen)])?;
    for listener in &management_listeners {
        let address = listener.local_address().context("the management address")?;
        tracing::info!(%address, "management: /livez, /readyz, /metrics");
    }

    // Management and upkeep go on while the last requests are served.
    let drained = CancellationToken::new();
    let management = tokio::spawn(granary_http::serve(
        management_listeners,
        ServeSettings::default(),
        move |request, _| {
            let management = management.clone();
            async move { management.answer(request.method().clone(), request.uri().path().to_owned()).await }
        },
        drained.clone(),
    ));
    let upkeep = {
        let (registry, assembled, drained) = (registry.clone(), assembled.clone(), drained.clone());
        tokio::spawn(async move { Box::pin(periodic::run(&registry, &assembled, drained)).await })
    };
    // Channels that were applied before are served all the same, should the object store be slow to answer.
    let channels_applied = watch_channels(assembled, channels, &stop);
    tokio::select! {
        () = channels_applied.cancelled() => {}
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LONGEST_FIRST_LOOK) => {
            tracing::warn!("the channels could not all be applied yet; serving those that were before");
        }
    }

    let limits = &registry.limits;
    let settings = ServeSettings {
        header_timeout: limits.header_timeout,
        write_timeout: limits.request_timeout,
        max_connections: limits.max_connections as usize,
        drain_timeout: limits.drain_timeout,
        ..ServeSettings::default()
    };
    let draining = stop.clone();
    let told = tokio::spawn(async move {
        draining.cancelled().await;
        readiness.begin_drain();
    });
    serving.store(true, Ordering::Release);
    ready(&addresses);
    let end = granary_http::serve(
        listeners,
        settings,
        move |request, peer| {
            let front = Arc::clone(&front);
            async move { front.answer(request, peer).await }
        },
        stop,
    )
    .await;
    if end.aborted > 0 {
        tracing::warn!(connections = end.aborted, "connections were broken off: the drain time was over");
    }
    drained.cancel();
    for task in [told, upkeep] {
        task.await.context("a task has failed")?;
    }
    management.await.context("the management server has failed")?;
    Ok(())
}

/// Applies and watches the folder of channels. Cancelled once they were applied for the first time.
fn watch_channels(
    assembled: &Assembled,
    folder: Option<PathBuf>,
    stop: &CancellationToken,
) -> CancellationToken {
    let applied = CancellationToken::new();
    match folder {
        None => applied.cancel(),
        Some(folder) => {
            let folder = ChannelFolder::new(folder, assembled.store.clone(), Arc::clone(&assembled.naming));
            let (stop, done) = (stop.clone(), applied.clone());
            // Also when the task fails, nobody may wait for ever.
            let guard = applied.clone().drop_guard();
            tokio::spawn(async move {
                folder.watch(stop, move || done.cancel()).await;
                drop(guard);
            });
        }
    }
    applied
}

fn bind(addresses: impl IntoIterator<Item = ListenAddress>) -> Result<Vec<Listener>, Failure> {
    addresses
        .into_iter()
        .map(|address| Listener::bind(&address).context(&format!("cannot listen on {address}")))
        .collect()
}

/// Ready once requests are served, and while the database answers.
fn readiness(assembled: &Assembled, serving: Arc<AtomicBool>) -> Readiness {
    let store = assembled.store.clone();
    Readiness::new()
        .check("starting", move || {
            let serving = serving.load(Ordering::Acquire);
            async move { if serving { Ok(()) } else { Err("not serving yet") } }
        })
        .check("database", move || {
            let store = store.clone();
            async move { store.database().query("select 1", &[]).await.map(drop) }
        })
}

async fn check_migrations(assembled: &Assembled) -> Result<(), Failure> {
    let missing = missing_migrations(assembled.store.database(), &MIGRATIONS)
        .await
        .context("the database cannot be asked")?;
    if missing.names.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the database lacks migrations ({}): run `granary migrate` with the same configuration first",
        missing.names.join(", ")
    )))
}

/// Makes the first admin. Without one in the configuration, a registry that has none gets one with a token that
/// is printed once.
async fn initial_admin(registry: &ValidRegistry, assembled: &Assembled) -> Result<(), Failure> {
    let accounts = assembled.identity.accounts();
    if let Some(initial) = &registry.admins.initial {
        let hash = match &initial.password {
            PasswordSource::Hash(hash) => {
                Passwords::check_hash(hash.expose()).context("admins.initial.passwordHash")?;
                hash.expose().to_owned()
            }
            PasswordSource::File(path) => {
                let password = granary_crds::SecretSource::File(path.clone())
                    .load()
                    .context("admins.initial.passwordFile")?
                    .into_secret_string();
                accounts.hash(password).await.context("admins.initial.passwordFile")?
            }
        };
        accounts.ensure_admin(&initial.name, Some(&hash)).await.context("the initial admin")?;
        return Ok(());
    }
    if accounts.any_admin().await.context("the accounts")? || !registry.admins.users.is_empty() {
        return Ok(());
    }
    let name = "admin".parse().context("the name of the admin")?;
    let token = TokenText::generate(&mut rand::rng());
    accounts.make_first_admin(&name, &token).await.context(
        "there is no admin, and none can be made (name one in `admins.users` of the configuration)",
    )?;
    // On standard error, past the log: a log keeps what it is told.
    eprintln!("The registry has no admin yet. This token of the account `admin` is shown only now:");
    eprintln!("{}", token.expose());
    Ok(())
}
