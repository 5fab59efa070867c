//! The bytes of a stored document, fetched while they are sent.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use granary_splice::outline::{ExpandError, Form, PartOutline, Piece};
use granary_store::DbError;

use super::{StoredDocument, StoredIndex};
use crate::Body;

/// How many pieces are fetched at once: parts, and what separates them.
const FETCHED_AT_ONCE: usize = 32;

/// Why a document could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum StoredBodyError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A part is not there. The next request renders the document anew.
    #[error("a part of the document is missing")]
    Missing,
    /// A part's bytes are not what they should be.
    #[error(transparent)]
    Part(#[from] ExpandError),
}

struct Sending {
    index: StoredIndex,
    document: StoredDocument,
    form: Form,
    pieces: Box<dyn Iterator<Item = Piece> + Send>,
    fetched: VecDeque<Bytes>,
}

impl StoredIndex {
    /// The bytes of a document from `range.start` to `range.end`, which lies within it.
    pub fn body(&self, document: &StoredDocument, form: Form, range: Range<u64>) -> Body {
        let length = range.end - range.start;
        let sending = Sending {
            index: self.clone(),
            document: document.clone(),
            form,
            pieces: Box::new(document.outline.pieces(form, range)),
            fetched: VecDeque::new(),
        };
        let chunks = stream::try_unfold(sending, |mut sending| async move {
            let next = sending.next().await?;
            Ok::<_, StoredBodyError>(next.map(|bytes| (bytes, sending)))
        });
        Body::stream(chunks, length)
    }
}

impl Sending {
    async fn next(&mut self) -> Result<Option<Bytes>, StoredBodyError> {
        if self.fetched.is_empty() {
            self.fetch().await?;
        }
        Ok(self.fetched.pop_front())
    }

    /// Has the next pieces at hand.
    async fn fetch(&mut self) -> Result<(), StoredBodyError> {
        // Texts are larger than their compressed forms: fewer of them at a time.
        let most = if self.form == Form::Zstd { FETCHED_AT_ONCE } else { 2 };
        let pieces: Vec<Piece> = self.pieces.by_ref().take(most).collect();
        let scope = self.document.scope;
        let (mut found, mut missing) = (HashMap::new(), Vec::new());
        for piece in &pieces {
            if let Piece::Part(part, _) = piece {
                match self.at_hand(part) {
                    // Taken hold of now: what is remembered next may drive it out.
                    Some(bytes) => drop(found.insert(part.key, bytes)),
                    None => missing.push(part.key),
                }
            }
        }
        if !missing.is_empty() {
            let loaded = self.index.store.document_parts(scope, &missing).await?;
            for (key, bytes) in &loaded {
                self.index.parts.insert((scope, *key), bytes.clone());
            }
            found.extend(loaded);
        }
        for piece in pieces {
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Part(part, range) => {
                    let bytes = found.get(&part.key);
                    let right = bytes.filter(|bytes| u32::try_from(bytes.len()) == Ok(part.zstd_len));
                    let Some(bytes) = right else {
                        self.document.distrusted.store(true, Ordering::Relaxed);
                        return Err(StoredBodyError::Missing);
                    };
                    match self.form {
                        Form::Zstd => bytes.slice(range),
                        Form::Plain => part.expand(bytes)?.slice(range),
                    }
                }
            };
            self.fetched.push_back(bytes);
        }
        Ok(())
    }

    fn at_hand(&self, part: &PartOutline) -> Option<Bytes> {
        let held = self.document.held.get(&part.key).cloned();
        held.or_else(|| self.index.parts.get(&(self.document.scope, part.key)))
    }
}
