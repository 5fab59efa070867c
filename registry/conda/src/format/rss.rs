//! `rss.xml` (RSS 2.0): what was built last in a channel.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

/// How many names are told.
pub const NAMES: usize = 100;

/// The feed of a channel of this name and URL, of these names with their channeldata, the newest first.
pub fn feed(channel: &str, url: &str, names: &[(String, Value)]) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<rss version=\"2.0\">\n<channel>\n");
    element(&mut out, "title", channel);
    element(&mut out, "link", url);
    element(&mut out, "description", &format!("The most recent {} updates for {channel}.", names.len()));
    if let Some(date) = names.first().and_then(|(_, data)| date(data)) {
        element(&mut out, "pubDate", &date);
        element(&mut out, "lastBuildDate", &date);
    }
    for (name, data) in names {
        item(&mut out, name, data);
    }
    out.push_str("</channel>\n</rss>\n");
    out
}

fn item(out: &mut String, name: &str, data: &Value) {
    let text = |field: &str| data.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let subdirs: Vec<&str> = data
        .get("subdirs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let version = text("version").unwrap_or_default();
    out.push_str("<item>\n");
    element(out, "title", &format!("{name} {version} [{}]", subdirs.join(", ")));
    element(out, "description", text("description").or_else(|| text("summary")).unwrap_or("No description."));
    for (tag, field) in [("link", "doc_url"), ("comments", "dev_url")] {
        if let Some(text) = text(field) {
            element(out, tag, text);
        }
    }
    // Readers tell updates by it: a name's next version is another one.
    let _ = writeln!(out, "<guid isPermaLink=\"false\">{}</guid>", escaped(&format!("{name}-{version}")));
    if let Some(date) = date(data) {
        element(out, "pubDate", &date);
    }
    out.push_str("</item>\n");
}

fn date(data: &Value) -> Option<String> {
    let seconds = data.get("timestamp").and_then(Value::as_i64).filter(|seconds| *seconds > 0)?;
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::from_second(seconds).ok()?).ok()
}

fn element(out: &mut String, tag: &str, text: &str) {
    let _ = writeln!(out, "<{tag}>{}</{tag}>", escaped(text));
}

/// Text as XML has it. Control characters have no place in it, whatever they are written as.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' => out.push(c),
            '\u{FFFE}' | '\u{FFFF}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_feed_tells_names_and_escapes_what_they_say() {
        let data = json!({"version": "1.0", "subdirs": ["linux-64", "noarch"], "timestamp": 1_700_000_000, "summary": "<b>&\u{0}\u{1b}",
            "dev_url": "https://upstream.example/?a&b"});
        let feed = feed(
            "tools",
            "https://packages.example/get/tools",
            &[("a".to_owned(), data), ("b".to_owned(), json!({}))],
        );
        for part in [
            "<title>a 1.0 [linux-64, noarch]</title>",
            "<description>&lt;b&gt;&amp;</description>",
            "<comments>https://upstream.example/?a&amp;b</comments>",
            "<pubDate>Tue, 14 Nov 2023 22:13:20 GMT</pubDate>",
            "<description>No description.</description>",
            "<guid isPermaLink=\"false\">b-</guid>",
        ] {
            assert!(feed.contains(part), "{part} in {feed}");
        }
    }
}
