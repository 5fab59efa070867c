//! Sources of identity in the pods: their secrets as files, and the cluster's keys.

use super::*;
use crate::registry::dereference::ClusterIssuer;

fn sources(objects: &Objects<Prepared>) -> Vec<Json> {
    let deployment = json(&objects.deployment);
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
    let files = volumes.into_iter().find(|volume| volume["name"] == "config").unwrap();
    files["projected"]["sources"].as_array().unwrap().clone()
}

fn config(objects: &Objects<Prepared>) -> Json {
    serde_json::from_str(&objects.config.data.as_ref().unwrap()["config.yaml"]).unwrap()
}

#[test]
fn secrets_that_sources_name_are_files_and_no_others() {
    let objects = built(external(json!({"identity": {
        "secretRef": {"name": "identity"},
        "authenticators": [
            {"name": "list", "users": {"key": "users"}},
            {"name": "again", "htpasswd": {"key": "users"}},
            {"name": "company", "ldap": {"url": "ldaps://ldap.example", "userBase": "dc=example",
                "bindDn": "cn=granary", "bindPasswordKey": "ldap"}},
        ],
        "providers": [
            {"name": "sso", "oidc": {"issuer": "https://issuer.example", "clientId": "granary", "clientSecretKey": "sso"}},
            {"name": "public", "oidc": {"issuer": "https://issuer.example", "clientId": "granary"}},
            {"name": "github", "github": {"clientId": "id", "clientSecretKey": "github", "organizations": ["acme"]}},
        ],
    }})));
    let secret = sources(&objects).into_iter().find(|source| source["secret"]["name"] == "identity").unwrap();
    assert_eq!(
        secret["secret"]["items"],
        json!([
            {"key": "github", "path": "secrets/identity/github"},
            {"key": "ldap", "path": "secrets/identity/ldap"},
            {"key": "sso", "path": "secrets/identity/sso"},
            {"key": "users", "path": "secrets/identity/users"},
        ])
    );
    let identity = &config(&objects)["identity"];
    assert_eq!(identity["secretsDir"], "/etc/granary/secrets/identity");
    assert_eq!(identity.get("secretRef"), None);
    assert_eq!(identity["providers"][2]["github"]["organizations"], json!(["acme"]));
}

#[test]
fn the_keys_of_the_cluster_are_one_more_issuer() {
    let facts = Facts {
        cluster_issuer: Some(ClusterIssuer {
            url: "https://kubernetes.default.svc".to_owned(),
            keys: r#"{"keys":[]}"#.to_owned(),
        }),
        ..facts()
    };
    let given = json!({"identity": {
        "issuers": [{"name": "ci", "url": "https://issuer.example", "audiences": ["granary"]}],
        "serviceAccounts": {"audience": "packages"},
    }});
    let objects = built_with(external(given.clone()), &facts);
    assert_eq!(objects.config.data.as_ref().unwrap()["kubernetes-jwks.json"], r#"{"keys":[]}"#);
    let issuers = &config(&objects)["identity"]["issuers"];
    assert_eq!(issuers[0]["name"], "ci");
    assert_eq!(
        issuers[1],
        json!({"name": "kubernetes", "url": "https://kubernetes.default.svc", "audiences": ["packages"],
            "jwksFile": "/etc/granary/kubernetes-jwks.json"})
    );
    // Another key has to reach the pods.
    let mut rotated = facts.clone();
    rotated.cluster_issuer.as_mut().unwrap().keys = r#"{"keys":[{}]}"#.to_owned();
    let after = built_with(external(given), &rotated);
    assert_ne!(config_checksum(&objects), config_checksum(&after));
}
