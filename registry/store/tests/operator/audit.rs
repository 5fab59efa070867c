//! The audit: refusals counted, rows read by index, old rows removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use granary_core::{Clock, ManualClock};
use granary_store::{AuditEntry, AuditFilter, AuditOutcome, AuditPage, AuditRow, Store};
use jiff::Timestamp;
use serde_json::json;

use crate::support::{Buckets, TestDatabase, store};

/// Tables, with a clock that stands still.
struct Audit {
    database: TestDatabase,
    buckets: Buckets,
    clock: ManualClock,
    store: Store,
}

impl Audit {
    async fn start() -> Self {
        let database = TestDatabase::migrated().await;
        let buckets = Buckets::start().await;
        let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
        let store = store(&database.url, buckets.address, Arc::new(clock.clone())).await;
        Self { database, buckets, clock, store }
    }

    /// The same registry in another process.
    async fn another(&self) -> Store {
        store(&self.database.url, self.buckets.address, Arc::new(self.clock.clone())).await
    }

    async fn rows(&self) -> Vec<AuditRow> {
        self.store.audit_log(&AuditFilter::default(), newest(1000)).await.unwrap()
    }

    async fn times(&self) -> Vec<i32> {
        self.rows().await.iter().map(|row| row.times).collect()
    }
}

fn newest(limit: u16) -> AuditPage {
    AuditPage { before: None, limit }
}

fn entry(actor: &str, package: &str) -> AuditEntry {
    AuditEntry {
        actor: actor.to_owned(),
        credential: "token Q0MKd7uwZz".to_owned(),
        address: Some("192.0.2.7".to_owned()),
        action: "publish",
        channel: Some("pypi/dev".to_owned()),
        package: Some(package.to_owned()),
        detail: json!({}),
        outcome: "refused",
        request_id: Some("first-of-these".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_refusals_are_one_row_a_minute_whichever_pod_refuses() {
    let audit = Audit::start().await;
    let another = audit.another().await;
    audit.store.refused(&entry("ada", "x")).await.unwrap();
    let rows = audit.rows().await;
    assert_eq!(rows.len(), 1, "the first is there at once");
    let expected = AuditRow {
        id: rows[0].id,
        at: audit.clock.now(),
        actor: "ada".to_owned(),
        credential: "token Q0MKd7uwZz".to_owned(),
        address: Some("192.0.2.7".to_owned()),
        action: "publish".to_owned(),
        channel: Some("pypi/dev".to_owned()),
        package: Some("x".to_owned()),
        outcome: "refused".to_owned(),
        times: 1,
        request_id: Some("first-of-these".to_owned()),
        detail: json!({}),
    };
    assert_eq!(rows[0], expected);
    for _ in 0..49 {
        audit.store.refused(&entry("ada", "x")).await.unwrap();
        another.refused(&AuditEntry { request_id: None, ..entry("ada", "x") }).await.unwrap();
    }
    assert_eq!(audit.times().await, [2], "one of each pod");
    audit.store.flush_refusals().await.unwrap();
    another.flush_refusals().await.unwrap();
    audit.store.flush_refusals().await.unwrap();
    assert_eq!(audit.rows().await, [AuditRow { times: 99, ..expected }]);

    audit.clock.set("2026-03-01T12:01:00Z".parse().unwrap());
    another.refused(&entry("ada", "x")).await.unwrap();
    another.refused(&entry("ada", "y")).await.unwrap();
    assert_eq!(audit.times().await, [1, 1, 99]);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_lost_when_all_come_at_once() {
    let audit = Audit::start().await;
    let pods = [audit.store.clone(), audit.another().await, audit.another().await];
    let refused = (0..600).map(|n| {
        let (pod, entry) = (pods[n % 3].clone(), entry("ada", ["x", "y"][n % 2]));
        tokio::spawn(async move { pod.refused(&entry).await })
    });
    for result in join_all(refused.collect::<Vec<_>>()).await {
        result.unwrap().unwrap();
    }
    assert_eq!(audit.rows().await.len(), 2);
    let flushes = pods.iter().flat_map(|pod| [pod.flush_refusals(), pod.flush_refusals()]);
    assert!(join_all(flushes).await.into_iter().all(|flushed| flushed.is_ok()));
    assert_eq!(audit.times().await, [300, 300]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_different_ones_is_few_rows() {
    let audit = Audit::start().await;
    let names: Vec<String> = (0..1000).map(|n| format!("package-{n}")).collect();
    join_all(names.iter().map(async |name| audit.store.refused(&entry("eve", name)).await.unwrap())).await;
    audit.store.flush_refusals().await.unwrap();
    let rows = audit.rows().await;
    assert_eq!(rows.len(), 101);
    assert_eq!(rows.iter().map(|row| row.times).sum::<i32>(), 1000);
    let together = rows.iter().find(|row| row.credential == "several").unwrap();
    assert_eq!((together.times, &together.package, &together.channel), (900, &None, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_written_later() {
    let audit = Audit::start().await;
    audit.database.run("alter table audit rename to away").await;
    for _ in 0..3 {
        let _ = audit.store.refused(&entry("ada", "x")).await;
    }
    assert!(audit.store.refused(&entry("ada", "y")).await.is_err());
    assert!(audit.store.flush_refusals().await.is_err());
    // Minutes pass; the rows still tell when it was.
    let then = audit.clock.now();
    audit.clock.set("2026-03-01T12:30:00Z".parse().unwrap());
    assert!(audit.store.flush_refusals().await.is_err());
    audit.database.run("alter table away rename to audit").await;
    audit.store.flush_refusals().await.unwrap();
    let mut rows = audit.rows().await;
    rows.sort_by_key(|row| row.times);
    assert_eq!(rows.iter().map(|row| (row.times, row.at)).collect::<Vec<_>>(), [(1, then), (3, then)]);
    audit.store.flush_refusals().await.unwrap();
    assert_eq!(audit.rows().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_is_written_by_the_flush() {
    let audit = Audit::start().await;
    audit.database.run("begin; lock table audit in access exclusive mode").await;
    let short = Duration::from_millis(100);
    let dropped = tokio::time::timeout(short, audit.store.refused(&entry("ada", "x"))).await;
    assert!(dropped.is_err(), "it waits for the lock");
    audit.database.run("commit").await;
    audit.store.flush_refusals().await.unwrap();
    let times = audit.times().await;
    // The statement that was under way may have come through as well.
    assert!(times == [1] || times == [2], "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_hold_keeps_nothing_back() {
    let audit = Audit::start().await;
    audit.store.refused(&entry("workload:ci:re\0po", "x")).await.unwrap();
    audit.store.refused(&entry(&"long".repeat(10_000), "x")).await.unwrap();
    let rows = audit.rows().await;
    assert_eq!(rows[1].actor, "workload:ci:re\u{fffd}po");
    let filter = AuditFilter { actor: Some("long".repeat(10_000)), ..AuditFilter::default() };
    assert_eq!(audit.store.audit_log(&filter, newest(9)).await.unwrap(), [rows[0].clone()]);
    for actor in ["long".repeat(9_999), "long".repeat(32), "long".repeat(31)] {
        let filter = AuditFilter { actor: Some(actor), ..AuditFilter::default() };
        assert!(audit.store.audit_log(&filter, newest(9)).await.unwrap().is_empty());
    }
}

/// A minute apart each, the last at `END`: 200 actors, 50 channels, 5000 packages, every thousandth refused.
const HISTORY: &str = "insert into audit (at, actor, credential, action, channel, package, outcome) \
    select timestamptz '2026-03-01T12:00:00Z' - (100000 - n) * interval '1 minute', 'user-' || n % 200, 'password', \
    case when n % 3 = 0 then 'yank' else 'publish' end, 'pypi/c' || n % 50, 'p' || n % 5000, \
    case when n % 1000 = 1 then 'refused' else 'done' end from generate_series(1, 100000) as n";

impl Audit {
    async fn with_history() -> Self {
        let audit = Self::start().await;
        audit.database.run(HISTORY).await;
        audit.database.run("analyze audit").await;
        audit
    }

    /// How many entries of each index the page took, and how often the whole table was read. A process of its own asks,
    /// since Postgres counts at the latest when a connection ends.
    async fn cost(&self, filter: &AuditFilter, page: AuditPage) -> (Vec<AuditRow>, BTreeMap<String, i64>) {
        self.database.run("select pg_stat_reset()").await;
        let asking = self.another().await;
        let rows = asking.audit_log(filter, page).await.unwrap();
        drop(asking);
        let others = "select count(*) from pg_stat_activity where datname = current_database() \
                      and backend_type = 'client backend' and pid <> pg_backend_pid()";
        // Who stays connected has counted after a second, too.
        for _ in 0..200 {
            if self.database.row(others).await.get::<_, i64>(0) == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let indexes = "select indexrelname::text, idx_tup_read from pg_stat_user_indexes where idx_scan > 0 \
                       and relname = 'audit' union all \
                       select 'whole table', seq_scan from pg_stat_user_tables where relname = 'audit' and seq_scan > 0";
        let cost = self.database.client.query(indexes, &[]).await.unwrap();
        (rows, cost.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_usual_question_reads_the_whole_table() {
    let audit = Audit::with_history().await;
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let all = AuditFilter::default();
    let text = |text: &str| Some(text.to_owned());
    let of_channel = AuditFilter { channel: text("pypi/c7"), ..all.clone() };
    let cases = [
        (all.clone(), 100, "audit_pkey", 100),
        (AuditFilter { actor: text("user-7"), ..all.clone() }, 100, "audit_by_actor", 100),
        (AuditFilter { actor: text("nobody"), ..all.clone() }, 0, "audit_by_actor", 0),
        (of_channel.clone(), 100, "audit_by_channel", 100),
        (AuditFilter { channel: text("pypi/none"), ..all.clone() }, 0, "audit_by_channel", 0),
        (AuditFilter { package: text("p7"), ..all.clone() }, 20, "audit_by_package", 20),
        (AuditFilter { package: text("p7"), ..of_channel.clone() }, 20, "audit_by_package", 20),
        (AuditFilter { action: text("yank"), ..of_channel.clone() }, 100, "audit_by_channel", 400),
        (AuditFilter { outcome: Some(AuditOutcome::Refused), ..all.clone() }, 100, "audit_refused", 100),
        (AuditFilter { since: time("2026-03-01T11:00:00Z"), ..all.clone() }, 61, "audit_by_time", 100),
    ];
    for (filter, count, index, most) in cases {
        let (rows, cost) = audit.cost(&filter, newest(100)).await;
        assert_eq!(rows.len(), count, "{filter:?}");
        assert_eq!(cost.keys().collect::<Vec<_>>(), [index], "{filter:?}");
        assert!(cost[index] <= most, "{filter:?} took {cost:?}");
    }
    // The hundredth page costs what the first does.
    let before = audit.rows().await.last().unwrap().id - 50_000;
    let (rows, cost) = audit.cost(&of_channel, AuditPage { before: Some(before), limit: 100 }).await;
    assert_eq!((rows.len(), cost), (100, BTreeMap::from([("audit_by_channel".to_owned(), 100)])));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_filters_narrow() {
    let audit = Audit::with_history().await;
    let filter = AuditFilter {
        since: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        until: Some("2026-03-01T12:00:00Z".parse().unwrap()),
        ..AuditFilter::default()
    };
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let rows = audit.store.audit_log(&filter, AuditPage { before, limit: 100 }).await.unwrap();
        let Some(last) = rows.last() else { break };
        assert!(rows.len() <= 100);
        before = Some(last.id);
        seen.extend(rows);
    }
    assert_eq!(seen.len(), 720);
    assert!(seen.windows(2).all(|pair| pair[0].id > pair[1].id && pair[0].at > pair[1].at));
    assert_eq!(seen[0].at, "2026-03-01T11:59:00Z".parse::<Timestamp>().unwrap());

    let narrow = AuditFilter {
        actor: Some("user-101".to_owned()),
        channel: Some("pypi/c1".to_owned()),
        package: Some("p4501".to_owned()),
        action: Some("publish".to_owned()),
        outcome: Some(AuditOutcome::Done),
        ..AuditFilter::default()
    };
    let rows = audit.store.audit_log(&narrow, newest(u16::MAX)).await.unwrap();
    assert!(rows.iter().all(|row| row.actor == "user-101" && row.package.as_deref() == Some("p4501")));
    assert!(rows.iter().all(|row| row.action == "publish" && row.outcome == "done" && row.times == 1));
    assert_eq!(rows.len(), 13);
    assert_eq!(audit.store.audit_log(&AuditFilter::default(), newest(u16::MAX)).await.unwrap().len(), 1000);
    assert!(audit.store.audit_log(&narrow, newest(0)).await.unwrap().is_empty());
    let long_ago = AuditFilter { until: Some(Timestamp::MIN), ..AuditFilter::default() };
    assert!(audit.store.audit_log(&long_ago, newest(9)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_in_pieces() {
    let audit = Audit::with_history().await;
    let count = async || audit.database.row("select count(*) from audit").await.get::<_, i64>(0);
    let (now, day) = (audit.clock.now(), Duration::from_hours(24));
    // One that is in the way of the third batch: what was done before stays done when the call is dropped.
    audit.database.run("begin; select 1 from audit where id = 12345 for update").await;
    let pruning = tokio::spawn({
        let store = audit.store.clone();
        async move { store.prune_audit(10 * day, now).await }
    });
    while count().await > 100_000 - 10_000 {
        assert!(!pruning.is_finished());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pruning.abort();
    assert!(pruning.await.unwrap_err().is_cancelled());
    assert_eq!(count().await, 100_000 - 10_000);
    audit.database.run("commit").await;
    // The statement that was broken off may still come through, and the next call find nothing of its batch.
    let kept = 10 * 24 * 60 + 1;
    while count().await > kept {
        audit.store.prune_audit(10 * day, now).await.unwrap();
    }
    assert_eq!(count().await, kept);
    assert_eq!(audit.store.prune_audit(10 * day, now).await.unwrap(), 0);
    assert_eq!(audit.store.prune_audit(Duration::MAX, now).await.unwrap(), 0, "for ever");
    assert_eq!(audit.store.prune_audit(Duration::ZERO, now).await.unwrap(), 14_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_old_days_go() {
    let audit = Audit::start().await;
    audit
        .database
        .run(
            "insert into channel (format, name, bucket, settings, origin, state) \
             values ('pypi', 'dev', 'b', '{}', 'api', 'active'); \
             insert into usage_day (channel_id, package, file, day, downloads) \
             select c.id, 'p', 'f' || n % 100, date '2026-03-01' - n / 100, 1 \
             from channel c, generate_series(0, 11999) as n",
        )
        .await;
    let oldest = jiff::civil::date(2026, 2, 1);
    assert_eq!(audit.store.prune_usage_days(oldest).await.unwrap(), 12_000 - 29 * 100);
    assert_eq!(audit.store.prune_usage_days(oldest).await.unwrap(), 0);
    let row = audit.database.row("select min(day)::text, count(*) from usage_day").await;
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), ("2026-02-01".to_owned(), 2900));
}
