//! Making the bucket of a channel, or adopting one, and keeping it as it should be.
//!
//! Whose a bucket is stands in an object in it, written on condition that there is none: of two that want the
//! same bucket at the same moment one wins. A tag says the same to people and to tools.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::TryStreamExt as _;
use granary_core::Md5;
use serde::{Deserialize, Serialize};

use super::error::Answer;
use super::list::{DeleteFailure, Version};
use super::{OWNER_KEY, ObjectError, ObjectStore};

/// The bucket tag that names the owner.
pub(super) const OWNER_TAG: &str = "granary.dev/owner";

/// Who owns a bucket: one registry's one channel, by a name that no other has. Up to 256 letters, digits, spaces
/// and `+ - = . _ : / @`, which is what the value of a tag may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnerId(String);

/// A text that cannot be an [`OwnerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name an owner: 1 to 256 letters, digits, spaces and + - = . _ : / @")]
pub struct InvalidOwner(String);

impl OwnerId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OwnerId {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Self, InvalidOwner> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || " +-=._:/@".contains(c);
        if (1..=256).contains(&text.len()) && text.chars().all(allowed) && text.trim() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidOwner(text.to_owned()))
        }
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How objects are encrypted at rest unless a request says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys that the store keeps (`AES256`).
    StoreManaged,
    /// With a key of a key service.
    Kms {
        /// The id or ARN of the key; the store's own default key when absent.
        key_id: Option<String>,
    },
}

/// How the bucket of a channel should be.
#[derive(Debug, Clone)]
pub struct BucketPlan {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: OwnerId,
    /// Whether a bucket with foreign objects in it may be taken.
    pub adopt: bool,
    /// Whether old versions are kept; absent leaves it as it is.
    pub versioning: Option<bool>,
    /// The default encryption; absent leaves the store's own.
    pub encryption: Option<Encryption>,
    /// Days after which the store aborts an upload that nobody finished.
    pub abort_incomplete_after_days: NonZeroU16,
}

/// What a store may lack, in the order in which it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// Writing on condition that there is no object of this key.
    ConditionalPut,
    /// Refusing public access whatever a policy says.
    PublicAccessBlock,
    /// Old versions.
    Versioning,
    /// Default encryption.
    Encryption,
    /// Aborting abandoned uploads.
    Lifecycle,
    /// Tags.
    Tagging,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConditionalPut => "conditional writes",
            Self::PublicAccessBlock => "public access block",
            Self::Versioning => "versioning",
            Self::Encryption => "default encryption",
            Self::Lifecycle => "lifecycle rules for abandoned uploads",
            Self::Tagging => "bucket tags",
        })
    }
}

/// A feature that the store lacks or refuses us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Which.
    pub feature: Feature,
    /// What the store said.
    pub answer: Answer,
}

/// A bucket that is ours, and what came of its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// Whether it was made just now.
    pub created: bool,
    /// What had to be written: all of it the first time, and later what had drifted.
    pub changed: Vec<Feature>,
    /// What could not be set up.
    pub lacking: Vec<Lacking>,
}

/// What became of a bucket that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, with all that was in it.
    Removed,
    /// There was none.
    Absent,
    /// It names no owner, so it was not ours and stays.
    LeftInPlace,
}

/// Why a bucket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// It is the bucket of another registry or channel.
    #[error("bucket `{bucket}` belongs to `{owner}`")]
    OwnedByAnother {
        /// The bucket.
        bucket: String,
        /// Its owner.
        owner: String,
    },
    /// Another account of the store has a bucket of this name.
    #[error("the bucket name `{bucket}` is taken by another account of the object store")]
    NameTaken {
        /// The bucket.
        bucket: String,
    },
    /// There are objects in it, and nobody allowed to take it.
    #[error("bucket `{bucket}` holds objects of somebody else; `adopt: true` would take it over")]
    NotEmpty {
        /// The bucket.
        bucket: String,
    },
    /// Objects could not be deleted.
    #[error("{count} objects of bucket `{bucket}` could not be deleted")]
    Undeleted {
        /// The bucket.
        bucket: String,
        /// How many.
        count: usize,
        /// One of them.
        source: Box<DeleteFailure>,
    },
    /// The store failed or refused.
    #[error("bucket `{bucket}`")]
    Object {
        /// The bucket.
        bucket: String,
        /// Why.
        source: ObjectError,
    },
}

impl ProvisionError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Object { source, .. } => source.is_transient(),
            Self::Undeleted { source, .. } => source.error.is_transient(),
            Self::OwnedByAnother { .. } | Self::NameTaken { .. } | Self::NotEmpty { .. } => false,
        }
    }
}

/// The content of the object that names the owner.
#[derive(Serialize, Deserialize)]
struct OwnerMarker {
    owner: String,
}

impl ObjectStore {
    /// Makes or adopts the bucket of `plan` and sets what differs. Safe to repeat, and meant to be: settings
    /// drift.
    pub async fn ensure_bucket(&self, plan: &BucketPlan) -> Result<Provisioned, ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: plan.name.clone(), source };
        let created = self.make_bucket(plan).await?;
        let mut result = Provisioned { created, changed: Vec::new(), lacking: Vec::new() };
        match self.bucket_owner(&plan.name).await.map_err(failed)? {
            Some(owner) => expect_owner(plan, owner)?,
            None => self.claim(plan, &mut result).await?,
        }
        let settings = [
            (Feature::PublicAccessBlock, self.set_public_access_block(plan).await),
            (Feature::Versioning, self.set_versioning(plan).await),
            (Feature::Encryption, self.set_encryption(plan).await),
            (Feature::Lifecycle, self.set_lifecycle(plan).await),
            (Feature::Tagging, self.set_owner_tag(plan).await),
        ];
        for (feature, outcome) in settings {
            match outcome {
                Ok(true) => result.changed.push(feature),
                Ok(false) => {}
                Err(error) if error.is_transient() => return Err(failed(error)),
                Err(error) => match error.answer() {
                    Some(answer) => result.lacking.push(Lacking { feature, answer: answer.clone() }),
                    None => return Err(failed(error)),
                },
            }
        }
        Ok(result)
    }

    /// Makes the bucket unless it is there, and says whether it made it.
    async fn make_bucket(&self, plan: &BucketPlan) -> Result<bool, ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: plan.name.clone(), source };
        match self.client().head_bucket().bucket(&plan.name).send().await.map_err(ObjectError::from) {
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed(error)),
        }
        let region = self.location_constraint().map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let request = self.client().create_bucket().bucket(&plan.name);
        let Err(error) = request.set_create_bucket_configuration(region).send().await else {
            return Ok(true);
        };
        let error = ObjectError::from(error);
        match error.answer().and_then(|answer| answer.code.as_deref()) {
            // Somebody else made it in this moment; the marker will tell who.
            Some("BucketAlreadyOwnedByYou") => Ok(false),
            Some("BucketAlreadyExists") => Err(ProvisionError::NameTaken { bucket: plan.name.clone() }),
            _ => Err(failed(error)),
        }
    }

    /// Who owns a bucket, as its marker says; nobody where there is none.
    pub async fn bucket_owner(&self, bucket: &str) -> Result<Option<String>, ObjectError> {
        let answer = match self.open(bucket, OWNER_KEY, None).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let text: Vec<_> = answer.try_collect().await?;
        let text = text.concat();
        // Whatever else stands there was not written by this product, and nobody is taken for its author.
        Ok(Some(match serde_json::from_slice(&text) {
            Ok(OwnerMarker { owner }) => owner,
            Err(_) => format!("somebody unknown ({OWNER_KEY} cannot be read)"),
        }))
    }

    /// Writes the marker into a bucket that has none.
    async fn claim(&self, plan: &BucketPlan, result: &mut Provisioned) -> Result<(), ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: plan.name.clone(), source };
        if !result.created {
            self.check_unclaimed(plan).await?;
        }
        let marker = OwnerMarker { owner: plan.owner.to_string() };
        let marker = serde_json::to_vec(&marker).map_err(ObjectError::invalid).map_err(failed)?;
        match self.put_marker(&plan.name, &marker, true).await {
            Ok(()) => return Ok(()),
            // Another one was quicker, or it was our own first attempt whose answer got lost.
            Err(ObjectError::PreconditionFailed(_)) => {}
            Err(ObjectError::Unsupported(answer)) => {
                result.lacking.push(Lacking { feature: Feature::ConditionalPut, answer });
                self.put_marker(&plan.name, &marker, false).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        match self.bucket_owner(&plan.name).await.map_err(failed)? {
            Some(owner) => expect_owner(plan, owner),
            // Removed again already: the next attempt finds out by whom.
            None => Err(failed(ObjectError::unavailable(MarkerVanished))),
        }
    }

    /// Whether a bucket without a marker may be taken.
    async fn check_unclaimed(&self, plan: &BucketPlan) -> Result<(), ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: plan.name.clone(), source };
        match self.bucket_tags(&plan.name).await {
            Ok(tags) => {
                if let Some(tag) = tags.into_iter().find(|tag| tag.key == OWNER_TAG) {
                    expect_owner(plan, tag.value)?;
                }
            }
            // A store without tags, or one that does not show them to us.
            Err(error) if error.answer().is_some() => {}
            Err(error) => return Err(failed(error)),
        }
        if plan.adopt {
            return Ok(());
        }
        let first = self.list_keys(&plan.name, "").try_next().await.map_err(failed)?;
        match first {
            // Between listing and now the marker itself may have come: the conditional write will tell.
            Some(object) if object.key != OWNER_KEY => {
                Err(ProvisionError::NotEmpty { bucket: plan.name.clone() })
            }
            _ => Ok(()),
        }
    }

    async fn put_marker(&self, bucket: &str, marker: &[u8], conditional: bool) -> Result<(), ObjectError> {
        let request = self.client().put_object().bucket(bucket).key(OWNER_KEY);
        request
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .content_type("application/json")
            .content_md5(BASE64.encode(Md5::of(marker).as_bytes()))
            .body(ByteStream::from(marker.to_vec()))
            .send()
            .await?;
        Ok(())
    }

    /// Removes a bucket with everything in it, old versions included, if it belongs to `owner`. The marker goes
    /// last, so that a removal that was interrupted can be repeated.
    pub async fn remove_bucket(&self, bucket: &str, owner: &OwnerId) -> Result<Removal, ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: bucket.to_owned(), source };
        match self.client().head_bucket().bucket(bucket).send().await.map_err(ObjectError::from) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(Removal::Absent),
            Err(error) => return Err(failed(error)),
        }
        match self.bucket_owner(bucket).await.map_err(failed)? {
            Some(found) if found == owner.as_str() => {}
            Some(found) => {
                return Err(ProvisionError::OwnedByAnother { bucket: bucket.to_owned(), owner: found });
            }
            None if self.is_emptied(bucket, owner).await.map_err(failed)? => {}
            None => return Ok(Removal::LeftInPlace),
        }
        match self.abort_uploads(bucket, "", None).await {
            Ok(_) | Err(ObjectError::Unsupported(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        self.empty(bucket, false).await?;
        self.empty(bucket, true).await?;
        match self.client().delete_bucket().bucket(bucket).send().await.map_err(ObjectError::from) {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if error.is_not_found() => Ok(Removal::Removed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a removal got as far as the marker, and its process died before the bucket itself: nothing is left in it,
    /// and its tag still names the owner.
    async fn is_emptied(&self, bucket: &str, owner: &OwnerId) -> Result<bool, ObjectError> {
        let tags = match self.bucket_tags(bucket).await {
            Ok(tags) => tags,
            Err(ObjectError::Unsupported(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_ours = tags.iter().any(|tag| tag.key == OWNER_TAG && tag.value == owner.as_str());
        Ok(is_ours && self.list_keys(bucket, "").try_next().await?.is_none())
    }

    /// Deletes all objects but the marker, or the marker alone.
    async fn empty(&self, bucket: &str, marker: bool) -> Result<(), ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: bucket.to_owned(), source };
        let chosen = |key: &str| (key == OWNER_KEY) == marker;
        let prefix = if marker { OWNER_KEY } else { "" };
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self.client().list_object_versions().bucket(bucket).prefix(prefix);
            let request = request.set_key_marker(key_marker).set_version_id_marker(id_marker);
            let page = match request.send().await.map_err(ObjectError::from) {
                Ok(page) => page,
                Err(ObjectError::Unsupported(_)) => break,
                Err(error) => return Err(failed(error)),
            };
            let objects = page.versions.unwrap_or_default().into_iter().map(|v| (v.key, v.version_id));
            let markers = page.delete_markers.unwrap_or_default().into_iter().map(|d| (d.key, d.version_id));
            let versions: Vec<_> = objects
                .chain(markers)
                .filter_map(|(key, id)| Some(Version { key: key.filter(|key| chosen(key))?, id }))
                .collect();
            self.delete_all(bucket, &versions).await?;
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(());
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_version_id_marker);
        }
        // A store without versions.
        let mut keys = self.list_keys(bucket, prefix).try_ready_chunks(1000);
        while let Some(objects) = keys.try_next().await.map_err(|error| failed(error.1))? {
            let versions: Vec<_> = objects
                .into_iter()
                .filter(|object| chosen(&object.key))
                .map(|object| Version { key: object.key, id: None })
                .collect();
            self.delete_all(bucket, &versions).await?;
        }
        Ok(())
    }

    async fn delete_all(&self, bucket: &str, versions: &[Version]) -> Result<(), ProvisionError> {
        let failed = |source| ProvisionError::Object { bucket: bucket.to_owned(), source };
        let mut failures = self.delete_versions(bucket, versions).await.map_err(failed)?;
        let count = failures.len();
        match failures.pop() {
            None => Ok(()),
            Some(one) => {
                let bucket = bucket.to_owned();
                Err(ProvisionError::Undeleted { bucket, count, source: Box::new(one) })
            }
        }
    }
}

fn expect_owner(plan: &BucketPlan, owner: String) -> Result<(), ProvisionError> {
    if owner == plan.owner.as_str() {
        Ok(())
    } else {
        Err(ProvisionError::OwnedByAnother { bucket: plan.name.clone(), owner })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the object that names the owner vanished while the bucket was claimed")]
struct MarkerVanished;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_what_a_tag_can_hold() {
        assert!("granary/prod pypi/main".parse::<OwnerId>().is_ok());
        for bad in ["", " padded ", "new\nline", "ümlaut", &"x".repeat(257)] {
            assert!(bad.parse::<OwnerId>().is_err(), "{bad:?}");
        }
    }
}
