"""Pods that publish by the token of their service account: no Secret of ours in their namespace, and none in their image."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.granary import Registry
from tests.cluster.kube import Kube
from tests.cluster.node import images
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist, wheel
from tests.harness.places import venv_program

CLIENT = "uv:test"


@pytest.fixture(scope="module")
def client(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of uv and a shell."""
    archive = tmp_path_factory.mktemp("client") / "client.tar"
    images.archive(archive, f"docker.io/library/{CLIENT}", Path("/bin/busybox"), others=[venv_program("uv")])
    images.load(facts.containerd, archive)
    return CLIENT


@pytest.fixture
def jobs(cluster: Kube) -> Iterator[Kube]:
    """The namespace that jobs run in, which is another one than the registry's."""
    kube = cluster.make_namespace("jobs", {"pod-security.kubernetes.io/enforce": "restricted"})
    yield kube
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


def job(name: str, account: str, url: str, dist: Dist, image: str, audience: str = "granary") -> list[dict]:
    """A Job that publishes a file as a service account."""
    publish = f"UV_PUBLISH_PASSWORD=$(/busybox cat /var/run/granary/token) exec /uv publish --publish-url {url}/ -u __token__ /dist/{dist.filename}"
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {"name": "publish", "image": image, "imagePullPolicy": "Never", "command": ["/busybox", "sh", "-c", publish],
                 "env": [{"name": "HOME", "value": "/tmp"}, {"name": "UV_NO_PROGRESS", "value": "1"}], "securityContext": security,
                 "volumeMounts": [{"name": name, "mountPath": path} for name, path in
                                  (("granary", "/var/run/granary"), ("dist", "/dist"), ("tmp", "/tmp"))]}
    pod = {"serviceAccountName": account, "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
           "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
           "volumes": [{"name": "granary", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": audience}}]}},
                       {"name": "dist", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}}]}
    content = {dist.filename: base64.b64encode(dist.content).decode()}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": content},
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
             "spec": {"backoffLimit": 0, "template": {"spec": pod}}}]


def test_a_job_publishes_without_a_secret(registry: Registry, jobs: Kube, client: str, tmp_path: Path):
    """By the token that Kubernetes keeps in a file: the account that a grant names may, others may not, nor may a token that
    was made for somebody else."""
    registry.start(replicas=2)
    grant = {"subjects": [f"serviceaccount:{jobs.namespace}/publisher"], "role": "Publisher", "packages": ["acme-*"]}
    registry.add_channel("tools", visibility="public", permissions=[grant])
    inside = f"http://{registry.name}.{registry.kube.namespace}.svc/pypi/tools"
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}} for name in ("publisher", "stranger")]
    jobs.apply(*accounts)
    jobs.apply(*job("good", "publisher", inside, wheel("acme-good"), client),
               *job("stranger", "stranger", inside, wheel("acme-stranger"), client),
               *job("elsewhere", "publisher", inside, wheel("acme-elsewhere"), client, audience="somebody-else"),
               *job("other", "publisher", inside, wheel("other-package"), client))
    assert not [one for one in jobs.all("secrets")]
    jobs.wait("job/good", "Complete", seconds=60)
    for name, why in (("stranger", "403"), ("elsewhere", "401"), ("other", "403")):
        jobs.wait(f"job/{name}", "Failed", seconds=60)
        log = jobs.run("logs", f"job/{name}")
        assert why in log, log
    registry.download("tools", tmp_path / "got", "acme-good")
    assert [file.name for file in (tmp_path / "got").iterdir()] == [wheel("acme-good").filename]
    # The audit names the account by its namespace.
    told = registry.granary("audit", "--action", "publish", "--json")
    assert f"workload:kubernetes:system:serviceaccount:{jobs.namespace}:publisher" in told
    assert registry.granary("can", f"serviceaccount:{jobs.namespace}/publisher", "publish", "pypi/tools", "acme-x").startswith("yes: ")
