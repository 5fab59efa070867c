//! Keys that come and go, and issuers that do not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use granary_crds::KeySource;
use reqwest::redirect::Policy;
use serde_json::json;
use tracing::span;

use super::issuer::Key;
use super::*;
use crate::KeysError;

const FRESH: i64 = 15 * 60;
const DAY: i64 = 24 * 3600;

fn error(result: Result<Verified, WorkloadError>) -> WorkloadError {
    result.expect_err("the token counts")
}

/// Why the keys could not be had.
fn cause(result: Result<Verified, WorkloadError>) -> Arc<KeysError> {
    match error(result) {
        WorkloadError::Keys { issuer, source } => {
            assert_eq!(issuer.as_str(), "ci");
            source
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_are_fetched_once_while_they_are_fresh() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    for (passed, fetches) in [(0, 1), (0, 1), (FRESH - 1, 1), (1, 2), (FRESH - 1, 2), (1, 3)] {
        world.pass(passed);
        world.verify(&world.token(&key)).await.unwrap();
        assert_eq!(world.fetches(), fetches);
    }
    // A clock that was set back makes nothing fresh.
    world.pass(-1);
    world.verify(&world.token(&key)).await.unwrap();
    assert_eq!(world.fetches(), 4);
}

#[tokio::test]
async fn an_issuer_may_say_that_they_are_fresh_for_less() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[]).await;
    world.server.answer(KEYS, 200, &[("cache-control", "public, max-age=120")], &issuer::key_set(&[&key]));
    for (passed, fetches) in [(0, 1), (119, 1), (1, 2)] {
        world.pass(passed);
        world.verify(&world.token(&key)).await.unwrap();
        assert_eq!(world.fetches(), fetches);
    }
}

#[tokio::test]
async fn keys_are_found_by_the_discovery_document() {
    const DOCUMENT: &str = "/tenant/.well-known/openid-configuration";
    let key = Key::new("1", "EdDSA");
    for slash in ["", "/"] {
        let world = World::new(&[&key]).await;
        let url = format!("{}{slash}", world.url);
        let found = workloads(vec![trust("ci", &url, KeySource::Discovered)], &world.clock);
        let keys = format!("{}{KEYS}", world.server.url());
        let token = key.sign(&claims(&url, world.now()));

        let other = json!({"issuer": "https://other.example", "jwks_uri": keys});
        world.server.answer(DOCUMENT, 200, &[], &other.to_string());
        assert!(matches!(*cause(found.verify(&token).await), KeysError::OtherIssuer(_)));
        assert_eq!(world.fetches(), 0);

        world.server.answer(DOCUMENT, 200, &[], &json!({"issuer": url, "jwks_uri": keys}).to_string());
        world.pass(1);
        found.verify(&token).await.unwrap();
        found.verify(&token).await.unwrap();
        assert_eq!((world.server.asked(DOCUMENT), world.fetches()), (2, 1));
    }
}

#[tokio::test]
async fn a_new_key_counts_at_once_and_an_old_one_no_more() {
    let (old, new) = (Key::new("1", "ES256"), Key::new("2", "ES256"));
    let world = World::new(&[&old]).await;
    let before = world.verify(&world.token(&old)).await.unwrap();
    assert!(world.workloads.still_trusts(&before));

    // Both for a while.
    world.publish(&[&old, &new]);
    let after = world.verify(&world.token(&new)).await.unwrap();
    assert_eq!(world.fetches(), 2);
    assert!(world.workloads.still_trusts(&before) && world.workloads.still_trusts(&after));

    world.publish(&[&new]);
    world.pass(FRESH - 1);
    assert!(world.workloads.still_trusts(&before));
    world.pass(1);
    assert!(!world.workloads.still_trusts(&before) && !world.workloads.still_trusts(&after), "not fresh");
    world.verify(&world.token(&new)).await.unwrap();
    assert!(!world.workloads.still_trusts(&before) && world.workloads.still_trusts(&after));
    assert!(matches!(error(world.verify(&world.token(&old)).await), WorkloadError::UnknownKey));
}

#[tokio::test]
async fn a_key_of_the_same_id_is_another_key() {
    let (old, new) = (Key::new("1", "ES256"), Key::new("1", "ES256"));
    let world = World::new(&[&old]).await;
    let before = world.verify(&world.token(&old)).await.unwrap();
    world.publish(&[&new]);
    world.pass(FRESH);
    let after = world.verify(&world.token(&new)).await.unwrap();
    assert!(!world.workloads.still_trusts(&before) && world.workloads.still_trusts(&after));
    assert!(matches!(error(world.verify(&world.token(&old)).await), WorkloadError::Signature));
}

#[tokio::test]
async fn a_lone_key_without_an_id_can_be_replaced() {
    let (old, new) = (Key::new("", "ES256").without_id(), Key::new("", "ES256").without_id());
    let world = World::new(&[&old]).await;
    world.verify(&world.token(&old)).await.unwrap();
    world.publish(&[&new]);
    world.verify(&world.token(&new)).await.unwrap();
    assert_eq!(world.fetches(), 2);
    assert!(matches!(error(world.verify(&world.token(&old)).await), WorkloadError::Signature));
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn an_issuer_that_takes_all_keys_back_signs_nothing() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let verified = world.verify(&world.token(&key)).await.unwrap();
    world.publish(&[]);
    world.pass(FRESH);
    assert!(matches!(error(world.verify(&world.token(&key)).await), WorkloadError::UnknownKey));
    assert!(!world.workloads.still_trusts(&verified));
}

#[tokio::test]
async fn invented_keys_are_no_flood_for_the_issuer() {
    let (key, stranger) = (Key::new("1", "EdDSA"), Key::new("1", "EdDSA"));
    let world = World::new(&[&key]).await;
    let flood = async |count: usize| {
        let tokens = (0..count).map(|id| {
            let header = json!({"alg": "EdDSA", "kid": format!("invented-{id}")});
            stranger.sign_with(&header, &claims(&world.url, world.now()).to_string())
        });
        let tasks: Vec<_> = tokens
            .map(|token| {
                let workloads = world.workloads.clone();
                tokio::spawn(async move { workloads.verify(&token).await })
            })
            .collect();
        for task in tasks {
            assert!(matches!(error(task.await.unwrap()), WorkloadError::UnknownKey));
        }
    };
    // The first fetch is new enough for all who waited for it.
    flood(50).await;
    assert_eq!(world.fetches(), 1);
    flood(50).await;
    assert_eq!(world.fetches(), 2);
    world.pass(9);
    flood(50).await;
    assert_eq!(world.fetches(), 2);
    world.pass(1);
    flood(50).await;
    flood(50).await;
    assert_eq!(world.fetches(), 3);
    world.verify(&world.token(&key)).await.unwrap();
    // Nor while it is down.
    world.server.set_down(true);
    world.pass(10);
    flood(50).await;
    flood(50).await;
    assert_eq!(world.fetches(), 4);
}

#[tokio::test]
async fn a_key_is_seen_by_who_asked_before_another_found_it() {
    let (old, new) = (Key::new("1", "EdDSA"), Key::new("2", "EdDSA"));
    let world = World::new(&[&old]).await;
    world.verify(&world.token(&old)).await.unwrap();
    world.publish(&[&old, &new]);
    let token = world.token(&new);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (workloads, token) = (world.workloads.clone(), token.clone());
            tokio::spawn(async move { workloads.verify(&token).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn an_outage_is_bridged_for_a_day() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let verified = world.verify(&world.token(&key)).await.unwrap();
    world.server.set_down(true);
    world.pass(FRESH);
    for (passed, fetches) in [(0, 2), (0, 2), (9, 2), (1, 3), (5, 3), (5, 4)] {
        world.pass(passed);
        world.verify(&world.token(&key)).await.unwrap();
        assert_eq!(world.fetches(), fetches);
    }
    assert!(!world.workloads.still_trusts(&verified), "each token is checked anew meanwhile");
    let to_a_day = DAY - world.now().duration_since(begin()).as_secs();
    world.pass(to_a_day);
    world.verify(&world.token(&key)).await.unwrap();
    world.pass(1);
    assert!(matches!(*cause(world.verify(&world.token(&key)).await), KeysError::Request(_)));
    // What is known of nobody is asked for more often.
    let fetches = world.fetches();
    cause(world.verify(&world.token(&key)).await);
    assert_eq!(world.fetches(), fetches);
    world.server.set_down(false);
    world.pass(1);
    world.verify(&world.token(&key)).await.unwrap();
    assert_eq!(world.fetches(), fetches + 1);
}

#[tokio::test]
async fn an_outage_is_over_when_the_issuer_answers() {
    let (old, new) = (Key::new("1", "EdDSA"), Key::new("2", "EdDSA"));
    let world = World::new(&[&old]).await;
    world.verify(&world.token(&old)).await.unwrap();
    world.server.set_down(true);
    world.pass(FRESH);
    world.verify(&world.token(&old)).await.unwrap();
    world.server.set_down(false);
    world.publish(&[&new]);
    world.pass(10);
    world.verify(&world.token(&new)).await.unwrap();
    assert!(matches!(error(world.verify(&world.token(&old)).await), WorkloadError::UnknownKey));
}

#[tokio::test]
async fn bad_answers_are_an_outage() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let good = issuer::key_set(&[&key]);
    let padded = |length: usize| format!("{}{}", good, " ".repeat(length - good.len()));
    let limit = 1024 * 1024;
    world.server.answer(KEYS, 200, &[], &padded(limit));
    world.verify(&world.token(&key)).await.unwrap();
    let answers: [(u16, String, fn(&KeysError) -> bool); 6] = [
        (200, padded(limit + 1), |error| matches!(error, KeysError::TooLarge)),
        (200, "<html>".to_owned(), |error| matches!(error, KeysError::KeySet(_))),
        (200, r#"{"error": "later"}"#.to_owned(), |error| matches!(error, KeysError::KeySet(_))),
        (500, good.clone(), |error| matches!(error, KeysError::Status { status, .. } if *status == 500)),
        (404, good.clone(), |error| matches!(error, KeysError::Status { status, .. } if *status == 404)),
        (204, String::new(), |error| matches!(error, KeysError::Status { status, .. } if *status == 204)),
    ];
    for (status, body, is_expected) in answers {
        world.server.answer(KEYS, status, &[], &body);
        world.pass(FRESH);
        world.verify(&world.token(&key)).await.unwrap();
        // And for who knows no keys yet.
        let source = KeySource::Url(format!("{}{KEYS}", world.server.url()).parse().unwrap());
        let fresh = workloads(vec![trust("ci", &world.url, source)], &world.clock);
        let failure = cause(fresh.verify(&world.token(&key)).await);
        assert!(is_expected(&failure), "{failure:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let key = Key::new("1", "EdDSA");
    let (world, elsewhere) = (World::new(&[&key]).await, Server::start().await);
    elsewhere.answer("/stolen", 200, &[], &issuer::key_set(&[&key]));
    let target = format!("{}/stolen", elsewhere.url());
    let source = || KeySource::Url(format!("{}{KEYS}", world.server.url()).parse().unwrap());
    for status in [301, 302, 307, 308] {
        world.server.answer(KEYS, status, &[("location", &target)], "");
        let fresh = workloads(vec![trust("ci", &world.url, source())], &world.clock);
        assert!(matches!(*cause(fresh.verify(&world.token(&key)).await), KeysError::Status { .. }));
        assert_eq!(elsewhere.asked("/stolen"), 0);
        // A client that follows them all the same changes nothing.
        let issuers = vec![trust("ci", &world.url, source())];
        let follows = Workloads::new(issuers, client(Policy::limited(5)), Arc::new(world.clock.clone()));
        assert!(matches!(*cause(follows.verify(&world.token(&key)).await), KeysError::Redirected { .. }));
        assert_eq!(elsewhere.asked("/stolen"), 1);
        elsewhere.forget();
    }
}

#[tokio::test]
async fn all_who_wait_share_one_fetch() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    world.server.set_open(false);
    let token = world.token(&key);
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (workloads, token) = (world.workloads.clone(), token.clone());
            tokio::spawn(async move { workloads.verify(&token).await })
        })
        .collect();
    world.server.is_asked(KEYS, 1).await;
    world.server.set_open(true);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn who_hangs_up_ends_the_fetch_for_nobody() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    world.server.set_open(false);
    let wait = || {
        let (workloads, token) = (world.workloads.clone(), world.token(&key));
        tokio::spawn(async move { workloads.verify(&token).await })
    };
    let first = wait();
    world.server.is_asked(KEYS, 1).await;
    let second = wait();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.server.set_open(true);
    second.await.unwrap().unwrap();
    assert_eq!(world.fetches(), 1);

    // Nor does it matter when nobody is left.
    world.server.set_open(false);
    world.pass(FRESH);
    let third = wait();
    world.server.is_asked(KEYS, 2).await;
    third.abort();
    assert!(third.await.unwrap_err().is_cancelled());
    world.server.set_open(true);
    world.verify(&world.token(&key)).await.unwrap();
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn an_issuer_that_says_nothing_is_not_waited_for() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    world.server.set_open(false);
    let began = Instant::now();
    assert!(matches!(*cause(world.verify(&world.token(&key)).await), KeysError::TimedOut));
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(20), "{took:?}");
    world.server.set_open(true);
    world.pass(1);
    world.verify(&world.token(&key)).await.unwrap();
}

/// Counts what is logged as a warning or worse.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("granary_identity") && *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn an_outage_is_logged_once_a_minute() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    world.verify(&world.token(&key)).await.unwrap();
    world.server.set_down(true);
    world.pass(FRESH);
    assert_eq!(warnings.0.load(Ordering::Relaxed), 0);
    for _ in 0..18 {
        world.verify(&world.token(&key)).await.unwrap();
        world.pass(10);
    }
    assert_eq!((world.fetches(), warnings.0.load(Ordering::Relaxed)), (19, 3));
}
