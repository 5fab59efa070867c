//! Servers that a process which is gone left on the data.
//!
//! `postmaster.pid` alone does not tell them: its process may be gone, its number may be another's by now, and after the
//! death of the server proper its helpers may still write for a moment. But each of them has the data as its working
//! folder, which Linux shows in `/proc`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, sleep};

use super::error::{Context, Error};

const POLL: Duration = Duration::from_millis(50);
/// What to do, and how long to wait then: its supervisor may be shutting it down already.
const STEPS: [(Option<Signal>, Duration); 3] = [
    (None, Duration::from_secs(5)),
    (Some(Signal::INT), Duration::from_secs(20)),
    (Some(Signal::QUIT), Duration::from_secs(5)),
];

/// Waits until no server runs on `data`, and shuts it down if it does not end by itself. Then removes its lock file,
/// which could otherwise be taken for another process's.
pub(super) async fn end(data: &Path) -> Result<(), Error> {
    for (action, limit) in STEPS {
        if let Some(action) = action {
            tracing::warn!(data = %data.display(), "shutting down a PostgreSQL server that was left running");
            signal(data, action);
        }
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if running(data).is_empty() {
                return remove_lock_file(data);
            }
            sleep(POLL).await;
        }
    }
    Err(Error::StillRunning(data.to_owned()))
}

/// Sends `signal` to all processes of the server on `data`: SIGINT breaks off transactions, SIGQUIT is a crash.
pub(super) fn signal(data: &Path, signal: Signal) {
    for process in running(data) {
        if let Err(error) = kill_process(process, signal) {
            tracing::debug!(%error, ?process, "cannot send a signal to a PostgreSQL process");
        }
    }
}

fn running(data: &Path) -> Vec<Pid> {
    let Some(processes) = fs::read_dir("/proc").ok().filter(|_| has_proc()) else {
        return lock_holder(data).filter(|process| test_kill_process(*process).is_ok()).into_iter().collect();
    };
    processes
        .filter_map(Result::ok)
        .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data))
        .filter(|process| {
            fs::read(process.path().join("comm")).is_ok_and(|name| name.starts_with(b"postgres"))
        })
        .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn has_proc() -> bool {
    Path::new("/proc/self/cwd").exists()
}

/// The process that `postmaster.pid` names in its first line.
fn lock_holder(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

fn remove_lock_file(data: &Path) -> Result<(), Error> {
    if !has_proc() {
        // Nothing proves that it is stale: the server itself is to decide.
        return Ok(());
    }
    let path = data.join("postmaster.pid");
    match fs::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.context("remove", &path),
    }
}
