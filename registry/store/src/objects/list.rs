//! What the collector needs: listing keys, deleting many, aborting uploads that nobody finishes.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::{self, Stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use granary_core::Md5;
use jiff::Timestamp;

use super::error::Answer;
use super::{BLOB_PREFIX, ObjectError, ObjectStore};

/// Keys that one `DeleteObjects` request may name.
const BATCH: usize = 1000;
/// Requests at once where objects have to be deleted one by one.
const SINGLE_DELETES: usize = 16;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: String,
    /// The length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; absent when the store does not say.
    pub last_modified: Option<Timestamp>,
}

/// An object that could not be deleted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("object `{key}` could not be deleted")]
pub struct DeleteFailure {
    /// Its key.
    pub key: String,
    /// Why.
    #[source]
    pub error: ObjectError,
}

/// A key, and which version of it.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) key: String,
    pub(super) id: Option<String>,
}

impl ObjectStore {
    /// All objects below `prefix`, in the order of their keys, a page at a time.
    pub fn list_keys(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> impl Stream<Item = Result<ListedObject, ObjectError>> + Send + Unpin + 'static {
        let request = self.client().list_objects_v2().bucket(bucket).prefix(prefix);
        let pages = stream::unfold(request.into_paginator().send(), |mut pages| async move {
            Some((pages.next().await?, pages))
        });
        let objects = pages.map(|page| {
            let objects = page.map_err(ObjectError::from)?.contents.unwrap_or_default();
            let listed = objects.into_iter().filter_map(|object| {
                Some(ListedObject {
                    key: object.key?,
                    size: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0),
                    last_modified: object.last_modified.and_then(timestamp),
                })
            });
            Ok::<_, ObjectError>(stream::iter(listed.map(Ok)))
        });
        objects.try_flatten().boxed()
    }

    /// Deletes objects, a thousand in a request where the store can do that. An absent object counts as
    /// deleted. What could not be deleted is returned; an error means that nothing more was tried.
    pub async fn delete_objects(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> Result<Vec<DeleteFailure>, ObjectError> {
        let versions: Vec<_> = keys.iter().map(|key| Version { key: key.clone(), id: None }).collect();
        self.delete_versions(bucket, &versions).await
    }

    pub(super) async fn delete_versions(
        &self,
        bucket: &str,
        versions: &[Version],
    ) -> Result<Vec<DeleteFailure>, ObjectError> {
        let mut failures = Vec::new();
        for batch in versions.chunks(BATCH) {
            match self.delete_batch(bucket, batch).await {
                Ok(failed) => failures.extend(failed),
                // No such operation, or it wants a checksum that we do not send: one by one then.
                Err(
                    ObjectError::Unsupported(_) | ObjectError::Refused(_) | ObjectError::ChecksumRefused(_),
                ) => {
                    failures.extend(self.delete_singly(bucket, batch).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(failures)
    }

    async fn delete_batch(&self, bucket: &str, batch: &[Version]) -> Result<Vec<DeleteFailure>, ObjectError> {
        let identifiers: Result<Vec<_>, _> = batch
            .iter()
            .map(|version| {
                ObjectIdentifier::builder().key(&version.key).set_version_id(version.id.clone()).build()
            })
            .collect();
        let delete = Delete::builder()
            .set_objects(Some(identifiers.map_err(ObjectError::invalid)?))
            .quiet(true)
            .build()
            .map_err(ObjectError::invalid)?;
        let request = self.client().delete_objects().bucket(bucket).delete(delete);
        let answer = request.customize().mutate_request(add_content_md5).send().await?;
        let failed = answer.errors.unwrap_or_default().into_iter().map(|error| DeleteFailure {
            key: error.key.unwrap_or_default(),
            // Within a batch each object has a code of its own, and no status.
            error: ObjectError::from_answer(Answer { status: 400, code: error.code, message: error.message }),
        });
        Ok(failed.filter(|failure| !is_absent(&failure.error)).collect())
    }

    async fn delete_singly(
        &self,
        bucket: &str,
        batch: &[Version],
    ) -> Result<Vec<DeleteFailure>, ObjectError> {
        let deletes = stream::iter(batch.to_vec()).map(|version| async move {
            let request = self.client().delete_object().bucket(bucket).key(&version.key);
            match request.set_version_id(version.id).send().await.map_err(ObjectError::from) {
                Ok(_) => Ok(None),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) if error.is_transient() => Err(error),
                Err(error) => Ok(Some(DeleteFailure { key: version.key, error })),
            }
        });
        let failed: Vec<_> = deletes.buffer_unordered(SINGLE_DELETES).try_collect().await?;
        Ok(failed.into_iter().flatten().collect())
    }

    /// Aborts the uploads of blobs that were begun before `older_than`, and says how many there were. What
    /// a store does itself by its lifecycle rules, where it can.
    pub async fn abort_stale_uploads(&self, bucket: &str, older_than: Timestamp) -> Result<u64, ObjectError> {
        self.abort_uploads(bucket, BLOB_PREFIX, Some(older_than)).await
    }

    pub(super) async fn abort_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        older_than: Option<Timestamp>,
    ) -> Result<u64, ObjectError> {
        let mut aborted = 0;
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self.client().list_multipart_uploads().bucket(bucket).prefix(prefix);
            let page = request.set_key_marker(key_marker).set_upload_id_marker(id_marker).send().await?;
            for upload in page.uploads.unwrap_or_default() {
                let begun = upload.initiated.and_then(timestamp);
                let (Some(key), Some(id)) = (upload.key, upload.upload_id) else { continue };
                if older_than.is_some_and(|limit| begun.is_none_or(|begun| begun >= limit)) {
                    continue;
                }
                let request = self.client().abort_multipart_upload().bucket(bucket).key(key);
                match request.upload_id(id).send().await.map_err(ObjectError::from) {
                    Ok(_) => aborted += 1,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(aborted);
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }
}

fn is_absent(error: &ObjectError) -> bool {
    let code = error.answer().and_then(|answer| answer.code.as_deref());
    error.is_not_found() || matches!(code, Some("NoSuchKey" | "NoSuchVersion"))
}

fn timestamp(time: aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// The older of the two checksums that S3 demands on requests that change a bucket: stores that do not know
/// the newer one, which the SDK sends, insist on it.
pub(super) fn add_content_md5(request: &mut HttpRequest) {
    if let Some(md5) = request.body().bytes().map(Md5::of) {
        request.headers_mut().insert("content-md5", BASE64.encode(md5.as_bytes()));
    }
}
