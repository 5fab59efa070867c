"""What clients notice while pods go and come: nothing, and where a pod is killed, nothing that cannot be repeated."""

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
import requests

from tests.cluster.granary import Registry, run, version, write
from tests.cluster.kube import Kube, condition
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist, file_stem, wheel
from tests.harness.places import venv_program
from tests.harness.postgres import program
from tests.harness.processes import wait_until
from tests.harness.wire import MULTIPART, form, multipart

# Two images: the operator's own, and the same under another name.
IMAGES = (f"granary:{version()}", "granary:next")
SERVING = "app.kubernetes.io/component=registry"
MIGRATIONS = "app.kubernetes.io/component=migrate"


@pytest.fixture(scope="module")
def served(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry of three pods with a channel that anybody may read."""
    kube = cluster.make_namespace("rollouts", {"pod-security.kubernetes.io/enforce": "restricted"})
    registry = Registry(facts, kube).start(replicas=3, image=IMAGES[0])
    registry.add_channel("tools", visibility="public")
    yield registry
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


@pytest.fixture(scope="module")
def ci(served: Registry) -> tuple[str, str]:
    """An account that may publish: name and token."""
    return served.publisher()


@dataclass
class Clients:
    """Threads that upload one new file after the other: some with commands of twine, some with single requests, each on a
    connection of its own, that say what twine says and are never repeated."""

    registry: Registry
    who: tuple[str, str]
    folder: Path
    hint: str
    commands: int = 30
    uploads: int = 200
    acknowledged: dict[str, Dist] = field(default_factory=dict)
    failed: dict[str, tuple[Dist, str]] = field(default_factory=dict)
    by_twine: list[str] = field(default_factory=list)

    def __enter__(self) -> "Clients":
        self.over = threading.Event()
        ways = [("twine", self.twine), ("twine", self.twine), ("post", self.post), ("post", self.post)]
        self.threads = [threading.Thread(target=self._run, args=(f"{self.hint}-{name}-{number}", way))
                        for number, (name, way) in enumerate(ways)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        try:
            if failure is None:
                wait_until(self.enough, 180, f"{self.uploads} uploads")
        finally:
            self.over.set()
            for thread in self.threads:
                thread.join()

    def enough(self) -> bool:
        """Whether as many were acknowledged as shall be."""
        return len(self.by_twine) >= self.commands and len(self.acknowledged) >= self.uploads

    def _run(self, name: str, way: Callable[[Dist], None]) -> None:
        chance = random.Random(name)
        for count in range(10_000):
            if self.over.is_set():
                return
            # The largest are sent to the object store in parts, and are on their way when pods go.
            size = chance.choice((100, 20_000, 300_000, 2_000_000, 9_000_000 if count % 10 == 7 else 1000))
            dist = wheel(f"{name}-{count}", payload=chance.randbytes(size))
            try:
                way(dist)
            except (AssertionError, requests.RequestException, subprocess.TimeoutExpired) as error:
                self.failed[dist.filename] = dist, str(error)
            else:
                self.acknowledged[dist.filename] = dist
                if way == self.twine:
                    self.by_twine.append(dist.name)

    def twine(self, dist: Dist) -> None:
        """One command of twine."""
        self.registry.upload("tools", self.who, write(self.folder, dist))

    def post(self, dist: Dist) -> None:
        """One request."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{self.registry.url}/pypi/tools/", data=multipart(form(dist)), auth=self.who, timeout=60,
                                  headers={"Content-Type": MULTIPART}, verify=self.registry.facts.ingress.ca)
        assert answer.status_code < 300, f"{answer.status_code} {answer.headers} {answer.text}"

    def repeat_what_failed(self) -> None:
        """Once more, by the same way; insists that it succeeds."""
        for filename, (dist, _) in self.failed.items():
            (self.twine if "-twine-" in dist.name else self.post)(dist)
            self.acknowledged[filename] = dist


def assert_installs(registry: Registry, clients: Clients, folder: Path) -> None:
    """All that was acknowledged installs, byte for byte; what twine uploaded is downloaded with pip as well."""
    dists = list(clients.acknowledged.values())
    target = folder / "installed"
    run(venv_program("uv"), "pip", "install", "--no-deps", "--no-config", "--no-cache", "--target", target,
        "--index-url", registry.index("tools"), *(f"{dist.name}=={dist.version}" for dist in dists),
        SSL_CERT_FILE=registry.facts.ingress.ca, UV_PYTHON_DOWNLOADS="never")
    for dist in dists:
        installed = (target / file_stem(dist.name) / "payload.bin").read_bytes()
        assert dist.content == wheel(dist.name, dist.version, payload=installed).content, dist.filename
    got = folder / "got"
    registry.download("tools", got, *clients.by_twine)
    for name in clients.by_twine:
        filename = wheel(name).filename
        assert (got / filename).read_bytes() == clients.acknowledged[filename].content, filename


def kill(facts: Facts, kube: Kube, pod: str) -> None:
    """SIGKILL to the first process of a pod's container."""
    container = kube.get(f"pod/{pod}")["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    run("ctr", "--address", facts.containerd, "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)


def time_of(written: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(written)


def image_of(object: dict) -> str:
    """The image of a Deployment, a Job or a pod."""
    spec = object["spec"]
    return spec.get("template", {}).get("spec", spec)["containers"][0]["image"]


def present(kube: Kube) -> str:
    """The image of the pods that serve."""
    return image_of(kube.get("deployment/main"))


def other(kube: Kube) -> str:
    """The image to go to."""
    return next(image for image in IMAGES if image != present(kube))


def assert_migrated_first(kube: Kube, image: str) -> None:
    """The migration of an image was over before the first pod of it came into being."""
    done = [job["status"]["completionTime"] for job in kube.all("jobs", MIGRATIONS) if image_of(job) == image]
    made = [pod["metadata"]["creationTimestamp"] for pod in kube.all("pods", SERVING) if image_of(pod) == image]
    assert len(done) == 1 and len(made) == 3
    assert time_of(done[0]) <= min(map(time_of, made))


def test_no_command_fails_while_pods_go_and_a_new_image_comes(served: Registry, ci: tuple[str, str], tmp_path: Path):
    """Pods are deleted one after the other, then all are replaced after a migration: every single command succeeds."""
    kube, image = served.kube, other(served.kube)
    with Clients(served, ci, tmp_path, "calm") as clients:
        for pod in kube.pods(SERVING):
            kube.delete(f"pod/{pod}")
            kube.rollout("deployment/main")
        served.change(image=image)
        served.wait(240)
    print(f"{len(clients.acknowledged)} uploads, {len(clients.by_twine)} of them with twine")
    assert clients.failed == {}
    assert_migrated_first(kube, image)
    assert_installs(served, clients, tmp_path)


def test_nothing_acknowledged_is_lost_when_pods_are_killed(served: Registry, ci: tuple[str, str], tmp_path: Path):
    """Processes are killed one after the other, also during a rolling update; what fails succeeds when it is repeated."""
    kube, facts = served.kube, served.facts
    with Clients(served, ci, tmp_path, "storm") as clients:
        first, *others = kube.pods(SERVING)
        kube.delete(f"pod/{first}", grace=0)
        kube.rollout("deployment/main")
        for pod in others:
            kill(facts, kube, pod)
            kube.until(f"pod/{pod}", lambda found: found["status"]["containerStatuses"][0]["restartCount"] == 1)
            kube.rollout("deployment/main")
        old = kube.pods(SERVING)
        served.change(image=other(kube))
        kube.until("deployment/main", lambda found: found["status"].get("updatedReplicas"), 120, "to have a new pod")
        for pod in old[:2]:
            if pod in kube.pods(SERVING):
                kube.delete(f"pod/{pod}", grace=0)
        served.wait(240)
    print(f"{len(clients.acknowledged)} uploads were acknowledged, {len(clients.failed)} failed")
    clients.repeat_what_failed()
    assert_installs(served, clients, tmp_path)


def administer(registry: Registry, statement: str) -> str:
    """Runs a statement as Postgres' administrator, in the registry's schema; what it answers."""
    postgres = registry.facts.postgres
    return run(program("psql"), "-h", postgres.host, "-p", postgres.port, "-U", postgres.user, "-d", "postgres", "-XqAt",
               "-c", f'set search_path to "{registry.spec["database"]["schema"]}"; {statement}',
               PGPASSWORD=postgres.password).strip()


def assert_serves(registry: Registry, who: tuple[str, str], folder: Path, name: str) -> None:
    """What twine uploads, pip downloads."""
    file = write(folder, wheel(name))
    registry.upload("tools", who, file)
    registry.download("tools", folder / name, name)
    assert (folder / name / file.name).read_bytes() == file.read_bytes()


@pytest.fixture
def settled(served: Registry) -> Registry:
    """The registry as it should be, whatever tests before have left."""
    served.change(image=present(served.kube), paused=False)
    served.wait(240)
    return served


def test_a_failed_migration_leaves_the_old_pods_serving(settled: Registry, ci: tuple[str, str], tmp_path: Path):
    """The schema's history lacks an entry, so that the statements meet what they have made already, and fail."""
    kube, before = settled.kube, settled.kube.pods(SERVING)
    old, new = present(kube), other(kube)
    settled.change(paused=True)
    kube.wait("pkgreg/main", "Paused")
    for job in kube.all("jobs", MIGRATIONS):
        if image_of(job) == new:
            kube.delete(f"job/{job['metadata']['name']}")
    entry = administer(settled, "select quote_literal(version) || ',' || quote_literal(name) || ',' || "
                       "quote_literal(applied_on) || ',' || quote_literal(checksum) from migration_store "
                       "order by version desc limit 1")
    administer(settled, "delete from migration_store where version = (select max(version) from migration_store)")
    try:
        settled.change(image=new, paused=False)
        told = kube.wait("pkgreg/main", "Migrated", "False", "MigrationFailed", seconds=240)
        assert condition(told, "Stalled")["status"] == "True"
        assert condition(told, "Available")["status"] == "True"
        job = next(job for job in kube.all("jobs", MIGRATIONS) if image_of(job) == new)["metadata"]["name"]
        assert job in condition(told, "Migrated")["message"]
        assert kube.pods(SERVING) == before
        assert present(kube) == old
        assert_serves(settled, ci, tmp_path, "acme-while-failed")
    finally:
        administer(settled, f"insert into migration_store (version, name, applied_on, checksum) values ({entry})")
    kube.delete(f"job/{job}")
    settled.wait(240)
    assert present(kube) == new
    assert_serves(settled, ci, tmp_path, "acme-after-failure")


def test_an_image_that_is_not_there_leaves_the_old_pods_serving(settled: Registry, ci: tuple[str, str], tmp_path: Path):
    """Its migration never ends, and nothing else begins; once the spec is put right, no trace is left of it."""
    kube, before = settled.kube, settled.kube.pods(SERVING)
    image = present(kube)
    settled.change(image="granary:absent")
    told = kube.wait("pkgreg/main", "Migrated", "False")
    assert condition(told, "Ready")["reason"] == condition(told, "Migrated")["reason"] == "Migrating"
    assert_serves(settled, ci, tmp_path, "acme-while-absent")
    assert kube.pods(SERVING) == before
    settled.change(image=image)
    settled.wait(120)
    assert kube.pods(SERVING) == before, "the pods were right all the time"
    wait_until(lambda: all(image_of(job) != "granary:absent" for job in kube.all("jobs", MIGRATIONS)), 60,
               "the migration that nobody wants any more to go")


def test_back_to_the_previous_image_after_a_migration(settled: Registry, ci: tuple[str, str], tmp_path: Path):
    """A later release expands the schema; the one before it runs beside what it does not know."""
    later = ("alter table channel add column later text default 'x'; create table later (id bigint primary key); "
             "insert into migration_store select 1000, 'later', applied_on, checksum from migration_store where version = 1")
    undone = "alter table channel drop column later; drop table later; delete from migration_store where version = 1000"
    kube, before = settled.kube, other(settled.kube)
    administer(settled, later)
    try:
        assert_serves(settled, ci, tmp_path, "acme-later")
        settled.change(image=before)
        found = settled.wait(240)
        assert {image_of(kube.get(f"pod/{pod}")) for pod in kube.pods(SERVING)} == {before}
        assert condition(found, "Migrated")["status"] == "True"
        assert found["status"]["migratedImage"] == before
        assert found["status"]["schemaVersion"] == 1000
        assert_serves(settled, ci, tmp_path, "acme-earlier")
        settled.add_channel("after", visibility="public")
    finally:
        administer(settled, undone)
