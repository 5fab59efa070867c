//! Objects: the S3 side of the store.
//!
//! [`ObjectStore`] is the one client for all buckets. [`Uploads`] streams bodies into new objects in bounded
//! memory, [`ObjectStore::open`] streams them back, [`BlobCache`] keeps hot ones near, and the provisioning
//! calls ([`ObjectStore::ensure_bucket`] and its relatives) make and mend the bucket of a channel.
//!
//! Objects are immutable and their keys are never used twice, so nothing here overwrites anything.

mod cache;
mod client;
mod error;
mod list;
mod part_buffer;
mod probe;
mod provision;
mod read;
mod settings;
mod upload;

pub use cache::{BlobCache, BlobStream, CacheError, CacheOptions, CacheUsage};
pub use client::{ConnectError, Credentials, ObjectStore, ObjectStoreOptions, Proxy, Timeouts};
pub use error::{Answer, ObjectError};
pub use list::{DeleteFailure, ListedObject};
pub use part_buffer::{PartBufferOptions, PartBuffers};
pub use probe::{Probe, ProbeStep};
pub use provision::{
    BucketPlan, Encryption, Feature, InvalidOwner, Lacking, OwnerId, ProvisionError, Provisioned, Removal,
};
pub use read::{ObjectStream, verified};
pub(crate) use upload::is_blob_key;
pub use upload::{StoredObject, Upload, UploadError, Uploads};

/// Where the blobs of a channel stand in its bucket. Everything else in the bucket is ours but no blob.
pub const BLOB_PREFIX: &str = "blobs/";

/// The object that says whose bucket it is.
pub const OWNER_KEY: &str = ".granary-owner";
