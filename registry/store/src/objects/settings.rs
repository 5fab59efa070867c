//! The settings of a bucket: read, compared, and written only where they differ.
//!
//! Other vendors' stores lack one or the other. That is told and is no failure, as nothing rests on these
//! settings alone: ownership stands in an object too, and the collector aborts abandoned uploads itself.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus,
    LifecycleRule, LifecycleRuleFilter, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging,
    VersioningConfiguration,
};

use super::list::add_content_md5;
use super::provision::{BucketPlan, Encryption, OWNER_TAG};
use super::{BLOB_PREFIX, ObjectError, ObjectStore};

/// The name of our lifecycle rule.
const RULE_ID: &str = "granary-abandoned-uploads";

/// What an answer that means "never set" is turned into, so that absent and empty are the same.
fn unset<T>(answer: Result<T, ObjectError>) -> Result<Option<T>, ObjectError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ObjectError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each call answers whether it had to write.
impl ObjectStore {
    pub(super) async fn set_versioning(&self, plan: &BucketPlan) -> Result<bool, ObjectError> {
        let Some(versioning) = plan.versioning else { return Ok(false) };
        let current = self.client().get_bucket_versioning().bucket(&plan.name).send().await?.status;
        let wanted =
            if versioning { BucketVersioningStatus::Enabled } else { BucketVersioningStatus::Suspended };
        // A bucket that never had versions cannot be told from one where they are suspended by what it does.
        if current.as_ref() == Some(&wanted) || (current.is_none() && !versioning) {
            return Ok(false);
        }
        let configuration = VersioningConfiguration::builder().status(wanted).build();
        let request = self.client().put_bucket_versioning().bucket(&plan.name);
        let request = request.versioning_configuration(configuration).customize();
        request.mutate_request(add_content_md5).send().await?;
        Ok(true)
    }

    pub(super) async fn set_encryption(&self, plan: &BucketPlan) -> Result<bool, ObjectError> {
        let (algorithm, key) = match &plan.encryption {
            None => return Ok(false),
            Some(Encryption::StoreManaged) => (ServerSideEncryption::Aes256, None),
            Some(Encryption::Kms { key_id }) => (ServerSideEncryption::AwsKms, key_id.clone()),
        };
        let request = self.client().get_bucket_encryption().bucket(&plan.name);
        let current = unset(request.send().await.map_err(ObjectError::from))?
            .and_then(|answer| answer.server_side_encryption_configuration)
            .and_then(|configuration| configuration.rules.into_iter().next())
            .and_then(|rule| rule.apply_server_side_encryption_by_default);
        if current
            .is_some_and(|current| current.sse_algorithm == algorithm && current.kms_master_key_id == key)
        {
            return Ok(false);
        }
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(algorithm)
            .set_kms_master_key_id(key)
            .build()
            .map_err(ObjectError::invalid)?;
        let rule =
            ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(default).build();
        let configuration =
            ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(ObjectError::invalid)?;
        let request = self.client().put_bucket_encryption().bucket(&plan.name);
        let request = request.server_side_encryption_configuration(configuration).customize();
        request.mutate_request(add_content_md5).send().await?;
        Ok(true)
    }

    /// Adds our rule for abandoned uploads to the rules of the bucket, which stay.
    pub(super) async fn set_lifecycle(&self, plan: &BucketPlan) -> Result<bool, ObjectError> {
        let days = i32::from(plan.abort_incomplete_after_days.get());
        let ours = LifecycleRule::builder()
            .id(RULE_ID)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(BLOB_PREFIX).build())
            .abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build(),
            )
            .build()
            .map_err(ObjectError::invalid)?;
        let request = self.client().get_bucket_lifecycle_configuration().bucket(&plan.name);
        let mut rules = unset(request.send().await.map_err(ObjectError::from))?
            .and_then(|answer| answer.rules)
            .unwrap_or_default();
        match rules.iter_mut().find(|rule| rule.id.as_deref() == Some(RULE_ID)) {
            Some(rule) if is_same(rule, &ours) => return Ok(false),
            Some(rule) => *rule = ours,
            None => rules.push(ours),
        }
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(ObjectError::invalid)?;
        let request = self.client().put_bucket_lifecycle_configuration().bucket(&plan.name);
        let request = request.lifecycle_configuration(configuration).customize();
        request.mutate_request(add_content_md5).send().await?;
        Ok(true)
    }

    pub(super) async fn set_public_access_block(&self, plan: &BucketPlan) -> Result<bool, ObjectError> {
        let wanted = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let request = self.client().get_public_access_block().bucket(&plan.name);
        let current = unset(request.send().await.map_err(ObjectError::from))?
            .and_then(|answer| answer.public_access_block_configuration);
        if current.as_ref() == Some(&wanted) {
            return Ok(false);
        }
        let request = self.client().put_public_access_block().bucket(&plan.name);
        let request = request.public_access_block_configuration(wanted).customize();
        request.mutate_request(add_content_md5).send().await?;
        Ok(true)
    }

    /// The tags of a bucket; none where there never were any.
    pub(super) async fn bucket_tags(&self, bucket: &str) -> Result<Vec<Tag>, ObjectError> {
        let request = self.client().get_bucket_tagging().bucket(bucket);
        Ok(unset(request.send().await.map_err(ObjectError::from))?
            .map(|answer| answer.tag_set)
            .unwrap_or_default())
    }

    /// Adds the tag that names the owner to the tags of the bucket, which stay.
    pub(super) async fn set_owner_tag(&self, plan: &BucketPlan) -> Result<bool, ObjectError> {
        let ours =
            Tag::builder().key(OWNER_TAG).value(plan.owner.as_str()).build().map_err(ObjectError::invalid)?;
        let mut tags = self.bucket_tags(&plan.name).await?;
        match tags.iter_mut().find(|tag| tag.key == OWNER_TAG) {
            Some(tag) if *tag == ours => return Ok(false),
            Some(tag) => *tag = ours,
            None => tags.push(ours),
        }
        let tagging = Tagging::builder().set_tag_set(Some(tags)).build().map_err(ObjectError::invalid)?;
        let request = self.client().put_bucket_tagging().bucket(&plan.name).tagging(tagging).customize();
        request.mutate_request(add_content_md5).send().await?;
        Ok(true)
    }
}

/// Compares what we set: a store may add fields of its own to what it shows.
fn is_same(rule: &LifecycleRule, ours: &LifecycleRule) -> bool {
    let prefix = |rule: &LifecycleRule| rule.filter.as_ref().and_then(|filter| filter.prefix.clone());
    rule.status == ours.status
        && prefix(rule) == prefix(ours)
        && rule.abort_incomplete_multipart_upload == ours.abort_incomplete_multipart_upload
}
