//! The files of the cache, and the order in which they leave it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use granary_core::Sha256;
use tempfile::{NamedTempFile, TempPath};

use super::CacheError;

/// Files that are kept open.
const OPEN_FILES: u64 = 256;

/// The part of the cache on disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    capacity: u64,
    index: Mutex<Index>,
    open: moka::sync::Cache<Sha256, Arc<File>>,
    /// Holds the lock on the folder.
    _lock: File,
}

/// Which blobs are complete. The one that was used longest ago goes first.
#[derive(Debug)]
struct Index {
    entries: HashMap<Sha256, Entry>,
    order: BTreeMap<u64, Sha256>,
    /// Of complete files and of reservations.
    bytes: u64,
    next_use: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u64,
    used: u64,
}

/// Uses are numbered from here; files found at start get the numbers below, as they are older.
const FIRST_USE: u64 = 1 << 62;

impl Index {
    fn insert(&mut self, sha256: Sha256, size: u64, used: u64) {
        self.entries.insert(sha256, Entry { size, used });
        self.order.insert(used, sha256);
    }

    fn remove(&mut self, sha256: &Sha256) -> Option<Entry> {
        let entry = self.entries.remove(sha256)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.size;
        Some(entry)
    }

    fn used_now(&mut self) -> u64 {
        self.next_use += 1;
        self.next_use
    }

    /// Removes the oldest until `size` more bytes fit; those that have to go.
    fn make_room(&mut self, size: u64, capacity: u64) -> Vec<Sha256> {
        let mut evicted = Vec::new();
        while self.bytes + size > capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.remove(&oldest);
            evicted.push(oldest);
        }
        evicted
    }
}

impl Disk {
    pub(super) fn open(folder: &Path, capacity: u64) -> Result<Arc<Self>, CacheError> {
        let failed = |source| CacheError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => CacheError::InUse { folder: folder.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        let unfinished = folder.join("tmp");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir(&unfinished).map_err(failed)?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            capacity,
            index: Mutex::new(Index {
                entries: HashMap::new(),
                order: BTreeMap::new(),
                bytes: 0,
                next_use: FIRST_USE,
            }),
            open: moka::sync::Cache::new(OPEN_FILES),
            _lock: lock,
        }))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sha256: &Sha256) -> PathBuf {
        let name = sha256.to_hex();
        self.folder.join(&name[..2]).join(name)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many blobs there are, and bytes.
    pub(super) fn usage(&self) -> (u64, u64) {
        let index = self.index();
        (index.entries.len() as u64, index.bytes)
    }

    /// Takes in what an earlier process left. Blocks; what cannot be read is no part of the cache.
    pub(super) fn scan(&self) {
        let mut found: Vec<(SystemTime, Sha256, u64)> = Vec::new();
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for folder in folders.filter(|folder| folder.file_name().len() == 2) {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = file.file_name();
                let Some(sha256) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                let Ok(metadata) = file.metadata() else { continue };
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), sha256, metadata.len()));
            }
        }
        found.sort_unstable();
        let mut index = self.index();
        for (age, (_, sha256, size)) in found.into_iter().enumerate() {
            // Meanwhile it may have been filled anew.
            if !index.entries.contains_key(&sha256) {
                index.bytes += size;
                index.insert(sha256, size, age as u64);
            }
        }
        let evicted = index.make_room(0, self.capacity);
        drop(index);
        self.unlink(&evicted);
    }

    /// Opens a complete blob, which counts as a use. One of another length is not it.
    pub(super) async fn find(self: &Arc<Self>, sha256: &Sha256, size: u64) -> Option<Arc<File>> {
        {
            let mut index = self.index();
            let entry = *index.entries.get(sha256)?;
            if entry.size == size {
                let used = index.used_now();
                index.order.remove(&entry.used);
                index.insert(*sha256, size, used);
            } else {
                drop(index);
                self.forget(sha256);
                return None;
            }
        }
        if let Some(file) = self.open.get(sha256) {
            return Some(file);
        }
        let (disk, sha256) = (Arc::clone(self), *sha256);
        let opening = tokio::task::spawn_blocking(move || {
            let file = File::open(disk.path(&sha256)).ok()?;
            (file.metadata().ok()?.len() == size).then(|| Arc::new(file))
        });
        let file = opening.await.ok().flatten();
        match &file {
            Some(file) => self.open.insert(sha256, Arc::clone(file)),
            None => self.forget(&sha256),
        }
        file
    }

    pub(super) fn holds(&self, sha256: &Sha256) -> bool {
        self.index().entries.contains_key(sha256)
    }

    /// Drops a blob that is not what it should be.
    pub(super) fn forget(&self, sha256: &Sha256) {
        if self.index().remove(sha256).is_some() {
            self.unlink(&[*sha256]);
        }
    }

    /// Readers that have such a file open read it to its end.
    fn unlink(&self, evicted: &[Sha256]) {
        for sha256 in evicted {
            self.open.invalidate(sha256);
            fs::remove_file(self.path(sha256)).ok();
        }
    }

    /// Takes room for a blob and makes a file for it. Blocks. There is none when all room is taken by fills.
    pub(super) fn reserve(self: &Arc<Self>, size: u64) -> io::Result<Option<Reserved>> {
        let reserved = {
            let mut index = self.index();
            let evicted = index.make_room(size, self.capacity);
            let fits = index.bytes + size <= self.capacity;
            if fits {
                index.bytes += size;
            }
            drop(index);
            self.unlink(&evicted);
            fits.then(|| Reservation { disk: Arc::clone(self), size })
        };
        let Some(reservation) = reserved else { return Ok(None) };
        let (file, path) = NamedTempFile::new_in(self.folder.join("tmp"))?.into_parts();
        Ok(Some(Reserved { file: Arc::new(file), path, reservation }))
    }

    /// Makes a verified file part of the cache. Blocks. With `sync` its bytes are on the disk before its name is.
    pub(super) fn keep(&self, sha256: Sha256, reserved: Reserved, sync: bool) -> io::Result<()> {
        let Reserved { file, path: unfinished, reservation } = reserved;
        if sync {
            file.sync_data()?;
        }
        let path = self.path(&sha256);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        unfinished.persist(&path).map_err(|error| error.error)?;
        if reservation.size > super::SMALL {
            self.open.insert(sha256, file);
        }
        let mut index = self.index();
        // The scan may have found an older file of this name, which is replaced.
        index.remove(&sha256);
        let used = index.used_now();
        index.bytes += reservation.size;
        index.insert(sha256, reservation.size, used);
        drop(index);
        // Its room is now the entry's.
        drop(reservation);
        Ok(())
    }
}

/// A file for a blob that is on its way. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) file: Arc<File>,
    path: TempPath,
    reservation: Reservation,
}

#[derive(Debug)]
struct Reservation {
    disk: Arc<Disk>,
    size: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.disk.index().bytes -= self.size;
    }
}
