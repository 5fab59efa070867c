#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::{Management, Readiness};

async fn get(management: &Management, path: &str) -> (StatusCode, String) {
    let mut response = management.answer(Method::GET, path.to_owned()).await;
    let body = response.body_mut().next().await.unwrap().unwrap();
    (response.status(), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_checks_and_the_drain() {
    let up = Arc::new(AtomicBool::new(true));
    let database = Arc::clone(&up);
    let readiness = Arc::new(
        Readiness::new()
            .check("database", move || {
                ready(if database.load(Ordering::Relaxed) { Ok(()) } else { Err("password=hunter2 refused") })
            })
            .check("bucket", || ready(Ok::<_, Infallible>(()))),
    );
    let management = Management::new(Arc::clone(&readiness), Arc::new(Registry::default()));
    assert_eq!(get(&management, "/readyz").await, (StatusCode::OK, "ready\n".into()));
    up.store(false, Ordering::Relaxed);
    assert_eq!(
        get(&management, "/readyz").await,
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: database\n".into())
    );
    assert_eq!(get(&management, "/livez").await, (StatusCode::OK, "alive\n".into()));
    up.store(true, Ordering::Relaxed);
    readiness.begin_drain();
    assert_eq!(
        get(&management, "/readyz").await,
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: draining\n".into())
    );

    let stuck = Readiness::new().check("stuck", pending::<Result<(), Infallible>>);
    let management = Management::new(Arc::new(stuck), Arc::new(Registry::default()));
    assert_eq!(
        get(&management, "/readyz").await,
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: stuck\n".into())
    );
}

#[tokio::test]
async fn metrics_and_what_there_is_not() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("things", "Things", counter.clone());
    counter.inc();
    let management = Management::new(Arc::new(Readiness::new()), Arc::new(registry));
    let (status, text) = get(&management, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("things_total 1\n") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(get(&management, "/").await.0, StatusCode::NOT_FOUND);
    let posted = management.answer(Method::POST, "/metrics".into()).await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}
