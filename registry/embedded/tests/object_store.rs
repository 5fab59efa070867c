//! The object store, driven by the client that the registry uses, over a real connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier, Tag,
    Tagging,
};
use granary_core::SystemClock;
use granary_embedded::object_store::{self, ObjectStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

struct Server {
    folder: Arc<tempfile::TempDir>,
    address: String,
    client: Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let server = Self::open(Arc::new(tempfile::tempdir().unwrap())).await;
        server.client.create_bucket().bucket("bucket").send().await.unwrap();
        server
    }

    async fn open(folder: Arc<tempfile::TempDir>) -> Self {
        let store = open(folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { store.serve(listener, stop).await });
        let client = client(&address, "secret");
        Self { folder, address, client, shutdown, serving }
    }

    async fn stop(self) -> Arc<tempfile::TempDir> {
        self.shutdown.cancel();
        drop(self.client);
        self.serving.await.unwrap();
        self.folder
    }

    async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let body = ByteStream::from(bytes.into());
        self.client.put_object().bucket("bucket").key(key).body(body).send().await.unwrap();
    }

    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.client.get_object().bucket("bucket").key(key).send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                assert_eq!(code(error), "NoSuchKey");
                None
            }
        }
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut pages = self.client.list_objects_v2().bucket("bucket").prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
        }
        keys
    }

    /// The files in a folder of the bucket.
    fn files(&self, below: &str) -> Vec<PathBuf> {
        let folder = self.folder.path().join("buckets/bucket").join(below);
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn open(folder: &Path) -> Result<ObjectStore, object_store::Error> {
    ObjectStore::open(folder, object_store::Credentials::new("access", "secret"), Arc::new(SystemClock))
}

fn client(address: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new("access", secret, None, None, "test"))
        .region(Region::new("local"))
        .endpoint_url(format!("http://{address}"))
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

fn code<E: ProvideErrorMetadata, R>(error: SdkError<E, R>) -> String {
    let error = error.into_service_error_or_panic();
    error.code().unwrap_or_default().to_owned()
}

trait ServiceError<E> {
    fn into_service_error_or_panic(self) -> E;
}

impl<E, R> ServiceError<E> for SdkError<E, R> {
    fn into_service_error_or_panic(self) -> E {
        match self {
            SdkError::ServiceError(context) => context.into_err(),
            SdkError::TimeoutError(_) => panic!("timed out"),
            _ => panic!("no answer of the server"),
        }
    }
}

fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_comes_back_as_it_was_put() {
    let server = Server::start().await;
    for length in [0, 1, 10_000, 65_536, MIB, 3 * MIB + 17] {
        let body = bytes(length);
        let put = server.client.put_object().bucket("bucket").key("a/b").body(body.clone().into());
        let put = put
            .content_type("text/x-test")
            .cache_control("no-cache")
            .metadata("owner", "me")
            .send()
            .await
            .unwrap();
        let got = server.client.get_object().bucket("bucket").key("a/b").checksum_mode(ChecksumMode::Enabled);
        let got = got.send().await.unwrap();
        assert_eq!(got.content_length(), Some(i64::try_from(length).unwrap()));
        assert_eq!((got.content_type(), got.cache_control()), (Some("text/x-test"), Some("no-cache")));
        assert_eq!(got.metadata().unwrap()["owner"], "me");
        assert_eq!(got.e_tag(), put.e_tag());
        assert!(got.checksum_crc32().is_some() && got.checksum_crc32() == put.checksum_crc32());
        assert!(got.last_modified().is_some());
        assert_eq!(got.body.collect().await.unwrap().to_vec(), body, "{length} bytes");
        let head = server.client.head_object().bucket("bucket").key("a/b").send().await.unwrap();
        assert_eq!(head.content_length(), Some(i64::try_from(length).unwrap()));
        assert_eq!((head.content_type(), head.e_tag()), (Some("text/x-test"), put.e_tag()));
        if length > 0 {
            for (range, expected) in [
                ("bytes=0-0".to_owned(), &body[..1]),
                (format!("bytes={}-", length / 2), &body[length / 2..]),
                ("bytes=-1".to_owned(), &body[length - 1..]),
                (format!("bytes={}-{}", length / 3, length * 2), &body[length / 3..]),
            ] {
                let part = server
                    .client
                    .get_object()
                    .bucket("bucket")
                    .key("a/b")
                    .range(&range)
                    .send()
                    .await
                    .unwrap();
                assert!(part.content_range().unwrap().ends_with(&format!("/{length}")));
                assert_eq!(part.body.collect().await.unwrap().to_vec(), expected, "{range} of {length}");
            }
        }
        let beyond = server.client.get_object().bucket("bucket").key("a/b").range(format!("bytes={length}-"));
        assert_eq!(code(beyond.send().await.unwrap_err()), "InvalidRange");
    }
    let e_tag = server.client.head_object().bucket("bucket").key("a/b").send().await.unwrap().e_tag.unwrap();
    let get = || server.client.get_object().bucket("bucket").key("a/b");
    let not_modified = get().if_none_match(&e_tag).send().await.unwrap_err();
    assert_eq!(not_modified.raw_response().unwrap().status().as_u16(), 304);
    assert_eq!(code(get().if_match("\"other\"").send().await.unwrap_err()), "PreconditionFailed");
    get().if_match(&e_tag).send().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_objects_are_gone_and_deleting_twice_is_no_mistake() {
    let server = Server::start().await;
    for key in ["a", "b", "c"] {
        server.put(key, key).await;
    }
    assert_eq!(
        code(server.client.delete_bucket().bucket("bucket").send().await.unwrap_err()),
        "BucketNotEmpty"
    );
    for _ in 0..2 {
        server.client.delete_object().bucket("bucket").key("a").send().await.unwrap();
        assert_eq!(server.get("a").await, None);
        assert_eq!(server.keys("").await, ["b", "c"]);
    }
    let object = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let both =
        Delete::builder().objects(object("b")).objects(object("c")).objects(object("never")).build().unwrap();
    let deleted = server.client.delete_objects().bucket("bucket").delete(both).send().await.unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    assert!(server.keys("").await.is_empty() && server.files("objects").is_empty());
    server.client.delete_bucket().bucket("bucket").send().await.unwrap();
    assert!(server.client.head_bucket().bucket("bucket").send().await.is_err());
    assert_eq!(std::fs::read_dir(server.folder.path().join("buckets")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_prefixes_delimiters_and_pages() {
    let server = Server::start().await;
    let mut expected = BTreeSet::new();
    for number in 0..23 {
        for folder in ["x/", "x/deep/", "x-", "", "ü/"] {
            expected.insert(format!("{folder}{number}"));
        }
    }
    for key in &expected {
        server.put(key, "1234").await;
    }
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(server.keys("").await, expected);
    let under_x: Vec<_> = expected.iter().filter(|key| key.starts_with("x/")).cloned().collect();
    assert_eq!(server.keys("x/").await, under_x);

    let list = || server.client.list_objects_v2().bucket("bucket");
    let (mut token, mut keys, mut prefixes) = (None, Vec::new(), Vec::new());
    loop {
        let page = list().delimiter("/").max_keys(7).set_continuation_token(token).send().await.unwrap();
        assert!(page.key_count().unwrap() <= 7);
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        prefixes.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        token = page.next_continuation_token;
        assert_eq!(page.is_truncated, Some(token.is_some()));
        if token.is_none() {
            break;
        }
    }
    assert_eq!(prefixes, ["x/", "ü/"]);
    assert_eq!(keys, expected.iter().filter(|key| !key.contains('/')).cloned().collect::<Vec<_>>());
    let page = list().prefix("x/").delimiter("/").start_after("x/21").send().await.unwrap();
    let keys: Vec<_> = page.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(keys, ["x/22", "x/3", "x/4", "x/5", "x/6", "x/7", "x/8", "x/9"]);
    assert_eq!(page.contents()[0].size(), Some(4));
    assert_eq!(page.common_prefixes()[0].prefix(), Some("x/deep/"));
    assert!(list().max_keys(0).send().await.unwrap().contents().is_empty());
    assert_eq!(code(list().continuation_token("zz").send().await.unwrap_err()), "InvalidArgument");
    // Written and deleted after the index was read.
    server.put("zz", "").await;
    server.client.delete_object().bucket("bucket").key("x/22").send().await.unwrap();
    assert_eq!(server.keys("zz").await, ["zz"]);
    assert!(server.keys("x/22").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_look_like_paths_stay_keys() {
    let server = Server::start().await;
    let long = "long/".repeat(200);
    let keys = [
        "..",
        "../../escape",
        "a//b",
        "/absolute",
        "a/../b",
        "%2e%2e/x",
        "A",
        "a",
        "sp ace+&?#",
        "日本/語",
        &long,
    ];
    for key in keys {
        server.put(key, key).await;
    }
    for key in keys {
        assert_eq!(server.get(key).await.unwrap(), key.as_bytes());
    }
    let listed: BTreeSet<_> = server.keys("").await.into_iter().collect();
    assert_eq!(listed, keys.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(server.files("objects").len(), keys.len());
    // Nothing was written anywhere else.
    let top: BTreeSet<_> =
        std::fs::read_dir(server.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(top, ["buckets", "lock", "trash"].into_iter().map(Into::into).collect());
    for bucket in ["..", "a/..", "UPPER"] {
        assert!(server.client.create_bucket().bucket(bucket).send().await.is_err(), "{bucket}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_conditional_puts_one_wins() {
    let server = Server::start().await;
    for round in 0..5 {
        let key = format!("key-{round}");
        let mut racers = JoinSet::new();
        for racer in 0..20 {
            let put = server.client.put_object().bucket("bucket").key(&key).if_none_match("*");
            let put = put.body(ByteStream::from(format!("racer {racer}").into_bytes()));
            racers.spawn(async move { (racer, put.send().await) });
        }
        let mut winners = Vec::new();
        while let Some(result) = racers.join_next().await {
            match result.unwrap() {
                (racer, Ok(_)) => winners.push(racer),
                (_, Err(error)) => assert_eq!(code(error), "PreconditionFailed"),
            }
        }
        let [winner] = winners[..] else { panic!("{winners:?} won") };
        assert_eq!(server.get(&key).await.unwrap(), format!("racer {winner}").as_bytes());
    }
    assert!(server.files("incoming").is_empty());
    let e_tag =
        server.client.head_object().bucket("bucket").key("key-0").send().await.unwrap().e_tag.unwrap();
    let put = |key| server.client.put_object().bucket("bucket").key(key).body(b"new".to_vec().into());
    assert_eq!(code(put("key-0").if_match("\"0\"").send().await.unwrap_err()), "PreconditionFailed");
    assert_eq!(code(put("none").if_match(&e_tag).send().await.unwrap_err()), "NoSuchKey");
    put("key-0").if_match(&e_tag).send().await.unwrap();
    assert_eq!(server.get("key-0").await.unwrap(), b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_have_the_claimed_digest_are_refused() {
    let server = Server::start().await;
    let put = || server.client.put_object().bucket("bucket").key("k").body(bytes(2 * MIB).into());
    let wrong_md5 = put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await.unwrap_err();
    assert_eq!(code(wrong_md5), "BadDigest");
    assert_eq!(code(put().content_md5("AAAA").send().await.unwrap_err()), "InvalidDigest");
    assert_eq!(code(put().checksum_crc32("AAAAAA==").send().await.unwrap_err()), "BadDigest");
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(code(put().checksum_sha256(zeros).send().await.unwrap_err()), "BadDigest");
    assert!(server.keys("").await.is_empty() && server.files("incoming").is_empty());
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        put().checksum_algorithm(algorithm.clone()).send().await.unwrap();
        let get = server.client.get_object().bucket("bucket").key("k").checksum_mode(ChecksumMode::Enabled);
        // The client compares the checksum while it reads.
        assert_eq!(
            get.send().await.unwrap().body.collect().await.unwrap().to_vec(),
            bytes(2 * MIB),
            "{algorithm:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_in_every_form_that_signatures_have() {
    let server = Server::start().await;
    // A body of known length from a stream goes as signed or unsigned chunks with a trailing checksum, or plain.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    let expected = bytes(MIB + 5);
    std::fs::write(&path, &expected).unwrap();
    for calculation in [RequestChecksumCalculation::WhenSupported, RequestChecksumCalculation::WhenRequired] {
        let config = server.client.config().to_builder().request_checksum_calculation(calculation).build();
        let client = Client::from_conf(config);
        for unsigned in [false, true] {
            let body = ByteStream::from_path(&path).await.unwrap();
            let put = client.put_object().bucket("bucket").key("k").body(body).customize();
            let put = if unsigned { put.disable_payload_signing() } else { put };
            put.send().await.unwrap();
            assert_eq!(server.get("k").await.unwrap(), expected);
            server.client.delete_object().bucket("bucket").key("k").send().await.unwrap();
        }
    }
}

async fn upload_part(server: &Server, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let upload = server.client.upload_part().bucket("bucket").key(key).upload_id(id).part_number(number);
    let done = upload.body(body.into()).send().await.unwrap();
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(done.e_tag)
        .set_checksum_crc32(done.checksum_crc32)
        .build()
}

async fn begin(server: &Server, key: &str) -> String {
    let begin = server.client.create_multipart_upload().bucket("bucket").key(key).content_type("text/x-test");
    begin.send().await.unwrap().upload_id.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_joined_in_their_order() {
    let server = Server::start().await;
    let whole = bytes(15 * MIB);
    let id = begin(&server, "big").await;
    let mut parts = Vec::new();
    // The first to arrive is replaced; the rest come in another order than their numbers'.
    upload_part(&server, "big", &id, 2, vec![7; 6 * MIB]).await;
    for number in [3, 1, 2] {
        let start = (usize::try_from(number).unwrap() - 1) * 5 * MIB;
        parts.push(upload_part(&server, "big", &id, number, whole[start..start + 5 * MIB].to_vec()).await);
    }
    let listed = server.client.list_parts().bucket("bucket").key("big").upload_id(&id).max_parts(2);
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.parts().iter().map(|part| part.part_number().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((listed.is_truncated(), listed.next_part_number_marker()), (Some(true), Some("2")));
    let uploads = server.client.list_multipart_uploads().bucket("bucket").prefix("b").send().await.unwrap();
    assert_eq!(uploads.uploads()[0].upload_id(), Some(id.as_str()));
    assert_eq!(server.get("big").await, None);

    let complete = |parts: Vec<CompletedPart>| {
        let joined = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        server
            .client
            .complete_multipart_upload()
            .bucket("bucket")
            .key("big")
            .upload_id(&id)
            .multipart_upload(joined)
    };
    assert_eq!(code(complete(parts.clone()).send().await.unwrap_err()), "InvalidPartOrder");
    parts.sort_by_key(|part| part.part_number);
    let mut wrong = parts.clone();
    wrong[1].e_tag = Some("\"00\"".to_owned());
    assert_eq!(code(complete(wrong).send().await.unwrap_err()), "InvalidPart");

    // What was acknowledged is there after a restart, and a condition that fails leaves the upload as it is.
    server.put("big", "in the way").await;
    let server = Server::open(server.stop().await).await;
    let complete = |parts: Vec<CompletedPart>| {
        let joined = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        server
            .client
            .complete_multipart_upload()
            .bucket("bucket")
            .key("big")
            .upload_id(&id)
            .multipart_upload(joined)
    };
    let refused = complete(parts.clone()).if_none_match("*").send().await.unwrap_err();
    assert_eq!(code(refused), "PreconditionFailed");
    let done = complete(parts.clone()).send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-3\""));
    assert_eq!(server.get("big").await.unwrap(), whole);
    let part = server.client.get_object().bucket("bucket").key("big").range("bytes=5242870-5242889");
    assert_eq!(
        part.send().await.unwrap().body.collect().await.unwrap().to_vec(),
        whole[5_242_870..5_242_890]
    );
    let head = server.client.head_object().bucket("bucket").key("big").send().await.unwrap();
    assert_eq!((head.content_type(), head.content_length()), (Some("text/x-test"), Some(15 << 20)));
    // A client that lost the answer asks again.
    assert_eq!(complete(parts).send().await.unwrap().e_tag(), done.e_tag());
    assert!(server.files("uploads").is_empty());
    let server = Server::open(server.stop().await).await;
    assert_eq!(server.get("big").await.unwrap(), whole);
    assert_eq!(server.keys("").await, ["big"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_parts_and_unknown_uploads_are_refused_and_aborted_ones_leave_nothing() {
    let server = Server::start().await;
    let id = begin(&server, "k").await;
    let parts = vec![
        upload_part(&server, "k", &id, 1, vec![1; 1000]).await,
        upload_part(&server, "k", &id, 2, vec![2; 1000]).await,
    ];
    let complete = |id: &str, parts: Vec<CompletedPart>| {
        let joined = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        server
            .client
            .complete_multipart_upload()
            .bucket("bucket")
            .key("k")
            .upload_id(id)
            .multipart_upload(joined)
    };
    assert_eq!(code(complete(&id, parts.clone()).send().await.unwrap_err()), "EntityTooSmall");
    assert_eq!(code(complete("none", parts.clone()).send().await.unwrap_err()), "NoSuchUpload");
    let wrong = server.client.upload_part().bucket("bucket").key("k").upload_id(&id).part_number(3);
    let wrong =
        wrong.content_md5("AAAAAAAAAAAAAAAAAAAAAA==").body(vec![3; 1000].into()).send().await.unwrap_err();
    assert_eq!(code(wrong), "BadDigest");
    let abort = || server.client.abort_multipart_upload().bucket("bucket").key("k").upload_id(&id);
    abort().send().await.unwrap();
    assert_eq!(code(abort().send().await.unwrap_err()), "NoSuchUpload");
    assert_eq!(code(complete(&id, parts).send().await.unwrap_err()), "NoSuchUpload");
    assert!(server.files("uploads").is_empty() && server.keys("").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_once_and_keep_their_tags() {
    let server = Server::start().await;
    let again = server.client.create_bucket().bucket("bucket").send().await.unwrap_err();
    assert_eq!(code(again), "BucketAlreadyOwnedByYou");
    let tags = || server.client.get_bucket_tagging().bucket("bucket").send();
    assert_eq!(code(tags().await.unwrap_err()), "NoSuchTagSet");
    let tagging =
        Tagging::builder().tag_set(Tag::builder().key("owner").value("me").build().unwrap()).build().unwrap();
    server.client.put_bucket_tagging().bucket("bucket").tagging(tagging).send().await.unwrap();
    server.client.create_bucket().bucket("other").send().await.unwrap();
    let server = Server::open(server.stop().await).await;
    let tags = server.client.get_bucket_tagging().bucket("bucket").send().await.unwrap();
    assert_eq!((tags.tag_set()[0].key(), tags.tag_set()[0].value()), ("owner", "me"));
    let buckets = server.client.list_buckets().send().await.unwrap();
    let names: Vec<_> = buckets.buckets().iter().map(|bucket| bucket.name().unwrap()).collect();
    assert_eq!(names, ["bucket", "other"]);
    assert_eq!(
        code(server.client.put_object().bucket("none").key("k").send().await.unwrap_err()),
        "NoSuchBucket"
    );
    assert!(server.client.get_bucket_versioning().bucket("bucket").send().await.unwrap().status().is_none());
    let lifecycle = server.client.get_bucket_lifecycle_configuration().bucket("bucket").send().await;
    assert_eq!(code(lifecycle.unwrap_err()), "NotImplemented");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_key_opens_and_a_signed_address_lends_it() {
    let server = Server::start().await;
    server.put("signed", "by address").await;
    let stranger = client(&server.address, "wrong");
    assert_eq!(
        code(stranger.get_object().bucket("bucket").key("signed").send().await.unwrap_err()),
        "SignatureDoesNotMatch"
    );

    let lifetime = PresigningConfig::expires_in(Duration::from_mins(1)).unwrap();
    let get = server.client.get_object().bucket("bucket").key("signed").response_content_type("text/x-other");
    let signed = get.presigned(lifetime).await.unwrap();
    let target = signed.uri().split_once(&server.address).unwrap().1.to_owned();
    let answer = http_get(&server.address, &target).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("by address"), "{answer}");
    assert!(answer.contains("text/x-other"));
    let unsigned = http_get(&server.address, "/bucket/signed").await;
    assert!(unsigned.starts_with("HTTP/1.1 403") && !unsigned.contains("by address"), "{unsigned}");
    let altered = http_get(&server.address, &target.replace("/signed?", "/other?")).await;
    assert!(altered.starts_with("HTTP/1.1 403"), "{altered}");
}

async fn http_get(address: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_nothing() {
    let server = Server::start().await;
    let length = 3 * MIB;
    let lifetime = PresigningConfig::expires_in(Duration::from_mins(1)).unwrap();
    let put = server
        .client
        .put_object()
        .bucket("bucket")
        .key("half")
        .content_length(i64::try_from(length).unwrap());
    let signed = put.presigned(lifetime).await.unwrap();
    let target = signed.uri().split_once(&server.address).unwrap().1.to_owned();
    for sent in [0, 1000, length - 1] {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        let mut head =
            format!("PUT {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n", server.address);
        for (name, value) in signed.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
        {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![0; sent]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(stream);
    }
    for _ in 0..100 {
        if server.files("incoming").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.files("incoming").is_empty());
    assert!(server.files("objects").is_empty());
    assert_eq!(server.get("half").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_all_and_clears_what_was_half_done() {
    let server = Server::start().await;
    let long = "k".repeat(1000);
    for key in ["a", "b/c", &long] {
        server.put(key, bytes(100_000)).await;
    }
    assert!(matches!(open(server.folder.path()), Err(object_store::Error::InUse(_))));
    let folder = server.stop().await;
    let bucket = folder.path().join("buckets/bucket");
    std::fs::write(bucket.join("incoming/9"), "half").unwrap();
    std::fs::write(bucket.join("uploads/lost.data"), "half").unwrap();
    std::fs::write(bucket.join("uploads/torn.log"), "{\"key\":").unwrap();
    std::fs::create_dir(folder.path().join("trash/half")).unwrap();
    let server = Server::open(folder).await;
    assert!(server.files("incoming").is_empty() && server.files("uploads").is_empty());
    assert_eq!(std::fs::read_dir(server.folder.path().join("trash")).unwrap().count(), 0);
    assert_eq!(server.keys("").await, ["a", "b/c", &long]);
    for key in ["a", "b/c", &long] {
        assert_eq!(server.get(key).await.unwrap(), bytes(100_000));
    }
}
