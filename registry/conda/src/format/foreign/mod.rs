//! Index documents that another registry wrote: read as streams, and written anew where they lead elsewhere or list what is not
//! to be shown.
//!
//! | what | read by |
//! |---|---|
//! | `repodata.json` and its kin, `run_exports.json`, `channeldata.json` | [`document`] |
//! | the index of shards, and shards (CEP 16) | [`shards`] |
//! | `MessagePack` in general | `msgpack` |

pub mod document;
mod msgpack;
pub mod shards;

use std::io::{self, Read};

/// How a document is compressed, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Plain,
    /// `.zst`.
    Zstd,
    /// `.bz2`.
    Bzip2,
}

impl Coding {
    /// The coding of a file, and the file's name without its suffix.
    pub fn of(file: &str) -> (&str, Self) {
        for (suffix, coding) in [(".zst", Self::Zstd), (".bz2", Self::Bzip2)] {
            if let Some(name) = file.strip_suffix(suffix) {
                return (name, coding);
            }
        }
        (file, Self::Plain)
    }

    /// The media type of a document in this coding.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/json",
            Self::Zstd => "application/zstd",
            Self::Bzip2 => "application/x-bzip2",
        }
    }

    /// Unpacks what is read, at most `limit` bytes of it.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn unpacked<'a>(
        self,
        input: impl Read + Send + 'a,
        limit: u64,
    ) -> io::Result<Limited<Box<dyn Read + Send + 'a>>> {
        let reader: Box<dyn Read + Send + 'a> = match self {
            Self::Plain => Box::new(input),
            Self::Zstd => {
                let mut reader = zstd::stream::read::Decoder::new(input)?;
                reader.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(reader)
            }
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(input)),
        };
        Ok(Limited { reader, left: limit })
    }
}

/// The largest window that a frame may need, 2^27 bytes.
const MAX_WINDOW_LOG: u32 = 27;

/// What unpacks to more than is allowed.
#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than is allowed")]
struct TooLong;

/// A reader that fails where there is more than it may read.
#[derive(Debug)]
pub struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(TooLong))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
