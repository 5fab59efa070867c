"""What the operator does when something beside it fails: it says so, and goes on by itself. And when it fails itself."""

import random
import signal
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.cluster import granary
from tests.cluster.granary import PUBLISHERS, Registry, channel, run
from tests.cluster.kube import Kube, condition
from tests.cluster.node.facts import Facts
from tests.cluster.node.services import Services
from tests.harness.dists import Dist, wheel
from tests.harness.postgres import program
from tests.harness.processes import wait_until
from tests.harness.registry import ObjectStore
from tests.harness.store import signed
from tests.harness.wire import MULTIPART, form, multipart

OPERATORS = "app.kubernetes.io/name=granary-operator"
SERVING = "app.kubernetes.io/component=registry"
# Seconds.
OUTAGE = 30


@pytest.fixture(scope="module")
def served(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry of two pods with a channel that anybody may read."""
    kube = cluster.make_namespace("faults", {"pod-security.kubernetes.io/enforce": "restricted"})
    registry = Registry(facts, kube).start(replicas=2)
    registry.add_channel("tools", visibility="public")
    yield registry
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


@pytest.fixture(scope="module")
def ci(served: Registry) -> tuple[str, str]:
    """An account that may publish: name and token."""
    return served.publisher()


def upload(https: requests.Session, registry: Registry, who: tuple[str, str], dist: Dist) -> requests.Response:
    """Says what twine says, once."""
    return https.post(f"{registry.url}/pypi/tools/", data=multipart(form(dist)), headers={"Content-Type": MULTIPART},
                      auth=who, timeout=60)


@pytest.mark.parametrize("service, part, reason", [("postgres", "DatabaseReady", "DatabaseUnavailable"),
                                                   ("minio", "ObjectStoreReady", "ObjectStoreUnavailable")])
def test_an_outage_is_told_by_name_and_over_by_itself(served: Registry, ci: tuple[str, str], services: Services,
                                                      https: requests.Session, tmp_path: Path, service: str, part: str,
                                                      reason: str):
    """Clients are told when to come again; what is applied meanwhile is Ready when the outage is over."""
    kube, before = served.kube, wheel(f"acme-before-{service}")
    refused = [wheel(f"acme-refused-{service}-{number}") for number in range(3)]
    assert upload(https, served, ci, before).status_code == 200
    services.stop(service, by=signal.SIGKILL)
    stopped = time.monotonic()
    try:
        told = kube.wait("pkgreg/main", part, "False", reason, seconds=20)
        print(f"{part}=False after {time.monotonic() - stopped:.1f} s: {condition(told, part)['message']}")
        assert condition(told, "Ready")["status"] == "False"
        assert condition(told, "Ready")["reason"] == reason
        assert condition(told, "Available")["status"] == "True", "the pods are not at fault"
        kube.apply(channel(f"late-{service}", permissions=PUBLISHERS))
        waiting = kube.wait(f"pkgch/late-{service}", "Ready", "False", reason, seconds=20)
        assert condition(waiting, "Reconciling")["status"] == "True"

        def refuses_to_the_end() -> bool:
            for dist in refused:
                answer = upload(https, served, ci, dist)
                assert answer.status_code == 503, f"{answer.status_code} {answer.text}"
                assert 0 < int(answer.headers["Retry-After"]) <= 60
            return time.monotonic() - stopped >= OUTAGE

        wait_until(refuses_to_the_end, OUTAGE + 60, "the end of the outage", 0.5)
        assert len(kube.pods(SERVING)) == 2
    finally:
        services.start(service)
    back = time.monotonic()
    kube.wait("pkgreg/main")
    kube.wait(f"pkgch/late-{service}")
    assert not [event for event in kube.events(f"late-{service}") if event["reason"].endswith("Repaired")]
    print(f"all is well {time.monotonic() - back:.1f} s after {service} came back")
    kube.wait("pkgch/tools")
    for dist in refused:
        assert upload(https, served, ci, dist).status_code == 200
    served.download("tools", tmp_path, *(dist.name for dist in (before, *refused)))
    for dist in (before, *refused):
        assert (tmp_path / dist.filename).read_bytes() == dist.content
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in kube.all("pods", SERVING)] == [0, 0]


# The operator itself


def fell(facts: Facts, system: Kube, pod: str) -> None:
    """Kills an operator as the loss of its machine does: the process first, then the pod, which another replaces."""
    status = system.get(f"pod/{pod}")["status"]
    for container in status.get("containerStatuses", []):
        if name := container.get("containerID", "").removeprefix("containerd://"):
            # It may be gone, or not there yet.
            run("ctr", "--address", facts.containerd, "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", name,
                ok=False)
    system.delete(f"pod/{pod}", grace=0, wait=False)


@pytest.fixture
def alone(operator: Kube) -> Iterator[Kube]:
    """The operator without a lease: one that was killed is followed at once."""
    granary.install("leaderElection.enabled=false")
    yield operator
    granary.install("leaderElection.enabled=true")


@pytest.fixture
def pair(operator: Kube) -> Iterator[Kube]:
    """Two operators, of which one works."""
    granary.install("replicas=2")
    yield operator
    granary.install("replicas=1")


def buckets(facts: Facts, prefix: str) -> set[str]:
    """The buckets whose names begin so."""
    keys = ObjectStore(facts.store.endpoint, facts.store.access_key, facts.store.secret_key)
    answer = signed("GET", f"{facts.store.endpoint}/", keys)
    assert answer.status_code == 200, answer.text
    names = [found.text for found in xml.fromstring(answer.content).iter() if found.tag.endswith("}Name")]
    return {name for name in names if name.startswith(prefix)}


def rows(registry: Registry, query: str) -> list[str]:
    """What Postgres answers, a line a row."""
    postgres = registry.facts.postgres
    return run(program("psql"), "-h", postgres.host, "-p", postgres.port, "-U", postgres.user, "-d", "postgres", "-XqAt",
               "-c", f'set search_path to "{registry.spec["database"]["schema"]}"; {query}',
               PGPASSWORD=postgres.password).splitlines()


def test_an_operator_killed_at_any_point_leaves_nothing_behind(facts: Facts, alone: Kube, kube: Kube):
    """Killed again and again while a registry and twenty channels come, and while ten of them go."""
    registry, chance = Registry(facts, kube), random.Random(7)
    names = [f"team-{number}" for number in range(20)]
    policies = {name: ("Delete" if number % 2 else "Retain") for number, name in enumerate(names)}

    def kill() -> None:
        for pod in alone.pods(OPERATORS):
            fell(facts, alone, pod)

    def ready() -> int:
        return sum(condition(found, "Ready").get("status") == "True" for found in kube.all("pkgch"))

    def apply(*some: str) -> None:
        kube.apply(*(channel(name, permissions=PUBLISHERS, deletionPolicy=policies[name]) for name in some))

    kube.apply(*registry.objects())
    prefix = registry.spec["objectStore"]["bucketPrefix"]
    apply(*names[:8])
    kill()
    for made in ("configmap/main-config", "secret/main-database", "deployment/main"):
        kube.until(made, bool, 120)
        kill()
    wait_until(lambda: kube.all("jobs"), 60, "the migration")
    kill()
    # The first bucket is there, its row may not be, and the other way round.
    wait_until(lambda: buckets(facts, prefix), 120, "a bucket")
    kill()
    for batch in (names[8:11], names[11:14], names[14:17], names[17:]):
        wait_until(lambda: alone.get("deployment/granary-operator")["status"].get("readyReplicas"), 60, "the operator to work")
        apply(*batch)
        # Any point of the way, which is about as long.
        time.sleep(chance.uniform(0, 0.6))
        kill()
    wait_until(lambda: ready() == 20, 120, "twenty channels to be ready", 0.2)
    registry.wait()
    assert buckets(facts, prefix) == {found["status"]["bucket"] for found in kube.all("pkgch")}
    assert sorted(rows(registry, "select name || ' ' || bucket from channel where state = 'active'")) == \
        sorted(f"{found['metadata']['name']} {found['status']['bucket']}" for found in kube.all("pkgch"))
    assert rows(registry, "select count(*) from channel") == ["20"]
    assert len(kube.all("jobs")) == 1

    gone = [name for name in names if policies[name] == "Delete"]
    kube.delete(*(f"pkgch/{name}" for name in gone[:5]), wait=False)
    time.sleep(chance.uniform(0, 0.6))
    kill()
    kube.delete(*(f"pkgch/{name}" for name in gone[5:]), wait=False)
    wait_until(lambda: len(buckets(facts, prefix)) < 20, 60, "a bucket to go")
    kill()
    for name in gone:
        kube.wait_gone(f"pkgch/{name}", 180)
    left = kube.all("pkgch")
    assert sorted(found["metadata"]["name"] for found in left) == sorted(set(names) - set(gone))
    assert buckets(facts, prefix) == {found["status"]["bucket"] for found in left}
    assert sorted(rows(registry, "select name from channel")) == sorted(set(names) - set(gone))


def test_the_other_operator_takes_over(facts: Facts, pair: Kube, served: Registry):
    """The one that works is killed with its pod: within twenty seconds the other has the lease and works."""
    kube = served.kube

    def holder() -> str:
        return pair.get("lease/granary-operator")["spec"].get("holderIdentity") or ""

    operators = pair.pods(OPERATORS)
    assert len(operators) == 2
    wait_until(lambda: holder() in operators, 60, "one of them to hold the lease", 0.2)
    first = holder()
    second = next(pod for pod in operators if pod != first)
    served.add_channel("before-the-fall", visibility="public")
    fell(facts, pair, first)
    killed = time.monotonic()
    kube.apply(channel("after-the-fall", permissions=PUBLISHERS))
    wait_until(lambda: holder() not in ("", first), 60, "another to hold the lease")
    took = time.monotonic() - killed
    kube.wait("pkgch/after-the-fall", seconds=30)
    print(f"the lease changed hands after {took:.1f} s, the channel was ready after {time.monotonic() - killed:.1f} s")
    assert took < 20
    kube.wait("pkgreg/main")
    assert second in pair.pods(OPERATORS)
    assert pair.get(f"pod/{second}")["status"]["containerStatuses"][0]["restartCount"] == 0
