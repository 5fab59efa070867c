#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(
    clippy::type_complexity,
    clippy::format_collect,
    clippy::cast_precision_loss,
    reason = "tables of cases"
)]

mod cache;
mod files;
mod issuer;
mod mutations;
mod rules;
mod server;

use std::sync::Arc;

use granary_core::ManualClock;
use granary_crds::{Issuer, KeySource};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Verified, WorkloadError, Workloads};
use issuer::Key;
use server::Server;

const AUDIENCE: &str = "granary";
const SUBJECT: &str = "system:serviceaccount:team-a:publisher";
/// The time at which all tests begin.
const BEGIN: i64 = 1_800_000_000;

fn begin() -> Timestamp {
    Timestamp::from_second(BEGIN).unwrap()
}

fn trust(name: &str, url: &str, keys: KeySource) -> Issuer {
    Issuer { name: name.parse().unwrap(), url: url.to_owned(), audiences: vec![AUDIENCE.to_owned()], keys }
}

fn client(policy: reqwest::redirect::Policy) -> reqwest::Client {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().redirect(policy).no_proxy().build().unwrap()
}

fn workloads(issuers: Vec<Issuer>, clock: &ManualClock) -> Workloads {
    Workloads::new(issuers, client(reqwest::redirect::Policy::none()), Arc::new(clock.clone()))
}

/// What a good token says, made now and good for an hour.
fn claims(issuer: &str, now: Timestamp) -> Value {
    let now = now.as_second();
    json!({"iss": issuer, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + 3600, "jti": "1"})
}

/// An issuer at a URL of this process, and a registry that trusts it.
struct World {
    clock: ManualClock,
    server: Server,
    url: String,
    workloads: Workloads,
}

const KEYS: &str = "/keys";

impl World {
    async fn new(keys: &[&Key]) -> Self {
        let server = Server::start().await;
        let clock = ManualClock::new(begin());
        let url = format!("{}/tenant", server.url());
        let source = KeySource::Url(format!("{}{KEYS}", server.url()).parse().unwrap());
        let workloads = workloads(vec![trust("ci", &url, source)], &clock);
        let world = Self { clock, server, url, workloads };
        world.publish(keys);
        world
    }

    /// Makes these the issuer's keys.
    fn publish(&self, keys: &[&Key]) {
        self.server.answer(KEYS, 200, &[], &issuer::key_set(keys));
    }

    fn now(&self) -> Timestamp {
        granary_core::Clock::now(&self.clock)
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.now() + SignedDuration::from_secs(seconds));
    }

    /// A token of now.
    fn token(&self, key: &Key) -> String {
        key.sign(&claims(&self.url, self.now()))
    }

    async fn verify(&self, token: &str) -> Result<Verified, WorkloadError> {
        self.workloads.verify(token).await
    }

    fn fetches(&self) -> usize {
        self.server.asked(KEYS)
    }
}

#[test]
fn audiences_are_told_once_and_in_order() {
    let mut first = trust("a", "https://a.example", KeySource::Discovered);
    first.audiences = vec!["z".to_owned(), "a".to_owned()];
    let mut second = trust("b", "https://b.example", KeySource::Discovered);
    second.audiences = vec!["a".to_owned(), "m".to_owned(), "z".to_owned()];
    let clock = ManualClock::new(begin());
    let both = workloads(vec![first, second], &clock);
    assert_eq!(both.audiences().collect::<Vec<_>>(), ["z", "a", "m"]);
    assert!(!both.is_empty());
    let none = workloads(vec![], &clock);
    assert!(none.is_empty());
    assert_eq!(none.audiences().count(), 0);
}
