//! Validation of a `Channel`.

use granary_core::{ChannelName, Format, Grant, GrantSource, PackagePattern, Role, Subject};
use serde::{Deserialize, Serialize};

use crate::bucket::{BucketName, BucketNaming};
use crate::channel::{
    BucketSpec, Channel, ChannelSpec, DeletionPolicy, EncryptionType, Permission, PyPiSettings, RegistryRef,
    Visibility,
};
use crate::conda::{CondaSettings, MAX_NOTICES};
use crate::problem::{Problem, Problems};
use crate::value::{ByteSize, Raw};

use super::source::{Source, source};

/// The most permissions of a channel, and the most entries of each list in one.
const MAX_PERMISSIONS: usize = 500;
const MAX_LIST: usize = 500;
/// The longest title and description, in characters.
const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 10_000;

/// A channel whose spec holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidChannel {
    /// The object's name.
    pub object_name: String,
    /// The object's namespace, where it has one.
    pub namespace: Option<String>,
    /// The registry that the object names.
    pub registry: Option<RegistryRef>,
    /// The channel's name.
    pub name: ChannelName,
    /// What kind of packages it holds.
    pub format: Format,
    /// What the server has to know to serve it.
    pub settings: ChannelSettings,
    /// Who may do what; visibility is a grant among them. All have [`GrantSource::Resource`].
    pub grants: Vec<Grant>,
    /// The bucket to provide.
    pub bucket: BucketPlan,
    /// What happens to bucket and rows when the object is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Whether to take over a channel of this name that was made through an API.
    pub adopt: bool,
}

impl ValidChannel {
    /// The channel's bucket: the one that it names, or the one that the registry's naming gives it.
    pub fn bucket_name(&self, naming: &BucketNaming) -> BucketName {
        self.bucket.name.clone().unwrap_or_else(|| naming.bucket(self.format, &self.name))
    }
}

/// The settings of a channel as the store keeps them, in JSON.
///
/// Fields that an older version wrote not yet take their defaults, and fields of a newer version are ignored, so that
/// two versions of the server can stand beside each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ChannelSettings {
    /// One line for people.
    pub title: Option<String>,
    /// Some lines for people.
    pub description: Option<String>,
    /// Whether downloads are redirected to presigned URLs.
    pub redirect_downloads: bool,
    /// The largest upload in bytes; none leaves it to the registry.
    pub max_upload_size: Option<u64>,
    /// The most bytes of all files together; none is no limit.
    pub max_size: Option<u64>,
    /// What clients of Quetz' API said of how long a document may be kept, in seconds. It is told again and means nothing:
    /// documents are revalidated each time.
    pub told_ttl: Option<u32>,
    /// Where the packages come from.
    pub source: Source,
    /// Settings of a `pypi` channel; the defaults in others.
    pub pypi: PyPiSettings,
    /// Settings of a `conda` channel; the defaults in others.
    pub conda: CondaSettings,
}

/// The bucket that a channel wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlan {
    /// The name that the channel asks for.
    pub name: Option<BucketName>,
    /// Whether a bucket that exists already and has no owner may be taken.
    pub adopt: bool,
    /// The store's versioning; none leaves it as it is.
    pub versioning: Option<bool>,
    /// Encryption at rest.
    pub encryption: Encryption,
    /// Days after which the parts of an unfinished upload go.
    pub abort_incomplete_uploads_after_days: u16,
}

/// Encryption at rest by the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Whatever the store does by default.
    #[default]
    StoreDefault,
    /// Keys that the store manages.
    Aes256,
    /// A key of a key management service; the store's default key without an id.
    Kms {
        /// The key.
        key_id: Option<String>,
    },
}

/// Validates a channel that was read from a file or from Kubernetes.
pub fn validate_channel(channel: &Channel) -> Result<ValidChannel, Vec<Problem>> {
    validate_channel_spec(&channel.metadata.name, channel.metadata.namespace.as_deref(), &channel.spec)
}

/// Validates the spec of the channel object of this name.
pub fn validate_channel_spec(
    object_name: &str,
    namespace: Option<&str>,
    spec: &ChannelSpec,
) -> Result<ValidChannel, Vec<Problem>> {
    let problems = &mut Problems::default();
    object_names(problems, object_name, namespace, spec.registry_ref.as_ref());
    let name = channel_name(problems, object_name, spec);
    let settings = settings(problems, spec, name.as_ref());
    let grants = grants(problems, spec);
    let bucket = bucket(problems, &spec.bucket);
    let valid = name.zip(settings).zip(bucket).map(|((name, settings), bucket)| ValidChannel {
        object_name: object_name.to_owned(),
        namespace: namespace.map(str::to_owned),
        registry: spec.registry_ref.clone(),
        name,
        format: spec.format,
        settings,
        grants,
        bucket,
        deletion_policy: spec.deletion_policy,
        adopt: spec.adopt,
    });
    std::mem::take(problems).finish(valid)
}

/// Whether Kubernetes takes the text as the name of an object (a subdomain of RFC 1123).
pub(crate) fn is_object_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label = |label: &str| {
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn object_names(
    problems: &mut Problems,
    name: &str,
    namespace: Option<&str>,
    registry: Option<&RegistryRef>,
) {
    let named = [
        ("metadata.name", Some(name)),
        ("metadata.namespace", namespace),
        ("spec.registryRef.name", registry.map(|registry| registry.name.as_str())),
        ("spec.registryRef.namespace", registry.and_then(|registry| registry.namespace.as_deref())),
    ];
    for (path, name) in named {
        if name.is_some_and(|name| !is_object_name(name)) {
            problems.add(
                path,
                "write a name that Kubernetes takes: lower-case letters, digits, '-' and '.', with a letter or a digit \
                 at both ends (the channel's name in URLs may differ: spec.name)",
            );
        }
    }
}

fn channel_name(problems: &mut Problems, object_name: &str, spec: &ChannelSpec) -> Option<ChannelName> {
    let (path, text) = match &spec.name {
        Some(name) => ("spec.name", name.as_str()),
        None => ("metadata.name", object_name),
    };
    ChannelName::parse(spec.format, text).map_err(|error| problems.add(path, error.to_string())).ok()
}

fn settings(
    problems: &mut Problems,
    spec: &ChannelSpec,
    name: Option<&ChannelName>,
) -> Option<ChannelSettings> {
    let format = spec.format;
    let blocks = [
        (Format::Conan, spec.conan.is_some()),
        (Format::PyPi, spec.pypi.is_some()),
        (Format::Conda, spec.conda.is_some()),
        (Format::Quilt, spec.quilt.is_some()),
    ];
    for (other, _) in blocks.iter().filter(|(other, present)| *present && *other != format) {
        problems.add(
            format!("spec.{other}"),
            format!("these are settings of a {other} channel and this one is {format}; remove them or change spec.format"),
        );
    }
    check_prose(problems, "spec.title", spec.title.as_deref(), MAX_TITLE, false);
    check_prose(problems, "spec.description", spec.description.as_deref(), MAX_DESCRIPTION, true);
    let path = "spec.limits.maxUploadSize";
    let max_upload_size = problems.read_optional(path, spec.limits.max_upload_size.as_ref());
    if max_upload_size == Some(Some(ByteSize::new(0))) {
        problems.add(
            path,
            "a limit of 0 lets nothing in; leave it out for the registry's limit, or remove the grants",
        );
    }
    let path = "spec.limits.maxSize";
    let max_size = problems.read_optional(path, spec.limits.max_size.as_ref());
    if spec.limits.max_size.is_some() && format != Format::Conda {
        problems.add(path, format!("{format} channels have no quota yet; leave it out"));
    }
    let source = source(problems, format, name, &spec.source);
    let conda = spec.conda.clone().unwrap_or_default();
    check_conda(problems, &conda);
    Some(ChannelSettings {
        title: spec.title.clone(),
        description: spec.description.clone(),
        redirect_downloads: spec.downloads.redirect,
        max_upload_size: max_upload_size?.map(ByteSize::bytes),
        max_size: max_size?.map(ByteSize::bytes),
        told_ttl: None,
        source: source?,
        pypi: spec.pypi.unwrap_or_default(),
        conda,
    })
}

fn check_conda(problems: &mut Problems, conda: &CondaSettings) {
    let path = "spec.conda.notices";
    let mut ids: Vec<&str> = conda.notices.iter().map(|notice| notice.id.as_str()).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        problems.add(path, "give each notice an id of its own: conda shows an id once");
    }
    let length = |notice: &crate::CondaNotice| notice.id.len() + notice.message.len();
    if conda.notices.len() > 100 || conda.notices.iter().map(length).sum::<usize>() > MAX_NOTICES {
        problems.add(path, "write at most 100 notices, of 64 KiB together");
    }
    for (index, notice) in conda.notices.iter().enumerate() {
        for (field, text) in [("createdAt", &notice.created_at), ("expiresAt", &notice.expires_at)] {
            if text.parse::<jiff::Timestamp>().is_err() {
                problems.add(
                    format!("{path}[{index}].{field}"),
                    "write a point in time with its zone, such as 2026-03-01T12:00:00Z",
                );
            }
        }
    }
    if let Some(retention) = &conda.retention {
        let path = "spec.conda.retention";
        if !(1..=100_000).contains(&retention.keep_newest) {
            problems.add(format!("{path}.keepNewest"), "write a number from 1 to 100000");
        }
        if retention.older_than_days > 36_500 {
            problems.add(format!("{path}.olderThanDays"), "write a number from 0 to 36500");
        }
        for (index, pattern) in retention.packages.iter().enumerate() {
            problems.read(&format!("{path}.packages[{index}]"), pattern);
        }
    }
    let is_name = |name: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        (1..=64).contains(&name.len()) && name.bytes().all(legal)
    };
    if conda.repodata_patches.package.as_deref().is_some_and(|name| !is_name(name)) {
        problems.add(
            "spec.conda.repodataPatches.package",
            "write the name of a package: lower-case letters, digits, '.', '_' and '-'",
        );
    }
}

fn check_prose(problems: &mut Problems, path: &str, text: Option<&str>, max: usize, many_lines: bool) {
    let Some(text) = text else { return };
    if text.chars().count() > max {
        problems.add(path, format!("write at most {max} characters"));
    }
    if text.chars().any(|c| c.is_control() && !(many_lines && matches!(c, '\n' | '\t'))) {
        let message = if many_lines {
            "remove the control characters"
        } else {
            "write one line, with no control characters"
        };
        problems.add(path, message);
    }
}

/// The grants of a channel: its visibility, then its permissions.
fn grants(problems: &mut Problems, spec: &ChannelSpec) -> Vec<Grant> {
    let readers = match spec.visibility {
        Visibility::Public => Some(Subject::Anonymous),
        Visibility::Internal => Some(Subject::Authenticated),
        Visibility::Private => None,
    };
    let visible = readers.map(|subject| Grant {
        subjects: vec![subject],
        role: Role::Reader,
        packages: Vec::new(),
        except: Vec::new(),
        source: GrantSource::Resource,
    });
    if spec.permissions.len() > MAX_PERMISSIONS {
        let message = format!(
            "a channel has at most {MAX_PERMISSIONS} permissions; name more subjects or patterns in each"
        );
        problems.add("spec.permissions", message);
        return Vec::new();
    }
    let written = spec.permissions.iter().enumerate();
    visible
        .into_iter()
        .chain(written.map(|(index, permission)| {
            grant(problems, spec.format, &format!("spec.permissions[{index}]"), permission)
        }))
        .collect()
}

fn grant(problems: &mut Problems, format: Format, path: &str, permission: &Permission) -> Grant {
    if permission.subjects.is_empty() {
        problems.add(format!("{path}.subjects"), "name at least one subject, or remove the permission");
    }
    if permission.role == Role::Owner && !(permission.packages.is_empty() && permission.except.is_empty()) {
        problems
            .add(path, "an Owner has all packages: remove packages and except, or write role: Maintainer");
    }
    let lists = [permission.subjects.len(), permission.packages.len(), permission.except.len()];
    if lists.iter().any(|length| *length > MAX_LIST) {
        problems.add(
            path,
            format!("each list of a permission has at most {MAX_LIST} entries; write two permissions"),
        );
    }
    Grant {
        subjects: problems.read_list(&format!("{path}.subjects"), &permission.subjects),
        role: permission.role,
        packages: patterns(problems, format, &format!("{path}.packages"), &permission.packages),
        except: patterns(problems, format, &format!("{path}.except"), &permission.except),
        source: GrantSource::Resource,
    }
}

fn patterns(
    problems: &mut Problems,
    format: Format,
    path: &str,
    patterns: &[Raw<PackagePattern>],
) -> Vec<PackagePattern> {
    if format == Format::PyPi {
        for (index, pattern) in patterns.iter().enumerate() {
            let normal = normal_pypi_pattern(pattern.text());
            if normal != pattern.text() {
                problems.add(
                    format!("{path}[{index}]"),
                    format!("Python project names are compared in their normal form; write `{normal}`"),
                );
            }
        }
    }
    problems.read_list(path, patterns)
}

/// A pattern in the form that project names are compared in: lower case, with runs of `-`, `_` and `.` as one `-`. A
/// pattern in another form would match nothing, which in `except` gives away what it was to keep.
fn normal_pypi_pattern(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            _ => normal.push(letter.to_ascii_lowercase()),
        }
    }
    normal
}

fn bucket(problems: &mut Problems, spec: &BucketSpec) -> Option<BucketPlan> {
    let name = match spec.name.as_deref().map(str::parse::<BucketName>) {
        None => Some(None),
        Some(Ok(name)) => Some(Some(name)),
        Some(Err(error)) => {
            problems.add("spec.bucket.name", error.to_string());
            None
        }
    };
    let key_id = spec.encryption.kms_key_id.clone();
    if key_id.is_some() && spec.encryption.type_ != EncryptionType::AwsKms {
        problems.add(
            "spec.bucket.encryption.kmsKeyId",
            "a key goes with `type: aws:kms`; write that or remove the key",
        );
    }
    if key_id.as_deref() == Some("") {
        problems.add("spec.bucket.encryption.kmsKeyId", "leave it out for the store's default key");
    }
    let encryption = match spec.encryption.type_ {
        EncryptionType::None => Encryption::StoreDefault,
        EncryptionType::Aes256 => Encryption::Aes256,
        EncryptionType::AwsKms => Encryption::Kms { key_id },
    };
    let days = spec.lifecycle.abort_incomplete_uploads_after_days;
    if !(1..=365).contains(&days) {
        problems.add(
            "spec.bucket.lifecycle.abortIncompleteUploadsAfterDays",
            "write a number of days from 1 to 365",
        );
    }
    Some(BucketPlan {
        name: name?,
        adopt: spec.adopt,
        versioning: spec.versioning,
        encryption,
        abort_incomplete_uploads_after_days: days,
    })
}
