//! What the server says: into a file beside its data, or into the log of this process.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::error::{Context, Error};

/// A log file longer than this is put aside at the next start, in bytes.
const LONG_LOG: u64 = 16 << 20;
/// How much of the log an error quotes, in bytes.
const QUOTED: usize = 2 << 10;
/// How much of a line is logged, in bytes: some quote what a client sent.
const LONGEST_LINE: usize = 8 << 10;
/// How long the last lines of a server that has ended are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where the server's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTo {
    /// The file `postgres.log` in the server's folder.
    File,
    /// The log of this process: an event of the target `postgres` for each line.
    Events,
}

/// The log of one server.
#[derive(Debug)]
pub(super) enum Log {
    File { file: File, path: PathBuf, start: u64 },
    Events { last: Arc<Mutex<VecDeque<u8>>>, reader: Option<JoinHandle<()>> },
}

impl Log {
    pub fn open(to: LogTo, dir: &Path) -> Result<Self, Error> {
        if to == LogTo::Events {
            return Ok(Self::Events { last: Arc::default(), reader: None });
        }
        let path = dir.join("postgres.log");
        if fs::metadata(&path).is_ok_and(|log| log.len() > LONG_LOG) {
            fs::rename(&path, dir.join("postgres.log.old")).context("put aside", &path)?;
        }
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(&path).context("open", &path)?;
        let start = file.metadata().context("read", &path)?.len();
        Ok(Self::File { file, path, start })
    }

    /// Makes what the command says part of the log.
    pub fn attach(&self, command: &mut Command) -> Result<(), Error> {
        match self {
            Self::File { file, path, .. } => {
                command.stdout(file.try_clone().context("open", path)?);
                command.stderr(file.try_clone().context("open", path)?);
            }
            Self::Events { .. } => {
                command.stdout(Stdio::null()).stderr(Stdio::piped());
            }
        }
        Ok(())
    }

    /// Begins to read what the command says, once it runs.
    pub fn follow(&mut self, child: &mut Child) {
        if let (Self::Events { last, reader }, Some(lines)) = (self, child.stderr.take()) {
            *reader = Some(tokio::spawn(read_lines(lines, Arc::clone(last))));
        }
    }

    /// The end of what was said, of a server that has ended.
    pub async fn quote(&mut self) -> String {
        match self {
            Self::File { file, path, start } => {
                let quoted = quote_file(path, file, *start).unwrap_or_else(|error| format!("({error})"));
                format!("{} says: {quoted}", path.display())
            }
            Self::Events { last, reader } => {
                if let Some(reader) = reader
                    && tokio::time::timeout(LAST_LINES, reader).await.is_err()
                {
                    tracing::debug!("PostgreSQL's log is still open");
                }
                let bytes: Vec<u8> =
                    last.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
                format!("it says: {}", String::from_utf8_lossy(&bytes).trim())
            }
        }
    }
}

fn quote_file(path: &Path, file: &File, start: u64) -> io::Result<String> {
    let length = file.metadata()?.len();
    let from = start.max(length.saturating_sub(QUOTED as u64));
    let mut bytes = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or_default()];
    File::open(path)?.read_exact_at(&mut bytes, from)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

async fn read_lines(lines: impl AsyncRead + Unpin, last: Arc<Mutex<VecDeque<u8>>>) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.extend(&line);
            let surplus = last.len().saturating_sub(QUOTED);
            last.drain(..surplus);
        }
        line.truncate(LONGEST_LINE);
        tell(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// The severities stand before the text; <https://www.postgresql.org/docs/current/runtime-config-logging.html>. A
/// client's mistake is an error to the server, but not to whoever runs it.
fn tell(line: &str) {
    match line.split_once(':').map(|(severity, _)| severity) {
        Some("PANIC") => tracing::error!(target: "postgres", "{line}"),
        Some("FATAL" | "ERROR" | "WARNING") => tracing::warn!(target: "postgres", "{line}"),
        _ => tracing::info!(target: "postgres", "{line}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn the_end_of_what_was_said_is_kept() {
        let said = format!("LOG:  {}\nFATAL:  the end\n", "x".repeat(3 * QUOTED));
        let last = Arc::default();
        read_lines(said.as_bytes(), Arc::clone(&last)).await;
        let mut log = Log::Events { last, reader: None };
        let quoted = log.quote().await;
        assert!(quoted.starts_with("it says: xxx") && quoted.ends_with("x\nFATAL:  the end"), "{quoted}");
        assert!(quoted.len() < QUOTED + 20);
    }
}
