//! The bucket of a channel: made or taken, its settings kept, and the channel served once it is there.

use std::num::NonZeroU16;

use granary_core::{ChannelName, Format};
use granary_crds::ValidChannel;
use serde_json::{Value, json};

use super::{ApplyError, Fingerprint, audit, object_name};
use crate::channels::{ChannelState, channel_document};
use crate::objects::{BucketPlan, Encryption, Feature, Lacking};
use crate::revision::Scope;
use crate::{Param, Store};

/// What [`Store::apply_bucket`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedBucket {
    /// The bucket.
    pub bucket: String,
    /// Whether it was made just now.
    pub created: bool,
    /// Whether it had been there before and was gone: its files are lost.
    pub had_vanished: bool,
    /// Settings that were written because the resource asks for them for the first time.
    pub set: Vec<Feature>,
    /// Settings that somebody else had changed and that were set right again.
    pub repaired: Vec<Feature>,
    /// What the object store does not have, or refuses us.
    pub lacking: Vec<Lacking>,
    /// Whether the channel is served from now on, and was not before.
    pub activated: bool,
    /// What the rows are now.
    pub fingerprint: Fingerprint,
}

/// A channel whose bucket is to be looked at.
pub(super) struct BucketRow {
    pub(super) scope: Scope,
    pub(super) format: Format,
    pub(super) name: ChannelName,
    pub(super) bucket: String,
    pub(super) origin: &'static str,
    pub(super) object: Option<String>,
    pub(super) is_pending: bool,
    /// As they were last set up.
    pub(super) settings: Option<Value>,
}

impl Store {
    /// Makes or takes the bucket of a channel whose rows [`Store::apply_rows`] has written, sets what differs, and
    /// serves the channel if it waited for that. Doing it again changes nothing.
    pub async fn apply_bucket(&self, wanted: &ValidChannel) -> Result<AppliedBucket, ApplyError> {
        let (format, name) = (wanted.format, &wanted.name);
        let row = self
            .database()
            .query_opt(&self.sql().channel_bucket, &[&format.as_str(), &name.as_str()])
            .await?
            .ok_or_else(|| ApplyError::Overtaken(name.to_string()))?;
        let state = ChannelState::read(row.try_get(2)?)?;
        let object: Option<String> = row.try_get(5)?;
        let ours = row.try_get::<_, &str>(4)? == "resource" && object == Some(object_name(wanted));
        match state {
            ChannelState::Deleting => return Err(ApplyError::BeingDeleted(name.to_string())),
            ChannelState::Pending | ChannelState::Active if ours => {}
            _ => return Err(ApplyError::Overtaken(name.to_string())),
        }
        let row = BucketRow {
            scope: Scope(row.try_get(0)?),
            format,
            name: name.clone(),
            bucket: row.try_get(1)?,
            origin: "resource",
            object,
            is_pending: state == ChannelState::Pending,
            settings: row.try_get(3)?,
        };
        self.settle_bucket(row, &wanted.bucket).await
    }

    pub(super) async fn settle_bucket(
        &self,
        row: BucketRow,
        wanted: &granary_crds::BucketPlan,
    ) -> Result<AppliedBucket, ApplyError> {
        let plan = self.bucket_plan(&row, wanted).await?;
        let provisioned = self.objects().ensure_bucket(&plan).await?;
        let settings = settings_of(&plan);
        let was_set_up = row.settings.as_ref() == Some(&settings);
        if !was_set_up {
            self.database().execute(&self.sql().note_bucket, &[&row.scope.0, &row.bucket, &settings]).await?;
        }
        let activated = row.is_pending && self.activate(&row).await?;
        let fingerprint = self.fingerprint(row.scope).await?;
        let is_drift = was_set_up && !provisioned.created;
        let (set, repaired) =
            if is_drift { (Vec::new(), provisioned.changed) } else { (provisioned.changed, Vec::new()) };
        Ok(AppliedBucket {
            bucket: row.bucket,
            created: provisioned.created,
            had_vanished: provisioned.created && was_set_up,
            set,
            repaired,
            lacking: provisioned.lacking,
            activated,
            fingerprint: fingerprint.ok_or_else(|| ApplyError::Overtaken(row.name.to_string()))?,
        })
    }

    /// True if it was this call that did it.
    async fn activate(&self, row: &BucketRow) -> Result<bool, ApplyError> {
        let mut tx = self.begin().await?;
        let params: [Param<'_>; 4] = [&row.scope.0, &row.bucket, &row.origin, &row.object];
        let activated = tx.execute(&self.sql().activate, &params).await? > 0;
        if activated {
            tx.execute(&self.sql().insert_slots, &[&row.scope.0]).await?;
            tx.touch(Scope::REGISTRY, channel_document(row.format, row.name.as_str()));
            tx.audit(&audit("provisioner", "serve channel", row.format, &row.name)).await?;
            tx.commit().await?;
            return Ok(true);
        }
        tx.rollback().await?;
        let names: [Param<'_>; 2] = [&row.format.as_str(), &row.name.as_str()];
        let now = self.database().query_opt(&self.sql().channel_bucket, &names).await?;
        match now {
            // Another process, for the same channel.
            Some(now) if ChannelState::read(now.try_get(2)?)? == ChannelState::Active => Ok(false),
            _ => Err(ApplyError::Overtaken(row.name.to_string())),
        }
    }

    async fn bucket_plan(
        &self,
        row: &BucketRow,
        wanted: &granary_crds::BucketPlan,
    ) -> Result<BucketPlan, ApplyError> {
        Ok(BucketPlan {
            name: row.bucket.clone(),
            owner: self.owner(row.format, &row.name).await?,
            adopt: wanted.adopt,
            versioning: wanted.versioning,
            encryption: match &wanted.encryption {
                granary_crds::Encryption::StoreDefault => None,
                granary_crds::Encryption::Aes256 => Some(Encryption::StoreManaged),
                granary_crds::Encryption::Kms { key_id } => Some(Encryption::Kms { key_id: key_id.clone() }),
            },
            abort_incomplete_after_days: NonZeroU16::new(wanted.abort_incomplete_uploads_after_days)
                .unwrap_or(NonZeroU16::MIN),
        })
    }
}

/// What the row remembers of a plan.
fn settings_of(plan: &BucketPlan) -> Value {
    let (encryption, key) = match &plan.encryption {
        None => (None, None),
        Some(Encryption::StoreManaged) => (Some("AES256"), None),
        Some(Encryption::Kms { key_id }) => (Some("aws:kms"), key_id.as_deref()),
    };
    json!({
        "bucket": plan.name,
        "versioning": plan.versioning,
        "encryption": encryption,
        "kmsKeyId": key,
        "abortIncompleteAfterDays": plan.abort_incomplete_after_days,
    })
}
