//! Core metadata: the `METADATA` of a wheel and the `PKG-INFO` of a source distribution.
//!
//! The file is a block of `Field: value` lines (PEP 566 and its successors 643, 639 and 794), a blank line,
//! and the long description as the body. Two readers that see different fields in one file are a way to hide a dependency, so
//! what the specification leaves open (lines that are no field, lone carriage returns, single-use fields
//! given twice) is refused. Fields that no specification names are tolerated and left out.

use std::str::FromStr;

use pep440_rs::VersionSpecifiers;
use serde::{Deserialize, Serialize};

use super::name::{ProjectName, ProjectNameError};
use super::version::{Version, VersionError};

/// Metadata that is not as the specification says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Larger than [`CoreMetadata::MAX_SIZE`].
    #[error("the metadata is larger than {} bytes", CoreMetadata::MAX_SIZE)]
    Size,
    /// Not UTF-8.
    #[error("the metadata is not UTF-8 text")]
    Encoding,
    /// More than [`CoreMetadata::MAX_FIELDS`].
    #[error("the metadata has more than {} fields", CoreMetadata::MAX_FIELDS)]
    TooManyFields,
    /// A line in the block of fields that is neither a field nor the continuation of one.
    #[error("line {line} of the metadata is not a field of the form \"Name: value\"")]
    NotAField {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A carriage return alone or a NUL, which readers take differently.
    #[error("line {line} of the metadata holds a control character")]
    ControlCharacter {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A single-use field that is given twice.
    #[error("the metadata gives {field} more than once")]
    Repeated {
        /// The field.
        field: &'static str,
    },
    /// A field that must be there.
    #[error("the metadata has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A metadata version that is not known here.
    #[error("{version:?} is not a known metadata version ({})", CoreMetadata::VERSIONS.join(", "))]
    MetadataVersion {
        /// What was given.
        version: String,
    },
    /// The name is no name.
    #[error("Name in the metadata: {0}")]
    Name(#[from] ProjectNameError),
    /// The version is no version.
    #[error("Version in the metadata: {0}")]
    Version(#[from] VersionError),
    /// Requires-Python is no list of version specifiers.
    #[error("Requires-Python {value:?} is not a list of version specifiers: {reason}")]
    RequiresPython {
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a distribution tells about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreMetadata {
    /// Metadata-Version, one of [`CoreMetadata::VERSIONS`].
    pub metadata_version: String,
    /// Name.
    pub name: ProjectName,
    /// Version.
    pub version: Version,
    /// All the other fields.
    #[serde(flatten)]
    pub details: Details,
}

/// The optional fields of core metadata, named as in the forms and documents of the public index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the field of the core metadata specification with the same name")]
pub struct Details {
    pub summary: Option<String>,
    pub description: Option<String>,
    pub description_content_type: Option<String>,
    pub keywords: Option<String>,
    pub home_page: Option<String>,
    pub download_url: Option<String>,
    pub author: Option<String>,
    pub author_email: Option<String>,
    pub maintainer: Option<String>,
    pub maintainer_email: Option<String>,
    pub license: Option<String>,
    pub license_expression: Option<String>,
    pub requires_python: Option<String>,
    pub license_files: Vec<String>,
    pub classifiers: Vec<String>,
    pub platform: Vec<String>,
    pub supported_platform: Vec<String>,
    pub requires_dist: Vec<String>,
    pub provides_dist: Vec<String>,
    pub obsoletes_dist: Vec<String>,
    pub requires_external: Vec<String>,
    pub provides_extra: Vec<String>,
    pub project_urls: Vec<String>,
    pub dynamic: Vec<String>,
    pub import_names: Vec<String>,
    pub import_namespaces: Vec<String>,
    pub requires: Vec<String>,
    pub provides: Vec<String>,
    pub obsoletes: Vec<String>,
}

type One = fn(&mut Draft) -> &mut Option<String>;
type Many = fn(&mut Details) -> &mut Vec<String>;

enum Slot {
    One(One),
    Many(Many),
}

/// A field, by its name in the file and its names in upload forms.
struct Field {
    header: &'static str,
    form: &'static [&'static str],
    slot: Slot,
}

const fn one(header: &'static str, form: &'static [&'static str], slot: One) -> Field {
    Field { header, form, slot: Slot::One(slot) }
}

const fn many(header: &'static str, form: &'static [&'static str], slot: Many) -> Field {
    Field { header, form, slot: Slot::Many(slot) }
}

/// Every field. Clients do not agree on the plural of some names in the form, hence the second ones.
const FIELDS: &[Field] = &[
    one("Metadata-Version", &["metadata_version"], |d| &mut d.metadata_version),
    one("Name", &["name"], |d| &mut d.name),
    one("Version", &["version"], |d| &mut d.version),
    one("Summary", &["summary"], |d| &mut d.details.summary),
    one("Description", &["description"], |d| &mut d.details.description),
    one("Description-Content-Type", &["description_content_type"], |d| {
        &mut d.details.description_content_type
    }),
    one("Keywords", &["keywords"], |d| &mut d.details.keywords),
    one("Home-page", &["home_page"], |d| &mut d.details.home_page),
    one("Download-URL", &["download_url"], |d| &mut d.details.download_url),
    one("Author", &["author"], |d| &mut d.details.author),
    one("Author-email", &["author_email"], |d| &mut d.details.author_email),
    one("Maintainer", &["maintainer"], |d| &mut d.details.maintainer),
    one("Maintainer-email", &["maintainer_email"], |d| &mut d.details.maintainer_email),
    one("License", &["license"], |d| &mut d.details.license),
    one("License-Expression", &["license_expression"], |d| &mut d.details.license_expression),
    one("Requires-Python", &["requires_python"], |d| &mut d.details.requires_python),
    many("License-File", &["license_files", "license_file"], |d| &mut d.license_files),
    many("Classifier", &["classifiers", "classifier"], |d| &mut d.classifiers),
    many("Platform", &["platform", "platforms"], |d| &mut d.platform),
    many("Supported-Platform", &["supported_platform"], |d| &mut d.supported_platform),
    many("Requires-Dist", &["requires_dist"], |d| &mut d.requires_dist),
    many("Provides-Dist", &["provides_dist"], |d| &mut d.provides_dist),
    many("Obsoletes-Dist", &["obsoletes_dist"], |d| &mut d.obsoletes_dist),
    many("Requires-External", &["requires_external"], |d| &mut d.requires_external),
    many("Provides-Extra", &["provides_extra", "provides_extras"], |d| &mut d.provides_extra),
    many("Project-URL", &["project_urls", "project_url"], |d| &mut d.project_urls),
    many("Dynamic", &["dynamic"], |d| &mut d.dynamic),
    many("Import-Name", &["import_names", "import_name"], |d| &mut d.import_names),
    many("Import-Namespace", &["import_namespaces", "import_namespace"], |d| &mut d.import_namespaces),
    many("Requires", &["requires"], |d| &mut d.requires),
    many("Provides", &["provides"], |d| &mut d.provides),
    many("Obsoletes", &["obsoletes"], |d| &mut d.obsoletes),
];

/// Fields collected one by one, from a file or from a form.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) metadata_version: Option<String>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) details: Details,
    /// The single-use fields that were given, even if empty: a bit for each of [`FIELDS`].
    seen: u64,
}

impl Draft {
    /// Takes a field of an upload form; says whether it is one of core metadata.
    pub(super) fn add_form_field(&mut self, name: &str, value: String) -> Result<bool, MetadataError> {
        self.add(|field| field.form.contains(&name), value)
    }

    /// Takes a field if it is one of core metadata, and says whether it is.
    fn add(&mut self, is_it: impl Fn(&Field) -> bool, value: String) -> Result<bool, MetadataError> {
        let Some((index, field)) = FIELDS.iter().enumerate().find(|(_, field)| is_it(field)) else {
            return Ok(false);
        };
        // `UNKNOWN` is what distutils wrote for a field that was not given.
        let value = Some(value).filter(|value| !value.trim().is_empty() && value != "UNKNOWN");
        match field.slot {
            Slot::One(_) if self.seen & (1 << index) != 0 => {
                return Err(MetadataError::Repeated { field: field.header });
            }
            Slot::One(slot) => {
                self.seen |= 1 << index;
                *slot(self) = value;
            }
            Slot::Many(slot) => slot(&mut self.details).extend(value),
        }
        Ok(true)
    }

    /// Checks what must be there and the fields that have a grammar.
    pub(super) fn finish(self) -> Result<CoreMetadata, MetadataError> {
        let metadata_version =
            self.metadata_version.ok_or(MetadataError::Missing { field: "Metadata-Version" })?;
        if !CoreMetadata::VERSIONS.contains(&&*metadata_version) {
            return Err(MetadataError::MetadataVersion { version: metadata_version });
        }
        let name = self.name.ok_or(MetadataError::Missing { field: "Name" })?.parse()?;
        let version = self.version.ok_or(MetadataError::Missing { field: "Version" })?.parse()?;
        if let Some(value) = &self.details.requires_python {
            specifiers(value)?;
        }
        Ok(CoreMetadata { metadata_version, name, version, details: self.details })
    }
}

/// Reads a Requires-Python value.
fn specifiers(value: &str) -> Result<VersionSpecifiers, MetadataError> {
    VersionSpecifiers::from_str(value).map_err(|error| MetadataError::RequiresPython {
        value: value.to_owned(),
        // The library draws the value and a caret below it; its first line is the reason.
        reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// Whether two Requires-Python values are the same set of specifiers, in any order and spacing.
pub(super) fn same_requires_python(one: &str, other: &str) -> bool {
    let sorted = |value: &str| {
        specifiers(value).map(|specifiers| {
            let mut texts: Vec<String> = specifiers.iter().map(ToString::to_string).collect();
            texts.sort_unstable();
            texts
        })
    };
    one == other || matches!((sorted(one), sorted(other)), (Ok(one), Ok(other)) if one == other)
}

impl CoreMetadata {
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = 10 << 20;
    /// The most fields in one file.
    pub const MAX_FIELDS: usize = 10_000;
    /// The metadata versions that are known.
    pub const VERSIONS: [&'static str; 9] = ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5"];

    /// Reads the bytes of a `METADATA` or `PKG-INFO` file.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(MetadataError::Size);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MetadataError::Encoding)?;
        // In the description too: no database column holds it, and no reader expects it.
        if let Some(at) = text.find('\0') {
            return Err(MetadataError::ControlCharacter { line: text[..at].matches('\n').count() + 1 });
        }
        let mut draft = Draft::default();
        let mut rest = text;
        let mut line_number = 0;
        let mut fields = 0;
        let mut current: Option<(&str, Vec<&str>)> = None;

        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let line = line.strip_suffix('\r').unwrap_or(line);
            line_number += 1;
            rest = after;
            if line.is_empty() {
                break;
            }
            if line.contains(['\r', '\0']) {
                return Err(MetadataError::ControlCharacter { line: line_number });
            }
            if line.starts_with([' ', '\t']) {
                let (_, lines) = current.as_mut().ok_or(MetadataError::NotAField { line: line_number })?;
                lines.push(line);
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .filter(|(name, _)| is_field_name(name))
                .ok_or(MetadataError::NotAField { line: line_number })?;
            fields += 1;
            if fields > Self::MAX_FIELDS {
                return Err(MetadataError::TooManyFields);
            }
            add_header(&mut draft, current.replace((name, vec![value])))?;
        }
        add_header(&mut draft, current)?;
        if !rest.trim().is_empty() {
            let body = rest.replace("\r\n", "\n");
            if draft.details.description.replace(body).is_some() {
                return Err(MetadataError::Repeated { field: "Description" });
            }
        }
        draft.finish()
    }

    /// Whether a text is one of the known metadata versions.
    pub fn is_known_version(text: &str) -> bool {
        Self::VERSIONS.contains(&text)
    }
}

/// Printable ASCII without space: the field names of RFC 822.
fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Takes one whole header, with its continuation lines, if it is a field that is known.
fn add_header(draft: &mut Draft, header: Option<(&str, Vec<&str>)>) -> Result<(), MetadataError> {
    let Some((name, lines)) = header else { return Ok(()) };
    draft.add(|field| field.header.eq_ignore_ascii_case(name), unfold(name, &lines)).map(drop)
}

/// One value out of its lines. Descriptions and licenses keep their lines, which writers indent by eight
/// spaces or by seven and a `|`; all other fields are one line.
fn unfold(header: &str, lines: &[&str]) -> String {
    if !["Description", "License"].iter().any(|kept| header.eq_ignore_ascii_case(kept)) {
        return lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned();
    }
    let (first, rest) = lines.split_first().map_or(("", lines), |(first, rest)| (first.trim(), rest));
    let mut value = first.to_owned();
    for line in rest {
        value.push('\n');
        let dedented = line.strip_prefix("       |").or_else(|| line.strip_prefix("        "));
        value.push_str(dedented.unwrap_or_else(|| line.trim_start()));
    }
    value
}

#[cfg(test)]
mod tests;
