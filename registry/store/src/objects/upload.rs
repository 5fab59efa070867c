//! Streaming a body of any size into a new object, in bounded memory and hashed as it passes.
//!
//! A body that fits one part buffer (8 MiB) is one `PutObject`; a longer one is a multipart upload, of which
//! one part is under way while the next one fills. Every request carries a Content-MD5, so the store
//! acknowledges what was sent or nothing.

use std::io;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use granary_core::{Clock, Digests, Hasher, Md5};
use jiff::Timestamp;
use md5::Digest as _;
use tokio::task::JoinHandle;

use super::part_buffer::{PartBuffer, PartBuffers, SMALL, SmallBuffer};
use super::{BLOB_PREFIX, ObjectError, ObjectStore};

/// Parts that a multipart upload may have.
const MAX_PARTS: u64 = 10_000;
/// Part sizes are multiples of this.
const MIB: u64 = 1 << 20;

/// Why a body could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The body is longer than its limit.
    #[error("the body is longer than the {limit} bytes that are allowed")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The object store failed or refused.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// There is no memory for a part buffer.
    #[error("no memory for a part of an upload")]
    Memory(#[source] io::Error),
    /// An earlier call was cancelled or failed, so that bytes may be missing.
    #[error("the upload was interrupted before")]
    Interrupted,
}

/// An object that the store has acknowledged. It is nobody's until a row names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The bucket.
    pub bucket: String,
    /// The key, never used before and never again.
    pub key: String,
    /// Digests and length of the bytes.
    pub digests: Digests,
    /// When the upload began.
    pub began: Timestamp,
}

/// Where uploads begin: cheap to clone.
#[derive(Debug, Clone)]
pub struct Uploads {
    store: ObjectStore,
    buffers: PartBuffers,
    clock: Arc<dyn Clock>,
}

impl Uploads {
    /// Uploads to `store` that share `buffers`.
    pub fn new(store: ObjectStore, buffers: PartBuffers, clock: Arc<dyn Clock>) -> Self {
        Self { store, buffers, clock }
    }

    /// Begins an upload of at most `limit` bytes: the channel's limit, or the declared length where the client
    /// gave one (which reserves less memory). Waits while too many small uploads are under way. The limit is
    /// lowered to 10,000 parts of all buffers together, should it be above that.
    pub async fn begin(&self, bucket: &str, limit: u64) -> Upload {
        let began = self.clock.now();
        let limit = limit.min(self.buffers.largest_part().saturating_mul(MAX_PARTS));
        Upload {
            target: Arc::new(Target {
                store: self.store.clone(),
                bucket: bucket.to_owned(),
                key: blob_key(began, rand::random()),
            }),
            buffers: self.buffers.clone(),
            limit,
            part_bytes: part_bytes(limit, self.buffers.part_bytes()),
            began,
            hasher: Hasher::new(),
            part_hasher: md5::Md5::new(),
            stage: Stage::Small(self.buffers.small(limit).await),
            multipart: None,
            interrupted: false,
        }
    }
}

/// The key of a blob: a `UUIDv7` of `began` and `random`, so that keys sort by time within a folder, in one of
/// 256 folders, so that a store that splits its index by prefix can spread the load.
fn blob_key(began: Timestamp, random: [u8; 10]) -> String {
    let millis = u64::try_from(began.as_millisecond()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    format!("{BLOB_PREFIX}{:02x}/{}", random[9], id.simple())
}

/// Whether a key is one of ours: an adopted bucket may hold objects of others beside them.
pub(crate) fn is_blob_key(key: &str) -> bool {
    let parts = key.strip_prefix(BLOB_PREFIX).and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(folder, id)| {
        folder.len() == 2 && id.len() == 32 && id.ends_with(folder) && uuid::Uuid::try_parse(id).is_ok()
    })
}

/// The size of the parts of an upload of at most `limit` bytes: one buffer, unless that makes too many parts.
/// All parts but the last are of one size, as some stores want it.
fn part_bytes(limit: u64, buffer: u64) -> u64 {
    buffer.max(limit.div_ceil(MAX_PARTS).next_multiple_of(MIB))
}

#[derive(Debug)]
struct Target {
    store: ObjectStore,
    bucket: String,
    key: String,
}

#[derive(Debug)]
enum Stage {
    Small(SmallBuffer),
    Part(PartBuffer),
    /// Between two parts.
    Empty,
}

#[derive(Debug)]
struct Multipart {
    id: String,
    parts: Vec<CompletedPart>,
    under_way: Option<JoinHandle<Result<CompletedPart, ObjectError>>>,
}

/// A body on its way into the store.
///
/// Dropped before [`Upload::finish`] has returned, it leaves nothing: a multipart upload is aborted in
/// the background (and by the collector, should that fail). A call that was cancelled spoils the upload:
/// later calls answer [`UploadError::Interrupted`].
#[derive(Debug)]
pub struct Upload {
    target: Arc<Target>,
    buffers: PartBuffers,
    limit: u64,
    part_bytes: u64,
    began: Timestamp,
    hasher: Hasher,
    /// Of the part that fills; idle during the first one, of which `hasher` knows the digest.
    part_hasher: md5::Md5,
    stage: Stage,
    multipart: Option<Multipart>,
    interrupted: bool,
}

impl Upload {
    /// How many bytes have been written.
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// The digests of the bytes so far: what can be compared before the object is made.
    pub fn digests(&self) -> Digests {
        self.hasher.clone().finish()
    }

    /// Takes the next bytes; waits for a buffer or for the store when there is no room.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        if std::mem::replace(&mut self.interrupted, true) {
            return Err(UploadError::Interrupted);
        }
        self.append(bytes).await?;
        self.interrupted = false;
        Ok(())
    }

    async fn append(&mut self, mut bytes: &[u8]) -> Result<(), UploadError> {
        if self.size() + bytes.len() as u64 > self.limit {
            return Err(UploadError::TooLarge { limit: self.limit });
        }
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Small(small) if small.bytes.len() + bytes.len() <= SMALL => {
                    small.bytes.extend_from_slice(bytes);
                    self.hasher.update(bytes);
                    return Ok(());
                }
                Stage::Small(small) => {
                    let mut part = self.buffers.part(self.part_bytes).await.map_err(UploadError::Memory)?;
                    part.take(&small.bytes, self.part_bytes);
                    self.stage = Stage::Part(part);
                }
                Stage::Part(part) if (part.len() as u64) < self.part_bytes => {
                    let taken = part.take(bytes, self.part_bytes);
                    let (now, later) = bytes.split_at(taken);
                    self.hasher.update(now);
                    if self.multipart.is_some() {
                        self.part_hasher.update(now);
                    }
                    bytes = later;
                }
                // Sent only now that more follows, so that what fits one part is one object PUT.
                Stage::Part(_) => self.send_part().await?,
                Stage::Empty => {
                    let part = self.buffers.part(self.part_bytes).await.map_err(UploadError::Memory)?;
                    self.stage = Stage::Part(part);
                }
            }
        }
        Ok(())
    }

    /// Sends what has filled as a part, once the part before it has arrived.
    async fn send_part(&mut self) -> Result<(), UploadError> {
        let Stage::Part(part) = std::mem::replace(&mut self.stage, Stage::Empty) else { return Ok(()) };
        let digest = if self.multipart.is_some() {
            Md5::from_bytes(self.part_hasher.finalize_reset().into())
        } else {
            self.hasher.clone().finish().md5
        };
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            None => self.multipart.insert(Multipart {
                id: self.target.create_multipart().await?,
                parts: Vec::new(),
                under_way: None,
            }),
        };
        multipart.join().await?;
        let number = i32::try_from(multipart.parts.len() + 1).unwrap_or(i32::MAX);
        let (target, id) = (Arc::clone(&self.target), multipart.id.clone());
        let body = Bytes::from_owner(part);
        multipart.under_way =
            Some(tokio::spawn(async move { target.upload_part(&id, number, body, digest).await }));
        Ok(())
    }

    /// Ends the body. When this returns, the store has acknowledged all of it.
    pub async fn finish(mut self) -> Result<StoredObject, UploadError> {
        if self.interrupted {
            return Err(UploadError::Interrupted);
        }
        let digests = self.hasher.clone().finish();
        if self.multipart.is_some() {
            self.send_part().await?;
            if let Some(multipart) = &mut self.multipart {
                multipart.join().await?;
                let parts = std::mem::take(&mut multipart.parts);
                self.target.complete(&multipart.id, parts, digests.size).await?;
            }
            // Complete: nothing is left to abort.
            self.multipart = None;
        } else {
            let body = match std::mem::replace(&mut self.stage, Stage::Empty) {
                Stage::Small(small) => Bytes::from_owner(small),
                Stage::Part(part) => Bytes::from_owner(part),
                Stage::Empty => Bytes::new(),
            };
            self.target.put(body, &digests).await?;
        }
        Ok(StoredObject {
            bucket: self.target.bucket.clone(),
            key: self.target.key.clone(),
            digests,
            began: self.began,
        })
    }

    /// Gives the upload up, and returns when the store has forgotten it.
    pub async fn abort(mut self) -> Result<(), ObjectError> {
        match self.multipart.take() {
            Some(multipart) => self.target.abort(multipart).await,
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(multipart) = self.multipart.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let target = Arc::clone(&self.target);
        runtime.spawn(async move {
            if let Err(error) = target.abort(multipart).await {
                tracing::warn!(
                    bucket = target.bucket,
                    key = target.key,
                    error = &error as &dyn std::error::Error,
                    "an abandoned upload is left to the collector"
                );
            }
        });
    }
}

impl Multipart {
    /// Waits for the part that is under way. Cancelled, it can be called again.
    async fn join(&mut self) -> Result<(), ObjectError> {
        if let Some(task) = &mut self.under_way {
            let part = task.await.map_err(ObjectError::unavailable)?;
            self.under_way = None;
            self.parts.push(part?);
        }
        Ok(())
    }
}

impl Target {
    async fn put(&self, body: Bytes, digests: &Digests) -> Result<(), ObjectError> {
        let conditional = self.store.has_conditional_put();
        let mut answer = self.put_once(body.clone(), &digests.md5, conditional).await;
        if conditional && matches!(answer, Err(ObjectError::Unsupported(_))) {
            self.store.forget_conditional_put();
            answer = self.put_once(body, &digests.md5, false).await;
        }
        match answer {
            // The key is ours alone, so it was our own first attempt whose answer got lost.
            Err(ObjectError::PreconditionFailed(_)) => {
                self.store.verify(&self.bucket, &self.key, &digests.sha256, digests.size).await
            }
            other => other,
        }
    }

    async fn put_once(&self, body: Bytes, md5: &Md5, conditional: bool) -> Result<(), ObjectError> {
        let request = self.store.client().put_object().bucket(&self.bucket).key(&self.key);
        request
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .content_md5(BASE64.encode(md5.as_bytes()))
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(body))
            .customize()
            .disable_payload_signing()
            .send()
            .await?;
        Ok(())
    }

    async fn create_multipart(&self) -> Result<String, ObjectError> {
        let request = self.store.client().create_multipart_upload().bucket(&self.bucket).key(&self.key);
        let created = request.send().await?;
        created.upload_id.ok_or_else(|| ObjectError::invalid(Nameless))
    }

    async fn upload_part(
        &self,
        id: &str,
        number: i32,
        body: Bytes,
        md5: Md5,
    ) -> Result<CompletedPart, ObjectError> {
        let request = self.store.client().upload_part().bucket(&self.bucket).key(&self.key);
        let sent = request
            .upload_id(id)
            .part_number(number)
            .content_md5(BASE64.encode(md5.as_bytes()))
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(body))
            .customize()
            .disable_payload_signing()
            .send()
            .await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
    }

    /// Makes an object of the parts, and compares its length. Its bytes were compared part by part.
    async fn complete(&self, id: &str, parts: Vec<CompletedPart>, size: u64) -> Result<(), ObjectError> {
        let request = self.store.client().complete_multipart_upload().bucket(&self.bucket).key(&self.key);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        match request.upload_id(id).multipart_upload(parts).send().await.map_err(ObjectError::from) {
            // An absent upload may be one that our own first attempt completed, whose answer got lost.
            Ok(_) | Err(ObjectError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let actual = self.store.size(&self.bucket, &self.key).await?;
        if actual != size {
            return Err(ObjectError::WrongLength { expected: size, actual });
        }
        Ok(())
    }

    async fn abort(&self, mut multipart: Multipart) -> Result<(), ObjectError> {
        // A part that arrives after the abort would be kept, so it ends first.
        if let Some(task) = multipart.under_way.take() {
            task.abort();
            task.await.ok();
        }
        let request = self.store.client().abort_multipart_upload().bucket(&self.bucket).key(&self.key);
        match request.upload_id(multipart.id).send().await.map_err(ObjectError::from) {
            Ok(_) | Err(ObjectError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the object store began a multipart upload without naming it")]
struct Nameless;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_hold_the_time_and_are_spread_over_folders() {
        let began = "2026-01-02T03:04:05Z".parse().unwrap();
        let key = blob_key(began, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xab]);
        assert_eq!(key, "blobs/ab/019b7ca98c88710283040506070809ab");
        assert_ne!(key, blob_key(began, [0; 10]));
        assert!(is_blob_key(&key));
        for other in
            ["blobs/ab/report.pdf", "blobs/report", "ab/019b7ca98c88710283040506070809ab", "blobs/ab/cd/ef"]
        {
            assert!(!is_blob_key(other), "{other}");
        }
    }

    #[test]
    fn parts_grow_only_where_ten_thousand_would_not_do() {
        let buffer = 8 * MIB;
        assert_eq!(part_bytes(0, buffer), buffer);
        assert_eq!(part_bytes(buffer * MAX_PARTS, buffer), buffer);
        assert_eq!(part_bytes(buffer * MAX_PARTS + 1, buffer), 9 * MIB);
        let limit = 500 * 1024 * MIB;
        assert!(limit.div_ceil(part_bytes(limit, buffer)) <= MAX_PARTS);
    }
}
