//! The simple index, rendered record by record: PEP 503 in HTML and PEP 691 in JSON.
//!
//! A page is a header, records and a trailer. A record depends on nothing around it but whether it is the
//! first of its JSON array, so that parts of a page can be kept and laid end to end. White space may stand before every
//! record and trailer.
//!
//! The JSON says [`API_VERSION`] 1.3: `versions`, `size` and `upload-time` (PEP 700, 1.1), `provenance`
//! (PEP 740, 1.3); 1.2 (PEP 708) was rejected and all its keys are optional. 1.4 and 1.5 would promise
//! project status and namespaces, which are not served. The HTML is frozen (PEP 833): it has what PEP 503,
//! 592 and 714 know, none of which has raised its version above 1.0.

use granary_core::Sha256;
use jiff::Timestamp;

use super::name::{NormalizedName, ProjectName};
use super::version::Version;

/// The version of the API that the JSON tells.
pub const API_VERSION: &str = "1.3";
/// The version of the API that the HTML tells (PEP 629).
pub const HTML_VERSION: &str = "1.0";

/// What the index tells about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord<'a> {
    /// The file's name.
    pub filename: &'a str,
    /// Where it is: absolute, or relative to the page; escaped as a URL needs it, without a fragment.
    pub url: &'a str,
    /// The digest of the file.
    pub sha256: Sha256,
    /// Requires-Python of its metadata.
    pub requires_python: Option<&'a str>,
    /// Length in bytes.
    pub size: u64,
    /// When it was uploaded.
    pub upload_time: Timestamp,
    /// Set if it is yanked (PEP 592); the reason may be empty.
    pub yanked: Option<&'a str>,
    /// The digest of the `.metadata` file beside it, if there is one (PEP 714).
    pub metadata_sha256: Option<Sha256>,
    /// Where its provenance is (PEP 740): an absolute URL.
    pub provenance: Option<&'a str>,
}

/// Writes the beginning of a project's page in HTML.
pub fn project_html_header(out: &mut String, name: &ProjectName) {
    html_header(out, &format!("Links for {}", name.as_str()));
}

/// Writes the anchor of one file.
pub fn file_html(out: &mut String, file: &FileRecord<'_>) {
    out.push_str("<a href=\"");
    push_html(out, file.url);
    out.push_str("#sha256=");
    out.push_str(&file.sha256.to_hex());
    out.push('"');
    if let Some(requires_python) = file.requires_python {
        push_attribute(out, "data-requires-python", requires_python);
    }
    if let Some(sha256) = file.metadata_sha256 {
        // The second name is the one of PEP 658, which older installers know.
        let value = format!("sha256={sha256}");
        push_attribute(out, "data-core-metadata", &value);
        push_attribute(out, "data-dist-info-metadata", &value);
    }
    if let Some(reason) = file.yanked {
        push_attribute(out, "data-yanked", reason);
    }
    out.push('>');
    push_html(out, file.filename);
    out.push_str("</a><br>\n");
}

/// Writes the beginning of the project list in HTML.
pub fn list_html_header(out: &mut String) {
    html_header(out, "Simple index");
}

/// Writes the anchor of one project. `url` is that of its page, with the trailing slash.
pub fn project_html(out: &mut String, name: &NormalizedName, url: &str) {
    out.push_str("<a href=\"");
    push_html(out, url);
    out.push_str("\">");
    push_html(out, name.as_str());
    out.push_str("</a><br>\n");
}

/// Writes the end of any page in HTML.
pub fn html_trailer(out: &mut String) {
    out.push_str("</body>\n</html>\n");
}

/// Writes the beginning of a project's page in JSON, up to and into the array of files. `last_serial` is
/// what mirrors ask for, if the index counts serials.
pub fn project_json_header(out: &mut String, last_serial: Option<u64>) {
    json_header(out, last_serial);
    out.push_str(",\"files\":[");
}

/// Writes the object of one file; all but the first of the page have a comma in front.
pub fn file_json(out: &mut String, file: &FileRecord<'_>, first: bool) {
    out.push_str(if first { "{\"filename\":" } else { ",{\"filename\":" });
    push_json(out, file.filename);
    out.push_str(",\"url\":");
    push_json(out, file.url);
    out.push_str(",\"hashes\":{\"sha256\":\"");
    out.push_str(&file.sha256.to_hex());
    out.push_str("\"}");
    if let Some(requires_python) = file.requires_python {
        out.push_str(",\"requires-python\":");
        push_json(out, requires_python);
    }
    out.push_str(",\"size\":");
    out.push_str(&file.size.to_string());
    out.push_str(",\"upload-time\":\"");
    out.push_str(&iso8601(file.upload_time));
    out.push_str("\",\"yanked\":");
    match file.yanked {
        None => out.push_str("false"),
        Some("") => out.push_str("true"),
        Some(reason) => push_json(out, reason),
    }
    for key in [",\"core-metadata\":", ",\"dist-info-metadata\":"] {
        out.push_str(key);
        match file.metadata_sha256 {
            None => out.push_str("false"),
            Some(sha256) => {
                out.push_str("{\"sha256\":\"");
                out.push_str(&sha256.to_hex());
                out.push_str("\"}");
            }
        }
    }
    out.push_str(",\"provenance\":");
    match file.provenance {
        None => out.push_str("null"),
        Some(url) => push_json(out, url),
    }
    out.push('}');
}

/// Writes the end of a project's page in JSON: its versions and its name, which the page tells in its
/// normal form. It stands behind the files so that a new file changes the end of the page only.
pub fn project_json_trailer<'a>(
    out: &mut String,
    name: &NormalizedName,
    versions: impl IntoIterator<Item = &'a Version>,
) {
    out.push_str("],\"versions\":[");
    for (index, version) in versions.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json(out, &version.to_string());
    }
    out.push_str("],\"name\":");
    push_json(out, name.as_str());
    out.push('}');
}

/// Writes the beginning of the project list in JSON, up to and into the array of projects.
pub fn list_json_header(out: &mut String, last_serial: Option<u64>) {
    json_header(out, last_serial);
    out.push_str(",\"projects\":[");
}

/// Writes the object of one project; all but the first of the list have a comma in front.
pub fn project_json(out: &mut String, name: &ProjectName, last_serial: Option<u64>, first: bool) {
    out.push_str(if first { "{" } else { ",{" });
    if let Some(serial) = last_serial {
        out.push_str("\"_last-serial\":");
        out.push_str(&serial.to_string());
        out.push(',');
    }
    out.push_str("\"name\":");
    push_json(out, name.as_str());
    out.push('}');
}

/// Writes the end of the project list in JSON.
pub fn list_json_trailer(out: &mut String) {
    out.push_str("]}");
}

/// A time as the documents tell it: UTC, with microseconds and a `Z`.
pub fn iso8601(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn html_header(out: &mut String, title: &str) {
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"pypi:repository-version\" content=\"");
    out.push_str(HTML_VERSION);
    out.push_str("\">\n<title>");
    push_html(out, title);
    out.push_str("</title>\n</head>\n<body>\n<h1>");
    push_html(out, title);
    out.push_str("</h1>\n");
}

fn json_header(out: &mut String, last_serial: Option<u64>) {
    out.push_str("{\"meta\":{");
    if let Some(serial) = last_serial {
        out.push_str("\"_last-serial\":");
        out.push_str(&serial.to_string());
        out.push(',');
    }
    out.push_str("\"api-version\":\"");
    out.push_str(API_VERSION);
    out.push_str("\"}");
}

fn push_attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    push_html(out, value);
    out.push('"');
}

/// Text for an element or a quoted attribute.
fn push_html(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            _ => out.push(character),
        }
    }
}

/// A string of JSON, quotes included. `<`, `>` and `&` are escaped too: harmless where a browser guesses.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}' | '<' | '>' | '&' => {
                let code = u32::from(character);
                out.push_str("\\u");
                out.extend(
                    [12, 8, 4, 0].map(|shift| char::from_digit(code >> shift & 0xf, 16).unwrap_or('0')),
                );
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
