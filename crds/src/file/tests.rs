#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::validate_registry;

const GOOD: &str =
    "apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata: {name: good}\nspec: {format: pypi}\n";

fn channel(name: &str, spec: &str) -> String {
    format!("apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn told(problems: &[FileProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_error_in_one_document_leaves_the_others() {
    let text = format!(
        "# first\n---\n{GOOD}---\nspec: [\n---\n{}---\n# nothing\n",
        channel("other", "{format: conda}")
    );
    let reading = read_channels(&text);
    let names: Vec<_> =
        reading.channels.iter().map(|found| (found.line, found.channel.object_name.as_str())).collect();
    assert_eq!(names, [(3, "good"), (10, "other")]);
    assert_eq!(reading.problems.len(), 1);
    assert!(reading.problems[0].line.is_some_and(|line| (8..=9).contains(&line)), "{:?}", reading.problems);
}

#[test]
fn a_field_that_nobody_knows_is_told_by_line() {
    let text = format!("{GOOD}  \n---\n{}", channel("x", "\n  format: pypi\n  visiblity: public"));
    let reading = read_channels(&text);
    let problem = &reading.problems[0];
    assert_eq!((problem.line, problem.column), (Some(12), Some(3)), "{problem}");
    assert!(problem.message.contains("visiblity"), "{problem}");
}

#[test]
fn a_value_of_the_wrong_type_or_an_unknown_word_is_told_by_line() {
    for (spec, line, word) in [
        (" {}", 4, "format"),
        ("\n  format: pip", 5, "pypi"),
        ("\n  format: pypi\n  visibility: open", 6, "public"),
        ("\n  format: pypi\n  permissions:\n  - subjects: [anonymous]\n    role: reader", 8, "Reader"),
        ("\n  format: pypi\n  adopt: 3", 6, "bool"),
        ("\n  format: pypi\n  format: pypi", 6, "uplicate"),
    ] {
        let reading = read_channels(&channel("x", spec));
        assert_eq!(reading.problems.len(), 1, "{spec}");
        let problem = &reading.problems[0];
        assert_eq!(problem.line, Some(line), "{spec}: {problem}");
        assert!(problem.message.contains(word), "{spec}: {problem}");
    }
}

#[test]
fn every_validation_problem_is_told_with_its_own_line() {
    let spec = "\n  format: pypi\n  name: a/b/c\n  permissions:\n  - subjects:\n    - anonymous\n    - ada\n    role: Reader\n  \
                - subjects: []\n    role: Reader\n  bucket: {name: No}";
    let reading = read_channels(&format!("---\n{}", channel("x", spec)));
    let places: Vec<_> = reading
        .problems
        .iter()
        .map(|problem| (problem.line.unwrap(), problem.path.as_deref().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            (7, "spec.name"),
            (11, "spec.permissions[0].subjects[1]"),
            (13, "spec.permissions[1].subjects"),
            (15, "spec.bucket.name"),
        ]
    );
    assert_eq!(reading.problems[3].column, Some(12));
    assert!(told(&reading.problems)[0].starts_with("line 7, column 3: spec.name: a channel"));
}

#[test]
fn a_problem_of_a_field_that_is_not_there_is_told_where_it_would_be() {
    let reading = read_channels("kind: Channel\nspec: {}\n");
    assert_eq!(
        told(&reading.problems),
        ["line 1, column 1: apiVersion: is missing; write `apiVersion: granary.dev/v1alpha1`"]
    );
    let reading = read_channels(&channel("Bad", "{format: pypi, name: good}"));
    assert_eq!(reading.problems[0].line, Some(3));
}

#[test]
fn other_objects_are_passed_over_and_slips_of_the_pen_are_not() {
    let kinds = |api_version: &str, kind: &str| {
        let reading = read_channels(&format!(
            "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nx: [1, 2.5, null]\n"
        ));
        (reading.problems.len(), reading.notices.len())
    };
    assert_eq!(kinds("v1", "ConfigMap"), (0, 1));
    assert_eq!(kinds("messaging.knative.dev/v1", "Channel"), (0, 1));
    assert_eq!(kinds("granary.dev/v1alpha1", "PackageRegistry"), (0, 1));
    assert_eq!(kinds("granary.dev/v1alpha1", "Chanel"), (1, 0));
    assert_eq!(kinds("granary.dev/v2", "Channel"), (1, 0));
    assert_eq!(kinds("v1", "List"), (1, 0));
    assert_eq!(read_channels("").problems, []);
    assert_eq!(read_channels("just text\n").problems.len(), 1);
}

#[test]
fn what_kubernetes_writes_into_an_object_is_accepted() {
    let text = "apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: x\n  uid: 1\n  generation: 3\n  managedFields: [{a: b}]\n\
                spec: {format: pypi}\nstatus: {conditions: [{type: Ready}]}\n";
    assert_eq!(read_channels(text).channels.len(), 1, "{:?}", read_channels(text).problems);
}

#[test]
fn documents_end_only_at_markers() {
    let text = format!(
        "\u{feff}--- # a comment\r\n{}",
        channel("x", "\n  format: pypi\n  description: |\n    above\n    ---\n    below")
            .replace('\n', "\r\n")
    );
    let reading = read_channels(&text);
    assert_eq!(reading.problems, []);
    assert_eq!(reading.channels[0].channel.settings.description.as_deref(), Some("above\n---\nbelow\n"));
}

#[test]
fn aliases_that_would_fill_the_memory_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", [alias.as_str(); 10].join(", ")).unwrap();
    }
    assert_eq!(read_channels(&text).problems.len(), 1);
}

#[test]
fn two_that_claim_one_name_are_both_left_out() {
    let files = [
        ("a.yaml", channel("main", "{format: pypi}")),
        ("b.yaml", channel("other", "{format: pypi, name: main}")),
        ("c.yaml", channel("third", "{format: conda, name: main}")),
    ];
    let folder = read_folder(files.iter().map(|(name, text)| (*name, text.as_str())));
    assert_eq!(folder.channels.len(), 1);
    assert_eq!(folder.channels[0].0, "c.yaml");
    let told: Vec<_> = folder.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a.yaml: line 1: the pypi channel main is claimed by two objects, also in b.yaml, line 1; keep one of them",
            "b.yaml: line 1: the pypi channel main is claimed by two objects, also in a.yaml, line 1; keep one of them",
        ]
    );
}

#[test]
fn objects_of_one_name_and_channels_of_one_bucket_conflict() {
    let folder = |second: &str| {
        let files = [
            ("a.yaml", channel("main", "{format: pypi, bucket: {name: wheels}}")),
            ("b.yaml", second.to_owned()),
        ];
        read_folder(files.iter().map(|(name, text)| (*name, text.as_str()))).channels.len()
    };
    assert_eq!(folder(&channel("main", "{format: conda}")), 0);
    assert_eq!(folder(&channel("other", "{format: conda, bucket: {name: wheels}}")), 0);
    assert_eq!(folder(&channel("other", "{format: conda}")), 2);
}

#[test]
fn a_channel_excludes_channels_below_it() {
    let text = [
        channel("team", "{format: pypi}"),
        channel("team-dev", "{format: pypi, name: team/dev}"),
        channel("teams", "{format: pypi, name: teams/dev}"),
    ]
    .join("---\n");
    let folder = read_folder([("a.yaml", text.as_str())]);
    assert_eq!(folder.channels.len(), 1);
    let told: Vec<_> = folder.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a.yaml: line 1: a channel team excludes channels team/*; team/dev is in a.yaml, line 6",
            "a.yaml: line 6: a channel team excludes channels team/*; team is in a.yaml, line 1",
        ]
    );
}

#[test]
fn a_registry_is_an_object_or_its_spec() {
    let object = read_registry(
        "apiVersion: granary.dev/v1alpha1\nkind: PackageRegistry\nmetadata: {name: x}\nspec:\n  limits:\n    maxUploadSize: 2Gi\n",
    )
    .unwrap();
    let bare = read_registry("limits:\n  maxUploadSize: 2147483648\n").unwrap();
    assert_eq!(validate_registry(&object.spec), validate_registry(&bare.spec));
    assert_eq!(validate_registry(&bare.spec).unwrap().limits.max_upload_size, 2 << 30);
    assert_eq!(read_registry("# nothing\n").unwrap().spec, PackageRegistrySpec::default());
    for wrong in [
        "kind: Channel\n",
        "apiVersion: granary.dev/v1alpha1\nkind: Channel\nspec: {}\n",
        "a: 1\n---\nb: 1\n",
        "limit: {}\n",
    ] {
        assert!(read_registry(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn problems_of_a_registry_are_located_in_its_file() {
    let located = |text: &str| {
        let file = read_registry(text).unwrap();
        let problems = validate_registry(&file.spec).unwrap_err();
        file.locate(&problems[0]).to_string()
    };
    let bare = located("listen:\n- 0.0.0.0:8080\n- '8080'\n");
    assert!(bare.starts_with("line 3, column 3: listen[1]: write an address"), "{bare}");
    let object = located(
        "apiVersion: granary.dev/v1alpha1\nkind: PackageRegistry\nmetadata: {name: x}\nspec:\n  limits: {headerTimeout: 9}\n",
    );
    assert!(object.starts_with("line 5, column 12: spec.limits.headerTimeout: write a span"), "{object}");
    let absent = located("database: {schema: granary}\n");
    assert!(absent.starts_with("database.url: set url or urlFile"), "{absent}");
}

#[test]
fn an_unknown_option_in_a_file_is_told_by_line() {
    let problems = read_registry("database:\n  urlFile: /x\n  maxConnection: 3\n").unwrap_err();
    assert_eq!(problems[0].line, Some(3));
    assert!(problems[0].message.contains("maxConnection"), "{}", problems[0]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(---\n|[a-z]{1,3}: |\\[|\\]|\\{|\\}|- |\n|  |&a |\\*a|'|\"|\\PC){0,60}") {
        read_channels(&text);
        let _ = read_registry(&text);
    }

    #[test]
    fn a_damaged_document_never_hides_the_one_before(cut in 0usize..120, junk in "\\PC{0,20}") {
        let cut = cut.min(GOOD.len());
        let reading = read_channels(&format!("{GOOD}---\n{}{junk}\n", &GOOD[..cut]));
        prop_assert_eq!(reading.channels[0].channel.object_name.as_str(), "good");
    }
}
