"""The index documents of a channel, beside those that conda-index makes of the same packages. Each difference is named here and in
docs/conda.md."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.harness.conda_corpus import SUBDIRS, corpus
from tests.harness.conda_oracle import Oracle, document, shards, upload_all, without
from tests.harness.conda_packages import Package
from tests.harness.server import Dev


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {"corpus": {"format": "conda", "visibility": "public"}}


@pytest.fixture(scope="module")
def packages() -> list[Package]:
    packages = corpus()
    assert len(packages) >= 300 and {package.subdir for package in packages} == set(SUBDIRS)
    return packages


@pytest.fixture(scope="module")
def oracle(packages: list[Package], tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("conda-index") / "corpus", packages)


@pytest.fixture(scope="module", autouse=True)
def uploaded(server: Dev, packages: list[Package]) -> None:
    upload_all(server, "corpus", packages)


# When the channel first listed a package (CEP 47), which conda-index does not say.
INDEXED = "indexed_timestamp"


@pytest.mark.parametrize("subdir", SUBDIRS)
@pytest.mark.parametrize("name", ["repodata.json", "repodata_from_packages.json"])
def test_repodata(server: Dev, oracle: Oracle, subdir: str, name: str):
    ours, theirs = document(server, "corpus", f"{subdir}/{name}"), oracle.document(f"{subdir}/{name}")
    for section in ("packages", "packages.conda"):
        assert all(isinstance(record[INDEXED], int) for record in ours[section].values())
        ours[section] = without(ours[section], INDEXED)
    assert ours == theirs


@pytest.mark.parametrize("subdir", SUBDIRS)
def test_run_exports(server: Dev, oracle: Oracle, subdir: str):
    assert document(server, "corpus", f"{subdir}/run_exports.json") == oracle.document(f"{subdir}/run_exports.json")


@pytest.mark.parametrize("subdir", SUBDIRS)
def test_current_repodata(server: Dev, oracle: Oracle, subdir: str):
    ours, theirs = document(server, "corpus", f"{subdir}/current_repodata.json"), oracle.document(f"{subdir}/current_repodata.json")
    whole = document(server, "corpus", f"{subdir}/repodata.json")
    assert len(ours["packages"]) + len(ours["packages.conda"]) < len(whole["packages"]) + len(whole["packages.conda"])
    for section in ("packages", "packages.conda"):
        ours[section] = without(ours[section], INDEXED)
        # Where no .tar.bz2 stands beside a .conda, conda-index writes null.
        theirs[section] = {name: {field: value for field, value in record.items() if (field, value) != ("legacy_bz2_md5", None)}
                           for name, record in theirs[section].items()}
    assert ours == theirs


@pytest.mark.parametrize("subdir", SUBDIRS)
def test_shards(server: Dev, oracle: Oracle, tmp_path: Path, subdir: str):
    ours, theirs = shards(server, "corpus", subdir, tmp_path / "shards"), oracle.shards[subdir]
    assert ours.keys() == theirs.keys()
    for name, shard in ours.items():
        # As CEP 16 has it; conda-index leaves an empty list out.
        assert shard.pop("removed") == []
        assert {section: without(records, INDEXED) for section, records in shard.items()} == theirs[name], name


def test_channeldata(server: Dev, oracle: Oracle):
    ours, theirs = document(server, "corpus", "channeldata.json"), oracle.document("channeldata.json")
    newest: dict[str, int] = {}
    for subdir in SUBDIRS:
        repodata = oracle.document(f"{subdir}/repodata.json")
        for record in [*repodata["packages"].values(), *repodata["packages.conda"].values()]:
            newest[record["name"]] = max(newest.get(record["name"], 0), record["timestamp"] // 1000)
    # conda-index tells when the package was built that it happened to read last; CEP 38 when the newest one was.
    assert {name: record["timestamp"] for name, record in ours["packages"].items()} == newest
    ours["packages"], theirs["packages"] = (without(records["packages"], "timestamp") for records in (ours, theirs))
    for name, record in ours["packages"].items():
        assert record == theirs["packages"][name], name
    assert ours == theirs


def test_rss(server: Dev, oracle: Oracle):
    def titles(text: str) -> set[str]:
        return {item.findtext("title") for item in ET.fromstring(text).iter("item")}

    answer = server.get("/conda/get/corpus/rss.xml")
    assert answer.headers["Content-Type"].startswith("application/rss+xml")
    theirs = titles((oracle.folder / "rss.xml").read_text())
    assert len(theirs) > 20 and titles(answer.text) == theirs
