//! JSON documents of another registry: `repodata.json` and its kin (CEP 36), `run_exports.json` (CEP 12), `channeldata.json`
//! (CEP 38). Read and written in one pass, record by record.

use std::fmt;
use std::io::{BufReader, Read, Write};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::format::PackageFile;

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// What a document's records stand under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `repodata.json`, `current_repodata.json`, `repodata_from_packages.json`: records with names, under names of files.
    Repodata,
    /// `run_exports.json`: records under names of files.
    RunExports,
    /// `channeldata.json`: records under names of packages.
    ChannelData,
    /// `notices.json`, which is about no packages.
    Notices,
}

impl Kind {
    /// The kind of a document of this name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repodata.json" | "current_repodata.json" | "repodata_from_packages.json" => Self::Repodata,
            "run_exports.json" => Self::RunExports,
            "channeldata.json" => Self::ChannelData,
            "notices.json" => Self::Notices,
            _ => return None,
        })
    }
}

/// What a document says about where its packages are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `info.base_url` (CEP 15).
    pub base_url: Option<String>,
    /// Whether somebody who reads it would be led elsewhere.
    pub leads_away: bool,
    /// `subdirs` of `channeldata.json`.
    pub subdirs: Vec<String>,
}

/// One record, as it stands in the document.
#[derive(Debug)]
pub struct Listed<'a> {
    /// The name of the file, or of the package in `channeldata.json`.
    pub key: &'a str,
    /// `packages` or `packages.conda`.
    pub section: &'a str,
    /// Its JSON.
    pub record: &'a RawValue,
}

/// What of a document is to be written.
pub trait Sieve {
    /// Whether a record stays; called once for each, in the order of the document.
    fn keeps(&mut self, name: &str, listed: &Listed<'_>) -> bool;

    /// Whether everything else stays that a document may hold, too.
    fn keeps_unknown(&self) -> bool;
}

/// Keeps everything.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Sieve for Everything {
    fn keeps(&mut self, _: &str, _: &Listed<'_>) -> bool {
        true
    }

    fn keeps_unknown(&self) -> bool {
        true
    }
}

/// Reads a document to its end, and writes what `sieve` keeps of it, in such a form that it leads nowhere else.
///
/// # Errors
/// Where it is no such document, or cannot be read or written.
pub fn pass(
    kind: Kind,
    input: impl Read,
    output: &mut dyn Write,
    sieve: &mut dyn Sieve,
) -> Result<Facts, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, input));
    let mut facts = Facts::default();
    let mut writer = Writer { output, kind, facts: &mut facts, sieve };
    (&mut json).deserialize_map(Document { writer: &mut writer })?;
    json.end()?;
    Ok(facts)
}

struct Writer<'a> {
    output: &'a mut dyn Write,
    kind: Kind,
    facts: &'a mut Facts,
    sieve: &'a mut dyn Sieve,
}

impl Writer<'_> {
    fn raw(&mut self, text: &str) -> Result<(), serde_json::Error> {
        self.output.write_all(text.as_bytes()).map_err(serde_json::Error::io)
    }

    /// A comma where one belongs, and the key.
    fn key(&mut self, is_first: &mut bool, key: &str, line: bool) -> Result<(), serde_json::Error> {
        let comma = if std::mem::take(is_first) { "" } else { "," };
        self.raw(if line { if comma.is_empty() { "\n" } else { ",\n" } } else { comma })?;
        serde_json::to_writer(&mut *self.output, key)?;
        self.raw(":")
    }
}

struct Document<'a, 'b> {
    writer: &'a mut Writer<'b>,
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let writer = self.writer;
        let failed = |error: serde_json::Error| serde::de::Error::custom(error);
        let mut seen: Vec<String> = Vec::new();
        let mut is_first = true;
        writer.raw("{").map_err(failed)?;
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!("{key:?} stands in it twice")));
            }
            match (key.as_str(), writer.kind) {
                (_, Kind::Notices) | ("channeldata_version", _) => {
                    copy(&mut map, writer, &mut is_first, &key)?;
                }
                ("info", _) => {
                    let mut info: Map<String, Value> = map.next_value()?;
                    writer.info(&mut info);
                    writer.key(&mut is_first, &key, false).map_err(failed)?;
                    serde_json::to_writer(&mut *writer.output, &info).map_err(failed)?;
                }
                ("packages" | "packages.conda", _) | ("signatures", Kind::Repodata) => {
                    writer.key(&mut is_first, &key, false).map_err(failed)?;
                    map.next_value_seed(Records { writer: &mut *writer, section: &key })?;
                }
                ("removed", Kind::Repodata) => {
                    writer.key(&mut is_first, &key, false).map_err(failed)?;
                    map.next_value_seed(Removed { writer: &mut *writer })?;
                }
                // 2 means that there is a base_url, which is gone.
                ("repodata_version", Kind::Repodata) => {
                    let version: u64 = map.next_value()?;
                    let version = if writer.facts.base_url.is_some() { 1 } else { version };
                    writer.key(&mut is_first, &key, false).map_err(failed)?;
                    writer.raw(&version.to_string()).map_err(failed)?;
                }
                ("subdirs", Kind::ChannelData) => {
                    writer.facts.subdirs = map.next_value()?;
                    writer.key(&mut is_first, &key, false).map_err(failed)?;
                    serde_json::to_writer(&mut *writer.output, &writer.facts.subdirs).map_err(failed)?;
                }
                _ if writer.sieve.keeps_unknown() => copy(&mut map, writer, &mut is_first, &key)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            seen.push(key);
        }
        writer.raw("}\n").map_err(failed)
    }
}

/// Passes on a value as it is.
fn copy<'de, A: MapAccess<'de>>(
    map: &mut A,
    writer: &mut Writer<'_>,
    is_first: &mut bool,
    key: &str,
) -> Result<(), A::Error> {
    let value: Box<RawValue> = map.next_value()?;
    let failed = |error: serde_json::Error| serde::de::Error::custom(error);
    writer.key(is_first, key, false).map_err(failed)?;
    writer.raw(value.get()).map_err(failed)
}

impl Writer<'_> {
    /// Takes out of `info` what leads elsewhere.
    fn info(&mut self, info: &mut Map<String, Value>) {
        for field in ["base_url", "shards_base_url"] {
            match info.remove(field) {
                Some(Value::String(url)) if !url.is_empty() => {
                    self.facts.leads_away = true;
                    if field == "base_url" {
                        self.facts.base_url = Some(url);
                    }
                }
                _ => {}
            }
        }
        // Other channels, by relative paths that mean nothing here (CEP 42).
        if info.remove("channel_relations").is_some() {
            self.facts.leads_away = true;
        }
    }

    /// The name of the package that a record is about: what it says itself, where it does.
    fn name(&self, key: &str, section: &str, record: &RawValue) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }

        match self.kind {
            Kind::ChannelData => Some(key.to_owned()),
            Kind::Repodata if section != "signatures" => {
                serde_json::from_str::<Named>(record.get()).ok().map(|named| named.name)
            }
            Kind::Repodata | Kind::RunExports | Kind::Notices => name_of_file(key),
        }
    }
}

/// The name that a file's name begins with. Other registries may have names that ours would refuse.
pub fn name_of_file(file: &str) -> Option<String> {
    if let Ok(file) = file.parse::<PackageFile>() {
        return Some(file.name().as_str().to_owned());
    }
    let mut parts = file.rsplitn(3, '-');
    parts.nth(2).map(str::to_owned)
}

struct Records<'a, 'b> {
    writer: &'a mut Writer<'b>,
    section: &'a str,
}

impl<'de> DeserializeSeed<'de> for Records<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Records<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let failed = |error: serde_json::Error| serde::de::Error::custom(error);
        let (writer, section) = (self.writer, self.section);
        let mut is_first = true;
        writer.raw("{").map_err(failed)?;
        while let Some(key) = map.next_key::<String>()? {
            let record: Box<RawValue> = map.next_value()?;
            // What has no name can neither be wanted nor be allowed.
            let Some(name) = writer.name(&key, section, &record) else { continue };
            if !writer.sieve.keeps(&name, &Listed { key: &key, section, record: &record }) {
                continue;
            }
            writer.key(&mut is_first, &key, true).map_err(failed)?;
            match without_url(writer.kind, &record).map_err(failed)? {
                Some(changed) => {
                    writer.facts.leads_away = true;
                    writer.raw(&changed).map_err(failed)?;
                }
                None => writer.raw(record.get()).map_err(failed)?,
            }
        }
        writer.raw("}").map_err(failed)
    }
}

/// A record without the URL of its own that it has, if it has one.
fn without_url(kind: Kind, record: &RawValue) -> Result<Option<String>, serde_json::Error> {
    if kind != Kind::Repodata || !record.get().contains("\"url\"") {
        return Ok(None);
    }
    let mut fields: Map<String, Value> = serde_json::from_str(record.get())?;
    if fields.remove("url").is_none() {
        return Ok(None);
    }
    serde_json::to_string(&fields).map(Some)
}

struct Removed<'a, 'b> {
    writer: &'a mut Writer<'b>,
}

impl<'de> DeserializeSeed<'de> for Removed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Removed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let failed = |error: serde_json::Error| serde::de::Error::custom(error);
        let writer = self.writer;
        let mut is_first = true;
        writer.raw("[").map_err(failed)?;
        while let Some(file) = seq.next_element::<String>()? {
            let (Some(name), Ok(record)) = (name_of_file(&file), RawValue::from_string("null".to_owned()))
            else {
                continue;
            };
            if !writer.sieve.keeps(&name, &Listed { key: &file, section: "removed", record: &record }) {
                continue;
            }
            writer.raw(if std::mem::take(&mut is_first) { "" } else { "," }).map_err(failed)?;
            serde_json::to_writer(&mut *writer.output, &file).map_err(failed)?;
        }
        writer.raw("]").map_err(failed)
    }
}
