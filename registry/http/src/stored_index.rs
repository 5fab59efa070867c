//! Index documents of any size: what they are made of is in memory, their parts are where there is room.
//!
//! The parts of a small document are held beside its outline. Those of a large one lie in the database, from where every
//! process fetches the ones that it sends; the ones that are asked for often stay in a cache of bounded size. Only ranges of
//! names in which something changed are read and compressed again. A process that has just begun takes over what the last
//! checkpoint says, and reads only what has changed since that was saved.
//!
//! As with [`crate::IndexCache`], the cut depends on the names alone: every process makes the same bytes under the same `ETag`.

mod body;
mod checkpoint;
mod ranges;

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use granary_core::Sha256;
use granary_splice::outline::{Form, Held, Outline, Stretch};
use granary_store::{Changes, DbError, Scope, Stamp, Store};
use moka::sync::Cache;
use tokio::sync::Mutex;

use crate::index::{IndexKey, RangeSource, Section};
use checkpoint::Checkpoints;
use ranges::{NameRange, Rendering};

/// Documents whose text is longer than this have their parts in the database.
const HELD_TEXT: u64 = 8 << 20;
/// How many documents are remembered.
const REMEMBERED: u64 = 10_000;

/// A source whose document may be too large for memory: its names can be had without its records.
pub trait StoredSource: RangeSource {
    /// How many names a range holds on average: so many are read and rendered again when one of them changes.
    fn mean_names(&self) -> NonZeroU32;

    /// The names that a change of this document of the scope is about: none where it is no document of this source.
    fn changed(&self, document: &str) -> Vec<String> {
        document.strip_prefix(self.prefix()).map(str::to_owned).into_iter().collect()
    }

    /// The names that are at least `from` and below `to`, sorted by their bytes.
    fn names(
        &self,
        from: &str,
        to: Option<&str>,
    ) -> impl Future<Output = Result<Vec<String>, Self::Error>> + Send;
}

/// The documents that this process knows.
#[derive(Debug, Clone)]
pub struct StoredIndex {
    store: Store,
    entries: Cache<IndexKey, Arc<Entry>>,
    parts: PartCache,
}

type PartCache = Cache<(Scope, Sha256), Bytes>;

#[derive(Debug, Default)]
struct Entry {
    current: RwLock<Option<Current>>,
    /// Held while rendering.
    rendering: Mutex<Known>,
    /// A part was missing: what was saved is not to be believed.
    distrusted: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Current {
    stamp: Option<Stamp>,
    document: StoredDocument,
}

#[derive(Debug, Default)]
struct Known {
    ranges: Vec<NameRange>,
    checkpoints: Checkpoints,
}

/// A document as it was at some moment. Clones share it.
#[derive(Debug, Clone)]
pub struct StoredDocument {
    scope: Scope,
    outline: Outline,
    /// The parts of a small document.
    held: Arc<HashMap<Sha256, Bytes>>,
    distrusted: Arc<AtomicBool>,
    is_empty: bool,
}

impl StoredDocument {
    /// Bytes of the document in this form.
    pub fn len(&self, form: Form) -> u64 {
        self.outline.len(form)
    }

    /// Whether it has no record.
    pub const fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The strong entity tag (RFC 9110), without its quotes.
    pub fn etag(&self, form: Form) -> &str {
        self.outline.etag(form)
    }
}

impl Entry {
    fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl StoredIndex {
    /// Documents of this store; parts of large ones take about so many bytes of memory.
    pub fn new(store: Store, max_bytes: u64) -> Self {
        let parts = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .build();
        Self { store, entries: Cache::new(REMEMBERED), parts }
    }

    /// Where the documents' rows are.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The document of `key`, no older than what its scope was refreshed to.
    ///
    /// # Errors
    /// Those of the source, and of the database.
    pub async fn document<S>(&self, key: &IndexKey, source: &S) -> Result<StoredDocument, S::Error>
    where
        S: StoredSource,
        S::Error: From<DbError>,
    {
        let entry = self.entries.get_with_by_ref(key, Arc::default);
        let stamp = self.store.revisions().scope_stamp(key.scope);
        let good = |current: &Current| {
            stamp.is_some() && current.stamp >= stamp && !entry.distrusted.load(Ordering::Relaxed)
        };
        if let Some(current) = entry.current().filter(good) {
            return Ok(current.document);
        }
        let mut known = entry.rendering.lock().await;
        let previous = entry.current();
        if let Some(current) = previous.clone().filter(good) {
            return Ok(current.document);
        }
        // Before any row is read: what is saved with it may be newer, never older.
        let position = self.store.revisions().position(key.scope).map(|(_, position)| position);
        let previous = previous.filter(|_| !entry.distrusted.swap(false, Ordering::Relaxed));
        let (stamp, changed) = self.changed(key, source, previous.as_ref(), &mut known).await?;
        let held = previous.map(|current| Arc::clone(&current.document.held)).unwrap_or_default();
        let mut rendering = Rendering { index: self, scope: key.scope, held: HashMap::clone(&held), source };
        let ranges = match changed {
            Some(names) => rendering.renew(&known.ranges, &names).await?,
            None => rendering.all().await?,
        };
        let outline = outline(&ranges, source);
        let is_large = outline.len(Form::Plain) > HELD_TEXT;
        let held = rendering.finish(&ranges, is_large).await?;
        let is_empty = ranges.iter().all(|range| range.parts.is_empty());
        let distrusted = Arc::clone(&entry.distrusted);
        let document =
            StoredDocument { scope: key.scope, outline, held: Arc::new(held), distrusted, is_empty };
        known.ranges = ranges;
        if let Some(position) = position.filter(|_| is_large) {
            let Known { ranges, checkpoints } = &mut *known;
            checkpoints.save(&self.store, key, &checkpoint::generation(source), position, ranges);
        }
        let current = Current { stamp, document: document.clone() };
        *entry.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(document)
    }

    /// What changed since the ranges that are known were read, with the stamp that this is good for; `None` where that is too
    /// much to tell. Who knows none takes over those of the last checkpoint.
    async fn changed<S>(
        &self,
        key: &IndexKey,
        source: &S,
        previous: Option<&Current>,
        known: &mut Known,
    ) -> Result<(Option<Stamp>, Option<Vec<String>>), S::Error>
    where
        S: StoredSource,
        S::Error: From<DbError>,
    {
        let revisions = self.store.revisions();
        let changes = match previous {
            Some(current) => current.stamp.and_then(|stamp| revisions.changes_since(key.scope, stamp)),
            // Only where nothing is known at all: after a part was missing, the checkpoint is what misled us.
            None if known.ranges.is_empty() => {
                match checkpoint::load(&self.store, key, &checkpoint::generation(source)).await? {
                    Some((position, ranges)) => {
                        known.ranges = ranges;
                        revisions.changes_after(key.scope, &position).await?
                    }
                    None => None,
                }
            }
            None => None,
        };
        Ok(match changes {
            Some((stamp, Changes::Documents(documents))) if !known.ranges.is_empty() => {
                (Some(stamp), Some(documents.iter().flat_map(|document| source.changed(document)).collect()))
            }
            Some((stamp, _)) => (Some(stamp), None),
            None => (revisions.scope_stamp(key.scope), None),
        })
    }
}

/// The heads, the parts with what separates them, the tail.
fn outline(ranges: &[NameRange], source: &impl RangeSource) -> Outline {
    let separator = Stretch::Held(Held::new(source.separator()));
    let mut stretches = Vec::new();
    let mut ranges = ranges.iter().peekable();
    let mut sections = source.sections().into_iter().peekable();
    while let Some(Section { head, .. }) = sections.next() {
        stretches.push(Stretch::Held(Held::new(&head)));
        let end = sections.peek().map(|next| next.start.as_str());
        let mut is_first = true;
        while let Some(range) = ranges.next_if(|range| end.is_none_or(|end| range.first.as_str() < end)) {
            for part in &range.parts {
                if !std::mem::take(&mut is_first) {
                    stretches.push(separator.clone());
                }
                stretches.push(Stretch::Part(*part));
            }
        }
    }
    stretches.push(Stretch::Held(Held::new(&source.tail())));
    Outline::new(stretches)
}
