//! A proxy of a channel of another registry: what clients ask us for is asked for there, and kept.
//!
//! Indexes are asked for again at each request, or when they are older than the channel allows. Shards and packages never change,
//! and are kept for good. What an index says of where packages and shards are is taken out of it and remembered: clients find all
//! of it beside the index.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use granary_core::{Action, Sha256};
use granary_crds::Proxy;
use granary_http::{Body, BoxError, Call, Refusal, StoredFile};
use granary_store::Channel;
use granary_upstream::{Inspector, Keep, Kept, Pieces, Upstream, UpstreamError, Url, Wanted};
use http::Response;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::derived::{Making, Opener, encoded, read_all};
use super::rules::Rules;
use super::{Place, Sent, absent, refusal, send};
use crate::format::foreign::Coding;
use crate::format::foreign::document::{self, Everything, Kind, Listed, Sieve};
use crate::format::foreign::shards::{ForeignShard, ShardIndex};
use crate::format::{PackageFile, PackageReader, Subdir, shards};
use crate::index::filter_of;
use crate::state::Conda;

pub(super) const SHARD_INDEX: &str = "repodata_shards.msgpack.zst";
/// What the names of shards and of their index end with.
pub(super) const SHARD: &str = ".msgpack.zst";
pub(super) const ZSTD: &str = "application/zstd";
/// The largest index of shards, and the largest shard, in compressed bytes.
pub(super) const MAX_SHARD_INDEX: u64 = 64 << 20;
const MAX_SHARD: u64 = 16 << 20;
/// The most text of an index document.
pub(super) const MAX_TEXT: u64 = 4 << 30;
/// How many indexes of shards are held as they were read, and what of how many packages is remembered.
const REMEMBERED_INDEXES: u64 = 16;
const REMEMBERED_PACKAGES: u64 = 20_000;

/// What was read of indexes, by the digests of these.
#[derive(Debug)]
pub(crate) struct Remembered {
    indexes: Cache<Sha256, Arc<ShardIndex>>,
    packages: Cache<(Sha256, Arc<str>), ListedFile>,
}

impl Remembered {
    pub(crate) fn new() -> Self {
        Self { indexes: Cache::new(REMEMBERED_INDEXES), packages: Cache::new(REMEMBERED_PACKAGES) }
    }
}

impl Remembered {
    /// An index of shards that was read before.
    pub(super) fn index(&self, sha256: Sha256) -> Option<Arc<ShardIndex>> {
        self.indexes.get(&sha256)
    }

    pub(super) fn put_index(&self, sha256: Sha256, index: &Arc<ShardIndex>) {
        self.indexes.insert(sha256, Arc::clone(index));
    }
}

/// What an index says of a package's file.
#[derive(Debug, Clone, Default)]
struct ListedFile {
    sha256: Option<Sha256>,
    url: Option<String>,
}

/// What is noted of a document of another registry.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Noted {
    base_url: Option<String>,
    leads_away: bool,
    /// The package of a shard.
    name: Option<String>,
}

/// Where the packages of a subdir are.
struct Packages {
    base: Url,
    listed: Option<ListedFile>,
}

/// A proxy channel, for one request.
pub(super) struct Remote<'a> {
    conda: &'a Conda,
    channel: &'a Arc<Channel>,
    proxy: &'a Proxy,
    /// The most bytes of anything that is fetched.
    limit: u64,
}

impl Conda {
    /// What is asked of a proxy channel.
    pub(super) async fn of_proxy(
        &self,
        call: &Call,
        channel: &Arc<Channel>,
        proxy: &Proxy,
        subdir: Option<&Subdir>,
        file: &str,
    ) -> Result<Response<Body>, Refusal> {
        let remote = Remote::new(self, channel, proxy, call.max_upload_size());
        let rules = Rules::new(&proxy.include, &proxy.exclude, filter_of(call)?);
        let (name, coding) = Coding::of(file);
        if let Some(kind) = Kind::of(name) {
            let is_of_channel = matches!(kind, Kind::ChannelData | Kind::Notices);
            if is_of_channel == subdir.is_some() {
                return Err(absent());
            }
            let (place, sent) =
                remote.document(subdir, file, kind, coding, &rules).await?.ok_or_else(absent)?;
            return send(call, &place, sent, call.index_cache_control()?).await;
        }
        let subdir = subdir.ok_or_else(absent)?;
        if file == SHARD_INDEX {
            let (place, sent) = remote.shard_index_document(subdir, &rules).await?.ok_or_else(absent)?;
            return send(call, &place, sent, call.index_cache_control()?).await;
        }
        if let Some(digest) = file.strip_suffix(SHARD) {
            let digest = digest.parse().map_err(|_| absent())?;
            let shard = remote.shard(subdir, digest).await?;
            let (name, place, sent) =
                shard.ok_or_else(|| call.unknown("there is no such file in this channel"))?;
            if !rules.includes(&name) {
                return Err(absent());
            }
            call.check(Action::Read, Some(&name))?;
            return send(call, &place, sent, call.cache_control(&name, true)?).await;
        }
        let file: PackageFile = file.parse().map_err(|_| absent())?;
        if !rules.includes(file.name().as_str()) {
            return Err(absent());
        }
        call.check(Action::Read, Some(file.name().as_str()))?;
        let stored = remote.package(subdir, &file).await?.ok_or_else(absent)?;
        call.download(&stored).await
    }
}

impl<'a> Remote<'a> {
    /// A proxy channel of which at most `limit` bytes of anything are fetched.
    pub(super) const fn new(
        conda: &'a Conda,
        channel: &'a Arc<Channel>,
        proxy: &'a Proxy,
        limit: u64,
    ) -> Self {
        Self { conda, channel, proxy, limit }
    }

    fn upstream(&self) -> &Upstream {
        &self.conda.upstream
    }

    /// The URL of a folder of the other registry.
    fn folder(&self, subdir: Option<&Subdir>) -> Result<Url, Refusal> {
        let url = match subdir {
            Some(subdir) => format!("{}/{subdir}/", self.proxy.url),
            None => format!("{}/", self.proxy.url),
        };
        url.parse().map_err(|_| refusal(Arc::new(UpstreamError::Url(self.proxy.url.clone()))))
    }

    fn wanted(&self, subdir: Option<&Subdir>, file: &str, base: &Url, limit: u64) -> Result<Wanted, Refusal> {
        let path = subdir.map_or_else(|| file.to_owned(), |subdir| format!("{subdir}/{file}"));
        let url = base.join(file).map_err(|_| refusal(Arc::new(UpstreamError::Url(base.to_string()))))?;
        Ok(Wanted {
            path: path.into(),
            url,
            allow_private: self.proxy.allow_private_addresses,
            keep: Keep::For(Duration::from_millis(self.proxy.revalidate_after_ms)),
            limit: self.limit.min(limit),
            sha256: None,
            inspect: Arc::new(|| Inspector::new(drained)),
        })
    }

    async fn get(&self, wanted: Wanted) -> Result<Option<Kept>, Refusal> {
        self.upstream().get(self.channel, wanted).await.map_err(refusal)
    }

    pub(super) fn place(&self, kept: &Kept) -> Place {
        Place {
            channel: Arc::clone(self.channel),
            sha256: kept.sha256,
            size: kept.size,
            object_key: Arc::clone(&kept.object_key),
        }
    }

    /// A document as the other registry has it.
    async fn original(
        &self,
        subdir: Option<&Subdir>,
        file: &str,
        kind: Kind,
        coding: Coding,
    ) -> Result<Option<Kept>, Refusal> {
        let mut wanted = self.wanted(subdir, file, &self.folder(subdir)?, u64::MAX)?;
        wanted.inspect = Arc::new(move || Inspector::new(move |pieces| inspect(kind, coding, pieces)));
        self.get(wanted).await
    }

    /// The repodata of a subdir as the other registry has it.
    pub(super) async fn repodata(&self, subdir: &Subdir, coding: Coding) -> Result<Option<Kept>, Refusal> {
        self.original(Some(subdir), repodata_name(coding), Kind::Repodata, coding).await
    }

    /// The repodata of a subdir, of what the rules admit, in whatever coding the other registry has it.
    pub(super) async fn whole(
        &self,
        subdir: &Subdir,
        rules: &Rules,
    ) -> Result<Option<(Place, Sent, Coding)>, Refusal> {
        for coding in [Coding::Zstd, Coding::Plain] {
            let name = repodata_name(coding);
            if let Some((place, sent)) =
                self.document(Some(subdir), name, Kind::Repodata, coding, rules).await?
            {
                return Ok(Some((place, sent, coding)));
            }
        }
        Ok(None)
    }

    /// A document, of what the rules admit.
    pub(super) async fn document(
        &self,
        subdir: Option<&Subdir>,
        file: &str,
        kind: Kind,
        coding: Coding,
        rules: &Rules,
    ) -> Result<Option<(Place, Sent)>, Refusal> {
        let Some(kept) = self.original(subdir, file, kind, coding).await? else { return Ok(None) };
        let place = self.place(&kept);
        let sent = Sent {
            content_type: coding.content_type(),
            modified_at: kept.fetched_at,
            stale_since: kept.stale_since,
        };
        if !noted(&kept).leads_away && (rules.admits_all() || kind == Kind::Notices) {
            return Ok(Some((place, sent)));
        }
        let path = subdir.map_or_else(|| file.to_owned(), |subdir| format!("{subdir}/{file}"));
        let class = rules.class();
        let making = Making {
            channel: self.channel,
            path: &path,
            class: &class,
            source: kept.sha256.to_hex(),
            limit: MAX_TEXT,
        };
        let (opener, mut rules) = (Opener::new(&self.conda.store, &place), rules.clone());
        let derived = self.conda.derived(making, move |output| {
            let input = coding.unpacked(opener.open()?, MAX_TEXT)?;
            encoded(coding, output, |output| Ok(document::pass(kind, input, output, &mut rules).map(drop)?))
        });
        let derived = derived.await?;
        Ok(Some((derived.place, Sent { modified_at: derived.made_at, ..sent })))
    }

    /// The index of shards as the other registry has it, and as it was read.
    pub(super) async fn shard_index(
        &self,
        subdir: &Subdir,
    ) -> Result<Option<(Kept, Arc<ShardIndex>)>, Refusal> {
        let mut wanted =
            self.wanted(Some(subdir), SHARD_INDEX, &self.folder(Some(subdir))?, MAX_SHARD_INDEX)?;
        wanted.inspect = Arc::new(|| Inspector::new(inspect_shard_index));
        let Some(kept) = self.get(wanted).await? else { return Ok(None) };
        let indexes = &self.conda.remembered.indexes;
        let index = if let Some(index) = indexes.get(&kept.sha256) {
            index
        } else {
            let bytes = read_all(&self.conda.store, &self.place(&kept), MAX_SHARD_INDEX).await?;
            let index = tokio::task::spawn_blocking(move || ShardIndex::read(&bytes)).await;
            let index = Arc::new(index.map_err(Refusal::internal)?.map_err(Refusal::internal)?);
            indexes.insert(kept.sha256, Arc::clone(&index));
            index
        };
        Ok(Some((kept, index)))
    }

    /// The index of shards, of what the rules admit.
    async fn shard_index_document(
        &self,
        subdir: &Subdir,
        rules: &Rules,
    ) -> Result<Option<(Place, Sent)>, Refusal> {
        let Some((kept, index)) = self.shard_index(subdir).await? else { return Ok(None) };
        let sent = Sent { content_type: ZSTD, modified_at: kept.fetched_at, stale_since: kept.stale_since };
        if !index.leads_away() && rules.admits_all() {
            return Ok(Some((self.place(&kept), sent)));
        }
        let (path, class) = (format!("{subdir}/{SHARD_INDEX}"), rules.class());
        let making = Making {
            channel: self.channel,
            path: &path,
            class: &class,
            source: kept.sha256.to_hex(),
            limit: MAX_SHARD_INDEX,
        };
        let (subdir, rules, fetched_at) = (subdir.clone(), rules.clone(), kept.fetched_at);
        let derived = self.conda.derived(making, move |output| {
            let admitted: Vec<(&str, Sha256)> = index
                .shards
                .iter()
                .filter(|(name, _)| rules.admits(name))
                .map(|(name, digest)| (name.as_str(), *digest))
                .collect();
            let created_at = index.created_at.unwrap_or(fetched_at);
            let bytes = shards::index(&subdir, created_at, admitted.into_iter())?;
            Ok(io::Write::write_all(output, &bytes)?)
        });
        let derived = derived.await?;
        Ok(Some((derived.place, Sent { modified_at: derived.made_at, ..sent })))
    }

    /// A shard, with the name of its package.
    pub(super) async fn shard(
        &self,
        subdir: &Subdir,
        digest: Sha256,
    ) -> Result<Option<(String, Place, Sent)>, Refusal> {
        let file = format!("{digest}{SHARD}");
        // What never changes is never asked for again, nor is where it is.
        let path = format!("{subdir}/{file}").into();
        let mut kept = self.upstream().kept(self.channel, &path).await?;
        if kept.is_none() {
            let Some((_, index)) = self.shard_index(subdir).await? else { return Ok(None) };
            let base = below(&self.folder(Some(subdir))?, &index.shards_base_url)?;
            let mut wanted = self.wanted(Some(subdir), &file, &base, MAX_SHARD)?;
            (wanted.keep, wanted.sha256) = (Keep::Forever, Some(digest));
            wanted.inspect = Arc::new(|| Inspector::new(inspect_shard));
            kept = self.get(wanted).await?;
        }
        let Some(kept) = kept else { return Ok(None) };
        let Some(name) = noted(&kept).name else { return Ok(None) };
        let sent = Sent { content_type: ZSTD, modified_at: kept.fetched_at, stale_since: None };
        Ok(Some((name, self.place(&kept), sent)))
    }

    /// A package.
    pub(super) async fn package(
        &self,
        subdir: &Subdir,
        file: &PackageFile,
    ) -> Result<Option<StoredFile>, Refusal> {
        let filename = file.to_string();
        let path = format!("{subdir}/{filename}").into();
        // The index may have come a moment ago, by another process.
        self.conda.store.revisions().refresh(&[self.channel.scope]).await?;
        let mut kept = self.upstream().kept(self.channel, &path).await?;
        if let Some(known) = &kept
            && self.is_replaced(subdir, file, known.sha256).await?
        {
            kept = None;
        }
        if kept.is_none() {
            let packages = self.packages(subdir, file).await?;
            let mut wanted = self.wanted(Some(subdir), &filename, &packages.base, u64::MAX)?;
            let listed = packages.listed.unwrap_or_default();
            if let Some(url) = &listed.url {
                wanted.url = below(&self.folder(Some(subdir))?, url)?;
            }
            (wanted.keep, wanted.sha256) = (Keep::Forever, listed.sha256);
            if wanted.sha256.is_none() {
                // Nobody vouches for it but itself.
                let file = file.clone();
                wanted.inspect = Arc::new(move || {
                    let file = file.clone();
                    Inspector::new(move |pieces| inspect_package(&file, pieces))
                });
            }
            kept = self.get(wanted).await?;
        }
        Ok(kept.map(|kept| StoredFile {
            counted_as: format!("{subdir}/{filename}").into(),
            filename: filename.as_str().into(),
            package: file.name().as_str().into(),
            sha256: kept.sha256,
            size: kept.size,
            object_key: Arc::clone(&kept.object_key),
            uploaded_at: kept.fetched_at,
            is_immutable: false,
        }))
    }

    /// Whether the shards that we have say that a package has other bytes by now than those that we have. Nobody is asked.
    async fn is_replaced(
        &self,
        subdir: &Subdir,
        file: &PackageFile,
        sha256: Sha256,
    ) -> Result<bool, Refusal> {
        let index = format!("{subdir}/{SHARD_INDEX}").into();
        let Some(index) = self.upstream().kept(self.channel, &index).await? else { return Ok(false) };
        // Clients ask for the index first: what this process has not read, nobody was told by it.
        let Some(index) = self.conda.remembered.index(index.sha256) else { return Ok(false) };
        let Some(digest) = index.shards.get(file.name().as_str()) else { return Ok(false) };
        let shard = format!("{subdir}/{digest}{SHARD}").into();
        let Some(shard) = self.upstream().kept(self.channel, &shard).await? else { return Ok(false) };
        let shard = self.read_shard(&self.place(&shard)).await?;
        let listed = shard.files.get(&file.to_string()).copied().flatten();
        Ok(listed.is_some_and(|listed| listed != sha256))
    }

    async fn read_shard(&self, place: &Place) -> Result<ForeignShard, Refusal> {
        let bytes = read_all(&self.conda.store, place, MAX_SHARD).await?;
        let shard = tokio::task::spawn_blocking(move || ForeignShard::read(&bytes)).await;
        shard.map_err(Refusal::internal)?.map_err(Refusal::internal)
    }

    /// Where the packages of a subdir are, and what is said of one: by the shards, or else by the whole index.
    async fn packages(&self, subdir: &Subdir, file: &PackageFile) -> Result<Packages, Refusal> {
        let folder = self.folder(Some(subdir))?;
        if let Some((_, index)) = self.shard_index(subdir).await? {
            let base = below(&folder, &index.base_url)?;
            let Some(digest) = index.shards.get(file.name().as_str()) else {
                return Ok(Packages { base, listed: None });
            };
            let Some((_, place, _)) = self.shard(subdir, *digest).await? else {
                return Ok(Packages { base, listed: None });
            };
            let shard = self.read_shard(&place).await?;
            let sha256 = shard.files.get(&file.to_string()).copied();
            let listed = sha256.map(|sha256| ListedFile { sha256, url: None });
            return Ok(Packages { base, listed });
        }
        for coding in [Coding::Zstd, Coding::Plain] {
            let Some(kept) = self.repodata(subdir, coding).await? else { continue };
            let base =
                noted(&kept).base_url.map_or_else(|| Ok(folder.clone()), |url| below(&folder, &url))?;
            let listed = self.listed_in(&kept, coding, &file.to_string()).await?;
            return Ok(Packages { base, listed });
        }
        Ok(Packages { base: folder, listed: None })
    }

    /// What a whole index says of a file.
    async fn listed_in(
        &self,
        kept: &Kept,
        coding: Coding,
        file: &str,
    ) -> Result<Option<ListedFile>, Refusal> {
        let packages = &self.conda.remembered.packages;
        let key = (kept.sha256, Arc::from(file));
        if let Some(found) = packages.get(&key) {
            return Ok(Some(found));
        }
        let opener = Opener::new(&self.conda.store, &self.place(kept));
        let wanted = file.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let input = coding.unpacked(opener.open()?, MAX_TEXT)?;
            let mut finder = Finder { wanted, found: None };
            document::pass(Kind::Repodata, input, &mut io::sink(), &mut finder)?;
            Ok::<_, BoxError>(finder.found)
        });
        let found = work.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        if let Some(found) = &found {
            packages.insert(key, found.clone());
        }
        Ok(found)
    }
}

const fn repodata_name(coding: Coding) -> &'static str {
    match coding {
        Coding::Plain => "repodata.json",
        Coding::Zstd => "repodata.json.zst",
        Coding::Bzip2 => "repodata.json.bz2",
    }
}

/// The folder that a URL names, relative to another one.
fn below(folder: &Url, url: &str) -> Result<Url, Refusal> {
    let is_file = [".conda", ".tar.bz2"].iter().any(|end| url.ends_with(end));
    let slash = if url.is_empty() || url.ends_with('/') || is_file { "" } else { "/" };
    folder.join(&format!("{url}{slash}")).map_err(|_| refusal(Arc::new(UpstreamError::Url(url.to_owned()))))
}

fn noted(kept: &Kept) -> Noted {
    Noted::deserialize(&*kept.facts).unwrap_or_default()
}

/// Finds one record.
struct Finder {
    wanted: String,
    found: Option<ListedFile>,
}

impl Sieve for Finder {
    fn keeps(&mut self, _: &str, listed: &Listed<'_>) -> bool {
        #[derive(Deserialize)]
        struct Fields {
            sha256: Option<String>,
            url: Option<String>,
        }

        if listed.key == self.wanted && listed.section.starts_with("packages") {
            let fields: Option<Fields> = serde_json::from_str(listed.record.get()).ok();
            self.found = fields.map(|fields| ListedFile {
                sha256: fields.sha256.and_then(|digest| digest.parse().ok()),
                url: fields.url,
            });
        }
        false
    }

    fn keeps_unknown(&self) -> bool {
        false
    }
}

fn why(error: impl std::error::Error) -> String {
    granary_core::report(&error)
}

/// Looks at nothing.
fn drained(mut pieces: Pieces) -> Result<Value, String> {
    io::copy(&mut pieces, &mut io::sink()).map_err(why)?;
    Ok(json!({}))
}

fn inspect(kind: Kind, coding: Coding, pieces: Pieces) -> Result<Value, String> {
    let input = coding.unpacked(pieces, MAX_TEXT).map_err(why)?;
    let facts = document::pass(kind, input, &mut io::sink(), &mut Everything).map_err(why)?;
    serde_json::to_value(Noted { base_url: facts.base_url, leads_away: facts.leads_away, name: None })
        .map_err(why)
}

fn inspect_shard_index(mut pieces: Pieces) -> Result<Value, String> {
    let mut bytes = Vec::new();
    pieces.read_to_end(&mut bytes).map_err(why)?;
    ShardIndex::read(&bytes).map_err(why)?;
    Ok(json!({}))
}

fn inspect_shard(mut pieces: Pieces) -> Result<Value, String> {
    let mut bytes = Vec::new();
    pieces.read_to_end(&mut bytes).map_err(why)?;
    let shard = ForeignShard::read(&bytes).map_err(why)?;
    serde_json::to_value(Noted { name: shard.name, ..Noted::default() }).map_err(why)
}

fn inspect_package(file: &PackageFile, mut pieces: Pieces) -> Result<Value, String> {
    let mut reader = PackageReader::new(file, false);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pieces.read(&mut buffer).map_err(why)? {
            0 => break,
            length => reader.write(&buffer[..length]).map_err(why)?,
        }
    }
    reader.finish().map_err(why)?;
    Ok(json!({}))
}
