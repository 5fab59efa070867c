//! The operations of S3 that the store has: from requests to the store's own terms, and back.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
#[allow(clippy::wildcard_imports, reason = "two types an operation")]
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result};

use super::body::{Chunks, Sink, Target, blocking, receive};
use super::bucket::{Condition, OpenObject, RECORD_HINT};
use super::checks::{Algorithm, Checksums, Claims};
use super::index::{Entry, Query, just_after};
use super::multipart::{self, Beginning, WantedPart};
use super::names::url_encode;
use super::record::{Extent, Headers, Record};
use super::{Error, ObjectStore};

/// Objects whose whole file is no longer than this are read in one step.
const SMALL: usize = 64 << 10;
/// The most entries of a listing's page, and the number when none is asked for.
const PAGE: i32 = 1000;
/// S3's greatest number of a part.
const LAST_PART: i32 = 10_000;

#[async_trait::async_trait]
impl S3 for ObjectStore {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        if req.input.object_lock_enabled_for_bucket == Some(true) {
            return Err(Error::NotImplemented("objects cannot be locked here").into());
        }
        let (store, bucket) = (self.0.clone(), req.input.bucket);
        let location = Some(format!("/{bucket}"));
        blocking(move || store.create_bucket(&bucket)).await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let store = self.0.clone();
        blocking(move || store.delete_bucket(&req.input.bucket)).await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let prefix = req.input.prefix;
        let buckets = self
            .0
            .buckets()
            .into_iter()
            .filter(|(name, _)| prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix)))
            .map(|(name, bucket)| Bucket {
                name: Some(name),
                creation_date: Some(timestamp(bucket.created())),
                ..Bucket::default()
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            prefix,
            ..ListBucketsOutput::default()
        }))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.0.bucket(&req.input.bucket)?;
        // How S3 says that a bucket was never versioned.
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn get_bucket_tagging(
        &self,
        req: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let tags = self.0.bucket(&req.input.bucket)?.tags();
        if tags.is_empty() {
            return Err(Error::NoSuchTagSet.into());
        }
        let tag_set =
            tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
        Ok(S3Response::new(GetBucketTaggingOutput { tag_set }))
    }

    async fn put_bucket_tagging(
        &self,
        req: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        let bucket = self.0.bucket(&req.input.bucket)?;
        let tags = req.input.tagging.tag_set.into_iter();
        let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
        blocking(move || bucket.set_tags(tags)).await?;
        Ok(S3Response::new(PutBucketTaggingOutput::default()))
    }

    async fn delete_bucket_tagging(
        &self,
        req: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        let bucket = self.0.bucket(&req.input.bucket)?;
        blocking(move || bucket.set_tags(Vec::new())).await?;
        Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let S3Request { input, headers, trailing_headers, .. } = req;
        let encrypted = input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some();
        refuse_what_is_not_kept(encrypted, input.tagging.is_some(), None)?;
        if input.write_offset_bytes.is_some() {
            return Err(Error::NotImplemented("objects cannot be appended to").into());
        }
        let bucket = self.0.bucket(&input.bucket)?;
        let condition = condition(input.if_match, input.if_none_match)?;
        let claims = Claims::from_headers(&headers)?;
        let declared = declared_length(input.content_length, &headers)?;
        let kept = Headers {
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: input.content_encoding,
            content_language: input.content_language,
            content_type: input.content_type,
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        };

        let sink = Sink::new(Target::Object(bucket.stage()), claims.hashers());
        let (sink, last) = receive(input.body, declared, sink).await?;
        let trailers = trailing_headers.and_then(|trailers| trailers.take());
        let (key, modified) = (input.key, self.0.clock.now());
        let (e_tag, checksums) = blocking(move || {
            let (target, size, digests) = sink.finish(&last)?;
            claims.check(&digests, trailers.as_ref())?;
            let record = Record {
                key,
                size,
                e_tag: hex::encode(digests.md5),
                modified,
                headers: kept,
                checksums: digests.checksums,
                extents: vec![Extent { offset: 0, length: size }],
                upload_id: None,
            };
            if let Target::Object(mut staged) = target {
                staged.seal(&record)?;
                bucket.place(staged.path(), &record.key, &condition)?;
            }
            Ok((record.e_tag, record.checksums))
        })
        .await?;
        let output = PutObjectOutput { e_tag: Some(ETag::Strong(e_tag)), ..PutObjectOutput::default() };
        Ok(S3Response::with_headers(output, checksums.to_headers()))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        refuse_what_is_not_kept(input.sse_customer_algorithm.is_some(), false, input.version_id.as_deref())?;
        if input.part_number.is_some() {
            return Err(Error::NotImplemented("objects cannot be read by part numbers").into());
        }
        let bucket = self.0.bucket(&input.bucket)?;
        let key = input.key;
        let OpenObject { file, record, tail, tail_offset } =
            blocking(move || bucket.open_object(&key, SMALL)).await?;
        check_read(&record, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let bytes = match input.range {
            Some(range) => range.check(record.size).map_err(|_| Error::InvalidRange)?,
            None => 0..record.size,
        };
        let extents = record.extents_of(&bytes);
        let whole_file = Bytes::from(tail);
        let body: Body = match extents.as_slice() {
            [] => Bytes::new().into(),
            &[extent] if tail_offset == 0 => {
                whole_file.slice(index(extent.offset)?..index(extent.end())?).into()
            }
            _ => Body::from(s3s::stream::DynByteStream::from(StreamingBlob::new(Chunks::new(file, extents)))),
        };
        let verify = input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        let checksums =
            if verify && input.range.is_none() { record.checksums.to_headers() } else { HeaderMap::new() };
        let content_range =
            |_| format!("bytes {}-{}/{}", bytes.start, bytes.end.saturating_sub(1), record.size);
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body.into()),
            cache_control: record.headers.cache_control,
            content_disposition: record.headers.content_disposition,
            content_encoding: record.headers.content_encoding,
            content_language: record.headers.content_language,
            content_length: Some(signed(bytes.end - bytes.start)?),
            content_range: input.range.map(content_range),
            content_type: record.headers.content_type,
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified)),
            metadata: Some(record.headers.metadata.into_iter().collect()),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, checksums))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        refuse_what_is_not_kept(input.sse_customer_algorithm.is_some(), false, input.version_id.as_deref())?;
        let bucket = self.0.bucket(&input.bucket)?;
        let key = input.key;
        let record = blocking(move || bucket.open_object(&key, RECORD_HINT)).await?.record;
        check_read(&record, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let verify = input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        let checksums = if verify { record.checksums.to_headers() } else { HeaderMap::new() };
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: record.headers.cache_control,
            content_disposition: record.headers.content_disposition,
            content_encoding: record.headers.content_encoding,
            content_language: record.headers.content_language,
            content_length: Some(signed(record.size)?),
            content_type: record.headers.content_type,
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified)),
            metadata: Some(record.headers.metadata.into_iter().collect()),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, checksums))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        refuse_what_is_not_kept(false, false, input.version_id.as_deref())?;
        if input.if_match.is_some()
            || input.if_match_last_modified_time.is_some()
            || input.if_match_size.is_some()
        {
            return Err(Error::NotImplemented("objects cannot be deleted on a condition").into());
        }
        let bucket = self.0.bucket(&input.bucket)?;
        blocking(move || bucket.delete([input.key.as_str()])).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let Delete { objects, quiet } = req.input.delete;
        for object in &objects {
            refuse_what_is_not_kept(false, false, object.version_id.as_deref())?;
        }
        let bucket = self.0.bucket(&req.input.bucket)?;
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        let keys = blocking(move || bucket.delete(keys.iter().map(String::as_str)).map(|()| keys)).await?;
        let deleted =
            keys.into_iter().map(|key| DeletedObject { key: Some(key), ..DeletedObject::default() });
        let deleted = (quiet != Some(true)).then(|| deleted.collect());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let bucket = self.0.bucket(&input.bucket)?;
        let limit = page_size(input.max_keys)?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            from: match (&input.continuation_token, &input.start_after) {
                (Some(token), _) => read_token(token)?,
                (None, Some(key)) => just_after(key),
                (None, None) => String::new(),
            },
            limit,
        };
        let (entries, next, records) = blocking(move || {
            let page = bucket.list(&query)?;
            let records = bucket.records(&page.entries)?;
            Ok((page.entries, page.next.filter(|_| query.limit > 0), records))
        })
        .await?;
        let encoded =
            input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
        let spell = |key: String| if encoded { url_encode(&key) } else { key };
        let contents: ObjectList = records
            .into_iter()
            .map(|record| {
                Ok(Object {
                    key: Some(spell(record.key)),
                    size: Some(signed(record.size)?),
                    e_tag: Some(ETag::Strong(record.e_tag)),
                    last_modified: Some(timestamp(record.modified)),
                    storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                    ..Object::default()
                })
            })
            .collect::<Result<_, Error>>()?;
        let prefixes: CommonPrefixList = entries
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::CommonPrefix(prefix) => Some(CommonPrefix { prefix: Some(spell(prefix)) }),
                Entry::Key(_) => None,
            })
            .collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spell(input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(spell),
            start_after: input.start_after.map(spell),
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next.map(hex::encode),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let encrypted = input.server_side_encryption.is_some() || input.sse_customer_algorithm.is_some();
        refuse_what_is_not_kept(encrypted, input.tagging.is_some(), None)?;
        let bucket = self.0.bucket(&input.bucket)?;
        let beginning = Beginning {
            key: input.key.clone(),
            started: self.0.clock.now(),
            headers: Headers {
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                content_type: input.content_type,
                metadata: input.metadata.unwrap_or_default().into_iter().collect(),
            },
        };
        let upload = blocking(move || bucket.begin_upload(beginning)).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id.clone()),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let S3Request { input, headers, trailing_headers, .. } = req;
        refuse_what_is_not_kept(input.sse_customer_algorithm.is_some(), false, None)?;
        if !(1..=LAST_PART).contains(&input.part_number) {
            return Err(Error::InvalidArgument("a part's number is 1 to 10000").into());
        }
        let upload = self.0.bucket(&input.bucket)?.find_upload(&input.key, &input.upload_id)?;
        let claims = Claims::from_headers(&headers)?;
        let declared = declared_length(input.content_length, &headers)?.ok_or(Error::MissingContentLength)?;
        let part_file = upload.clone();
        let target = blocking(move || part_file.reserve(declared)).await?;
        let (sink, last) = receive(input.body, Some(declared), Sink::new(target, claims.hashers())).await?;
        let trailers = trailing_headers.and_then(|trailers| trailers.take());
        let modified = self.0.clock.now();
        let part = blocking(move || {
            let (target, size, digests) = sink.finish(&last)?;
            claims.check(&digests, trailers.as_ref())?;
            upload.keep(input.part_number, &target, size, digests, modified)
        })
        .await?;
        let output =
            UploadPartOutput { e_tag: Some(ETag::Strong(part.e_tag)), ..UploadPartOutput::default() };
        Ok(S3Response::with_headers(output, part.checksums.to_headers()))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let S3Request { input, headers, .. } = req;
        if !Checksums::from_headers(&headers).is_empty() {
            return Err(Error::NotImplemented("checksums of parts are compared, not one of all parts").into());
        }
        let bucket = self.0.bucket(&input.bucket)?;
        let condition = condition(input.if_match, input.if_none_match)?;
        let size = input.mpu_object_size.map(u64::try_from).transpose();
        let size = size.map_err(|_| Error::InvalidArgument("the size is negative"))?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let wanted: Vec<_> = parts.into_iter().map(wanted_part).collect();
        let now = self.0.clock.now();
        let (key, id) = (input.key.clone(), input.upload_id);
        let e_tag = blocking(move || match bucket.find_upload(&key, &id) {
            Ok(upload) => bucket.complete_upload(&upload, &wanted, size, &condition, now),
            Err(Error::NoSuchUpload) => bucket.completed_upload(&key, &id),
            Err(error) => Err(error),
        })
        .await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, url_encode(&input.key))),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(e_tag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let bucket = self.0.bucket(&req.input.bucket)?;
        let upload = bucket.find_upload(&req.input.key, &req.input.upload_id)?;
        blocking(move || bucket.abort_upload(&upload)).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(Error::NotImplemented("uploads cannot be listed with a delimiter").into());
        }
        let bucket = self.0.bucket(&input.bucket)?;
        let limit = page_size(input.max_uploads)?;
        let after = input.key_marker.as_ref().map(|key| (key.clone(), input.upload_id_marker.clone()));
        let mut found: Vec<_> = super::locked(&bucket.uploads)
            .values()
            .filter(|upload| {
                let key = upload.beginning.key.as_str();
                key.starts_with(input.prefix.as_deref().unwrap_or_default())
                    && match &after {
                        None => true,
                        Some((marker, None)) => key > marker.as_str(),
                        Some((marker, Some(id))) => {
                            (key, upload.id.as_str()) > (marker.as_str(), id.as_str())
                        }
                    }
            })
            .take(limit + 1)
            .cloned()
            .collect();
        let is_truncated = limit > 0 && found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| is_truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(is_truncated),
            next_key_marker: last.map(|upload| upload.beginning.key.clone()),
            next_upload_id_marker: last.map(|upload| upload.id.clone()),
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: i32::try_from(limit).ok(),
            prefix: input.prefix,
            uploads: Some(
                found
                    .iter()
                    .map(|upload| MultipartUpload {
                        key: Some(upload.beginning.key.clone()),
                        upload_id: Some(upload.id.clone()),
                        initiated: Some(timestamp(upload.beginning.started)),
                        ..MultipartUpload::default()
                    })
                    .collect(),
            ),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let upload = self.0.bucket(&input.bucket)?.find_upload(&input.key, &input.upload_id)?;
        let limit = page_size(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let mut parts: Vec<_> = upload.parts().into_iter().filter(|part| part.number > after).collect();
        let is_truncated = limit > 0 && parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().filter(|_| is_truncated).map(|part| part.number);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(is_truncated),
            next_part_number_marker: next,
            part_number_marker: input.part_number_marker,
            max_parts: i32::try_from(limit).ok(),
            parts: Some(parts.into_iter().map(listed_part).collect::<Result<_, Error>>()?),
            ..ListPartsOutput::default()
        }))
    }
}

/// What this store would have to ignore, it refuses.
fn refuse_what_is_not_kept(encrypted: bool, tagged: bool, version: Option<&str>) -> Result<(), Error> {
    if encrypted {
        return Err(Error::NotImplemented("objects are not encrypted here"));
    }
    if tagged {
        return Err(Error::NotImplemented("objects have no tags here"));
    }
    // "null" is S3's name of the only version in an unversioned bucket.
    if version.is_some_and(|version| version != "null") {
        return Err(Error::NotImplemented("objects have no versions here"));
    }
    Ok(())
}

fn condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> Result<Condition, Error> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present),
        (Some(ETagCondition::ETag(e_tag)), None) => Ok(Condition::Matches(e_tag.into_value())),
        _ => Err(Error::NotImplemented("a write knows If-Match, or If-None-Match: *")),
    }
}

fn check_read(
    record: &Record,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> Result<(), Error> {
    let meets =
        |condition: &ETagCondition| condition.as_etag().is_none_or(|e_tag| e_tag.value() == record.e_tag);
    if if_match.is_some_and(|condition| !meets(condition)) {
        return Err(Error::PreconditionFailed);
    }
    if if_none_match.is_some_and(meets) {
        return Err(Error::NotModified(record.e_tag.clone()));
    }
    Ok(())
}

/// The length of the object's own bytes, without what signed chunks add.
fn declared_length(content_length: Option<i64>, headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let decoded = || headers.get("x-amz-decoded-content-length")?.to_str().ok()?.parse().ok();
    match content_length {
        Some(length) => {
            Ok(Some(u64::try_from(length).map_err(|_| Error::InvalidArgument("the length is negative"))?))
        }
        None => Ok(decoded()),
    }
}

fn page_size(asked: Option<i32>) -> Result<usize, Error> {
    usize::try_from(asked.unwrap_or(PAGE).min(PAGE))
        .map_err(|_| Error::InvalidArgument("the limit is negative"))
}

fn read_token(token: &str) -> Result<String, Error> {
    let invalid = || Error::InvalidArgument("the continuation token is not one of this server");
    String::from_utf8(hex::decode(token).map_err(|_| invalid())?).map_err(|_| invalid())
}

fn wanted_part(part: CompletedPart) -> WantedPart {
    let checksums = Checksum {
        checksum_crc32: part.checksum_crc32,
        checksum_crc32c: part.checksum_crc32c,
        checksum_crc64nvme: part.checksum_crc64nvme,
        checksum_sha1: part.checksum_sha1,
        checksum_sha256: part.checksum_sha256,
        ..Checksum::default()
    };
    WantedPart {
        number: part.part_number.unwrap_or_default(),
        e_tag: part.e_tag.map(ETag::into_value),
        checksums: checksums.into(),
    }
}

fn listed_part(part: multipart::Part) -> Result<Part, Error> {
    Ok(Part {
        part_number: Some(part.number),
        size: Some(signed(part.extent.length)?),
        last_modified: Some(timestamp(part.modified)),
        checksum_crc32: part.checksums.get(Algorithm::Crc32),
        checksum_crc32c: part.checksums.get(Algorithm::Crc32c),
        checksum_crc64nvme: part.checksums.get(Algorithm::Crc64Nvme),
        checksum_sha1: part.checksums.get(Algorithm::Sha1),
        checksum_sha256: part.checksums.get(Algorithm::Sha256),
        e_tag: Some(ETag::Strong(part.e_tag)),
    })
}

fn timestamp(time: jiff::Timestamp) -> Timestamp {
    SystemTime::from(time).into()
}

fn signed(length: u64) -> Result<i64, Error> {
    i64::try_from(length).map_err(|_| Error::InvalidArgument("the object is too long"))
}

fn index(offset: u64) -> Result<usize, Error> {
    usize::try_from(offset).map_err(|_| Error::InvalidRange)
}
