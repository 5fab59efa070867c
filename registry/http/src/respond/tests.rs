#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use futures_util::StreamExt;
use http::{Method, StatusCode};
use proptest::prelude::*;

use super::{attachment, json, method_not_allowed, redirect, retry_after, text, url_value, value};

#[tokio::test]
async fn small_responses() {
    let mut response = text(StatusCode::NOT_FOUND, "no such thing");
    assert_eq!(
        (response.status(), &response.headers()["x-content-type-options"]),
        (StatusCode::NOT_FOUND, &super::NOSNIFF)
    );
    assert_eq!(response.body_mut().next().await.unwrap().unwrap(), "no such thing\n");
    let mut response = json(StatusCode::OK, &["a"]).unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.body_mut().next().await.unwrap().unwrap(), "[\"a\"]");
    let response = redirect(StatusCode::SEE_OTHER, "/a b/é\r\nX: y");
    assert_eq!(response.headers()["location"], "/a%20b/%C3%A9%0D%0AX:%20y");
    let push = Method::from_bytes(b"PUSH").unwrap();
    assert_eq!(method_not_allowed(&[Method::GET, push]).headers()["allow"], "GET, PUSH");
    for (wait, header) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (5000, "5")] {
        let response =
            retry_after(text(StatusCode::SERVICE_UNAVAILABLE, "later"), Duration::from_millis(wait));
        assert_eq!(response.headers()["retry-after"], header);
    }
}

#[test]
fn header_values() {
    assert_eq!(value("a b"), "a b");
    assert_eq!(value("a\r\nb\té\0"), "a??b???");
    assert_eq!(url_value("https://h.example/a%20b?x=y&z#f"), "https://h.example/a%20b?x=y&z#f");
    assert_eq!(attachment("numpy-2.0.whl"), "attachment; filename=\"numpy-2.0.whl\"");
    assert_eq!(attachment("a\"b\\.zip"), "attachment; filename=\"a_b_.zip\"; filename*=UTF-8''a%22b%5C.zip");
    assert_eq!(attachment("ü%.zip"), "attachment; filename=\"__.zip\"; filename*=UTF-8''%C3%BC%25.zip");
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_a_header(text: String) {
        for header in [value(&text), url_value(&text), attachment(&text)] {
            prop_assert!(header.as_bytes().iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ' || *byte == b'\t'));
        }
        // Quotes are balanced: the two around the name.
        prop_assert_eq!(attachment(&text).to_str().unwrap().matches('"').count(), 2);
    }
}
