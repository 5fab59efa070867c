//! Trying out an object store: what `granary doctor` shows, a line each.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use granary_core::{Clock, Sha256};
use jiff::{SignedDuration, Timestamp};

use super::error::Answer;
use super::{ObjectError, ObjectStore};

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeStep {
    /// Reaching the bucket, or making one.
    Bucket,
    /// Writing an object.
    Write,
    /// Reading it, and a range of it, back.
    Read,
    /// Writing the same key again on condition that it is new, which has to be refused.
    ConditionalWrite,
    /// Deleting it.
    Delete,
    /// Removing a bucket that was made for the probe.
    RemoveBucket,
    /// How far the store's clock is from ours.
    Clock,
}

/// One thing that was tried, and what came of it.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What was tried.
    pub step: ProbeStep,
    /// What came of it.
    pub outcome: Result<(), ObjectError>,
    /// By how much the store's clock is ahead of ours: of [`ProbeStep::Clock`] only, and absent when the store
    /// sends no date. S3 refuses requests that are off by more than 15 minutes.
    pub skew: Option<SignedDuration>,
}

impl Probe {
    fn new(step: ProbeStep, outcome: Result<(), ObjectError>) -> Self {
        Self { step, outcome, skew: None }
    }
}

impl ObjectStore {
    /// Tries everything that a registry does with a bucket. With `make` the bucket is made for this and removed
    /// afterwards, so it has to be a name that nobody uses; without, it has to exist. What cannot be tried
    /// because an earlier step failed is left out.
    pub async fn probe(&self, bucket: &str, make: bool, clock: &dyn Clock) -> Vec<Probe> {
        let dates = DateHeader::default();
        let mut probes = Vec::new();
        let head = self.client().head_bucket().bucket(bucket).customize().interceptor(dates.clone());
        let mut reached = head.send().await.map(|_| ()).map_err(ObjectError::from);
        let now = clock.now();
        if make && reached.as_ref().is_err_and(ObjectError::is_not_found) {
            reached =
                self.client().create_bucket().bucket(bucket).send().await.map(|_| ()).map_err(Into::into);
        }
        let usable = reached.is_ok();
        probes.push(Probe::new(ProbeStep::Bucket, reached));
        if usable {
            self.probe_object(bucket, &mut probes).await;
            if make {
                let removed = self.client().delete_bucket().bucket(bucket).send().await;
                probes.push(Probe::new(ProbeStep::RemoveBucket, removed.map(|_| ()).map_err(Into::into)));
            }
        }
        let skew = dates.last().map(|theirs| theirs.duration_since(now));
        if skew.is_some() {
            probes.push(Probe { step: ProbeStep::Clock, outcome: Ok(()), skew });
        }
        probes
    }

    async fn probe_object(&self, bucket: &str, probes: &mut Vec<Probe>) {
        const CONTENT: &[u8] = b"written by granary doctor";
        let key = format!(".granary-doctor-{:032x}", rand::random::<u128>());
        let put = |conditional: bool| {
            let request = self.client().put_object().bucket(bucket).key(&key);
            request
                .set_if_none_match(conditional.then(|| "*".to_owned()))
                .body(ByteStream::from_static(CONTENT))
                .send()
        };
        let written = put(false).await.map(|_| ()).map_err(ObjectError::from);
        let is_written = written.is_ok();
        probes.push(Probe::new(ProbeStep::Write, written));
        if !is_written {
            return;
        }
        probes.push(Probe::new(ProbeStep::Read, self.probe_read(bucket, &key, CONTENT).await));
        let conditional = match put(true).await.map_err(ObjectError::from) {
            Err(ObjectError::PreconditionFailed(_)) => Ok(()),
            Err(error) => Err(error),
            // Accepted: the store ignores the condition.
            Ok(_) => Err(ObjectError::Unsupported(Answer { status: 200, code: None, message: None })),
        };
        probes.push(Probe::new(ProbeStep::ConditionalWrite, conditional));
        let deleted = self.client().delete_object().bucket(bucket).key(&key).send().await;
        probes.push(Probe::new(ProbeStep::Delete, deleted.map(|_| ()).map_err(Into::into)));
    }

    async fn probe_read(&self, bucket: &str, key: &str, content: &[u8]) -> Result<(), ObjectError> {
        self.verify(bucket, key, &Sha256::of(content), content.len() as u64).await?;
        // A store that ignores ranges is found out by the length.
        self.open(bucket, key, Some(3..5)).await.map(|_| ())
    }
}

/// Keeps the `Date` of the last answer, also of one that is an error.
#[derive(Debug, Clone, Default)]
struct DateHeader(Arc<Mutex<Option<Timestamp>>>);

impl DateHeader {
    fn last(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[dyn_dispatch_hint]
impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.timestamp());
        Ok(())
    }
}
