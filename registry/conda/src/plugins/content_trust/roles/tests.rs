#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn name(key: &Ed25519KeyPair) -> String {
    hex::encode(key.public_key().as_ref())
}

fn to(keys: &[u8], threshold: usize) -> Value {
    json!({"pubkeys": keys.iter().map(|seed| name(&key(*seed))).collect::<Vec<_>>(), "threshold": threshold})
}

fn document(kind: &str, version: u64, delegations: &Value, signers: &[u8]) -> Vec<u8> {
    let signed = json!({"type": kind, "version": version, "timestamp": "2026-01-01T00:00:00Z", "delegations": delegations,
        "expiration": "2027-01-01T00:00:00Z", "metadata_spec_version": "0.6.0"});
    let text = canonical(&signed);
    let signatures: Map<String, Value> = signers
        .iter()
        .map(|seed| {
            let signature = hex::encode(key(*seed).sign(text.as_bytes()).as_ref());
            (name(&key(*seed)), json!({ "signature": signature }))
        })
        .collect();
    serde_json::to_vec(&json!({"signed": signed, "signatures": signatures})).unwrap()
}

fn root(version: u64, keys: &[u8], threshold: usize, signers: &[u8]) -> Role {
    let delegations = json!({"root": to(keys, threshold), "key_mgr": to(&[10], 1)});
    Role::parse(&document("root", version, &delegations, signers)).unwrap()
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

#[test]
fn a_root_is_signed_by_enough_of_its_own_keys() {
    assert_eq!(root(1, &[1, 2], 2, &[1, 2]).check(None, None, now()), Ok(()));
    for signers in [&[][..], &[1], &[1, 3]] {
        let refused = root(1, &[1, 2], 2, signers).check(None, None, now());
        assert!(matches!(refused, Err(RoleError::Signatures { threshold: 2, .. })), "{refused:?}");
    }
}

#[test]
fn the_next_root_is_signed_by_the_keys_of_both() {
    let present = root(1, &[1], 1, &[1]);
    assert_eq!(root(2, &[2], 1, &[1, 2]).check(Some(&present), None, now()), Ok(()));
    for signers in [&[1][..], &[2]] {
        assert!(root(2, &[2], 1, signers).check(Some(&present), None, now()).is_err());
    }
    for version in [1, 3] {
        let skipped = root(version, &[2], 1, &[1, 2]).check(Some(&present), None, now());
        assert_eq!(skipped, Err(RoleError::Version { found: version, wanted: "2".to_owned() }));
    }
}

#[test]
fn who_is_delegated_by_another_needs_that_one() {
    let above = root(1, &[1], 1, &[1]);
    let key_mgr = |version, signers| {
        Role::parse(&document("key_mgr", version, &json!({"pkg_mgr": to(&[20], 1)}), signers)).unwrap()
    };
    assert_eq!(key_mgr(1, &[10]).check(None, None, now()), Err(RoleError::NotDelegated(RoleName::KeyMgr)));
    assert_eq!(key_mgr(1, &[10]).check(None, Some(&above), now()), Ok(()));
    assert!(key_mgr(1, &[1]).check(None, Some(&above), now()).is_err());
    let present = key_mgr(3, &[10]);
    assert_eq!(key_mgr(7, &[10]).check(Some(&present), Some(&above), now()), Ok(()));
    assert!(key_mgr(3, &[10]).check(Some(&present), Some(&above), now()).is_err());
    let late = "2027-01-01T00:00:00Z".parse().unwrap();
    assert!(matches!(key_mgr(7, &[10]).check(None, Some(&above), late), Err(RoleError::Expired(_))));
}

#[test]
fn signatures_of_openpgp_are_known() {
    let delegations = json!({"root": to(&[1], 1), "key_mgr": to(&[10], 1)});
    let mut document: Value = serde_json::from_slice(&document("root", 1, &delegations, &[])).unwrap();
    let text = canonical(&document["signed"]);
    let headers = [4, 0, 22, 8, 0, 6];
    let mut digest = Context::new(&SHA256);
    for part in [text.as_bytes(), &headers, b"\x04\xff", &6_u32.to_be_bytes()] {
        digest.update(part);
    }
    let signature = hex::encode(key(1).sign(digest.finish().as_ref()).as_ref());
    document["signatures"] =
        json!({name(&key(1)): {"other_headers": hex::encode(headers), "signature": signature}});
    let good = Role::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!(good.check(None, None, now()), Ok(()));
    document["signatures"][name(&key(1))]["other_headers"] = "00".into();
    assert!(Role::parse(document.to_string().as_bytes()).unwrap().check(None, None, now()).is_err());
}

#[test]
fn what_is_no_role_is_refused() {
    let good = json!({"root": to(&[1], 1), "key_mgr": to(&[10], 1)});
    assert!(Role::parse(&document("root", 1, &good, &[])).is_ok());
    for document in [
        b"no json".to_vec(),
        b"[]".to_vec(),
        document("boss", 1, &good, &[]),
        document("root", 0, &good, &[]),
        document("root", u64::MAX, &good, &[]),
        document("root", 1, &json!({"root": to(&[1], 1)}), &[]),
        document("root", 1, &json!({"root": to(&[1], 2), "key_mgr": to(&[1], 1)}), &[]),
        document("root", 1, &json!({"root": to(&[1], 0), "key_mgr": to(&[1], 1)}), &[]),
        document(
            "root",
            1,
            &json!({"root": {"pubkeys": ["AB"], "threshold": 1}, "key_mgr": to(&[1], 1)}),
            &[],
        ),
        document("key_mgr", 1, &json!({}), &[]),
    ] {
        assert!(Role::parse(&document).is_err(), "{}", String::from_utf8_lossy(&document));
    }
}
