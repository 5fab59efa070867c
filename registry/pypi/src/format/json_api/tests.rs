#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use granary_core::Hasher;
use serde_json::{Value, json};

fn file<'a>(filename: &'a str, yanked: Option<&'a str>) -> FileFacts<'a> {
    FileFacts {
        filename,
        url: "https://packages.example/f",
        digests: Hasher::new().finish(),
        package_type: PackageType::Sdist,
        python_version: "source",
        requires_python: Some(">=3.8"),
        comment: None,
        upload_time: "2024-02-29T12:34:56.000007Z".parse().unwrap(),
        yanked,
    }
}

#[test]
fn documents_have_the_shape_of_the_public_index() {
    let metadata = CoreMetadata::parse(
        b"Metadata-Version: 2.4\nName: Demo.Pkg\nVersion: 1.0-rc1\nSummary: S\nClassifier: A\nRequires-Dist: six\n\
          Requires-Python: >=3.8\nProject-URL: Home, https://example.org/?a,b\n\nBody\n",
    )
    .unwrap();
    let release = ReleaseFacts {
        metadata: &metadata,
        project_url: "https://packages.example/project/demo-pkg/",
        yanked: Some(""),
        last_serial: 12,
    };
    let files = [file("demo_pkg-1.0rc1.tar.gz", Some("broken"))];
    let releases = [(String::from("1.0rc1"), files.to_vec()), (String::from("0.9"), Vec::new())];
    let document: Value =
        serde_json::from_slice(&project_document(&release, &files, releases).unwrap()).unwrap();

    let info = document["info"].as_object().unwrap();
    let keys: Vec<&str> = info.keys().map(String::as_str).collect();
    for key in [
        "author",
        "author_email",
        "bugtrack_url",
        "classifiers",
        "description",
        "description_content_type",
        "docs_url",
        "download_url",
        "downloads",
        "dynamic",
        "home_page",
        "keywords",
        "license",
        "license_expression",
        "license_files",
        "maintainer",
        "maintainer_email",
        "name",
        "package_url",
        "platform",
        "project_url",
        "project_urls",
        "provides_extra",
        "release_url",
        "requires_dist",
        "requires_python",
        "summary",
        "version",
        "yanked",
        "yanked_reason",
    ] {
        assert!(keys.contains(&key), "{key}");
    }
    assert_eq!(info["name"], "Demo.Pkg");
    assert_eq!(info["version"], "1.0rc1");
    assert_eq!(info["release_url"], "https://packages.example/project/demo-pkg/1.0rc1/");
    assert_eq!(info["project_urls"], json!({"Home": "https://example.org/?a,b"}));
    assert_eq!((&info["requires_dist"], &info["license"]), (&json!(["six"]), &Value::Null));
    assert_eq!((&info["yanked"], &info["yanked_reason"]), (&json!(true), &Value::Null));
    assert_eq!(info["downloads"], json!({"last_day": -1, "last_month": -1, "last_week": -1}));
    assert_eq!(document["last_serial"], 12);
    assert_eq!(document["vulnerabilities"], json!([]));
    assert_eq!(document["releases"]["0.9"], json!([]));

    let digests = files[0].digests;
    let expected = json!([{
        "comment_text": "",
        "digests": {
            "blake2b_256": digests.blake2b256.to_hex(), "md5": digests.md5.to_hex(), "sha256": digests.sha256.to_hex(),
        },
        "downloads": -1,
        "filename": "demo_pkg-1.0rc1.tar.gz",
        "has_sig": false,
        "md5_digest": digests.md5.to_hex(),
        "packagetype": "sdist",
        "python_version": "source",
        "requires_python": ">=3.8",
        "size": 0,
        "upload_time": "2024-02-29T12:34:56",
        "upload_time_iso_8601": "2024-02-29T12:34:56.000007Z",
        "url": "https://packages.example/f",
        "yanked": true,
        "yanked_reason": "broken",
    }]);
    assert_eq!(document["urls"], expected);
    assert_eq!(document["releases"]["1.0rc1"], expected);

    let document: Value = serde_json::from_slice(&release_document(&release, &files).unwrap()).unwrap();
    assert!(document.get("releases").is_none());
    assert_eq!(document["urls"], expected);
}
