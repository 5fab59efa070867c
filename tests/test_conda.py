"""conda channels: uploads, repodata whole and in shards, packages, and the clients that use them."""

import bz2
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import requests
import zstandard

from tests.harness.conda_packages import Package, compressed, stored_zip, tar
from tests.harness.places import TESTS, environment
from tests.harness.server import Dev

Auth = tuple[str, str]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    grants = [{"subjects": ["user:ada"], "role": "Publisher", "packages": ["acme-*"]}, {"subjects": ["user:bob"], "role": "Reader"}]
    return {name: {"format": "conda", "visibility": "public"} for name in ("main", "solve", "growing")} | {
        "private": {"format": "conda", "visibility": "private", "permissions": grants}}


@pytest.fixture(scope="module")
def clients() -> Path:
    """The programs of the real clients."""
    return environment(TESTS / "peers" / "conda-clients.txt") / "bin"


def upload(server: Dev, package: Package, *, channel: str = "main", auth: Auth | None = None, content: bytes | None = None,
           filename: str | None = None, **query: str) -> requests.Response:
    return server.request("POST", f"/conda/api/channels/{channel}/upload/{filename or package.filename}", auth or server.admin,
                          data=package.content() if content is None else content, params=query)


def publish(server: Dev, *packages: Package, channel: str = "main") -> None:
    for package in packages:
        answer = upload(server, package, channel=channel)
        assert (answer.status_code, answer.text) == (201, "null"), answer.text


def get(server: Dev, path: str, *, channel: str = "main", auth: Auth | None = None, **options) -> requests.Response:
    return server.get(f"/conda/get/{channel}/{path}", auth, **options)


def repodata(server: Dev, subdir: str, *, channel: str = "main", auth: Auth | None = None) -> dict:
    answer = get(server, f"{subdir}/repodata.json", channel=channel, auth=auth)
    assert answer.status_code == 200, answer.text
    return answer.json()


def unpacked(data: bytes) -> bytes:
    """What one zstd frame holds: readers exist that stop at its end."""
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    plain = unpacker.decompress(data)
    assert unpacker.eof and not unpacker.unused_data
    return plain


class TestPublishing:
    def test_a_package_is_in_every_index_at_once(self, server: Dev):
        packages = [Package("acme-lib", subdir="linux-64", depends=["acme-base >=1"], run_exports={"weak": ["acme-lib >=1.0"]}),
                    Package("acme-lib", subdir="linux-64", kind="tar.bz2"), Package("acme-base")]
        publish(server, *packages)
        whole = repodata(server, "linux-64")
        assert whole["info"] == {"subdir": "linux-64"} and whole["repodata_version"] == 1 and whole["removed"] == []
        record = whole["packages.conda"]["acme-lib-1.0-h_0.conda"]
        content = packages[0].content()
        assert record["sha256"] == hashlib.sha256(content).hexdigest() and record["md5"] == hashlib.md5(content).hexdigest()
        assert record["size"] == len(content) and record["depends"] == ["acme-base >=1"]
        assert not {"arch", "platform"} & set(record)
        assert "acme-lib-1.0-h_0.tar.bz2" in whole["packages"]
        assert "acme-base-1.0-h_0.conda" in repodata(server, "noarch")["packages.conda"]
        compressed_ = get(server, "linux-64/repodata.json.zst")
        assert "Content-Encoding" not in compressed_.headers
        assert json.loads(unpacked(compressed_.content)) == whole
        assert get(server, "linux-64/acme-lib-1.0-h_0.conda").content == content

    def test_what_is_absent_is_404_with_a_problem(self, server: Dev):
        assert repodata(server, "noarch", channel="solve")["packages"] == {}, "noarch is there before the first package"
        for path in ("osx-64/repodata.json", "osx-64/repodata.json.zst", "osx-64/repodata_shards.msgpack.zst", "noarch/nothing-1-0.conda",
                     f"noarch/{'0' * 64}.msgpack.zst", "noarch/x.msgpack.zst"):
            answer = get(server, path)
            # The last one is a channel that is not there: hidden and absent look the same.
            assert answer.status_code == (401 if path.startswith("..") else 404), path
            if answer.status_code == 404 and "json" in answer.headers["Content-Type"]:
                assert answer.headers["Content-Type"] == "application/problem+json" and answer.json()["detail"]

    def test_indexes_are_revalidated_and_ranged(self, server: Dev):
        for path in ("noarch/repodata.json", "noarch/repodata.json.zst", "noarch/repodata_shards.msgpack.zst"):
            whole = get(server, path)
            assert get(server, path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
            head = server.request("HEAD", f"/conda/get/main/{path}")
            assert head.status_code == 200 and head.headers["ETag"] == whole.headers["ETag"]
            part = get(server, path, headers={"Range": "bytes=5-9", "Accept-Encoding": "identity"})
            assert part.status_code == 206 and len(part.content) == 5

    def test_a_name_is_taken_once(self, server: Dev):
        package = Package("acme-once")
        publish(server, package)
        answer = upload(server, package)
        assert (answer.status_code, answer.json()["detail"]) == (409, "Duplicate")
        other = Package("acme-once", depends=["acme-base"])
        assert upload(server, other).status_code == 409
        assert upload(server, other, force="true").status_code == 201
        assert repodata(server, "noarch")["packages.conda"][package.filename]["depends"] == ["acme-base"]

    def test_a_shard_that_was_replaced_is_still_there(self, server: Dev, clients: Path):
        publish(server, Package("acme-shard", "1.0"))
        before = shards(server, "noarch", clients)["acme-shard"]
        publish(server, Package("acme-shard", "2.0"))
        after = shards(server, "noarch", clients)["acme-shard"]
        assert before != after
        for digest, versions in ((before, {"1.0"}), (after, {"1.0", "2.0"})):
            answer = get(server, f"noarch/{digest}.msgpack.zst")
            assert answer.status_code == 200 and hashlib.sha256(answer.content).hexdigest() == digest
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert unpacked(answer.content).count(b"\xa7version\xa3") == len(versions)


def version(server: Dev, method: str, package: Package, suffix: str = "") -> int:
    path = f"/conda/api/channels/main/packages/{package.name}/versions/{package.subdir}/{package.filename}{suffix}"
    return server.request(method, path, server.admin).status_code


class TestRemoving:
    def test_a_removed_package_is_in_no_index_and_gone(self, server: Dev, clients: Path):
        kept, gone = Package("acme-gone", "1.0"), Package("acme-gone", "2.0")
        publish(server, kept, gone)
        assert gone.filename in repodata(server, "noarch")["packages.conda"]
        assert get(server, f"noarch/{gone.filename}").status_code == 200
        before = shards(server, "noarch", clients)["acme-gone"]
        assert version(server, "DELETE", gone) == 200
        whole = repodata(server, "noarch")
        assert gone.filename not in whole["packages.conda"] and gone.filename not in whole["removed"]
        assert kept.filename in whole["packages.conda"]
        assert get(server, f"noarch/{gone.filename}").status_code == 404
        assert shards(server, "noarch", clients)["acme-gone"] != before
        assert get(server, f"noarch/{before}.msgpack.zst").status_code == 200, "somebody may hold the index of before"
        assert version(server, "DELETE", gone) == 404
        assert version(server, "DELETE", kept) == 200
        assert "acme-gone" not in shards(server, "noarch", clients)
        publish(server, gone)
        assert gone.filename in repodata(server, "noarch")["packages.conda"]

    def test_a_yanked_package_is_not_offered_and_still_there(self, server: Dev, clients: Path):
        package = Package("acme-yanked")
        publish(server, package)
        record, before = repodata(server, "noarch")["packages.conda"][package.filename], shards(server, "noarch", clients)
        for _ in range(2):
            assert version(server, "PUT", package, "/yank") == 204
            whole = repodata(server, "noarch")
            assert package.filename not in whole["packages.conda"] and package.filename in whole["removed"]
            digest = shards(server, "noarch", clients)["acme-yanked"]
            assert package.filename.encode() in unpacked(get(server, f"noarch/{digest}.msgpack.zst").content)
            assert digest != before["acme-yanked"] and get(server, f"noarch/{package.filename}").status_code == 200
        assert version(server, "DELETE", package, "/yank") == 204
        assert repodata(server, "noarch")["packages.conda"][package.filename] == record
        assert shards(server, "noarch", clients) == before
        assert version(server, "PUT", package, "/yank") == 204 and version(server, "DELETE", package) == 200
        assert package.filename not in repodata(server, "noarch")["removed"]
        assert version(server, "PUT", package, "/yank") == 404

    def test_a_package_is_removed_by_its_own_name(self, server: Dev):
        package = Package("acme-named")
        publish(server, package)
        path = f"/conda/api/channels/main/packages/acme-other/versions/noarch/{package.filename}"
        assert server.request("DELETE", path, server.admin).status_code == 404
        assert get(server, f"noarch/{package.filename}").status_code == 200


def shards(server: Dev, subdir: str, clients: Path, channel: str = "main") -> dict[str, str]:
    """The index of shards, as py-rattler's reader of MessagePack would have it."""
    data = unpacked(get(server, f"{subdir}/repodata_shards.msgpack.zst", channel=channel).content)
    script = "import sys, json, msgpack; index = msgpack.unpackb(sys.stdin.buffer.read()); " \
             "print(json.dumps({name: digest.hex() for name, digest in index['shards'].items()}))"
    done = subprocess.run([clients / "python", "-c", script], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestWhoMay:
    def test_permissions_are_about_packages(self, server: Dev):
        for name in ("ada", "bob"):
            server.user(name)
        ada, bob = server.token("ada"), server.token("bob")
        assert upload(server, Package("acme-tool"), channel="private", auth=ada).status_code == 201
        assert upload(server, Package("other"), channel="private", auth=ada).status_code == 404
        assert upload(server, Package("acme-tool", "2.0"), channel="private", auth=bob).status_code == 403
        publish(server, Package("secret"), channel="private")
        assert set(repodata(server, "noarch", channel="private", auth=ada)["packages.conda"]) == {"acme-tool-1.0-h_0.conda"}
        assert len(repodata(server, "noarch", channel="private", auth=bob)["packages.conda"]) == 2
        assert get(server, "noarch/secret-1.0-h_0.conda", channel="private", auth=ada).status_code == 404
        assert get(server, "noarch/secret-1.0-h_0.conda", channel="private", auth=bob).status_code == 200
        assert get(server, "noarch/repodata.json", channel="private").status_code == 401

    def test_a_token_may_stand_in_the_path(self, server: Dev):
        _, token = server.token("bob")
        for path in (f"/t/{token}/conda/get/private", f"/conda/t/{token}/get/private", f"/conda/get/t/{token}/private"):
            assert server.get(f"{path}/noarch/repodata.json").status_code == 200, path
        assert server.get("/t/wrong/conda/get/private/noarch/repodata.json").status_code == 401


BROKEN: dict[str, tuple[Package, bytes | None, str]] = {
    "garbage": (Package("acme-bad"), b"garbage", "not a zip"),
    "nothing": (Package("acme-bad"), b"", "not a zip"),
    "garbage as tar.bz2": (Package("acme-bad", kind="tar.bz2"), b"garbage", "not a tar.bz2"),
    "a cut file": (Package("acme-bad"), Package("acme-bad").content()[:-40], "truncated"),
    "a cut tar.bz2": (Package("acme-bad", kind="tar.bz2"), Package("acme-bad", kind="tar.bz2").content()[:-20], "truncated"),
    "another name": (Package("acme-bad", index={"name": "acme-good"}), None, 'says the name "acme-good"'),
    "another version": (Package("acme-bad", index={"version": "9"}), None, "says the version"),
    "a subdir that is none": (Package("acme-bad", index={"subdir": "../x"}), None, "a subdir is noarch"),
    "no build number": (Package("acme-bad", index={"build_number": "zero"}), None, "build_number is not a number"),
    "no metadata.json": (Package("acme-bad"), stored_zip([(f"{part}-acme-bad-1.0-h_0.tar.zst", compressed(tar(Package("acme-bad").info())))
                                                         for part in ("info",)]), "no metadata.json"),
    "no index.json": (Package("acme-bad", kind="tar.bz2"), bz2.compress(tar([("info/about.json", b"{}")])), "no info/index.json"),
    "a path that climbs": (Package("acme-bad", files={"../../etc/passwd": b"x"}), None, "not accepted"),
    "a file twice": (Package("acme-bad", kind="tar.bz2"),
                     bz2.compress(tar([*Package("acme-bad").info(), ("a", b"1"), ("a", b"2")])), "twice"),
    "a bomb": (Package("acme-bad", files={"zeros": bytes(80 << 20)}), None, "unpacks to more"),
    "another's parts": (Package("acme-bad"), Package("acme-other").content(), "not"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_package_is_refused_and_changes_nothing(server: Dev, broken: str):
    package, content, message = BROKEN[broken]
    before = repodata(server, "noarch")
    answer = upload(server, package, content=content)
    assert answer.status_code == 400 and message in answer.json()["detail"], answer.text
    assert repodata(server, "noarch") == before


def test_a_wrong_digest_and_a_wrong_name_are_refused(server: Dev):
    package = Package("acme-digest")
    answer = upload(server, package, sha256="0" * 64)
    assert (answer.status_code, answer.json()["detail"]) == (406, "Wrong SHA256 checksum")
    assert upload(server, package, filename="acme-digest.conda").status_code == 400
    assert upload(server, package, filename="Acme-1-0.conda").status_code == 400
    assert upload(server, package, sha256=hashlib.sha256(package.content()).hexdigest()).status_code == 201
    assert upload(server, package, channel="nowhere").status_code == 404


SOLVE = """
import asyncio, json, os, sys
from rattler import Channel, Gateway, install, solve
from rattler.networking import Client
channel, target, *specs = sys.argv[1:]

async def main():
    client = Client.authenticated_client()
    records = await solve([Channel(channel)], specs, platforms=["linux-64", "noarch"], gateway=Gateway(cache_dir=target + "-cache", client=client))
    await install(records, target_prefix=target, cache_dir=target + "-packages", client=client)
    print(json.dumps(sorted(record.file_name for record in records)), flush=True)

asyncio.run(main())
# The interpreter's own end is not what is tested.
os._exit(0)
"""


def solved(server: Dev, clients: Path, folder: Path, url: str, *specs: str, **variables: str) -> list[str]:
    """What rattler installs."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run([clients / "python", "-c", SOLVE, url, folder / "prefix", *specs], capture_output=True, text=True, timeout=120,
                          env={"HOME": str(home), "PATH": "/usr/bin:/bin", **variables}, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_rattler_solves_and_installs(server: Dev, clients: Path, tmp_path: Path):
    publish(server, Package("acme-base", "2.0"), Package("acme-base", "1.0"), Package("acme-app", subdir="linux-64", depends=["acme-base <2"]),
            Package("acme-old", kind="tar.bz2", depends=["acme-app"]), channel="solve")
    found = solved(server, clients, tmp_path, f"{server.url}/conda/get/solve", "acme-old")
    assert found == ["acme-app-1.0-h_0.conda", "acme-base-1.0-h_0.conda", "acme-old-1.0-h_0.tar.bz2"]
    assert (tmp_path / "prefix/share/acme-base.txt").read_text() == "acme-base-1.0-h_0\n"
    assert "msgpack.zst" in server.log(), "it asked for shards"


def test_rattler_logs_in(server: Dev, clients: Path, tmp_path: Path):
    name, token = server.token("bob")
    host = server.url.removeprefix("http://")
    for kind, auth in {"bearer": {"BearerToken": token}, "basic": {"BasicHTTP": {"username": name, "password": token}},
                       "path": {"CondaToken": token}}.items():
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "auth.json").write_text(json.dumps({host.split(":")[0]: auth}))
        found = solved(server, clients, folder, f"{server.url}/conda/get/private", "secret", RATTLER_AUTH_FILE=str(folder / "auth.json"))
        assert found == ["secret-1.0-h_0.conda"], kind


def test_quetz_client_uploads(server: Dev, clients: Path, tmp_path: Path):
    package = Package("acme-quetz", subdir="linux-64")
    file = tmp_path / package.filename
    file.write_bytes(package.content())
    done = subprocess.run([clients / "quetz-client", "post_file_to_channel", "main", file], capture_output=True, text=True, timeout=60,
                          env={"QUETZ_SERVER_URL": f"{server.url}/conda", "QUETZ_API_KEY": server.admin[1], "PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert package.filename in repodata(server, "linux-64")["packages.conda"]


def test_many_names_are_one_valid_document(server: Dev):
    """In parts that change alone; what is shown is what a whole new rendering would show."""
    names = [f"acme-{number:04}" for number in range(300)]
    publish(server, *(Package(name, kind="conda" if number % 3 else "tar.bz2") for number, name in enumerate(names)), channel="growing")
    seen = repodata(server, "noarch", channel="growing")
    assert len(seen["packages"]) == 100 and len(seen["packages.conda"]) == 200
    publish(server, Package("acme-0150", "2.0"), channel="growing")
    again = repodata(server, "noarch", channel="growing")
    assert set(again["packages.conda"]) == {*seen["packages.conda"], "acme-0150-2.0-h_0.conda"} and again["packages"] == seen["packages"]
    assert json.loads(unpacked(get(server, "noarch/repodata.json.zst", channel="growing").content)) == again
