"""Postgres is restored to an earlier time while the buckets went on, by the commands of docs/operations.md."""

from pathlib import Path

import pytest
import requests

from tests.cluster.commands import follow
from tests.cluster.granary import PUBLISHERS, Registry, channel, package_registry, run, write
from tests.cluster.kube import Kube
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist, wheel
from tests.harness.postgres import program
from tests.harness.processes import wait_until

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


def listed(https: requests.Session, registry: Registry, who: tuple[str, str], channel: str) -> dict[str, str]:
    """Every file that the channel lists: its URL."""
    index = registry.index(channel)

    def ask(url: str) -> requests.Response:
        answer = https.get(url, auth=who, headers=JSON, timeout=60)
        answer.raise_for_status()
        return answer

    pages = [ask(f"{index}{project['name']}/") for project in ask(index).json()["projects"]]
    return {file["filename"]: requests.compat.urljoin(page.url, file["url"]) for page in pages for file in page.json()["files"]}


def dists(name: str, count: int, size: int) -> list[Dist]:
    """Files of which no two have equal bytes."""
    return [wheel(f"{name}-{number}", payload=f"{name} {number} ".encode() * size) for number in range(count)]


def upload(registry: Registry, who: tuple[str, str], folder: Path, files: list[Dist]) -> None:
    """Uploads them all."""
    registry.upload("tools", who, *(write(folder, dist) for dist in files))


def wait_for_collector(registry: Registry) -> None:
    """Waits until a run of the job that removes what nothing refers to has begun and ended."""
    postgres = registry.facts.postgres

    def ask(query: str) -> str:
        return run(program("psql"), "-h", postgres.host, "-p", postgres.port, "-U", postgres.user, "-d", "postgres",
                   "-XqAt", "-c", f'set search_path to "{registry.spec["database"]["schema"]}"; {query}',
                   PGPASSWORD=postgres.password).strip()

    # A run that ends puts the next one a second later.
    now = ask("select now()")
    next_run = f"select run_at > timestamptz '{now}' + interval '3 s' from job where kind = 'collect' and state = 'queued'"
    wait_until(lambda: ask(next_run) == "t", 60, "the collector")


@pytest.fixture
def busy(registry: Registry) -> Registry:
    """A registry that looks for files to remove every second."""
    registry.start(jobs={"collectEvery": "1s"}, cache={"maxSize": 0}, backupRetention="1h")
    registry.add_channel("tools")
    return registry


def test_an_older_database_finds_every_file_in_buckets_that_went_on(busy: Registry, https: requests.Session, kube: Kube,
                                                                    tmp_path: Path):
    """Files are published and deleted after the backup, and a channel is made: what the backup lists is there, byte for byte."""
    ci = busy.publisher()
    before, after = dists("before", 6, 3000), dists("after", 3, 10)
    upload(busy, ci, tmp_path, before)
    dump = {"DUMP": str(tmp_path / "granary.dump")}
    follow(kube, "database", "back-up", **dump)

    upload(busy, ci, tmp_path, after)
    urls = listed(https, busy, ci, "tools")
    assert set(urls) == {dist.filename for dist in (*before, *after)}
    for dist in (*before[:3], after[0]):
        assert https.delete(urls[dist.filename], auth=ci).status_code == 204
    kube.apply(channel("later", permissions=PUBLISHERS))
    kube.wait("pkgch/later")
    wait_for_collector(busy)

    follow(kube, "database", "stop-writing", "replace", "serve-again", **dump)
    # Traefik answers 404 itself until it knows of the pod.
    wait_until(lambda: https.get(busy.index("tools"), auth=ci).ok, 30, "the ingress to lead to the new pod")
    urls = listed(https, busy, ci, "tools")
    assert set(urls) == {dist.filename for dist in before}
    for dist in before:
        assert https.get(urls[dist.filename], auth=ci).content == dist.content, dist.filename
    assert "read 6 files, 0 damaged" in follow(kube, "database", "check", "drop")

    upload(busy, ci, tmp_path, after)
    busy.wait()
    wait_until(lambda: https.get(busy.index("later"), auth=ci).ok, 60, "the channel that came after the backup")
    busy.upload("later", ci, write(tmp_path, before[0]))
    assert set(listed(https, busy, ci, "tools")) == {dist.filename for dist in (*before, *after)}


def test_a_store_of_its_own(facts: Facts, operator: Kube, kube: Kube, tmp_path: Path):
    """The commands for registries that name no database: a dump that is put back, and other passwords."""
    registry = Registry(facts, kube)
    kube.apply(package_registry(replicas=1, storage={"size": "1Gi"}))
    registry.wait(180)
    dump = tmp_path / "granary.dump"
    follow(kube, "back-up-store", DUMP=str(dump))
    assert "TABLE DATA granary account" in run(program("pg_restore"), "--list", dump)
    kube.apply(channel("tools"))
    kube.wait("pkgch/tools")
    registry.publisher("late")
    follow(kube, "stop-writing", "replace-store", "serve-again", DUMP=str(dump))
    # The account is new again.
    registry.publisher("late")
    before = kube.get("secret/main-store")["data"]
    follow(kube, "rotate-store")
    assert not before.items() & kube.get("secret/main-store")["data"].items()
    assert "WRONG" not in registry.granary("doctor")
    kube.apply(channel("later"))
    kube.wait("pkgch/later", seconds=120)
