"""What Quetz has as plugins, on conda channels: each beside the program that reads what it makes."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.harness.conda_packages import Package
from tests.harness.places import TESTS, environment
from tests.harness.processes import wait_until
from tests.harness.server import Dev
from tests.test_conda import clients, get, publish, repodata, solved, upload  # noqa: F401

OWNERS = [{"subjects": ["user:olga"], "role": "Owner"}, {"subjects": ["user:mia"], "role": "Maintainer"},
          {"subjects": ["user:ada"], "role": "Publisher", "packages": ["acme-*"]}]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    def channel(visibility: str = "public", **conda: bool) -> dict:
        return {"format": "conda", "visibility": visibility, "permissions": OWNERS, "conda": conda}

    return {"plain": channel(), "suggest": channel(suggest=True), "hidden": channel("private", suggest=True),
            "terms": channel(termsOfService=True), "chunked": channel(zchunk=True), "transmuted": channel(transmutation=True)}


@pytest.fixture(scope="module")
def people(server: Dev) -> dict[str, tuple[str, str]]:
    """Tokens of whom the channels name."""
    for name in ("olga", "mia", "ada"):
        server.user(name)
    return {name: server.token(name) for name in ("olga", "mia", "ada")}


@pytest.fixture(scope="module")
def tools() -> Path:
    """The programs that read what plugins make."""
    return environment(TESTS / "peers" / "conda-plugins.txt") / "bin"


class TestRunExports:
    def path(self, package: Package, channel: str = "plain") -> str:
        return f"/conda/api/channels/{channel}/packages/{package.name}/versions/{package.subdir}/{package.filename}/run_exports"

    def test_what_a_package_exports_is_told(self, server: Dev):
        exporting = Package("acme-lib", subdir="linux-64", run_exports={"weak": ["acme-lib >=1.0"], "strong": []})
        old, silent = Package("acme-lib", "0.9", subdir="linux-64", kind="tar.bz2", run_exports={"noarch": ["x"]}), Package("acme-silent")
        publish(server, exporting, old, silent, channel="plain")
        assert server.get(self.path(exporting)).json() == {"weak": ["acme-lib >=1.0"], "strong": []}
        assert server.get(self.path(old)).json() == {"noarch": ["x"]}
        answer = server.get(self.path(silent))
        assert answer.json() == {}
        assert server.get(self.path(silent), headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
        for wrong in (Package("acme-absent"), Package("acme-silent", subdir="linux-64"), Package("acme-silent", "2.0")):
            assert server.get(self.path(wrong)).status_code == 404
        assert server.get(self.path(silent).replace("packages/acme-silent", "packages/acme-lib")).status_code == 404

    def test_only_to_who_may_read_it(self, server: Dev, people: dict):
        acme, other = Package("acme-hidden"), Package("other")
        publish(server, acme, other, channel="hidden")
        assert server.get(self.path(acme, "hidden"), people["ada"]).status_code == 200
        assert server.get(self.path(other, "hidden"), people["ada"]).status_code == 404
        assert server.get(self.path(acme, "hidden")).status_code == 401


ENTRY_POINTS = json.dumps({"noarch": {"type": "python", "entry_points": ["acme-cli = acme.cli:main"]}, "package_metadata_version": 1}).encode()


def programs(*paths: str) -> dict[str, bytes]:
    return {path: b"#!\n" for path in paths}


class TestSuggest:
    def test_conda_suggest_finds_the_package_of_a_command(self, server: Dev, tools: Path, tmp_path: Path):
        publish(server,
                Package("acme-git", "9.0", subdir="linux-64", files=programs("bin/gone")),
                Package("acme-git", "10.0", subdir="linux-64", files=programs("bin/git", "bin/git-lfs", "bin/dir/x", "share/y")),
                Package("acme-git", "10.0", "h_1", subdir="linux-64", kind="tar.bz2", files=programs("bin/git", "bin/git-svn")),
                Package("acme-hub", subdir="linux-64", files=programs("bin/git")),
                Package("acme-py", info_files={"info/link.json": ENTRY_POINTS}, files=programs("python-scripts/acme-script")),
                channel="suggest")
        linux = get(server, "suggest.linux-64.map", channel="suggest")
        assert linux.text == "git:acme-git\ngit:acme-hub\ngit-lfs:acme-git\ngit-svn:acme-git\n"
        assert linux.headers["Content-Type"] == "application/octet-stream" and "suggest.linux-64.map" in linux.headers["Content-Disposition"]
        noarch = server.get("/conda/api/channels/suggest/noarch/conda-suggest")
        assert noarch.text == "acme-cli:acme-py\nacme-script:acme-py\n"
        (tmp_path / "suggest.linux-64.map").write_bytes(linux.content)
        (tmp_path / "suggest.noarch.map").write_bytes(noarch.content)
        for command, expected in {"git-svn": "conda install -c suggest acme-git", "git": "conda install -c suggest acme-hub",
                                  "acme-cli": "conda install -c suggest acme-py", "gone": "not found in any conda package"}.items():
            script = "import sys; from conda_suggest.find import message; message(sys.argv[1])"
            done = subprocess.run([tools / "python", "-c", script, command], capture_output=True, text=True, check=True,
                                  env={"CONDA_SUGGEST_PATH": str(tmp_path)})
            assert expected in done.stdout, done.stdout

    def test_the_map_changes_with_each_publish(self, server: Dev):
        def noarch(auth: tuple[str, str] | None = None) -> list[str]:
            return get(server, "suggest.noarch.map", channel="suggest", auth=auth).text.splitlines()

        publish(server, Package("acme-tool", "1.0", files=programs("bin/tool", "bin/to:ol")), channel="suggest")
        assert [line for line in noarch() if line.startswith("to")] == ["tool:acme-tool"]
        publish(server, Package("acme-tool", "2.0", files=programs("bin/tool2")), channel="suggest")
        assert [line for line in noarch() if line.startswith("to")] == ["tool2:acme-tool"]
        publish(server, Package("acme-tool", "3.0"), channel="suggest")
        assert [line for line in noarch() if line.startswith("to")] == []
        again = Package("acme-tool", "3.0", files=programs("Scripts/tool3"))
        assert upload(server, again, channel="suggest", force="true").status_code == 201
        assert [line for line in noarch() if line.startswith("to")] == ["tool3:acme-tool"]

    def test_it_is_switched_on_and_tells_what_one_may_read(self, server: Dev, people: dict):
        package = Package("acme-x", files=programs("bin/x"))
        publish(server, package, channel="plain")
        assert get(server, "plain.noarch.map", channel="plain").status_code == 404
        publish(server, package, Package("secret", files=programs("bin/secret")), channel="hidden")
        assert get(server, "hidden.noarch.map", channel="hidden", auth=people["mia"]).text == "secret:secret\nx:acme-x\n"
        assert get(server, "hidden.noarch.map", channel="hidden", auth=people["ada"]).text == "x:acme-x\n"
        assert get(server, "hidden.noarch.map", channel="hidden").status_code == 401
        for path in ("suggest.win-64.map", "suggest.nothing.map", "other.noarch.map", "nothing.json"):
            answer = get(server, path, channel="suggest")
            assert answer.status_code == (200 if "win-64" in path else 404), path
        assert "acme-x-1.0-h_0.conda" in repodata(server, "noarch", channel="plain")["packages.conda"]


class TestTermsOfService:
    def test_who_has_not_signed_uploads_nothing(self, server: Dev, people: dict):
        def publish_as(name: str, version: str) -> tuple[int, object]:
            answer = upload(server, Package("acme-terms", version), channel="terms", auth=people[name])
            return answer.status_code, answer.json()

        assert server.get("/conda/api/tos").status_code == 404
        assert publish_as("ada", "1.0")[0] == 201, "nothing to sign yet"
        for auth, status in ((None, 401), (people["olga"], 403)):
            assert server.request("POST", "/conda/api/tos/upload?lang=en", auth, files={"tos_files": ("en.txt", b"Be good.")}).status_code == status
        files = [("tos_files", ("en.txt", b"Be good.")), ("tos_files", ("de.txt", "Sei artig, \u00fcberall.".encode()))]
        wrong = server.request("POST", "/conda/api/tos/upload?lang=en", server.admin, files=files)
        assert wrong.status_code == 400 and "does not match the number of uploaded files" in wrong.json()["detail"]
        assert server.request("POST", "/conda/api/tos/upload?lang=en&lang=de", server.admin, files=files).status_code == 201

        terms = server.get("/conda/api/tos").json()
        assert set(terms) == {"id", "uploader_id", "files", "time_created"}
        assert [(file["language"], file["filename"], file["content"]) for file in terms["files"]] == [
            ("en", "en.txt", "Be good."), ("de", "de.txt", "Sei artig, \u00fcberall.")]
        assert [file["language"] for file in server.get("/conda/api/tos?lang=de").json()["files"]] == ["de"]

        status = server.get("/conda/api/tos/status", people["ada"])
        assert (status.status_code, status.json()) == (201, None)
        status, answer = publish_as("ada", "2.0")
        assert (status, answer["detail"]) == (403, "terms of service is not signed for ada")
        assert publish_as("mia", "2.0")[0] == 403 and publish_as("olga", "2.0")[0] == 201, "owners need not"
        assert "acme-terms-2.0-h_0.conda" in repodata(server, "noarch", channel="terms")["packages.conda"]
        assert upload(server, Package("acme-terms"), channel="plain", auth=people["ada"]).status_code == 201, "not asked for there"

        signed = server.request("POST", "/conda/api/tos/sign", people["ada"])
        assert (signed.status_code, signed.json()) == (201, "TOS signed for ada")
        again = server.request("POST", f"/conda/api/tos/sign?tos_id={terms['id']}", people["ada"])
        assert again.status_code == 201 and again.json().startswith("TOS already signed for ada at ")
        assert server.get("/conda/api/tos/status", people["ada"]).json()["tos_id"] == terms["id"]
        assert publish_as("ada", "3.0")[0] == 201

        assert server.request("POST", "/conda/api/tos/upload?lang=en", server.admin, files=files[:1]).status_code == 201
        assert publish_as("ada", "4.0")[0] == 403, "new terms are signed anew"

    def test_what_is_not_there(self, server: Dev, people: dict):
        for query, status in (("?tos_id=zebra", 403), ("?tos_id=00000000-0000-0000-0000-000000000000", 404)):
            assert server.request("POST", f"/conda/api/tos/sign{query}", people["ada"]).status_code == status
        assert server.request("POST", "/conda/api/tos/sign").status_code == 401


class TestZchunk:
    def unzck(self, folder: Path, data: bytes) -> bytes:
        """What Debian's zchunk reads, all checksums checked."""
        (folder / "repodata.json.zck").write_bytes(data)
        subprocess.run(["unzck", "repodata.json.zck"], cwd=folder, check=True, capture_output=True)
        return (folder / "repodata.json").read_bytes()

    def chunks(self, folder: Path) -> dict[str, int]:
        """The checksums of the chunks of the file that was read last, with their sizes."""
        told = subprocess.run(["zck_read_header", "-c", "repodata.json.zck"], cwd=folder, check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in told.split("Chunk Checksum")[1].splitlines()[1:]]
        return {line[1]: int(line[3]) for line in lines if line}

    def test_it_is_the_present_repodata_in_chunks(self, server: Dev, tmp_path: Path):
        publish(server, *(Package(f"acme-{number:03}", kind="conda" if number % 3 else "tar.bz2") for number in range(60)), channel="chunked")
        first = get(server, "noarch/repodata.json.zck", channel="chunked")
        assert first.status_code == 200 and self.unzck(tmp_path, first.content) == get(server, "noarch/repodata.json", channel="chunked").content
        before = self.chunks(tmp_path)
        publish(server, Package("acme-000", "2.0"), channel="chunked")
        second = get(server, "noarch/repodata.json.zck", channel="chunked")
        assert self.unzck(tmp_path, second.content) == get(server, "noarch/repodata.json", channel="chunked").content
        after = self.chunks(tmp_path)
        assert before.keys() & after.keys() and before.keys() - after.keys(), "some chunks are as they were"
        assert first.headers["ETag"] != second.headers["ETag"]
        same = get(server, "noarch/repodata.json.zck", channel="chunked", headers={"If-None-Match": second.headers["ETag"]})
        assert same.status_code == 304
        pieces = [get(server, "noarch/repodata.json.zck", channel="chunked", headers={"Range": f"bytes={start}-{start + 99}"}).content
                  for start in range(0, len(second.content), 100)]
        assert b"".join(pieces) == second.content

    def test_it_is_switched_on(self, server: Dev):
        assert get(server, "noarch/repodata.json.zck", channel="plain").status_code == 404
        assert get(server, "osx-64/repodata.json.zck", channel="chunked").status_code == 404
        assert get(server, "noarch/repodata.json.zck", channel="chunked").status_code == 200


# Everything that conda-package-streaming finds in a package, as paths with digests.
LIST = """
import hashlib, json, sys
from conda_package_streaming.package_streaming import stream_conda_component, stream_conda_info
found = {}
components = ["pkg", "info"] if sys.argv[1].endswith(".conda") else ["info"]
for component in components:
    for tar, member in stream_conda_component(sys.argv[1], component=component):
        assert member.name not in found
        data = tar.extractfile(member).read() if member.isfile() else b""
        found[member.name] = [component if len(components) == 2 else None, hashlib.sha256(data).hexdigest(), oct(member.mode), member.mtime, member.linkname]
print(json.dumps(found))
"""


class TestTransmutation:
    def listed(self, tools: Path, file: Path, content: bytes) -> dict[str, list]:
        file.write_bytes(content)
        done = subprocess.run([tools / "python", "-c", LIST, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def twin(self, server: Dev, package: Package, seconds: float = 30) -> dict:
        filename = f"{package.stem}.conda"
        wait_until(lambda: filename in repodata(server, package.subdir, channel="transmuted")["packages.conda"], seconds, filename)
        return repodata(server, package.subdir, channel="transmuted")["packages.conda"][filename]

    def test_a_package_gets_a_twin_with_the_same_contents(self, server: Dev, tools: Path, tmp_path: Path):
        files = {"bin/tool": b"#!" + bytes(range(256)) * 4096, "share/" + "deep/" * 30 + "x.txt": b"long", "empty": b"", "information": b"no info"}
        package = Package("acme-twin", subdir="linux-64", kind="tar.bz2", files=files, run_exports={"weak": ["acme-twin"]}, depends=["acme-base"])
        publish(server, package, channel="transmuted")
        record = self.twin(server, package)
        content = get(server, f"linux-64/{package.stem}.conda", channel="transmuted").content
        old = package.content()
        assert record["sha256"] == hashlib.sha256(content).hexdigest() and record["size"] == len(content)
        assert (record["legacy_bz2_md5"], record["legacy_bz2_size"]) == (hashlib.md5(old).hexdigest(), len(old))
        original = repodata(server, "linux-64", channel="transmuted")["packages"][package.filename]
        own = {"md5", "sha256", "size", "indexed_timestamp", "legacy_bz2_md5", "legacy_bz2_size"}
        assert {key: value for key, value in record.items() if key not in own} == {key: value for key, value in original.items() if key not in own}
        before = self.listed(tools, tmp_path / package.filename, old)
        after = self.listed(tools, tmp_path / f"{package.stem}.conda", content)
        assert {name: entry[1:] for name, entry in before.items()} == {name: entry[1:] for name, entry in after.items()}
        assert {name for name, entry in after.items() if entry[0] == "info"} == {name for name in before if name.startswith("info/")}
        exports = f"/conda/api/channels/transmuted/packages/acme-twin/versions/linux-64/{package.stem}.conda/run_exports"
        assert server.get(exports).json() == {"weak": ["acme-twin"]}

    def test_rattler_installs_the_twin(self, server: Dev, clients: Path, tmp_path: Path):  # noqa: F811
        package = Package("acme-installed", kind="tar.bz2")
        publish(server, package, channel="transmuted")
        self.twin(server, package)
        assert solved(server, clients, tmp_path, f"{server.url}/conda/get/transmuted", "acme-installed") == [f"{package.stem}.conda"]
        assert (tmp_path / "prefix/share/acme-installed.txt").read_text() == f"{package.stem}\n"

    def test_a_replaced_package_gets_a_new_twin_and_a_foreign_one_stays(self, server: Dev):
        package = Package("acme-again", kind="tar.bz2")
        publish(server, package, channel="transmuted")
        first = self.twin(server, package)
        other = Package("acme-again", kind="tar.bz2", depends=["acme-base"])
        assert upload(server, other, channel="transmuted", force="true").status_code == 201
        wait_until(lambda: self.twin(server, package)["depends"] == ["acme-base"], 30, "a new twin")
        assert self.twin(server, package)["legacy_bz2_md5"] != first["legacy_bz2_md5"]
        foreign = Package("acme-foreign")
        publish(server, foreign, Package("acme-foreign", kind="tar.bz2"), Package("acme-last", kind="tar.bz2"), channel="transmuted")
        self.twin(server, Package("acme-last"))
        assert "legacy_bz2_md5" not in self.twin(server, foreign)

    def test_a_channel_that_is_switched_on_later_transmutes_what_is_there(self, server: Dev):
        package = Package("acme-early", kind="tar.bz2")
        server.write_channel("switched", {"format": "conda", "visibility": "public"})
        wait_until(lambda: get(server, "noarch/repodata.json", channel="switched").status_code == 200, 10, "the channel")
        publish(server, package, channel="switched")
        server.write_channel("switched", {"format": "conda", "visibility": "public", "conda": {"transmutation": True}})

        def is_there() -> bool:
            server.postgres.sql(f"UPDATE \"{server.schema}\".job SET run_at = now() WHERE kind = 'conda-transmute-all' AND run_at > now()")
            return "acme-early-1.0-h_0.conda" in repodata(server, "noarch", channel="switched")["packages.conda"]

        wait_until(is_there, 30, "the twin", interval=0.5)
