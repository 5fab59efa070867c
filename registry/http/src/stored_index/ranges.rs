//! Ranges of names, and how they are read and rendered.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use granary_core::Sha256;
use granary_splice::cut::{LIMIT, Piece, is_boundary, split};
use granary_splice::outline::PartOutline;
use granary_store::{DbError, Scope};
use serde::{Deserialize, Serialize};

use super::{HELD_TEXT, StoredIndex, StoredSource};
use crate::index::{Stretch, stretches};

/// The effort that compressing a part takes.
pub(super) const LEVEL: i32 = 3;
/// How many ranges are read at once when a whole document is.
const READ_AT_ONCE: usize = 4;
/// Up to this length, compressing is quicker than going to another thread and back.
const COMPRESS_HERE: usize = 64 * 1024;
/// How much text is compressed before its parts are brought to the database, where a whole document is rendered.
const KEEP_EVERY: usize = 4 << 20;

/// Names from `first` (of the lowest range: where its section begins) up to the next range's `first`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRange {
    pub(super) first: String,
    #[serde(with = "super::checkpoint::parts")]
    pub(super) parts: Vec<PartOutline>,
}

/// One rendering of a document.
pub(super) struct Rendering<'a, S> {
    pub(super) index: &'a StoredIndex,
    pub(super) scope: Scope,
    /// Parts that are held, and those that were made now and are not in the database yet.
    pub(super) held: HashMap<Sha256, Bytes>,
    pub(super) source: &'a S,
}

/// A range that was rendered, with the compressed forms of what is new in it.
type Rendered = (NameRange, Vec<(Sha256, Bytes)>);

impl<S> Rendering<'_, S>
where
    S: StoredSource,
    S::Error: From<DbError>,
{
    /// All ranges, read anew.
    pub(super) async fn all(&mut self) -> Result<Vec<NameRange>, S::Error> {
        self.stretch(&[], "", None).await
    }

    /// The ranges, those in which one of these names falls read anew.
    pub(super) async fn renew(
        &mut self,
        ranges: &[NameRange],
        names: &[String],
    ) -> Result<Vec<NameRange>, S::Error> {
        let firsts: Vec<&str> = ranges.iter().map(|range| range.first.as_str()).collect();
        let mut renewed = Vec::with_capacity(ranges.len());
        for stretch in stretches(&firsts, names.iter().map(String::as_str)) {
            match stretch {
                Stretch::Known(places) => renewed.extend_from_slice(&ranges[places]),
                Stretch::Stale(places) => {
                    let (from, to) = (firsts[places.start], firsts.get(places.end).copied());
                    renewed.extend(self.stretch(&ranges[places], from, to).await?);
                }
            }
        }
        Ok(renewed)
    }

    /// The ranges of the names from `from` up to `to`, of which `old` were known.
    async fn stretch(
        &mut self,
        old: &[NameRange],
        from: &str,
        to: Option<&str>,
    ) -> Result<Vec<NameRange>, S::Error> {
        let source = self.source;
        let mean = source.mean_names();
        let starts = source.sections().into_iter().map(|section| section.start);
        let names = source.names(from, to).await?;
        let mut firsts: BTreeSet<String> = names.into_iter().filter(|name| is_boundary(name, mean)).collect();
        firsts
            .extend(starts.filter(|start| start.as_str() > from && to.is_none_or(|to| start.as_str() < to)));
        firsts.insert(from.to_owned());
        let firsts: Vec<String> = firsts.into_iter().collect();
        let known: HashMap<Sha256, PartOutline> =
            old.iter().flat_map(|range| &range.parts).map(|part| (part.key, *part)).collect();
        let known = &known;
        let spans = (0..firsts.len()).map(|index| {
            let first = firsts[index].clone();
            let next = firsts.get(index + 1).cloned().or_else(|| to.map(str::to_owned));
            async move { render(source, known, first, next.as_deref()).await }
        });
        let mut rendered = stream::iter(spans).buffered(READ_AT_ONCE);
        let mut ranges = Vec::with_capacity(firsts.len());
        let mut new = Vec::new();
        let (mut text, mut fresh) = (0_u64, 0);
        while let Some((range, made)) = rendered.try_next().await? {
            text += range.parts.iter().map(|part| u64::from(part.plain_len)).sum::<u64>();
            fresh += made.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            new.extend(made);
            ranges.push(range);
            if text > HELD_TEXT && fresh > KEEP_EVERY {
                self.index.keep(self.scope, std::mem::take(&mut new)).await?;
                fresh = 0;
            }
        }
        drop(rendered);
        self.held.extend(new);
        Ok(ranges)
    }

    /// Leaves what is held of these ranges to the database where the document is large. Gives the parts to be held.
    pub(super) async fn finish(
        self,
        ranges: &[NameRange],
        is_large: bool,
    ) -> Result<HashMap<Sha256, Bytes>, S::Error> {
        let used = ranges.iter().flat_map(|range| &range.parts);
        let held = used.filter_map(|part| Some((part.key, self.held.get(&part.key)?.clone())));
        if is_large {
            self.index.keep(self.scope, held.collect()).await?;
            return Ok(HashMap::new());
        }
        Ok(held.collect())
    }
}

impl StoredIndex {
    /// Brings parts to the database, and remembers them.
    async fn keep(&self, scope: Scope, parts: Vec<(Sha256, Bytes)>) -> Result<(), DbError> {
        if parts.is_empty() {
            return Ok(());
        }
        self.store.keep_document_parts(scope, &parts).await?;
        for (key, bytes) in parts {
            self.parts.insert((scope, key), bytes);
        }
        Ok(())
    }
}

/// The range of the names from `first` up to `to`; parts whose text is known are not compressed again.
async fn render<S: StoredSource>(
    source: &S,
    known: &HashMap<Sha256, PartOutline>,
    first: String,
    to: Option<&str>,
) -> Result<Rendered, S::Error> {
    let records = source.records(&first, to).await?;
    let separator = source.separator().len();
    let pieces = split(records, LIMIT);
    // Behind the separator, which stands between parts and not in them.
    let texts = pieces.into_iter().map(|Piece { bytes, .. }| bytes.slice(separator.min(bytes.len())..));
    let (mut parts, mut new) = (Vec::new(), Vec::new());
    for text in texts {
        let (part, bytes) = part(text, known).await;
        parts.push(part);
        new.extend(bytes.map(|bytes| (part.key, bytes)));
    }
    Ok((NameRange { first, parts }, new))
}

/// The part of this text, and its compressed form where it is not known.
async fn part(text: Bytes, known: &HashMap<Sha256, PartOutline>) -> (PartOutline, Option<Bytes>) {
    if let Some(part) = known.get(&PartOutline::key(&text, LEVEL)) {
        return (*part, None);
    }
    let compress = move |text: &Bytes| PartOutline::compress(text, LEVEL);
    let (part, bytes) = if text.len() <= COMPRESS_HERE {
        compress(&text)
    } else {
        let copy = text.clone();
        // It does not panic; but should it, there is no reason to go down with it.
        tokio::task::spawn_blocking(move || compress(&copy)).await.unwrap_or_else(|_| compress(&text))
    };
    (part, Some(bytes))
}
