"""A Channel's life: its grants, its rows and its bucket, who may claim it, and what is left when it goes."""

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import behind
from tests.cluster.behind import Pod, Who, grants, keys, metric, pods, rows, s3, seconds_until, sql, told
from tests.cluster.conftest import MakeNamespace
from tests.cluster.granary import PUBLISHERS, Registry, channel, conditions
from tests.cluster.kube import Kube, condition
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist, wheel
from tests.harness.processes import wait_until

REPAIRS = "granary_operator_repairs_total"
SUSPENDED = (b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
             b"<Status>Suspended</Status></VersioningConfiguration>")


@pytest.fixture(scope="module")
def served(facts: Facts, operator: Kube, cluster: Kube) -> Iterator[Registry]:
    """A registry of three pods."""
    kube = cluster.make_namespace("channels", {"pod-security.kubernetes.io/enforce": "restricted"})
    yield Registry(facts, kube).start(replicas=3)
    cluster.delete(f"namespace/{kube.namespace}", wait=False)


@pytest.fixture(scope="module")
def ci(served: Registry) -> Who:
    """An account of the group `publishers`."""
    return served.publisher()


@pytest.fixture(scope="module")
def ada(served: Registry) -> Who:
    """An account of no group."""
    served.granary("user", "create", "ada")
    return "ada", served.granary("token", "create", "--user", "ada").strip().splitlines()[-1]


def publish(served: Registry, name: str, who: Who, dist: Dist) -> None:
    """Uploads to some pod."""
    assert pods(served)[0].publishes(name, who, dist)


def holds_file(served: Registry, name: str, who: Who, dist: Dist) -> None:
    """Insists that every pod serves this file of its project, byte for byte, and no other."""
    for pod in pods(served):
        assert pod.files(name, dist.name, who) == {dist.filename: dist.content}


# Grants

READER = {"subjects": ["user:ada"], "role": "Reader"}
PUBLISHER = {"subjects": ["group:publishers"], "role": "Publisher", "packages": ["acme-*"]}
TOOLS, CORE, OTHER = wheel("acme-tools"), wheel("acme-core"), wheel("other")


def test_grants_hold_on_all_pods_within_a_second(served: Registry, ci: Who, ada: Who):
    """Each kind of grant, given and taken, from the moment at which kubectl has returned."""
    served.add_channel("grants", permissions=[])
    three = pods(served)
    assert len(three) == 3

    def reads(who: Who | None, project: str = "") -> Callable[[Pod], bool]:
        return lambda pod: pod.reads("grants", who, project)

    def publishes(dist: Dist) -> Callable[[Pod], bool]:
        return lambda pod: pod.publishes("grants", ci, dist)

    # What is applied, who may do what then, and who may not.
    steps = [
        ({"permissions": [READER]}, [reads(ada)], [reads(None), reads(ci)]),
        ({"permissions": []}, [], [reads(ada), reads(None)]),
        ({"visibility": "public"}, [reads(None), reads(ada)], []),
        ({"visibility": "private"}, [], [reads(None), reads(ada)]),
        ({"visibility": "internal"}, [reads(ada), reads(ci)], [reads(None)]),
        ({"visibility": "private"}, [], [reads(ada)]),
        ({"permissions": [PUBLISHER]}, [publishes(TOOLS), publishes(CORE)], [publishes(OTHER), reads(ada)]),
        ({"permissions": [{**PUBLISHER, "except": ["acme-core"]}]}, [publishes(TOOLS)], [publishes(CORE)]),
        ({"permissions": [{**PUBLISHER, "role": "Reader"}]}, [reads(ci, "acme-tools")], [publishes(TOOLS)]),
        ({"permissions": [{**PUBLISHER, "role": "Reader"}, READER]}, [reads(ada, "acme-core")], [publishes(TOOLS)]),
        ({"permissions": [READER]}, [reads(ada)], [reads(ci)]),
        ({"permissions": []}, [], [reads(ada), reads(ci)]),
    ]
    taken = []
    for spec, may, may_not in steps:
        served.kube.apply(channel("grants", served.name, **spec))
        taken.append(seconds_until(three, lambda pod: all(can(pod) for can in may) and not any(can(pod) for can in may_not)))
    print("seconds from kubectl's return until a change held on all pods:", *(f"{seconds:.2f}" for seconds in taken))
    assert max(taken) <= 1.0, taken


def test_rows_changed_by_hand_are_repaired_within_a_minute(served: Registry, operator: Kube, ada: Who):
    """Grants that somebody wrote into Postgres, and grants that somebody took from there, with an event and a metric."""
    names = ("widened", "emptied")
    for name in names:
        served.add_channel(name, permissions=[READER])
    wanted = {name: grants(served, name) for name in names}
    assert all(wanted.values())
    before = metric(operator, REPAIRS, kind="Channel", reason="RowsRepaired")
    of = "where channel_id = (select id from channel where name = '{}')".format
    sql(served, f"""update channel_grant set body = body || '{{"subjects": [{{"kind": "anonymous"}}]}}' {of("widened")};
                    delete from channel_grant {of("emptied")}""")
    assert all(grants(served, name) != wanted[name] for name in names)
    wait_until(lambda: {name: grants(served, name) for name in names} == wanted, 60, "the grants to be as before", 0.5)
    for name in names:
        wait_until(lambda: "RowsRepaired" in told(served.kube, name), 10, "the event")
        assert conditions(served.kube.get(f"pkgch/{name}"))["Ready"] == "True"
        seconds_until(pods(served), lambda pod: pod.reads(name, ada) and not pod.reads(name))
    assert metric(operator, REPAIRS, kind="Channel", reason="RowsRepaired") == before + 2


def test_settings_of_buckets_changed_by_hand_are_repaired(served: Registry, operator: Kube, facts: Facts):
    """Every 15 minutes, and at once by an operator that has just begun: it believes nothing that it has not seen."""
    found = served.add_channel("settings", bucket={"versioning": True})
    bucket = f"{found['status']['bucket']}?versioning"
    assert "<Status>Enabled</Status>" in s3(facts, "GET", bucket).text
    assert s3(facts, "PUT", bucket, SUSPENDED).status_code == 200
    assert "Suspended" in s3(facts, "GET", bucket).text
    behind.restart(operator)
    wait_until(lambda: "<Status>Enabled</Status>" in s3(facts, "GET", bucket).text, 60, "the versioning to be on again", 0.5)
    wait_until(lambda: "BucketRepaired" in told(served.kube, "settings"), 10, "the event")
    assert metric(operator, REPAIRS, kind="Channel", reason="BucketRepaired") >= 1


# Deletion


def test_a_deleted_channel_is_kept_and_adopted_by_the_next(served: Registry, facts: Facts, ci: Who):
    """Bucket and rows stay, nobody is served; an object of the same name finds everything again."""
    dist = wheel("acme-kept", payload=b"kept")
    bucket = served.add_channel("kept")["status"]["bucket"]
    publish(served, "kept", ci, dist)
    objects, before = keys(facts, bucket), rows(served, "kept")
    assert objects and before > 3
    served.kube.delete("pkgch/kept")
    seconds_until(pods(served), lambda pod: not pod.reads("kept", ci))
    assert keys(facts, bucket) == objects
    assert sql(served, "select state from channel where name = 'kept'") == ["retired"]
    found = served.add_channel("kept")
    assert found["status"]["bucket"] == bucket
    holds_file(served, "kept", ci, dist)


def test_a_channel_to_be_deleted_goes_with_bucket_and_rows(served: Registry, facts: Facts, ci: Who):
    """And takes nothing of another channel with it, be its name the beginning of the other's."""
    going, staying = wheel("acme-gone", payload=b"going"), wheel("acme-gone", payload=b"staying")
    bucket = served.add_channel("go", deletionPolicy="Delete")["status"]["bucket"]
    other = served.add_channel("go-on", deletionPolicy="Delete")["status"]["bucket"]
    publish(served, "go", ci, going)
    publish(served, "go-on", ci, staying)
    objects, before = keys(facts, other), rows(served, "go-on")
    assert keys(facts, bucket)
    served.kube.delete("pkgch/go")
    assert keys(facts, bucket) is None
    assert rows(served, "go") == 0
    assert (keys(facts, other), rows(served, "go-on")) == (objects, before)
    seconds_until(pods(served), lambda pod: not pod.reads("go", ci))
    holds_file(served, "go-on", ci, staying)
    # The name is free again, and what comes is empty.
    assert served.add_channel("go")["status"]["bucket"] == bucket
    seconds_until(pods(served), lambda pod: pod.reads("go", ci) and not pod.reads("go", ci, "acme-gone"))


def test_the_first_object_that_claims_a_channel_has_it(served: Registry, facts: Facts, ci: Who):
    """A second one says so and changes nothing, not even when it is deleted; it gets the channel when the first is gone."""
    dist = wheel("acme-claimed")
    first = channel("first", served.name, permissions=PUBLISHERS, deletionPolicy="Delete")
    second = channel("second", served.name, visibility="public", deletionPolicy="Delete")
    for claim in (first, second):
        claim["spec"]["name"] = "claimed"
    served.kube.apply(first)
    bucket = served.kube.wait("pkgch/first")["status"]["bucket"]
    publish(served, "claimed", ci, dist)
    objects, wanted = keys(facts, bucket), grants(served, "claimed")
    served.kube.apply(second)
    refused = served.kube.wait("pkgch/second", status="False", reason="Conflict")
    assert "belongs to the resource" in condition(refused, "Ready")["message"]
    assert f"{served.kube.namespace}/first" in condition(refused, "Ready")["message"]
    assert conditions(refused)["Stalled"] == conditions(refused)["Conflict"] == "True"
    served.kube.delete("pkgch/second")
    assert (keys(facts, bucket), grants(served, "claimed")) == (objects, wanted)
    holds_file(served, "claimed", ci, dist)
    assert conditions(served.kube.get("pkgch/first"))["Ready"] == "True"
    served.kube.apply(second)
    served.kube.wait("pkgch/second", status="False", reason="Conflict")
    served.kube.delete("pkgch/first")
    # It is looked at again within a minute.
    taken = served.kube.wait("pkgch/second", seconds=75)
    assert "Conflict" not in conditions(taken)
    seconds_until(pods(served), lambda pod: pod.reads("claimed") and not pod.reads("claimed", project="acme-claimed"))


def test_channels_whose_urls_would_be_the_same_do_not_stand_side_by_side(served: Registry):
    """`pair/dev` is a project's page of `pair`."""
    served.add_channel("pair")
    below = channel("pair-dev", served.name)
    below["spec"]["name"] = "pair/dev"
    served.kube.apply(below)
    refused = served.kube.wait("pkgch/pair-dev", status="False", reason="Conflict")
    assert "cannot stand beside" in condition(refused, "Ready")["message"]
    served.kube.delete("pkgch/pair-dev")
    assert rows(served, "pair/dev") == 0 < rows(served, "pair")


def test_no_channel_takes_a_bucket_that_is_not_its_own(served: Registry, facts: Facts, ci: Who):
    """Never another channel's; one with a stranger's objects in it only when told to."""
    dist = wheel("acme-owned")
    bucket = served.add_channel("owner")["status"]["bucket"]
    publish(served, "owner", ci, dist)
    objects = keys(facts, bucket)
    served.kube.apply(channel("thief", served.name, bucket={"name": bucket, "adopt": True}, deletionPolicy="Delete"))
    served.kube.wait("pkgch/thief", status="False", reason="Conflict")
    served.kube.delete("pkgch/thief")
    assert keys(facts, bucket) == objects
    holds_file(served, "owner", ci, dist)

    stranger = f"stranger-{served.kube.namespace[-6:]}"
    for resource in (stranger, f"{stranger}/wheels/of-a-stranger.whl"):
        assert s3(facts, "PUT", resource, b"").status_code == 200
    served.kube.apply(channel("finder", served.name, bucket={"name": stranger}))
    refused = served.kube.wait("pkgch/finder", status="False", reason="Conflict")
    assert conditions(refused)["BucketReady"] == "False"
    served.kube.apply(channel("finder", served.name, bucket={"name": stranger, "adopt": True}))
    assert served.kube.wait("pkgch/finder")["status"]["bucket"] == stranger


# Namespaces and registries


def test_a_channel_of_another_namespace_needs_to_be_admitted(served: Registry, make_namespace: MakeNamespace, ci: Who):
    """By the namespace's name or by its labels; else the registry is not even there."""
    friend, stranger = make_namespace({"team": "vision"}), make_namespace()
    foreign = channel("vision", served.name, permissions=PUBLISHERS)
    foreign["spec"]["registryRef"]["namespace"] = served.kube.namespace
    other = {**foreign, "spec": {**foreign["spec"], "name": "strange"}}

    def waits(kube: Kube) -> None:
        found = kube.wait("pkgch/vision", status="False", reason="RegistryNotFound")
        assert "does not admit" in condition(found, "Ready")["message"]

    friend.apply(foreign)
    stranger.apply(other)
    waits(friend)
    waits(stranger)
    assert rows(served, "vision") == rows(served, "strange") == 0
    served.change(allowedNamespaces={"names": [friend.namespace]})
    friend.wait("pkgch/vision")
    publish(served, "vision", ci, TOOLS)
    served.change(allowedNamespaces={})
    waits(friend)
    served.change(allowedNamespaces={"selector": {"matchLabels": {"team": "vision"}}})
    friend.wait("pkgch/vision")
    holds_file(served, "vision", ci, TOOLS)
    waits(stranger)
    assert rows(served, "strange") == 0
    friend.delete("pkgch/vision")
    stranger.delete("pkgch/vision")
    served.change(allowedNamespaces={})


def test_a_registry_that_is_made_again_has_its_channels(registry: Registry, facts: Facts):
    """Made again at once, and made again when everything has noticed that it is gone."""
    registry.start()
    registry.add_channel("tools")
    ci, dist = registry.publisher(), wheel("acme-again")
    publish(registry, "tools", ci, dist)
    for noticed in (False, True):
        registry.kube.delete("pkgreg/main")
        if noticed:
            registry.kube.wait("pkgch/tools", status="False", reason="RegistryNotFound")
            registry.kube.wait_gone("deployment/main")
            registry.kube.wait_gone("secret/main-database")
        registry.kube.apply(*registry.objects())
        registry.wait()
        registry.kube.wait("pkgch/tools")
        holds_file(registry, "tools", ci, dist)
