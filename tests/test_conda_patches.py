"""Patch instructions of a conda channel: beside conda-index with the same package of patches, and what it does not do."""

import json
from pathlib import Path

import pytest

from tests.harness.conda_corpus import corpus
from tests.harness.conda_oracle import Oracle, document, shards, upload_all, without
from tests.harness.conda_packages import Package
from tests.harness.places import TESTS, environment
from tests.harness.server import Dev
from tests.test_conda import solved

SUBDIRS = ("linux-64", "noarch")
INDEXED = "indexed_timestamp"


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    public = {"format": "conda", "visibility": "public"}
    grants = [{"subjects": ["user:ada"], "role": "Publisher"}]
    return {"patched": public, "steps": public, "mended": public, "racing": public, "guarded": {**public, "permissions": grants},
            "named": {**public, "conda": {"repodataPatches": {"package": "acme-hotfixes"}}}}


def patches(channel: str, version: str, instructions: dict[str, object], *, name: str = "", kind: str = "conda") -> Package:
    """A package of patch instructions, by subdirs."""
    files = {f"{subdir}/patch_instructions.json": text if isinstance(text, bytes) else json.dumps(text).encode() for subdir, text in instructions.items()}
    return Package(name or f"{channel}-repodata-patches", version, kind=kind, files=files)


def some_of(packages: list[Package]) -> tuple[list[Package], dict[str, dict]]:
    """Packages of two subdirs, and instructions of every kind about them."""
    packages = [package for package in packages if package.subdir in SUBDIRS and package.name.startswith("acme-")]
    instructions: dict[str, dict] = {}
    for subdir in SUBDIRS:
        files = [package.filename for package in packages if package.subdir == subdir]
        old, new = [file for file in files if file.endswith(".tar.bz2")], [file for file in files if file.endswith(".conda")]
        instructions[subdir] = {
            "patch_instructions_version": 1,
            "packages": {old[0]: {"depends": ["acme-base >=1"]}, old[1]: {"constrains": ["acme-web <9"], "license": "BSD"},
                         "acme-absent-1-0.tar.bz2": {"depends": []}, "no name of a file": {"depends": ["x"]}},
            "packages.conda": {new[0]: {"depends": [], "timestamp": 1_600_000_000_000}, new[1]: {"odd": {"b": 1}}},
            "revoke": [old[2], new[2], "acme-absent-1-0.conda"], "remove": [old[3], new[3], "acme-absent-1-0.tar.bz2"]}
    return packages, instructions


def test_everything_reads_as_conda_index_has_it(server: Dev, tmp_path: Path):
    packages, instructions = some_of(corpus())
    package = patches("patched", "2.0", instructions)
    oracle = Oracle(tmp_path / "patched", packages, package)
    # Half of the packages come before the patches and half after them; an older package of patches comes last and says nothing.
    upload_all(server, "patched", packages[::2])
    upload_all(server, "patched", [package])
    upload_all(server, "patched", packages[1::2])
    upload_all(server, "patched", [patches("patched", "1.9", {"linux-64": {"remove": [packages[0].filename]}})])
    own = {package.filename, "patched-repodata-patches-1.9-h_0.conda"}
    for subdir in SUBDIRS:
        for name in ("repodata.json", "repodata_from_packages.json", "current_repodata.json"):
            ours, theirs = document(server, "patched", f"{subdir}/{name}"), oracle.document(f"{subdir}/{name}")
            for section in ("packages", "packages.conda"):
                ours[section] = {file: record for file, record in without(ours[section], INDEXED).items() if file not in own}
                theirs[section] = {name: {field: value for field, value in record.items() if (field, value) != ("legacy_bz2_md5", None)}
                                   for name, record in theirs[section].items()}
            assert len(ours["removed"]) >= 2 or "from_packages" in name
            assert ours == theirs, f"{subdir}/{name}"
        ours, theirs = shards(server, "patched", subdir, tmp_path / subdir), oracle.shards[subdir]
        ours.pop("patched-repodata-patches", None)
        assert ours.keys() == theirs.keys()
        for name, shard in ours.items():
            removed = shard.pop("removed")
            assert removed == theirs[name].pop("removed", []), name
            assert {section: without(records, INDEXED) for section, records in shard.items()} == theirs[name], name


def record(server: Dev, channel: str, file: str) -> dict | None:
    section = "packages.conda" if file.endswith(".conda") else "packages"
    return document(server, channel, "noarch/repodata.json")[section].get(file)


def delete(server: Dev, channel: str, package: Package) -> None:
    path = f"/conda/api/channels/{channel}/packages/{package.name}/versions/{package.subdir}/{package.filename}"
    assert server.request("DELETE", path, server.admin).status_code in (200, 204)


def test_patches_come_change_and_go(server: Dev):
    lib, app = Package("acme-lib", depends=["a"], run_exports={"weak": ["acme-lib"]}), Package("acme-app", depends=["b"])
    upload_all(server, "steps", [lib, app])
    before = {name: document(server, "steps", f"noarch/{name}") for name in ("repodata.json", "run_exports.json")}
    first = patches("steps", "1.0", {"noarch": {"packages.conda": {lib.filename: {"depends": ["patched"], "license": "BSD"}}, "remove": [app.filename]}})
    upload_all(server, "steps", [first])
    assert record(server, "steps", lib.filename)["depends"] == ["patched"] and record(server, "steps", app.filename) is None
    assert app.filename in document(server, "steps", "noarch/repodata.json")["removed"]
    assert server.get(f"/conda/get/steps/noarch/{app.filename}").status_code == 200, "what is removed from the index can be downloaded"
    names = document(server, "steps", "channeldata.json")["packages"]
    assert names["acme-lib"]["license"] == "BSD" and "acme-app" not in names
    assert record(server, "steps", lib.filename)["sha256"] and \
        document(server, "steps", "noarch/repodata_from_packages.json")["packages.conda"][lib.filename]["depends"] == ["a"]
    # Version 2 patches what packages export.
    second = patches("steps", "2.0", {"noarch": {"patch_instructions_version": 2, "packages.conda": {lib.filename: {"run_exports": {"strong": ["x"]}}}}},
                     kind="tar.bz2")
    upload_all(server, "steps", [second])
    assert record(server, "steps", lib.filename)["depends"] == ["a"] and record(server, "steps", app.filename)["depends"] == ["b"]
    assert document(server, "steps", "noarch/run_exports.json")["packages.conda"][lib.filename] == {"run_exports": {"strong": ["x"]}}
    # The newest that is left counts.
    delete(server, "steps", second)
    assert record(server, "steps", lib.filename)["depends"] == ["patched"] and record(server, "steps", app.filename) is None
    delete(server, "steps", first)
    assert before == {name: document(server, "steps", f"noarch/{name}") for name in before}


@pytest.mark.parametrize(("text", "message"), {
    "no JSON": (b"<html>", "cannot be read"), "a list": (b"[]", "cannot be read"), "a list of packages": ({"packages": []}, "cannot be read"),
    "another version": ({"patch_instructions_version": 3}, "version 3"),
    "no list of dependencies": ({"packages": {"acme-lib-1.0-h_0.tar.bz2": {"depends": "x"}}}, "depends of acme-lib-1.0-h_0.tar.bz2")}.values())
def test_instructions_that_cannot_be_meant_are_refused(server: Dev, text: object, message: str):
    upload_all(server, "named", [] if server.get("/conda/get/named/noarch/acme-lib-1.0-h_0.conda").status_code == 200 else [Package("acme-lib")])
    before = document(server, "named", "noarch/repodata.json")
    package = patches("named", "1.0", {"noarch": text}, name="acme-hotfixes")
    answer = server.request("POST", f"/conda/api/channels/named/upload/{package.filename}", server.admin, data=package.content())
    assert answer.status_code == 400 and message in answer.json()["detail"], answer.text
    assert document(server, "named", "noarch/repodata.json") == before


def test_another_package_may_hold_them(server: Dev):
    lib = Package("acme-other", depends=["a"])
    instructions = {"noarch": {"packages.conda": {lib.filename: {"depends": ["patched"]}}}}
    upload_all(server, "named", [lib, patches("named", "1.0", instructions)])
    assert record(server, "named", lib.filename)["depends"] == ["a"], "it is not the package that the channel names"
    upload_all(server, "named", [patches("named", "1.0", instructions, name="acme-hotfixes")])
    assert record(server, "named", lib.filename)["depends"] == ["patched"]


def test_patching_takes_who_may_remove(server: Dev):
    server.user("ada")
    package = patches("guarded", "1.0", {"noarch": {}})
    answer = server.request("POST", f"/conda/api/channels/guarded/upload/{package.filename}", server.token("ada"), data=package.content())
    assert answer.status_code == 403


def test_rattler_installs_what_patches_mend(server: Dev, tmp_path: Path):
    """From shards: a dependency that is nowhere is patched away, and what was revoked is not chosen."""
    packages = [Package("acme-mended", version, subdir="linux-64", depends=["acme-nowhere"]) for version in ("1.0", "2.0", "3.0")]
    upload_all(server, "mended", packages)
    mended = {package.filename: {"depends": []} for package in packages}
    upload_all(server, "mended", [patches("mended", "1.0", {"linux-64": {"packages.conda": mended, "revoke": [packages[2].filename],
                                                                         "remove": [packages[1].filename]}})])
    clients = environment(TESTS / "peers" / "conda-clients.txt") / "bin"
    assert solved(server, clients, tmp_path, f"{server.url}/conda/get/mended", "acme-mended") == [packages[0].filename]


def test_packages_that_come_while_patches_do_are_patched(server: Dev):
    packages = [Package(f"acme-race-{number}", depends=["a"]) for number in range(32)]
    first, second = (patches("racing", version, {"noarch": {"packages.conda": {package.filename: {"depends": [version]} for package in packages}}})
                     for version in ("1.0", "2.0"))
    upload_all(server, "racing", [*packages[:12], second, *packages[12:20], first, *packages[20:]])
    records = document(server, "racing", "noarch/repodata.json")["packages.conda"]
    assert {records[package.filename]["depends"][0] for package in packages} == {"2.0"}
