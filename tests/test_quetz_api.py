"""The API of conda channels beside a Quetz: the same requests to both, and what differs is named here."""

import itertools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from tests.harness.accounts import granary
from tests.harness.conda_packages import Package
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.postgres import Postgres
from tests.harness.quetz import Quetz
from tests.harness.server import Dev

USERS = ("alice", "bob", "carol", "dave")
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
TIME = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?$")


class Ours(Dev):
    """`granary dev` as it is without a folder of channels: with its test users."""

    def __init__(self, folder, postgres: Postgres, schema: str):
        super().__init__(folder, postgres, schema)
        self.keys: dict[str, str] = {}

    def arguments(self) -> list[str]:
        arguments = super().arguments()
        at = arguments.index("--channels")
        return arguments[:at] + arguments[at + 2:]


@pytest.fixture(scope="module")
def ours(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    schema = fresh_schema()
    try:
        with watched(Ours(tmp_path_factory.mktemp("ours"), postgres, schema)) as server:
            for user in USERS:
                _, server.keys[user] = server.token(user)
            yield server
    finally:
        postgres.drop(schema)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quetz]:
    server = Quetz(tmp_path_factory.mktemp("theirs") / "quetz")
    for user, role in {"alice": "owner", "bob": "maintainer", "carol": "member", "dave": None}.items():
        headers = {"X-API-Key": server.keys["alice"]}
        requests.put(f"{server.url}/api/users/{user}/role", json={"role": role}, headers=headers, timeout=60)
    yield server
    server.stop()


@dataclass
class Both:
    """Sends a request to both."""

    ours: Ours
    theirs: Quetz
    counter: Iterator[int] = field(default_factory=itertools.count)

    def one(self, server, prefix: str, user: str | None, method: str, path: str, **options) -> requests.Response:
        headers = dict(options.pop("headers", {}))
        if user:
            headers["X-API-Key"] = server.keys[user]
        return requests.request(method, f"{server.url}{prefix}{path}", headers=headers, timeout=60, allow_redirects=False, **options)

    def send(self, user: str | None, method: str, path: str, **options) -> tuple[requests.Response, requests.Response]:
        if "files" in options:
            files = options.pop("files")
            make = lambda: [("files", (name, content)) for name, content in files]  # noqa: E731
            return (self.one(self.ours, "/conda", user, method, path, files=make(), **options),
                    self.one(self.theirs, "", user, method, path, files=make(), **options))
        return self.one(self.ours, "/conda", user, method, path, **options), self.one(self.theirs, "", user, method, path, **options)

    def same(self, user: str | None, method: str, path: str, **options) -> requests.Response:
        """Status and body are the same, but for ids, times and whatever else is made up; returns ours."""
        ours, theirs = self.send(user, method, path, **options)
        told = f"{method} {path} as {user}\nours:   {ours.status_code} {ours.text[:600]}\ntheirs: {theirs.status_code} {theirs.text[:600]}"
        assert ours.status_code == theirs.status_code, told
        assert normal(ours.json()) == normal(theirs.json()), told
        return ours

    def status(self, user: str | None, method: str, path: str, **options) -> requests.Response:
        """The status is the same; returns ours."""
        ours, theirs = self.send(user, method, path, **options)
        told = f"{method} {path} as {user}\nours:   {ours.status_code} {ours.text[:600]}\ntheirs: {theirs.status_code} {theirs.text[:600]}"
        assert ours.status_code == theirs.status_code, told
        return ours

    def channel(self, user: str = "carol", **fields) -> str:
        """A new channel on both."""
        name = f"made{next(self.counter)}"
        assert self.same(user, "POST", "/api/channels", json={"name": name, **fields}).status_code == 201
        return name


# What is told in one place alone, or in other words, by the name of the field.
MADE_UP = {"id", "owner_id", "avatar_url", "key", "server_timestamp", "created", "time_created", "latest_change", "ctx"}
# Of a problem document, and of nothing else.
OF_PROBLEM = {"type", "title", "status"}


def normal(value):
    if isinstance(value, dict):
        if "detail" in value:
            return {"detail": normal(value["detail"])}
        return {name: "made up" if name in MADE_UP and inner is not None else (inner or "").lower() if name == "name" and "avatar_url" in value
                else normal(inner) for name, inner in value.items()}
    if isinstance(value, list):
        values = [normal(inner) for inner in value]
        return sorted(values, key=str) if all(isinstance(inner, dict) for inner in values) else values
    return value


@pytest.fixture(scope="module")
def both(ours: Ours, theirs: Quetz) -> Both:
    return Both(ours, theirs)


def test_users_and_roles(both: Both):
    for user in USERS:
        both.same(user, "GET", "/api/users/alice" if user in ("alice", "bob") else f"/api/users/{user}")
        both.same(user, "GET", f"/api/users/{user}/role")
    both.same("carol", "GET", "/api/users")
    page = both.one(both.ours, "/conda", "carol", "GET", "/api/paginated/users?limit=2").json()
    assert page["pagination"]["all_records_count"] == 1, "her own entry, which Quetz looks for among the first two of all"
    both.same("alice", "GET", "/api/users?q=AR")
    names = [user["username"] for user in both.one(both.ours, "/conda", "alice", "GET", "/api/users").json()]
    assert names == ["admin", *USERS], "the registry's own admin is one of them"
    page = both.one(both.ours, "/conda", "alice", "GET", "/api/paginated/users?limit=2&skip=1").json()
    assert [user["username"] for user in page["result"]] == names[1:3] and page["pagination"]["all_records_count"] == 5
    both.same("alice", "GET", "/api/users/nobody")
    both.same("alice", "PUT", "/api/users/dave/role", json={"role": "king"})
    both.same("alice", "PUT", "/api/users/dave/role", json={"role": "member"})
    both.same("alice", "GET", "/api/users/dave/role")
    both.same("alice", "PUT", "/api/users/dave/role", json={"role": None})
    both.same("alice", "GET", "/api/users/dave/role")
    for user, role in (("bob", "owner"), ("carol", "member"), ("dave", "maintainer")):
        both.status(user, "PUT", "/api/users/dave/role", json={"role": role})
    for path in ("/api/users", "/api/users/alice", "/api/users/alice/role", "/api/me", "/api/api-keys", "/api/jobs"):
        both.status(None, "GET", path)
    me = both.one(both.ours, "/conda", "carol", "GET", "/api/me").json()
    assert me["name"] == me["user"]["username"] == "carol" and UUID.match(me["user"]["id"])


def test_nobody_is_demoted_by_anybody(both: Both):
    """Quetz lets whoever is not logged in take any role away."""
    for user in (None, "carol", "dave"):
        assert both.one(both.ours, "/conda", user, "PUT", "/api/users/alice/role", json={"role": None}).status_code in (401, 403)
    answer = both.one(both.ours, "/conda", "bob", "PUT", "/api/users/alice/role", json={"role": None})
    assert answer.status_code == 403, "a maintainer is below an owner"


BODIES = {
    "not a name": {"name": 3}, "no name": {"description": "x"}, "long": {"name": "x" * 51}, "prose": {"name": "okay", "description": "x" * 301},
    "no truth": {"name": "okay", "private": "maybe"}, "half a mirror": {"name": "okay", "mirror_mode": "proxy"},
    "the other half": {"name": "okay", "mirror_channel_url": "https://upstream.example/get/x"}, "no mode": {"name": "okay", "mirror_mode": "both"},
    "no url": {"name": "okay", "mirror_channel_url": "ftp://upstream.example", "mirror_mode": "proxy"}, "no number": {"name": "okay", "ttl": "soon"},
    "underscore": {"name": "a_b"}, "accent": {"name": "é"},
    "both lists": {"name": "okay", "metadata": {"includelist": ["a"], "excludelist": ["b"]}},
}


@pytest.mark.parametrize("body", BODIES)
def test_a_channel_that_is_none(both: Both, body: str):
    if body == "no name":
        # Quetz fails here for an owner, with its database's words.
        answer = both.one(both.ours, "/conda", "alice", "POST", "/api/channels", json=BODIES[body])
        assert answer.status_code == 422 and answer.json()["detail"][0]["loc"] == ["body", "name"]
        return
    both.same("alice", "POST", "/api/channels", json=BODIES[body])


@pytest.mark.parametrize("data", ["", "null", "[]", "3", '{"name":', "x"])
def test_a_body_that_is_no_object(both: Both, data: str):
    """Quetz reads no JSON unless it is called so; ours does."""
    answer = both.status("alice", "POST", "/api/channels", data=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"][0]["loc"][0] == "body"


def test_json_is_read_whatever_it_is_called(both: Both):
    for kind in (None, "application/x-www-form-urlencoded", "text/plain"):
        headers = {"Content-Type": kind} if kind else {}
        name = f"called{next(both.counter)}"
        answer = both.one(both.ours, "/conda", "alice", "POST", "/api/channels", data=f'{{"name": "{name}"}}', headers=headers)
        assert answer.status_code == 201, answer.text


def test_channels(both: Both):
    name = both.channel(description="for the tests", private=False)
    secret = both.channel(user="carol")
    for user in (None, *USERS):
        both.same(user, "GET", f"/api/channels/{name}")
    both.same("carol", "GET", f"/api/channels/{secret}")
    assert both.one(both.ours, "/conda", "dave", "GET", f"/api/channels/{secret}").status_code == 404, "hidden, where Quetz says 403"
    both.same("carol", "POST", "/api/channels", json={"name": name})
    both.same("dave", "GET", f"/api/channels?q={name}")
    both.same("carol", "GET", f"/api/channels?q={name}&public=false")
    both.same("carol", "GET", f"/api/paginated/channels?q={name}&limit=1")
    both.same("carol", "GET", "/api/paginated/channels?limit=x")
    both.same("carol", "PATCH", f"/api/channels/{name}", json={"private": True, "ttl": 77})
    both.same("carol", "GET", f"/api/channels/{name}")
    both.same("carol", "PATCH", f"/api/channels/{name}", json={"description": "no"})
    both.status("carol", "PATCH", f"/api/channels/{name}", json={"size_limit": 7})
    both.same("alice", "PATCH", f"/api/channels/{name}", json={"size_limit": 7})
    both.same("alice", "PATCH", f"/api/channels/{name}", json={"size_limit": None, "private": False})
    both.status("dave", "POST", "/api/channels", json={"name": "daves"})
    both.status(None, "POST", "/api/channels", json={"name": "anybodys"})
    both.status("dave", "DELETE", f"/api/channels/{name}")
    both.same("carol", "DELETE", f"/api/channels/{name}")
    both.status("carol", "GET", f"/api/channels/{name}")


def test_two_names_that_differ_in_case_are_one(both: Both):
    name = both.channel()
    answer = both.one(both.ours, "/conda", "carol", "POST", "/api/channels", json={"name": name.upper()})
    assert (answer.status_code, answer.json()["detail"]) == (409, f"Channel {name} exists")


def test_members(both: Both):
    name = both.channel()
    members = f"/api/channels/{name}/members"
    both.same("carol", "GET", members)
    both.same("carol", "POST", members, json={"username": "dave", "role": "member"})
    both.same("carol", "GET", members)
    both.same("dave", "GET", f"/api/channels/{name}")
    both.status("dave", "GET", members)
    both.status("dave", "POST", members, json={"username": "bob", "role": "member"})
    both.same("carol", "POST", members, json={"username": "dave", "role": "maintainer"})
    both.same("dave", "GET", members)
    mine = both.one(both.ours, "/conda", "dave", "GET", "/api/users/dave/channels").json()
    assert {"name": name, "role": "maintainer"} in mine
    both.same("carol", "POST", members, json={"username": "nobody", "role": "member"})
    both.same("carol", "POST", members, json={"username": "dave", "role": "king"})
    both.same("carol", "DELETE", f"{members}?username=dave")
    both.same("carol", "DELETE", f"{members}?username=dave")
    both.same("carol", "DELETE", f"{members}?username=nobody")
    both.same("carol", "DELETE", members)
    assert both.one(both.ours, "/conda", "dave", "GET", f"/api/channels/{name}").status_code == 404


def test_what_a_resource_says_is_not_changed(both: Both):
    """`channel0` of `granary dev` is described by a file."""
    for method, path, options in (("PATCH", "", {"json": {"private": True}}), ("DELETE", "", {})):
        answer = both.one(both.ours, "/conda", "alice", method, f"/api/channels/channel0{path}", **options)
        assert answer.status_code == 403 and "Channel resource" in answer.json()["detail"], answer.text
    added = both.one(both.ours, "/conda", "alice", "POST", "/api/channels/channel0/members", json={"username": "carol", "role": "maintainer"})
    assert added.status_code == 201, "grants of the API stand beside those of the resource"
    listed = both.one(both.ours, "/conda", "carol", "GET", "/api/channels/channel0/members").json()
    assert [(member["user"]["username"], member["role"]) for member in listed] == [("carol", "maintainer")]


ACME = [Package("acme-lib", "1.0", subdir="linux-64"), Package("acme-lib", "1.10", subdir="linux-64", kind="tar.bz2"), Package("acme-lib", "1.9"),
        Package("acme-app", "2.0", subdir="osx-64", kind="tar.bz2")]


@pytest.fixture(scope="module")
def filled(both: Both) -> str:
    """A channel with packages, and one that was announced."""
    name = both.channel(private=False)
    files = [(package.filename, package.content()) for package in ACME]
    both.same("carol", "POST", f"/api/channels/{name}/files/", files=files)
    both.same("carol", "POST", f"/api/channels/{name}/packages", json={"name": "announced", "summary": "soon", "description": "one day"})
    return name


def test_packages(both: Both, filled: str):
    base = f"/api/channels/{filled}/packages"
    both.same(None, "GET", f"{base}?q=nounc")
    both.same(None, "GET", f"{base}/announced")
    both.same(None, "GET", f"{base}/absent")
    both.same("carol", "POST", base, json={"name": "announced"})
    both.same("carol", "POST", base, json={"name": "A B"})
    both.status("dave", "POST", base, json={"name": "daves"})
    ours, theirs = (answer.json() for answer in both.send(None, "GET", base))
    assert [package["name"] for package in ours] == ["acme-app", "acme-lib", "announced"] == sorted(package["name"] for package in theirs)
    lib = {package["name"]: package for package in ours}["acme-lib"]
    assert lib["current_version"] == "1.10", "the newest of both kinds of files, where Quetz sorts them apart"
    assert lib["platforms"] == ["linux-64", "noarch"] and lib["summary"] == "made by a test" and TIME.match(lib["latest_change"])
    page = both.one(both.ours, "/conda", None, "GET", f"/api/paginated/channels/{filled}/packages?limit=1&skip=1&order_by=name:desc").json()
    assert page["pagination"] == {"skip": 1, "limit": 1, "all_records_count": 3} and [found["name"] for found in page["result"]] == ["acme-lib"]
    latest = both.one(both.ours, "/conda", None, "GET", f"/api/paginated/channels/{filled}/packages?order_by=latest_change:desc").json()
    assert latest["result"][0]["name"] == "announced"


def test_versions(both: Both, filled: str):
    base = f"/api/channels/{filled}/packages/acme-lib/versions"
    ours, theirs = (answer.json() for answer in both.send(None, "GET", base))
    assert [version["filename"] for version in ours] == ["acme-lib-1.10-h_0.tar.bz2", "acme-lib-1.9-h_0.conda", "acme-lib-1.0-h_0.conda"]
    by_name = {version["filename"]: version for version in theirs}
    for version in ours:
        other = by_name[version["filename"]]
        assert version.keys() == other.keys() and UUID.match(version["id"]) and TIME.match(version["time_created"])
        for name in ("channel_name", "package_name", "platform", "version", "build_string", "build_number", "download_count"):
            assert version[name] == other[name], name
        differing = {name for name in version["info"].keys() | other["info"].keys() if version["info"].get(name) != other["info"].get(name)}
        # What describes the machine that built it stands in no index; when it was listed first, Quetz does not know.
        assert differing <= {"arch", "platform", "indexed_timestamp"}, differing
    one = both.one(both.ours, "/conda", None, "GET", f"{base}/noarch/acme-lib-1.9-h_0.conda").json()
    assert one == next(version for version in ours if version["platform"] == "noarch")
    both.same(None, "GET", f"{base}/noarch/acme-lib-7-h_0.conda")
    for wanted, count in ((">=1.9", 2), ("1.9.*", 1), ("==1.0|==1.9", 2), ("<1", 0)):
        found = both.one(both.ours, "/conda", None, "GET", base, params={"version_match_str": wanted}).json()
        assert len(found) == count, wanted
    assert both.one(both.ours, "/conda", None, "GET", base, params={"version_match_str": ">="}).status_code == 422
    page = both.one(both.ours, "/conda", None, "GET", f"/api/paginated{base.removeprefix('/api')}?limit=1&skip=2").json()
    assert page["pagination"]["all_records_count"] == 3 and page["result"][0]["version"] == "1.0"
    since = both.one(both.ours, "/conda", None, "GET", base, params={"time_created__ge": ours[0]["time_created"][:4]})
    assert since.status_code == 422
    assert both.one(both.ours, "/conda", None, "GET", base, params={"time_created__ge": "2100-01-01T00:00:00"}).json() == []


def test_search(both: Both, filled: str):
    for query in ("acme", "acme NOT lib", f"announced channel:{filled}", f"acme -channel:{filled}", "summary:soon"):
        ours, theirs = (answer.json() for answer in both.send(None, "GET", f"/api/packages/search/?q={query}"))
        # Quetz itself has channels full of packages.
        mine = lambda found: sorted(package["name"] for package in found if package["channel_name"] == filled)  # noqa: E731
        assert mine(ours) == mine(theirs), query
    both.same(None, "GET", f"/api/channels/search/?q={filled}")
    both.same(None, "GET", "/api/packages/search/")
    hidden = both.channel()
    for user, found in (("carol", 1), ("dave", 0), (None, 0)):
        answer = both.one(both.ours, "/conda", user, "GET", f"/api/channels/search/?q={hidden} private:true").json()
        assert len(answer) == found


def test_uploads(both: Both, filled: str):
    files = f"/api/channels/{filled}/files/"
    lib = ACME[0]
    again = both.status("carol", "POST", files, files=[(lib.filename, lib.content())])
    assert again.status_code == 409 and again.json()["detail"].startswith("Duplicate")
    both.same("carol", "POST", files, files=[("nodashes.conda", b"x")])
    both.status("carol", "POST", files, files=[("acme-1.0-0.tar.bz2", b"garbage")])
    both.status("dave", "POST", files, files=[(lib.filename, lib.content())])
    both.status("carol", "POST", files, data={"x": "y"})
    other = Package("other", kind="tar.bz2")
    both.same("carol", "POST", f"/api/channels/{filled}/packages/announced/files/", files=[(other.filename, other.content())])
    announced = Package("announced", kind="tar.bz2")
    both.same("carol", "POST", f"/api/channels/{filled}/packages/announced/files/", files=[(announced.filename, announced.content())])
    both.same("carol", "DELETE", f"/api/channels/{filled}/packages/announced/versions/noarch/{announced.filename}")
    both.same("carol", "POST", files, files=[(lib.filename, lib.content())], data={"force": "true"})


def test_a_form_of_which_one_is_broken_changes_nothing(both: Both):
    name = both.channel()
    good, bad = Package("good"), ("bad-1.0-0.conda", b"garbage")
    answer = both.one(both.ours, "/conda", "carol", "POST", f"/api/channels/{name}/files/", files=[("files", (good.filename, good.content())), ("files", bad)])
    assert answer.status_code == 400, answer.text
    assert both.one(both.ours, "/conda", "carol", "GET", f"/api/channels/{name}/packages").json() == []
    repodata = both.one(both.ours, "/conda", "carol", "GET", f"/get/{name}/noarch/repodata.json").json()
    assert repodata["packages.conda"] == {}


def test_quota(both: Both):
    name = both.channel()
    package = Package("acme", kind="tar.bz2")
    both.same("alice", "PATCH", f"/api/channels/{name}", json={"size_limit": len(package.content()) + 1})
    both.same("carol", "POST", f"/api/channels/{name}/files/", files=[(package.filename, package.content())])
    more = Package("more", kind="tar.bz2")
    both.same("carol", "POST", f"/api/channels/{name}/files/", files=[(more.filename, more.content())])
    answer = both.one(both.ours, "/conda", "carol", "POST", f"/api/channels/{name}/upload/{more.filename}", data=more.content())
    assert answer.status_code == 422 and "above quota" in answer.json()["detail"], "Quetz does not look here"


def test_deleting_a_package(both: Both):
    name = both.channel()
    packages = [Package("gone"), Package("gone", subdir="linux-64"), Package("stays")]
    files = [("files", (package.filename, package.content())) for package in packages]
    send = lambda method, path, **options: both.one(both.ours, "/conda", "carol", method, f"/api/channels/{name}{path}", **options)  # noqa: E731
    assert send("POST", "/files/", files=files).status_code == 201
    assert send("DELETE", "/packages/gone").status_code == 200
    assert send("GET", "/packages/gone").status_code == 404 and send("DELETE", "/packages/gone").status_code == 404
    repodata = both.one(both.ours, "/conda", "carol", "GET", f"/get/{name}/noarch/repodata.json").json()
    assert list(repodata["packages.conda"]) == [packages[2].filename]


def test_a_copy_is_in_the_index(both: Both, filled: str):
    """The Quetz of PyPI has no copies yet; those of its last sources never show in repodata."""
    name = both.channel()
    copy = {"source_channel": filled, "source_package": "acme-lib", "subdir": "noarch", "filename": "acme-lib-1.9-h_0.conda"}
    path = f"/api/channels/{name}/packages/copy"
    ask = lambda **other: both.one(both.ours, "/conda", "carol", "POST", path, params=copy | other)  # noqa: E731
    assert (ask().status_code, ask().status_code) == (201, 409)
    assert ask(filename="acme-lib-7-h_0.conda").status_code == 404
    assert both.one(both.ours, "/conda", "carol", "POST", path).status_code == 422
    repodata = both.one(both.ours, "/conda", "carol", "GET", f"/get/{name}/noarch/repodata.json").json()
    assert list(repodata["packages.conda"]) == ["acme-lib-1.9-h_0.conda"]
    content = both.one(both.ours, "/conda", "carol", "GET", f"/get/{name}/noarch/acme-lib-1.9-h_0.conda").content
    assert content == ACME[2].content()
    hidden = both.channel(user="bob")
    answer = both.one(both.ours, "/conda", "carol", "POST", f"/api/channels/{filled}/packages/copy", params=copy | {"source_channel": hidden})
    assert answer.status_code == 404


def test_keys(both: Both, filled: str):
    made = both.same("carol", "POST", "/api/api-keys", json={"description": "of all", "expire_at": "2100-12-31", "roles": []}).json()
    assert made["expire_at"] == "2100-12-31" and made["roles"] is None
    listed = both.one(both.ours, "/conda", "carol", "GET", "/api/api-keys").json()
    mine = next(key for key in listed if key["description"] == "of all")
    assert mine["key"] in made["key"] and mine["key"] != made["key"], "the public id, and not the secret"
    roles = [{"channel": filled, "package": "acme-lib", "role": "maintainer"}]
    narrow = both.same("carol", "POST", "/api/api-keys", json={"description": "of ci", "roles": roles}).json()
    both.ours.keys["ci"] = narrow["key"]
    both.ours.secrets.add(narrow["key"])
    both.ours.secrets.add(made["key"])
    lib, other = Package("acme-lib", "3.0"), Package("other", "3.0")
    upload = f"/api/channels/{filled}/upload/"
    assert both.one(both.ours, "/conda", "ci", "POST", upload + lib.filename, data=lib.content()).status_code == 201
    assert both.one(both.ours, "/conda", "ci", "POST", upload + other.filename, data=other.content()).status_code == 403
    assert both.one(both.ours, "/conda", "ci", "GET", "/api/users").status_code == 200
    both.same("dave", "POST", "/api/api-keys", json={"description": "more", "roles": [{"channel": filled, "role": "owner"}]})
    both.same("carol", "POST", "/api/api-keys", json={"roles": []})
    both.one(both.ours, "/conda", "dave", "DELETE", f"/api/api-keys/{mine['key']}")
    both.ours.keys["all"] = made["key"]
    assert both.one(both.ours, "/conda", "all", "GET", "/api/me").json()["name"] == "carol"
    for key, status in ((made["key"], 200), (mine["key"], 404)):
        assert both.one(both.ours, "/conda", "carol", "DELETE", f"/api/api-keys/{key}").status_code == status
    assert both.one(both.ours, "/conda", "all", "GET", "/api/me").status_code == 401
    both.same("carol", "DELETE", "/api/api-keys/nothing")
    assert both.one(both.ours, "/conda", "carol", "POST", "/api/api-keys", json={"description": "null", "roles": None}).status_code == 201, "500 in Quetz"


def test_actions_and_jobs(both: Both):
    name = both.channel()
    actions = f"/api/channels/{name}/actions"
    ours, theirs = (answer.json() for answer in both.send("carol", "PUT", actions, json={"action": "reindex"}))
    assert ours.keys() == theirs.keys() and ours["manifest"] == theirs["manifest"] == "reindex" and ours["status"] == "success"
    both.same("carol", "PUT", actions, json={"action": "synchronize"})
    both.same("carol", "PUT", actions, json={"action": "zz"})
    both.same("carol", "PUT", actions, json={})
    job = both.one(both.ours, "/conda", "carol", "GET", f"/api/jobs/{ours['id']}").json()
    assert job == ours
    assert both.one(both.ours, "/conda", "dave", "GET", f"/api/jobs/{ours['id']}").status_code == 404
    listed = both.one(both.ours, "/conda", "carol", "GET", "/api/jobs?status=success&status=failed").json()
    assert ours in listed["result"] and listed["pagination"]["limit"] == 20
    assert both.one(both.ours, "/conda", "carol", "GET", "/api/jobs").json()["result"] == []
    both.same("carol", "GET", "/api/jobs?status=zz")
    both.same("alice", "GET", "/api/jobs/x")
    both.same("alice", "GET", "/api/jobs/999999")
    both.same("alice", "POST", "/api/jobs", json={"manifest": "nothing", "items_spec": "*"})
    assert both.one(both.ours, "/conda", "alice", "GET", f"/api/jobs/{ours['id']}/tasks").json()["result"] == []


def test_downloads_are_counted(both: Both):
    name = both.channel(private=False)
    package = Package("counted", subdir="linux-64", kind="tar.bz2")
    both.same("carol", "POST", f"/api/channels/{name}/files/", files=[(package.filename, package.content())])
    for _ in range(3):
        both.one(both.ours, "/conda", None, "GET", f"/get/{name}/linux-64/{package.filename}")
    version = f"/api/channels/{name}/packages/counted/versions/linux-64/{package.filename}"
    metrics = f"/metrics/channels/{name}"
    waited = threading.Event()
    for _ in range(60):
        if both.one(both.ours, "/conda", None, "GET", version).json()["download_count"] == 3:
            break
        waited.wait(0.25)
    series = both.one(both.ours, "/conda", None, "GET", f"{metrics}/packages/counted/versions/linux-64/{package.filename}?period=M").json()
    assert (series["total"], series["period"], [entry["count"] for entry in series["series"]]) == (3, "M", [3])
    whole = both.one(both.ours, "/conda", None, "GET", metrics).json()
    assert list(whole["packages"]) == [f"linux-64/{package.filename}"]
    both.same(None, "GET", f"{metrics}?metric_name=nothing")


def test_everything_is_described(both: Both):
    document = both.one(both.ours, "/conda", None, "GET", "/openapi.json").json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    printed = granary(both.ours.config, "routes")
    assert printed.returncode == 0, printed.stderr
    routes = {tuple(line.replace("{channel:1}", "{channel}").split("\t")[:2]) for line in printed.stdout.splitlines()}
    assert {(method, "/conda" + path) for method, path in described} == {(method, path) for method, path in routes if path.startswith("/conda/")}
    # Their routes are ours, but for logins (which are the registry's own), pages, mirrors of mirrors and figures for Prometheus.
    known = requests.get(f"{both.theirs.url}/openapi.json", timeout=60).json()
    names = {"channel_name": "channel", "package_name": "package", "username": "user", "platform": "subdir", "filename": "file", "job_id": "job"}
    for path, methods in known["paths"].items():
        if path.startswith(("/health", "/get", "/auth", "/metricsp")) or path.endswith(("/mirrors", "/mirrors/{mirror_id}")):
            continue
        for name, own in names.items():
            path = path.replace("{" + name + "}", "{" + own + "}")
        for method in methods:
            assert (method.upper(), path) in described, (method, path)
    page = both.one(both.ours, "/conda", None, "GET", "/docs")
    assert page.status_code == 200 and "POST /api/channels" in page.text and "<script" not in page.text


def test_a_browser_may_be_a_test_user(both: Both):
    session = requests.Session()
    answer = session.get(f"{both.ours.url}/conda/api/dummylogin/carol", allow_redirects=False, timeout=30)
    assert answer.status_code == 307
    assert session.get(f"{both.ours.url}/conda/api/me", timeout=30).json()["name"] == "carol"
    both.same(None, "GET", "/api/dummylogin/mallory")
    page = session.get(f"{both.ours.url}/conda/docs", timeout=30).text
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    name = f"formed{next(both.counter)}"
    made = session.post(f"{both.ours.url}/conda/api/channels", data={"csrf": token, "body": f'{{"name": "{name}"}}'}, timeout=30)
    assert made.status_code == 201, made.text


def test_nowhere_else_is_anybody_logged_in(server: Dev):
    assert server.get("/conda/api/dummylogin/alice").status_code == 404
