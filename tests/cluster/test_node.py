"""What the other tests rely on: pods, Services, volumes, TLS by name, DNS, the servers beside the cluster."""

import subprocess
from signal import Signals
from urllib.parse import urlsplit

import pytest
import requests

from tests.cluster.kube import Kube, KubeError
from tests.cluster.node.facts import Facts
from tests.cluster.node.services import Services
from tests.harness.postgres import program
from tests.harness.processes import wait_until

PROBE = "localhost/probe:1"
PORT = 8080
RESTRICTED = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
}


def deployment(name: str, replicas: int, volumes: list[dict] = []) -> list[dict]:
    """A Deployment of the probe and its Service."""
    labels = {"app": name}
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    container = {
        "name": "probe", "image": PROBE, "securityContext": RESTRICTED, "ports": [{"containerPort": PORT}],
        "volumeMounts": mounts,
        "readinessProbe": {"httpGet": {"port": PORT, "path": "/"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi", "ephemeral-storage": "1Mi"},
                      "limits": {"memory": "64Mi", "ephemeral-storage": "8Mi"}}}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
         "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
             "metadata": {"labels": labels},
             "spec": {"containers": [container], "volumes": volumes,
                      "securityContext": {"fsGroup": 65532}}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}]}},
    ]


def ingress(name: str, host: str, secret: str) -> dict:
    """An Ingress to the Service of that name."""
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
        "spec": {"tls": [{"hosts": [host], "secretName": secret}],
                 "rules": [{"host": host, "http": {"paths": [path]}}]}}


def gateway(name: str, host: str, secret: str) -> list[dict]:
    """A Gateway and an HTTPRoute to the Service of that name."""
    version = "gateway.networking.k8s.io/v1"
    tls = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
    return [
        {"apiVersion": version, "kind": "Gateway", "metadata": {"name": name},
         "spec": {"gatewayClassName": "traefik",
                  "listeners": [{"name": "https", "protocol": "HTTPS", "port": 443, "hostname": host,
                                 "tls": tls}]}},
        {"apiVersion": version, "kind": "HTTPRoute", "metadata": {"name": name},
         "spec": {"parentRefs": [{"name": name}], "hostnames": [host],
                  "rules": [{"backendRefs": [{"name": name, "port": 80}]}]}},
    ]


def wait_served(https: requests.Session, host: str) -> None:
    """Waits until the ingress has the host's route and certificate."""
    def served() -> bool:
        try:
            return https.get(f"https://{host}/", timeout=5).ok
        except requests.exceptions.SSLError:
            return False

    wait_until(served, 20, host)


def test_pods_answer_by_name_over_tls(kube: Kube, facts: Facts, tls_secret, https: requests.Session):
    host = f"{kube.namespace}.{facts.ingress.domain}"
    kube.apply(*deployment("probe", 2), tls_secret("tls"), ingress("probe", host, "tls"))
    kube.rollout("deployment/probe")
    address = [{"ip": facts.ingress.address}]
    kube.until("ingress/probe", lambda found: found["status"]["loadBalancer"].get("ingress") == address)

    wait_served(https, host)
    pods = kube.pods("app=probe")
    everyone = {f"{pod} answers PUSH {host}/v2/\n" for pod in pods}
    assert len(pods) == 2
    # The ingress learns of each pod by itself.
    url = f"https://{host}/v2/"
    wait_until(lambda: {https.request("PUSH", url).text for _ in range(4)} == everyone, 20, "both pods")
    with pytest.raises(requests.exceptions.SSLError):
        https.get(f"https://{host}/", verify=True)

    pod = f"pod/{pods[0]}"
    assert "serving on :8080" in kube.logs(pod)
    for name in (f"probe.{kube.namespace}.svc.cluster.local", "probe", host):
        assert kube.exec(pod, "/probe", "resolve", name).startswith("[10."), name
    with pytest.raises(KubeError, match="no such host"):
        kube.exec(pod, "/probe", "resolve", "upstream.example")
    servers = {"postgres": f"{facts.postgres.host}:{facts.postgres.port}",
               "pooler": f"{facts.postgres.host}:{facts.postgres.pooled_port}",
               "store": urlsplit(facts.store.endpoint).netloc, "itself": "probe:80",
               "API": "kubernetes.default:443", "ingress": f"{host}:443"}
    for what, address in servers.items():
        assert "connected to" in kube.exec(pod, "/probe", "connect", address), what


def test_a_gateway_serves_as_the_ingress_does(kube: Kube, facts: Facts, tls_secret, https: requests.Session):
    host = f"{kube.namespace}.{facts.ingress.domain}"
    kube.apply(*deployment("probe", 1), tls_secret("tls"), *gateway("probe", host, "tls"))
    kube.rollout("deployment/probe")
    kube.wait("gateway/probe", "Programmed")
    wait_served(https, host)


def test_a_claim_gets_a_volume_that_the_pod_may_write(kube: Kube):
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    kube.apply(claim, *deployment("probe", 1,
                                  [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]))
    kube.rollout("deployment/probe")
    assert kube.get("pvc/data")["status"]["phase"] == "Bound"


def test_a_pod_outside_the_standard_is_refused(kube: Kube):
    assert 'violates PodSecurity "restricted:latest"' in kube.refusal(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"},
         "spec": {"containers": [{"name": "bad", "image": PROBE}]}})


def test_the_audit_log_shows_a_pods_requests(kube: Kube, audited):
    token = kube.run("create", "token", "default").strip()
    with pytest.raises(KubeError, match="forbidden"):
        kube.run("get", "secrets", f"--token={token}")
    account = f"system:serviceaccount:{kube.namespace}:default"
    [request] = wait_until(lambda: audited(account, ("list",)), 10, "the audit log")
    assert request["objectRef"]["resource"] == "secrets" and request["responseStatus"]["code"] == 403


def sql(facts: Facts, statement: str, port: int, user: str = "", password: str = "") -> str:
    """What Postgres answers, or how psql fails."""
    server = {"PGPASSWORD": password or facts.postgres.password, "PGCONNECT_TIMEOUT": "2"}
    command = [program("psql"), "-h", facts.postgres.host, "-p", str(port), "-d", "postgres",
               "-U", user or facts.postgres.user, "-XAtc", statement]
    done = subprocess.run(command, capture_output=True, text=True, env=server)
    return (done.stdout or done.stderr).strip()


def test_the_servers_beside_it_stop_and_come_back(facts: Facts, services: Services):
    database = facts.postgres
    assert sql(facts, "SELECT 1", database.port) == "1"
    sql(facts, "CREATE ROLE pooled LOGIN PASSWORD 'of-its-own'", database.port)
    assert sql(facts, "SELECT current_user", database.pooled_port, "pooled", "of-its-own") == "pooled"
    assert "authentication failed" in sql(facts, "SELECT 1", database.pooled_port, "pooled", "another")
    sql(facts, "DROP ROLE pooled", database.port)
    services.pause("postgres")
    assert "timeout expired" in sql(facts, "SELECT 1", database.port)
    services.resume("postgres")
    for name in ("postgres", "minio"):
        for by in (Signals.SIGQUIT, Signals.SIGKILL):
            services.stop(name, by)
            assert not services.alive(name)
            services.start(name)
    assert sql(facts, "SELECT 2", database.port) == "2"
    assert requests.get(f"{facts.store.endpoint}/minio/health/live", timeout=5).status_code == 200
