#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

fn parse(filename: &str) -> Result<DistributionFile, FilenameError> {
    filename.parse()
}

#[test]
fn wheels_tell_name_version_build_and_tags() {
    let file = parse("PyYAML-6.0.2-1abc-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl").unwrap();
    assert_eq!(file.name().normalized().as_str(), "pyyaml");
    assert_eq!(file.version().to_string(), "6.0.2");
    assert_eq!(file.package_type(), PackageType::BdistWheel);
    assert_eq!(file.python_version(), "cp312");
    assert_eq!(
        file.kind(),
        &Kind::Wheel {
            build: Some("1abc".into()),
            python_tag: "cp312".into(),
            abi_tag: "cp312".into(),
            platform_tag: "manylinux_2_17_x86_64.manylinux2014_x86_64".into(),
        }
    );
    assert_eq!(
        parse("torch-2.1.0+cu118-cp311-cp311-linux_x86_64.whl").unwrap().version().to_string(),
        "2.1.0+cu118"
    );
    assert_eq!(parse("six-1.17.0-py2.py3-none-any.whl").unwrap().python_version(), "py2.py3");
}

#[test]
fn source_distributions_tell_name_and_version() {
    for (filename, name, version) in [
        ("six-1.17.0.tar.gz", "six", "1.17.0"),
        ("google-api-core-1.0.tar.gz", "google-api-core", "1.0"),
        ("zope.interface-5.0.zip", "zope-interface", "5.0"),
        ("a-1.0a1.dev2+local.3.tar.gz", "a", "1.0a1.dev2+local.3"),
        ("a-1!2.0.tar.gz", "a", "1!2.0"),
    ] {
        let file = parse(filename).unwrap();
        assert_eq!((file.name().normalized().as_str(), &*file.version().to_string()), (name, version));
        assert_eq!((file.package_type(), file.python_version()), (PackageType::Sdist, "source"));
    }
}

#[test]
fn old_names_are_read_with_the_help_of_the_form() {
    let parse_for = |filename, name: &str, version: &str| {
        DistributionFile::parse_for(filename, &name.parse().unwrap(), &version.parse().unwrap())
    };
    assert!(parse_for("foo-2-3.tar.gz", "foo-2", "3").is_ok());
    assert!(parse_for("foo-2-3.tar.gz", "foo", "2.post3").is_ok());
    assert!(parse_for("Foo.Bar-1.0-beta.zip", "foo_bar", "1.0b0").is_ok());
    assert!(parse_for("foo_bar-1.0.0-py3-none-any.whl", "Foo-Bar", "1.0").is_ok());
    for (filename, name, version) in [
        ("foo-1.0.tar.gz", "bar", "1.0"),
        ("foo-1.0.tar.gz", "foo", "1.1"),
        ("foo-1.0-py3-none-any.whl", "foo", "1.1"),
        ("foo-1.0-py3-none-any.whl", "fooo", "1.0"),
    ] {
        assert!(
            matches!(parse_for(filename, name, version), Err(FilenameError::OtherRelease { .. })),
            "{filename}"
        );
    }
}

type Expected = fn(&FilenameError) -> bool;

#[test]
fn everything_else_is_refused_with_its_reason() {
    use FilenameError as E;
    let long = format!("{}-1.0.tar.gz", "a".repeat(250));
    let table: [(&str, Expected); 24] = [
        ("", |e| *e == E::Length),
        (&long, |e| *e == E::Length),
        ("../a-1.0.tar.gz", |e| *e == E::Character),
        ("a/b-1.0.tar.gz", |e| *e == E::Character),
        ("a\\b-1.0.tar.gz", |e| *e == E::Character),
        (".a-1.0.tar.gz", |e| *e == E::Character),
        ("-a-1.0.tar.gz", |e| *e == E::Character),
        ("a-1.0\0.tar.gz", |e| *e == E::Character),
        ("a-1.0\n.tar.gz", |e| *e == E::Character),
        ("a-1.0 .tar.gz", |e| *e == E::Character),
        ("a%2f-1.0.tar.gz", |e| *e == E::Character),
        ("é-1.0.tar.gz", |e| *e == E::Character),
        ("a-1.0\u{202e}.tar.gz", |e| *e == E::Character),
        ("a-1.0.exe", |e| *e == E::Extension),
        ("a-1.0.tar.bz2", |e| *e == E::Extension),
        ("a-1.0-py3.egg", |e| *e == E::Extension),
        ("a-1.0.WHL", |e| *e == E::Extension),
        ("a-1.0.whl", |e| *e == E::Wheel),
        ("a-1.0-x1-py3-none-any.whl", |e| *e == E::Wheel),
        ("a-1.0-py3-none-.whl", |e| *e == E::Wheel),
        ("a-1.0-py3.-none-any.whl", |e| *e == E::Wheel),
        ("a.tar.gz", |e| *e == E::Sdist),
        ("a_-1.0.tar.gz", |e| matches!(e, E::Name(_))),
        ("a-x.tar.gz", |e| matches!(e, E::Version(_))),
    ];
    for (filename, expected) in table {
        let error = parse(filename).unwrap_err();
        assert!(expected(&error), "{filename:?}: {error:?}");
    }
}

proptest! {
    #[test]
    fn no_name_makes_the_parser_panic_and_none_accepted_can_leave_its_folder(
        name in "\\PC{0,30}(\\.whl|\\.tar\\.gz|\\.zip)?"
    ) {
        if let Ok(file) = parse(&name) {
            prop_assert!(!file.filename().contains(['/', '\\', '\0']) && !file.filename().starts_with('.'));
            let again = DistributionFile::parse_for(&name, file.name(), file.version()).unwrap();
            prop_assert_eq!(again.kind(), file.kind());
        }
    }

    #[test]
    fn well_formed_names_are_read(name in "[a-z][a-z0-9_]{0,5}[a-z]", version in "[0-9]\\.[0-9]{1,3}(rc1)?", tag in "(py3|cp31[0-9])") {
        let file = parse(&format!("{name}-{version}-{tag}-none-any.whl")).unwrap();
        prop_assert_eq!(file.version().to_string(), version.parse::<Version>().unwrap().to_string());
        let stem = format!("{}-{version}", name.to_uppercase());
        prop_assert!(file.is_named_by(&stem));
    }
}
