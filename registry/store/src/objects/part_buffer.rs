//! The fixed pool of memory that all uploads share.
//!
//! An upload fills at most one part buffer at a time, and a buffer that is full is on its way to the store, so
//! every buffer that is lent comes back without needing another one: uploads may wait for each other, but
//! never in a circle. Bodies of up to [`SMALL`] bytes stay out of the pool: each reserves what it may
//! need from a second budget, in bytes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that an upload may hold before it takes a part buffer.
pub(super) const SMALL: usize = 256 * 1024;

/// How long a buffer that nobody needs is kept before its memory goes back to the system.
const KEEP: Duration = Duration::from_secs(10);

/// How much memory uploads may take.
#[derive(Debug, Clone, Copy)]
pub struct PartBufferOptions {
    /// The number of part buffers.
    pub count: u16,
    /// The size of each in bytes; a store takes no part below 5 MiB but the last.
    pub part_bytes: u32,
    /// Bytes for all bodies together that have not outgrown 256 KiB.
    pub small_bytes: u32,
}

impl Default for PartBufferOptions {
    /// Eight buffers of 8 MiB, and 16 MiB for small bodies.
    fn default() -> Self {
        Self { count: 8, part_bytes: 8 << 20, small_bytes: 16 << 20 }
    }
}

/// The pool: cheap to clone. It allocates what is used, and gives back what has not been used for 10 s.
#[derive(Debug, Clone)]
pub struct PartBuffers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    part_bytes: usize,
    count: u32,
    parts: Arc<Semaphore>,
    small: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    memory: Vec<MmapMut>,
    /// The fewest idle buffers since the sweeper last looked: so many were not needed.
    unneeded: usize,
    sweeping: bool,
}

impl PartBuffers {
    /// A pool. Sizes below what works are raised: one buffer, 5 MiB a part, 256 KiB for small bodies.
    pub fn new(options: PartBufferOptions) -> Self {
        let count = u32::from(options.count.max(1));
        Self(Arc::new(Pool {
            part_bytes: (options.part_bytes as usize).max(5 << 20),
            count,
            parts: Arc::new(Semaphore::new(count as usize)),
            small: Arc::new(Semaphore::new((options.small_bytes as usize).max(SMALL))),
            idle: Mutex::default(),
        }))
    }

    /// The size of one buffer in bytes.
    pub(super) fn part_bytes(&self) -> u64 {
        self.0.part_bytes as u64
    }

    /// The size of all buffers in bytes: the largest part there can be.
    pub(super) fn largest_part(&self) -> u64 {
        self.part_bytes() * u64::from(self.0.count)
    }

    /// Waits for room for a body of at most `limit` bytes, or for its first [`SMALL`] bytes.
    pub(super) async fn small(&self, limit: u64) -> SmallBuffer {
        let reserve = u32::try_from(limit.min(SMALL as u64)).unwrap_or(0);
        let permit = Arc::clone(&self.0.small).acquire_many_owned(reserve).await.ok();
        SmallBuffer { bytes: Vec::new(), _permit: permit }
    }

    /// Waits for memory for a part of `bytes`, at most [`PartBuffers::largest_part`]. All of it is taken at
    /// once, as taking it piece by piece could leave two uploads waiting for each other.
    pub(super) async fn part(&self, bytes: u64) -> io::Result<PartBuffer> {
        let pool = &self.0;
        let size = usize::try_from(bytes).unwrap_or(usize::MAX).max(pool.part_bytes);
        let units = u32::try_from(size.div_ceil(pool.part_bytes)).unwrap_or(u32::MAX).min(pool.count);
        // The semaphore is never closed, so there is always a permit.
        let permit = Arc::clone(&pool.parts).acquire_many_owned(units).await.ok();
        let idle = if size == pool.part_bytes { pool.take_idle() } else { None };
        let memory = match idle {
            Some(memory) => memory,
            // Its own mapping, so that dropping it gives the memory back for certain: an allocator may keep it.
            None => MmapMut::map_anon(size)?,
        };
        Ok(PartBuffer { memory: Some(memory), filled: 0, pool: Arc::clone(pool), _permit: permit })
    }

    #[cfg(test)]
    pub(super) fn idle_buffers(&self) -> usize {
        self.0.idle().memory.len()
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<MmapMut> {
        let mut idle = self.idle();
        let memory = idle.memory.pop();
        idle.unneeded = idle.unneeded.min(idle.memory.len());
        memory
    }

    /// Takes a buffer back. Outside a runtime (at the very end of the process) it is freed at once.
    fn give_back(self: &Arc<Self>, memory: MmapMut) {
        if memory.len() != self.part_bytes {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut idle = self.idle();
        idle.memory.push(memory);
        if !idle.sweeping {
            idle.sweeping = true;
            idle.unneeded = 0;
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Frees what has not been needed for a while, until nothing is left to free.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        let needed = idle.memory.len().saturating_sub(idle.unneeded);
        let freed = idle.memory.split_off(needed);
        idle.unneeded = needed;
        idle.sweeping = needed > 0;
        let done = !idle.sweeping;
        drop(idle);
        drop(freed);
        if done {
            return;
        }
    }
}

/// The start of a body, with its reservation.
#[derive(Debug)]
pub(super) struct SmallBuffer {
    pub(super) bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for SmallBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part buffer on loan; dropping it (also as the owner of a `Bytes`) gives it back.
#[derive(Debug)]
pub(super) struct PartBuffer {
    /// Absent only while it is being dropped.
    memory: Option<MmapMut>,
    filled: usize,
    pool: Arc<Pool>,
    /// After the memory: who is let in by the permit finds the buffer idle.
    _permit: Option<OwnedSemaphorePermit>,
}

impl PartBuffer {
    /// Takes what fits of `bytes` within a part of `part_bytes`, and says how much that was.
    pub(super) fn take(&mut self, bytes: &[u8], part_bytes: u64) -> usize {
        let Some(memory) = &mut self.memory else { return 0 };
        let end = usize::try_from(part_bytes).unwrap_or(usize::MAX).min(memory.len());
        let taken = bytes.len().min(end - self.filled);
        memory[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }
}

impl AsRef<[u8]> for PartBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.filled])
    }
}

impl Drop for PartBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn buffers_are_reused_and_freed_when_idle() {
        let buffers = PartBuffers::new(PartBufferOptions { count: 2, ..PartBufferOptions::default() });
        let (one, two) = (buffers.part(0).await.unwrap(), buffers.part(0).await.unwrap());
        assert!(tokio::time::timeout(KEEP / 10, buffers.part(0)).await.is_err(), "a third one waits");
        drop((one, two));
        assert_eq!(buffers.idle_buffers(), 2);
        let mut again = buffers.part(0).await.unwrap();
        assert_eq!(buffers.idle_buffers(), 1);
        assert_eq!(again.take(b"abc", 2), 2);
        assert_eq!(again.as_ref(), b"ab");
        drop(again);
        tokio::time::sleep(KEEP * 3).await;
        assert_eq!(buffers.idle_buffers(), 0);
    }

    #[tokio::test]
    async fn a_large_part_takes_several_permits_and_never_more_than_there_are() {
        let buffers = PartBuffers::new(PartBufferOptions { count: 3, ..PartBufferOptions::default() });
        let large = buffers.part(buffers.part_bytes() * 3).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), buffers.part(0)).await.is_err());
        drop(large);
        assert!(buffers.part(0).await.is_ok());
        assert_eq!(buffers.idle_buffers(), 1, "a large buffer is not kept");
    }

    #[tokio::test]
    async fn small_bodies_reserve_no_more_than_they_may_need() {
        let buffers = PartBuffers::new(PartBufferOptions { small_bytes: 0, ..PartBufferOptions::default() });
        let held = buffers.small(1000).await;
        let _other = buffers.small(1000).await;
        assert!(tokio::time::timeout(Duration::from_millis(20), buffers.small(u64::MAX)).await.is_err());
        drop(held);
    }
}
