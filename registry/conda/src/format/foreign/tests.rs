#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use granary_core::Sha256;
use serde_json::{Value, json};

use super::document::{Everything, Kind, Listed, Sieve, name_of_file, pass};
use super::shards::{ForeignShard, ForeignShardError, ShardIndex};
use super::*;
use crate::format::{PackageFile, Record, shards as own};

struct Only(&'static str);

impl Sieve for Only {
    fn keeps(&mut self, name: &str, _: &Listed<'_>) -> bool {
        name == self.0
    }

    fn keeps_unknown(&self) -> bool {
        false
    }
}

fn passed(kind: Kind, text: &str, sieve: &mut dyn Sieve) -> Result<(Value, document::Facts), String> {
    let mut output = Vec::new();
    let facts = pass(kind, text.as_bytes(), &mut output, sieve).map_err(|error| error.to_string())?;
    Ok((serde_json::from_slice(&output).unwrap(), facts))
}

fn repodata() -> Value {
    json!({
        "info": {"subdir": "noarch"},
        "packages": {"a-1-0.tar.bz2": {"name": "a", "build": "0", "odd": [1.50, null]}},
        "packages.conda": {"a-1-0.conda": {"name": "a"}, "b-c-1-0.conda": {"name": "b-c", "license": "ünïcode \u{7}"}},
        "removed": ["a-0-0.conda", "b-c-0-0.conda"],
        "repodata_version": 1,
        "signatures": {"a-1-0.conda": {"key": {"signature": "s"}}, "b-c-1-0.conda": {}},
        "v3": {"whl": {}},
    })
}

#[test]
fn a_document_that_leads_nowhere_says_the_same_afterwards() {
    let text = repodata().to_string();
    let (seen, facts) = passed(Kind::Repodata, &text, &mut Everything).unwrap();
    assert_eq!(seen, repodata());
    assert_eq!(facts, document::Facts::default());
}

#[test]
fn what_leads_away_is_taken_out() {
    let mut leading = repodata();
    leading["info"]["base_url"] = json!("https://files.upstream.example/");
    leading["info"]["channel_relations"] = json!({"base": "../other"});
    leading["repodata_version"] = json!(2);
    leading["packages.conda"]["a-1-0.conda"]["url"] = json!("https://elsewhere.example/a");
    let (seen, facts) = passed(Kind::Repodata, &leading.to_string(), &mut Everything).unwrap();
    assert_eq!(seen, repodata());
    assert_eq!(facts.base_url.as_deref(), Some("https://files.upstream.example/"));
    assert!(facts.leads_away);
}

#[test]
fn what_is_left_out_leaves_no_trace() {
    let (seen, _) = passed(Kind::Repodata, &repodata().to_string(), &mut Only("b-c")).unwrap();
    assert_eq!(
        seen,
        json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {"b-c-1-0.conda": repodata()["packages.conda"]["b-c-1-0.conda"]},
            "removed": ["b-c-0-0.conda"], "repodata_version": 1, "signatures": {"b-c-1-0.conda": {}}})
    );
    let exports = json!({"info": {}, "packages": {"a-1-0.tar.bz2": {"run_exports": {}}}, "packages.conda": {"b-c-1-0.conda": {"run_exports": {}}}});
    let (seen, _) = passed(Kind::RunExports, &exports.to_string(), &mut Only("a")).unwrap();
    assert_eq!(seen["packages"], exports["packages"]);
    assert_eq!(seen["packages.conda"], json!({}));
    let data = json!({"channeldata_version": 1, "packages": {"a": {"dev_url": "x"}, "b-c": {}}, "subdirs": ["noarch"]});
    let (seen, facts) = passed(Kind::ChannelData, &data.to_string(), &mut Only("a")).unwrap();
    assert_eq!(
        seen,
        json!({"channeldata_version": 1, "packages": {"a": {"dev_url": "x"}}, "subdirs": ["noarch"]})
    );
    assert_eq!(facts.subdirs, ["noarch"]);
    let notices = json!({"notices": [{"id": "1"}]});
    assert_eq!(passed(Kind::Notices, &notices.to_string(), &mut Only("a")).unwrap().0, notices);
}

#[test]
fn what_is_no_document_is_refused() {
    for text in [
        "",
        "[]",
        "<html>",
        "{",
        "{}{}",
        r#"{"packages": []}"#,
        r#"{"packages": {}, "packages": {}}"#,
        r#"{"info": 1}"#,
        r#"{"packages": {"a-1-0.conda": {"#,
    ] {
        assert!(passed(Kind::Repodata, text, &mut Everything).is_err(), "{text}");
    }
}

#[test]
fn names_of_files_of_others() {
    for (file, name) in [
        ("a-1-0.conda", Some("a")),
        ("a-b-1-0.tar.bz2", Some("a-b")),
        ("Odd_Name-1-0.conda", Some("Odd_Name")),
        ("odd.conda", None),
    ] {
        assert_eq!(name_of_file(file).as_deref(), name, "{file}");
    }
}

#[test]
fn shards_of_ours_are_read_as_those_of_others() {
    let digests = [("a", Sha256::of(b"a")), ("b", Sha256::of(b"b"))];
    let at = "2026-03-01T12:00:00Z".parse().unwrap();
    let bytes = own::index(&"noarch".parse().unwrap(), at, digests.into_iter()).unwrap();
    let index = ShardIndex::read(&bytes).unwrap();
    assert!(!index.leads_away());
    assert_eq!(index.created_at, Some(at));
    assert_eq!(
        index.shards.into_iter().collect::<Vec<_>>(),
        digests.map(|(name, digest)| (name.to_owned(), digest))
    );

    let record = json!({"name": "a", "version": "1", "build": "0", "build_number": 0, "subdir": "noarch", "size": 5_000_000_000_u64,
        "sha256": "11".repeat(32), "timestamp": -1, "f": 1.5, "depends": ["x"], "n": null, "t": true, "deep": [[{"a": [1, 70_000]}]]});
    let record = Record::from_json(&record.to_string(), "{}").unwrap();
    let files: Vec<PackageFile> = ["a-1-0.conda", "a-1-0.tar.bz2"].map(|file| file.parse().unwrap()).to_vec();
    let shard = own::Shard::new(files.iter().map(|file| (file, &record)), &["a-0-0.conda"]).unwrap();
    let read = ForeignShard::read(&shard.bytes).unwrap();
    assert_eq!(read.name.as_deref(), Some("a"));
    assert_eq!(read.files["a-1-0.conda"], Some(Sha256::try_from([0x11; 32].as_slice()).unwrap()));
    assert_eq!(read.files.len(), 2);
    // Of any part of them, nothing is taken for the whole.
    let plain = zstd::stream::decode_all(shard.bytes.as_slice()).unwrap();
    for length in 0..plain.len() {
        let part = zstd::bulk::compress(&plain[..length], 1).unwrap();
        assert!(ForeignShard::read(&part).is_err(), "{length}");
    }
}

#[test]
fn indexes_of_shards_of_others() {
    let index = |info: Value, version: u64| {
        let text = json!({"info": info, "version": version, "shards": {}});
        let packed = rmp_serde::to_vec_named(&text).unwrap();
        ShardIndex::read(&zstd::bulk::compress(&packed, 1).unwrap())
    };
    let beside =
        index(json!({"base_url": "", "shards_base_url": "./", "subdir": "noarch", "extra": [1]}), 1).unwrap();
    assert!(!beside.leads_away());
    for info in
        [json!({"base_url": "https://files.upstream.example/"}), json!({"shards_base_url": "./shards/"})]
    {
        assert!(index(info, 1).unwrap().leads_away());
    }
    assert!(matches!(index(json!({}), 2), Err(ForeignShardError::Version(2))));
    assert!(matches!(ShardIndex::read(b"<html>"), Err(ForeignShardError::Unpack(_))));
    let lists = (0..40).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(index(json!({"x": lists}), 1), Err(ForeignShardError::Msgpack(_))));
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let packed = zstd::bulk::compress(&vec![b' '; 1 << 20], 1).unwrap();
    let read =
        |limit| io::copy(&mut Coding::Zstd.unpacked(packed.as_slice(), limit).unwrap(), &mut io::sink());
    assert_eq!(read(1 << 20).unwrap(), 1 << 20);
    assert!(read((1 << 20) - 1).is_err());
}
