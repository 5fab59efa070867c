//! Index documents in memory: rendered when somebody asks, kept for as long as their rows are unchanged.
//!
//! The caller has refreshed the scope for the request (`Revisions::refresh`); what is handed out is never older
//! than that. A document is rendered once for all that wait for it, and parts whose text is the same as before
//! keep their compressed forms.
//!
//! Parts are not shared between pods through the database: rendering and compressing cost a few milliseconds a
//! part, and the cut depends on the names alone, so that every pod makes the same bytes under the same `ETag`.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use granary_core::Sha256;
use granary_splice::cut::{LIMIT, is_boundary, split};
use granary_splice::{Document, Encoding, Level, Part};
use granary_store::{Changes, Revisions, Scope, Stamp};
use moka::sync::Cache;
use tokio::sync::Mutex;

/// How many names a part of a [`RangeSource`] holds on average.
const MEAN_NAMES: NonZeroU32 = NonZeroU32::MIN.saturating_add(2047);
/// Compressed forms come later than an entry's weighing: what they add, in percent of the plain text.
const COMPRESSED_PERCENT: usize = 40;
/// What an entry weighs besides its parts.
const ENTRY_WEIGHT: usize = 512;

/// Which document, in which form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexKey {
    /// Whose.
    pub scope: Scope,
    /// As `PublishTx::touch` names it.
    pub document: Arc<str>,
    /// Such as `html` or `json`.
    pub representation: Arc<str>,
}

/// The index documents that this process holds, bounded by their size.
#[derive(Debug, Clone)]
pub struct IndexCache {
    entries: Cache<IndexKey, Arc<Entry>>,
    revisions: Revisions,
}

#[derive(Debug, Default)]
struct Entry {
    current: RwLock<Option<Current>>,
    /// Held while rendering; the ranges of a ranged document.
    rendering: Mutex<Vec<NameRange>>,
}

#[derive(Debug, Clone)]
struct Current {
    stamp: Option<Stamp>,
    /// `None`: there is no such document.
    document: Option<Document>,
}

/// Names from `first` (of the lowest range: where its section begins) up to the next range's `first`.
#[derive(Debug, Clone)]
struct NameRange {
    first: String,
    parts: Vec<Arc<Part>>,
}

/// A stretch of names whose records stand together, apart from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// No name of the section is lower, and all of the sections before are. Need not be a name.
    pub start: String,
    /// What stands before its records.
    pub head: String,
}

/// The records of a document that is cut into ranges of names, such as the list of all projects.
pub trait RangeSource: Sync {
    /// Why records cannot be had.
    type Error;

    /// A document of the scope named with this prefix and a record's name changes when that record does.
    fn prefix(&self) -> &str;

    /// The sections, in their order: most documents have just one, which begins with the lowest of all names, `""`.
    fn sections(&self) -> Vec<Section>;

    /// What stands behind them.
    fn tail(&self) -> String;

    /// What every record begins with, and falls away where it is the first of its section: a comma.
    fn separator(&self) -> &'static str;

    /// The records whose names are at least `from` and below `to`, sorted by the bytes of their names.
    fn records(
        &self,
        from: &str,
        to: Option<&str>,
    ) -> impl Future<Output = Result<Vec<(String, Vec<u8>)>, Self::Error>> + Send;
}

impl Entry {
    fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    fn memory(&self) -> usize {
        let parts = |document: Document| document.parts().iter().map(|part| part.memory()).sum::<usize>();
        let held = self.current().and_then(|current| current.document).map_or(0, parts);
        ENTRY_WEIGHT + held + held * COMPRESSED_PERCENT / 100
    }
}

impl IndexCache {
    /// A cache of about so many bytes.
    pub fn new(revisions: Revisions, max_bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.memory()).unwrap_or(u32::MAX))
            .build();
        Self { entries, revisions }
    }

    fn entry(&self, key: &IndexKey) -> Arc<Entry> {
        self.entries.get_with_by_ref(key, Arc::default)
    }

    /// Stores the document and weighs the entry anew.
    fn keep(&self, key: IndexKey, entry: Arc<Entry>, current: Current) -> Option<Document> {
        let document = current.document.clone();
        entry.set(current);
        self.entries.insert(key, entry);
        document
    }

    /// The document of `key`; `render` gives the texts of its parts, or `None` when there is no such thing.
    pub async fn document<E>(
        &self,
        key: IndexKey,
        render: impl Future<Output = Result<Option<Vec<String>>, E>> + Send,
    ) -> Result<Option<Document>, E> {
        let stamp = self.revisions.stamp(key.scope, &key.document);
        let entry = self.entry(&key);
        let good = |current: &Current| stamp.is_some() && current.stamp >= stamp;
        if let Some(current) = entry.current().filter(good) {
            return Ok(current.document);
        }
        let rendering = entry.rendering.lock().await;
        let previous = entry.current();
        if let Some(current) = previous.clone().filter(good) {
            return Ok(current.document);
        }
        let texts = render.await?;
        let mut known =
            known_parts(previous.and_then(|current| current.document).iter().flat_map(Document::parts));
        let document =
            texts.map(|texts| Document::new(texts.iter().map(|text| known_or_new(&mut known, text))));
        drop(rendering);
        Ok(self.keep(key, entry, Current { stamp, document }))
    }

    /// The document of `key`, which is cut into ranges of names: only those that changed are read again.
    pub async fn ranged<S: RangeSource>(&self, key: IndexKey, source: &S) -> Result<Document, S::Error> {
        let entry = self.entry(&key);
        let stamp = self.revisions.scope_stamp(key.scope);
        let good = |current: &Current| stamp.is_some() && current.stamp >= stamp;
        if let Some(document) = entry.current().filter(good).and_then(|current| current.document) {
            return Ok(document);
        }
        let mut ranges = entry.rendering.lock().await;
        let previous = entry.current();
        if let Some(document) = previous.clone().filter(good).and_then(|current| current.document) {
            return Ok(document);
        }
        let changed = previous
            .as_ref()
            .and_then(|current| current.stamp)
            .and_then(|stamp| self.revisions.changes_since(key.scope, stamp));
        let (stamp, renewed) = match changed {
            Some((stamp, Changes::Documents(documents))) if !ranges.is_empty() => {
                let names: Vec<&str> =
                    documents.iter().filter_map(|document| document.strip_prefix(source.prefix())).collect();
                (Some(stamp), renew(&ranges, &names, source).await?)
            }
            _ => (stamp, render_ranges(&[], "", None, source).await?),
        };
        let mut known = known_parts(
            previous.iter().filter_map(|current| current.document.as_ref()).flat_map(Document::parts),
        );
        let document = assemble(&renewed, source, &mut known);
        *ranges = renewed;
        drop(ranges);
        self.keep(key, entry, Current { stamp, document: Some(document.clone()) });
        Ok(document)
    }
}

type KnownParts = HashMap<Sha256, Arc<Part>>;

fn known_parts<'a>(parts: impl Iterator<Item = &'a Arc<Part>>) -> KnownParts {
    parts.map(|part| (part.digest(), Arc::clone(part))).collect()
}

/// The part of this text: the one that is known and perhaps compressed already, or a new one.
fn known_or_new(known: &mut KnownParts, text: impl AsRef<[u8]>) -> Arc<Part> {
    let digest = Sha256::of(text.as_ref());
    Arc::clone(known.entry(digest).or_insert_with(|| Arc::new(Part::render(text, Level::QUICK))))
}

fn assemble<S: RangeSource>(ranges: &[NameRange], source: &S, known: &mut KnownParts) -> Document {
    let mut parts = Vec::new();
    let mut ranges = ranges.iter().peekable();
    let mut sections = source.sections().into_iter().peekable();
    while let Some(Section { head, .. }) = sections.next() {
        parts.push(known_or_new(known, head));
        let end = sections.peek().map(|next| next.start.as_str());
        let mut separator = source.separator().len();
        while let Some(range) = ranges.next_if(|range| end.is_none_or(|end| range.first.as_str() < end)) {
            for part in &range.parts {
                match std::mem::take(&mut separator) {
                    0 => parts.push(Arc::clone(part)),
                    length => parts.push(known_or_new(known, part.plain().slice(length..))),
                }
            }
        }
    }
    parts.push(known_or_new(known, source.tail()));
    Document::new(parts)
}

/// A stretch of neighbouring ranges, by their places.
pub(crate) enum Stretch {
    /// They are as they were.
    Known(std::ops::Range<usize>),
    /// A name of each has changed.
    Stale(std::ops::Range<usize>),
}

/// Which of the ranges that begin with these names have to be read again when `names` change.
pub(crate) fn stretches<'a>(firsts: &[&str], names: impl IntoIterator<Item = &'a str>) -> Vec<Stretch> {
    let mut stale = vec![false; firsts.len()];
    for name in names {
        let index = firsts.partition_point(|first| *first <= name).saturating_sub(1);
        stale[index] = true;
        // The name that a range begins with may be gone: then the range joins the one before it.
        if index > 0 && firsts[index] == name {
            stale[index - 1] = true;
        }
    }
    let mut start = 0;
    let stretch = |alike: &[bool]| {
        let places = start..start + alike.len();
        start = places.end;
        if alike[0] { Stretch::Stale(places) } else { Stretch::Known(places) }
    };
    stale.chunk_by(|left, right| left == right).map(stretch).collect()
}

/// Reads again the ranges that these names fall in.
async fn renew<S: RangeSource>(
    ranges: &[NameRange],
    names: &[&str],
    source: &S,
) -> Result<Vec<NameRange>, S::Error> {
    let firsts: Vec<&str> = ranges.iter().map(|range| range.first.as_str()).collect();
    let mut renewed = Vec::with_capacity(ranges.len());
    for stretch in stretches(&firsts, names.iter().copied()) {
        match stretch {
            Stretch::Known(places) => renewed.extend_from_slice(&ranges[places]),
            Stretch::Stale(places) => {
                let (from, to) = (firsts[places.start], firsts.get(places.end).copied());
                renewed.extend(render_ranges(&ranges[places], from, to, source).await?);
            }
        }
    }
    Ok(renewed)
}

/// Renders the names from `from` up to `to`, taking over from `old` the parts that read the same.
async fn render_ranges<S: RangeSource>(
    old: &[NameRange],
    from: &str,
    to: Option<&str>,
    source: &S,
) -> Result<Vec<NameRange>, S::Error> {
    let mut known = known_parts(old.iter().flat_map(|range| &range.parts));
    let mut records = source.records(from, to).await?.into_iter().peekable();
    let mut ranges = Vec::new();
    let starts: Vec<String> = source.sections().into_iter().map(|section| section.start).collect();
    let mut later = starts
        .iter()
        .filter(|start| start.as_str() > from && to.is_none_or(|to| start.as_str() < to))
        .peekable();
    let mut first = from.to_owned();
    loop {
        let mut of_range = Vec::new();
        let end = later.peek().copied().map(String::as_str);
        let is_here = |name: &str| end.is_none_or(|end| name < end);
        while let Some(record) = records.next_if(|(name, _)| {
            is_here(name) && ((of_range.is_empty() && *name == first) || !is_boundary(name, MEAN_NAMES))
        }) {
            of_range.push(record);
        }
        let next = records.peek().map(|(name, _)| name).filter(|name| is_here(name)).cloned();
        // The lowest range of a section is there even when it is empty, so that every name falls in one.
        if !of_range.is_empty() || starts.contains(&first) {
            let pieces = split(of_range, LIMIT);
            let parts = pieces.into_iter().map(|piece| known_or_new(&mut known, piece.bytes)).collect();
            ranges.push(NameRange { first, parts });
        }
        match next.or_else(|| later.next().cloned()) {
            Some(next) => first = next,
            None => return Ok(ranges),
        }
    }
}

/// The forms of a document that a response needs, compressed off the async threads where that takes long.
pub async fn encoded(document: &Document, encoding: Encoding) -> Result<(), tokio::task::JoinError> {
    /// Up to this length, compressing is quicker than going to another thread and back.
    const COMPRESS_HERE: u64 = 64 * 1024;
    if !document.is_encoded(encoding) && document.len(Encoding::Identity) > COMPRESS_HERE {
        let document = document.clone();
        tokio::task::spawn_blocking(move || document.len(encoding)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
