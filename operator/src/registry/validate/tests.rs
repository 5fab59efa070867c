#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::needless_pass_by_value, clippy::too_many_lines, reason = "specs stand where they are used")]

use granary_crds::{LogFormat, apply_environment, options};
use serde_json::json;

use super::*;

/// What the operator knows beside the object, in a cluster that can do everything.
pub fn facts() -> Facts {
    Facts {
        defaults: Defaults {
            image: "registry.example/granary:1.0.0".to_owned(),
            store_image: "registry.example/granary-store:1.0.0".to_owned(),
            image_pull_policy: Some(PullPolicy::IfNotPresent),
        },
        cluster: Capabilities { gateway_api: true, service_monitor: true, ipv6: false },
        secrets_checksum: "5ec5e7".to_owned(),
        has_direct_url: false,
        cluster_issuer: None,
    }
}

/// A registry `packages` of the namespace `team` as the API server has it.
pub fn object(spec: Json) -> RegistryObject {
    let object = json!({
        "apiVersion": granary_crds::API_VERSION,
        "kind": "PackageRegistry",
        "metadata": {"name": "packages", "namespace": "team", "uid": "0b1c"},
        "spec": spec,
    });
    serde_json::from_value(object).expect("the spec has the right shape")
}

/// A spec that names Postgres and S3.
pub fn external(more: Json) -> Json {
    let mut spec = json!({
        "database": {"secretRef": {"name": "pg"}},
        "objectStore": {"endpoint": "https://s3.example", "secretRef": {"name": "s3"}},
    });
    merge(&mut spec, more);
    spec
}

fn merge(base: &mut Json, more: Json) {
    match (base, more) {
        (Json::Object(base), Json::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Json::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

fn valid(spec: Json) -> ValidatedRegistry {
    validate(&object(spec), &facts()).unwrap()
}

fn problems(spec: Json) -> Vec<Problem> {
    validate(&object(spec), &facts()).expect_err("the spec is bad")
}

#[test]
fn a_registry_that_says_nothing_has_a_store_of_its_own() {
    let registry = valid(json!({}));
    let StorePlan::Own(store) = &registry.store else { panic!("{:?}", registry.store) };
    assert_eq!(store.image, "registry.example/granary-store:1.0.0");
    assert_eq!(store.size.to_string(), "20Gi");
    assert_eq!(registry.scale, Scale::Fixed(2));
    assert_eq!(registry.schema().as_str(), "granary");
    assert_eq!(registry.server.limits.max_upload_size, 1 << 30);
    assert_eq!(registry.entrance.url, "http://packages.team.svc");
    assert_eq!(registry.entrance.route, None);
    assert_eq!(registry.entrance.public_url, None);
    let endpoint = registry.server.object_store.unwrap().endpoint.unwrap();
    assert_eq!(endpoint.as_str(), "http://packages-store.team.svc:9000");
}

#[test]
fn urls_follow_from_hosts_and_certificates() {
    let tls = json!({"secretName": "cert"});
    let own = json!({"pypi": {"host": "pypi.example"}});
    for (spec, public, url, pypi) in [
        (json!({"host": "a.example"}), Some("http://a.example"), "http://a.example", "http://a.example/pypi"),
        (
            json!({"host": "a.example", "tls": tls}),
            Some("https://a.example"),
            "https://a.example",
            "https://a.example/pypi",
        ),
        (
            json!({"host": "a.example", "tls": tls, "hosts": own}),
            Some("https://a.example"),
            "https://a.example",
            "https://pypi.example",
        ),
        (
            json!({"host": "a.example", "publicUrl": "https://b.example/packages/"}),
            Some("https://b.example/packages"),
            "https://b.example/packages",
            "https://b.example/packages/pypi",
        ),
        (json!({"hosts": own, "tls": tls}), None, "https://pypi.example", "https://pypi.example"),
    ] {
        let entrance = valid(spec.clone()).entrance;
        assert_eq!(entrance.public_url.as_ref().map(granary_crds::HttpUrl::as_str), public, "{spec}");
        assert_eq!(entrance.url, url, "{spec}");
        assert_eq!(entrance.endpoints["pypi"], pypi, "{spec}");
    }
}

#[test]
fn each_bad_spec_is_told_where_it_is_bad_and_what_to_write() {
    let with_pod = |pod: Json| json!({"pod": pod});
    let table = [
        (json!({"database": {"secretRef": {"name": "pg"}}}), "spec.objectStore", "or neither"),
        (json!({"objectStore": {}}), "spec.database", "or neither"),
        (
            json!({"database": {"url": "postgresql://u:hunter2@h/d"}, "objectStore": {}}),
            "spec.database.url",
            "does not belong in an object",
        ),
        (json!({"database": {}, "objectStore": {}}), "spec.database.secretRef", "secretRef: {name: NAME}"),
        (
            external(json!({"database": {"secretRef": {"name": "PG"}}})),
            "spec.database.secretRef.name",
            "Secret",
        ),
        (
            external(json!({"database": {"secretRef": {"urlKey": "a/b"}}})),
            "spec.database.secretRef.urlKey",
            "write a key",
        ),
        (
            external(json!({"database": {"caRef": {"configMap": "a", "secret": "b"}}})),
            "spec.database.caRef",
            "name either a configMap or a secret",
        ),
        (external(json!({"database": {"schema": "public"}})), "spec.database.schema", "belong to Postgres"),
        (
            external(json!({"objectStore": {"secretAccessKey": "hunter2"}})),
            "spec.objectStore.secretAccessKey",
            "does not belong in an object",
        ),
        (
            external(json!({"objectStore": {"provisionerSecretRef": {"name": ""}}})),
            "spec.objectStore.provisionerSecretRef.name",
            "Secret",
        ),
        (
            external(json!({"objectStore": {"bucketPrefix": "A-"}})),
            "spec.objectStore.bucketPrefix",
            "lower-case",
        ),
        (external(json!({"objectStore": {"endpoint": "s3.example"}})), "spec.objectStore.endpoint", "http"),
        (json!({"storage": {"size": "much"}}), "spec.storage.size", "write a size such as"),
        (json!({"storage": {"size": 0}}), "spec.storage.size", "holds nothing"),
        (json!({"limits": {"drainTimeout": "soon"}}), "spec.limits.drainTimeout", "span of time"),
        (json!({"publicUrl": "packages.example"}), "spec.publicUrl", "write a URL"),
        (json!({"image": "granary 1"}), "spec.image", "write an image"),
        (json!({"imagePullSecrets": [{"name": "a_b"}]}), "spec.imagePullSecrets[0].name", "Secret"),
        (json!({"replicas": -1}), "spec.replicas", "at least 0"),
        (
            json!({"autoscaling": {"minReplicas": 9, "maxReplicas": 2}}),
            "spec.autoscaling",
            "at most maxReplicas",
        ),
        (
            json!({"autoscaling": {}, "pod": {"resources": {"requests": {"memory": "1Gi"}}}}),
            "spec.pod.resources",
            "add requests.cpu",
        ),
        (json!({"host": "A.example:80"}), "spec.host", "name of a host"),
        (json!({"hosts": {"pypi": {"host": "10.0.0.1"}}}), "spec.hosts.pypi.host", "name of a host"),
        (
            json!({"host": "a.example", "hosts": {"pypi": {"host": "a.example"}}}),
            "spec.hosts.pypi.host",
            "host of all protocols",
        ),
        (json!({"tls": {"secretName": "t"}}), "spec.tls", "needs a host"),
        (json!({"host": "a.example", "tls": {}}), "spec.tls", "name the Secret of the certificate"),
        (json!({"gateway": {"parentRefs": [{"name": "g"}]}}), "spec.gateway", "needs a host to route"),
        (
            json!({"host": "a.example", "tls": {"secretName": "t"},
                "gateway": {"parentRefs": [{"name": "g"}]}}),
            "spec.tls",
            "listener has the certificate",
        ),
        (
            json!({"host": "a.example", "gateway": {"parentRefs": []}}),
            "spec.gateway.parentRefs",
            "name the Gateway",
        ),
        (
            json!({"outbound": {"httpsProxy": "proxy:3128"}}),
            "spec.outbound.httpsProxy",
            "http://proxy.example:3128",
        ),
        (
            json!({"admins": {"initial": {"name": "root"}}}),
            "spec.admins.initial.passwordSecretRef",
            "passwordSecretRef: {name: NAME, key: password}",
        ),
        (
            json!({"admins": {"initial":
                {"passwordHash": "$argon2id$x", "passwordSecretRef": {"name": "a"}}}}),
            "spec.admins.initial.passwordHash",
            "does not belong in an object",
        ),
        (json!({"sealing": {"keys": "AAAA"}}), "spec.sealing.keys", "do not belong in an object"),
        (
            with_pod(json!({"labels": {"app.kubernetes.io/name": "x"}})),
            "spec.pod.labels.app.kubernetes.io/name",
            "is the operator's",
        ),
        (with_pod(json!({"labels": {"team": "a b"}})), "spec.pod.labels.team", "at most 63 letters"),
        (with_pod(json!({"annotations": {"a/b/c": ""}})), "spec.pod.annotations.a/b/c", "write a key"),
        (
            with_pod(json!({"tolerations": [{"key": "a", "efect": "NoSchedule"}]})),
            "spec.pod.tolerations[0].efect",
            "no such field in a toleration",
        ),
        (
            with_pod(json!({"tolerations": [{"tolerationSeconds": "x"}]})),
            "spec.pod.tolerations[0]",
            "does not read this as a toleration",
        ),
        (
            with_pod(json!({"affinity": {"nodeAfinity": {}}})),
            "spec.pod.affinity.nodeAfinity",
            "check its spelling",
        ),
        (with_pod(json!({"env": [{"name": "A"}, {"name": "A"}]})), "spec.pod.env[1].name", "named twice"),
        (with_pod(json!({"env": [{"name": "GRANARY_CONFIG"}]})), "spec.pod.env[0].name", "the operator sets"),
        (
            with_pod(json!({"overrides": {"spec": {"containers": [{"image": "x"}]}}})),
            "spec.pod.overrides.spec.containers[0].name",
            "called registry",
        ),
        (
            with_pod(json!({"overrides": {"spec": {"hostNetworks": true}}})),
            "spec.pod.overrides.spec.hostNetworks",
            "no such field in a pod template",
        ),
        (
            with_pod(json!({"overrides": {"metadata": {"labels": {"granary.dev/registry": "x"}}}})),
            "spec.pod.overrides.metadata.labels.granary.dev/registry",
            "is the operator's",
        ),
        (
            with_pod(json!({"overrides": {"spec": {"$patch": "replace"}}})),
            "spec.pod.overrides.spec.$patch",
            "only `$patch: delete`",
        ),
        (
            json!({"networkPolicy": {"from": [{"podSelectors": {}}]}}),
            "spec.networkPolicy.from[0].podSelectors",
            "no such field",
        ),
        (
            json!({"allowedNamespaces": {"names": ["*"]}}),
            "spec.allowedNamespaces.names[0]",
            "write selector: {}",
        ),
        (
            json!({"allowedNamespaces": {"selector":
                {"matchExpressions": [{"key": "a", "operator": "Near"}]}}}),
            "spec.allowedNamespaces.selector",
            "In, NotIn, Exists",
        ),
    ];
    for (spec, path, message) in table {
        let found = problems(spec.clone());
        let [problem] = &found[..] else { panic!("one problem is wanted of {spec}: {found:?}") };
        assert_eq!(problem.path, path, "{spec}: {problem}");
        assert!(problem.message.contains(message), "{spec}: {problem}");
        assert!(!problem.message.contains("hunter2"), "{problem}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(json!({
        "host": "A",
        "database": {"schema": "pg_x"},
        "limits": {"maxUploadSize": "huge"},
        "pod": {"env": [{"name": ""}]},
        "allowedNamespaces": {"names": ["A"]},
    }));
    let mut paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "spec.allowedNamespaces.names[0]",
            "spec.database.schema",
            "spec.database.secretRef",
            "spec.host",
            "spec.limits.maxUploadSize",
            "spec.objectStore",
            "spec.pod.env[0].name",
        ]
    );
}

#[test]
fn an_object_has_a_name_that_others_can_be_made_of() {
    for bad in ["1st", "a.b", "-a", &"a".repeat(47)] {
        let mut object = object(json!({}));
        object.metadata.name = Some(bad.to_owned());
        assert_eq!(validate(&object, &facts()).unwrap_err()[0].path, "metadata.name", "{bad}");
    }
    let mut object = object(json!({}));
    object.metadata.name = Some("a".repeat(46));
    validate(&object, &facts()).unwrap();
    object.metadata.uid = None;
    assert_eq!(validate(&object, &facts()).unwrap_err()[0].path, "metadata");
}

#[test]
fn what_the_cluster_lacks_is_a_problem_only_where_nothing_can_take_its_place() {
    let mut facts = facts();
    facts.cluster = Capabilities::default();
    let gateway = object(json!({"host": "a.example", "gateway": {"parentRefs": [{"name": "g"}]}}));
    let found = validate(&gateway, &facts).unwrap_err();
    assert_eq!(found[0].path, "spec.gateway");
    assert!(found[0].message.contains("Gateway API"), "{}", found[0]);
    let monitored = object(json!({"monitoring": {"serviceMonitor": true}}));
    assert_eq!(validate(&monitored, &facts).unwrap().service_monitor, None);
}

#[test]
fn namespaces_are_admitted_by_name_and_by_label() {
    let labels = |value: &str| BTreeMap::from([("team".to_owned(), value.to_owned())]);
    let named = valid(json!({"allowedNamespaces": {"names": ["friends"]}})).namespaces;
    assert!(named.admits_name("team") && named.admits_name("friends") && !named.admits_name("others"));
    assert!(!named.selects());

    let selector = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]});
    let selected = valid(json!({"allowedNamespaces": {"selector": selector}})).namespaces;
    assert!(selected.selects() && !selected.admits_name("others"));
    assert!(selected.admits("others", &labels("b")));
    assert!(!selected.admits("others", &labels("c")) && !selected.admits("others", &BTreeMap::new()));

    let everybody = valid(json!({"allowedNamespaces": {"selector": {}}})).namespaces;
    assert!(everybody.admits("others", &BTreeMap::new()));
}

/// The options that the operator sets, whatever a spec says.
const OPERATORS: [&str; 21] = [
    "listen",
    "managementListen",
    "publicUrl",
    "database.url",
    "database.urlFile",
    "database.directUrl",
    "database.directUrlFile",
    "database.caFile",
    "database.clientCertFile",
    "database.clientKeyFile",
    "objectStore.accessKeyId",
    "objectStore.accessKeyIdFile",
    "objectStore.secretAccessKey",
    "objectStore.secretAccessKeyFile",
    "outbound.caFile",
    "outbound.httpsProxy",
    "cache.dir",
    "admins.initial.passwordFile",
    "identity.secretsDir",
    "sealing.keys",
    "sealing.keysFile",
];

#[test]
fn every_option_of_the_server_reaches_it() {
    let ours = |path: &str| OPERATORS.contains(&path) || path == "admins.initial.passwordHash";
    for option in options().iter().filter(|option| !ours(&option.path)) {
        let text = match option.kind.as_str() {
            "size" => "3Mi",
            "time" => "3s",
            "number" => "3",
            "true or false" if option.default == "true" => "false",
            "true or false" => "true",
            "json or human" => LogFormat::Human.as_str(),
            "list of network" => "10.3.0.0/16",
            "URL" => "https://three.example",
            // A list of subjects.
            _ if option.path == "conda.channelsByApi.allowed" => "authenticated",
            _ => "three",
        };
        let mut spec = PackageRegistrySpec::default();
        let applied = apply_environment(&mut spec, [(option.env(), text.to_owned())]).unwrap();
        assert_eq!(applied, [option]);
        let surroundings = server::Surroundings {
            own_store: None,
            public_url: None,
            ipv6: false,
            caches: true,
            cluster_issuer: None,
        };
        let server = serde_json::to_value(server::server_spec(&spec, surroundings)).unwrap();
        let given = serde_json::to_value(&spec).unwrap();
        let pointer = format!("/{}", option.path.replace('.', "/"));
        assert!(
            given.pointer(&pointer).is_some_and(|given| Some(given) == server.pointer(&pointer)),
            "{pointer}"
        );
    }
}
