//! What holds of every registry's objects.

use granary_crds::{options, read_registry, validate_registry};

use super::*;

#[test]
fn the_pods_are_made_as_the_spec_says() {
    let objects = built(everything());
    let template = json(&objects.deployment)["spec"]["template"].take();
    assert_eq!(template["metadata"]["labels"]["team"], "a");
    assert_eq!(template["metadata"]["annotations"]["example.com/owner"], "a");
    let pod = &template["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(pod["tolerations"], json!([{"key": "packages", "operator": "Exists"}]));
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["terminationGracePeriodSeconds"], 17);
    assert!(pod["affinity"]["podAntiAffinity"].is_object());
    assert_eq!(pod["runtimeClassName"], "gvisor");
    assert_eq!(pod["containers"][1], json!({"name": "sidecar", "image": "sidecar:1"}));
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/granary:2.0.0");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(
        container["env"],
        json!([
            {"name": "GRANARY_CONFIG", "value": "/etc/granary/config.yaml"},
            {"name": "GRANARY_OUTBOUND_HTTPS_PROXY", "value": "http://u:hunter2@proxy.example:3128"},
            {"name": "PGAPPNAME", "value": "overridden"},
        ])
    );
    assert_eq!(container["resources"]["limits"]["memory"], "896Mi");
    let sources = pod["volumes"][0]["projected"]["sources"].as_array().unwrap();
    let files: Vec<(&str, &str)> = sources
        .iter()
        .flat_map(|source| {
            let from = source.get("secret").or_else(|| source.get("configMap")).unwrap();
            from["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| (from["name"].as_str().unwrap(), item["path"].as_str().unwrap()))
        })
        .collect();
    assert_eq!(
        files,
        [
            ("packages-config", "config.yaml"),
            ("packages-database", "secrets/database/url"),
            ("pg-ca", "ca/database.crt"),
            ("s3", "secrets/object-store/access-key-id"),
            ("s3", "secrets/object-store/secret-access-key"),
            ("admin", "secrets/admin/password"),
            ("sealing", "secrets/sealing/keys"),
            ("ca", "ca/outbound.crt"),
        ]
    );

    let job = json(&objects.migrate_job)["spec"]["template"]["spec"].take();
    assert_eq!(job["runtimeClassName"], "gvisor");
    assert_eq!(job["containers"].as_array().unwrap().len(), 1, "a sidecar would keep the Job from ending");
    assert!(job["affinity"]["nodeAffinity"].is_object() && job["affinity"]["podAntiAffinity"].is_null());
    let account = objects.service_account.metadata.annotations.unwrap();
    assert_eq!(account["cloud.example/role"], "packages");
    assert!(objects.store.is_none());
}

#[test]
fn pods_never_see_what_only_migrations_need() {
    let mut with_direct = facts();
    with_direct.has_direct_url = true;
    let as_it_is = external(json!({"database": {"provision": false}}));
    for (spec, facts, owner) in [
        (json!({}), facts(), Some("owner-url")),
        (everything(), facts(), Some("owner-url")),
        (as_it_is.clone(), facts(), None),
        (as_it_is, with_direct, Some("direct-url")),
    ] {
        let objects = built_with(spec, &facts);
        for object in [json(&objects.deployment), json(&objects.config)] {
            let text = object.to_string();
            assert!(!text.contains("owner-url") && !text.contains("direct-url"), "{text}");
        }
        let job = json(&objects.migrate_job);
        let database = &job["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"][1]["secret"];
        let found = database["items"].as_array().unwrap().get(1).map(|item| item["key"].as_str().unwrap());
        assert_eq!(found, owner);
        let told = job.to_string().contains("GRANARY_DATABASE_DIRECT_URL_FILE");
        assert_eq!(told, owner.is_some());
    }
}

#[test]
fn every_pod_meets_the_restricted_standard() {
    for spec in [json!({}), everything()] {
        let objects = built(spec);
        let mut templates = vec![json(&objects.deployment), json(&objects.migrate_job)];
        templates.extend(objects.store.as_ref().map(|store| json(&store.stateful_set)));
        for template in templates {
            let pod = &template["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"], pod_security_json());
            assert_eq!(pod["automountServiceAccountToken"], false);
            assert_eq!(pod["containers"][0]["securityContext"], container_security_json());
            for volume in pod["volumes"].as_array().unwrap() {
                assert!(volume.get("projected").or_else(|| volume.get("emptyDir")).is_some(), "{volume}");
            }
        }
    }
}

/// The paths of the leaves of an object; a list is a leaf.
fn leaves(path: &str, json: &Json, out: &mut Vec<String>) {
    match json {
        Json::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

#[test]
fn the_server_reads_its_config_and_finds_nothing_but_options_in_it() {
    for spec in
        [json!({}), everything(), json!({"database": {"secretRef": {"name": "p"}}, "objectStore": {}})]
    {
        let text = config_text(&built(spec));
        let read = read_registry(&text).unwrap();
        let valid = validate_registry(&read.spec).unwrap();
        assert!(valid.database.is_some() && valid.object_store.is_some());
        let mut paths = Vec::new();
        leaves("", &serde_json::from_str(&text).unwrap(), &mut paths);
        for path in paths {
            assert!(options().iter().any(|option| option.path == path), "{path}");
        }
        assert!(!text.contains("hunter2") && !text.contains("[hidden]"), "{text}");
    }
}

#[test]
fn the_config_holds_only_what_differs_from_the_defaults() {
    let config: Json = serde_json::from_str(&config_text(&built(everything()))).unwrap();
    assert_eq!(
        config,
        json!({
            "publicUrl": "https://packages.example",
            "database": {"urlFile": "/etc/granary/secrets/database/url",
                "caFile": "/etc/granary/ca/database.crt",
                "schema": "packages", "maxConnections": 8},
            "objectStore": {
                "endpoint": "https://s3.example",
                "accessKeyIdFile": "/etc/granary/secrets/object-store/access-key-id",
                "secretAccessKeyFile": "/etc/granary/secrets/object-store/secret-access-key",
            },
            "hosts": {"pypi": {"host": "pypi.example"}},
            "outbound": {"caFile": "/etc/granary/ca/outbound.crt", "noProxy": [".svc"]},
            "limits": {"drainTimeout": "1500ms", "uploadBuffers": 32},
            "cache": {"dir": "/var/cache/granary", "maxSize": "10Gi", "memory": "256Mi"},
            "admins": {"initial": {"name": "root", "passwordFile": "/etc/granary/secrets/admin/password"}},
            "sealing": {"keysFile": "/etc/granary/secrets/sealing/keys"},
            "telemetry": {"logFilter": "debug"},
        })
    );
    let identity = json!({"database": {"secretRef": {"name": "p"}}, "objectStore": {}});
    let config: Json = serde_json::from_str(&config_text(&built(identity))).unwrap();
    assert_eq!(config["objectStore"], json!({}), "that there is a store says something");
}

#[test]
fn without_a_cache_there_is_no_folder_for_it() {
    let objects = built(json!({"cache": {"maxSize": 0}}));
    let pod = json(&objects.deployment)["spec"]["template"]["spec"].take();
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(config_json(&objects)["cache"], json!({"maxSize": "0"}));
}

#[test]
fn where_pods_have_ipv6_addresses_they_listen_on_those() {
    let mut facts = facts();
    facts.cluster.ipv6 = true;
    let objects = built_with(json!({}), &facts);
    let config = config_json(&objects);
    assert_eq!(config["listen"], json!(["[::]:8080"]));
    assert_eq!(config["managementListen"], "[::]:9090");
    assert!(json(&objects.store.unwrap().stateful_set).to_string().contains("[::]:5432"));
}

#[test]
fn the_same_registry_gives_the_same_bytes() {
    let bytes = || {
        let objects = built(everything());
        let parts = [
            json(&objects.service_account),
            json(&objects.config),
            json(&objects.service),
            json(&objects.migrate_job),
            json(&objects.deployment),
            json(&objects.ingress),
            json(&objects.autoscaler),
            json(&objects.disruption_budget),
            json(&objects.network_policy),
            json(&objects.service_monitor),
        ];
        serde_json::to_string(&parts).unwrap()
    };
    assert_eq!(bytes(), bytes());
}
