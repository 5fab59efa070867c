#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use granary_core::Hasher;
use proptest::prelude::*;

/// What twine sends, as far as it matters here.
fn fields() -> Vec<(&'static str, String)> {
    let digests = digests();
    [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("metadata_version", "2.1"),
        ("name", "Demo.Pkg"),
        ("version", "1.0"),
        ("filetype", "bdist_wheel"),
        ("pyversion", "py3"),
        ("md5_digest", &digests.md5.to_hex()),
        ("sha256_digest", &digests.sha256.to_hex().to_uppercase()),
        ("blake2_256_digest", &digests.blake2b256.to_hex()),
        ("requires_python", ""),
        ("classifiers", "A"),
        ("classifiers", "B"),
        ("not_known", "x"),
        ("not_known", "y"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn digests() -> Digests {
    let mut hasher = Hasher::new();
    hasher.update(b"the file");
    hasher.finish()
}

fn validate(fields: &[(&'static str, String)]) -> Result<ValidForm, UploadError> {
    let mut form = UploadForm::new();
    for (name, value) in fields {
        form.add(name, value.clone())?;
    }
    form.validate()
}

/// The form with one field given another value, or left out.
fn with(field: &'static str, value: Option<&str>) -> Vec<(&'static str, String)> {
    let mut fields = fields();
    fields.retain(|(name, _)| *name != field);
    fields.extend(value.map(|value| (field, value.to_owned())));
    fields
}

fn metadata(text: &str) -> CoreMetadata {
    CoreMetadata::parse(format!("Metadata-Version: 2.1\n{text}").as_bytes()).unwrap()
}

#[test]
fn a_form_and_its_file_become_a_release() {
    let form = validate(&fields()).unwrap();
    assert_eq!(form.metadata.details.classifiers, ["A", "B"]);
    assert_eq!(form.metadata.details.requires_python, None);
    let file = form.file("demo_pkg-1.0.0-py3-none-any.whl").unwrap();
    let held = metadata("Name: demo-pkg\nVersion: 1.0.0\nRequires-Python: >=3.8\n");
    let release = form.check(&file, &digests(), Some(held.clone())).unwrap();
    assert_eq!(release.metadata, held);
    assert_eq!((&*release.filename, &*release.python_version), ("demo_pkg-1.0.0-py3-none-any.whl", "py3"));
}

#[test]
fn a_source_distribution_with_an_old_name_is_described_by_what_it_holds() {
    let form = validate(&with("filetype", Some("sdist"))).unwrap();
    let file = form.file("Demo.Pkg-1.0.tar.gz").unwrap();
    assert_eq!(form.clone().check(&file, &digests(), None), Err(UploadError::NoMetadata));
    let held = metadata("Name: demo-pkg\nVersion: 1.0\nSummary: From the file\n");
    let release = form.check(&file, &digests(), Some(held)).unwrap();
    assert_eq!(release.metadata.details.summary.as_deref(), Some("From the file"));
    assert_eq!(release.python_version, "source");
}

type Expected = fn(&UploadError) -> bool;

#[test]
fn forms_that_are_not_well_formed_are_refused() {
    use UploadError as E;
    let table: Vec<(&'static str, Option<&str>, Expected)> = vec![
        (":action", None, |e| *e == E::Missing { field: ":action" }),
        (":action", Some("submit"), |e| matches!(e, E::Action { .. })),
        ("protocol_version", Some("2"), |e| matches!(e, E::ProtocolVersion { .. })),
        ("name", None, |e| *e == E::Missing { field: "name" }),
        ("name", Some("../x"), |e| matches!(e, E::Form(MetadataError::Name(_)))),
        ("version", Some(""), |e| *e == E::Missing { field: "version" }),
        ("version", Some("1/2"), |e| matches!(e, E::Form(MetadataError::Version(_)))),
        ("metadata_version", None, |e| *e == E::Missing { field: "metadata_version" }),
        ("metadata_version", Some("3.0"), |e| matches!(e, E::Form(MetadataError::MetadataVersion { .. }))),
        ("filetype", None, |e| *e == E::Missing { field: "filetype" }),
        ("filetype", Some("bdist_egg"), |e| matches!(e, E::FileType { .. })),
        ("md5_digest", Some("abc"), |e| matches!(e, E::Digest { field: "md5_digest", .. })),
        ("sha256_digest", Some("zz"), |e| matches!(e, E::Digest { field: "sha256_digest", .. })),
        ("blake2_256_digest", Some("zz"), |e| matches!(e, E::Digest { field: "blake2_256_digest", .. })),
        ("requires_python", Some("three"), |e| matches!(e, E::Form(MetadataError::RequiresPython { .. }))),
        ("attestations", Some("{}"), |e| *e == E::Attestations),
        ("attestations", Some("[1]"), |e| *e == E::Attestations),
        ("attestations", Some("[{]"), |e| *e == E::Attestations),
    ];
    for (field, value, expected) in table {
        let error = validate(&with(field, value)).unwrap_err();
        assert!(expected(&error), "{field} {value:?}: {error:?}");
    }
    assert_eq!(validate(&with("attestations", Some(r#"[{"version": 1}]"#))).unwrap().attestations.len(), 1);
    assert!(validate(&with("protocol_version", None)).is_ok());
    for repeated in ["name", "sha256_digest", ":action", "requires_python"] {
        let mut fields = fields();
        fields.push((repeated, "x".into()));
        assert_eq!(validate(&fields), Err(E::Repeated { field: repeated.into() }));
    }
}

#[test]
fn the_file_may_come_before_the_end_of_the_form() {
    let mut form = UploadForm::new();
    assert_eq!(form.file_hint("foo-2-3.tar.gz").unwrap().name().as_str(), "foo-2");
    form.add("name", "foo".into()).unwrap();
    form.add("version", "2-3".into()).unwrap();
    assert_eq!(form.file_hint("foo-2-3.tar.gz").unwrap().name().as_str(), "foo");
    assert!(matches!(form.file_hint("bar-1.tar.gz"), Err(UploadError::Filename(_))));
}

#[test]
fn forms_are_bounded() {
    let mut form = UploadForm::new();
    for _ in 0..UploadForm::MAX_FIELDS {
        form.add("classifiers", "x".into()).unwrap();
    }
    assert_eq!(form.add("classifiers", "x".into()), Err(UploadError::TooManyFields));
    let mut form = UploadForm::new();
    assert_eq!(form.add("x", "x".repeat(UploadForm::MAX_SIZE)), Err(UploadError::TooLarge));
}

#[test]
fn a_file_that_is_not_what_the_form_claims_is_refused() {
    let wheel = "demo_pkg-1.0-py3-none-any.whl";
    let check = |fields: &[(&'static str, String)], held: Option<&str>| {
        let form = validate(fields)?;
        let file = form.file(wheel)?;
        form.check(&file, &digests(), held.map(metadata))
    };
    let right = Some("Name: demo-pkg\nVersion: 1.0\nRequires-Python: >=3.8\n");
    assert!(check(&fields(), right).is_ok());
    assert!(check(&with("requires_python", Some(">= 3.8")), right).is_ok());
    for digest in ["md5_digest", "sha256_digest", "blake2_256_digest"] {
        let zeros = "0".repeat(if digest == "md5_digest" { 32 } else { 64 });
        let error = check(&with(digest, Some(&zeros)), right).unwrap_err();
        assert!(matches!(error, UploadError::WrongDigest { .. }), "{error}");
    }
    let disagrees = |fields: &[(&'static str, String)], held, field| {
        let error = check(fields, held).unwrap_err();
        assert!(matches!(error, UploadError::Disagree { field: found, .. } if found == field), "{error}");
    };
    disagrees(&with("requires_python", Some(">=3.9")), right, "requires_python");
    disagrees(
        &with("requires_python", Some(">=3.9")),
        Some("Name: demo-pkg\nVersion: 1.0\n"),
        "requires_python",
    );
    disagrees(&fields(), Some("Name: other\nVersion: 1.0\n"), "name");
    disagrees(&fields(), Some("Name: demo-pkg\nVersion: 1.1\n"), "version");
    disagrees(&with("filetype", Some("sdist")), right, "filetype");
    assert_eq!(check(&fields(), None), Err(UploadError::NoMetadata));
    assert!(matches!(check(&with("name", Some("other")), right), Err(UploadError::Filename(_))));
    assert!(matches!(check(&with("version", Some("2")), right), Err(UploadError::Filename(_))));
}

proptest! {
    #[test]
    fn no_form_makes_it_panic(fields in prop::collection::vec(
        ("(:action|name|version|filetype|md5_digest|attestations|metadata_version|x)", "(file_upload|sdist|2.1|1|\\PC{0,10})"), 0..12)
    ) {
        let mut form = UploadForm::new();
        let added = fields.into_iter().try_for_each(|(name, value)| form.add(&name, value));
        if added.is_ok() && let Ok(form) = form.validate() {
            let _ = form.file("a-1.tar.gz");
        }
    }
}
