#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::Body as _;

use super::{Body, BodyLimits, BodyObserver, BoxError, LengthMismatch, RequestBody, RequestBodyError};

fn parts(texts: &'static [&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

async fn read(body: Body) -> Result<String, BoxError> {
    let chunks: Vec<Bytes> = body.try_collect().await?;
    Ok(String::from_utf8(chunks.concat()).unwrap())
}

#[tokio::test]
async fn every_form_tells_its_length_and_gives_its_bytes() {
    let ok = |texts| stream::iter(parts(texts).into_iter().map(Ok::<_, Infallible>));
    for (body, length, text) in [
        (Body::empty(), Some(0), ""),
        (Body::bytes(""), Some(0), ""),
        (Body::bytes("abc"), Some(3), "abc"),
        (Body::from(parts(&["ab", "", "c"])), Some(3), "abc"),
        (Body::from(parts(&["", ""])), Some(0), ""),
        (Body::stream(ok(&["ab", "c"]), 3), Some(3), "abc"),
        (Body::unsized_stream(ok(&["ab", "c"])), None, "abc"),
    ] {
        assert_eq!(body.size_hint().exact(), length);
        assert_eq!(body.is_end_stream(), length == Some(0));
        assert_eq!(read(body).await.unwrap(), text);
    }
}

#[tokio::test]
async fn a_stream_of_another_length_fails() {
    let ok = || stream::iter(parts(&["ab", "c"]).into_iter().map(Ok::<_, Infallible>));
    let short = read(Body::stream(ok(), 5)).await.unwrap_err();
    assert_eq!(*short.downcast::<LengthMismatch>().unwrap(), LengthMismatch { missing: 2, surplus: 0 });
    let long = read(Body::stream(ok(), 2)).await.unwrap_err();
    assert_eq!(*long.downcast::<LengthMismatch>().unwrap(), LengthMismatch { missing: 0, surplus: 1 });
}

#[tokio::test]
async fn an_observer_counts_and_goes_with_the_body() {
    struct Counter(Arc<AtomicU64>);
    impl BodyObserver for Counter {
        fn sent(&mut self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    impl Drop for Counter {
        fn drop(&mut self) {
            self.0.fetch_add(1000, Ordering::Relaxed);
        }
    }
    let total = Arc::new(AtomicU64::new(0));
    let body = Body::from(parts(&["ab", "cde"])).observed(Counter(Arc::clone(&total)));
    read(body).await.unwrap();
    assert_eq!(total.load(Ordering::Relaxed), 1005);
}

fn request(texts: &'static [&'static str], declared: Option<u64>, max_bytes: u64) -> RequestBody {
    let limits = BodyLimits { max_bytes, idle: Duration::from_secs(30), ..BodyLimits::default() };
    RequestBody::from_stream(
        stream::iter(parts(texts).into_iter().map(Ok::<_, Infallible>)),
        declared,
        limits,
    )
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_unread() {
    let never = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, Infallible>>> {
        panic!("nothing may be read");
    });
    let limits = BodyLimits { max_bytes: 9, ..BodyLimits::default() };
    let mut body = RequestBody::from_stream(never, Some(10), limits);
    assert!(matches!(body.next().await, Some(Err(RequestBodyError::TooLarge { limit: 9 }))));
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn the_bytes_that_come_are_counted_too() {
    let mut body = request(&["12345", "6789"], None, 8);
    assert_eq!(body.next().await.unwrap().unwrap(), "12345");
    assert!(matches!(body.next().await, Some(Err(RequestBodyError::TooLarge { limit: 8 }))));
    assert!(body.next().await.is_none());

    assert_eq!(request(&["12345", "6789"], Some(9), 9).collect(9).await.unwrap(), "123456789");
    assert_eq!(request(&[], None, 9).collect(9).await.unwrap(), "");
    assert!(matches!(
        request(&["12345", "6789"], None, 100).collect(8).await,
        Err(RequestBodyError::TooLarge { limit: 8 })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_given_up() {
    let slow = stream::unfold(0_u64, |turn| async move {
        tokio::time::sleep(Duration::from_secs(turn * 4)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), turn + 1))
    });
    let limits = BodyLimits { max_bytes: 100, idle: Duration::from_secs(10), min_rate: 0 };
    let mut body = RequestBody::from_stream(slow, None, limits);
    // Waits of 0, 4 and 8 seconds are fine, together longer than the limit; the one of 12 is not.
    for _ in 0..3 {
        body.next().await.unwrap().unwrap();
    }
    assert!(matches!(body.next().await, Some(Err(RequestBodyError::Stalled { .. }))));
    assert_eq!(body.received(), 3);
}

#[tokio::test]
async fn a_broken_source_is_an_incomplete_body() {
    let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]);
    let body = RequestBody::from_stream(broken, Some(5), BodyLimits::default());
    assert!(matches!(body.collect(10).await, Err(RequestBodyError::Incomplete(_))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_is_given_up_although_it_is_never_still() {
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
    });
    let limits = BodyLimits { max_bytes: 1000, idle: Duration::from_secs(30), min_rate: 100 };
    let began = tokio::time::Instant::now();
    let error = RequestBody::from_stream(drops, None, limits).collect(1000).await.unwrap_err();
    assert!(matches!(error, RequestBodyError::Stalled { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}
