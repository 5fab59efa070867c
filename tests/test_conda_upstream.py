"""Channels whose packages are elsewhere: proxies, mirrors, virtual channels, and what another registry may do to them."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import lifetime, upstream
from tests.harness.conda_oracle import Oracle
from tests.harness.conda_packages import Package
from tests.harness.places import TESTS, environment
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.server import Dev
from tests.test_conda import get, publish, repodata, shards, solved, unpacked, upload

Serve = Callable[..., Dev]


@pytest.fixture(scope="module")
def clients() -> Path:
    return environment(TESTS / "peers" / "conda-clients.txt") / "bin"


@pytest.fixture(scope="module")
def other(postgres: Postgres) -> Iterator[Dev]:
    """Another registry of the same kind."""
    with lifetime.serving(postgres, {"main": {"format": "conda", "visibility": "public"}, "slow": {"format": "conda", "visibility": "public"}}) as running:
        yield running


@pytest.fixture
def channel() -> Iterator[upstream.Channel]:
    """A channel of files."""
    with upstream.Channel() as running:
        yield running


def proxy(url: str, **settings: object) -> dict:
    more = {name: settings.pop(name) for name in ("permissions", "limits") if name in settings}
    visibility = settings.pop("visibility", "public")
    return {"format": "conda", "visibility": visibility, "source": {"proxy": {"url": url, "allowPrivateAddresses": True, **settings}}, **more}


def mirror(url: str, **settings: object) -> dict:
    return {"format": "conda", "visibility": "public", "source": {"mirror": {"url": url, "allowPrivateAddresses": True, **settings}}}


def virtual(*channels: str, visibility: str = "public", **settings: object) -> dict:
    return {"format": "conda", "visibility": visibility, "source": {"virtual": {"channels": list(channels), **settings}}}


HOSTED = {"format": "conda", "visibility": "public"}


class TestProxy:
    def test_rattler_installs_through_it_and_sees_what_is_new_at_once(self, serve: Serve, other: Dev, clients: Path, tmp_path: Path):
        publish(other, Package("acme-base"), Package("acme-app", subdir="linux-64", depends=["acme-base"]), Package("acme-old", kind="tar.bz2"))
        server = serve({"copy": proxy(f"{other.url}/conda/get/main")})
        for number, asked in enumerate((f"{server.url}/conda/get/copy", f"{server.url}/conda/get/copy/")):
            (tmp_path / str(number)).mkdir()
            found = solved(server, clients, tmp_path / str(number), asked, "acme-app", "acme-old")
            assert found == ["acme-app-1.0-h_0.conda", "acme-base-1.0-h_0.conda", "acme-old-1.0-h_0.tar.bz2"]
        for path in ("noarch/repodata.json", "noarch/repodata.json.zst", "linux-64/repodata_shards.msgpack.zst"):
            assert get(server, path, channel="copy").content == get(other, path, headers={"Accept-Encoding": "identity"}).content, path
        publish(other, Package("acme-base", "2.0"))
        assert "acme-base-2.0-h_0.conda" in repodata(server, "noarch", channel="copy")["packages.conda"]
        assert shards(server, "noarch", clients, "copy") == shards(other, "noarch", clients)
        head = server.request("HEAD", "/conda/get/copy/noarch/repodata.json.zst")
        assert head.status_code == 200 and int(head.headers["Content-Length"]) == len(get(server, "noarch/repodata.json.zst", channel="copy").content)
        assert get(server, "noarch/repodata.json", channel="copy", headers={"If-None-Match": get(server, "noarch/repodata.json", channel="copy").headers["ETag"]}).status_code == 304

    def test_what_is_absent_there_is_absent_here(self, serve: Serve, channel: upstream.Channel):
        channel.put(Package("acme"))
        server = serve({"copy": proxy(channel.url)})
        for path in ("osx-64/repodata.json", "noarch/repodata_shards.msgpack.zst", "noarch/absent-1-0.conda", "noarch/current_repodata.json",
                     f"noarch/{'0' * 64}.msgpack.zst", "channeldata.json", "notices.json", "noarch/anything.txt"):
            answer = get(server, path, channel="copy")
            assert answer.status_code == 404 and answer.json()["detail"], path
        asked = channel.asked["osx-64/repodata.json"]
        assert get(server, "osx-64/repodata.json", channel="copy").status_code == 404 and channel.asked["osx-64/repodata.json"] == asked
        assert upload(server, Package("acme"), channel="copy").status_code == 405

    def test_many_clients_cause_one_fetch(self, serve: Serve, channel: upstream.Channel):
        package = Package("acme", files={"share/acme": bytes(200_000)})
        channel.put(package)
        server = serve({"copy": proxy(channel.url)})
        for path in ("noarch/repodata.json.zst", f"noarch/{package.filename}"):
            channel.delay = 0.5
            with ThreadPoolExecutor(24) as pool:
                answers = list(pool.map(lambda _: server.get(f"/conda/get/copy/{path}"), range(24)))
            channel.delay = 0.0
            assert {(answer.status_code, answer.content) for answer in answers} == {(200, channel.files[path])}
            assert channel.asked[path] <= 2 and channel.sent[path] == 1, path
        asked = channel.asked.copy()
        assert get(server, f"noarch/{package.filename}", channel="copy").content == package.content()
        assert channel.asked == asked, "packages are kept for good"
        assert get(server, "noarch/repodata.json.zst", channel="copy").status_code == 200
        assert channel.asked["noarch/repodata.json.zst"] == asked["noarch/repodata.json.zst"] + 1
        assert channel.sent["noarch/repodata.json.zst"] == 1, "an index is asked for again, and sent again only when it changed"

    def test_an_index_may_be_good_for_a_while(self, serve: Serve, channel: upstream.Channel):
        channel.put(Package("acme"))
        server = serve({"copy": proxy(channel.url, revalidateAfter="1h")})
        for _ in range(3):
            assert repodata(server, "noarch", channel="copy")["packages.conda"]
        assert channel.asked["noarch/repodata.json"] == 1

    def test_nobody_is_led_away(self, serve: Serve, channel: upstream.Channel):
        package = Package("acme")
        channel.put(package, base="pool", info={"base_url": f"{channel.url}/pool"}, fields={"url": f"{channel.url}/pool/acme-1.0-h_0.conda"})
        server = serve({"copy": proxy(channel.url)})
        for path, read in (("noarch/repodata.json", bytes), ("noarch/repodata.json.zst", unpacked)):
            text = read(get(server, path, channel="copy").content)
            index = json.loads(text)
            assert b"127.0.0.1" not in text and index["info"] == {"subdir": "noarch"} and index["repodata_version"] == 1
            assert index["packages.conda"][package.filename] == upstream.record(package)
        assert get(server, f"noarch/{package.filename}", channel="copy").content == package.content()
        assert channel.asked[f"pool/{package.filename}"] == 1

    def test_lists_include_and_exclude(self, serve: Serve, other: Dev, clients: Path):
        publish(other, Package("pick-one"), Package("pick-two"), Package("leave"))
        server = serve({"copy": proxy(f"{other.url}/conda/get/main", include=["pick-*"], exclude=["*-two"])})
        assert set(repodata(server, "noarch", channel="copy")["packages.conda"]) == {"pick-one-1.0-h_0.conda"}
        assert set(shards(server, "noarch", clients, "copy")) == {"pick-one"}
        of_other = shards(other, "noarch", clients)
        for name, status in {"pick-one": 200, "pick-two": 404, "leave": 404}.items():
            assert get(server, f"noarch/{name}-1.0-h_0.conda", channel="copy").status_code == status
            assert get(server, f"noarch/{of_other[name]}.msgpack.zst", channel="copy").status_code == status

    def test_readers_see_what_they_may_read(self, serve: Serve, channel: upstream.Channel):
        channel.put(Package("acme-tool"), Package("secret"), removed=("secret-0.1-h_0.conda",))
        server = serve({"copy": proxy(channel.url, visibility="private", permissions=[
            {"subjects": ["user:ada"], "role": "Reader", "packages": ["acme-*"]}])})
        server.user("ada")
        ada = server.token("ada")
        assert get(server, "noarch/repodata.json", channel="copy").status_code == 401
        seen = repodata(server, "noarch", channel="copy", auth=ada)
        assert set(seen["packages.conda"]) == {"acme-tool-1.0-h_0.conda"} and seen["removed"] == []
        assert get(server, "noarch/secret-1.0-h_0.conda", channel="copy", auth=ada).status_code == 404
        assert get(server, "noarch/acme-tool-1.0-h_0.conda", channel="copy", auth=ada).status_code == 200
        assert len(repodata(server, "noarch", channel="copy", auth=server.admin)["packages.conda"]) == 2


FAULTS = {"html": upstream.html, "garbage": upstream.garbage, "redirects": upstream.redirects, "fails": upstream.fails,
          "breaks off": upstream.breaks_off, "never ends": upstream.never_ends}


@pytest.fixture(scope="module")
def files() -> Iterator[upstream.Channel]:
    with upstream.Channel() as running:
        yield running


@pytest.fixture(scope="module")
def copy(postgres: Postgres, files: upstream.Channel) -> Iterator[Dev]:
    specs = {f"copy-{number}": proxy(files.url, limits={"maxUploadSize": "4Mi"}) for number in range(len(FAULTS))}
    with lifetime.serving(postgres, specs) as running:
        yield running


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_bad_answer_changes_nothing(self, copy: Dev, files: upstream.Channel, fault: str):
        name = f"copy-{list(FAULTS).index(fault)}"
        files.put(Package("acme"))
        files.faults = {"noarch/repodata.json.zst": FAULTS[fault], "noarch/acme-1.0-h_0.conda": FAULTS[fault]}
        for path in files.faults:
            answer = get(copy, path, channel=name)
            assert answer.status_code == 502 and answer.headers["Content-Type"] == "application/problem+json", answer.text
            assert "no good answer" in answer.json()["detail"]
        files.faults = {}
        time.sleep(3.1)
        whole = get(copy, "noarch/repodata.json.zst", channel=name)
        assert whole.status_code == 200 and "Warning" not in whole.headers
        assert get(copy, "noarch/acme-1.0-h_0.conda", channel=name).status_code == 200
        files.faults = {"*": FAULTS[fault]}
        again = get(copy, "noarch/repodata.json.zst", channel=name)
        assert again.status_code == 200 and again.content == whole.content, "what is kept stands in"
        assert again.headers["Warning"].startswith("110") and again.headers["X-Granary-Stale"]
        assert get(copy, "noarch/acme-1.0-h_0.conda", channel=name).content == Package("acme").content()
        files.faults = {}

    def test_a_package_that_is_another_one_is_refused(self, serve: Serve, channel: upstream.Channel):
        channel.put(Package("acme"), Package("other"))
        channel.files["noarch/acme-1.0-h_0.conda"] = Package("acme", files={"x": b"evil"}).content()
        server = serve({"copy": proxy(channel.url)})
        answer = get(server, "noarch/acme-1.0-h_0.conda", channel="copy")
        assert answer.status_code == 502 and "SHA-256" in answer.json()["detail"]
        assert get(server, "noarch/other-1.0-h_0.conda", channel="copy").status_code == 200

    def test_private_addresses_are_refused_unless_that_is_meant(self, serve: Serve, channel: upstream.Channel):
        channel.put(Package("acme"))
        port = channel.server.server_port
        urls = [f"http://127.0.0.1:{port}/channel", f"http://localhost:{port}/channel", f"http://[::ffff:127.0.0.1]:{port}/channel",
                "http://169.254.169.254/latest", f"http://2130706433:{port}/channel"]
        server = serve({f"copy-{number}": proxy(url, allowPrivateAddresses=False) for number, url in enumerate(urls)})
        for number in range(len(urls)):
            answer = get(server, "noarch/repodata.json", channel=f"copy-{number}")
            assert answer.status_code == 502 and "internet does not reach" in answer.json()["detail"], answer.text
        assert not channel.asked


class TestMirror:
    @staticmethod
    def synchronized(server: Dev, channel: str = "copy", *, again: bool = False) -> dict:
        path = f"/conda/api/channels/{channel}/synchronization"
        before = (server.get(path, server.admin).json() or {}).get("started_at") if again else None
        if again:
            assert server.request("POST", path, server.admin).status_code == 200

        def ended() -> bool:
            progress = server.get(path, server.admin).json()
            return bool(progress and progress["ended_at"] and progress["started_at"] != before)

        wait_until(ended, 60, "the synchronisation")
        return server.get(path, server.admin).json()

    def test_it_holds_what_the_other_holds(self, serve: Serve, other: Dev, clients: Path, tmp_path: Path):
        publish(other, *(Package(f"many-{number:02}") for number in range(20)), Package("many-app", subdir="linux-64", depends=["many-07"]),
                Package("many-old", kind="tar.bz2"), Package("few"), channel="slow")
        server = serve({"copy": mirror(f"{other.url}/conda/get/slow", include=["many-*"], exclude=["many-1? 1.*"])})
        progress = self.synchronized(server)
        assert (progress["state"], progress["wanted"], progress["fetched"], progress["failed"]) == ("done", 12, 12, 0), progress
        assert set(repodata(server, "noarch", channel="copy")["packages.conda"]) == {f"many-{number:02}-1.0-h_0.conda" for number in range(10)}
        ours, theirs = (repodata(which, "linux-64", channel=name)["packages.conda"]["many-app-1.0-h_0.conda"] for which, name in ((server, "copy"), (other, "slow")))
        assert {**ours, "indexed_timestamp": 0} == {**theirs, "indexed_timestamp": 0}
        other.stop()
        try:
            found = solved(server, clients, tmp_path, f"{server.url}/conda/get/copy", "many-app", "many-old")
            assert found == ["many-07-1.0-h_0.conda", "many-app-1.0-h_0.conda", "many-old-1.0-h_0.tar.bz2"]
        finally:
            other.start()
        answer = upload(server, Package("many-99"), channel="copy")
        assert (answer.status_code, answer.json()["detail"]) == (405, "This method is not implemented for mirror channels")

    def test_it_fetches_what_is_missing_and_follows_removals(self, serve: Serve, channel: upstream.Channel):
        packages = [Package(f"acme-{number}") for number in range(5)]
        channel.put(*packages)
        channel.faults = {"noarch/acme-3-1.0-h_0.conda": upstream.fails}
        channel.files["noarch/acme-4-1.0-h_0.conda"] = Package("acme-4", files={"x": b"evil"}).content()
        server = serve({"copy": mirror(channel.url, subdirs=["noarch"], removal="follow"), "keep": mirror(channel.url, subdirs=["noarch"])})
        progress = self.synchronized(server)
        assert (progress["state"], progress["fetched"], progress["failed"]) == ("failed", 3, 2), progress
        self.synchronized(server, "keep")
        channel.faults = {}
        packages = [Package("acme-1", depends=["acme-2"]), *packages[2:], Package("acme-5")]
        channel.put(*packages)
        sent = channel.sent.copy()
        progress = self.synchronized(server, again=True)
        assert (progress["state"], progress["fetched"], progress["removed"]) == ("done", 4, 1), progress
        assert channel.sent["noarch/acme-2-1.0-h_0.conda"] == sent["noarch/acme-2-1.0-h_0.conda"], "what is there is not fetched again"
        seen = repodata(server, "noarch", channel="copy")["packages.conda"]
        assert {name: record["sha256"] for name, record in seen.items()} == {
            package.filename: hashlib.sha256(package.content()).hexdigest() for package in packages}
        self.synchronized(server, "keep", again=True)
        assert "acme-0-1.0-h_0.conda" in repodata(server, "noarch", channel="keep")["packages.conda"]
        channel.faults = {"*": upstream.html}
        progress = self.synchronized(server, again=True)
        assert progress["state"] == "failed" and progress["error"], progress
        channel.faults, channel.files = {}, {}
        assert self.synchronized(server, again=True)["state"] == "failed", "a channel that is gone removes nothing"
        assert repodata(server, "noarch", channel="copy")["packages.conda"] == seen


@pytest.fixture(scope="module")
def server(postgres: Postgres, other: Dev) -> Iterator[Dev]:
    public = proxy(f"{other.url}/conda/get/main")
    private = {"format": "conda", "visibility": "private", "permissions": [{"subjects": ["user:ada"], "role": "Reader"}]}
    specs = {"first": HOSTED, "hidden": private, "second": HOSTED, "public": public, "all": virtual("first", "hidden", "second", "public"),
             "loose": virtual("first", "hidden", "second", priority="flexible"), "nested": virtual("all"), "broken": virtual("nowhere")}
    publish(other, Package("ours", "99.0"), Package("theirs"), Package("hush", "99.0"), Package("platform", "99.0"))
    with lifetime.serving(postgres, specs) as running:
        running.user("ada")
        publish(running, Package("ours", "1.0"), Package("platform", "1.0", subdir="win-64"), channel="first")
        publish(running, Package("hush", "1.0"), channel="hidden")
        publish(running, Package("ours", "50.0"), Package("hush", "50.0"), Package("mine"), Package("mine", kind="tar.bz2"), channel="second")
        yield running


class TestVirtual:
    def test_a_name_belongs_to_the_first_channel_that_has_it(self, server: Dev, clients: Path):
        names = {"ours-1.0", "theirs-1.0", "mine-1.0"}
        for auth, more in ((None, set()), (server.token("ada"), {"hush-1.0"})):
            index = repodata(server, "noarch", channel="all", auth=auth)
            seen = {name.removesuffix("-h_0.conda") for name in index["packages.conda"]}
            assert seen & {"ours-1.0", "ours-50.0", "ours-99.0", "hush-1.0", "hush-50.0", "hush-99.0", "platform-99.0", "mine-1.0", "theirs-1.0"} == names | more
            assert "mine-1.0-h_0.tar.bz2" in index["packages"]
            assert json.loads(unpacked(get(server, "noarch/repodata.json.zst", channel="all", auth=auth).content)) == index
        listed = shards(server, "noarch", clients, "all")
        assert {"ours", "mine", "theirs"} <= set(listed) and not {"hush", "platform"} & set(listed)
        assert listed["ours"] == shards(server, "noarch", clients, "first")["ours"]
        for name, status in {"ours-1.0": 200, "ours-50.0": 404, "ours-99.0": 404, "hush-1.0": 404, "hush-99.0": 404, "theirs-1.0": 200, "platform-99.0": 404}.items():
            assert get(server, f"noarch/{name}-h_0.conda", channel="all").status_code == status, name
        for channel, status in {"second": 404, "first": 200}.items():
            digest = shards(server, "noarch", clients, channel)["ours"]
            assert get(server, f"noarch/{digest}.msgpack.zst", channel="all").status_code == status
        assert get(server, "noarch/repodata.json", channel="all").headers["Cache-Control"] == "private, no-cache", "not all of it is for everybody"
        assert get(server, "noarch/hush-1.0-h_0.conda", channel="all", auth=server.token("ada")).headers["Cache-Control"].startswith("private")
        assert get(server, "osx-64/repodata.json", channel="all").status_code == 404
        assert upload(server, Package("acme"), channel="all").status_code == 405

    def test_rattler_installs_and_sees_what_is_new_at_once(self, server: Dev, clients: Path, tmp_path: Path):
        publish(server, Package("top", subdir="linux-64", depends=["ours", "mine", "theirs"]), channel="second")
        found = solved(server, clients, tmp_path, f"{server.url}/conda/get/all", "top")
        assert found == ["mine-1.0-h_0.conda", "ours-1.0-h_0.conda", "theirs-1.0-h_0.conda", "top-1.0-h_0.conda"]
        publish(server, Package("theirs", "0.1"), channel="second")
        assert "theirs-0.1-h_0.conda" in (seen := repodata(server, "noarch", channel="all")["packages.conda"]) and "theirs-1.0-h_0.conda" not in seen

    def test_loosely_all_versions_are_shown(self, server: Dev):
        index = repodata(server, "noarch", channel="loose")["packages.conda"]
        assert {"ours-1.0-h_0.conda", "ours-50.0-h_0.conda", "hush-50.0-h_0.conda"} <= set(index) and "hush-1.0-h_0.conda" not in index
        assert get(server, "noarch/ours-50.0-h_0.conda", channel="loose").status_code == 200
        assert get(server, "noarch/repodata_shards.msgpack.zst", channel="loose").status_code == 404

    def test_what_cannot_be_stood_for_shows_nothing(self, server: Dev):
        for channel in ("nested", "broken"):
            answer = get(server, "noarch/repodata.json", channel=channel)
            assert answer.status_code == 503 and "virtual channel" in answer.json()["detail"]


def test_a_channel_of_conda_index_is_the_same_through_a_proxy(serve: Serve, channel: upstream.Channel, clients: Path, tmp_path: Path):
    packages = [Package("acme-base", run_exports={"weak": ["acme-base >=1"]}), Package("acme-base", "2.0", kind="tar.bz2"),
                Package("acme-app", subdir="linux-64", depends=["acme-base <2"])]
    oracle = Oracle(tmp_path / "oracle", packages)
    channel.files = {str(path.relative_to(oracle.folder)): path.read_bytes() for path in oracle.folder.rglob("*") if path.is_file() and ".cache" not in path.parts}
    server = serve({"copy": proxy(channel.url)})
    documents = [path for path in channel.files if path.endswith((".json", ".json.zst", ".json.bz2", ".msgpack.zst"))]
    assert {"noarch/repodata.json", "noarch/current_repodata.json", "noarch/run_exports.json", "linux-64/repodata_shards.msgpack.zst", "channeldata.json"} <= set(documents)
    for path in documents:
        answer = get(server, path, channel="copy")
        if answer.status_code == 200:
            assert answer.content == channel.files[path], path
        else:
            assert answer.status_code == 404 and path.split("/")[-1].split(".")[0] not in ("repodata", "run_exports", "channeldata", "repodata_shards"), path
    found = solved(server, clients, tmp_path, f"{server.url}/conda/get/copy", "acme-app")
    assert found == ["acme-app-1.0-h_0.conda", "acme-base-1.0-h_0.conda"]
    # A package that is replaced there, and listed so, is replaced here.
    other = Package("acme-app", subdir="linux-64", depends=["acme-base <2"], files={"share/other": b"other"})
    again = Oracle(tmp_path / "again", [*packages[:2], other])
    channel.files = {str(path.relative_to(again.folder)): path.read_bytes() for path in again.folder.rglob("*") if path.is_file() and ".cache" not in path.parts}
    (tmp_path / "second").mkdir()
    assert solved(server, clients, tmp_path / "second", f"{server.url}/conda/get/copy", "acme-app") == found
    assert (tmp_path / "second/prefix/share/other").read_bytes() == b"other"
