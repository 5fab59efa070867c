//! `granary doctor`: one line a check, with what to do where something is wrong.

use std::process::ExitCode;

use granary_core::{Clock, SystemClock, report};
use granary_crds::ValidRegistry;
use granary_process::Failure;
use granary_store::objects::{ObjectError, ProbeStep};
use granary_store::{Database, missing_migrations};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::assemble::{self, MIGRATIONS};
use crate::cli::ConfigArgs;
use crate::config;

/// Clocks that differ by more are worth a warning; S3 refuses requests at 15 minutes.
const TOLERABLE_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// What has been found so far.
#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn wrong(&mut self, what: &str, problem: &str, remedy: &str) {
        self.wrong += 1;
        println!("WRONG  {what}: {problem}. {remedy}");
    }
}

fn well(what: &str, detail: &str) {
    println!("ok     {what}: {detail}");
}

/// Runs `granary doctor`. Fails when anything is wrong.
pub async fn doctor(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let registry = config::load(args)?;
    let mut findings = Findings::default();
    well("configuration", "readable and consistent");
    check_database(&registry, &mut findings).await;
    check_object_store(&registry, &mut findings).await;
    Ok(if findings.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check_database(registry: &ValidRegistry, findings: &mut Findings) {
    let options = match config::database(registry).and_then(config::database_options) {
        Ok(options) => options,
        Err(failure) => {
            return findings.wrong("database", &failure.to_string(), "See docs/configuration.md");
        }
    };
    let database = match Database::new(&options) {
        Ok(database) => database,
        Err(error) => {
            return findings.wrong(
                "database",
                &report(&error),
                "Mend database.url and the certificate files",
            );
        }
    };
    let before = SystemClock.now();
    let asked = database
        .query_opt("select version(), clock_timestamp(), current_setting('synchronous_commit'), current_setting('fsync')", &[])
        .await;
    let row = match asked {
        Ok(Some(row)) => row,
        Ok(None) => return findings.wrong("database", "it answers nothing", "Is this PostgreSQL?"),
        Err(error) => {
            let remedy = "Is it running, is database.url right, may this host and user connect?";
            return findings.wrong("database", &report(&error), remedy);
        }
    };
    let text = |index: usize| row.try_get::<_, String>(index).unwrap_or_default();
    well("database", text(0).split(" on ").next().unwrap_or_default());
    if text(3) == "off" {
        let remedy = "Turn it on: a power cut loses acknowledged packages otherwise";
        findings.wrong("database durability", "fsync is off", remedy);
    }
    if let Ok(theirs) = row.try_get::<_, Timestamp>(1) {
        check_clock("database clock", theirs.duration_since(before), findings);
    }
    match missing_migrations(&database, &MIGRATIONS).await {
        Ok(missing) if missing.names.is_empty() => {
            well("schema", &format!("{} is up to date", options.schema));
        }
        Ok(missing) => {
            findings.wrong(
                "schema",
                &format!("it lacks {}", missing.names.join(", ")),
                "Run `granary migrate`",
            );
        }
        Err(error) => {
            findings.wrong("schema", &report(&error), "Grant the role usage of the schema and its tables");
        }
    }
}

async fn check_object_store(registry: &ValidRegistry, findings: &mut Findings) {
    let connected = match assemble::object_store_config(registry) {
        Ok(config) => assemble::object_store(registry, config).await.map(|store| (store, config)),
        Err(failure) => Err(failure),
    };
    let (store, config) = match connected {
        Ok(connected) => connected,
        Err(failure) => {
            return findings.wrong("object store", &failure.to_string(), "See docs/configuration.md");
        }
    };
    // A name that nobody uses, shaped like those of the channels, so that the same rights are tried.
    let Ok(name) = granary_core::ChannelName::parse(
        granary_core::Format::PyPi,
        &format!("doctor-{}", Uuid::now_v7().simple()),
    ) else {
        return;
    };
    let endpoint =
        config.endpoint.as_ref().map_or_else(|| "the region's own".to_owned(), ToString::to_string);
    let bucket = config.bucket_naming.bucket(granary_core::Format::PyPi, &name);
    for probe in store.probe(bucket.as_str(), true, &SystemClock).await {
        let what = format!("object store {endpoint}, {}", step_name(probe.step));
        match (&probe.outcome, probe.skew) {
            (Ok(()), Some(skew)) => check_clock("object store clock", skew, findings),
            (Ok(()), None) => well(&what, "works"),
            (Err(error), _) => findings.wrong(&what, &report(error), remedy(probe.step, error)),
        }
    }
}

fn check_clock(what: &str, skew: SignedDuration, findings: &mut Findings) {
    if skew.abs() > TOLERABLE_SKEW {
        let problem = format!("{} seconds away from ours", skew.as_secs());
        findings.wrong(what, &problem, "Run a time service on both machines");
    } else {
        well(what, "agrees with ours");
    }
}

fn step_name(step: ProbeStep) -> &'static str {
    match step {
        ProbeStep::Bucket => "making a bucket",
        ProbeStep::Write => "writing",
        ProbeStep::Read => "reading",
        ProbeStep::ConditionalWrite => "conditional writing",
        ProbeStep::Delete => "deleting",
        ProbeStep::RemoveBucket => "removing a bucket",
        ProbeStep::Clock => "clock",
    }
}

fn remedy(step: ProbeStep, error: &ObjectError) -> &'static str {
    match (step, error) {
        (_, ObjectError::Unavailable(_)) => "Is it running, and is objectStore.endpoint right?",
        (_, ObjectError::Denied(_)) => {
            "Mend the access key, or grant it this action on the buckets of the prefix"
        }
        (ProbeStep::ConditionalWrite, _) => {
            "Use a release of the store that honours If-None-Match: owners of buckets are told apart by it"
        }
        _ => "See the answer of the store",
    }
}
