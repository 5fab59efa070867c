//! `run_exports.json` (CEP 12), in pieces that stay as they are while other packages come and go.

use super::name::Subdir;
use super::repodata::Section;

/// What stands before the entries of each list; there is none of what is removed or signed.
pub fn head(section: Section, subdir: &Subdir) -> String {
    match section {
        // The characters of a subdir need no escape.
        Section::Packages => {
            format!("{{\"info\":{{\"subdir\":\"{subdir}\",\"version\":1}},\"packages\":{{")
        }
        Section::PackagesConda => "},\"packages.conda\":{".to_owned(),
        Section::Removed | Section::Signatures => String::new(),
    }
}

/// What stands behind all entries.
pub const TAIL: &str = "}}";

/// An entry, with the comma before it: `run_exports` is JSON.
pub fn entry(file_name: &str, run_exports: &str) -> String {
    // The characters of a file's name need no escape.
    format!(",\n\"{file_name}\":{{\"run_exports\":{run_exports}}}")
}
