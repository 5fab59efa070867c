//! One piece of a document.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use granary_core::Sha256;

use crate::{Encoding, Level, SEPARATOR, gzip_member, zstd_frame};

/// An immutable rendered piece of a document.
///
/// Each compressed form is made on the first call that needs it, once for all that wait, and kept.
pub struct Part {
    digest: Sha256,
    level: Level,
    crc32: u32,
    /// The separator and the rendered text.
    text: Bytes,
    gzip: OnceLock<Bytes>,
    zstd: OnceLock<Bytes>,
}

impl Part {
    /// The part whose rendered text is `plain`. It is copied once, behind the separator.
    pub fn render(plain: impl AsRef<[u8]>, level: Level) -> Self {
        let plain = plain.as_ref();
        let text = [SEPARATOR, plain].concat();
        Self {
            digest: Sha256::of(plain),
            level,
            crc32: crc32fast::hash(&text),
            text: text.into(),
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
        }
    }

    /// The digest of the rendered text, without the separator: the part's identity.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The effort that its compressed forms take.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The CRC-32 of the separator and the text.
    pub fn crc32(&self) -> u32 {
        self.crc32
    }

    /// Bytes of the separator and the text: what the part adds to the plain document.
    pub fn plain_len(&self) -> u64 {
        self.text.len() as u64
    }

    /// The rendered text, without the separator.
    pub fn plain(&self) -> Bytes {
        self.text.slice(SEPARATOR.len()..)
    }

    /// What the part adds to a document in this encoding. Compresses on the first call; the others wait.
    pub fn encoded(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Identity => &self.text,
            Encoding::Gzip => {
                self.gzip.get_or_init(|| gzip_member::deflate(&self.text, self.level.deflate).into())
            }
            Encoding::Zstd => self
                .zstd
                .get_or_init(|| zstd_frame::blocks(&self.text[SEPARATOR.len()..], self.level.zstd).into()),
        }
    }

    /// Whether [`encoded`](Self::encoded) answers without compressing.
    pub fn is_encoded(&self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::Identity => true,
            Encoding::Gzip => self.gzip.get().is_some(),
            Encoding::Zstd => self.zstd.get().is_some(),
        }
    }

    /// Bytes of memory held now; it grows when an encoding is made.
    pub fn memory(&self) -> usize {
        let compressed = [&self.gzip, &self.zstd].into_iter().filter_map(OnceLock::get);
        size_of::<Self>() + self.text.len() + compressed.map(Bytes::len).sum::<usize>()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("digest", &self.digest)
            .field("level", &self.level)
            .field("plain_len", &self.plain_len())
            .finish_non_exhaustive()
    }
}
