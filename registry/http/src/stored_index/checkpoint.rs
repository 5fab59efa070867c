//! What is saved of a large document, so that a process which has just begun need not read all of it.

use std::time::{Duration, Instant};

use granary_core::Sha256;
use granary_splice::cut::LIMIT;
use granary_store::{Checkpoint, CheckpointKey, DbError, Position, Store};

use super::StoredSource;
use super::ranges::{LEVEL, NameRange};
use crate::index::IndexKey;

/// How long after one checkpoint the next is saved at the earliest.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// When this process saved what of a document.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    saved: Option<Instant>,
}

impl Checkpoints {
    /// Saves the ranges, which are as new as `position` at least, in the background and not too often. What is not saved costs
    /// time alone.
    pub(super) fn save(
        &mut self,
        store: &Store,
        key: &IndexKey,
        generation: &str,
        position: Position,
        ranges: &[NameRange],
    ) {
        if self.saved.is_some_and(|saved| saved.elapsed() < SAVE_EVERY) {
            return;
        }
        self.saved = Some(Instant::now());
        let parts: Vec<Sha256> = ranges.iter().flat_map(|range| &range.parts).map(|part| part.key).collect();
        let Ok(outline) = serde_json::to_vec(ranges) else { return };
        let (store, name, scope) = (store.clone(), name_of(key), key.scope);
        let generation = generation.to_owned();
        tokio::spawn(async move {
            let key = CheckpointKey { scope, document: &name, generation: &generation };
            let checkpoint = Checkpoint { position, outline };
            if let Err(error) = store.save_checkpoint(key, &checkpoint, &parts).await {
                let error = granary_core::report(&error);
                tracing::warn!(error, document = %name, "what an index is made of could not be saved");
            }
        });
    }
}

/// What was saved of a document last, and the position of its scope that it is as new as.
pub(super) async fn load(
    store: &Store,
    key: &IndexKey,
    generation: &str,
) -> Result<Option<(Position, Vec<NameRange>)>, DbError> {
    let name = name_of(key);
    let key = CheckpointKey { scope: key.scope, document: &name, generation };
    let saved = store.checkpoint(key).await?;
    Ok(saved.and_then(|saved| {
        let ranges = serde_json::from_slice(&saved.outline).inspect_err(
            |error| tracing::warn!(%error, document = %name, "what was saved of an index is unreadable"),
        );
        Some((saved.position, ranges.ok()?))
    }))
}

fn name_of(key: &IndexKey) -> String {
    format!("{} {}", key.document, key.representation)
}

/// All that decides on the parts of a document beside its records.
pub(super) fn generation(source: &impl StoredSource) -> String {
    let (architecture, mean) = (std::env::consts::ARCH, source.mean_names());
    format!("1 {architecture} level {LEVEL} names {mean} limit {LIMIT}")
}

/// Parts as they are saved: key, plain length, compressed length.
pub(super) mod parts {
    use granary_core::Sha256;
    use granary_splice::outline::PartOutline;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        parts: &[PartOutline],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let parts: Vec<(Sha256, u32, u32)> =
            parts.iter().map(|part| (part.key, part.plain_len, part.zstd_len)).collect();
        parts.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PartOutline>, D::Error> {
        let parts = Vec::<(Sha256, u32, u32)>::deserialize(deserializer)?;
        let part = |(key, plain_len, zstd_len)| PartOutline { key, plain_len, zstd_len };
        Ok(parts.into_iter().map(part).collect())
    }
}
