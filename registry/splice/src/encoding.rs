//! The encodings of a document and the effort spent on them.

/// How the bytes of a document are encoded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// The plain document.
    Identity,
    /// One gzip member (RFC 1952).
    Gzip,
    /// One Zstandard frame (RFC 8878) with a window of at most 8 MiB, as RFC 9659 asks of servers.
    Zstd,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Gzip, Self::Zstd];

    /// The value of the `Content-Encoding` header; `None` for the plain document.
    pub const fn content_coding(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// A compression level outside of what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// The zstd level is out of range.
    #[error("zstd level {0} is not in -7..=19")]
    Zstd(i32),
    /// The deflate level is out of range.
    #[error("deflate level {0} is not in 1..=9")]
    Deflate(u32),
}

/// How much effort goes into compressing a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level {
    pub(crate) zstd: i32,
    pub(crate) deflate: u32,
}

impl Level {
    /// For a part that a client is waiting for: zstd 3, deflate 6.
    pub const QUICK: Self = Self { zstd: 3, deflate: 6 };
    /// For a part that has not changed for long, in the background: zstd 15, deflate 9.
    pub const THOROUGH: Self = Self { zstd: 15, deflate: 9 };

    /// A level for each of the two compressions.
    ///
    /// # Errors
    /// `zstd` has to be in -7..=19 (0 is libzstd's default; levels above 19 want a window that clients
    /// need not accept), `deflate` in 1..=9.
    pub fn new(zstd: i32, deflate: u32) -> Result<Self, LevelError> {
        if !(-7..=19).contains(&zstd) {
            return Err(LevelError::Zstd(zstd));
        }
        if !(1..=9).contains(&deflate) {
            return Err(LevelError::Deflate(deflate));
        }
        Ok(Self { zstd, deflate })
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::QUICK
    }
}
