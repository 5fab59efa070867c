//! Sharded repodata (CEP 16) of another registry.

use std::collections::BTreeMap;
use std::io::Read as _;

use granary_core::Sha256;
use jiff::Timestamp;

use super::Coding;
use super::msgpack::{MsgpackError, Reader};

/// The largest index of shards, and the largest shard, unpacked and in bytes: what clients take.
const MAX_INDEX: u64 = 128 << 20;
const MAX_SHARD: u64 = 64 << 20;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignShardError {
    /// Not a zstd frame, or too large.
    #[error("it cannot be unpacked")]
    Unpack(#[from] std::io::Error),
    /// Not `MessagePack`.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// A version that nobody knows yet.
    #[error("it is of version {0}, not 1")]
    Version(u64),
    /// A part that has to be there is not.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A digest that is none.
    #[error("the shard of {0:?} has no SHA-256")]
    Digest(String),
    /// The records are about several names.
    #[error("its records are not all of one package")]
    Names,
}

/// An index of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// What the URLs of packages begin with, relative to the index.
    pub base_url: String,
    /// What the URLs of shards begin with, relative to the index.
    pub shards_base_url: String,
    /// When one of them changed last, where that is said.
    pub created_at: Option<Timestamp>,
    /// The shards by their names.
    pub shards: BTreeMap<String, Sha256>,
}

impl ShardIndex {
    /// Reads a compressed index.
    ///
    /// # Errors
    /// [`ForeignShardError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ForeignShardError> {
        let plain = unpack(bytes, MAX_INDEX)?;
        let mut reader = Reader::new(&plain);
        let (mut info, mut shards) = (None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "info" => info = Some(read_info(&mut reader)?),
                "shards" => shards = Some(read_shards(&mut reader)?),
                "version" => match reader.number_if()? {
                    Some(1) => {}
                    other => return Err(ForeignShardError::Version(other.unwrap_or_default())),
                },
                _ => reader.skip()?,
            }
        }
        let (base_url, shards_base_url, created_at) = info.ok_or(ForeignShardError::Missing("info"))?;
        let shards = shards.ok_or(ForeignShardError::Missing("shards"))?;
        Ok(Self { base_url, shards_base_url, created_at, shards })
    }

    /// Whether somebody who reads it would look elsewhere than beside it.
    pub fn leads_away(&self) -> bool {
        let beside = |url: &str| matches!(url, "" | "." | "./");
        !beside(&self.base_url) || !beside(&self.shards_base_url)
    }
}

fn unpack(bytes: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Coding::Zstd.unpacked(bytes, limit)?.read_to_end(&mut plain)?;
    Ok(plain)
}

type Info = (String, String, Option<Timestamp>);

fn read_info(reader: &mut Reader<'_>) -> Result<Info, ForeignShardError> {
    let (mut base_url, mut shards_base_url, mut created_at) = (String::new(), String::new(), None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "base_url" => reader.text_if()?.unwrap_or_default().clone_into(&mut base_url),
            "shards_base_url" => reader.text_if()?.unwrap_or_default().clone_into(&mut shards_base_url),
            "created_at" => created_at = reader.text_if()?.and_then(|text| text.parse().ok()),
            _ => reader.skip()?,
        }
    }
    Ok((base_url, shards_base_url, created_at))
}

fn read_shards(reader: &mut Reader<'_>) -> Result<BTreeMap<String, Sha256>, ForeignShardError> {
    let mut shards = BTreeMap::new();
    for _ in 0..reader.map()? {
        let name = reader.text()?.to_owned();
        let digest = reader.bytes()?.and_then(|bytes| Sha256::try_from(bytes).ok());
        let digest = digest.ok_or_else(|| ForeignShardError::Digest(name.clone()))?;
        shards.insert(name, digest);
    }
    Ok(shards)
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignShard {
    /// The package that all of its records are about; none where it has no records.
    pub name: Option<String>,
    /// The digests of the files that it lists, where it has them.
    pub files: BTreeMap<String, Option<Sha256>>,
}

impl ForeignShard {
    /// Reads a compressed shard.
    ///
    /// # Errors
    /// [`ForeignShardError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ForeignShardError> {
        let plain = unpack(bytes, MAX_SHARD)?;
        let mut reader = Reader::new(&plain);
        let mut shard = Self { name: None, files: BTreeMap::new() };
        for _ in 0..reader.map()? {
            match reader.text()? {
                "packages" | "packages.conda" => {
                    for _ in 0..reader.map()? {
                        let file = reader.text()?.to_owned();
                        shard.add(file, &mut reader)?;
                    }
                }
                _ => reader.skip()?,
            }
        }
        Ok(shard)
    }

    fn add(&mut self, file: String, reader: &mut Reader<'_>) -> Result<(), ForeignShardError> {
        let (mut name, mut sha256) = (None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "name" => name = reader.text_if()?,
                "sha256" => sha256 = reader.bytes()?.and_then(|bytes| Sha256::try_from(bytes).ok()),
                _ => reader.skip()?,
            }
        }
        let name = name.ok_or(ForeignShardError::Missing("name in a record"))?;
        if self.name.get_or_insert_with(|| name.to_owned()) != name {
            return Err(ForeignShardError::Names);
        }
        self.files.insert(file, sha256);
        Ok(())
    }
}
