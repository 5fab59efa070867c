#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::needless_pass_by_value, clippy::too_many_lines, reason = "specs stand where they are used")]

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::*;
use crate::registry::validate::tests::{external, facts, object};
use crate::registry::validate::{Facts, validate};

mod identity;
mod properties;

fn built_with(spec: Json, facts: &Facts) -> Objects<Prepared> {
    build(&validate(&object(spec), facts).unwrap()).unwrap()
}

fn built(spec: Json) -> Objects<Prepared> {
    built_with(spec, &facts())
}

fn json(object: &impl Serialize) -> Json {
    serde_json::to_value(object).unwrap()
}

/// A spec that uses everything.
fn everything() -> Json {
    external(json!({
        "image": "registry.example/granary:2.0.0",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "autoscaling": {"minReplicas": 3, "maxReplicas": 9, "targetCpuPercent": 60},
        "host": "packages.example",
        "hosts": {"pypi": {"host": "pypi.example"}},
        "ingress": {"className": "traefik",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "9g"}},
        "tls": {"issuer": {"name": "internal", "kind": "ClusterIssuer"}},
        "database": {"caRef": {"configMap": "pg-ca"}, "schema": "packages", "maxConnections": 8},
        "outbound": {"caRef": {"secret": "ca", "key": "tls.crt"},
            "httpsProxy": "http://u:hunter2@proxy.example:3128", "noProxy": [".svc"]},
        "limits": {"drainTimeout": "1500ms", "uploadBuffers": 32},
        "cache": {"maxSize": "10Gi", "memory": "256Mi"},
        "admins": {"initial": {"name": "root", "passwordSecretRef": {"name": "admin"}}},
        "sealing": {"secretRef": {"name": "sealing", "key": "keys"}},
        "telemetry": {"logFilter": "debug"},
        "pod": {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "packages", "operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
            },
            "labels": {"team": "a"},
            "annotations": {"example.com/owner": "a"},
            "serviceAccountAnnotations": {"cloud.example/role": "packages"},
            "env": [{"name": "PGAPPNAME", "value": "packages"}],
            "priorityClassName": "high",
            "overrides": {"spec": {
                "runtimeClassName": "gvisor",
                "containers": [
                    {"name": "registry", "env": [{"name": "PGAPPNAME", "value": "overridden"}]},
                    {"name": "sidecar", "image": "sidecar:1"},
                ],
            }},
        },
        "networkPolicy": {"enabled": true,
            "from": [{"namespaceSelector": {"matchLabels": {"ingress": "yes"}}}]},
        "monitoring": {"serviceMonitor": true, "labels": {"release": "prometheus"}},
    }))
}

fn metadata_json(name: &str, component: &str) -> Json {
    json!({
        "name": name,
        "namespace": "team",
        "labels": {
            "app.kubernetes.io/name": "granary",
            "app.kubernetes.io/instance": "packages",
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "granary-operator",
            "granary.dev/registry": "packages",
        },
        "ownerReferences": [{
            "apiVersion": "granary.dev/v1alpha1", "kind": "PackageRegistry",
            "name": "packages", "uid": "0b1c",
            "controller": true, "blockOwnerDeletion": true,
        }],
    })
}

fn selector_json(component: &str) -> Json {
    json!({
        "app.kubernetes.io/name": "granary",
        "app.kubernetes.io/instance": "packages",
        "app.kubernetes.io/component": component,
    })
}

fn pod_security_json() -> Json {
    json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}})
}

fn container_security_json() -> Json {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}})
}

fn probe_json(path: &str, period: i32, failures: i32) -> Json {
    json!({"httpGet": {"path": path, "port": "management"}, "periodSeconds": period, "timeoutSeconds": 5,
        "failureThreshold": failures})
}

#[test]
fn the_least_registry() {
    let objects = built(json!({}));
    let checksum = config_checksum(&objects);
    let mut service_account = metadata_json("packages", "registry");
    assert_eq!(
        json(&objects.service_account),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": service_account.take(),
            "automountServiceAccountToken": false})
    );
    assert_eq!(
        json(&objects.service),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata_json("packages", "registry"),
            "spec": {
                "type": "ClusterIP",
                "selector": selector_json("registry"),
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
                    {"name": "management", "port": 9090, "targetPort": "management", "protocol": "TCP"},
                ],
            },
        })
    );
    let mut labels = metadata_json("packages", "registry")["labels"].take();
    let spread = |key: &str| {
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector_json("registry")},
            "matchLabelKeys": ["pod-template-hash"]})
    };
    assert_eq!(
        json(&objects.deployment),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata_json("packages", "registry"),
            "spec": {
                "replicas": 2,
                "minReadySeconds": 2,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector_json("registry")},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {"labels": labels.take(), "annotations": {
                        "granary.dev/config-checksum": checksum,
                        "granary.dev/secrets-checksum": "5ec5e7",
                        "kubectl.kubernetes.io/default-container": "registry",
                    }},
                    "spec": {
                        "serviceAccountName": "packages",
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "securityContext": pod_security_json(),
                        "terminationGracePeriodSeconds": 40,
                        "topologySpreadConstraints":
                            [spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone")],
                        "containers": [{
                            "name": "registry",
                            "image": "registry.example/granary:1.0.0",
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["serve", "--config", "/etc/granary/config.yaml"],
                            "env": [{"name": "GRANARY_CONFIG", "value": "/etc/granary/config.yaml"}],
                            "ports": [
                                {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                                {"name": "management", "containerPort": 9090, "protocol": "TCP"},
                            ],
                            "resources": {"requests": {"cpu": "100m", "memory": "160Mi"},
                                "limits": {"memory": "576Mi"}},
                            "startupProbe": probe_json("/livez", 2, 60),
                            "livenessProbe": probe_json("/livez", 10, 6),
                            "readinessProbe": probe_json("/readyz", 5, 12),
                            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                            "securityContext": container_security_json(),
                            "volumeMounts": [
                                {"name": "config", "mountPath": "/etc/granary", "readOnly": true},
                                {"name": "tmp", "mountPath": "/tmp"},
                                {"name": "cache", "mountPath": "/var/cache/granary"},
                            ],
                        }],
                        "volumes": [
                            {"name": "config", "projected": {"defaultMode": 0o440, "sources": [
                                {"configMap": {"name": "packages-config",
                                    "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
                                {"secret": {"name": "packages-database",
                                    "items": [{"key": "url", "path": "secrets/database/url"}]}},
                                {"secret": {"name": "packages-store", "items": [
                                    {"key": "access-key-id", "path": "secrets/object-store/access-key-id"},
                                    {"key": "secret-access-key",
                                        "path": "secrets/object-store/secret-access-key"},
                                ]}},
                            ]}},
                            {"name": "tmp", "emptyDir": {}},
                            {"name": "cache", "emptyDir": {"sizeLimit": "1127Mi"}},
                        ],
                    },
                },
            },
        })
    );
    assert!(objects.ingress.is_none() && objects.http_route.is_none() && objects.autoscaler.is_none());
    assert!(objects.network_policy.is_none() && objects.service_monitor.is_none());
}

/// The digest of the config file, as the pods are annotated with it.
fn config_checksum(objects: &Objects<Prepared>) -> String {
    digest(objects.config.data.as_ref().unwrap().values().map(String::as_str))
}

fn config_text(objects: &Objects<Prepared>) -> String {
    objects.config.data.as_ref().unwrap()["config.yaml"].clone()
}

#[test]
fn the_migration_job_has_what_only_it_needs() {
    let mut job = json(&built(json!({})).migrate_job);
    let name = job["metadata"]["name"].as_str().unwrap().to_owned();
    let hash = name.strip_prefix("packages-migrate-").unwrap();
    assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    let mut labels = metadata_json("packages", "migrate")["labels"].take();
    assert_eq!(
        job.take(),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata_json(&name, "migrate"),
            "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": 1800,
                "ttlSecondsAfterFinished": 86400,
                "template": {
                    "metadata": {"labels": labels.take()},
                    "spec": {
                        "serviceAccountName": "packages",
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "restartPolicy": "Never",
                        "securityContext": pod_security_json(),
                        "containers": [{
                            "name": "migrate",
                            "image": "registry.example/granary:1.0.0",
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["migrate", "--config", "/etc/granary/config.yaml"],
                            "env": [{"name": "GRANARY_DATABASE_DIRECT_URL_FILE",
                                "value": "/etc/granary/secrets/database/owner-url"}],
                            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"},
                                "limits": {"memory": "256Mi"}},
                            "securityContext": container_security_json(),
                            "volumeMounts": [
                                {"name": "config", "mountPath": "/etc/granary", "readOnly": true},
                                {"name": "tmp", "mountPath": "/tmp"},
                            ],
                        }],
                        "volumes": [
                            {"name": "config", "projected": {"defaultMode": 0o440, "sources": [
                                {"configMap": {"name": "packages-config",
                                    "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
                                {"secret": {"name": "packages-database", "items": [
                                    {"key": "url", "path": "secrets/database/url"},
                                    {"key": "owner-url", "path": "secrets/database/owner-url"},
                                ]}},
                            ]}},
                            {"name": "tmp", "emptyDir": {}},
                        ],
                    },
                },
            },
        })
    );
}

#[test]
fn the_migration_job_is_another_when_what_it_depends_on_is() {
    let name = |spec: Json, facts: &Facts| built_with(spec, facts).migrate_job.metadata.name.unwrap();
    let first = name(json!({}), &facts());
    assert_eq!(first, name(json!({"replicas": 5}), &facts()), "migrations do not depend on how many serve");
    let mut rotated = object(json!({}));
    rotated.metadata.annotations =
        Some([("granary.dev/rotate-database-password".to_owned(), "2".to_owned())].into());
    let rotated = build(&validate(&rotated, &facts()).unwrap()).unwrap();
    let roll = &json(&rotated.deployment)["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(roll["granary.dev/rotate-database-password"], "2", "pods read the password once");
    let others = [
        name(json!({"image": "registry.example/granary:2"}), &facts()),
        name(json!({"database": {"secretRef": {"name": "pg"}}, "objectStore": {}}), &facts()),
        name(json!({}), &Facts { secrets_checksum: "other".to_owned(), ..facts() }),
        rotated.migrate_job.metadata.name.unwrap(),
    ];
    for other in others {
        assert_ne!(first, other);
    }
}

#[test]
fn the_store_keeps_everything_on_one_volume() {
    let store = built(json!({"storage": {"size": "5Gi", "storageClassName": "fast"}})).store.unwrap();
    assert_eq!(
        json(&store.service)["spec"],
        json!({
            "type": "ClusterIP",
            "selector": selector_json("store"),
            "ports": [
                {"name": "postgres", "port": 5432, "targetPort": "postgres", "protocol": "TCP"},
                {"name": "s3", "port": 9000, "targetPort": "s3", "protocol": "TCP"},
            ],
        })
    );
    let mut labels = metadata_json("", "store")["labels"].take();
    let from_secret = |name: &str, key: &str| {
        json!({"name": name,
            "valueFrom": {"secretKeyRef": {"name": "packages-store", "key": key}}})
    };
    assert_eq!(
        json(&store.stateful_set),
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": metadata_json("packages-store", "store"),
            "spec": {
                "replicas": 1,
                "serviceName": "packages-store",
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector_json("store")},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": selector_json("store")},
                    "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                        "resources": {"requests": {"storage": "5Gi"}}},
                }],
                "template": {
                    "metadata": {"labels": labels.take()},
                    "spec": {
                        "serviceAccountName": "packages",
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "securityContext": pod_security_json(),
                        "terminationGracePeriodSeconds": 60,
                        "containers": [{
                            "name": "store",
                            "image": "registry.example/granary-store:1.0.0",
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["store", "--data-dir", "/data", "--postgres-listen", "0.0.0.0:5432",
                                "--s3-listen", "0.0.0.0:9000", "--management-listen", "0.0.0.0:9090"],
                            "env": [
                                from_secret("GRANARY_STORE_POSTGRES_PASSWORD", "postgres-password"),
                                from_secret("GRANARY_STORE_ACCESS_KEY_ID", "access-key-id"),
                                from_secret("GRANARY_STORE_SECRET_ACCESS_KEY", "secret-access-key"),
                            ],
                            "ports": [
                                {"name": "postgres", "containerPort": 5432, "protocol": "TCP"},
                                {"name": "s3", "containerPort": 9000, "protocol": "TCP"},
                                {"name": "management", "containerPort": 9090, "protocol": "TCP"},
                            ],
                            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"},
                                "limits": {"memory": "1Gi"}},
                            "startupProbe": probe_json("/livez", 1, 60),
                            "livenessProbe": probe_json("/livez", 10, 6),
                            "readinessProbe": probe_json("/readyz", 2, 3),
                            "securityContext": container_security_json(),
                            "volumeMounts":
                                [{"name": "data", "mountPath": "/data"},
                                 {"name": "tmp", "mountPath": "/tmp"}],
                        }],
                        "volumes": [{"name": "tmp", "emptyDir": {}}],
                    },
                },
            },
        })
    );
    let ephemeral = built(json!({"storage": {"size": "5Gi", "ephemeral": true}})).store.unwrap();
    let spec = json(&ephemeral.stateful_set)["spec"].take();
    assert_eq!(spec["volumeClaimTemplates"], Json::Null);
    assert_eq!(
        spec["template"]["spec"]["volumes"][1],
        json!({"name": "data", "emptyDir": {"sizeLimit": "5Gi"}})
    );
}

#[test]
fn an_ingress_leads_every_host_to_the_pods() {
    let ingress = built(everything()).ingress.unwrap();
    let rule = |host: &str| {
        json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "packages", "port": {"name": "http"}}}}]}})
    };
    let mut metadata = metadata_json("packages", "registry");
    metadata["annotations"] = json!({
        "cert-manager.io/cluster-issuer": "internal",
        "nginx.ingress.kubernetes.io/proxy-body-size": "9g",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "600",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "600",
    });
    assert_eq!(
        json(&ingress),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": {
                "ingressClassName": "traefik",
                "rules": [rule("packages.example"), rule("pypi.example")],
                "tls": [{"hosts": ["packages.example", "pypi.example"], "secretName": "packages-tls"}],
            },
        })
    );
    let switched_off = json!({"host": "a.example", "ingress": {"enabled": false}});
    assert!(built(switched_off).ingress.is_none());
}

#[test]
fn an_issuer_of_another_group_is_named_by_kind_and_group() {
    let issuer = json!({"name": "corporate", "kind": "ClusterIssuer", "group": "issuers.example"});
    let ingress = built(json!({"host": "a.example", "tls": {"issuer": issuer}})).ingress.unwrap();
    let annotations = ingress.metadata.annotations.unwrap();
    assert_eq!(annotations["cert-manager.io/issuer"], "corporate");
    assert_eq!(annotations["cert-manager.io/issuer-kind"], "ClusterIssuer");
    assert_eq!(annotations["cert-manager.io/issuer-group"], "issuers.example");
    assert!(!annotations.contains_key("cert-manager.io/cluster-issuer"));
}

#[test]
fn a_route_attaches_to_the_gateway_in_place_of_an_ingress() {
    let objects = built(json!({
        "host": "packages.example",
        "gateway": {
            "parentRefs": [{"name": "edge", "namespace": "infra", "sectionName": "https"}, {"name": "inner"}],
            "annotations": {"example.com/a": "b"},
        },
    }));
    assert!(objects.ingress.is_none());
    let mut metadata = metadata_json("packages", "registry");
    metadata["annotations"] = json!({"example.com/a": "b"});
    assert_eq!(
        json(&objects.http_route.unwrap()),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata,
            "spec": {
                "parentRefs":
                    [{"name": "edge", "namespace": "infra", "sectionName": "https"}, {"name": "inner"}],
                "hostnames": ["packages.example"],
                "rules": [{"backendRefs": [{"name": "packages", "port": 80}], "timeouts": {"request": "0s"}}],
            },
        })
    );
}

#[test]
fn pods_come_and_go_by_rule() {
    let objects = built(everything());
    assert_eq!(
        json(&objects.autoscaler.unwrap())["spec"],
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "packages"},
            "minReplicas": 3,
            "maxReplicas": 9,
            "metrics": [{"type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}],
        })
    );
    assert_eq!(json(&objects.deployment)["spec"]["replicas"], Json::Null, "the autoscaler's field");
    assert_eq!(
        json(&objects.disruption_budget.unwrap())["spec"],
        json!({"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector_json("registry")}})
    );
    assert!(built(json!({"replicas": 1})).disruption_budget.is_none());
}

#[test]
fn peers_and_prometheus_reach_the_pods() {
    let objects = built(everything());
    assert_eq!(
        json(&objects.network_policy.unwrap())["spec"],
        json!({
            "podSelector": {"matchLabels": selector_json("registry")},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"port": 8080, "protocol": "TCP"}],
                 "from": [{"namespaceSelector": {"matchLabels": {"ingress": "yes"}}}]},
                {"ports": [{"port": 9090, "protocol": "TCP"}]},
            ],
        })
    );
    let monitor = json(&objects.service_monitor.unwrap());
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(
        monitor["spec"],
        json!({"selector": {"matchLabels": selector_json("registry")},
            "endpoints": [{"port": "management", "path": "/metrics"}]})
    );
}

fn config_json(objects: &Objects<Prepared>) -> Json {
    serde_json::from_str(&config_text(objects)).unwrap()
}
