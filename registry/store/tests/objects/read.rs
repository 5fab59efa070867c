use std::time::Duration;

use granary_core::{ManualClock, Sha256, SystemClock};
use granary_store::objects::{ObjectError, ObjectStore, ProbeStep, Timeouts};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{BUCKET, Server, collect, noise, options};

#[tokio::test]
async fn ranges_are_exact_and_absent_objects_are_told_apart() {
    let server = Server::start().await;
    let bytes = noise(3_000_000, 1);
    let key = server.put(&bytes).await;
    for range in [0..1, 0..3_000_000, 1_234_567..2_345_678, 2_999_999..3_000_000, 5..5] {
        let stream = server.store.open(BUCKET, &key, Some(range.clone())).await.unwrap();
        assert_eq!(stream.length(), range.end - range.start);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert!(collect(stream).await.unwrap() == bytes[range]);
    }
    let past = server.store.open(BUCKET, &key, Some(2_999_999..3_000_001)).await.unwrap_err();
    assert!(matches!(past, ObjectError::WrongLength { expected: 2, actual: 1 }), "{past:?}");
    assert!(server.store.open(BUCKET, "blobs/none", None).await.unwrap_err().is_not_found());
    assert!(server.store.open("no-such-bucket", &key, None).await.unwrap_err().is_not_found());
    assert!(server.store.size(BUCKET, "blobs/none").await.unwrap_err().is_not_found());
    assert_eq!(server.store.size(BUCKET, &key).await.unwrap(), 3_000_000);
}

#[tokio::test]
async fn a_scrubber_sees_what_is_not_what_it_should_be() {
    let server = Server::start().await;
    let key = server.put(b"the bytes").await;
    server.store.verify(BUCKET, &key, &Sha256::of(b"the bytes"), 9).await.unwrap();
    let other = server.store.verify(BUCKET, &key, &Sha256::of(b"THE bytes"), 9).await;
    assert!(matches!(other, Err(ObjectError::Corrupt { .. })));
    let shorter = server.store.verify(BUCKET, &key, &Sha256::of(b"the bytes"), 8).await;
    assert!(matches!(shorter, Err(ObjectError::WrongLength { .. })));
}

/// An answer with its head, up to the end of the connection.
async fn http_get(url: &str) -> Vec<u8> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_presigned_url_gives_the_file_its_name_to_anybody_for_a_while() {
    let server = Server::start().await;
    let key = server.put(b"the bytes").await;
    let presign = async |now, ttl| {
        let url = server.store.presign_get(BUCKET, &key, now, ttl, "a-1.0.whl", "application/zip").await;
        url.unwrap().unwrap()
    };
    let url = presign(Timestamp::now(), Duration::from_hours(1)).await;
    assert!(url.contains("X-Amz-Expires=300"), "never longer than five minutes: {url}");
    let answer = String::from_utf8(http_get(&url).await).unwrap();
    let lower = answer.to_ascii_lowercase();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the bytes"), "{answer}");
    assert!(lower.contains("content-disposition: attachment; filename=\"a-1.0.whl\""), "{answer}");
    assert!(lower.contains("content-type: application/zip"), "{answer}");

    let late = presign(Timestamp::now() - SignedDuration::from_mins(10), Duration::from_mins(1)).await;
    assert!(http_get(&late).await.starts_with(b"HTTP/1.1 403"));

    let mut private = options(server.address);
    private.public_endpoint = None;
    let store = ObjectStore::connect(private).await.unwrap();
    let none =
        store.presign_get(BUCKET, &key, Timestamp::now(), Duration::from_mins(1), "f", "text/plain").await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test]
async fn a_store_that_is_down_is_unavailable_and_wrong_keys_are_denied() {
    let server = Server::start().await;
    let mut wrong = options(server.address);
    wrong.credentials = granary_store::objects::Credentials::Static {
        access_key_id: crate::support::ACCESS_KEY.to_owned(),
        secret_access_key: "wrong".into(),
        session_token: None,
    };
    let store = ObjectStore::connect(wrong).await.unwrap();
    assert!(matches!(store.open(BUCKET, "k", None).await, Err(ObjectError::Denied(_))));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let store = ObjectStore::connect(options(nobody)).await.unwrap();
    assert!(store.open(BUCKET, "k", None).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn endpoints_and_bundles_are_checked_at_once() {
    let server = Server::start().await;
    for endpoint in ["", "localhost:9000", "ftp://store.example", "http://"] {
        let mut bad = options(server.address);
        bad.endpoint = Some(endpoint.to_owned());
        assert!(ObjectStore::connect(bad).await.is_err(), "{endpoint}");
    }
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    let mut with_bundle = options(server.address);
    with_bundle.ca_bundle = Some(bundle.clone());
    assert!(ObjectStore::connect(with_bundle.clone()).await.is_err(), "absent");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "no certificate", damaged] {
        std::fs::write(&bundle, content).unwrap();
        assert!(ObjectStore::connect(with_bundle.clone()).await.is_err(), "{content}");
    }
}

/// A way to the store that cuts connections after some bytes of each answer, a few times.
async fn unreliable(server: &Server, cuts: usize, after: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (listener.local_addr().unwrap(), server.address);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut store = TcpStream::connect(target).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_store, mut to_store) = store.split();
                let limit = if connection < cuts { after as u64 } else { u64::MAX };
                let mut limited = (&mut from_store).take(limit);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_store) => {}
                    _ = tokio::io::copy(&mut limited, &mut to_client) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_read_that_breaks_off_is_taken_up_where_it_stopped() {
    let server = Server::start().await;
    let bytes = noise(4_000_000, 2);
    let key = server.put(&bytes).await;
    let address = unreliable(&server, 3, 1_000_000).await;
    let mut through = options(address);
    // The server verifies the host that was signed, which is that of the way.
    through.timeouts = Timeouts { idle: Duration::from_secs(2), ..Timeouts::default() };
    let store = ObjectStore::connect(through).await.unwrap();
    let read = collect(store.open(BUCKET, &key, None).await.unwrap()).await.unwrap();
    assert!(read == bytes);
    let read = collect(store.open(BUCKET, &key, Some(10..3_999_990)).await.unwrap()).await.unwrap();
    assert!(read == bytes[10..3_999_990]);
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_and_tells_the_skew() {
    let server = Server::start().await;
    let probes = server.store.probe("doctor-was-here", true, &SystemClock).await;
    let steps: Vec<_> = probes.iter().map(|probe| probe.step).collect();
    assert_eq!(
        steps,
        [
            ProbeStep::Bucket,
            ProbeStep::Write,
            ProbeStep::Read,
            ProbeStep::ConditionalWrite,
            ProbeStep::Delete,
            ProbeStep::RemoveBucket,
            ProbeStep::Clock
        ]
    );
    for probe in &probes {
        assert!(probe.outcome.is_ok(), "{probe:?}");
    }
    assert!(probes[6].skew.unwrap().abs() < SignedDuration::from_secs(5));
    let absent = server.store.probe("doctor-was-here", false, &SystemClock).await;
    assert!(absent[0].outcome.as_ref().unwrap_err().is_not_found(), "the bucket is gone again");

    let ahead = ManualClock::new(Timestamp::now() + SignedDuration::from_mins(20));
    let probes = server.store.probe(BUCKET, false, &ahead).await;
    let skew = probes.last().unwrap().skew.unwrap();
    assert!((skew + SignedDuration::from_mins(20)).abs() < SignedDuration::from_secs(5), "{skew:?}");
}

#[tokio::test]
async fn listing_and_deleting_go_on_beyond_a_page() {
    let server = Server::start().await;
    let uploads = server.uploads(1);
    let mut keys = Vec::new();
    for _ in 0..1010 {
        let upload = uploads.begin(BUCKET, 0).await;
        keys.push(upload.finish().await.unwrap().key);
    }
    keys.sort();
    assert_eq!(server.keys().await, keys);
    keys.push("blobs/never-was".to_owned());
    assert!(server.store.delete_objects(BUCKET, &keys).await.unwrap().is_empty());
    assert!(server.keys().await.is_empty());
    assert!(server.store.delete_objects("no-such-bucket", &keys).await.unwrap_err().is_not_found());
}
