//! A bucket: a folder of objects, one file each ([`super::record`]), and what is on its way to become one.
//!
//! ```text
//! NAME/bucket.json   when it was made, and its tags
//! NAME/objects/      the objects, named by `super::names`
//! NAME/incoming/     files being received; emptied at start
//! NAME/uploads/      multipart uploads, see `super::multipart`
//! ```
//!
//! Everything here blocks, and every change is on disk when it returns.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::body::Staged;
use super::error::{Context, Error};
use super::index::{Entry, KeyIndex, Page, Query};
use super::multipart::Upload;
use super::names::{self, NamedKey};
use super::record::Record;

/// Enough of a file's end for the record of any object that is not a large multipart one.
pub(super) const RECORD_HINT: usize = 4 << 10;

/// A folder that can be synced.
#[derive(Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    handle: File,
}

impl Folder {
    /// Opens the folder, which is made if it is missing.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(&path).context("create", &path)?;
        let handle = File::open(&path).context("open", &path)?;
        Ok(Self { path, handle })
    }

    /// Makes the names that were added to or removed from this folder durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.handle.sync_all().context("sync", &self.path)
    }
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// There is no object of that key.
    Absent,
    /// There is one.
    Present,
    /// There is one with this entity tag.
    Matches(String),
}

/// An object opened for reading: what happens to its key from then on does not touch it.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub file: File,
    pub record: Record,
    /// The last bytes before the record, which were read with it.
    pub tail: Vec<u8>,
    /// Their offset in the file.
    pub tail_offset: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    created: Timestamp,
    #[serde(default)]
    tags: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    path: PathBuf,
    objects: Folder,
    pub(super) uploads_folder: Folder,
    pub(super) uploads: Mutex<BTreeMap<(String, String), Arc<Upload>>>,
    description: Mutex<Description>,
    /// Held while a key's file is compared and replaced, so that conditions are exact. A key has one of them.
    key_locks: [Mutex<()>; 64],
    /// Read from the folder at the first listing.
    index: Mutex<Option<KeyIndex>>,
    staged: AtomicU64,
}

impl Bucket {
    /// Makes the folder of a new bucket, which must not exist.
    pub fn create(path: &Path, created: Timestamp) -> Result<(), Error> {
        for folder in ["objects", "uploads"] {
            Folder::open(path.join(folder))?;
        }
        write_description(path, &Description { created, tags: Vec::new() })
    }

    /// Opens a bucket and clears away what an earlier process left half done.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let description_path = path.join("bucket.json");
        let description = fs::read(&description_path)
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .context("read", &description_path)?;
        empty_folder(&path.join("incoming"))?;
        let bucket = Self {
            objects: Folder::open(path.join("objects"))?,
            uploads_folder: Folder::open(path.join("uploads"))?,
            uploads: Mutex::default(),
            description: Mutex::new(description),
            key_locks: [const { Mutex::new(()) }; 64],
            index: Mutex::default(),
            staged: AtomicU64::default(),
            path,
        };
        bucket.reload_uploads()?;
        Ok(bucket)
    }

    /// A file to receive bytes into; it vanishes unless it is [placed](Self::place).
    pub fn stage(&self) -> Staged {
        Staged::new(self.path.join("incoming").join(self.staged.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// Moves a complete and synced file to where the object of that key is found.
    pub fn place(&self, complete: &Path, key: &str, condition: &Condition) -> Result<(), Error> {
        let target = self.objects.path.join(names::file_name(key));
        let held = locked(&self.key_locks[lock_number(key)]);
        if let Err(error) = self.check(condition, key, &target) {
            drop(held);
            // The client takes from this that the object is there to stay; its writer may not have synced it yet.
            self.objects.sync()?;
            return Err(error);
        }
        match fs::rename(complete, &target) {
            // The bucket was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::NoSuchBucket),
            result => result.context("move into place", &target)?,
        }
        if let Some(index) = locked(&self.index).as_mut() {
            index.insert(key);
        }
        drop(held);
        self.objects.sync()
    }

    fn check(&self, condition: &Condition, key: &str, target: &Path) -> Result<(), Error> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => !target.try_exists().context("look for", target)?,
            Condition::Present => {
                target.try_exists().context("look for", target)? || return Err(Error::NoSuchKey)
            }
            Condition::Matches(e_tag) => self.open_object(key, RECORD_HINT)?.record.e_tag == *e_tag,
        };
        if holds { Ok(()) } else { Err(Error::PreconditionFailed) }
    }

    /// Opens the object `key`, and reads the last `hint` bytes of its file, or what the record takes if that is more.
    pub fn open_object(&self, key: &str, hint: usize) -> Result<OpenObject, Error> {
        let path = self.objects.path.join(names::file_name(key));
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::NoSuchKey),
            result => result.context("open", &path)?,
        };
        let (record, tail_offset, tail) = Record::read(&file, hint).context("read", &path)?;
        Ok(OpenObject { file, record, tail, tail_offset })
    }

    /// Removes the objects of these keys; those that are not there are no mistake.
    pub fn delete<'key>(&self, keys: impl IntoIterator<Item = &'key str>) -> Result<(), Error> {
        for key in keys {
            let path = self.objects.path.join(names::file_name(key));
            let _held = locked(&self.key_locks[lock_number(key)]);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.context("remove", &path)?,
            }
            if let Some(index) = locked(&self.index).as_mut() {
                index.remove(key);
            }
        }
        self.objects.sync()
    }

    /// One page of the bucket's keys.
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        let mut index = locked(&self.index);
        let index = match index.as_mut() {
            Some(index) => index,
            None => index.insert(self.read_index()?),
        };
        Ok(index.page(query))
    }

    /// The records of those entries that are keys, and still there.
    pub fn records(&self, entries: &[Entry]) -> Result<Vec<Record>, Error> {
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Entry::Key(key) = entry {
                match self.open_object(key, RECORD_HINT) {
                    Ok(object) => records.push(object.record),
                    Err(Error::NoSuchKey) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(records)
    }

    fn read_index(&self) -> Result<KeyIndex, Error> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.objects.path).context("list", &self.objects.path)? {
            let entry = entry.context("list", &self.objects.path)?;
            match entry.file_name().to_str().and_then(names::key_of) {
                Some(NamedKey::Spelled(key)) => keys.push(key),
                Some(NamedKey::Hashed) => {
                    let path = entry.path();
                    match File::open(&path).and_then(|file| Record::read(&file, RECORD_HINT)) {
                        Ok((record, ..)) => keys.push(record.key),
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error).context("read", &path),
                    }
                }
                None => tracing::warn!(file = %entry.path().display(), "not an object's file, ignored"),
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Takes the folder of the objects away, so that none can come any more: fails if there are any.
    pub fn close(&self) -> Result<(), Error> {
        match fs::remove_dir(&self.objects.path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Err(Error::BucketNotEmpty),
            result => result.context("remove", &self.objects.path),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn created(&self) -> Timestamp {
        locked(&self.description).created
    }

    /// Keys and values.
    pub fn tags(&self) -> Vec<(String, String)> {
        locked(&self.description).tags.clone()
    }

    /// Replaces all tags.
    pub fn set_tags(&self, tags: Vec<(String, String)>) -> Result<(), Error> {
        let mut description = locked(&self.description);
        let changed = Description { tags, ..description.clone() };
        write_description(&self.path, &changed)?;
        *description = changed;
        Ok(())
    }
}

/// A poisoned lock is taken all the same: what it guards is either nothing or replaced as a whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_number(key: &str) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(hash % 64).unwrap_or_default()
}

fn write_description(bucket: &Path, description: &Description) -> Result<(), Error> {
    let path = bucket.join("bucket.json");
    let fresh = bucket.join("bucket.json.new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(description)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(bucket)?.sync_all()
    };
    write().context("write", &path)
}

/// Makes sure that the folder is there, with nothing in it.
pub(super) fn empty_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => result.context("empty", path)?,
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).context("create", path)
}
