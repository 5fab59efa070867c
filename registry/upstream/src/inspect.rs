//! Looking at bytes as they come, before they count.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many pieces wait for their reader.
const WAITING: usize = 4;

/// Reads what is fetched while it passes, on a thread that may take its time, and says what to note of it or why it is refused.
#[derive(Debug)]
pub struct Inspector {
    feed: mpsc::Sender<Bytes>,
    verdict: JoinHandle<Result<Value, String>>,
}

impl Inspector {
    /// An inspector that runs `read` on a thread of its own. Should the fetch break off, what `read` sees ends early and what it
    /// says does not count.
    pub fn new(read: impl FnOnce(Pieces) -> Result<Value, String> + Send + 'static) -> Self {
        let (feed, pieces) = mpsc::channel(WAITING);
        let pieces = Pieces { pieces, current: Bytes::new() };
        Self { feed, verdict: tokio::task::spawn_blocking(move || read(pieces)) }
    }

    /// Passes on a piece. False when the reader wants no more.
    pub async fn write(&self, bytes: Bytes) -> bool {
        self.feed.send(bytes).await.is_ok()
    }

    /// What the reader says of all of it.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn finish(self) -> Result<Value, String> {
        drop(self.feed);
        self.verdict.await.unwrap_or_else(|_| Err("it could not be read".to_owned()))
    }
}

/// The pieces of what is fetched, as they come. Only for threads that may wait.
#[derive(Debug)]
pub struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
