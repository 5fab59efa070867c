"""The index documents of conda channels beside repodata.json: what is in them, for whom, in which forms."""

import bz2
import json

import pytest
import requests
import zstandard

from tests.harness.conda_packages import Package
from tests.harness.server import Dev

NOTICES = [{"id": "n1", "message": "Moves <soon>", "level": "warning", "createdAt": "2026-03-01T12:00:00Z", "expiresAt": "2030-01-01T00:00:00Z"}]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    grants = [{"subjects": ["user:ada"], "role": "Reader", "packages": ["acme-*"]}]
    return {"main": {"format": "conda", "visibility": "public", "conda": {"notices": NOTICES}},
            "plain": {"format": "conda", "visibility": "public", "conda": {"currentRepodata": False}},
            "private": {"format": "conda", "visibility": "private", "permissions": grants}}


def publish(server: Dev, *packages: Package, channel: str = "main", **query: str) -> None:
    for package in packages:
        answer = server.request("POST", f"/conda/api/channels/{channel}/upload/{package.filename}", server.admin, data=package.content(), params=query)
        assert answer.status_code == 201, answer.text


def get(server: Dev, path: str, *, channel: str = "main", auth: tuple[str, str] | None = None, **options) -> requests.Response:
    return server.get(f"/conda/get/{channel}/{path}", auth, **options)


def about(**fields: object) -> dict[str, bytes]:
    return {"info/about.json": json.dumps(fields).encode()}


@pytest.fixture(scope="module", autouse=True)
def published(server: Dev) -> None:
    exports = {"weak": ["acme-lib >=1"]}
    publish(server, Package("acme-lib", subdir="linux-64", run_exports=exports, info_files=about(summary="of 1.0", home="https://upstream.example")),
            Package("acme-lib", "2.0", subdir="linux-64", kind="tar.bz2", info_files=about(summary="of 2.0")), Package("acme-base"),
            Package("acme-app", subdir="osx-64", depends=["acme-lib <2"]))


SUBDIR_DOCUMENTS = ("repodata.json", "repodata_from_packages.json", "run_exports.json", "current_repodata.json")
DOCUMENTS = (*(f"linux-64/{name}" for name in SUBDIR_DOCUMENTS), "channeldata.json")


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_form_is_the_same_document(server: Dev, path: str):
    plain = get(server, path, headers={"Accept-Encoding": "identity"})
    assert plain.headers["Content-Type"] == "application/json" and plain.headers["Cache-Control"] == "no-cache"
    packed = get(server, f"{path}.zst")
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    assert unpacker.decompress(packed.content) == plain.content and unpacker.eof and not unpacker.unused_data
    packed = get(server, f"{path}.bz2")
    # One stream: there are readers who stop at its end.
    unpacker = bz2.BZ2Decompressor()
    assert unpacker.decompress(packed.content) == plain.content and unpacker.eof and not unpacker.unused_data
    for form in ("", ".zst", ".bz2"):
        whole = get(server, f"{path}{form}", headers={"Accept-Encoding": "identity"})
        etag = whole.headers["ETag"]
        assert get(server, f"{path}{form}", headers={"If-None-Match": etag, "Accept-Encoding": "identity"}).status_code == 304
        head = server.request("HEAD", f"/conda/get/main/{path}{form}", headers={"Accept-Encoding": "identity"})
        assert (head.status_code, head.headers["ETag"]) == (200, etag)
        part = get(server, f"{path}{form}", headers={"Range": "bytes=5-9", "Accept-Encoding": "identity"})
        assert part.status_code == 206 and part.content == whole.content[5:10]


def test_a_bz2_that_nobody_has_asked_for_is_not_made_to_tell_that_it_is_there(server: Dev):
    publish(server, Package("acme-fresh", subdir="win-64"))
    head = server.request("HEAD", "/conda/get/main/win-64/repodata.json.bz2")
    assert head.status_code == 200 and "Content-Length" not in head.headers
    assert get(server, "win-64/repodata.json.bz2", headers={"If-None-Match": head.headers["ETag"]}).status_code == 304
    # Never stale: what is served is the present document.
    for version in ("2.0", "3.0"):
        publish(server, Package("acme-fresh", version, subdir="win-64"))
        text = bz2.decompress(get(server, "win-64/repodata.json.bz2").content)
        assert json.loads(text) == get(server, "win-64/repodata.json").json() and version.encode() in text


def test_what_is_absent_is_404(server: Dev):
    for path in (*(f"linux-32/{name}{form}" for name in SUBDIR_DOCUMENTS for form in ("", ".zst", ".bz2")), "nothing.json", "linux-64/nothing.json.bz2",
                 "rss.xml.zst", "linux-64/channeldata.json"):
        assert get(server, path).status_code == 404, path
    assert get(server, "noarch/current_repodata.json", channel="plain").status_code == 404
    assert get(server, "notices.json", channel="plain").status_code == 404
    for name in SUBDIR_DOCUMENTS[:3]:
        assert get(server, f"noarch/{name}", channel="plain").json()["packages"] == {}, "noarch is there before the first package"
    empty = get(server, "channeldata.json", channel="plain").json()
    assert empty == {"channeldata_version": 1, "packages": {}, "subdirs": ["noarch"]}
    assert get(server, "rss.xml", channel="plain").status_code == 200


def test_run_exports(server: Dev):
    document = get(server, "linux-64/run_exports.json").json()
    assert document["info"] == {"subdir": "linux-64", "version": 1}
    assert document["packages.conda"]["acme-lib-1.0-h_0.conda"] == {"run_exports": {"weak": ["acme-lib >=1"]}}
    assert document["packages"]["acme-lib-2.0-h_0.tar.bz2"] == {"run_exports": {}}


def test_channeldata_is_of_now(server: Dev):
    names = get(server, "channeldata.json").json()["packages"]
    record = names["acme-lib"]
    assert (record["version"], record["summary"], record["home"]) == ("2.0", "of 2.0", "https://upstream.example")
    assert record["run_exports"] == {"1.0": {"weak": ["acme-lib >=1"]}} and record["subdirs"] == ["linux-64"]
    publish(server, Package("acme-lib", "3.0", subdir="osx-64", info_files=about(summary="of 3.0")))
    record = get(server, "channeldata.json").json()["packages"]["acme-lib"]
    assert (record["version"], record["summary"], record["subdirs"]) == ("3.0", "of 3.0", ["linux-64", "osx-64"])
    path = "/conda/api/channels/main/packages/acme-lib/versions/osx-64/acme-lib-3.0-h_0.conda"
    assert server.request("DELETE", path, server.admin).status_code in (200, 204)
    assert get(server, "channeldata.json").json()["packages"]["acme-lib"]["summary"] == "of 2.0"
    feed = get(server, "rss.xml").text
    assert "<title>acme-lib 2.0 [linux-64]</title>" in feed and "of 2.0" in feed


def test_a_name_whose_packages_are_gone_is_told_no_more(server: Dev):
    publish(server, Package("acme-gone"))
    assert "acme-gone" in get(server, "channeldata.json").json()["packages"]
    server.request("DELETE", "/conda/api/channels/main/packages/acme-gone/versions/noarch/acme-gone-1.0-h_0.conda", server.admin)
    assert "acme-gone" not in get(server, "channeldata.json").json()["packages"]
    for name in SUBDIR_DOCUMENTS:
        assert "acme-gone" not in get(server, f"noarch/{name}").text, name


def test_current_repodata_has_what_is_newest_and_needed(server: Dev):
    publish(server, Package("acme-cur", "1.9", subdir="linux-aarch64"), Package("acme-cur", "1.10", subdir="linux-aarch64"),
            Package("acme-cur", "2.0", subdir="linux-aarch64"), Package("acme-user", subdir="linux-aarch64", depends=["acme-cur <2"]))
    document = get(server, "linux-aarch64/current_repodata.json").json()
    assert set(document["packages.conda"]) == {f"acme-{stem}-h_0.conda" for stem in ("cur-1.10", "cur-2.0", "user-1.0")}
    publish(server, Package("acme-user", "2.0", subdir="linux-aarch64"))
    document = get(server, "linux-aarch64/current_repodata.json").json()
    assert set(document["packages.conda"]) == {"acme-cur-2.0-h_0.conda", "acme-user-2.0-h_0.conda"}


def test_notices(server: Dev):
    answer = get(server, "notices.json")
    assert answer.json() == {"notices": [{"id": "n1", "message": "Moves <soon>", "level": "warning", "created_at": "2026-03-01T12:00:00Z",
                                          "expires_at": "2030-01-01T00:00:00Z", "expired_at": "2030-01-01T00:00:00Z"}]}
    assert get(server, "notices.json", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_everybody_sees_what_they_may_read(server: Dev):
    server.user("ada")
    ada = server.token("ada")
    publish(server, Package("acme-tool"), Package("secret"), Package("secret", subdir="linux-64"), channel="private")
    for path in (*(f"noarch/{name}" for name in SUBDIR_DOCUMENTS), "channeldata.json", "rss.xml"):
        for form in ("",) if path == "rss.xml" else ("", ".zst", ".bz2"):
            seen = get(server, f"{path}{form}", channel="private", auth=ada)
            assert seen.headers["Cache-Control"] == "private, no-cache"
            text = seen.content
            text = bz2.decompress(text) if form == ".bz2" else zstandard.ZstdDecompressor().decompressobj().decompress(text) if form else text
            assert b"acme-tool" in text and b"secret" not in text, path + form
        assert b"secret" in get(server, path, channel="private", auth=server.admin).content
        assert get(server, path, channel="private").status_code == 401
    # Not even the subdir is told.
    assert get(server, "channeldata.json", channel="private", auth=ada).json()["subdirs"] == ["noarch"]
    for name in SUBDIR_DOCUMENTS:
        assert get(server, f"linux-64/{name}", channel="private", auth=ada).status_code == 404
