//! `granary import quetz-packages`: the packages of a Quetz, into channels that are there already. May be broken off and run again,
//! also while either server runs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use granary_conda::{Arriving, Imported};
use granary_core::{ChannelName, Clock, Format, SystemClock};
use granary_import::quetz::{self, QuetzPackage};
use granary_process::{Context, Failure};
use granary_store::{Channel, Scope};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use secrecy::ExposeSecret;

use crate::admin;
use crate::assemble::Assembled;
use crate::cli::QuetzPackagesArgs;
use crate::import_command::{INCOMPLETE, QUETZ_DATABASE, connect, postgres_url, sqlite_file};

/// After so many packages it is said how far it has come.
const TOLD_EVERY: usize = 1000;

/// What became of the packages.
#[derive(Debug, Default)]
struct Outcome {
    done: usize,
    bytes: u64,
    were_there: usize,
    left_out: usize,
}

/// Brings the packages along and says what became of them.
pub async fn quetz(args: QuetzPackagesArgs) -> Result<ExitCode, Failure> {
    let wanted: BTreeSet<String> = args.channels.iter().map(|name| name.to_lowercase()).collect();
    let packages: Vec<QuetzPackage> = read(args.database.expose_secret())
        .await?
        .into_iter()
        .filter(|package| wanted.is_empty() || wanted.contains(&package.channel.to_lowercase()))
        .collect();
    let assembled = admin::open(&args.config).await?;
    let channels = channels(&assembled, &packages).await?;
    let mut outcome = Outcome::default();
    for (number, package) in packages.iter().enumerate() {
        let QuetzPackage { channel, subdir, filename, .. } = package;
        let place = format!("{channel}/{subdir}/{filename}");
        let Some(into) = channels.get(channel).and_then(Option::as_ref) else {
            outcome.left_out += 1;
            continue;
        };
        let arriving = Arriving {
            path: args.folder.join(channel).join(subdir).join(filename),
            subdir: subdir.clone(),
            filename: filename.clone(),
            sha256: package.sha256.as_deref().and_then(|sha256| sha256.parse().ok()),
            uploaded_by: package.uploader.clone().unwrap_or_else(|| "unknown".to_owned()),
            uploaded_at: package.uploaded_at.as_deref().and_then(time).unwrap_or_else(|| SystemClock.now()),
        };
        match assembled.conda.import_package(into, &arriving).await {
            Ok(Imported::Done(bytes)) => {
                outcome.done += 1;
                outcome.bytes += bytes;
            }
            Ok(Imported::WasThere) => outcome.were_there += 1,
            Err(error) if error.is_about_the_package() => {
                outcome.left_out += 1;
                eprintln!("not carried over: {place}: {}", granary_core::report(&error));
            }
            Err(error) => return Err(error).context(&place),
        }
        if (number + 1) % TOLD_EVERY == 0 {
            eprintln!("{} of {} packages", number + 1, packages.len());
        }
    }
    let Outcome { done, bytes, were_there, left_out } = outcome;
    eprintln!(
        "{done} packages carried over ({bytes} bytes, each compared with its SHA-256), {were_there} were there, \
         {left_out} left out"
    );
    Ok(if left_out > 0 { ExitCode::from(INCOMPLETE) } else { ExitCode::SUCCESS })
}

async fn read(database: &str) -> Result<Vec<QuetzPackage>, Failure> {
    if let Some(url) = postgres_url(database) {
        let connection = connect(url).await?;
        return quetz::read_packages_postgres(&connection).await.context(QUETZ_DATABASE);
    }
    let file = sqlite_file(database);
    let read = tokio::task::spawn_blocking(move || quetz::read_packages_sqlite(&file));
    read.await.context(QUETZ_DATABASE)?.context(QUETZ_DATABASE)
}

/// The channels of ours that these packages go to; those that are not there are told once.
async fn channels(
    assembled: &Assembled,
    packages: &[QuetzPackage],
) -> Result<BTreeMap<String, Option<Arc<Channel>>>, Failure> {
    let store = &assembled.store;
    store.revisions().refresh(&[Scope::REGISTRY]).await.context("the channels")?;
    let names: BTreeSet<&String> = packages.iter().map(|package| &package.channel).collect();
    let mut channels = BTreeMap::new();
    for name in names {
        let parsed = ChannelName::parse(Format::Conda, name).ok();
        let found = match &parsed {
            Some(parsed) => store.directory().find(Format::Conda, parsed).await.context("the channels")?,
            None => None,
        };
        if found.is_none() {
            eprintln!("not carried over: {name}: there is no such channel here; make it first");
        }
        channels.insert(name.clone(), found);
    }
    Ok(channels)
}

/// A time as Quetz' database tells it: in UTC, with or without saying so.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.replacen(' ', "T", 1).parse::<Timestamp>() {
        return Some(at);
    }
    let naive: DateTime = text.parse().ok()?;
    Some(naive.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn times_of_both_databases_are_read() {
        let expected: Timestamp = "2026-03-01T12:30:00.5Z".parse().unwrap();
        for text in ["2026-03-01 12:30:00.500000", "2026-03-01 12:30:00.5+00", "2026-03-01T13:30:00.5+01:00"]
        {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }
}
