#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures_util::StreamExt;
use http::{Method, StatusCode};
use prometheus_client::registry::Registry;

use super::HttpMetrics;
use crate::Body;

fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn a_request_is_recorded_when_its_body_is_gone() {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::new(&mut registry);
    let mut request = metrics.begin(&Method::GET);
    request.set_route(&"/pypi/{channel}/+simple/".into());
    request.set_status(StatusCode::OK);
    metrics.received(7);
    let mut body = Body::bytes("12345").observed(request);
    let running = encoded(&registry);
    assert!(running.contains("granary_http_requests_in_flight 1\n"), "{running}");
    assert!(!running.contains("granary_http_requests_total{"), "{running}");

    while body.next().await.is_some() {}
    drop(body);
    let ended = encoded(&registry);
    for line in [
        "granary_http_requests_total{method=\"GET\",route=\"/pypi/{channel}/+simple/\",status=\"200\"} 1\n",
        "granary_http_request_duration_seconds_count{method=\"GET\",route=\"/pypi/{channel}/+simple/\"} 1\n",
        "granary_http_requests_in_flight 0\n",
        "granary_http_response_bytes_total 5\n",
        "granary_http_request_bytes_total 7\n",
    ] {
        assert!(ended.contains(line), "{line}{ended}");
    }
}

#[test]
fn invented_methods_share_a_label_and_a_lost_client_is_499() {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::new(&mut registry);
    for name in ["BREW", "X-1", "X-2"] {
        drop(metrics.begin(&Method::from_bytes(name.as_bytes()).unwrap()));
    }
    let text = encoded(&registry);
    assert!(
        text.contains("granary_http_requests_total{method=\"other\",route=\"none\",status=\"499\"} 3\n"),
        "{text}"
    );
}

#[test]
fn a_handler_that_panics_is_500() {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::new(&mut registry);
    let request = metrics.begin(&Method::GET);
    let handler = std::thread::spawn(move || {
        let _request = request;
        panic!("on purpose");
    });
    handler.join().unwrap_err();
    let text = encoded(&registry);
    assert!(text.contains("{method=\"GET\",route=\"none\",status=\"500\"} 1\n"), "{text}");
}
