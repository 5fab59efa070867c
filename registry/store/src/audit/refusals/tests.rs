#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn entry(actor: &str, package: &str) -> AuditEntry {
    AuditEntry {
        actor: actor.to_owned(),
        credential: "password".to_owned(),
        address: Some("192.0.2.7".to_owned()),
        action: "publish",
        channel: Some("pypi/dev".to_owned()),
        package: Some(package.to_owned()),
        detail: json!({}),
        outcome: "refused",
        request_id: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn total(rows: &[(Sha256, Refused)]) -> i32 {
    rows.iter().map(|(_, refused)| refused.times).sum()
}

#[test]
fn equal_refusals_of_a_minute_are_one_row() {
    let mut held = Held::default();
    assert!(held.note(entry("ada", "x"), at(60)));
    assert!(!held.note(entry("ada", "x"), at(119)));
    assert_eq!(total(&held.take_new()), 2);
    assert!(held.take_new().is_empty());
    assert!(!held.note(entry("ada", "x"), at(119)));
    assert!(held.take_new().is_empty(), "it waits for the flush");
    assert!(held.note(entry("ada", "x"), at(120)), "another minute");
    let different = [
        AuditEntry { actor: "bob".to_owned(), ..entry("ada", "x") },
        AuditEntry { credential: "none".to_owned(), ..entry("ada", "x") },
        AuditEntry { address: None, ..entry("ada", "x") },
        AuditEntry { address: Some(String::new()), ..entry("ada", "x") },
        AuditEntry { action: "read", ..entry("ada", "x") },
        AuditEntry { channel: None, ..entry("ada", "x") },
        AuditEntry { package: None, ..entry("ada", "x") },
    ];
    for other in different {
        assert!(held.note(other, at(119)));
    }
    assert_eq!(held.take().len(), 9);
    assert!(held.take().is_empty());
    held.forget_before(2);
    assert_eq!((held.refusals.len(), held.rows.len()), (1, 1), "that of the last minute");
}

#[test]
fn an_actor_gets_so_many_rows_and_one_more() {
    let mut held = Held::default();
    for n in 0..1000 {
        held.note(entry("eve", &format!("package-{n}")), at(0));
    }
    assert!(held.note(entry("ada", "package-999"), at(0)), "others get theirs");
    assert!(!held.note(entry("eve", "package-0"), at(0)), "which has its row");
    let rows = held.take();
    assert_eq!((rows.len(), total(&rows)), (102, 1002));
    let (_, together) = rows.iter().find(|(_, refused)| refused.entry.credential == SEVERAL).unwrap();
    assert_eq!((together.times, together.entry.actor.as_str()), (900, "eve"));
    assert_eq!((together.entry.action, &together.entry.package), ("publish", &None));
    assert!(held.note(entry("eve", "package-999"), at(60)), "in the next minute it begins anew");
}

#[test]
fn memory_is_bounded() {
    let mut held = Held::default();
    for n in 0..3 * MOST_HELD {
        held.note(entry(&format!("workload:ci:{n}"), "x"), at(0));
    }
    assert_eq!(held.refusals.len(), MOST_HELD);
    assert_eq!(held.rows.len(), MOST_APART);
    let mut batches = 0;
    while total(&held.take_new()) > 0 {
        batches += 1;
    }
    assert_eq!(batches, MOST_HELD / BATCH);
    assert_eq!(held.forget_before(1), 2 * MOST_HELD as u64);
    assert!(held.refusals.is_empty() && held.rows.is_empty());
}

#[test]
fn what_was_not_written_is_counted_again() {
    let refusals = Refusals::default();
    for _ in 0..3 {
        refusals.note(&entry("ada", "x"), at(0));
    }
    let taken = Taken { refusals: &refusals, rows: refusals.held().take_new() };
    refusals.note(&entry("ada", "x"), at(0));
    drop(taken);
    assert_eq!(refusals.held().forget_before(9), 0);
    assert_eq!(total(&refusals.held().take()), 4);
}
