#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn record<'a>(filename: &'a str, url: &'a str) -> FileRecord<'a> {
    FileRecord {
        filename,
        url,
        sha256: Sha256::from_bytes([0xab; 32]),
        requires_python: None,
        size: 42,
        upload_time: "2024-02-29T12:34:56.000007Z".parse().unwrap(),
        yanked: None,
        metadata_sha256: None,
        provenance: None,
    }
}

fn hex(byte: &str) -> String {
    byte.repeat(32)
}

#[test]
fn an_anchor_holds_what_installers_read() {
    let mut out = String::new();
    let mut file = record("a-1-py3-none-any.whl", "../files/a-1-py3-none-any.whl");
    file_html(&mut out, &file);
    let (plain, ab) = ("a-1-py3-none-any.whl", hex("ab"));
    assert_eq!(out, format!("<a href=\"../files/{plain}#sha256={ab}\">{plain}</a><br>\n"));

    out.clear();
    file.requires_python = Some(">=3.8,<4");
    file.yanked = Some("\"broken\" <b>&</b>");
    file.metadata_sha256 = Some(Sha256::from_bytes([0xcd; 32]));
    file_html(&mut out, &file);
    let cd = hex("cd");
    let expected = format!(
        "<a href=\"../files/{plain}#sha256={ab}\" data-requires-python=\"&gt;=3.8,&lt;4\" \
         data-core-metadata=\"sha256={cd}\" data-dist-info-metadata=\"sha256={cd}\" \
         data-yanked=\"&quot;broken&quot; &lt;b&gt;&amp;&lt;/b&gt;\">{plain}</a><br>\n"
    );
    assert_eq!(out, expected);
}

#[test]
fn a_project_page_is_json_with_white_space_between_its_parts() {
    let name: NormalizedName = "demo".parse().unwrap();
    let versions: Vec<Version> = ["1.0", "1.1rc1"].map(|text| text.parse().unwrap()).to_vec();
    let mut yanked = record("demo-1.1rc1.tar.gz", "https://files.example/demo-1.1rc1.tar.gz");
    yanked.yanked = Some("");
    yanked.provenance = Some("https://files.example/p");
    yanked.metadata_sha256 = Some(Sha256::from_bytes([0xcd; 32]));
    yanked.requires_python = Some(">=3");

    let mut page = String::new();
    project_json_header(&mut page, Some(7));
    for (index, file) in [record("demo-1.0.tar.gz", "../demo-1.0.tar.gz"), yanked].iter().enumerate() {
        page.push_str("     ");
        file_json(&mut page, file, index == 0);
    }
    page.push_str("     ");
    project_json_trailer(&mut page, &name, &versions);

    let cd = json!({"sha256": hex("cd")});
    let expected = json!({
        "meta": {"_last-serial": 7, "api-version": "1.3"},
        "name": "demo",
        "versions": ["1.0", "1.1rc1"],
        "files": [
            {"filename": "demo-1.0.tar.gz", "url": "../demo-1.0.tar.gz", "hashes": {"sha256": hex("ab")},
             "size": 42, "upload-time": "2024-02-29T12:34:56.000007Z", "yanked": false,
             "core-metadata": false, "dist-info-metadata": false, "provenance": null},
            {"filename": "demo-1.1rc1.tar.gz", "url": "https://files.example/demo-1.1rc1.tar.gz",
             "hashes": {"sha256": hex("ab")}, "requires-python": ">=3", "size": 42,
             "upload-time": "2024-02-29T12:34:56.000007Z", "yanked": true,
             "core-metadata": cd, "dist-info-metadata": cd, "provenance": "https://files.example/p"},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&page).unwrap(), expected);
}

#[test]
fn empty_pages_and_lists_are_well_formed() {
    let name: ProjectName = "Demo.Pkg".parse().unwrap();
    let (mut page, mut list) = (String::new(), String::new());
    project_json_header(&mut page, None);
    project_json_trailer(&mut page, name.normalized(), []);
    list_json_header(&mut list, None);
    list_json_trailer(&mut list);
    let meta = json!({"api-version": "1.3"});
    assert_eq!(
        serde_json::from_str::<Value>(&page).unwrap(),
        json!({"meta": meta, "name": "demo-pkg", "versions": [], "files": []})
    );
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap(), json!({"meta": meta, "projects": []}));

    list.clear();
    list_json_header(&mut list, Some(9));
    project_json(&mut list, &name, Some(9), true);
    project_json(&mut list, &"a".parse().unwrap(), None, false);
    list_json_trailer(&mut list);
    assert_eq!(
        serde_json::from_str::<Value>(&list).unwrap()["projects"],
        json!([{"_last-serial": 9, "name": "Demo.Pkg"}, {"name": "a"}])
    );

    let mut html = String::new();
    list_html_header(&mut html);
    project_html(&mut html, name.normalized(), "demo-pkg/");
    html_trailer(&mut html);
    assert!(html.starts_with("<!DOCTYPE html>\n") && html.ends_with("</html>\n"));
    assert!(html.contains("<meta name=\"pypi:repository-version\" content=\"1.0\">"));
    assert!(html.contains("<a href=\"demo-pkg/\">demo-pkg</a><br>\n"));
    html.clear();
    project_html_header(&mut html, &name);
    assert!(html.contains("<h1>Links for Demo.Pkg</h1>"));
}

#[test]
fn times_have_microseconds_and_a_z() {
    assert_eq!(iso8601(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    assert_eq!(iso8601("2024-05-06T07:08:09.123456789Z".parse().unwrap()), "2024-05-06T07:08:09.123456Z");
}

proptest! {
    #[test]
    fn any_text_survives_json_and_cannot_leave_its_attribute(text in any::<String>()) {
        let mut file = record(&text, &text);
        file.requires_python = Some(&text);
        file.yanked = Some(&text);
        let mut out = String::new();
        file_json(&mut out, &file, true);
        let value: Value = serde_json::from_str(&out).unwrap();
        prop_assert_eq!(value["filename"].as_str(), Some(&*text));
        prop_assert_eq!(value["requires-python"].as_str(), Some(&*text));

        out.clear();
        file_html(&mut out, &file);
        prop_assert_eq!(out.matches('<').count(), 3);
        prop_assert_eq!(out.matches('>').count(), 3);
        prop_assert_eq!(out.matches('"').count(), 6);
    }
}
