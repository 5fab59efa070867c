//! An S3 server over the files of a folder, for one process and one pair of keys.
//!
//! A write is answered when file and folder are on disk. Conditional writes are exact: of many that ask for an absent
//! key, one wins. Buckets are neither versioned nor encrypted, and the server says `NotImplemented` to whoever asks for
//! that, or for any other operation that is not in the list of this module's `impl S3`.
//!
//! ```text
//! DIR/lock       held by the process that serves the folder
//! DIR/buckets/   a folder for each bucket, see `bucket`
//! DIR/trash/     buckets being made or removed; emptied at start
//! ```
//!
//! The crate `s3s`, which parses and verifies the requests, logs every answer that is not a success as an error, a
//! mere "no such key" too: a log filter should have `s3s=off`. Faults of the store itself are logged by this module.

mod api;
mod body;
mod bucket;
mod checks;
mod error;
mod index;
mod multipart;
mod names;
mod record;
mod serve;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use granary_core::Clock;
use s3s::auth::SecretKey;
use uuid::Uuid;

use crate::folder_lock::FolderLock;

pub use error::Error;

use bucket::{Bucket, Folder, empty_folder, locked};
use error::Context;

/// The one pair of keys that the server knows.
#[derive(Clone)]
pub struct Credentials {
    access_key: String,
    secret_key: SecretKey,
}

impl Credentials {
    /// What clients sign their requests with.
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        Self { access_key: access_key.to_owned(), secret_key: secret_key.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A folder of buckets, which [`serve`](Self::serve) offers as an S3 server.
#[derive(Debug, Clone)]
pub struct ObjectStore(Arc<Store>);

#[derive(Debug)]
struct Store {
    folder: Folder,
    trash: PathBuf,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    /// Held while a bucket is made or removed.
    changing: Mutex<()>,
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    _lock: FolderLock,
}

impl ObjectStore {
    /// Opens the store in the folder `dir`, which is made if it is missing, and clears away what an earlier process left
    /// half done. Blocks.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::Io`] if a file operation fails.
    pub fn open(dir: &Path, credentials: Credentials, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let root = Folder::open(dir.to_owned())?;
        let lock = FolderLock::take(dir).context("lock", &dir.join(FolderLock::FILE))?;
        let lock = lock.ok_or_else(|| Error::InUse(dir.to_owned()))?;
        let trash = dir.join("trash");
        empty_folder(&trash)?;
        let folder = Folder::open(dir.join("buckets"))?;
        root.sync()?;
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&folder.path).context("list", &folder.path)? {
            let entry = entry.context("list", &folder.path)?;
            if let Some(name) = entry.file_name().to_str().filter(|name| s3s::path::check_bucket_name(name)) {
                buckets.insert(name.to_owned(), Arc::new(Bucket::open(entry.path())?));
            }
        }
        let buckets = Mutex::new(buckets);
        let store =
            Store { folder, trash, buckets, changing: Mutex::default(), credentials, clock, _lock: lock };
        Ok(Self(Arc::new(store)))
    }
}

impl Store {
    fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Error> {
        locked(&self.buckets).get(name).cloned().ok_or(Error::NoSuchBucket)
    }

    fn buckets(&self) -> Vec<(String, Arc<Bucket>)> {
        locked(&self.buckets).iter().map(|(name, bucket)| (name.clone(), Arc::clone(bucket))).collect()
    }

    /// Blocks, as does the next one.
    fn create_bucket(&self, name: &str) -> Result<(), Error> {
        if !s3s::path::check_bucket_name(name) {
            return Err(Error::InvalidBucketName);
        }
        let _changing = locked(&self.changing);
        if locked(&self.buckets).contains_key(name) {
            return Err(Error::BucketExists);
        }
        let fresh = self.trash.join(Uuid::new_v4().simple().to_string());
        Bucket::create(&fresh, self.clock.now())?;
        let path = self.folder.path.join(name);
        fs::rename(&fresh, &path).context("create", &path)?;
        self.folder.sync()?;
        let bucket = Arc::new(Bucket::open(path)?);
        locked(&self.buckets).insert(name.to_owned(), bucket);
        Ok(())
    }

    fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        let _changing = locked(&self.changing);
        let bucket = self.bucket(name)?;
        bucket.close()?;
        let gone = self.trash.join(Uuid::new_v4().simple().to_string());
        fs::rename(bucket.path(), &gone).context("remove", bucket.path())?;
        self.folder.sync()?;
        locked(&self.buckets).remove(name);
        fs::remove_dir_all(&gone).context("empty", &gone)
    }
}
