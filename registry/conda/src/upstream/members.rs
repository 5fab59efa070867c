//! The channels behind a virtual channel, as one request sees them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use granary_core::{Action, ChannelName, Format, Principal, Readable, Sha256, readable};
use granary_crds::{Source, Virtual};
use granary_http::{BoxError, Call, Refusal};
use granary_store::{Channel, DbError, Scope, Stamp};
use http::{HeaderValue, StatusCode};
use moka::sync::Cache;

use super::USUAL_SUBDIRS;
use super::derived::Opener;
use super::proxy::{MAX_TEXT, Remote};
use super::rules::Rules;
use crate::format::Subdir;
use crate::format::foreign::Coding;
use crate::format::foreign::document::{self, Kind, Listed, Sieve};
use crate::index::filter_of;
use crate::state::Conda;

/// Of how many channels and indexes the names are held.
const REMEMBERED: u64 = 128;

/// Names of packages.
#[derive(Debug)]
pub(super) struct Names {
    names: BTreeSet<String>,
    /// Tells these names from others.
    digest: Sha256,
}

impl Names {
    fn new(names: BTreeSet<String>) -> Self {
        let mut all = String::new();
        for name in &names {
            all.push_str(name);
            all.push('\n');
        }
        Self { names, digest: Sha256::of(all.as_bytes()) }
    }
}

/// The names of channels and indexes, as far as they are known.
#[derive(Debug)]
pub(crate) struct KnownNames {
    channels: Cache<Scope, (Option<Stamp>, Arc<Names>)>,
    indexes: Cache<Sha256, Arc<Names>>,
}

impl KnownNames {
    pub(crate) fn new() -> Self {
        Self { channels: Cache::new(REMEMBERED), indexes: Cache::new(REMEMBERED) }
    }
}

/// One of the channels.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) channel: Arc<Channel>,
    /// What of it is shown.
    pub(super) rules: Rules,
    /// Whether the caller may read any of it.
    pub(super) is_readable: bool,
    /// Whether anybody may read all of it.
    pub(super) is_public: bool,
    /// The names that it keeps from those behind it, whoever asks.
    owned: Vec<Arc<Names>>,
}

impl Member {
    /// Whether it has packages of this name, whoever asks.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.rules.includes(name) && self.owned.iter().any(|names| names.names.contains(name))
    }
}

/// All of them, the most trusted one first.
#[derive(Debug)]
pub(super) struct Members(pub(super) Vec<Arc<Member>>);

impl Members {
    /// The channels that may show packages of this name: with strict priority, those up to the first one that has it.
    pub(super) fn of(&self, name: &str) -> &[Arc<Member>] {
        let first = self.0.iter().position(|member| member.owns(name));
        first.map_or(&self.0[..], |first| &self.0[first..=first])
    }

    /// Whether a name is kept from a member by one before it.
    pub(super) fn is_kept_from(&self, member: usize, name: &str) -> bool {
        self.0[..member].iter().any(|before| before.owns(name))
    }

    /// How long an index of all of them may be kept: by nobody for others, where not all of them are for everybody.
    pub(super) fn index_cache_control(&self, call: &Call) -> Result<HeaderValue, Refusal> {
        if self.0.iter().all(|member| member.is_public) {
            call.index_cache_control()
        } else {
            Ok(HeaderValue::from_static("private, no-cache"))
        }
    }

    /// What tells the names that are kept from those that were at another time.
    pub(super) fn fingerprint(&self) -> String {
        let owned = self.0.iter().map(|member| {
            member.owned.iter().map(|names| names.digest.to_hex()).collect::<Vec<_>>().join(" ")
        });
        owned.collect::<Vec<_>>().join("\n")
    }
}

impl Conda {
    /// The channels behind a virtual channel, with what the caller may read of each.
    pub(super) async fn members(&self, call: &Call, union: &Virtual) -> Result<Members, Refusal> {
        let own = filter_of(call)?;
        let mut channels = Vec::new();
        for name in &union.channels {
            let found = match ChannelName::parse(Format::Conda, name) {
                Ok(name) => self.store.directory().find(Format::Conda, &name).await?,
                Err(_) => None,
            };
            // What is not there may have been there to keep names from others: nothing is shown instead.
            let channel = found.ok_or_else(|| misconfigured(name, "is not there"))?;
            if matches!(channel.settings.source, Source::Virtual(_)) {
                return Err(misconfigured(name, "is a virtual channel itself"));
            }
            channels.push(channel);
        }
        let scopes: Vec<Scope> = channels.iter().map(|channel| channel.scope).collect();
        self.store.revisions().refresh(&scopes).await?;
        let mut members = Vec::with_capacity(channels.len());
        let last = channels.len().saturating_sub(1);
        for (index, channel) in channels.into_iter().enumerate() {
            let principal = &call.caller.principal;
            let read = readable(&channel.grants, principal, channel.format, &channel.name);
            let filter = match read {
                Readable::All => None,
                Readable::Some(filter) => Some(filter),
            };
            let (include, exclude) = match &channel.settings.source {
                Source::Proxy(proxy) => (proxy.include.as_slice(), proxy.exclude.as_slice()),
                _ => (&[][..], &[][..]),
            };
            let rules = Rules::new(include, exclude, filter).and(own.clone());
            let is_readable = channel.allows(principal, Action::Read, None);
            // The last one has nobody to keep names from.
            let owned = if union.is_flexible || index == last {
                Vec::new()
            } else {
                self.owned(call, &channel).await?
            };
            let anybody = readable(&channel.grants, &Principal::Anonymous, channel.format, &channel.name);
            let is_public = anybody == Readable::All;
            members.push(Arc::new(Member { channel, rules, is_readable, is_public, owned }));
        }
        Ok(Members(members))
    }

    /// The names that a channel has.
    async fn owned(&self, call: &Call, channel: &Arc<Channel>) -> Result<Vec<Arc<Names>>, Refusal> {
        if let Source::Proxy(proxy) = &channel.settings.source {
            let remote = Remote::new(self, channel, proxy, call.max_upload_size());
            let subdirs: Vec<Subdir> =
                USUAL_SUBDIRS.iter().filter_map(|subdir| subdir.parse().ok()).collect();
            let names = subdirs.iter().map(|subdir| self.names_of_proxy(&remote, subdir));
            let names = futures_util::future::try_join_all(names).await?;
            return Ok(names.into_iter().flatten().collect());
        }
        let stamp = self.store.revisions().scope_stamp(channel.scope);
        let known = &self.names.channels;
        if let Some((_, names)) =
            known.get(&channel.scope).filter(|(known, _)| stamp.is_some() && *known == stamp)
        {
            return Ok(vec![names]);
        }
        let rows = self.store.database().query(&self.sql.names_of_channel, &[&channel.id()]).await?;
        let names = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>();
        let names = Arc::new(Names::new(names.map_err(DbError::from)?));
        known.insert(channel.scope, (stamp, Arc::clone(&names)));
        Ok(vec![names])
    }

    async fn names_of_proxy(
        &self,
        remote: &Remote<'_>,
        subdir: &Subdir,
    ) -> Result<Option<Arc<Names>>, Refusal> {
        let known = &self.names.indexes;
        if let Some((kept, index)) = remote.shard_index(subdir).await? {
            if let Some(names) = known.get(&kept.sha256) {
                return Ok(Some(names));
            }
            let names = Arc::new(Names::new(index.shards.keys().cloned().collect()));
            known.insert(kept.sha256, Arc::clone(&names));
            return Ok(Some(names));
        }
        for coding in [Coding::Zstd, Coding::Plain] {
            let Some(kept) = remote.repodata(subdir, coding).await? else { continue };
            if let Some(names) = known.get(&kept.sha256) {
                return Ok(Some(names));
            }
            let opener = Opener::new(&self.store, &remote.place(&kept));
            let work = tokio::task::spawn_blocking(move || {
                let input = coding.unpacked(opener.open()?, MAX_TEXT)?;
                let mut collector = Collector(BTreeSet::new());
                document::pass(Kind::Repodata, input, &mut io::sink(), &mut collector)?;
                Ok::<_, BoxError>(Names::new(collector.0))
            });
            let names = Arc::new(work.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?);
            known.insert(kept.sha256, Arc::clone(&names));
            return Ok(Some(names));
        }
        Ok(None)
    }
}

fn misconfigured(name: &str, why: &str) -> Refusal {
    let message =
        format!("this virtual channel stands for {name:?}, which {why}: its owner has to mend that");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Collects names.
struct Collector(BTreeSet<String>);

impl Sieve for Collector {
    fn keeps(&mut self, name: &str, listed: &Listed<'_>) -> bool {
        if listed.section.starts_with("packages") && !self.0.contains(name) {
            self.0.insert(name.to_owned());
        }
        false
    }

    fn keeps_unknown(&self) -> bool {
        false
    }
}
