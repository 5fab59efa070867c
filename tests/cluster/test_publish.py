"""From `helm install` to `pip install`, through the ingress and over TLS."""

from pathlib import Path

from tests.cluster.granary import Registry, channel, conditions, write
from tests.cluster.kube import Kube
from tests.harness.dists import sdist, wheel


def test_what_is_applied_is_served_behind_tls(registry: Registry, tmp_path: Path):
    """helm install, PackageRegistry, Channel, Ready; then twine and pip with a CA that they are told to trust."""
    registry.start(replicas=2)
    found = registry.add_channel("tools", visibility="public")
    assert found["status"]["url"] == f"{registry.url}/pypi/tools"
    assert conditions(found) == {"Ready": "True", "BucketReady": "True", "PermissionsApplied": "True"}
    ci = registry.publisher()
    files = [write(tmp_path, wheel("acme-tools")), write(tmp_path, sdist("acme-tools", "2.0"))]
    registry.upload("tools", ci, *files)
    got = tmp_path / "got"
    registry.download("tools", got, "acme-tools==1.0")
    assert (got / files[0].name).read_bytes() == files[0].read_bytes()
    counted = registry.kube.until("pkgch/tools", lambda found: found["status"].get("files") == 2, 60)
    assert counted["status"]["packages"] == 1
    assert counted["status"]["bytes"] == sum(file.stat().st_size for file in files)
    assert counted["status"]["lastPublish"]


def test_five_lines_give_a_working_registry(facts, operator: Kube, kube: Kube, tmp_path: Path):
    """Without database and object store, the operator runs both on a volume of its own."""
    registry = Registry(facts, kube)
    kube.apply({"apiVersion": "granary.dev/v1alpha1", "kind": "PackageRegistry", "metadata": {"name": "main"},
                "spec": {"storage": {"size": "1Gi"}}})
    registry.wait(180)
    kube.apply(channel("tools", visibility="public", permissions=[{"subjects": ["group:publishers"], "role": "Publisher"}]))
    assert kube.wait("pkgch/tools")["status"]["url"] == f"http://main.{kube.namespace}.svc/pypi/tools"
    registry.publisher()
    assert registry.granary("doctor")
