//! The indexes of shards, in memory: one a subdir, and one more for each class of callers who may not read every package.
//! Only the names that changed are read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use granary_core::{ReadFilter, Sha256};
use granary_http::Refusal;
use granary_store::{Changes, Channel, DbError, Scope, Stamp};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use crate::format::{PackageName, Subdir, shards};
use crate::state::{Conda, document_prefix, read_digest};

/// How many indexes are kept.
const REMEMBERED: u64 = 256;

/// A subdir of a channel, and the fingerprint of what is left out of it.
type Key = (Scope, Subdir, Arc<str>);

/// How many bytes of shards are kept.
const REMEMBERED_SHARDS: u64 = 16 << 20;

/// The indexes that this process holds, and the shards that are asked for often.
#[derive(Debug)]
pub(crate) struct ShardIndexes {
    indexes: Cache<Key, Arc<Mutex<Known>>>,
    shards: Cache<(Scope, Subdir, Sha256), (PackageName, Bytes)>,
}

#[derive(Debug, Default)]
struct Known {
    /// The channel's stamp before the names were read.
    stamp: Option<Stamp>,
    shards: BTreeMap<String, Sha256>,
    changed_at: Timestamp,
    file: Option<ShardIndex>,
}

/// An index, compressed. Clones share the bytes.
#[derive(Debug, Clone)]
pub(crate) struct ShardIndex {
    pub(crate) bytes: Bytes,
    pub(crate) sha256: Sha256,
    pub(crate) changed_at: Timestamp,
    /// Whether it lists no shard at all.
    pub(crate) is_empty: bool,
}

impl ShardIndexes {
    pub(crate) fn new() -> Self {
        let shards = Cache::builder()
            .max_capacity(REMEMBERED_SHARDS)
            .weigher(|_, (_, bytes): &(PackageName, Bytes)| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Self { indexes: Cache::new(REMEMBERED), shards }
    }
}

impl Conda {
    /// The index of a subdir's shards, no older than what the scope was refreshed to; of names that `filter` admits.
    pub(crate) async fn shard_index(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        filter: Option<&ReadFilter>,
    ) -> Result<ShardIndex, Refusal> {
        let class = filter.map(ReadFilter::fingerprint).unwrap_or_default();
        let key = (channel.scope, subdir.clone(), class.into());
        let known = self.shards.indexes.get_with(key, Arc::default);
        let mut known = known.lock().await;
        let stamp = self.store.revisions().scope_stamp(channel.scope);
        if let Some(file) = known.file.clone().filter(|_| stamp.is_some() && known.stamp >= stamp) {
            return Ok(file);
        }
        let admits = |name: &str| filter.is_none_or(|filter| filter.admits(name));
        let changed =
            known.stamp.and_then(|stamp| self.store.revisions().changes_since(channel.scope, stamp));
        let (stamp, is_changed) = if let Some((stamp, Changes::Documents(documents))) = changed {
            let prefix = document_prefix(subdir);
            // Behind the prefix stands the digit of the section.
            let name =
                |document: &'_ Arc<str>| Some(document.strip_prefix(prefix.as_str())?.get(1..)?.to_owned());
            let names: Vec<String> = documents.iter().filter_map(name).collect();
            if !names.is_empty() {
                self.renew(&mut known, channel, subdir, &names, admits).await?;
            }
            (Some(stamp), !names.is_empty())
        } else {
            let params = (channel.id(), subdir.as_str());
            let rows = self.store.database().query(&self.sql.shards, &[&params.0, &params.1]).await?;
            known.shards.clear();
            rows.iter().try_for_each(|row| known.add(row, admits))?;
            (stamp, true)
        };
        known.stamp = stamp;
        if let Some(file) = known.file.clone().filter(|_| !is_changed) {
            return Ok(file);
        }
        let file = known.encode(subdir)?;
        known.file = Some(file.clone());
        Ok(file)
    }

    async fn renew(
        &self,
        known: &mut Known,
        channel: &Channel,
        subdir: &Subdir,
        names: &[String],
        admits: impl Fn(&str) -> bool + Copy,
    ) -> Result<(), DbError> {
        let database = self.store.database();
        let rows = database.query(&self.sql.shards_of, &[&channel.id(), &subdir.as_str(), &names]).await?;
        for name in names {
            known.shards.remove(name);
        }
        rows.iter().try_for_each(|row| known.add(row, admits))
    }

    /// A shard, listed now or of late, with the name that it is about.
    pub(crate) async fn shard(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        sha256: Sha256,
    ) -> Result<Option<(PackageName, Bytes)>, DbError> {
        let key = (channel.scope, subdir.clone(), sha256);
        if let Some(known) = self.shards.shards.get(&key) {
            return Ok(Some(known));
        }
        let digest = sha256.as_bytes().as_slice();
        let params = (channel.id(), subdir.as_str());
        let row = self.store.database().query_opt(&self.sql.shard, &[&params.0, &params.1, &digest]).await?;
        let Some(row) = row else { return Ok(None) };
        let name = row.try_get::<_, &str>(0)?.parse().map_err(|error| DbError::decode("name", error))?;
        let shard = (name, Bytes::from(row.try_get::<_, Vec<u8>>(1)?));
        self.shards.shards.insert(key, shard.clone());
        Ok(Some(shard))
    }
}

impl Known {
    fn add(&mut self, row: &Row, admits: impl Fn(&str) -> bool) -> Result<(), DbError> {
        let name: &str = row.try_get(0)?;
        // Without one where all packages of the name have gone.
        if let Some(shard) = row.try_get::<_, Option<&[u8]>>(1)?.filter(|_| admits(name)) {
            self.shards.insert(name.to_owned(), read_digest(shard)?);
        }
        self.changed_at = self.changed_at.max(row.try_get(2)?);
        Ok(())
    }

    fn encode(&self, subdir: &Subdir) -> Result<ShardIndex, Refusal> {
        let shards = self.shards.iter().map(|(name, sha256)| (name.as_str(), *sha256));
        let bytes = shards::index(subdir, self.changed_at, shards).map_err(Refusal::internal)?;
        Ok(ShardIndex {
            sha256: Sha256::of(&bytes),
            bytes: bytes.into(),
            changed_at: self.changed_at,
            is_empty: self.shards.is_empty(),
        })
    }
}
