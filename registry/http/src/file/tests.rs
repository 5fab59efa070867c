#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::single_range_in_vec_init)]

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::FileResponse;
use crate::{Body, EntityTag};

const CONTENT: &[u8] = b"0123456789";

fn file() -> FileResponse {
    FileResponse {
        size: CONTENT.len() as u64,
        etag: Some(EntityTag::strong("abc").unwrap()),
        last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
        content_type: HeaderValue::from_static("application/zip"),
        file_name: Some("x-1.whl".into()),
        cache_control: HeaderValue::from_static("max-age=365000000, immutable"),
        headers: HeaderMap::new(),
    }
}

/// The response, and the pieces of the file that were opened by the time its head was ready.
async fn ask(method: &Method, pairs: &[(&str, &str)]) -> (Response<Body>, Vec<Range<u64>>) {
    let request: HeaderMap = pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let opened = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&opened);
    let open = move |range: Range<u64>| {
        log.lock().unwrap().push(range.clone());
        let bytes = &CONTENT[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        std::future::ready(Ok::<_, std::io::Error>(Body::bytes(bytes)))
    };
    let response = file().respond(method, &request, open).await.unwrap();
    let opened = opened.lock().unwrap().clone();
    (response, opened)
}

async fn read(response: Response<Body>) -> String {
    let length = response.body().length();
    let chunks: Vec<Bytes> = response.into_body().try_collect().await.unwrap();
    let bytes = chunks.concat();
    assert_eq!(length, Some(bytes.len() as u64));
    String::from_utf8(bytes).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("-", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_whole_file() {
    let (response, opened) = ask(&Method::GET, &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "application/zip"),
        ("etag", "\"abc\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment; filename=\"x-1.whl\""),
        ("cache-control", "max-age=365000000, immutable"),
    ] {
        assert_eq!(header(&response, name), value);
    }
    assert_eq!(opened, [0..10]);
    assert_eq!(read(response).await, "0123456789");
}

#[tokio::test]
async fn what_sends_no_content_opens_nothing() {
    for (method, pairs, status, length) in [
        (Method::HEAD, vec![], StatusCode::OK, "10"),
        (Method::HEAD, vec![("range", "bytes=0-1")], StatusCode::OK, "10"),
        (Method::GET, vec![("if-none-match", "\"abc\"")], StatusCode::NOT_MODIFIED, "-"),
        (
            Method::GET,
            vec![("if-none-match", "\"abc\""), ("range", "bytes=0-1")],
            StatusCode::NOT_MODIFIED,
            "-",
        ),
        (Method::GET, vec![("if-match", "\"x\"")], StatusCode::PRECONDITION_FAILED, "-"),
        (Method::GET, vec![("range", "bytes=10-")], StatusCode::RANGE_NOT_SATISFIABLE, "-"),
    ] {
        let (response, opened) = ask(&method, &pairs).await;
        assert_eq!(
            (response.status(), header(&response, "content-length")),
            (status, length),
            "{method} {pairs:?}"
        );
        assert!(opened.is_empty());
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            assert_eq!(header(&response, "content-range"), "bytes */10");
        }
        if status == StatusCode::NOT_MODIFIED {
            assert_eq!(header(&response, "etag"), "\"abc\"");
            assert_eq!(header(&response, "content-type"), "-");
        }
    }
}

#[tokio::test]
async fn one_range() {
    for (pairs, content_range, content) in [
        (vec![("range", "bytes=2-4")], "bytes 2-4/10", "234"),
        (vec![("range", "bytes=-3")], "bytes 7-9/10", "789"),
        (vec![("range", "bytes=2-4"), ("if-range", "\"abc\"")], "bytes 2-4/10", "234"),
        (vec![("range", "bytes=2-4"), ("if-range", "\"old\"")], "-", "0123456789"),
        (vec![("range", "bytes=x")], "-", "0123456789"),
    ] {
        let (response, _) = ask(&Method::GET, &pairs).await;
        let status = if content_range == "-" { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
        assert_eq!(
            (response.status(), header(&response, "content-range")),
            (status, content_range),
            "{pairs:?}"
        );
        assert_eq!(read(response).await, content);
    }
}

#[tokio::test]
async fn several_ranges_open_one_after_the_other() {
    let (response, opened) = ask(&Method::GET, &[("range", "bytes=8-,0-1,4-4")]).await;
    assert_eq!(opened, [8..10]);
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    let boundary =
        header(&response, "content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let body = read(response).await;
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(
        parts,
        [
            "",
            "\r\nContent-Type: application/zip\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n",
            "\r\nContent-Type: application/zip\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n",
            "\r\nContent-Type: application/zip\r\nContent-Range: bytes 4-4/10\r\n\r\n4\r\n",
            "--\r\n",
        ]
    );
}

#[tokio::test]
async fn an_empty_file_and_one_that_cannot_be_opened() {
    let empty = FileResponse { size: 0, ..file() };
    let fail = |_| std::future::ready(Err::<Body, _>(std::io::Error::other("gone")));
    let response = empty.respond(&Method::GET, &HeaderMap::new(), fail).await.unwrap();
    assert_eq!((response.status(), header(&response, "content-length")), (StatusCode::OK, "0"));
    for range in ["bytes=0-", "bytes=0-1", "bytes=0-1,4-5"] {
        let request = HeaderMap::from_iter([(http::header::RANGE, HeaderValue::from_static(range))]);
        assert_eq!(file().respond(&Method::GET, &request, fail).await.unwrap_err().to_string(), "gone");
    }
}
