"""What a cluster may look like: a pooler before Postgres, a database that is given, a Gateway, a private authority, pods that
have to be placed and labelled."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.cluster.commands import follow
from tests.cluster.granary import Registry, run, secret, write
from tests.cluster.kube import Kube, condition
from tests.cluster.node.facts import Facts
from tests.harness.dists import wheel
from tests.harness.postgres import program

SERVING = "app.kubernetes.io/component=registry"


def url(facts: Facts, port: int, user: str = "", password: str = "", parameters: str = "") -> str:
    """A connection string; the administrator's when no user is named."""
    postgres = facts.postgres
    password = quote(password or postgres.password, safe="")
    return f"postgresql://{user or postgres.user}:{password}@{postgres.host}:{port}/postgres{parameters}"


def start(registry: Registry, *, connection: dict[str, str] | None = None, without: tuple[str, ...] = (), **spec: object) -> None:
    """Starts a registry with other connection strings, or without some of the fields that tests usually have."""
    first, *others, last = registry.objects(**spec)
    for name in without:
        del registry.spec[name], last["spec"][name]
    registry.kube.apply(secret("postgres", **connection) if connection else first, *others, last)
    registry.wait()


def assert_works(registry: Registry, folder: Path) -> tuple[str, str]:
    """A channel, an account, an upload with twine, a download with pip, and no complaint of the doctor. The account."""
    registry.add_channel("tools", visibility="public")
    ci = registry.publisher()
    file = write(folder, wheel("acme-tools"))
    registry.upload("tools", ci, file)
    registry.download("tools", folder / "got", "acme-tools")
    assert (folder / "got" / file.name).read_bytes() == file.read_bytes()
    assert "WRONG" not in registry.granary("doctor")
    return ci


def psql(facts: Facts, statement: str) -> str:
    """Runs a statement as Postgres' administrator."""
    return run(program("psql"), url(facts, facts.postgres.port), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement).strip()


def test_behind_pgbouncer_in_transaction_mode(registry: Registry, facts: Facts, kube: Kube, tmp_path: Path):
    """Pods go through the pooler, migrations past it; also after the passwords were rotated."""
    postgres = facts.postgres
    start(registry, connection={"url": url(facts, postgres.pooled_port, parameters="?pgbouncer=true"),
                                "direct_url": url(facts, postgres.port)}, replicas=2)
    ci = assert_works(registry, tmp_path)
    ports = {key: run("kubectl", f"--namespace={kube.namespace}", "get", "secret", "main-database",
                      f"--output=go-template={{{{index .data \"{key}\" | base64decode}}}}").rpartition("@")[2]
             for key in ("url", "owner-url")}
    assert f":{postgres.pooled_port}/" in ports["url"] and f":{postgres.port}/" in ports["owner-url"]
    follow(kube, "rotate-database-passwords")
    registry.upload("tools", ci, write(tmp_path, wheel("acme-later")))


@pytest.fixture
def given_role(facts: Facts, kube: Kube) -> Iterator[tuple[str, str]]:
    """A role that somebody else made, which may make a schema and nothing more: its name and password."""
    role = f"given_{kube.namespace[-6:]}"
    password = secrets.token_hex(16)
    psql(facts, f"create role {role} login password '{password}'; grant create on database postgres to {role}")
    yield role, password
    psql(facts, f"revoke all on database postgres from {role}; alter role {role} nologin")


def test_a_database_that_is_given(registry: Registry, facts: Facts, kube: Kube, given_role: tuple[str, str], tmp_path: Path):
    """With `provision: false` pods use the Secret's connection string as it is, and the operator makes no role."""
    before = psql(facts, "select count(*) from pg_roles")
    schema = f"given_{kube.namespace[-6:]}"
    start(registry, connection={"url": url(facts, facts.postgres.port, *given_role)},
          database={"secretRef": {"name": "postgres"}, "schema": schema, "provision": False})
    assert_works(registry, tmp_path)
    assert psql(facts, "select count(*) from pg_roles") == before
    assert psql(facts, f"select nspowner::regrole from pg_namespace where nspname = '{schema}'") == given_role[0]
    assert kube.find("secret/main-database") is None


def test_an_http_route_in_place_of_an_ingress(registry: Registry, kube: Kube, tls_secret, tmp_path: Path):
    """The Gateway ends TLS; the operator makes the route, and an Ingress once the Gateway is taken out of the spec."""
    kube.apply(tls_secret("gateway-tls"), {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "packages"},
        "spec": {"gatewayClassName": registry.facts.ingress.class_name, "listeners": [{
            "name": "https", "protocol": "HTTPS", "port": 443, "hostname": registry.host,
            "tls": {"certificateRefs": [{"name": "gateway-tls"}]}}]}})
    start(registry, without=("tls",), publicUrl=registry.url,
          gateway={"parentRefs": [{"name": "packages", "sectionName": "https"}]})
    route = kube.until("httproute/main", lambda found: found and found.get("status", {}).get("parents"), 30, "to be accepted")
    accepted = {found["type"]: found["status"] for found in route["status"]["parents"][0]["conditions"]}
    assert accepted["Accepted"] == accepted["ResolvedRefs"] == "True"
    assert kube.find("ingress/main") is None
    assert_works(registry, tmp_path)
    del registry.spec["gateway"]
    registry.change(tls={"secretName": "packages-tls"})
    kube.until("ingress/main", bool)
    registry.wait()
    kube.wait_gone("httproute/main")


def test_an_object_store_with_a_certificate_of_a_private_authority(registry: Registry, facts: Facts, kube: Kube, tmp_path: Path):
    """The store is reached over TLS; its authority stands in a ConfigMap."""
    host = f"store-{kube.namespace[-6:]}.{facts.ingress.domain}"
    address, _, port = facts.store.endpoint.removeprefix("http://").partition(":")
    kube.apply(*registry.objects()[:-1],
               {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "minio"},
                "spec": {"ports": [{"name": "s3", "port": int(port)}]}},
               {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "minio", "labels": {"kubernetes.io/service-name": "minio"}},
                "ports": [{"name": "s3", "port": int(port)}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}]},
               {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "minio"},
                "spec": {"tls": [{"hosts": [host], "secretName": "packages-tls"}], "rules": [{"host": host, "http": {"paths": [
                    {"path": "/", "pathType": "Prefix",
                     "backend": {"service": {"name": "minio", "port": {"number": int(port)}}}}]}}]}})
    untrusted = {**registry.spec["objectStore"], "endpoint": f"https://{host}"}
    registry.change(objectStore=untrusted)
    told = kube.wait("pkgreg/main", "ObjectStoreReady", "False", "ObjectStoreUnavailable", seconds=120)
    assert "certificate" in condition(told, "ObjectStoreReady")["message"].lower()
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authorities"},
                "data": {"ca.crt": Path(facts.ingress.ca).read_text()}})
    registry.change(outbound={"caRef": {"configMap": "authorities"}})
    registry.wait()
    assert_works(registry, tmp_path)


def test_settings_of_pods_reach_the_pods(registry: Registry, kube: Kube, https: requests.Session, tmp_path: Path):
    """Where they run, what they are called, what they may use, and whatever else a patch asks for."""
    start(registry, pod={
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}}},
        "labels": {"example.com/team": "platform"}, "annotations": {"example.com/contact": "ada"},
        "serviceAccountAnnotations": {"example.com/identity": "packages"},
        "resources": {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "300Mi"}},
        "env": [{"name": "GRANARY_TELEMETRY_LOG_FORMAT", "value": "human"}],
        "overrides": {"metadata": {"annotations": {"example.com/patched": "yes"}},
                      "spec": {"hostAliases": [{"ip": "10.0.0.7", "hostnames": ["upstream.example"]}],
                               "containers": [{"name": "registry", "env": [{"name": "EXTRA", "value": "patched"}]}]}}})
    assert_works(registry, tmp_path)
    [pod] = kube.all("pods", SERVING)
    [container] = pod["spec"]["containers"]
    metadata, environment = pod["metadata"], {found["name"]: found.get("value") for found in container["env"]}
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert "dedicated" in [found.get("key") for found in pod["spec"]["tolerations"]]
    assert "nodeAffinity" in pod["spec"]["affinity"]
    assert metadata["labels"]["example.com/team"] == "platform"
    assert metadata["labels"]["granary.dev/registry"] == "main"
    assert metadata["annotations"]["example.com/contact"] == "ada" and metadata["annotations"]["example.com/patched"] == "yes"
    assert kube.get("serviceaccount/main")["metadata"]["annotations"] == {"example.com/identity": "packages"}
    assert container["resources"] == {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "300Mi"}}
    assert environment["EXTRA"] == "patched" and environment["GRANARY_CONFIG"]
    assert pod["spec"]["hostAliases"] == [{"ip": "10.0.0.7", "hostnames": ["upstream.example"]}]
    assert not kube.logs("deployment/main", "--tail=1").startswith("{"), "the log is written for people"
    assert https.get(registry.index("tools")).ok
