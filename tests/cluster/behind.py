"""What stands behind a registry: its rows as Postgres' superuser sees them, its buckets as MinIO's root does, its pods one
by one past the ingress, and the operator's metrics."""

import base64
import difflib
import hmac
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import urljoin, urlsplit

import requests

from tests.cluster.granary import Registry
from tests.cluster.kube import Kube
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist
from tests.harness.postgres import program
from tests.harness.processes import wait_until
from tests.harness.wire import MULTIPART, form, multipart

Who = tuple[str, str]
# Of the pods that serve.
SERVING = "app.kubernetes.io/component=registry"
CHILDREN = ("deployments", "services", "ingresses", "configmaps", "secrets", "serviceaccounts", "jobs", "networkpolicies",
            "poddisruptionbudgets", "horizontalpodautoscalers")


# Postgres and MinIO


def sql(registry: Registry, statement: str) -> list[str]:
    """Runs a statement in the registry's schema as Postgres' superuser; what came back, a line a row."""
    facts = registry.facts.postgres
    command = [program("psql"), "-h", facts.host, "-p", str(facts.port), "-U", facts.user, "-d", "postgres", "-XqAt",
               "-v", "ON_ERROR_STOP=1", "-c", f'set search_path to "{registry.spec["database"]["schema"]}"', "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PGPASSWORD": facts.password})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def grants(registry: Registry, channel: str) -> list[dict]:
    """The grants of a channel as they stand in Postgres."""
    query = f"""select body from channel_grant join channel on id = channel_id where name = '{channel}'
                order by source, position"""
    return [json.loads(line) for line in sql(registry, query)]


def rows(registry: Registry, channel: str) -> int:
    """How many rows of any table belong to a channel, with its own."""
    found = sql(registry, f"select id from channel where name = '{channel}'")
    if not found:
        return 0
    tables = sql(registry, """select table_name from information_schema.columns
                              where column_name = 'channel_id' and table_schema = current_schema()""")
    counts = " union all ".join(f'select count(*) n from "{table}" where channel_id = {found[0]}' for table in tables)
    return 1 + int(sql(registry, f"select sum(n) from ({counts}) counted")[0])


def s3(facts: Facts, method: str, resource: str, body: bytes = b"") -> requests.Response:
    """A request to MinIO as its root, signed by version 2; `resource` is `BUCKET`, `BUCKET?versioning`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html"""
    store, date = facts.store, formatdate(usegmt=True)
    text = f"{method}\n\n\n{date}\n/{resource}"
    signature = base64.b64encode(hmac.digest(store.secret_key.encode(), text.encode(), "sha1")).decode()
    headers = {"Date": date, "Authorization": f"AWS {store.access_key}:{signature}"}
    return requests.request(method, f"{store.endpoint.rstrip('/')}/{resource}", headers=headers, data=body or None, timeout=30)


def keys(facts: Facts, bucket: str) -> set[str] | None:
    """The names of a bucket's objects; None when there is no such bucket."""
    answer = s3(facts, "GET", bucket)
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    return set(re.findall(r"<Key>([^<]*)</Key>", answer.text))


# Pods


class Pod:
    """A pod of a registry, reached at its own address on one connection."""

    def __init__(self, name: str, address: str, host: str):
        self.name, self.url = name, f"http://{address}:8080"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Host"] = host

    def get(self, path: str, who: Who | None = None) -> requests.Response:
        """Asks for a path."""
        return self.session.get(f"{self.url}{path}", auth=who, timeout=10, allow_redirects=False)

    def reads(self, channel: str, who: Who | None = None, project: str = "") -> bool:
        """Whether somebody may see the index of a channel, or of one of its projects."""
        return self.get(f"/pypi/{channel}/+simple/{project and project + '/'}", who).status_code == 200

    def publishes(self, channel: str, who: Who, dist: Dist) -> bool:
        """Whether somebody may upload."""
        answer = self.session.post(f"{self.url}/pypi/{channel}/", auth=who, data=multipart(form(dist)),
                                   headers={"Content-Type": MULTIPART}, timeout=30)
        assert answer.status_code in (200, 401, 403, 404), f"{answer.status_code}: {answer.text}"
        return answer.status_code == 200

    def files(self, channel: str, project: str, who: Who | None = None) -> dict[str, bytes]:
        """The files of a project, by name."""
        page = self.session.get(f"{self.url}/pypi/{channel}/+simple/{project}/", auth=who, timeout=10,
                                headers={"Accept": "application/vnd.pypi.simple.v1+json"})
        assert page.status_code == 200, f"{self.name}: {page.status_code} {page.text}"
        paths = {file["filename"]: urlsplit(urljoin(page.url, file["url"])).path for file in page.json()["files"]}
        return {name: self.get(path, who).content for name, path in paths.items()}


def pods(registry: Registry) -> list[Pod]:
    """The pods that serve."""
    found = [pod for pod in registry.kube.all("pods", f"{SERVING},granary.dev/registry={registry.name}")
             if "deletionTimestamp" not in pod["metadata"]]
    return [Pod(pod["metadata"]["name"], pod["status"]["podIP"], registry.host) for pod in found]


def seconds_until(asked: list[Pod], holds: Callable[[Pod], bool], most: float = 10) -> float:
    """Asks the pods in turn, without a pause, until something holds on each; how long that took."""
    began, waiting = time.monotonic(), list(asked)
    while waiting:
        waiting = [pod for pod in waiting if not holds(pod)]
        taken = time.monotonic() - began
        if waiting and taken > most:
            raise TimeoutError(f"not so after {taken:.1f} s on {[pod.name for pod in waiting]}")
    # What holds once, holds: no pod goes back to what it knew before.
    assert all(holds(pod) for pod in asked)
    return taken


# The operator


def metric(operator: Kube, name: str, **labels: str) -> float:
    """A metric of the operator, summed over what is not named; 0 when there is none."""
    pod = next(pod for pod in operator.all("pods") if "deletionTimestamp" not in pod["metadata"])
    text = requests.get(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10).text
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for found, value in lines if all(label in found for label in wanted))


def restart(operator: Kube) -> None:
    """Ends the operator's pod and waits until the next one has looked at every object, and rests."""
    operator.delete(*(f"pod/{name}" for name in operator.pods()), seconds=90)
    operator.rollout("deployment/granary-operator")
    looked_at_all(operator)


def looked_at_all(operator: Kube, times: int = 1, seconds: float = 120) -> None:
    """Waits until the operator that runs has looked at each object so often, and at none just now."""
    kinds = {"PackageRegistry": "pkgreg", "Channel": "pkgch"}
    objects = {kind: operator.all(name, everywhere=True) for kind, name in kinds.items()}
    # What other tests have left is on its way out.
    counts = {kind: sum("deletionTimestamp" not in one["metadata"] for one in found) for kind, found in objects.items()}

    def rests() -> bool:
        busy = metric(operator, "granary_operator_queue_depth") + metric(operator, "granary_operator_reconciles_running")
        runs = {kind: metric(operator, "granary_operator_reconcile_runs_total", kind=kind) for kind in kinds}
        return busy == 0 and all(runs[kind] >= counts[kind] * (times if kind == "Channel" else 1) for kind in kinds)

    wait_until(rests, seconds, "the operator to have looked at everything", 0.2)


def objects(kube: Kube) -> dict[str, dict]:
    """Every object of ours in a namespace, and all that the operator made there, by kind and name."""
    children = kube.all(",".join(CHILDREN), "app.kubernetes.io/managed-by=granary-operator")
    found = [*kube.all("pkgreg"), *kube.all("pkgch"), *children]
    return {f"{object['kind']}/{object['metadata']['name']}": object for object in found}


def written(before: dict[str, dict], after: dict[str, dict]) -> dict[str, list[str]]:
    """The objects that were made, changed or removed between two looks, if only by a write that said nothing new: by kind and
    name, the lines that differ."""
    changes = {}
    for name in before.keys() | after.keys():
        was, now = (json.dumps(found.get(name), indent=1).splitlines() for found in (before, after))
        if was != now:
            changes[name] = [line.strip() for line in difflib.unified_diff(was, now, n=0) if line[1:2] == " "]
    return changes


def told(kube: Kube, about: str) -> list[str]:
    """The reasons of the events about an object."""
    return [event["reason"] for event in kube.events(about)]
