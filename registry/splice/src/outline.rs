//! Documents of which only the outline is in memory: which parts they are made of, not the parts' bytes.
//!
//! A document of a million records is as large as the memory that a server has. Its parts lie elsewhere, in their zstd form;
//! whoever sends the document fetches one after the other. Between them stands what is short enough to be held: heads, commas,
//! the tail.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use granary_core::Sha256;
use sha2::{Digest as _, Sha256 as Hasher};

use crate::{SEPARATOR, zstd_frame};

/// The forms of such a document. Others would have to be made of the whole text for each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The plain text.
    Plain,
    /// One Zstandard frame.
    Zstd,
}

/// What is known of a part without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartOutline {
    /// Of the text, the effort and the compressor: where this is the same, so are the bytes of every form.
    pub key: Sha256,
    /// Bytes of the separator and the text.
    pub plain_len: u32,
    /// Bytes of the compressed form.
    pub zstd_len: u32,
}

/// Why a part's text cannot be had back.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// The bytes are not those of a compressed part.
    #[error("a part of a document cannot be unpacked")]
    Zstd(#[from] io::Error),
    /// They are another part's.
    #[error("a part of a document has {found} bytes instead of {expected}")]
    Length {
        /// As its outline says.
        expected: usize,
        /// What came out.
        found: usize,
    },
}

impl PartOutline {
    /// The key of the part of this text, compressed at this level.
    pub fn key(plain: &[u8], level: i32) -> Sha256 {
        let mut hash = Hasher::new();
        let (version, architecture) = (zstd::zstd_safe::version_number(), std::env::consts::ARCH);
        hash.update(format!("zstd {version} {architecture} level {level}\0"));
        hash.update(plain);
        Sha256::from_bytes(hash.finalize().into())
    }

    /// The outline of the part of this text, and its compressed form. Takes milliseconds for half a megabyte.
    pub fn compress(plain: &[u8], level: i32) -> (Self, Bytes) {
        let zstd: Bytes = zstd_frame::blocks(plain, level).into();
        let outline = Self {
            key: Self::key(plain, level),
            plain_len: length(SEPARATOR.len() + plain.len()),
            zstd_len: length(zstd.len()),
        };
        (outline, zstd)
    }

    /// The plain form, separator and text, of the compressed one.
    ///
    /// # Errors
    /// Where the bytes are not those of this part.
    pub fn expand(&self, zstd: &[u8]) -> Result<Bytes, ExpandError> {
        let length = u64::from(self.plain_len);
        let frame = [&zstd_frame::head(length, length), zstd, zstd_frame::TAIL].concat();
        let expected = usize::try_from(self.plain_len).map_err(io::Error::other)?;
        let plain = zstd::bulk::decompress(&frame, expected)?;
        if plain.len() == expected {
            Ok(plain.into())
        } else {
            Err(ExpandError::Length { expected, found: plain.len() })
        }
    }
}

/// A stretch of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stretch {
    /// Short enough to be held.
    Held(Held),
    /// A part whose bytes lie elsewhere.
    Part(PartOutline),
}

/// A short text in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    plain: Bytes,
    zstd: Bytes,
}

impl Held {
    /// This text.
    pub fn new(plain: &str) -> Self {
        let zstd = zstd_frame::blocks(plain.as_bytes(), 1).into();
        Self { plain: [SEPARATOR, plain.as_bytes()].concat().into(), zstd }
    }
}

/// A piece of an encoded document, to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// These bytes of a part in the form that was asked for.
    Part(PartOutline, Range<usize>),
}

/// An immutable list of stretches. Clones share it.
#[derive(Debug, Clone)]
pub struct Outline {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stretches: Box<[Stretch]>,
    plain: Layout,
    zstd: Layout,
}

#[derive(Debug)]
struct Layout {
    etag: String,
    head: Bytes,
    tail: Bytes,
    /// Where each piece ends: the head, every stretch, the tail.
    ends: Box<[u64]>,
}

impl Outline {
    /// The document that these stretches make up, in this order.
    pub fn new(stretches: impl IntoIterator<Item = Stretch>) -> Self {
        let stretches: Box<[Stretch]> = stretches.into_iter().collect();
        let plain = Layout::new(&stretches, Form::Plain, Bytes::new(), Bytes::new());
        let lengths = || stretches.iter().map(|stretch| stretch.len(Form::Plain));
        let head = zstd_frame::head(lengths().sum(), lengths().max().unwrap_or_default());
        let zstd = Layout::new(&stretches, Form::Zstd, head.into(), Bytes::from_static(zstd_frame::TAIL));
        Self { inner: Arc::new(Inner { stretches, plain, zstd }) }
    }

    /// The stretches, in their order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.inner.stretches
    }

    /// Bytes of the document in this form.
    pub fn len(&self, form: Form) -> u64 {
        self.layout(form).ends.last().copied().unwrap_or_default()
    }

    /// Whether it has no text.
    pub fn is_empty(&self) -> bool {
        self.len(Form::Plain) == 0
    }

    /// The strong entity tag (RFC 9110), without its quotes: different for each form.
    pub fn etag(&self, form: Form) -> &str {
        &self.layout(form).etag
    }

    /// The bytes from `range.start` up to `range.end`, or up to the end when that comes first, as pieces that are not empty.
    pub fn pieces(&self, form: Form, range: Range<u64>) -> impl Iterator<Item = Piece> + Send + 'static {
        let document = self.clone();
        let ends = &self.layout(form).ends;
        let count = ends.len();
        let first = if range.is_empty() { count } else { ends.partition_point(|end| *end <= range.start) };
        let pieces = (first..count).map_while(move |index| {
            let Layout { head, tail, ends, .. } = document.layout(form);
            let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or_default();
            let end = *ends.get(index)?;
            if start >= range.end {
                return None;
            }
            let from = usize::try_from(range.start.max(start) - start).ok()?;
            let to = usize::try_from(range.end.min(end) - start).ok()?;
            Some(match index.checked_sub(1) {
                None => Piece::Bytes(head.slice(from..to)),
                Some(index) => match document.stretches().get(index) {
                    None => Piece::Bytes(tail.slice(from..to)),
                    Some(Stretch::Held(held)) => Piece::Bytes(held.bytes(form).slice(from..to)),
                    Some(Stretch::Part(part)) => Piece::Part(*part, from..to),
                },
            })
        });
        // The plain form has no head and no tail.
        pieces.filter(|piece| !matches!(piece, Piece::Bytes(bytes) if bytes.is_empty()))
    }

    fn layout(&self, form: Form) -> &Layout {
        match form {
            Form::Plain => &self.inner.plain,
            Form::Zstd => &self.inner.zstd,
        }
    }
}

impl Layout {
    fn new(stretches: &[Stretch], form: Form, head: Bytes, tail: Bytes) -> Self {
        let mut hash = Hasher::new();
        hash.update(match form {
            Form::Plain => "plain",
            Form::Zstd => "zstd",
        });
        for stretch in stretches {
            match stretch {
                // Lengths, so that no two lists of stretches are told by the same bytes.
                Stretch::Held(held) => {
                    hash.update((held.bytes(form).len() as u64).to_le_bytes());
                    hash.update(held.bytes(form));
                }
                Stretch::Part(part) => hash.update(part.key.as_bytes()),
            }
        }
        let digest = hex::encode(hash.finalize());
        let lengths = std::iter::once(head.len() as u64)
            .chain(stretches.iter().map(|stretch| stretch.len(form)))
            .chain(std::iter::once(tail.len() as u64));
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        Self { etag: digest.chars().take(32).collect(), ends: ends.collect(), head, tail }
    }
}

impl Stretch {
    fn len(&self, form: Form) -> u64 {
        match (self, form) {
            (Self::Held(held), form) => held.bytes(form).len() as u64,
            (Self::Part(part), Form::Plain) => part.plain_len.into(),
            (Self::Part(part), Form::Zstd) => part.zstd_len.into(),
        }
    }
}

impl Held {
    const fn bytes(&self, form: Form) -> &Bytes {
        match form {
            Form::Plain => &self.plain,
            Form::Zstd => &self.zstd,
        }
    }
}

/// A part is far below this: what is longer is no part of a document that anybody can download.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
