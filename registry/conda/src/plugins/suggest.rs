//! conda-suggest: which package to install for a command that is not there.
//!
//! The commands of each package's newest version are kept in memory, one collection a subdir, and one more for each class of
//! callers who may not read every package. Only names that changed are read again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use granary_core::ReadFilter;
use granary_http::{Body, Call, Refusal};
use granary_store::{Changes, Channel, DbError, PublishTx, Scope, Stamp};
use http::Response;
use moka::sync::Cache;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use super::{Small, absent};
use crate::format::Subdir;
use crate::format::commands::{self, Build};
use crate::index::filter_of;
use crate::publish::Package;
use crate::state::{Conda, document_prefix};

/// How many collections are kept.
const REMEMBERED: u64 = 256;
const CONTENT_TYPE: &str = "application/octet-stream";

/// A subdir of a channel, and the fingerprint of what is left out of it.
type Key = (Scope, Subdir, Arc<str>);

/// The maps that this process holds.
#[derive(Debug)]
pub(super) struct Maps(Cache<Key, Arc<Mutex<Known>>>);

#[derive(Debug, Default)]
struct Known {
    /// The channel's stamp before the commands were read.
    stamp: Option<Stamp>,
    commands: BTreeMap<String, Vec<String>>,
    map: Option<Small>,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// `GET /api/channels/CHANNEL/SUBDIR/conda-suggest`.
pub(super) async fn map(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let Ok(subdir) = call.arrival.params.get("subdir").unwrap_or_default().parse() else {
        return Err(absent());
    };
    respond(&state, &call, &subdir).await
}

/// `GET /get/CHANNEL/CHANNEL.SUBDIR.map`.
pub(super) async fn root_file(
    state: &Conda,
    call: &Call,
    file: &str,
) -> Result<Option<Response<Body>>, Refusal> {
    let channel = call.channel()?;
    let of_channel = file.strip_prefix(channel.name.as_str()).and_then(|rest| rest.strip_prefix('.'));
    let Some(subdir) = of_channel.and_then(|rest| rest.strip_suffix(".map")) else { return Ok(None) };
    let Ok(subdir) = subdir.parse() else { return Ok(None) };
    respond(state, call, &subdir).await.map(Some)
}

async fn respond(state: &Conda, call: &Call, subdir: &Subdir) -> Result<Response<Body>, Refusal> {
    let channel = call.channel()?;
    if !channel.settings.conda.suggest {
        return Err(absent());
    }
    let map = state.suggest_map(channel, subdir, filter_of(call)?.as_ref()).await?;
    map.respond(call, CONTENT_TYPE, Some(format!("{}.{subdir}.map", channel.name))).await
}

impl Conda {
    /// Keeps which commands a package brings, as a part of its publish.
    pub(crate) async fn keep_commands(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        package: &Package,
    ) -> Result<(), DbError> {
        if package.commands.is_empty() {
            return Ok(());
        }
        let commands: Vec<&str> = package.commands.iter().map(String::as_str).collect();
        let (subdir, filename) = (package.record.subdir().as_str(), package.file.to_string());
        tx.execute(&self.plugins.sql.set_commands, &[&channel.id(), &subdir, &filename, &commands]).await?;
        Ok(())
    }

    /// The map of a subdir, no older than what the scope was refreshed to; of names that `filter` admits.
    async fn suggest_map(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        filter: Option<&ReadFilter>,
    ) -> Result<Small, DbError> {
        let class = filter.map(ReadFilter::fingerprint).unwrap_or_default();
        let known =
            self.plugins.suggest.0.get_with((channel.scope, subdir.clone(), class.into()), Arc::default);
        let mut known = known.lock().await;
        let revisions = self.store.revisions();
        let stamp = revisions.scope_stamp(channel.scope);
        if let Some(map) = known.map.clone().filter(|_| stamp.is_some() && known.stamp >= stamp) {
            return Ok(map);
        }
        let changed = known.stamp.and_then(|stamp| revisions.changes_since(channel.scope, stamp));
        let (stamp, names) = match changed {
            Some((stamp, Changes::Documents(documents))) => {
                let prefix = document_prefix(subdir);
                // Behind the prefix stands the digit of the section.
                let name =
                    |document: &Arc<str>| Some(document.strip_prefix(prefix.as_str())?.get(1..)?.to_owned());
                (Some(stamp), Some(documents.iter().filter_map(name).collect::<Vec<String>>()))
            }
            _ => (stamp, None),
        };
        if let Some(map) = known.map.clone().filter(|_| names.as_ref().is_some_and(Vec::is_empty)) {
            known.stamp = stamp;
            return Ok(map);
        }
        let sql = &self.plugins.sql.commands;
        let rows = self.store.database().query(sql, &[&channel.id(), &subdir.as_str(), &names]).await?;
        match &names {
            Some(names) => known.commands.retain(|name, _| !names.contains(name)),
            None => known.commands.clear(),
        }
        let newest = newest(&rows)?;
        known
            .commands
            .extend(newest.into_iter().filter(|(name, _)| filter.is_none_or(|filter| filter.admits(name))));
        let commands = known.commands.iter();
        let map =
            Small::new(commands::map(commands.map(|(name, commands)| (name.as_str(), commands.as_slice()))));
        (known.stamp, known.map) = (stamp, Some(map.clone()));
        Ok(map)
    }
}

/// The commands of each name's newest version.
fn newest(rows: &[Row]) -> Result<HashMap<String, Vec<String>>, DbError> {
    let mut builds: HashMap<&str, Vec<Build<'_>>> = HashMap::new();
    for row in rows {
        let build = Build { version: row.try_get(1)?, commands: row.try_get(2)? };
        builds.entry(row.try_get(0)?).or_default().push(build);
    }
    let of_newest =
        |builds: Vec<Build<'_>>| commands::of_newest(&builds).into_iter().map(str::to_owned).collect();
    Ok(builds.into_iter().map(|(name, builds)| (name.to_owned(), of_newest(builds))).collect())
}
