//! Reading cached files in large pieces.
//!
//! What the page cache holds is read where we are (`preadv2` with `RWF_NOWAIT` never waits for a disk), and
//! only the rest by a blocking thread. Over loopback this serves more than nginx with `sendfile`, and unlike a
//! memory map it does not count the file as resident memory.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::objects::ObjectError;

/// Bytes in one read.
const PIECE: usize = 128 * 1024;
/// Buffers that are kept for the next read, 2 MiB in all: allocating one afresh costs more than reading it.
const KEPT: usize = 16;

static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A piece of a file, in a buffer that is used again.
struct Piece {
    memory: Vec<u8>,
    filled: usize,
}

impl Piece {
    fn new() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { memory: idle.unwrap_or_else(|| vec![0; PIECE]), filled: 0 }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Up to `length` bytes at `position`: as many as one piece holds, at least one.
pub(super) async fn read(file: &Arc<File>, position: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = Piece::new();
    let length = length.min(PIECE);
    let at_hand =
        preadv2(file, &mut [IoSliceMut::new(&mut piece.memory[..length])], position, ReadWriteFlags::NOWAIT);
    match at_hand {
        Ok(read) if read > 0 => {
            piece.filled = read;
            return Ok(Bytes::from_owner(piece));
        }
        // Whatever it is (not in memory, or a file system without this), the ordinary way tells.
        Ok(_) | Err(_) => {}
    }
    let file = Arc::clone(file);
    let reading = tokio::task::spawn_blocking(move || {
        file.read_exact_at(&mut piece.memory[..length], position)?;
        piece.filled = length;
        Ok(Bytes::from_owner(piece))
    });
    reading.await.map_err(io::Error::other)?
}

/// A whole small file, in memory of just its size, to be kept.
pub(super) async fn read_whole(file: &Arc<File>, size: usize) -> io::Result<Bytes> {
    let file = Arc::clone(file);
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Bytes::from(bytes))
    });
    reading.await.map_err(io::Error::other)?
}

/// A range of a file, piece by piece.
pub(super) fn stream(
    file: Arc<File>,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
    stream::try_unfold((file, range), |(file, range)| async move {
        if range.start >= range.end {
            return Ok(None);
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(PIECE);
        let bytes = read(&file, range.start, length).await.map_err(ObjectError::unavailable)?;
        let rest = range.start + bytes.len() as u64..range.end;
        Ok(Some((bytes, (file, rest))))
    })
}
