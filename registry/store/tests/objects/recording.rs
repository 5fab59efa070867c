//! An S3 service that has every setting of a bucket, in memory, and writes down each change it is asked for: for
//! what the embedded store lacks.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use granary_store::objects::ObjectStore;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::net::TcpListener;

use crate::support::{ACCESS_KEY, SECRET_KEY, connect};

#[derive(Default)]
struct State {
    exists: bool,
    marker: Option<Vec<u8>>,
    versioning: Option<BucketVersioningStatus>,
    encryption: Option<ServerSideEncryptionConfiguration>,
    rules: Option<Vec<LifecycleRule>>,
    block: Option<PublicAccessBlockConfiguration>,
    tags: Option<Vec<Tag>>,
    versions: Vec<(String, String)>,
    refuse_lifecycle: bool,
    failures: usize,
    writes: Vec<String>,
    without_checksum: Vec<String>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<State>>);

/// The service, and a client for it.
pub struct Recorder {
    service: Service,
    pub store: ObjectStore,
}

impl Recorder {
    pub async fn start() -> Self {
        let service = Service::default();
        let mut builder = S3ServiceBuilder::new(service.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let http = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let http = http.clone();
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), http)
                        .await
                        .ok();
                });
            }
        });
        Self { service, store: connect(address).await }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.service.0.lock().unwrap()
    }

    /// The changes since this was last asked.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().writes)
    }

    pub fn requests_without_checksum(&self) -> Vec<String> {
        self.state().without_checksum.clone()
    }

    /// Somebody changes settings by hand.
    pub fn drift(&self) {
        let mut state = self.state();
        state.versioning = Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED));
        state.rules = Some(vec![LifecycleRule {
            abort_incomplete_multipart_upload: None,
            expiration: Some(LifecycleExpiration { days: Some(30), ..LifecycleExpiration::default() }),
            filter: Some(LifecycleRuleFilter {
                prefix: Some("logs/".into()),
                ..LifecycleRuleFilter::default()
            }),
            id: Some("theirs".into()),
            noncurrent_version_expiration: None,
            noncurrent_version_transitions: None,
            prefix: None,
            status: ExpirationStatus::from_static(ExpirationStatus::ENABLED),
            transitions: None,
        }]);
        state.tags = Some(vec![Tag { key: Some("team".into()), value: Some("packaging".into()) }]);
    }

    pub fn drift_to_versioned(&self) {
        self.state().versioning = Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED));
    }

    pub fn lose_marker(&self) {
        self.state().marker = None;
    }

    pub fn refuse_lifecycle(&self) {
        self.state().refuse_lifecycle = true;
    }

    /// So many requests get a 503.
    pub fn fail_next(&self, requests: usize) {
        self.state().failures = requests;
    }

    pub fn set_versions(&self, versions: &[(&str, &str)]) {
        self.state().versions = versions.iter().map(|(key, id)| ((*key).into(), (*id).into())).collect();
    }
}

impl Service {
    /// The state, unless the service is to fail now.
    fn state(&self) -> S3Result<MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(s3_error!(SlowDown));
        }
        Ok(state)
    }

    fn write<T>(&self, request: &S3Request<T>, what: String) -> S3Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        if !request.headers.contains_key("content-md5")
            && request.method != "DELETE"
            && what != "CreateBucket"
        {
            state.without_checksum.push(what.clone());
        }
        state.writes.push(what);
        Ok(state)
    }
}

fn never_set(code: &'static str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::Custom(code.into()));
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}

#[expect(clippy::unnecessary_wraps, reason = "it is what every operation returns")]
fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn head_bucket(&self, _: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if self.state()?.exists { answer(HeadBucketOutput::default()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.write(&request, "CreateBucket".into())?.exists = true;
        answer(CreateBucketOutput::default())
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.write(&request, "DeleteBucket".into())?.exists = false;
        answer(DeleteBucketOutput::default())
    }

    async fn get_object(&self, _: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let Some(marker) = self.state()?.marker.clone() else { return Err(s3_error!(NoSuchKey)) };
        answer(GetObjectOutput {
            content_length: Some(i64::try_from(marker.len()).unwrap()),
            body: Some(Body::from(Bytes::from(marker)).into()),
            ..GetObjectOutput::default()
        })
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let condition = request.headers.get("if-none-match").map_or("", |value| value.to_str().unwrap());
        let what = format!("PutObject {} if-none-match {condition}", request.input.key);
        let body = request.input.body.take().unwrap();
        let bytes = http_body_util::BodyExt::collect(Body::from(body)).await.unwrap().to_bytes();
        self.write(&request, what)?.marker = Some(bytes.to_vec());
        answer(PutObjectOutput::default())
    }

    async fn list_objects_v2(
        &self,
        _: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        drop(self.state()?);
        answer(ListObjectsV2Output::default())
    }

    async fn list_multipart_uploads(
        &self,
        _: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        drop(self.state()?);
        answer(ListMultipartUploadsOutput::default())
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let prefix = request.input.prefix.unwrap_or_default();
        let state = self.state()?;
        let mut chosen = state.versions.iter().filter(|(key, _)| key.starts_with(&prefix)).cloned();
        // The first one is shown as a version, the others as delete markers.
        let versions = chosen.next().map(|(key, id)| ObjectVersion {
            key: Some(key),
            version_id: Some(id),
            ..ObjectVersion::default()
        });
        let markers = chosen.map(|(key, id)| DeleteMarkerEntry {
            key: Some(key),
            version_id: Some(id),
            ..DeleteMarkerEntry::default()
        });
        answer(ListObjectVersionsOutput {
            versions: Some(versions.into_iter().collect()),
            delete_markers: Some(markers.collect()),
            ..ListObjectVersionsOutput::default()
        })
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let objects = request.input.delete.objects.clone();
        let mut what = "DeleteObjects".to_owned();
        for object in &objects {
            write!(what, " {}@{}", object.key, object.version_id.as_deref().unwrap_or("-")).unwrap();
        }
        let mut state = self.write(&request, what)?;
        state.versions.retain(|(key, id)| {
            !objects.iter().any(|object| object.key == *key && object.version_id.as_ref() == Some(id))
        });
        answer(DeleteObjectsOutput::default())
    }

    async fn get_bucket_versioning(
        &self,
        _: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let status = self.state()?.versioning.clone();
        answer(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() })
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let status = request.input.versioning_configuration.status.clone().unwrap();
        let what = format!("PutBucketVersioning {}", status.as_str());
        self.write(&request, what)?.versioning = Some(status);
        answer(PutBucketVersioningOutput::default())
    }

    async fn get_bucket_encryption(
        &self,
        _: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        match self.state()?.encryption.clone() {
            None => Err(never_set("ServerSideEncryptionConfigurationNotFoundError")),
            configuration => {
                answer(GetBucketEncryptionOutput { server_side_encryption_configuration: configuration })
            }
        }
    }

    async fn put_bucket_encryption(
        &self,
        request: S3Request<PutBucketEncryptionInput>,
    ) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
        let configuration = request.input.server_side_encryption_configuration.clone();
        let default = configuration.rules[0].apply_server_side_encryption_by_default.clone().unwrap();
        let key = default.kms_master_key_id.map(|key| format!(" {key}")).unwrap_or_default();
        let what = format!("PutBucketEncryption {}{key}", default.sse_algorithm.as_str());
        self.write(&request, what)?.encryption = Some(configuration);
        answer(PutBucketEncryptionOutput::default())
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        _: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        match self.state()?.rules.clone() {
            None => Err(never_set("NoSuchLifecycleConfiguration")),
            rules => answer(GetBucketLifecycleConfigurationOutput {
                rules,
                ..GetBucketLifecycleConfigurationOutput::default()
            }),
        }
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        if self.state()?.refuse_lifecycle {
            return Err(s3_error!(MalformedXML, "no such action"));
        }
        let rules = request.input.lifecycle_configuration.clone().unwrap().rules;
        let told: Vec<_> = rules
            .iter()
            .map(|rule| {
                let prefix =
                    rule.filter.as_ref().and_then(|filter| filter.prefix.clone()).unwrap_or_default();
                let abort = rule.abort_incomplete_multipart_upload.as_ref();
                let days = abort.and_then(|abort| abort.days_after_initiation);
                let days = days.map_or("-".to_owned(), |days| days.to_string());
                format!("{} {prefix} {days}", rule.id.clone().unwrap())
            })
            .collect();
        self.write(&request, format!("PutBucketLifecycleConfiguration {}", told.join(", ")))?.rules =
            Some(rules);
        answer(PutBucketLifecycleConfigurationOutput::default())
    }

    async fn get_public_access_block(
        &self,
        _: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        match self.state()?.block.clone() {
            None => Err(never_set("NoSuchPublicAccessBlockConfiguration")),
            block => answer(GetPublicAccessBlockOutput { public_access_block_configuration: block }),
        }
    }

    async fn put_public_access_block(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
        let block = request.input.public_access_block_configuration.clone();
        let settings = [
            block.block_public_acls,
            block.ignore_public_acls,
            block.block_public_policy,
            block.restrict_public_buckets,
        ];
        let what = if settings == [Some(true); 4] { "all" } else { "some" };
        self.write(&request, format!("PutPublicAccessBlock {what}"))?.block = Some(block);
        answer(PutPublicAccessBlockOutput::default())
    }

    async fn get_bucket_tagging(
        &self,
        _: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        match self.state()?.tags.clone() {
            None => Err(never_set("NoSuchTagSet")),
            Some(tag_set) => answer(GetBucketTaggingOutput { tag_set }),
        }
    }

    async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        let tags = request.input.tagging.tag_set.clone();
        let told: Vec<_> = tags
            .iter()
            .map(|tag| format!("{}={}", tag.key.clone().unwrap(), tag.value.clone().unwrap()))
            .collect();
        self.write(&request, format!("PutBucketTagging {}", told.join(", ")))?.tags = Some(tags);
        answer(PutBucketTaggingOutput::default())
    }
}
