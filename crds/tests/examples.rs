//! The examples that are shipped and the ones in the documentation are good channels.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use granary_crds::{BucketNaming, read_channels, read_folder, read_registry, validate_registry};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of a language in a Markdown page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    page.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| {
            let (tag, text) = block.split_once('\n')?;
            (tag == language).then(|| format!("{text}\n"))
        })
        .collect()
}

#[test]
fn the_shipped_examples_are_good_and_go_together() {
    let mut files: Vec<(String, String)> = fs::read_dir(root().join("deploy/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    let folder = read_folder(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    assert_eq!(folder.problems, []);
    assert_eq!(folder.notices, []);
    let naming = BucketNaming::new("granary-", "").unwrap();
    let channels: Vec<(String, String)> = folder
        .channels
        .iter()
        .map(|(_, found)| (found.channel.name.to_string(), found.channel.bucket_name(&naming).to_string()))
        .collect();
    let expected = [
        ("finance", "granary-pypi-finance"),
        ("finance-archive", "finance-wheels-archive"),
        ("stable", "granary-pypi-stable"),
        ("vision/dev", "granary-pypi-vision-dev-"),
    ];
    assert_eq!(channels.len(), expected.len());
    for ((name, bucket), (expected_name, expected_bucket)) in channels.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(bucket.starts_with(expected_bucket), "{bucket}");
    }
}

#[test]
fn the_examples_of_the_channel_page_are_good() {
    let page = fs::read_to_string(root().join("docs/channels.md")).unwrap();
    let examples = blocks(&page, "yaml");
    assert!(!examples.is_empty());
    for example in examples {
        let reading = read_channels(&example);
        assert_eq!(reading.problems, [], "{example}");
        assert!(!reading.channels.is_empty(), "{example}");
    }
}

#[test]
fn the_errors_that_the_channel_page_shows_are_the_real_ones() {
    let page = fs::read_to_string(root().join("docs/channels.md")).unwrap();
    let wrong = blocks(&page, "yaml wrong").concat();
    let shown = blocks(&page, "text").concat();
    let reading = read_folder([("channels/tools.yaml", wrong.as_str())]);
    let told: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told, shown.lines().collect::<Vec<_>>());
}

#[test]
fn the_example_of_the_configuration_page_is_good() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for example in blocks(&page, "yaml") {
        let file = read_registry(&example).unwrap();
        assert!(validate_registry(&file.spec).is_ok());
    }
}
