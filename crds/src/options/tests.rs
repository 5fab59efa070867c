#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A spec with every optional group present.
fn full_spec() -> PackageRegistrySpec {
    let mut spec = PackageRegistrySpec {
        database: Some(crate::DatabaseSpec::default()),
        object_store: Some(crate::ObjectStoreSpec::default()),
        ..PackageRegistrySpec::default()
    };
    spec.admins.initial = Some(crate::InitialAdminSpec::default());
    spec
}

fn leaves(path: &str, value: &Json, out: &mut BTreeSet<String>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, out);
            }
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

/// What of the spec only the operator reads.
const FOR_THE_OPERATOR: [&str; 21] = [
    "allowedNamespaces",
    "database.provision",
    "gateway",
    "host",
    "image",
    // Lists of structures have no variable: they stand in the file.
    "identity.authenticators",
    "identity.issuers",
    "identity.providers",
    "identity.secretRef",
    "identity.serviceAccounts",
    "imagePullSecrets",
    "ingress",
    "monitoring",
    "networkPolicy",
    "outbound.caRef",
    "paused",
    "pod",
    "replicas",
    "storage",
    "tls",
    "autoscaling",
];

#[test]
fn the_options_are_the_fields_as_serde_names_them() {
    let mut fields = BTreeSet::new();
    let set: Vec<_> = options().iter().map(|option| (option.env(), text_for(option).to_owned())).collect();
    let mut spec = full_spec();
    apply_environment(&mut spec, set).unwrap();
    leaves("", &serde_json::to_value(spec).unwrap(), &mut fields);
    let described: BTreeSet<String> = options().iter().map(|option| option.path.clone()).collect();
    let undescribed: BTreeSet<String> = fields.difference(&described).cloned().collect();
    let unknown: Vec<&String> = undescribed
        .iter()
        .filter(|path| !FOR_THE_OPERATOR.iter().any(|part| path.starts_with(part)))
        .collect();
    assert!(unknown.is_empty(), "neither an option nor the operator's: {unknown:?}");
    assert!(described.is_subset(&fields), "no such field: {:?}", described.difference(&fields));
    let variables: BTreeSet<String> = options().iter().map(OptionDoc::env).collect();
    assert_eq!(variables.len(), options().len(), "two options share a variable");
}

/// A text for an option that is not its default.
fn text_for(option: &OptionDoc) -> &'static str {
    match option.kind.as_str() {
        "number" => "3",
        "true or false" => "false",
        "json or human" => "human",
        "size" => "7Mi",
        "time" => "11s",
        "URL" => "https://other.example",
        "address" | "list of address" => "127.0.0.1:1",
        "list of network" => "10.0.0.0/8",
        "host" => "other.example",
        // A list of subjects.
        _ if option.path == "conda.channelsByApi.allowed" => "authenticated",
        _ => "other",
    }
}

#[test]
fn every_option_is_set_by_its_variable_and_by_no_other() {
    for option in options() {
        let mut spec = full_spec();
        let applied =
            apply_environment(&mut spec, environment(&[(&option.env(), text_for(option))])).unwrap();
        assert_eq!(applied, [option]);
        let (before, after) =
            (serde_json::to_value(full_spec()).unwrap(), serde_json::to_value(spec).unwrap());
        let pointer = format!("/{}", option.path.replace('.', "/"));
        assert_ne!(before.pointer(&pointer), after.pointer(&pointer), "{}", option.path);
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let without_it = |mut spec: Json| {
            spec.pointer_mut(parent).and_then(Json::as_object_mut).unwrap().remove(field);
            spec
        };
        assert_eq!(without_it(after), without_it(before), "{} changed something else", option.path);
    }
}

#[test]
fn names_are_mechanical() {
    let env = |path: &str| options().iter().find(|option| option.path == path).map(OptionDoc::env).unwrap();
    assert_eq!(env("database.url"), "GRANARY_DATABASE_URL");
    assert_eq!(env("objectStore.endpoint"), "GRANARY_OBJECT_STORE_ENDPOINT");
    assert_eq!(env("admins.initial.passwordFile"), "GRANARY_ADMINS_INITIAL_PASSWORD_FILE");
}

#[test]
fn a_variable_that_looks_like_an_option_and_is_none_is_told() {
    let told = |name: &str| {
        apply_environment(&mut PackageRegistrySpec::default(), environment(&[(name, "x")]))
            .map_err(|problems| problems[0].message.clone())
            .err()
    };
    for (name, meant) in [
        ("GRANARY_DATABASE_URI", "GRANARY_DATABASE_URL"),
        ("GRANARY_DATABASE_MAX_CONNECTION", "GRANARY_DATABASE_MAX_CONNECTIONS"),
        ("GRANARY_DATABSE_URL", "GRANARY_DATABASE_URL"),
        ("GRANARY_CACHE_SIZE", "GRANARY_CACHE_MAX_SIZE"),
        ("GRANARY_LISTENS", "GRANARY_LISTEN"),
    ] {
        assert!(told(name).is_some_and(|message| message.contains(meant)), "{name}: {:?}", told(name));
    }
    for other in [
        "GRANARY_CONFIG",
        "GRANARY_SERVICE_HOST",
        "GRANARY_SERVICE_PORT_HTTP",
        "GRANARY_PORT",
        "GRANARY_PORT_8080_TCP_ADDR",
        "GRANARY_CACHE_PORT_80_TCP",
        "PATH",
    ] {
        assert_eq!(told(other), None, "{other}");
    }
}

#[test]
fn a_bad_value_names_the_variable_and_not_the_value() {
    let mut spec = PackageRegistrySpec::default();
    let pairs = [("GRANARY_LIMITS_MAX_UPLOAD_SIZE", "s3cret"), ("GRANARY_LIMITS_UPLOAD_BUFFERS", "many")];
    let problems = apply_environment(&mut spec, environment(&pairs)).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].path, "GRANARY_LIMITS_MAX_UPLOAD_SIZE");
    assert!(!problems[0].message.contains("s3cret"));
}

#[test]
fn lists_are_separated_by_commas_and_an_empty_variable_is_none() {
    let mut spec = PackageRegistrySpec::default();
    let pairs = [("GRANARY_LISTEN", "0.0.0.0:1, [::]:1,"), ("GRANARY_TELEMETRY_LOG_FILTER", "")];
    apply_environment(&mut spec, environment(&pairs)).unwrap();
    assert_eq!(spec.listen, [Raw::new("0.0.0.0:1"), Raw::new("[::]:1")]);
    assert_eq!(spec.telemetry.log_filter, "info");
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, reference_page()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == reference_page(),
        "run UPDATE_DOCS=1 cargo test --release -p granary-crds and commit the page"
    );
}

#[test]
fn help_lists_every_option() {
    let help = help_text();
    assert!(options().iter().all(|option| help.contains(&option.env())));
}
