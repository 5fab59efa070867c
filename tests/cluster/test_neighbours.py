"""An operator that lets others be: it writes nothing that is so already, nothing while it is paused, stops for no object that
it cannot read, and shares the names of its kinds with others."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import behind
from tests.cluster.behind import grants, metric, pods, seconds_until, told
from tests.cluster.granary import SYSTEM, Registry, channel, conditions, package_registry
from tests.cluster.kube import Kube, KubeError, condition, is_current
from tests.cluster.node.facts import Facts
from tests.harness.processes import wait_until

OPERATOR = f"system:serviceaccount:{SYSTEM}:granary-operator"
APPLIED = {"Deployment", "Service", "Ingress", "ConfigMap", "Secret", "ServiceAccount", "PodDisruptionBudget"}
READER = {"subjects": ["user:ada"], "role": "Reader"}


@pytest.fixture(scope="module")
def served(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry of two pods with a channel."""
    kube = cluster.make_namespace("neighbours", {"pod-security.kubernetes.io/enforce": "restricted"})
    registry = Registry(facts, kube).start(replicas=2)
    registry.add_channel("tools", permissions=[READER])
    yield registry
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


def test_a_second_look_writes_nothing(served: Registry, operator: Kube, audited: Callable[..., list[dict]]):
    """An operator that has just begun looks at everything, and soon again: no object is another afterwards."""
    served.kube.until("pkgreg/main", lambda found: found["status"].get("channels") == 1, 30, "to count its channel")
    served.kube.until("pkgch/tools", lambda found: found["status"].get("files") == 0)
    # What its start has asked for may still be under way.
    behind.looked_at_all(operator)
    before = behind.objects(served.kube)
    assert {name.split("/")[0] for name in before} >= {"PackageRegistry", "Channel", *APPLIED}
    writes = ("create", "update", "patch", "delete")
    earlier = len(audited(OPERATOR, writes))
    behind.restart(operator)
    behind.looked_at_all(operator, times=2)
    changed = behind.written(before, behind.objects(served.kube))
    assert not changed
    # Nor has anything been written and written back: a status, a finalizer.
    asked = [request["objectRef"] | {"verb": request["verb"]} for request in audited(OPERATOR, writes)[earlier:]]
    mine = {(of["verb"], of["resource"]) for of in asked if of.get("namespace") == served.kube.namespace}
    assert not {found for found in mine if found[0] != "patch" or found[1] in ("channels", "packageregistries", "events")}


def test_kubectl_shows_what_matters(served: Registry):
    """`kubectl get pkgreg,pkgch`: a line an object, with the columns of each kind."""
    served.kube.until("pkgreg/main", lambda found: found["status"].get("channels") == 1, 30, "to count its channel")
    registries, channels = served.kube.run("get", "pkgreg,pkgch").strip().split("\n\n")
    header, line = registries.splitlines()
    assert header.split() == ["NAME", "URL", "CHANNELS", "PODS", "READY", "AGE"]
    assert line.split()[:-1] == ["packageregistry.granary.dev/main", served.url, "1", "2/2", "True"]
    header, line = channels.splitlines()
    assert header.split() == ["NAME", "FORMAT", "URL", "PACKAGES", "READY", "AGE"]
    assert line.split()[:-1] == ["channel.granary.dev/tools", "pypi", f"{served.url}/pypi/tools", "0", "True"]
    wide = served.kube.run("get", "pkgch", "--output=wide").splitlines()[0]
    assert "REASON" in wide.split()


@pytest.fixture
def pause(served: Registry) -> Iterator[Registry]:
    """The registry, paused until the test is over."""
    served.add_channel("leaving", deletionPolicy="Delete")
    served.change(paused=True)
    yield served
    served.change(ingress={}, paused=False)
    served.kube.delete("pkgch/leaving", "pkgch/coming")
    served.wait()


def test_a_pause_stops_all_writes(pause: Registry, operator: Kube):
    """What comes meanwhile is applied when it is over: a change, a new channel, a deletion."""
    served, kube = pause, pause.kube
    paused = kube.wait("pkgreg/main", "Paused")
    # It serves as before; that it does is still said.
    assert conditions(paused)["Ready"] == "True"
    before, known = behind.objects(kube), grants(served, "tools")
    ingress = {"ingress": {"annotations": {"example.com/team": "vision"}}}
    served.change(**ingress)
    kube.apply(channel("tools", visibility="public"), channel("coming"))
    kube.delete("pkgch/leaving", wait=False)
    for name in ("tools", "coming"):
        kube.until(f"pkgch/{name}", lambda found: condition(found, "Paused").get("status") == "True"
                   and is_current(found, condition(found, "Paused")))
    kube.until("pkgreg/main", lambda found: found["status"]["observedGeneration"] == found["metadata"]["generation"])
    kube.wait("pkgch/leaving", status="False", reason="Paused")
    assert condition(kube.get("pkgch/coming"), "Ready")["reason"] == "Paused"
    assert grants(served, "tools") == known
    assert behind.rows(served, "coming") == 0 < behind.rows(served, "leaving")
    settled = behind.objects(kube)
    changed = behind.written(before, settled)
    assert changed.keys() <= {"PackageRegistry/main", "Channel/tools", "Channel/coming", "Channel/leaving"}
    # An operator that begins now knows nothing of before, and forgets nothing either.
    behind.restart(operator)
    changed = behind.written(settled, behind.objects(kube))
    assert not changed
    repaired = told(kube, "tools").count("RowsRepaired")

    served.change(**ingress, paused=False)
    kube.wait_gone("pkgch/leaving")
    kube.wait("pkgch/coming")
    seconds_until(pods(served), lambda pod: pod.reads("tools"), 30)
    kube.until("ingress/main", lambda found: found["metadata"]["annotations"].get("example.com/team") == "vision")
    for name in ("pkgreg/main", "pkgch/tools", "pkgch/coming"):
        kube.until(name, lambda found: condition(found, "Ready")["status"] == "True" and not condition(found, "Paused"))
    # Nobody had changed a row by hand.
    assert told(kube, "tools").count("RowsRepaired") == repaired


# Other people's kinds of the same names, as short as they can be.
FOREIGN = [("packageregistry.k8s.elastic.co", "PackageRegistry", "packageregistries", ["epr"], ["elastic"]),
           ("messaging.knative.dev", "Channel", "channels", ["ch"], ["all", "knative", "messaging", "channel"])]


def definition(group: str, kind: str, plural: str, short: list[str], categories: list[str]) -> dict:
    """A kind that holds whatever one writes."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "shortNames": short,
                               "categories": categories},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}}


@pytest.fixture
def foreign(cluster: Kube, served: Registry) -> Iterator[list[str]]:
    """Elastic's PackageRegistry and Knative's Channel, with an object of each beside ours."""
    definitions = [f"crd/{plural}.{group}" for group, _, plural, _, _ in FOREIGN]
    cluster.apply(*(definition(*kind) for kind in FOREIGN))
    try:
        for name in definitions:
            cluster.wait(name, "Established")
        objects = [{"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}, "spec": {"version": "9.2.0"}}
                   for (group, kind, *_), name in zip(FOREIGN, ("main", "tools"))]
        # The server tells of a new kind a little before it takes objects of it.
        wait_until(lambda: applied(served.kube, objects), 30, "the kinds to be served", 0.2)
        yield [f"{plural}.{group}/{name}" for (group, _, plural, *_), name in zip(FOREIGN, ("main", "tools"))]
    finally:
        cluster.delete(*definitions)


def applied(kube: Kube, objects: list[dict]) -> bool:
    """Whether objects could be applied."""
    try:
        return bool(kube.apply(*objects))
    except KubeError:
        return False


def test_kinds_of_the_same_names_stand_side_by_side(served: Registry, operator: Kube, foreign: list[str]):
    """Ours are addressed by their short names and their category, work as before, and the others are not touched."""
    kube = served.kube
    theirs = {name: kube.get(name) for name in foreign}
    behind.restart(operator)
    served.add_channel("beside", visibility="public")
    served.wait()
    seconds_until(pods(served), lambda pod: pod.reads("beside"))
    for name in ("pkgreg/main", "pkgch/tools"):
        assert kube.get(name)["apiVersion"] == "granary.dev/v1alpha1"
    listed = set(kube.run("get", "granary", "--output=name").split())
    assert listed == {"packageregistry.granary.dev/main", "channel.granary.dev/tools", "channel.granary.dev/beside"}
    assert "knative" not in kube.run("get", "pkgch", "--output=name")
    kube.delete("pkgch/beside")
    assert {name: kube.get(name) for name in foreign} == theirs


@pytest.fixture
def anything_goes(cluster: Kube) -> Iterator[Callable[[], None]]:
    """Our kinds without a schema, as when objects are stored under another one; to be called for theirs to be there again."""
    names = ["crd/channels.granary.dev", "crd/packageregistries.granary.dev"]
    schemas = [cluster.get(name)["spec"]["versions"][0]["schema"] for name in names]
    path = "/spec/versions/0/schema"

    def restore() -> None:
        for name, schema in zip(names, schemas):
            cluster.patch(name, [{"op": "replace", "path": path, "value": schema}])

    lax = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    try:
        for name in names:
            cluster.patch(name, [{"op": "replace", "path": path, "value": lax}])
        yield restore
    finally:
        restore()


def test_a_malformed_object_stops_nobody(served: Registry, operator: Kube, anything_goes: Callable[[], None]):
    """Objects that were stored when the schema was another: they are told of, and all others go on, also after a restart."""
    kube = served.kube
    odd = [{**channel("odd", visibility=7), "metadata": {"name": "odd"}}, package_registry("odd", replicas="many", image=[1])]
    wait_until(lambda: applied_unchecked(kube, odd), 30, "the schema to be laxer", 0.2)
    anything_goes()
    wait_until(lambda: refuses(kube, odd[0]) and refuses(kube, odd[1]), 30, "the schema to be as before", 0.2)
    before = metric(operator, "granary_operator_reconcile_failures_total", reason="Malformed")
    for restarted in (False, True):
        if restarted:
            behind.restart(operator)
            before = 0
        for visibility in ("public", "private"):
            served.add_channel("beside", visibility=visibility)
            seconds_until(pods(served), lambda pod: pod.reads("beside") == (visibility == "public"))
        assert metric(operator, "granary_operator_reconcile_failures_total", reason="Malformed") >= before
        assert metric(operator, "granary_operator_reconcile_failures_total", reason="Malformed") >= 2
        served.change(replicas=2, ingress={"annotations": {"example.com/turn": str(restarted)}})
        kube.until("ingress/main", lambda found: found["metadata"]["annotations"].get("example.com/turn") == str(restarted))
    events = [event for event in kube.events("odd") if event["reason"] == "Malformed"]
    assert {event["involvedObject"]["kind"] for event in events} == {"Channel", "PackageRegistry"}
    kube.delete("pkgch/odd", "pkgreg/odd", "pkgch/beside")
    served.wait()


def applied_unchecked(kube: Kube, objects: list[dict]) -> bool:
    """Whether objects could be stored that kubectl itself would refuse."""
    try:
        kube.run("apply", "--validate=false", "--filename=-", input="\n---\n".join(map(json.dumps, objects)))
    except KubeError:
        return False
    return True


def refuses(kube: Kube, object: dict) -> bool:
    """Whether the server refuses to store an object of another name."""
    try:
        kube.run("create", "--validate=false", "--dry-run=server", "--filename=-",
                 input=json.dumps({**object, "metadata": {"name": "odder"}}))
    except KubeError:
        return True
    return False
