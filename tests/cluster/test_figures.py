"""How fast and how small the operator is. The figures are printed; those that users were promised are asserted."""

import os
import re
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from tests.cluster import granary
from tests.cluster.conftest import in_use
from tests.cluster.granary import OPERATOR, Registry, channel
from tests.cluster.kube import Kube
from tests.cluster.node.facts import Facts

# Another number shows how costs grow, and promises nothing.
MANY = int(os.environ.get("GRANARY_TEST_CHANNELS", "500"))


@pytest.fixture(scope="module")
def big(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry for many channels."""
    namespace = cluster.make_namespace("figures")
    in_use.append(namespace)
    yield Registry(facts, namespace).start()
    in_use.remove(namespace)
    cluster.delete(f"namespace/{namespace.namespace}", wait=False)


def memory(operator: Kube) -> float:
    """What the operator's process holds in memory, in MiB."""
    pod = operator.get(f"pod/{operator.pods('app.kubernetes.io/name=granary-operator')[0]}")
    uid = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for status in _processes():
        if uid in status["cgroup"]:
            return status["rss"] / 1024
    raise AssertionError("the operator's process is not on this machine")


def _processes() -> Iterator[dict]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            cgroup, status = (folder / "cgroup").read_text(), (folder / "status").read_text()
        except OSError:
            continue
        if found := re.search(r"VmRSS:\s+(\d+) kB", status):
            if "granary-operator"[:15] in status.splitlines()[0]:
                yield {"cgroup": cgroup, "rss": int(found[1])}


def ready_since(object: dict) -> float | None:
    """When an object became ready, in seconds since 1970."""
    for condition in object.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
    return None


def test_an_idle_operator_asks_nobody_and_is_small(big: Registry, operator: Kube, audited, rest: dict[str, int]):
    """At rest: no API request but the lease and watches, in less than 40 MiB."""
    big.add_channel("lonely")
    rest["few"] = calls_in_a_minute(big)
    began = datetime.now(UTC) - timedelta(seconds=60)
    user = f"system:serviceaccount:{granary.SYSTEM}:granary-operator"
    made = [request for request in audited(user) if request["verb"] != "watch"
            # Registries of tests before this one may be on their way out.
            and request.get("objectRef", {}).get("namespace") == big.kube.namespace]
    late = [request for request in made if datetime.fromisoformat(request["requestReceivedTimestamp"]) > began]
    held = memory(operator)
    print(f"\nidle operator: {len(late)} API requests in a minute, {held:.1f} MiB")
    assert not late, [(request["verb"], request["requestURI"]) for request in late]
    assert held < 40


def test_a_channel_is_ready_within_two_seconds(big: Registry, record_property):
    """`kubectl apply` of a Channel to Ready: the median of eleven."""
    took = []
    for number in range(11):
        began = time.monotonic()
        big.kube.apply(channel(f"quick-{number}", big.name))
        big.kube.wait(f"pkgch/quick-{number}", seconds=30)
        took.append(time.monotonic() - began)
    median = statistics.median(took)
    print(f"\napply to Ready, kubectl's own time included: median {median:.2f} s, longest {max(took):.2f} s")
    record_property("median", median)
    assert median < 2


def test_many_channels_at_once(big: Registry, operator: Kube):
    """All of them are ready within 30 s of being applied, in an operator of less than 100 MiB."""
    names = [f"many-{number:04}" for number in range(MANY)]
    began = time.time()
    big.kube.run("apply", "--server-side", "--filename=-", seconds=120 + MANY,
                 input="\n---\n".join(map(granary.compact, (channel(name, big.name) for name in names))))
    applied = time.time()
    deadline = applied + 120 + MANY / 10
    while True:
        found = {item["metadata"]["name"]: ready_since(item) for item in big.kube.all("pkgch")}
        times = [found.get(name) for name in names]
        if all(times) or time.time() > deadline:
            break
        time.sleep(1)
    assert all(times), f"{sum(map(bool, times))} of {MANY} are ready after {time.time() - applied:.0f} s"
    # Times in a status are whole seconds, cut off.
    took, held = max(times) + 1 - applied, memory(operator)
    print(f"\n{MANY} channels: applied in {applied - began:.1f} s, all ready {took:.1f} s later; operator {held:.1f} MiB")
    if MANY <= 500:
        assert took <= 30
        assert held < 100


def test_many_channels_at_rest_cost_no_more_calls_than_few(big: Registry, rest: dict[str, int]):
    """The number of database calls does not grow with the channels."""
    many = calls_in_a_minute(big)
    print(f"\ntransactions in a minute at rest: {rest['few']} with one channel, {many} with {MANY}")
    if MANY <= 500:
        assert many < 1.5 * rest["few"] + 20


@pytest.fixture(scope="module")
def rest() -> dict:
    """What was seen at rest with few channels."""
    return {}


def calls_in_a_minute(registry: Registry) -> int:
    """Transactions of a minute in which nobody asks for anything, and of no channel anything is left to be told."""
    deadline = time.monotonic() + 60 + MANY / 10
    while not all("packages" in item.get("status", {}) for item in registry.kube.all("pkgch")):
        assert time.monotonic() < deadline, "not every channel has been counted"
        time.sleep(1)
    # Statuses may still be written for what was counted last: that is done every 20 s.
    time.sleep(25)
    before = calls(registry)
    time.sleep(60)
    return calls(registry) - before


def calls(registry: Registry) -> int:
    """Transactions that Postgres has seen of the database that all registries of the node share."""
    facts = registry.facts.postgres
    return int(granary.run("psql", "--no-psqlrc", "-tAc", "select xact_commit + xact_rollback from pg_stat_database where datname = 'postgres'",
                           f"host={facts.host} port={facts.port} user={facts.user} dbname=postgres",
                           PGPASSWORD=facts.password).strip())
