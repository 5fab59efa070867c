"""What an administrator does while a registry serves: rotates its credentials, upgrades and removes what runs it."""

import base64
import json
import re
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.cluster import granary
from tests.cluster.commands import follow
from tests.cluster.granary import Registry, channel, helm, run, secret, write
from tests.cluster.kube import Kube, condition
from tests.cluster.node import certificates
from tests.cluster.node.facts import Facts, Store
from tests.cluster.node.services import Services
from tests.harness.dists import wheel
from tests.harness.places import CHECKOUT
from tests.harness.postgres import program
from tests.harness.processes import wait_until
from tests.harness.wire import MULTIPART, form, multipart

SERVING = "app.kubernetes.io/component=registry"
DEFINITIONS = ("crd/packageregistries.granary.dev", "crd/channels.granary.dev")


@pytest.fixture(scope="module")
def served(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry of two pods with a channel that anybody may read."""
    kube = cluster.make_namespace("operations", {"pod-security.kubernetes.io/enforce": "restricted"})
    registry = Registry(facts, kube).start(replicas=2)
    registry.add_channel("tools", visibility="public")
    yield registry
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


@pytest.fixture(scope="module")
def ci(served: Registry) -> tuple[str, str]:
    """An account that may publish: name and token."""
    return served.publisher()


def assert_serves(registry: Registry, who: tuple[str, str], folder: Path, name: str) -> None:
    """What twine uploads, pip downloads."""
    file = write(folder, wheel(name))
    registry.upload("tools", who, file)
    registry.download("tools", folder / name, name)
    assert (folder / name / file.name).read_bytes() == file.read_bytes()


def data_of(kube: Kube, name: str) -> dict[str, str]:
    """What a Secret holds."""
    return {key: base64.b64decode(value).decode() for key, value in kube.get(f"secret/{name}")["data"].items()}


@dataclass
class Load:
    """Threads that upload a file, read its project's page and download it, again and again. Nothing is repeated."""

    registry: Registry
    who: tuple[str, str]
    hint: str
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        print(f"{self.hint}: {self.sent} requests, {len(self.failed)} failed {self.failed[:5]}")

    def begin(self, count: int) -> None:
        """Adds threads."""
        for _ in range(count):
            thread = threading.Thread(target=self._run, args=(f"{self.hint}-{len(self.threads)}",))
            self.threads.append(thread)
            thread.start()

    def go_on(self, count: int, seconds: float = 120) -> None:
        """Waits for so many further requests."""
        wanted = self.sent + count
        wait_until(lambda: self.sent >= wanted, seconds, f"{count} requests")

    def _run(self, name: str) -> None:
        base = f"{self.registry.url}/pypi/tools"
        with requests.Session() as session:
            session.trust_env, session.verify, session.auth = False, self.registry.facts.ingress.ca, self.who
            for count in range(100_000):
                if self.over.is_set():
                    return
                dist = wheel(f"{name}-{count}", payload=bytes(20_000))
                if not self._ask(session, "POST", f"{base}/", data=multipart(form(dist)), headers={"Content-Type": MULTIPART}):
                    continue
                page = self._ask(session, "GET", f"{base}/+simple/{dist.name}/",
                                 headers={"Accept": "application/vnd.pypi.simple.v1+json"})
                if page:
                    file = requests.compat.urljoin(page.url, page.json()["files"][0]["url"])
                    answer = self._ask(session, "GET", file)
                    assert not answer or answer.content == dist.content

    def _ask(self, session: requests.Session, method: str, url: str, **options: object) -> requests.Response | None:
        self.sent += 1
        try:
            answer = session.request(method, url, timeout=60, **options)
        except requests.RequestException as error:
            self.failed.append(f"{method} {url}: {error}")
            return None
        if answer.ok:
            return answer
        self.failed.append(f"{method} {url}: {answer.status_code} {answer.text}")
        return None


def connects(url: str) -> bool:
    """Whether Postgres lets somebody in."""
    done = run(program("psql"), url, "-XqAt", "-c", "select 'let in'", ok=False)
    assert re.search("let in|password authentication failed|is not permitted to log in", done), done
    return "let in" in done


def test_no_request_fails_while_the_database_passwords_are_rotated(served: Registry, ci: tuple[str, str]):
    """The annotation of docs/operations.md, under a load that stays what it is; the old passwords are refused afterwards."""
    kube, before = served.kube, data_of(served.kube, "main-database")
    with Load(served, ci, "rotation") as load:
        load.begin(8)
        load.go_on(200)
        follow(kube, "rotate-database-passwords")
        kube.rollout("deployment/main")
        load.go_on(200)
    after = data_of(kube, "main-database")
    assert all(before[key] != after[key] for key in ("url", "owner-url", "app-password", "owner-password"))
    wait_until(lambda: not connects(before["url"]) and not connects(before["owner-url"]), 90, "the old passwords to be refused")
    assert connects(after["url"]) and connects(after["owner-url"])
    # Pods take turns with two roles: those of before go on with the other one until they are gone.
    assert not load.failed


@contextmanager
def root_key(services: Services, key: Store) -> Iterator[None]:
    """MinIO with another key, as long as this lasts."""
    file = services.folder / "minio.json"
    before = file.read_text()
    change = {"MINIO_ROOT_USER": key.access_key, "MINIO_ROOT_PASSWORD": key.secret_key}
    described = json.loads(before)
    described["environment"].update(change)
    try:
        restart(services, file, json.dumps(described))
        yield
    finally:
        restart(services, file, before)


def restart(services: Services, file: Path, described: str) -> None:
    """Starts MinIO anew, by another description."""
    services.stop("minio", signal.SIGKILL)
    file.write_text(described)
    services.start("minio")


def give_key(registry: Registry, key: Store) -> None:
    """Puts a key into the Secret and has it noticed, as docs/operations.md says; waits until all pods have it."""
    kube, before = registry.kube, registry.kube.pods(SERVING)
    kube.apply(secret("minio", access_key_id=key.access_key, secret_access_key=key.secret_key))
    follow(kube, "look-again")
    kube.until("pkgreg/main", lambda found: condition(found, "ObjectStoreReady")["status"] == "True"
               and not set(before) & set(kube.pods(SERVING)), 180, "to have new pods")
    registry.wait()


def test_another_key_of_the_object_store(served: Registry, ci: tuple[str, str], services: Services, tmp_path: Path):
    """A key that is refused is told by name; with the new one in the Secret, uploads go on."""
    store = served.facts.store
    other = Store(store.endpoint, store.region, "another-key", "another-secret-key")
    with root_key(services, other):
        follow(served.kube, "look-again")
        told = served.kube.wait("pkgreg/main", "ObjectStoreReady", "False", "ObjectStoreUnavailable")
        assert condition(told, "Available")["status"] == "True"
        give_key(served, other)
        assert_serves(served, ci, tmp_path, "acme-other-key")
    give_key(served, store)
    assert_serves(served, ci, tmp_path, "acme-first-key")


def test_a_new_certificate_is_served_by_the_same_pods(served: Registry, tmp_path: Path):
    """The ingress controller takes it from the Secret; nothing else has to happen."""
    kube, ingress, pods = served.kube, served.facts.ingress, served.kube.pods(SERVING)
    new = certificates.issue(tmp_path, certificates.Pair(Path(ingress.ca), Path(ingress.ca_key)), "renewed", "/CN=renewed",
                             f"DNS:{served.host}")
    kube.apply({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "packages-tls"},
                "stringData": {"tls.crt": new.certificate.read_text(), "tls.key": new.key.read_text()}})
    wanted = ssl.PEM_cert_to_DER_cert(new.certificate.read_text())

    def is_served() -> bool:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((served.host, 443))) == wanted

    wait_until(is_served, 30, "the new certificate")
    assert requests.get(served.index("tools"), verify=ingress.ca, timeout=30).ok
    assert kube.pods(SERVING) == pods


def state_of(kube: Kube) -> dict:
    """What must not change: objects, pods, and what the database Secret holds."""
    objects = [kube.get(name) for name in ("deployment/main", "configmap/main-config", "secret/main-database")]
    return {"pods": sorted(kube.pods()), "generations": [found["metadata"].get("generation") for found in objects],
            "data": [found.get("data") for found in objects],
            "registry": kube.get("pkgreg/main")["status"]["conditions"]}


def test_helm_test_finds_the_operator_ready(operator: Kube):
    """The chart's own test."""
    assert "Phase:          Succeeded" in helm("test", "granary")


def test_other_values_change_the_operator_alone(served: Registry, ci: tuple[str, str], operator: Kube, tmp_path: Path):
    """The chart is upgraded with other values: the registry's pods and objects stay as they are."""
    before = state_of(served.kube)
    granary.install("replicas=2", "log.format=human", "resources.limits.memory=300Mi")
    assert operator.get("deployment/granary-operator")["status"]["readyReplicas"] == 2
    served.add_channel("made-by-the-next", visibility="public")
    assert state_of(served.kube) == before
    assert_serves(served, ci, tmp_path, "acme-upgraded")
    granary.install("replicas=1", "log.format=json", "resources.limits.memory=256Mi")


def test_what_helm_removes_leaves_registries_serving(served: Registry, ci: tuple[str, str], operator: Kube, tmp_path: Path):
    """Both charts are uninstalled: definitions, objects and pods stay. Installed again, the operator goes on."""
    kube, before = served.kube, state_of(served.kube)
    for release in ("granary", "granary-crds"):
        helm("uninstall", release, "--wait")
    try:
        assert not operator.pods()
        assert all(kube.find(name) for name in (*DEFINITIONS, "pkgreg/main", "pkgch/tools"))
        assert_serves(served, ci, tmp_path, "acme-alone")
        kube.apply(channel("later", visibility="public"))
    finally:
        granary.install()
    kube.wait("pkgch/later")
    assert state_of(kube) == before


def test_the_first_admin_and_tokens_by_exec(served: Registry, https: requests.Session):
    """Name and password of the Secret let the admin in; through kubectl come a token, and another password."""
    served.add_channel("hidden")
    index = served.index("hidden")
    token = follow(served.kube, "admin-token").strip().splitlines()[-1]
    assert https.get(index).status_code == 401
    assert https.get(index, auth=("admin", "a wrong password")).status_code == 401
    assert https.get(index, auth=("admin", "correct horse battery staple")).status_code == 200
    assert https.get(index, auth=("__token__", token)).status_code == 200
    follow(served.kube, "admin-password", PASSWORD="another horse, another battery")
    assert https.get(index, auth=("admin", "correct horse battery staple")).status_code == 401
    assert https.get(index, auth=("admin", "another horse, another battery")).status_code == 200
    assert https.get(index, auth=("__token__", token)).status_code == 200


def test_the_operator_of_named_namespaces_has_rights_there_alone(facts: Facts, operator: Kube, kube: Kube, audited,
                                                                 tmp_path: Path):
    """A second release beside what it serves, while the first one rests: no ClusterRole, and nothing is forbidden to it."""
    mine = ("--namespace", kube.namespace)
    operator.run("scale", "deployment/granary-operator", "--replicas=0")
    try:
        operator.until("deployment/granary-operator", lambda found: not found["status"].get("replicas"), 60, "to rest")
        run("helm", *mine, "install", "team", CHECKOUT / "charts" / "granary", "--set", f"watchNamespaces={{{kube.namespace}}}",
            "--wait", "--timeout", "120s")
        account = f"system:serviceaccount:{kube.namespace}:team-granary-operator"
        assert kube.run("get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/instance=team", "-o", "name") == ""
        registry = Registry(facts, kube).start()
        registry.add_channel("tools", visibility="public")
        assert_serves(registry, registry.publisher(), tmp_path, "acme-team")
        assert [request for request in audited(account) if request["responseStatus"]["code"] in (401, 403)] == []
        may = ("auth", "can-i", "get", "secrets", f"--as={account}")
        assert [run(*where.command(*may), ok=False).strip() for where in (kube, operator)] == ["yes", "no"]
        kube.delete("pkgch/tools", "pkgreg/main")
        run("helm", *mine, "uninstall", "team", "--wait")
    finally:
        operator.run("scale", "deployment/granary-operator", "--replicas=1")
        operator.rollout("deployment/granary-operator")
