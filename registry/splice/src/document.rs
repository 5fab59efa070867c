//! A document: its parts, end to end.

use std::iter;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{Encoding, Part, gzip_member, zstd_frame};

/// An immutable list of parts, served in any [`Encoding`]. A clone is another handle to the same list.
///
/// Without parts it is an empty text, which is valid in every encoding.
#[derive(Debug, Clone)]
pub struct Document {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Box<[Arc<Part>]>,
    identity: View,
    gzip: View,
    zstd: View,
}

/// What is known of the document in one encoding; made on first use.
#[derive(Debug, Default)]
struct View {
    etag: OnceLock<String>,
    layout: OnceLock<Layout>,
}

#[derive(Debug)]
struct Layout {
    head: Bytes,
    tail: Bytes,
    /// Where each piece ends: the head, every part, the tail.
    ends: Box<[u64]>,
}

impl Document {
    /// The document that these parts make up, in this order.
    pub fn new(parts: impl IntoIterator<Item = Arc<Part>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts: parts.into_iter().collect(),
                identity: View::default(),
                gzip: View::default(),
                zstd: View::default(),
            }),
        }
    }

    /// The parts, in their order.
    pub fn parts(&self) -> &[Arc<Part>] {
        &self.inner.parts
    }

    /// Bytes of the document in this encoding. Compresses what has not been compressed yet.
    pub fn len(&self, encoding: Encoding) -> u64 {
        self.layout(encoding).ends.last().copied().unwrap_or_default()
    }

    /// Whether the document has no text at all (its gzip and zstd forms still have bytes).
    pub fn is_empty(&self) -> bool {
        self.parts().is_empty()
    }

    /// Whether [`len`](Self::len), [`chunks`](Self::chunks) and [`range`](Self::range) answer without
    /// compressing anything.
    pub fn is_encoded(&self, encoding: Encoding) -> bool {
        self.view(encoding).layout.get().is_some()
            || self.parts().iter().all(|part| part.is_encoded(encoding))
    }

    /// The strong entity tag (RFC 9110) with its quotes, different for each encoding.
    ///
    /// It is made of the parts' digests and of what else decides on the bytes: the encoding, the levels and
    /// the compressor. Nothing is compressed to know it.
    pub fn etag(&self, encoding: Encoding) -> &str {
        self.view(encoding).etag.get_or_init(|| {
            let mut hash = Sha256::new();
            match encoding {
                Encoding::Identity => hash.update("identity"),
                Encoding::Gzip => {
                    hash.update(format!("gzip {} {}", gzip_member::GENERATION, std::env::consts::ARCH));
                }
                Encoding::Zstd => {
                    let version = zstd::zstd_safe::version_number();
                    hash.update(format!("zstd {version} {}", std::env::consts::ARCH));
                }
            }
            for part in self.parts() {
                hash.update(part.digest().as_bytes());
                match encoding {
                    Encoding::Identity => {}
                    Encoding::Gzip => hash.update(part.level().deflate.to_le_bytes()),
                    Encoding::Zstd => hash.update(part.level().zstd.to_le_bytes()),
                }
            }
            let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
                <[u8; 32]>::from(hash.finalize());
            let coding = encoding.content_coding().map(|coding| format!("-{coding}")).unwrap_or_default();
            format!("\"{}{coding}\"", hex::encode(digest))
        })
    }

    /// The whole document in this encoding.
    pub fn chunks(&self, encoding: Encoding) -> Chunks {
        self.range(encoding, 0..u64::MAX)
    }

    /// The bytes of the encoded document from `range.start` up to `range.end`, or up to its end when that
    /// comes first.
    pub fn range(&self, encoding: Encoding, range: Range<u64>) -> Chunks {
        let ends = &self.layout(encoding).ends;
        let piece = ends.partition_point(|&end| end <= range.start);
        let piece_start =
            piece.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or_default();
        Chunks {
            document: self.clone(),
            encoding,
            piece,
            skip: range.start - piece_start,
            remaining: range.end.min(self.len(encoding)).saturating_sub(range.start),
        }
    }

    fn view(&self, encoding: Encoding) -> &View {
        match encoding {
            Encoding::Identity => &self.inner.identity,
            Encoding::Gzip => &self.inner.gzip,
            Encoding::Zstd => &self.inner.zstd,
        }
    }

    fn layout(&self, encoding: Encoding) -> &Layout {
        self.view(encoding).layout.get_or_init(|| Layout::new(encoding, self.parts()))
    }

    /// The head, a part or the tail; `None` behind the tail.
    fn piece(&self, encoding: Encoding, index: usize) -> Option<&Bytes> {
        let parts = self.parts();
        match index.checked_sub(1) {
            None => Some(&self.layout(encoding).head),
            Some(part) if part == parts.len() => Some(&self.layout(encoding).tail),
            Some(part) => parts.get(part).map(|part| part.encoded(encoding)),
        }
    }
}

impl Layout {
    fn new(encoding: Encoding, parts: &[Arc<Part>]) -> Self {
        let plain_len = parts.iter().map(|part| part.plain_len()).sum();
        let (head, tail) = match encoding {
            Encoding::Identity => (Bytes::new(), Bytes::new()),
            Encoding::Gzip => {
                let mut crc32 = crc32fast::Hasher::new();
                for part in parts {
                    crc32.combine(&crc32fast::Hasher::new_with_initial_len(part.crc32(), part.plain_len()));
                }
                let tail = gzip_member::tail(crc32.finalize(), plain_len);
                (Bytes::from_static(gzip_member::HEAD), tail.into())
            }
            Encoding::Zstd => {
                let largest = parts.iter().map(|part| part.plain_len()).max().unwrap_or_default();
                (zstd_frame::head(plain_len, largest).into(), Bytes::from_static(zstd_frame::TAIL))
            }
        };
        let pieces = parts.iter().map(|part| part.encoded(encoding));
        let ends = iter::once(&head)
            .chain(pieces)
            .chain(iter::once(&tail))
            .scan(0, |end, piece| {
                *end += piece.len() as u64;
                Some(*end)
            })
            .collect();
        Self { head, tail, ends }
    }
}

/// The bytes of an encoded document, piece by piece, without copying them. It owns what it needs: a
/// document that has been replaced can still be finished for a client that is in the middle of it.
#[derive(Debug, Clone)]
pub struct Chunks {
    document: Document,
    encoding: Encoding,
    /// The piece that comes next, and how much of its start is left out.
    piece: usize,
    skip: u64,
    remaining: u64,
}

impl Chunks {
    /// How many bytes are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.remaining > 0 {
            let piece = self.document.piece(self.encoding, self.piece)?;
            let start = self.skip.min(piece.len() as u64);
            let end = (piece.len() as u64).min(start.saturating_add(self.remaining));
            #[allow(clippy::cast_possible_truncation)] // both lie within the piece
            let chunk = piece.slice(start as usize..end as usize);
            self.piece += 1;
            self.skip = 0;
            self.remaining -= end - start;
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
        None
    }
}

impl iter::FusedIterator for Chunks {}
