//! Index documents that are too large for the memory of a process: their parts, by keys, and checkpoints, by which a process
//! that has just begun needs to read only what has changed since one was saved.

use std::collections::HashMap;

use bytes::Bytes;
use granary_core::Sha256;
use jiff::SignedDuration;

use crate::revision::{Position, Scope};
use crate::{DbError, Store};

/// A part that no checkpoint lists is kept for so long after a process made it: that process may not have saved one yet.
const UNLISTED_PARTS: SignedDuration = SignedDuration::from_hours(24);
/// A checkpoint goes so long after it was saved, if another version of the program has saved a newer one.
const OLD_GENERATIONS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many parts one statement removes at most.
const PRUNE_BATCH: i64 = 500;

/// What a document was made of at some position of its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// How far the scope had come.
    pub position: Position,
    /// In the form of who saved it.
    pub outline: Vec<u8>,
}

/// Which checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointKey<'a> {
    /// Whose document.
    pub scope: Scope,
    /// Its name.
    pub document: &'a str,
    /// What of the program decides on its parts and on the form of the outline: another version has checkpoints of its own.
    pub generation: &'a str,
}

impl Store {
    /// Keeps parts of the scope's documents.
    pub async fn keep_document_parts(&self, scope: Scope, parts: &[(Sha256, Bytes)]) -> Result<(), DbError> {
        // Always in the same order, so that two processes that keep the same parts never wait for each other.
        let mut parts: Vec<_> = parts.iter().collect();
        parts.sort_unstable_by_key(|(key, _)| *key.as_bytes());
        parts.dedup_by_key(|(key, _)| *key);
        let keys: Vec<&[u8]> = parts.iter().map(|(key, _)| key.as_bytes().as_slice()).collect();
        let bytes: Vec<&[u8]> = parts.iter().map(|(_, bytes)| bytes.as_ref()).collect();
        let now = self.clock().now();
        self.database().execute(&self.sql().keep_parts, &[&scope.0, &keys, &bytes, &now]).await?;
        Ok(())
    }

    /// Those of the parts that are kept.
    pub async fn document_parts(
        &self,
        scope: Scope,
        keys: &[Sha256],
    ) -> Result<HashMap<Sha256, Bytes>, DbError> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes().as_slice()).collect();
        let rows = self.database().query(&self.sql().parts, &[&scope.0, &keys]).await?;
        rows.iter()
            .map(|row| {
                let key = Sha256::try_from(row.try_get::<_, &[u8]>(0)?);
                let key = key.map_err(|error| DbError::decode("digest", error))?;
                Ok((key, Bytes::from(row.try_get::<_, Vec<u8>>(1)?)))
            })
            .collect()
    }

    /// Saves what a document is made of, in the place of what was saved before.
    pub async fn save_checkpoint(
        &self,
        key: CheckpointKey<'_>,
        checkpoint: &Checkpoint,
        parts: &[Sha256],
    ) -> Result<(), DbError> {
        let (steps, marks) = checkpoint.position.steps_and_marks();
        let parts: Vec<&[u8]> = parts.iter().map(|key| key.as_bytes().as_slice()).collect();
        let now = self.clock().now();
        let CheckpointKey { scope, document, generation } = key;
        self.database()
            .execute(
                &self.sql().save_checkpoint,
                &[&scope.0, &document, &generation, &steps, &marks, &checkpoint.outline, &parts, &now],
            )
            .await?;
        Ok(())
    }

    /// What was saved of a document.
    pub async fn checkpoint(&self, key: CheckpointKey<'_>) -> Result<Option<Checkpoint>, DbError> {
        let CheckpointKey { scope, document, generation } = key;
        let row =
            self.database().query_opt(&self.sql().checkpoint, &[&scope.0, &document, &generation]).await?;
        let Some(row) = row else { return Ok(None) };
        let position = Position::of(&row.try_get::<_, Vec<i64>>(0)?, &row.try_get::<_, Vec<i64>>(1)?)?;
        Ok(Some(Checkpoint { position, outline: row.try_get(2)? }))
    }

    /// The documents of which nothing was saved for so long although their scopes have moved on since.
    pub async fn moved_checkpoints(
        &self,
        unsaved_for: SignedDuration,
    ) -> Result<Vec<(Scope, String)>, DbError> {
        let before = self.clock().now() - unsaved_for;
        let rows = self.database().query(&self.sql().moved_checkpoints, &[&before]).await?;
        rows.iter().map(|row| Ok((Scope(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// Removes parts that no checkpoint lists and checkpoints of programs that are not run any more. Says how many parts.
    pub async fn prune_documents(&self) -> Result<u64, DbError> {
        let now = self.clock().now();
        self.database().execute(&self.sql().prune_checkpoints, &[&(now - OLD_GENERATIONS)]).await?;
        let (mut removed, before) = (0, now - UNLISTED_PARTS);
        loop {
            match self.database().execute(&self.sql().prune_parts, &[&before, &PRUNE_BATCH]).await? {
                0 => return Ok(removed),
                some => removed += some,
            }
        }
    }
}
