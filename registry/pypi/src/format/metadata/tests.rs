#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

const MINIMAL: &str = "Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.0\n";

fn parse(text: &str) -> Result<CoreMetadata, MetadataError> {
    CoreMetadata::parse(text.as_bytes())
}

#[test]
fn fields_lists_and_body_are_read() {
    let metadata = parse(
        "Metadata-Version: 2.4\r\nname: Demo.Pkg\r\nVersion: 1.0.0-RC1\r\nSummary: A  demo:\r\n  folded\r\n\
         Classifier: A :: B\r\nClassifier: C :: D\r\nRequires-Dist: six (>=1.0) ; extra == 'x'\r\nProvides-Extra: x\r\n\
         Project-URL: Home, https://example.org/\r\nLicense-Expression: MIT\r\nLicense-File: LICENSE\r\n\
         Requires-Python: >=3.8, !=3.9.*\r\nX-Unknown: kept out\r\nHome-page: UNKNOWN\r\nAuthor: \r\n\
         Import-Name: demo\r\n\r\n# Title\r\n\r\nText\r\n",
    )
    .unwrap();
    let details = &metadata.details;
    assert_eq!(metadata.metadata_version, "2.4");
    assert_eq!((metadata.name.as_str(), &*metadata.version.to_string()), ("Demo.Pkg", "1.0.0rc1"));
    assert_eq!(details.summary.as_deref(), Some("A  demo: folded"));
    assert_eq!(details.classifiers, ["A :: B", "C :: D"]);
    assert_eq!(details.requires_dist, ["six (>=1.0) ; extra == 'x'"]);
    assert_eq!(details.provides_extra, ["x"]);
    assert_eq!(details.project_urls, ["Home, https://example.org/"]);
    assert_eq!(
        (details.license_expression.as_deref(), &*details.license_files),
        (Some("MIT"), &["LICENSE".into()][..])
    );
    assert_eq!(details.requires_python.as_deref(), Some(">=3.8, !=3.9.*"));
    assert_eq!((&details.home_page, &details.author), (&None, &None));
    assert_eq!(details.import_names, ["demo"]);
    assert_eq!(details.description.as_deref(), Some("# Title\n\nText\n"));
}

#[test]
fn folded_descriptions_of_both_writers_are_unfolded() {
    let spaces = parse(&format!(
        "{MINIMAL}Description: One\n        Two\n          indented\n        \n        Three\n"
    ));
    assert_eq!(spaces.unwrap().details.description.as_deref(), Some("One\nTwo\n  indented\n\nThree"));
    let bars = parse(&format!(
        "{MINIMAL}Description: One\n       |Two\n       |  indented\n       |\n       |Three\n"
    ));
    assert_eq!(bars.unwrap().details.description.as_deref(), Some("One\nTwo\n  indented\n\nThree"));
    let license = parse(&format!("{MINIMAL}License: MIT License\n        \n        Copyright\n"));
    assert_eq!(license.unwrap().details.license.as_deref(), Some("MIT License\n\nCopyright"));
}

#[test]
fn metadata_round_trips_through_json() {
    let metadata = parse(&format!("{MINIMAL}Classifier: A\nSummary: S\n\nBody\n")).unwrap();
    let json = serde_json::to_string(&metadata).unwrap();
    assert_eq!(serde_json::from_str::<CoreMetadata>(&json).unwrap(), metadata);
    assert!(json.contains(r#""name":"Demo.Pkg""#) && json.contains(r#""summary":"S""#));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    use MetadataError as E;
    let many = "Classifier: x\n".repeat(CoreMetadata::MAX_FIELDS);
    let table: [(&str, E); 15] = [
        ("", E::Missing { field: "Metadata-Version" }),
        ("Metadata-Version: 2.1\nVersion: 1\n", E::Missing { field: "Name" }),
        ("Metadata-Version: 2.1\nName: a\n", E::Missing { field: "Version" }),
        ("Metadata-Version: 2.1\n\nName: a\nVersion: 1\n", E::Missing { field: "Name" }),
        ("Metadata-Version: 9.0\nName: a\nVersion: 1\n", E::MetadataVersion { version: "9.0".into() }),
        ("Metadata-Version: 2.1\nName: a/b\nVersion: 1\n", E::Name(ProjectNameError::Character)),
        ("Metadata-Version: 2.1\nName: a\nName: b\nVersion: 1\n", E::Repeated { field: "Name" }),
        ("Metadata-Version: 2.1\nName: a\nnot a field\n", E::NotAField { line: 3 }),
        ("Metadata-Version: 2.1\nName : a\nVersion: 1\n", E::NotAField { line: 2 }),
        (" folded: first\n", E::NotAField { line: 1 }),
        ("\u{feff}Metadata-Version: 2.1\n", E::NotAField { line: 1 }),
        ("Metadata-Version: 2.1\nName: a\rRequires-Dist: evil\n", E::ControlCharacter { line: 2 }),
        ("Metadata-Version: 2.1\nName: a\0\n", E::ControlCharacter { line: 2 }),
        (
            "Metadata-Version: 2.1\nName: a\nVersion: 1\nDescription: x\n\nbody\n",
            E::Repeated { field: "Description" },
        ),
        (&many, E::Missing { field: "Metadata-Version" }),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text), Err(expected), "{:?}", &text[..text.len().min(80)]);
    }
    assert_eq!(parse(&format!("{many}Name: a\n")), Err(E::TooManyFields));
    assert_eq!(CoreMetadata::parse(b"Name: \xff\n"), Err(E::Encoding));
    assert_eq!(CoreMetadata::parse(b"Name: \xc0\xaf\n"), Err(E::Encoding));
    assert_eq!(CoreMetadata::parse(&vec![b'a'; CoreMetadata::MAX_SIZE + 1]), Err(E::Size));
    assert!(matches!(parse("Metadata-Version: 2.1\nName: a\nVersion: x\n"), Err(E::Version(_))));
}

#[test]
fn requires_python_is_a_list_of_specifiers() {
    for good in [">=3.8", ">=2.7,!=3.0.*,!=3.1.*", "~=3.9", "==3.*", ">= 3.6 , < 4"] {
        assert!(parse(&format!("{MINIMAL}Requires-Python: {good}\n")).is_ok(), "{good}");
    }
    for bad in ["3.8", ">=3.8 <4", "python>3", ">=3.*", "=>3"] {
        let error = parse(&format!("{MINIMAL}Requires-Python: {bad}\n")).unwrap_err();
        assert!(matches!(error, MetadataError::RequiresPython { .. }), "{bad}: {error}");
    }
    assert!(same_requires_python(">=3.8,<4", "<4, >=3.8"));
    assert!(!same_requires_python(">=3.8", ">=3.9"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = CoreMetadata::parse(&bytes);
    }

    #[test]
    fn no_text_makes_the_parser_panic(lines in prop::collection::vec("(Name|Version|Description|Requires-Python|License| |)(:|) ?\\PC{0,12}\r?", 0..12)) {
        let _ = parse(&format!("{MINIMAL}{}", lines.join("\n")));
    }

    #[test]
    fn written_values_are_read_back(
        summary in "[a-zA-Z:,;]{1,20}",
        classifiers in prop::collection::vec("[a-zA-Z:]{1,12}", 0..5),
        body in "[a-z\n #]{0,60}[a-z]"
    ) {
        prop_assume!(summary != "UNKNOWN" && !classifiers.iter().any(|text| text == "UNKNOWN"));
        let lines = classifiers.iter().map(|text| format!("Classifier: {text}\n")).collect::<Vec<_>>().concat();
        let metadata = parse(&format!("{MINIMAL}Summary: {summary}\n{lines}\n{body}")).unwrap();
        prop_assert_eq!(metadata.details.summary, Some(summary));
        prop_assert_eq!(metadata.details.classifiers, classifiers);
        prop_assert_eq!(metadata.details.description, Some(body));
    }
}
