"""`granary import devpi` beside a devpi-server: its own export, and each answer of the table asked of the server itself."""

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests.harness.dists import wheel
from tests.harness.importing import granary_import, peer, table
from tests.harness.processes import dies_with_parent, free_port, wait_until

PASSWORDS = {"root": "pw-root", "ada": "pw-ada", "bob": "pw-bob", "an-unnamed-user": "pw-stranger"}
INDEXES = {
    "ada/dev": {"volatile": True, "acl_upload": ["ada", "bob"], "title": "Ada's"},
    "ada/rel": {"volatile": False, "acl_upload": ["ada", "bob"]},
    "ada/open": {"volatile": True, "acl_upload": [":ANONYMOUS:"]},
    "bob/staff": {"volatile": True, "acl_upload": [":AUTHENTICATED:"]},
    "bob/closed": {"volatile": False, "acl_upload": ["ada"]},
}


class Server:
    """A devpi-server with the users and indexes above, and one that mirrors nothing that is there."""

    def __init__(self, folder: Path):
        self.programs = peer("devpi")
        self.data = folder / "data"
        self.url = f"http://127.0.0.1:{free_port()}"
        subprocess.run([self.programs / "devpi-init", "--serverdir", self.data, "--no-root-pypi", "--root-passwd", PASSWORDS["root"]],
                       check=True, capture_output=True)
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [self.programs / "devpi-server", "--serverdir", self.data, "--host", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1],
                 "--argon2-memory-cost", "1024"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_parent)
        wait_until(self.answers, 120, "devpi-server", interval=0.2)
        for user, password in PASSWORDS.items():
            if user != "root":
                self.ask("PUT", f"/{user}", None, json={"password": password}).raise_for_status()
        for name, config in INDEXES.items():
            self.ask("PUT", f"/{name}", name.split("/")[0], json=config).raise_for_status()
        mirror = {"type": "mirror", "mirror_url": "http://127.0.0.1:9/simple/"}
        self.ask("PUT", "/root/far", "root", json=mirror).raise_for_status()
        self.uploads = 0

    def answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return requests.get(f"{self.url}/+api", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def ask(self, method: str, path: str, user: str | None, **arguments) -> requests.Response:
        return requests.request(method, self.url + path, auth=(user, PASSWORDS[user]) if user else None, timeout=60,
                                headers={"Accept": "application/json"}, **arguments)

    def upload(self, index: str, user: str | None) -> tuple[requests.Response, str]:
        """Uploads a new version of a project."""
        self.uploads += 1
        version = f"1.{self.uploads}"
        file = wheel("some-project", version)
        form = {":action": "file_upload", "name": "some-project", "version": version}
        return self.ask("POST", f"/{index}/", user, data=form, files={"content": (file.filename, file.content)}), version

    def may_administer(self, index: str, user: str | None) -> bool:
        return self.ask("PATCH", f"/{index}", user, json=["description=x"]).status_code == 200

    def allows(self, index: str, user: str | None, action: str) -> bool:
        """What the server does, undone again. Who may change an index may give themselves the rest."""
        if action == "read":
            return self.ask("GET", f"/{index}/+simple/", user).status_code == 200
        if self.may_administer(index, user):
            return True
        if action == "publish":
            return self.upload(index, user)[0].status_code == 200
        if action == "remove":
            uploader = next(iter(INDEXES[index]["acl_upload"]))
            uploaded, version = self.upload(index, {":ANONYMOUS:": None, ":AUTHENTICATED:": "bob"}.get(uploader, uploader))
            uploaded.raise_for_status()
            return self.ask("DELETE", f"/{index}/some-project/{version}", user).status_code == 200
        assert action == "administer"
        return False

    def export(self, folder: Path) -> Path:
        self.stop()
        subprocess.run([self.programs / "devpi-export", "--serverdir", self.data, folder], check=True, capture_output=True)
        return folder

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("devpi"))
    yield running
    running.stop()


def test_a_real_export_and_the_server_it_is_of(server: Server, tmp_path: Path) -> None:
    # Every question that the import will ask, put to the server first: an export needs it stopped.
    users = [None, *PASSWORDS]
    answers = {(index, user, action): server.allows(index, user, action)
               for index in INDEXES for user in users for action in ("read", "publish", "remove", "administer")}
    assert set(answers.values()) == {True, False}

    export = server.export(tmp_path / "export")
    accounts = tmp_path / "users"
    run = granary_import("devpi", export, "--users-file", accounts, "--registry", "packages", "--prove", "--table", tmp_path / "table")
    assert run.code == 0, run.report
    assert ", 0 not\n" in run.report
    rows = [row for row in table(tmp_path / "table") if not row.get("groups")]
    assert {(row["channel"], row["user"], row["action"]) for row in rows} == set(answers)
    assert [row for row in rows if row["allowed"] != answers[row["channel"], row["user"], row["action"]]] == []

    channels = {document["spec"]["name"]: document for document in yaml.safe_load_all(run.yaml)}
    assert set(channels) == set(INDEXES)
    assert channels["ada/dev"]["spec"] == {
        "registryRef": {"name": "packages"}, "name": "ada/dev", "format": "pypi", "title": "Ada's", "description": "x",
        "visibility": "public", "pypi": {"allowOverwrite": True},
        "permissions": [{"subjects": ["user:ada"], "role": "Owner"}, {"subjects": ["user:bob"], "role": "Maintainer"}],
    }
    assert channels["ada/rel"]["spec"]["permissions"][1] == {"subjects": ["user:bob"], "role": "Publisher"}
    assert "pypi" not in channels["ada/rel"]["spec"]
    assert "not carried over: root/far: it mirrors http://127.0.0.1:9/simple/" in run.report
    assert granary_import("devpi", export, "--strict").code == 2

    lines = dict(line.split(": ", 1) for line in accounts.read_text().splitlines())
    assert set(lines) == set(PASSWORDS) and stat.S_IMODE(accounts.stat().st_mode) == 0o600
    check = "import sys, json, argon2\nfor hash, word in json.load(sys.stdin): argon2.PasswordHasher().verify(hash, word)"
    subprocess.run([server.programs / "python", "-c", check], check=True, text=True,
                   input=json.dumps([[lines[user], password] for user, password in PASSWORDS.items()]))
    assert not [hash for hash in lines.values() if hash in run.yaml + run.report]

    refused = granary_import("devpi", server.data)
    assert refused.code == 1 and "devpi-export --serverdir" in refused.report
