//! The form of an upload, as twine, uv, poetry, flit and devpi send it.
//!
//! The form is a claim; the file is the truth. What both tell must agree, and what is stored and shown is
//! read from the file. Only an old source distribution without `PKG-INFO` is described by the form alone.

use granary_core::{Blake2b256, DigestError, Digests, Md5, Sha256};
use serde_json::Value;

use super::filename::{DistributionFile, FilenameError, PackageType};
use super::metadata::{CoreMetadata, Draft, MetadataError, same_requires_python};
use super::name::ProjectName;
use super::version::Version;

/// Why an upload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// More than [`UploadForm::MAX_FIELDS`] fields.
    #[error("the form has more than {} fields", UploadForm::MAX_FIELDS)]
    TooManyFields,
    /// A NUL character.
    #[error("the field {field} of the form holds a NUL character")]
    Nul {
        /// Which field.
        field: String,
    },
    /// More than [`UploadForm::MAX_SIZE`] bytes of text.
    #[error("the text fields of the form have more than {} bytes", UploadForm::MAX_SIZE)]
    TooLarge,
    /// A single-valued field that is there twice.
    #[error("the form gives {field:?} more than once")]
    Repeated {
        /// The field.
        field: String,
    },
    /// A field that must be there.
    #[error("the form has no {field:?}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An action that is not served here.
    #[error("the action {action:?} is not supported; uploads are \"file_upload\"")]
    Action {
        /// What was given.
        action: String,
    },
    /// Another protocol than the one there is.
    #[error("the protocol version {version:?} is not supported; it is \"1\"")]
    ProtocolVersion {
        /// What was given.
        version: String,
    },
    /// A file type that is not accepted.
    #[error("the file type {filetype:?} is not accepted; it is \"bdist_wheel\" or \"sdist\"")]
    FileType {
        /// What was given.
        filetype: String,
    },
    /// Metadata fields that are not as the specification says.
    #[error("in the form: {0}")]
    Form(MetadataError),
    /// The metadata in the file is not as the specification says.
    #[error("in the file: {0}")]
    Metadata(MetadataError),
    /// A digest that is none.
    #[error("{field}: {error}")]
    Digest {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: DigestError,
    },
    /// Attestations that are not a list in JSON.
    #[error("the attestations are not a JSON list of objects")]
    Attestations,
    /// The file name is none, or of another release.
    #[error(transparent)]
    Filename(#[from] FilenameError),
    /// The bytes that came are not those that were declared.
    #[error("the {algorithm} digest of the file is {actual}, and the form declares {declared}")]
    WrongDigest {
        /// Which digest.
        algorithm: &'static str,
        /// What was declared.
        declared: String,
        /// What came.
        actual: String,
    },
    /// Form and file disagree.
    #[error("{field} is {form:?} in the form and {file:?} in the file")]
    Disagree {
        /// The field.
        field: &'static str,
        /// What the form says.
        form: String,
        /// What the file says.
        file: String,
    },
    /// A file in which no metadata was found.
    #[error("the file holds no metadata: no METADATA in its dist-info folder, no PKG-INFO in its top folder")]
    NoMetadata,
}

/// The text fields of an upload, as they come.
#[derive(Debug, Clone, Default)]
pub struct UploadForm {
    own: OwnFields,
    draft: Draft,
    fields: usize,
    size: usize,
}

/// The fields that are not core metadata.
#[derive(Debug, Clone, Default)]
struct OwnFields {
    action: Option<String>,
    protocol_version: Option<String>,
    filetype: Option<String>,
    pyversion: Option<String>,
    comment: Option<String>,
    md5: Option<String>,
    sha256: Option<String>,
    blake2b256: Option<String>,
    attestations: Option<String>,
}

impl OwnFields {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            ":action" => &mut self.action,
            "protocol_version" => &mut self.protocol_version,
            "filetype" => &mut self.filetype,
            "pyversion" => &mut self.pyversion,
            "comment" => &mut self.comment,
            "md5_digest" => &mut self.md5,
            "sha256_digest" => &mut self.sha256,
            "blake2_256_digest" => &mut self.blake2b256,
            "attestations" => &mut self.attestations,
            _ => return None,
        })
    }
}

impl UploadForm {
    /// The most fields, those of lists counted one by one.
    pub const MAX_FIELDS: usize = 10_000;
    /// The most bytes of all names and values together.
    pub const MAX_SIZE: usize = 16 << 20;

    /// A form without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a text field. Fields that are not known are tolerated and dropped.
    pub fn add(&mut self, name: &str, value: String) -> Result<(), UploadError> {
        self.fields += 1;
        self.size += name.len() + value.len();
        if self.fields > Self::MAX_FIELDS {
            return Err(UploadError::TooManyFields);
        }
        if self.size > Self::MAX_SIZE {
            return Err(UploadError::TooLarge);
        }
        // Also as an escape, which is how JSON may carry it.
        if value.contains('\0') || value.contains("\\u0000") {
            return Err(UploadError::Nul { field: name.to_owned() });
        }
        match self.own.slot(name) {
            Some(Some(_)) => Err(UploadError::Repeated { field: name.to_owned() }),
            Some(slot) => {
                *slot = Some(value);
                Ok(())
            }
            None => match self.draft.add_form_field(name, value) {
                Err(MetadataError::Repeated { .. }) => Err(UploadError::Repeated { field: name.to_owned() }),
                result => result.map(drop).map_err(UploadError::Form),
            },
        }
    }

    /// The action that the form asks for, when it has come.
    pub fn action(&self) -> Option<&str> {
        self.own.action.as_deref()
    }

    /// Reads the name of the file when its bytes come, before the form is complete: with the help of the
    /// form's name and version if they have come, as all clients send them. [`ValidForm::file`] decides later.
    pub fn file_hint(&self, filename: &str) -> Result<DistributionFile, UploadError> {
        match (&self.draft.name, &self.draft.version) {
            (Some(name), Some(version)) => {
                let name = name.parse().map_err(|error| UploadError::Form(MetadataError::Name(error)))?;
                let version =
                    version.parse().map_err(|error| UploadError::Form(MetadataError::Version(error)))?;
                Ok(DistributionFile::parse_for(filename, &name, &version)?)
            }
            _ => Ok(filename.parse()?),
        }
    }

    /// Checks what can be checked without the file.
    pub fn validate(self) -> Result<ValidForm, UploadError> {
        let own = self.own;
        match given(own.action).ok_or(UploadError::Missing { field: ":action" })? {
            action if action == "file_upload" => {}
            action => return Err(UploadError::Action { action }),
        }
        if let Some(version) = given(own.protocol_version).filter(|version| version != "1") {
            return Err(UploadError::ProtocolVersion { version });
        }
        let filetype = given(own.filetype).ok_or(UploadError::Missing { field: "filetype" })?;
        let filetype = [PackageType::BdistWheel, PackageType::Sdist]
            .into_iter()
            .find(|known| known.as_str() == filetype)
            .ok_or(UploadError::FileType { filetype })?;
        let attestations = match given(own.attestations) {
            None => Vec::new(),
            Some(text) => serde_json::from_str::<Vec<Value>>(&text)
                .ok()
                .filter(|list| list.iter().all(Value::is_object))
                .ok_or(UploadError::Attestations)?,
        };
        let metadata = self.draft.finish().map_err(|error| match error {
            MetadataError::Missing { field: "Name" } => UploadError::Missing { field: "name" },
            MetadataError::Missing { field: "Version" } => UploadError::Missing { field: "version" },
            MetadataError::Missing { .. } => UploadError::Missing { field: "metadata_version" },
            error => UploadError::Form(error),
        })?;
        Ok(ValidForm {
            filetype,
            pyversion: given(own.pyversion),
            comment: given(own.comment),
            md5: digest("md5_digest", own.md5)?,
            sha256: digest("sha256_digest", own.sha256)?,
            blake2b256: digest("blake2_256_digest", own.blake2b256)?,
            attestations,
            metadata,
        })
    }
}

/// A field that is there and not empty.
fn given(field: Option<String>) -> Option<String> {
    field.filter(|value| !value.is_empty())
}

fn digest<D: std::str::FromStr<Err = DigestError>>(
    field: &'static str,
    value: Option<String>,
) -> Result<Option<D>, UploadError> {
    given(value).map(|value| value.parse().map_err(|error| UploadError::Digest { field, error })).transpose()
}

/// A form whose fields are all well-formed.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidForm {
    /// Wheel or source distribution.
    pub filetype: PackageType,
    /// For which Python; what is shown is read from the file name.
    pub pyversion: Option<String>,
    /// A remark on the file.
    pub comment: Option<String>,
    /// The declared MD5.
    pub md5: Option<Md5>,
    /// The declared SHA-256.
    pub sha256: Option<Sha256>,
    /// The declared BLAKE2b-256.
    pub blake2b256: Option<Blake2b256>,
    /// Attestations (PEP 740), as objects in JSON.
    pub attestations: Vec<Value>,
    /// The metadata that the form claims.
    pub metadata: CoreMetadata,
}

/// A file that was accepted: what is stored of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The file's name.
    pub filename: String,
    /// What makes the file the same as another of its release however its name is spelled.
    pub file_key: String,
    /// Wheel or source distribution.
    pub package_type: PackageType,
    /// The wheel's Python tag, or `source`.
    pub python_version: String,
    /// A remark on the file.
    pub comment: Option<String>,
    /// Digests and length of the file.
    pub digests: Digests,
    /// Attestations (PEP 740), as objects in JSON.
    pub attestations: Vec<Value>,
    /// The metadata that the file holds.
    pub metadata: CoreMetadata,
    /// The exact bytes of the metadata file, once the caller has put them here: what is served as `.metadata`.
    pub metadata_file: Option<Vec<u8>>,
}

impl ValidForm {
    /// Reads the name of the file that comes with the form.
    pub fn file(&self, filename: &str) -> Result<DistributionFile, UploadError> {
        let file = DistributionFile::parse_for(filename, &self.metadata.name, &self.metadata.version)?;
        if file.package_type() == self.filetype {
            Ok(file)
        } else {
            Err(disagree("filetype", &self.filetype, &file.package_type()))
        }
    }

    /// Compares the form with the file when all of it has passed. `metadata` is what its `METADATA` or
    /// `PKG-INFO` holds.
    pub fn check(
        self,
        file: &DistributionFile,
        digests: &Digests,
        metadata: Option<CoreMetadata>,
    ) -> Result<Release, UploadError> {
        let form = &self.metadata;
        compare_digest("md5", self.md5.as_ref(), &digests.md5)?;
        compare_digest("sha256", self.sha256.as_ref(), &digests.sha256)?;
        compare_digest("blake2b-256", self.blake2b256.as_ref(), &digests.blake2b256)?;
        if file.package_type() != self.filetype {
            return Err(disagree("filetype", &self.filetype, &file.package_type()));
        }
        compare_release(form, file.name(), file.version())?;
        let metadata = metadata.ok_or(UploadError::NoMetadata)?;
        compare_release(form, &metadata.name, &metadata.version)?;
        let of_file = metadata.details.requires_python.as_deref().unwrap_or_default();
        if let Some(of_form) = &form.details.requires_python
            && !same_requires_python(of_form, of_file)
        {
            return Err(disagree("requires_python", of_form, &of_file));
        }
        Ok(Release {
            filename: file.filename().to_owned(),
            file_key: file.key(),
            package_type: file.package_type(),
            python_version: file.python_version().to_owned(),
            comment: self.comment,
            digests: *digests,
            attestations: self.attestations,
            metadata,
            metadata_file: None,
        })
    }
}

fn compare_digest<D: PartialEq + ToString>(
    algorithm: &'static str,
    declared: Option<&D>,
    actual: &D,
) -> Result<(), UploadError> {
    match declared {
        Some(declared) if declared != actual => Err(UploadError::WrongDigest {
            algorithm,
            declared: declared.to_string(),
            actual: actual.to_string(),
        }),
        _ => Ok(()),
    }
}

fn compare_release(form: &CoreMetadata, name: &ProjectName, version: &Version) -> Result<(), UploadError> {
    if form.name != *name {
        return Err(disagree("name", &form.name, name));
    }
    if form.version != *version {
        return Err(disagree("version", &form.version, version));
    }
    Ok(())
}

fn disagree(field: &'static str, form: &impl ToString, file: &impl ToString) -> UploadError {
    UploadError::Disagree { field, form: form.to_string(), file: file.to_string() }
}

#[cfg(test)]
mod tests;
