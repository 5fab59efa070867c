//! The JSON documents of a project and of a release, in the shape of the public index.
//!
//! What an index of one's own does not have (downloads of the last month, documentation that it hosts, a
//! bug tracker) is there with the value that the public index gives when it does not know.

use std::collections::BTreeMap;

use granary_core::Digests;
use jiff::Timestamp;
use serde::Serialize;

use super::filename::PackageType;
use super::metadata::CoreMetadata;
use super::simple::iso8601;

/// What there is to tell about one file.
#[derive(Debug, Clone)]
pub struct FileFacts<'a> {
    /// The file's name.
    pub filename: &'a str,
    /// Where it is, absolute.
    pub url: &'a str,
    /// Digests and length.
    pub digests: Digests,
    /// Wheel or source distribution.
    pub package_type: PackageType,
    /// The wheel's Python tag, or `source`.
    pub python_version: &'a str,
    /// Requires-Python of its metadata.
    pub requires_python: Option<&'a str>,
    /// The remark that came with it.
    pub comment: Option<&'a str>,
    /// When it was uploaded.
    pub upload_time: Timestamp,
    /// Set if it is yanked; the reason may be empty.
    pub yanked: Option<&'a str>,
}

/// What there is to tell about one release.
#[derive(Debug, Clone)]
pub struct ReleaseFacts<'a> {
    /// The metadata that describes it.
    pub metadata: &'a CoreMetadata,
    /// The page of the project, absolute and with a trailing slash.
    pub project_url: &'a str,
    /// Set if all its files are yanked; the reason may be empty.
    pub yanked: Option<&'a str>,
    /// The serial of the last change of the project.
    pub last_serial: u64,
}

/// The document of a release: `/pypi/NAME/VERSION/json`.
pub fn release_document(release: &ReleaseFacts<'_>, files: &[FileFacts<'_>]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Document {
        info: Info::new(release),
        last_serial: release.last_serial,
        releases: None,
        urls: files.iter().map(File::new).collect(),
        vulnerabilities: [],
    })
}

/// The document of a project: `/pypi/NAME/json`. `latest` is the release it describes, `latest_files` its
/// files, `releases` every release with its version in normal form, `latest` among them.
pub fn project_document<'a>(
    latest: &ReleaseFacts<'_>,
    latest_files: &[FileFacts<'_>],
    releases: impl IntoIterator<Item = (String, Vec<FileFacts<'a>>)>,
) -> serde_json::Result<Vec<u8>> {
    let releases: Vec<(String, Vec<FileFacts<'_>>)> = releases.into_iter().collect();
    serde_json::to_vec(&Document {
        info: Info::new(latest),
        last_serial: latest.last_serial,
        releases: Some(
            releases
                .iter()
                .map(|(version, files)| (&**version, files.iter().map(File::new).collect()))
                .collect(),
        ),
        urls: latest_files.iter().map(File::new).collect(),
        vulnerabilities: [],
    })
}

#[derive(Serialize)]
struct Document<'a> {
    info: Info<'a>,
    last_serial: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    releases: Option<BTreeMap<&'a str, Vec<File<'a>>>>,
    urls: Vec<File<'a>>,
    vulnerabilities: [(); 0],
}

#[derive(Serialize)]
struct Info<'a> {
    author: &'a str,
    author_email: &'a str,
    bugtrack_url: Option<&'a str>,
    classifiers: &'a [String],
    description: &'a str,
    description_content_type: Option<&'a str>,
    docs_url: Option<&'a str>,
    download_url: Option<&'a str>,
    downloads: Downloads,
    dynamic: Option<&'a [String]>,
    home_page: &'a str,
    import_names: Option<&'a [String]>,
    import_namespaces: Option<&'a [String]>,
    keywords: &'a str,
    license: Option<&'a str>,
    license_expression: Option<&'a str>,
    license_files: Option<&'a [String]>,
    maintainer: &'a str,
    maintainer_email: &'a str,
    name: &'a str,
    package_url: &'a str,
    platform: Option<&'a str>,
    project_url: &'a str,
    project_urls: Option<BTreeMap<&'a str, &'a str>>,
    provides_extra: Option<&'a [String]>,
    release_url: String,
    requires_dist: Option<&'a [String]>,
    requires_python: Option<&'a str>,
    summary: &'a str,
    version: String,
    yanked: bool,
    yanked_reason: Option<&'a str>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the document")]
struct Downloads {
    last_day: i8,
    last_month: i8,
    last_week: i8,
}

const UNKNOWN_DOWNLOADS: i8 = -1;

impl<'a> Info<'a> {
    fn new(release: &ReleaseFacts<'a>) -> Self {
        let metadata = release.metadata;
        let details = &metadata.details;
        let text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        let list = |field: &'a [String]| Some(field).filter(|field| !field.is_empty());
        // `Label, URL` each; what has no comma is a URL under its own name.
        let urls: BTreeMap<&str, &str> = details
            .project_urls
            .iter()
            .map(|entry| {
                entry.split_once(',').map_or((&**entry, &**entry), |(label, url)| (label.trim(), url.trim()))
            })
            .collect();
        Self {
            author: text(&details.author),
            author_email: text(&details.author_email),
            bugtrack_url: None,
            classifiers: &details.classifiers,
            description: text(&details.description),
            description_content_type: details.description_content_type.as_deref(),
            docs_url: None,
            download_url: details.download_url.as_deref(),
            downloads: Downloads {
                last_day: UNKNOWN_DOWNLOADS,
                last_month: UNKNOWN_DOWNLOADS,
                last_week: UNKNOWN_DOWNLOADS,
            },
            dynamic: list(&details.dynamic),
            home_page: text(&details.home_page),
            import_names: list(&details.import_names),
            import_namespaces: list(&details.import_namespaces),
            keywords: text(&details.keywords),
            license: details.license.as_deref(),
            license_expression: details.license_expression.as_deref(),
            license_files: list(&details.license_files),
            maintainer: text(&details.maintainer),
            maintainer_email: text(&details.maintainer_email),
            name: metadata.name.as_str(),
            package_url: release.project_url,
            platform: details.platform.first().map(String::as_str),
            project_url: release.project_url,
            project_urls: Some(urls).filter(|urls| !urls.is_empty()),
            provides_extra: list(&details.provides_extra),
            release_url: format!("{}{}/", release.project_url, metadata.version),
            requires_dist: list(&details.requires_dist),
            requires_python: details.requires_python.as_deref(),
            summary: text(&details.summary),
            version: metadata.version.to_string(),
            yanked: release.yanked.is_some(),
            yanked_reason: release.yanked.filter(|reason| !reason.is_empty()),
        }
    }
}

#[derive(Serialize)]
struct File<'a> {
    comment_text: &'a str,
    digests: FileDigests,
    downloads: i8,
    filename: &'a str,
    has_sig: bool,
    md5_digest: String,
    packagetype: PackageType,
    python_version: &'a str,
    requires_python: Option<&'a str>,
    size: u64,
    upload_time: String,
    upload_time_iso_8601: String,
    url: &'a str,
    yanked: bool,
    yanked_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct FileDigests {
    blake2b_256: String,
    md5: String,
    sha256: String,
}

impl<'a> File<'a> {
    fn new(file: &FileFacts<'a>) -> Self {
        let digests = &file.digests;
        Self {
            comment_text: file.comment.unwrap_or_default(),
            digests: FileDigests {
                blake2b_256: digests.blake2b256.to_hex(),
                md5: digests.md5.to_hex(),
                sha256: digests.sha256.to_hex(),
            },
            downloads: UNKNOWN_DOWNLOADS,
            filename: file.filename,
            has_sig: false,
            md5_digest: digests.md5.to_hex(),
            packagetype: file.package_type,
            python_version: file.python_version,
            requires_python: file.requires_python,
            size: digests.size,
            upload_time: file.upload_time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            upload_time_iso_8601: iso8601(file.upload_time),
            url: file.url,
            yanked: file.yanked.is_some(),
            yanked_reason: file.yanked.filter(|reason| !reason.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests;
