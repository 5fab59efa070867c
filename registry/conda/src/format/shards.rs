//! Sharded repodata (CEP 16): all records of one name in a file that is named by its digest, and an index of these files.

use std::collections::{BTreeMap, BTreeSet};

use granary_core::Sha256;
use jiff::Timestamp;
use rmp::encode::{
    ValueWriteError, write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint,
    write_str, write_uint,
};
use serde_json::Value;

use super::name::{ArchiveKind, PackageFile, Subdir};
use super::record::Record;

/// Shards are small, and more effort gains next to nothing.
const LEVEL: i32 = 3;
/// The index is mostly digests, which do not compress.
const INDEX_LEVEL: i32 = 1;

/// Why a shard cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// A value has no form in msgpack: a list that is too long.
    #[error("the shard cannot be encoded")]
    Encode(#[from] ValueWriteError),
    /// A list has more than 2^32 values.
    #[error("the shard cannot be encoded: a list is too long")]
    TooLong(#[from] std::num::TryFromIntError),
    /// There is no memory to compress it.
    #[error("the shard cannot be compressed")]
    Compress(#[from] std::io::Error),
}

/// The file of all packages of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Of the compressed bytes: its name.
    pub sha256: Sha256,
    /// The compressed bytes.
    pub bytes: Vec<u8>,
}

impl Shard {
    /// The shard with these packages, and the names of files that are not offered any more. The same packages give the same
    /// bytes.
    ///
    /// # Errors
    /// [`ShardError`].
    pub fn new<'a>(
        records: impl IntoIterator<Item = (&'a PackageFile, &'a Record)>,
        removed: &[&str],
    ) -> Result<Self, ShardError> {
        let mut sections = [BTreeMap::new(), BTreeMap::new()];
        for (file, record) in records {
            let section = match file.kind() {
                ArchiveKind::TarBz2 => &mut sections[0],
                ArchiveKind::Conda => &mut sections[1],
            };
            section.insert(file.to_string(), record);
        }
        let mut out = Vec::new();
        write_map_len(&mut out, 3)?;
        for (name, section) in ["packages", "packages.conda"].iter().zip(&sections) {
            write_str(&mut out, name)?;
            write_map_len(&mut out, length(section.len())?)?;
            for (file, record) in section {
                write_str(&mut out, file)?;
                write_record(&mut out, record)?;
            }
        }
        write_str(&mut out, "removed")?;
        let removed: BTreeSet<&str> = removed.iter().copied().collect();
        write_array_len(&mut out, length(removed.len())?)?;
        for file in removed {
            write_str(&mut out, file)?;
        }
        let bytes = zstd::bulk::compress(&out, LEVEL)?;
        Ok(Self { sha256: Sha256::of(&bytes), bytes })
    }
}

/// The compressed index of the shards of a subdir, sorted by their names. `created_at` is when one of them changed last.
///
/// # Errors
/// [`ShardError`].
pub fn index<'a>(
    subdir: &Subdir,
    created_at: Timestamp,
    shards: impl ExactSizeIterator<Item = (&'a str, Sha256)>,
) -> Result<Vec<u8>, ShardError> {
    let mut out = Vec::with_capacity(64 + shards.len() * 64);
    write_map_len(&mut out, 3)?;
    write_str(&mut out, "info")?;
    write_map_len(&mut out, 4)?;
    // Relative to the index itself.
    for (field, text) in [
        ("base_url", ""),
        ("created_at", created_at.to_string().as_str()),
        ("shards_base_url", ""),
        ("subdir", subdir.as_str()),
    ] {
        write_str(&mut out, field)?;
        write_str(&mut out, text)?;
    }
    write_str(&mut out, "shards")?;
    write_map_len(&mut out, length(shards.len())?)?;
    for (name, sha256) in shards {
        write_str(&mut out, name)?;
        write_bin(&mut out, sha256.as_bytes())?;
    }
    write_str(&mut out, "version")?;
    write_uint(&mut out, 1)?;
    Ok(zstd::bulk::compress(&out, INDEX_LEVEL)?)
}

/// As in `repodata.json`, but digests are bytes, and with what it exports (CEP 21).
fn write_record(out: &mut Vec<u8>, record: &Record) -> Result<(), ShardError> {
    let mut fields: BTreeMap<&str, &Value> =
        record.fields().iter().map(|(name, value)| (name.as_str(), value)).collect();
    fields.entry("run_exports").or_insert(record.run_exports());
    write_map_len(out, length(fields.len())?)?;
    for (name, value) in fields {
        write_str(out, name)?;
        match (name, value.as_str().map(hex::decode)) {
            ("md5" | "sha256" | "legacy_bz2_md5", Some(Ok(digest))) => write_bin(out, &digest)?,
            _ => write_value(out, value)?,
        }
    }
    Ok(())
}

fn write_value(out: &mut Vec<u8>, value: &Value) -> Result<(), ShardError> {
    match value {
        Value::Null => write_nil(out).map_err(ValueWriteError::InvalidMarkerWrite)?,
        Value::Bool(value) => write_bool(out, *value).map_err(ValueWriteError::InvalidMarkerWrite)?,
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                write_uint(out, number)?;
            } else if let Some(number) = number.as_i64() {
                write_sint(out, number)?;
            } else {
                write_f64(out, number.as_f64().unwrap_or_default())?;
            }
        }
        Value::String(text) => write_str(out, text)?,
        Value::Array(values) => {
            write_array_len(out, length(values.len())?)?;
            for value in values {
                write_value(out, value)?;
            }
        }
        Value::Object(fields) => {
            write_map_len(out, length(fields.len())?)?;
            for (name, value) in fields {
                write_str(out, name)?;
                write_value(out, value)?;
            }
        }
    }
    Ok(())
}

fn length(length: usize) -> Result<u32, ShardError> {
    Ok(u32::try_from(length)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn record(build: &str) -> Record {
        let fields = json!({"name": "zlib", "version": "1.3.1", "build": build, "build_number": 0, "subdir": "linux-64",
            "md5": "00".repeat(16), "sha256": "11".repeat(32), "size": 5_000_000_000_u64, "timestamp": -1, "f": 1.5,
            "depends": ["a", "b"], "track_features": "", "x": null, "t": true});
        Record::from_json(&fields.to_string(), r#"{"weak": ["zlib >=1.3"]}"#).unwrap()
    }

    #[derive(Debug, serde::Deserialize)]
    struct Read {
        packages: BTreeMap<String, Fields>,
        #[serde(rename = "packages.conda")]
        conda: BTreeMap<String, Fields>,
        removed: Vec<String>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Fields {
        md5: serde_bytes::ByteBuf,
        size: u64,
        timestamp: i64,
        f: f64,
        depends: Vec<String>,
        x: Option<u8>,
        t: bool,
        run_exports: BTreeMap<String, Vec<String>>,
    }

    #[test]
    fn a_shard_holds_the_records_of_both_kinds() {
        let files: Vec<PackageFile> =
            ["zlib-1.3.1-h_1.conda", "zlib-1.3.1-h_0.tar.bz2", "zlib-1.3.1-h_0.conda"]
                .map(|name| name.parse().unwrap())
                .to_vec();
        let records: Vec<Record> = files.iter().map(|file| record(file.build())).collect();
        let shard = Shard::new(files.iter().zip(&records), &["zlib-1.0-0.conda"]).unwrap();
        assert_eq!(shard.sha256, Sha256::of(&shard.bytes));
        let plain = zstd::stream::decode_all(shard.bytes.as_slice()).unwrap();
        let read: Read = rmp_serde::from_slice(&plain).unwrap();
        assert_eq!(read.packages.keys().collect::<Vec<_>>(), ["zlib-1.3.1-h_0.tar.bz2"]);
        assert_eq!(read.conda.keys().collect::<Vec<_>>(), ["zlib-1.3.1-h_0.conda", "zlib-1.3.1-h_1.conda"]);
        assert_eq!(read.removed, ["zlib-1.0-0.conda"]);
        let fields = &read.conda["zlib-1.3.1-h_1.conda"];
        assert_eq!((fields.md5.as_slice(), fields.size, fields.timestamp), (&[0; 16][..], 5_000_000_000, -1));
        assert_eq!((fields.f, fields.depends.len(), fields.x, fields.t), (1.5, 2, None, true));
        assert_eq!(fields.run_exports["weak"], ["zlib >=1.3"]);
        // In whatever order they come.
        assert_eq!(Shard::new(files.iter().zip(&records).rev(), &["zlib-1.0-0.conda"]).unwrap(), shard);
    }

    #[test]
    fn an_index_names_the_shards_by_their_digests() {
        #[derive(serde::Deserialize)]
        struct Index {
            version: u8,
            info: BTreeMap<String, String>,
            shards: BTreeMap<String, serde_bytes::ByteBuf>,
        }
        let at = "2026-03-01T12:00:00Z".parse().unwrap();
        let shards = [("a", Sha256::of(b"a")), ("b", Sha256::of(b"b"))];
        let bytes = index(&"noarch".parse().unwrap(), at, shards.into_iter()).unwrap();
        let plain = zstd::stream::decode_all(bytes.as_slice()).unwrap();
        let read: Index = rmp_serde::from_slice(&plain).unwrap();
        assert_eq!(read.version, 1);
        assert_eq!(read.info["subdir"], "noarch");
        assert_eq!((&*read.info["base_url"], &*read.info["shards_base_url"]), ("", ""));
        assert_eq!(read.info["created_at"], "2026-03-01T12:00:00Z");
        assert_eq!(read.shards["b"].as_slice(), Sha256::of(b"b").as_bytes());
    }
}
