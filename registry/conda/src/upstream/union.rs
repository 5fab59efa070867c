//! Virtual channels: several channels of ours, seen as one.
//!
//! With strict priority, packages of a name are those of the first channel that has the name in any subdir. It counts there even
//! where the caller may not read it, so that nobody gets another package under a name that is taken.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use granary_core::{Action, Sha256};
use granary_crds::{Source, Virtual};
use granary_http::stored_index::{StoredDocument, StoredIndex};
use granary_http::{Body, BoxError, Call, EntityTag, FileResponse, Refusal};
use granary_splice::outline::Form;
use granary_store::Channel;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Response};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::derived::{Blocking, Making, Opener, encoded, source_of};
use super::members::{Member, Members};
use super::proxy::{MAX_SHARD_INDEX, MAX_TEXT, Remote, SHARD, SHARD_INDEX, ZSTD};
use super::{Sent, absent, send};
use crate::format::foreign::Coding;
use crate::format::foreign::document::{self, Kind, Listed, Sieve};
use crate::format::foreign::shards::ShardIndex;
use crate::format::repodata::{Section, TAIL};
use crate::format::{PackageFile, Subdir, shards};
use crate::state::Conda;

/// The lists of `repodata.json`, with the sections that they are.
const SECTIONS: [(Section, &str); 3] = [
    (Section::Packages, "packages"),
    (Section::PackagesConda, "packages.conda"),
    (Section::Removed, "removed"),
];

/// The whole index of a member.
enum Whole {
    Own(StoredIndex, StoredDocument, Handle),
    Other(Opener, Coding),
}

impl Conda {
    /// What is asked of a virtual channel.
    pub(super) async fn of_virtual(
        &self,
        call: &Call,
        channel: &Arc<Channel>,
        union: &Virtual,
        subdir: &Subdir,
        file: &str,
    ) -> Result<Response<Body>, Refusal> {
        if file == SHARD_INDEX && union.is_flexible {
            // A shard holds all packages of a name, which may be of several channels here: clients take the whole index then.
            return Err(absent());
        }
        if let ("repodata.json", coding) = Coding::of(file) {
            let members = self.members(call, union).await?;
            return self.union(call, channel, union, members, (subdir, coding)).await;
        }
        if file == SHARD_INDEX {
            let members = self.members(call, union).await?;
            return self.union_of_shards(call, channel, members, subdir).await;
        }
        if let Some(digest) = file.strip_suffix(SHARD) {
            let digest = digest.parse().map_err(|_| absent())?;
            let members = self.members(call, union).await?;
            return self.member_shard(call, &members, subdir, digest).await;
        }
        let file: PackageFile = file.parse().map_err(|_| absent())?;
        let name = file.name().as_str();
        call.check(Action::Read, Some(name))?;
        let members = self.members(call, union).await?;
        for member in members.of(name).iter().filter(|member| member.is_readable && member.rules.admits(name))
        {
            let found = match &member.channel.settings.source {
                Source::Proxy(proxy) => {
                    let remote = Remote::new(self, &member.channel, proxy, call.max_upload_size());
                    remote.package(subdir, &file).await?
                }
                _ => self.file(&member.channel, subdir, &file).await?,
            };
            if let Some(stored) = found {
                let mut response = call.download_from(&member.channel, &stored).await?;
                if !member.is_public {
                    response
                        .headers_mut()
                        .insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
                }
                return Ok(response);
            }
        }
        Err(absent())
    }

    /// The whole index: what the members show, without what is kept from them.
    async fn union(
        &self,
        call: &Call,
        channel: &Arc<Channel>,
        union: &Virtual,
        members: Members,
        (subdir, coding): (&Subdir, Coding),
    ) -> Result<Response<Body>, Refusal> {
        let (mut wholes, mut tags) = (Vec::new(), vec![members.fingerprint()]);
        let mut stale_since: Option<Timestamp> = None;
        for (index, member) in members.0.iter().enumerate() {
            if !member.is_readable {
                continue;
            }
            let whole = if let Source::Proxy(proxy) = &member.channel.settings.source {
                let remote = Remote::new(self, &member.channel, proxy, call.max_upload_size());
                let found = remote.whole(subdir, &member.rules).await?;
                found.map(|(place, sent, coding)| {
                    stale_since = stale_since.into_iter().chain(sent.stale_since).min();
                    tags.push(format!("{index} {}", place.sha256));
                    Whole::Other(Opener::new(&self.store, &place), coding)
                })
            } else {
                let filters = member.rules.filter();
                let document = self.repodata_of(&member.channel, filters, subdir).await?;
                document.map(|document| {
                    tags.push(format!("{index} {}", document.etag(Form::Plain)));
                    Whole::Own(self.index.clone(), document, Handle::current())
                })
            };
            wholes.extend(whole.map(|whole| (index, whole)));
        }
        if wholes.is_empty() && subdir.as_str() != Subdir::NOARCH {
            return Err(absent());
        }
        let cache_control = members.index_cache_control(call)?;
        let class = members.0.iter().map(|member| member.rules.class()).collect::<Vec<_>>();
        let class = source_of(class.iter().map(String::as_str));
        let path = format!("{subdir}/repodata.json {coding:?}");
        let making = Making {
            channel,
            path: &path,
            class: &class,
            source: source_of(tags.iter().map(String::as_str)),
            limit: MAX_TEXT,
        };
        let (subdir, is_flexible) = (subdir.clone(), union.is_flexible);
        let derived = self.derived(making, move |output| {
            encoded(coding, output, |output| write_union(output, &subdir, &members, &wholes, is_flexible))
        });
        let derived = derived.await?;
        let sent = Sent { content_type: coding.content_type(), modified_at: derived.made_at, stale_since };
        send(call, &derived.place, sent, cache_control).await
    }

    /// The index of shards: each name's is that of the channel that it belongs to.
    async fn union_of_shards(
        &self,
        call: &Call,
        channel: &Arc<Channel>,
        members: Members,
        subdir: &Subdir,
    ) -> Result<Response<Body>, Refusal> {
        let (mut indexes, mut tags) = (Vec::new(), vec![members.fingerprint()]);
        let (mut stale_since, mut changed_at): (Option<Timestamp>, Timestamp) = (None, Timestamp::UNIX_EPOCH);
        for (at, member) in members.0.iter().enumerate().filter(|(_, member)| member.is_readable) {
            if let Source::Proxy(proxy) = &member.channel.settings.source {
                let remote = Remote::new(self, &member.channel, proxy, call.max_upload_size());
                if let Some((kept, index)) = remote.shard_index(subdir).await? {
                    stale_since = stale_since.into_iter().chain(kept.stale_since).min();
                    changed_at = changed_at.max(kept.fetched_at);
                    tags.push(format!("{at} {}", kept.sha256));
                    indexes.push((at, index));
                } else if remote.whole(subdir, &member.rules).await?.is_some() {
                    // Its packages are in no shards: clients have to take the whole index.
                    return Err(absent());
                }
            } else {
                let found = self.shard_index(&member.channel, subdir, None).await?;
                if !found.is_empty {
                    changed_at = changed_at.max(found.changed_at);
                    tags.push(format!("{at} {}", found.sha256));
                    indexes.push((at, self.read_shard_index(found.sha256, found.bytes).await?));
                }
            }
        }
        if indexes.is_empty() && subdir.as_str() != Subdir::NOARCH {
            return Err(absent());
        }
        let cache_control = members.index_cache_control(call)?;
        let class = members.0.iter().map(|member| member.rules.class()).collect::<Vec<_>>();
        let class = source_of(class.iter().map(String::as_str));
        let path = format!("{subdir}/{SHARD_INDEX}");
        let making = Making {
            channel,
            path: &path,
            class: &class,
            source: source_of(tags.iter().map(String::as_str)),
            limit: MAX_SHARD_INDEX,
        };
        let subdir = subdir.clone();
        let derived = self.derived(making, move |output| {
            let mut all: BTreeMap<&str, Sha256> = BTreeMap::new();
            for (at, index) in &indexes {
                for (name, digest) in &index.shards {
                    if members.0[*at].rules.admits(name) && !members.is_kept_from(*at, name) {
                        all.entry(name).or_insert(*digest);
                    }
                }
            }
            let bytes = shards::index(&subdir, changed_at, all.into_iter())?;
            Ok(output.write_all(&bytes)?)
        });
        let derived = derived.await?;
        let sent = Sent { content_type: ZSTD, modified_at: derived.made_at, stale_since };
        send(call, &derived.place, sent, cache_control).await
    }

    async fn read_shard_index(&self, sha256: Sha256, bytes: Bytes) -> Result<Arc<ShardIndex>, Refusal> {
        if let Some(index) = self.remembered.index(sha256) {
            return Ok(index);
        }
        let index = tokio::task::spawn_blocking(move || ShardIndex::read(&bytes)).await;
        let index = Arc::new(index.map_err(Refusal::internal)?.map_err(Refusal::internal)?);
        self.remembered.put_index(sha256, &index);
        Ok(index)
    }

    async fn member_shard(
        &self,
        call: &Call,
        members: &Members,
        subdir: &Subdir,
        digest: Sha256,
    ) -> Result<Response<Body>, Refusal> {
        for (at, member) in members.0.iter().enumerate().filter(|(_, member)| member.is_readable) {
            let shown =
                |member: &Member, name: &str| member.rules.admits(name) && !members.is_kept_from(at, name);
            if let Source::Proxy(proxy) = &member.channel.settings.source {
                let remote = Remote::new(self, &member.channel, proxy, call.max_upload_size());
                let Some((name, place, sent)) = remote.shard(subdir, digest).await? else { continue };
                if shown(member, &name) {
                    return send(call, &place, sent, shard_cache_control(call, member, &name)?).await;
                }
            } else if let Some((name, bytes)) = self.shard(&member.channel, subdir, digest).await?
                && shown(member, name.as_str())
            {
                let response = FileResponse {
                    size: bytes.len() as u64,
                    etag: EntityTag::strong(&digest.to_hex()).ok(),
                    last_modified: None,
                    content_type: HeaderValue::from_static(ZSTD),
                    file_name: None,
                    cache_control: shard_cache_control(call, member, name.as_str())?,
                    headers: HeaderMap::new(),
                };
                return response.respond_bytes(&call.arrival.method, &call.arrival.headers, bytes).await;
            }
        }
        Err(call.unknown("there is no such file in this channel"))
    }
}

/// How long a shard may be kept, and whether for others.
fn shard_cache_control(call: &Call, member: &Member, name: &str) -> Result<HeaderValue, Refusal> {
    if member.is_public {
        call.cache_control(name, true)
    } else {
        Ok(HeaderValue::from_static("private, max-age=31536000, immutable"))
    }
}

/// Writes the entries of all members, list after list.
fn write_union(
    output: &mut dyn Write,
    subdir: &Subdir,
    members: &Members,
    wholes: &[(usize, Whole)],
    is_flexible: bool,
) -> Result<(), BoxError> {
    // By digests of their names, of which there may be many.
    let mut seen = is_flexible.then(HashSet::new);
    for (section, key) in SECTIONS {
        output.write_all(section.head(subdir).as_bytes())?;
        let mut is_first = true;
        for (at, whole) in wholes {
            let mut merged = Merged {
                output: &mut *output,
                section,
                key,
                is_first: &mut is_first,
                shown: &|name| members.0[*at].rules.admits(name) && !members.is_kept_from(*at, name),
                seen: seen.as_mut(),
                failed: None,
            };
            let sink = &mut io::sink();
            match whole {
                Whole::Own(index, stored, handle) => {
                    let body = index.body(stored, Form::Plain, 0..stored.len(Form::Plain));
                    let input = Blocking::new(body, handle.clone());
                    document::pass(Kind::Repodata, input, sink, &mut merged)?;
                }
                Whole::Other(opener, coding) => {
                    let input = coding.unpacked(opener.open()?, MAX_TEXT)?;
                    document::pass(Kind::Repodata, input, sink, &mut merged)?;
                }
            }
            if let Some(error) = merged.failed {
                return Err(error.into());
            }
        }
    }
    Ok(output.write_all(TAIL.as_bytes())?)
}

/// Passes on the entries of one list that a member shows.
struct Merged<'a> {
    output: &'a mut dyn Write,
    section: Section,
    key: &'static str,
    is_first: &'a mut bool,
    shown: &'a dyn Fn(&str) -> bool,
    seen: Option<&'a mut HashSet<[u8; 32]>>,
    failed: Option<io::Error>,
}

impl Merged<'_> {
    fn write(&mut self, file: &str, record: &RawValue) -> io::Result<()> {
        let comma = if std::mem::take(self.is_first) { "\n" } else { ",\n" };
        self.output.write_all(comma.as_bytes())?;
        serde_json::to_writer(&mut *self.output, file)?;
        if self.section != Section::Removed {
            self.output.write_all(b":")?;
            self.output.write_all(record.get().as_bytes())?;
        }
        Ok(())
    }
}

impl Sieve for Merged<'_> {
    fn keeps(&mut self, name: &str, listed: &Listed<'_>) -> bool {
        let is_here = listed.section == self.key && self.failed.is_none() && (self.shown)(name);
        let of_file = document::name_of_file(listed.key);
        if !is_here || !of_file.is_some_and(|name| (self.shown)(&name)) {
            return false;
        }
        let is_new = match &mut self.seen {
            None => true,
            Some(seen) => seen.insert(*Sha256::of(listed.key.as_bytes()).as_bytes()),
        };
        if is_new && let Err(error) = self.write(listed.key, listed.record) {
            self.failed = Some(error);
        }
        false
    }

    fn keeps_unknown(&self) -> bool {
        false
    }
}
