"""Fixtures: the cluster, what is known of it, and a namespace for each test."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.cluster import granary
from tests.cluster.granary import Registry
from tests.cluster.kube import Kube, attempt
from tests.cluster.node import facts as node_facts
from tests.cluster.node.facts import Facts
from tests.cluster.node.services import Services
from tests.harness.secrets import SECRETS

# Namespaces of the test that runs, for the report of its failure.
in_use: list[Kube] = []
# Namespaces that are being taken away: tests do not wait for each other's.
ending: list[Kube] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed and report.when != "teardown":
        for namespace in in_use:
            report.sections.append((f"namespace {namespace.namespace}", namespace.story()))
    return report


@pytest.fixture(scope="session")
def facts() -> Facts:
    """What is known of the cluster."""
    if node_facts.VARIABLE not in os.environ:
        pytest.fail(f"{node_facts.VARIABLE} names no file about the cluster: see tests/cluster/node/facts.py")
    return Facts.load(os.environ[node_facts.VARIABLE])


@pytest.fixture(scope="session")
def services(facts: Facts) -> Services:
    """Stops and starts what runs beside the pods: `postgres`, `minio`, `pgbouncer`, `traefik`."""
    return Services(Path(facts.state))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kube]:
    """The cluster, as its administrator."""
    kube = Kube()
    yield kube
    SECRETS.check("the operator's events", attempt(lambda: kube.within(granary.SYSTEM).run("get", "events", "--output=json")))
    for namespace in ending:
        kube.wait_gone(f"namespace/{namespace.namespace}", 120)


MakeNamespace = Callable[..., Kube]


@pytest.fixture
def make_namespace(cluster: Kube, request: pytest.FixtureRequest) -> Iterator[MakeNamespace]:
    """Makes namespaces that are gone after the test: `make_namespace(labels)`."""
    made: list[Kube] = []

    def make(labels: dict[str, str] | None = None) -> Kube:
        namespace = cluster.make_namespace(request.node.originalname.removeprefix("test_"), labels)
        made.append(namespace)
        in_use.append(namespace)
        return namespace

    yield make
    told = [(namespace, attempt(lambda: namespace.run("get", "events,pkgreg,pkgch", "--output=json"))) for namespace in made]
    for namespace in made:
        in_use.remove(namespace)
        cluster.delete(f"namespace/{namespace.namespace}", wait=False)
        ending.append(namespace)
    for namespace, text in told:
        SECRETS.check(f"the events and objects of {namespace.namespace}", text)


@pytest.fixture
def kube(make_namespace: MakeNamespace) -> Kube:
    """A namespace for this test alone, whose pods must keep to the restricted standard."""
    return make_namespace({"pod-security.kubernetes.io/enforce": "restricted"})


@pytest.fixture
def https(facts: Facts) -> Iterator[requests.Session]:
    """An HTTP client that trusts the cluster's ingress and nobody else."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = facts.ingress.ca
        yield session


@pytest.fixture
def tls_secret(facts: Facts) -> Callable[[str], dict]:
    """The manifest of a Secret, by its name, with the certificate of every host below the ingress domain."""
    def manifest(name: str) -> dict:
        pair = {"tls.crt": Path(facts.ingress.certificate).read_text(),
                "tls.key": Path(facts.ingress.key).read_text()}
        return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
                "stringData": pair}

    return manifest


@pytest.fixture
def audited(facts: Facts) -> Callable[..., list[dict]]:
    """The API requests of a user since the test began: `audited("system:serviceaccount:NS:NAME")`."""
    log = Path(facts.audit_log)
    began = log.stat().st_size

    def requests(user: str, verbs: tuple[str, ...] = ()) -> list[dict]:
        with open(log) as lines:
            lines.seek(began)
            found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [request for request in found
                if request["user"]["username"] == user and (not verbs or request["verb"] in verbs)]

    return requests


@pytest.fixture(scope="session")
def operator(facts: Facts, cluster: Kube, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The operator, installed from the charts; the namespace that it runs in."""
    build = granary.load_images(facts, tmp_path_factory.mktemp("images"))
    granary.install()
    # A node that was up already may run an operator of another build under the same name.
    namespace = cluster.within(granary.SYSTEM)
    change = {"metadata": {"annotations": {"granary.dev/test-build": build}}}
    namespace.patch(granary.OPERATOR, {"spec": {"template": change}})
    namespace.rollout(granary.OPERATOR)
    in_use.append(namespace)
    return namespace


@pytest.fixture
def registry(facts: Facts, operator: Kube, kube: Kube) -> Registry:
    """A registry to be started in the test's namespace, with a schema and a bucket prefix of its own."""
    return Registry(facts, kube)
