//! Index documents that are too large to be held: over a real database, by several processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt};
use granary_core::Clock;
use granary_http::index::IndexKey;
use granary_http::stored_index::{StoredDocument, StoredIndex};
use granary_splice::SEPARATOR;
use granary_splice::outline::Form;
use support::{Names, Place};

/// What a client gets.
async fn sent(index: &StoredIndex, document: &StoredDocument, form: Form) -> Vec<u8> {
    let body = index.body(document, form, 0..document.len(form));
    body.map(|chunk| chunk.map(Vec::from)).try_concat().await.unwrap()
}

/// The text without the separators, which hold white space alone.
fn text(plain: &[u8]) -> String {
    String::from_utf8(plain.to_vec()).unwrap().replace(std::str::from_utf8(SEPARATOR).unwrap(), "")
}

/// The document as this process tells it, in both forms.
async fn read(place: &Place, index: &StoredIndex, names: &Names<'_>) -> (StoredDocument, String) {
    place.refresh(index).await;
    let document = index.document(&key(place), names).await.unwrap();
    let (plain, zstd) = (sent(index, &document, Form::Plain).await, sent(index, &document, Form::Zstd).await);
    assert_eq!(zstd::stream::decode_all(zstd.as_slice()).unwrap(), plain);
    (document, text(&plain))
}

fn key(place: &Place) -> IndexKey {
    IndexKey { scope: place.scope, document: "name:".into(), representation: "".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_document_is_held_and_costs_what_changed() {
    let place = Place::new().await;
    let index = place.process().await;
    let names = place.names(0);
    assert!(read(&place, &index, &names).await.0.is_empty());
    place.publish(&["b", "a", "c"]).await;
    let (document, all) = read(&place, &index, &names).await;
    assert_eq!(all, "[a,b,c]");
    assert!(!document.is_empty());
    place.remove(&["b"]).await;
    let (next, all) = read(&place, &index, &names).await;
    assert_eq!(all, "[a,c]");
    assert_ne!(document.etag(Form::Zstd), next.etag(Form::Zstd));
    assert_eq!(place.number("select count(*) from document_part").await, 0);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_is_the_same_on_every_process_and_read_once() {
    let place = Place::new().await;
    let (one, other) = (place.process().await, place.process().await);
    // About 10 MB of text.
    let names = place.names(1000);
    let all: Vec<String> = (0..10_000).map(|number| format!("package-{number:05}")).collect();
    place.publish(&all).await;
    let (document, whole) = read(&place, &one, &names).await;
    assert_eq!(names.read.swap(0, Ordering::Relaxed), all.len());
    assert!(place.number("select count(*) from document_part").await > 10);
    place.checkpoint_saved().await;

    // Who begins now reads none of it, and has the same bytes.
    let (same, text) = read(&place, &other, &names).await;
    assert_eq!((same.etag(Form::Zstd), text == whole), (document.etag(Form::Zstd), true));
    assert_eq!(names.read.load(Ordering::Relaxed), 0);

    // A change costs the range that it falls in, on whichever process; also on one that begins after it.
    place.publish(&["package-05000x"]).await;
    place.remove(&["package-00000", "package-07777"]).await;
    let third = place.process().await;
    for index in [&one, &other, &third] {
        let (changed, text) = read(&place, index, &names).await;
        assert_eq!(text, place.expected(1000));
        assert_ne!(changed.etag(Form::Plain), document.etag(Form::Plain));
        let read = names.read.swap(0, Ordering::Relaxed);
        assert!((1..2000).contains(&read), "{read} names were read");
        // The old one can still be sent to its end.
        assert_eq!(sent(index, &document, Form::Plain).await.len() as u64, document.len(Form::Plain));
    }
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_can_shrink_and_grow_again() {
    let place = Place::new().await;
    let (one, other) = (place.process().await, place.process().await);
    let names = place.names(1000);
    let all: Vec<String> = (0..10_000).map(|number| format!("package-{number:05}")).collect();
    for round in 0..2 {
        place.publish(&all).await;
        for index in [&one, &other] {
            assert_eq!(read(&place, index, &names).await.1, place.expected(1000), "round {round}");
        }
        place.remove(&all[1..]).await;
        for index in [&one, &other] {
            assert_eq!(read(&place, index, &names).await.1, place.expected(1000), "round {round}");
        }
    }
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_lost_breaks_one_answer_and_no_more() {
    let place = Place::new().await;
    let names = place.names(1000);
    let all: Vec<String> = (0..10_000).map(|number| format!("package-{number:05}")).collect();
    place.publish(&all).await;
    read(&place, &place.process().await, &names).await;
    place.checkpoint_saved().await;
    place
        .run("delete from document_part where key = (select key from document_part order by key limit 1)")
        .await;
    // It knows the document from what was saved, and finds out while it sends it.
    let index = place.process().await;
    place.refresh(&index).await;
    let document = index.document(&key(&place), &names).await.unwrap();
    let body = index.body(&document, Form::Zstd, 0..document.len(Form::Zstd));
    assert!(body.map(|chunk| chunk.map(Vec::from)).try_concat().await.is_err());
    assert_eq!(read(&place, &index, &names).await.1, place.expected(1000));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_checkpoint_lists_is_removed_after_a_day() {
    let place = Place::new().await;
    let index = place.process().await;
    let names = place.names(1000);
    let all: Vec<String> = (0..10_000).map(|number| format!("package-{number:05}")).collect();
    place.publish(&all).await;
    read(&place, &index, &names).await;
    place.checkpoint_saved().await;
    let listed = place.number("select count(*) from document_part").await;
    place.run("insert into document_part select channel_id, sha256('x'), 'x', kept_at from document_part limit 1").await;
    assert_eq!(place.store.prune_documents().await.unwrap(), 0);
    place.clock.set(place.clock.now() + jiff::SignedDuration::from_hours(25));
    assert_eq!(place.store.prune_documents().await.unwrap(), 1);
    assert_eq!(place.number("select count(*) from document_part").await, listed);
    // A checkpoint of a program that is not run any more goes with its parts, once another has taken its place for a week.
    place.run("insert into document_checkpoint select channel_id, document, 'other', steps, marks, outline, parts, saved_at + interval '9 days' \
               from document_checkpoint").await;
    place.run("update document_checkpoint set parts = '{}' where generation = 'other'").await;
    place.clock.set(place.clock.now() + jiff::SignedDuration::from_hours(24 * 10));
    assert_eq!(place.store.prune_documents().await.unwrap(), u64::try_from(listed).unwrap());
    place.stop().await;
}
