//! The limits on wrong credentials.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use granary_crds::Logins;
use granary_identity::{AttemptError, Attempts};

use crate::support::Tables;

const MINUTE: Duration = Duration::from_mins(1);

fn limits(failures_per_user: u32, failures_per_address: u32) -> Logins {
    Logins { failures_per_user, failures_per_address, within: 5 * MINUTE }
}

async fn attempts(tables: &Tables, limits: Logins) -> Attempts {
    Attempts::new(&tables.store().await, limits)
}

#[expect(clippy::unnecessary_wraps, reason = "what is asked with")]
fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn ours() -> Option<IpAddr> {
    address("192.0.2.7")
}

/// For how long this one is locked out; nothing when admitted.
async fn pause(attempts: &Attempts, user: Option<&str>, address: Option<IpAddr>) -> Option<Duration> {
    match attempts.admit(user, address).await {
        Ok(()) => None,
        Err(AttemptError::LockedOut { retry_after }) => Some(retry_after),
        Err(AttemptError::Database(error)) => panic!("{error:?}"),
    }
}

async fn fail(attempts: &Attempts, times: usize, user: Option<&str>, address: Option<IpAddr>) {
    for _ in 0..times {
        attempts.failed(user, address).await.unwrap();
    }
}

fn set(tables: &Tables, time: &str) {
    tables.clock.set(format!("2026-03-01T{time}Z").parse().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_all_pods_together_until_the_window_ends() {
    let tables = Tables::start().await;
    let (one, two) = (attempts(&tables, limits(4, 100)).await, attempts(&tables, limits(4, 100)).await);
    fail(&one, 2, Some("ada"), ours()).await;
    set(&tables, "12:01:30");
    fail(&two, 1, Some("ada"), ours()).await;
    assert_eq!(pause(&one, Some("ada"), ours()).await, None);
    fail(&two, 1, Some("ada"), ours()).await;
    for pod in [&one, &two] {
        let expected = Some(Duration::from_secs(210));
        assert_eq!(pause(pod, Some("ada"), ours()).await, expected, "five minutes from the first on");
    }
    for (user, address) in [
        (Some("ada"), address("198.51.100.1")),
        (Some("bob"), ours()),
        (Some("Ada"), ours()),
        (None, ours()),
        (Some("ada"), None),
    ] {
        assert_eq!(pause(&one, user, address).await, None, "{user:?} at {address:?} is somebody else");
    }
    // More failures prolong nothing.
    set(&tables, "12:04:59.500");
    fail(&two, 9, Some("ada"), ours()).await;
    assert_eq!(pause(&one, Some("ada"), ours()).await, Some(Duration::from_secs(1)));
    set(&tables, "12:05:00");
    assert_eq!(pause(&one, Some("ada"), ours()).await, None, "also where the lock-out is remembered");
    fail(&one, 3, Some("ada"), ours()).await;
    assert_eq!(pause(&two, Some("ada"), ours()).await, None, "it began anew");
    fail(&one, 1, Some("ada"), ours()).await;
    assert_eq!(pause(&two, Some("ada"), ours()).await, Some(5 * MINUTE));
    tables.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_locks_out_nobody_else() {
    let tables = Tables::start().await;
    let attempts = attempts(&tables, limits(3, 20)).await;
    let stranger = address("203.0.113.66");
    fail(&attempts, 50, Some("ada"), stranger).await;
    assert!(pause(&attempts, Some("ada"), stranger).await.is_some());
    assert_eq!(pause(&attempts, Some("ada"), ours()).await, None);
    // Name after name, until it is the address that is locked out: for all names, and for tokens.
    for n in 0..50 {
        fail(&attempts, 1, Some(&format!("user-{n}")), stranger).await;
    }
    for user in [Some("carl"), None] {
        assert!(pause(&attempts, user, stranger).await.is_some());
        assert_eq!(pause(&attempts, user, ours()).await, None);
    }
    // The addresses of a network are one.
    fail(&attempts, 20, None, address("2001:db8:1:2::1")).await;
    assert!(pause(&attempts, Some("ada"), address("2001:db8:1:2:3:4:5:6")).await.is_some());
    assert_eq!(pause(&attempts, Some("ada"), address("2001:db8:1:3::1")).await, None);
    // Without an address nobody can be told from anybody.
    fail(&attempts, 50, Some("ada"), None).await;
    assert_eq!(pause(&attempts, Some("ada"), None).await, None);
    tables.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_forgives_its_own_name_only() {
    let tables = Tables::start().await;
    let (one, two) = (attempts(&tables, limits(3, 6)).await, attempts(&tables, limits(3, 6)).await);
    fail(&one, 2, Some("ada"), ours()).await;
    two.succeeded("ada", ours()).await.unwrap();
    fail(&one, 2, Some("ada"), ours()).await;
    assert_eq!(pause(&one, Some("ada"), ours()).await, None, "two again, not four");
    // Five wrong passwords came from here. Who has an account of their own does not get more for it.
    two.succeeded("ada", ours()).await.unwrap();
    fail(&one, 1, Some("bob"), ours()).await;
    two.succeeded("ada", ours()).await.unwrap();
    assert_eq!(pause(&one, Some("carl"), ours()).await, None);
    fail(&one, 1, Some("bob"), ours()).await;
    assert!(pause(&one, Some("carl"), ours()).await.is_some());
    // One that was under way when its name was locked out.
    fail(&two, 3, Some("ada"), address("198.51.100.1")).await;
    assert!(pause(&two, Some("ada"), address("198.51.100.1")).await.is_some());
    two.succeeded("ada", address("198.51.100.1")).await.unwrap();
    assert_eq!(pause(&two, Some("ada"), address("198.51.100.1")).await, None);
    two.succeeded("ada", None).await.unwrap();
    tables.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_counted_when_they_come_at_once() {
    let tables = Tables::start().await;
    let pods = [attempts(&tables, limits(1000, 201)).await, attempts(&tables, limits(1000, 201)).await];
    let failures = (0..200).map(|n| {
        let pod = pods[n % 2].clone();
        tokio::spawn(async move { pod.failed(Some(["ada", "bob", "carl"][n % 3]), ours()).await })
    });
    for failed in join_all(failures.collect::<Vec<_>>()).await {
        failed.unwrap().unwrap();
    }
    let sum = "select sum(1000 - remaining) from failed_login where remaining > 201";
    assert_eq!(tables.number(sum).await, 200);
    assert_eq!(tables.number("select remaining::bigint from failed_login where remaining < 201").await, 1);
    assert_eq!(pause(&pods[0], Some("dora"), ours()).await, None);
    fail(&pods[0], 1, None, ours()).await;
    assert!(pause(&pods[1], Some("dora"), ours()).await.is_some());
    tables.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_writes_no_more_than_the_limits() {
    let tables = Tables::start().await;
    let pods = [attempts(&tables, limits(10, 25)).await, attempts(&tables, limits(10, 25)).await];
    let failures = (0..200).map(|n| {
        let pod = pods[n % 2].clone();
        tokio::spawn(async move { pod.failed(Some("ada"), ours()).await })
    });
    for failed in join_all(failures.collect::<Vec<_>>()).await {
        failed.unwrap().unwrap();
    }
    let row = "select count(*) from failed_login where remaining = 0";
    assert!(tables.number(row).await >= 1);
    assert!(pause(&pods[0], Some("ada"), ours()).await.is_some());
    assert!(pause(&pods[1], Some("ada"), ours()).await.is_some());
    // What is known needs no query: there is nothing left that could be asked.
    tables.run("alter table failed_login rename to away").await;
    for _ in 0..1000 {
        let pause = pause(&pods[1], Some("ada"), ours()).await;
        assert_eq!(pause, Some(5 * MINUTE));
    }
    fail(&pods[0], 1000, Some("ada"), ours()).await;
    assert!(matches!(
        pods[0].admit(Some("bob"), address("198.51.100.1")).await,
        Err(AttemptError::Database(_))
    ));
    tables.run("alter table away rename to failed_login").await;
    assert_eq!(tables.number("select count(*) from failed_login").await, 2);
    tables.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_do_not_stand_in_the_table_and_what_is_over_is_removed() {
    let tables = Tables::start().await;
    let attempts = attempts(&tables, limits(3, 100)).await;
    fail(&attempts, 1, Some("my secret password"), ours()).await;
    let rows = tables.client.query("select f::text, counted from failed_login f", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert!(!row.get::<_, String>(0).contains("secret"));
        let plain = granary_core::Sha256::of(b"my secret password");
        assert_ne!(row.get::<_, &[u8]>(1), plain.as_bytes());
    }
    set(&tables, "12:03:00");
    fail(&attempts, 1, None, address("198.51.100.1")).await;
    tables
        .run(
            "insert into failed_login select sha256(n::text::bytea), timestamptz '2026-03-01T12:00:00Z', 1 \
             from generate_series(1, 12000) as n",
        )
        .await;
    set(&tables, "12:05:00");
    assert_eq!(attempts.prune().await.unwrap(), 12_002);
    assert_eq!(attempts.prune().await.unwrap(), 0);
    assert_eq!(tables.number("select count(*) from failed_login").await, 1, "that of the open window");
    tables.stop().await;
}
