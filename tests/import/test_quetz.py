"""`granary import quetz` beside a Quetz: its own rules over its own database, and some answers of the server itself."""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from tests.harness.conda_packages import Package
from tests.harness.importing import Imported, granary_import, oracle, peer, table
from tests.harness.postgres import Postgres
from tests.harness.processes import dies_with_parent, free_port, wait_until
from tests.harness.quetz import config
from tests.harness.server import Dev

PLAN = {
    "users": {"alice": "owner", "mia": "maintainer", "bob": "member", "carol": None, "dave": None, "an-unnamed-user": None},
    "channels": {"Closed": True, "open": False, "empty": True},
    "packages": ["xtensor", "xtl", "some-package"],
    "members": [["Closed", "bob", "owner"], ["Closed", "carol", "member"], ["open", "carol", "maintainer"], ["open", "bob", "member"]],
    "packageMembers": [["Closed", "xtensor", "dave", "member"], ["Closed", "xtl", "dave", "maintainer"], ["Closed", "xtl", "carol", "owner"],
                       ["open", "xtl", "dave", "owner"], ["open", "xtensor", "bob", "maintainer"]],
    "keys": [["bob", "of-all", []],
             ["bob", "of-ci", [{"channel": "Closed", "package": None, "role": "maintainer"}, {"channel": "open", "package": "xtl", "role": "member"}]]],
}


class Quetz:
    """A deployment of Quetz with the people above."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.database = folder / "quetz.sqlite"
        (folder / "config.toml").write_text(config(self.database))
        self.programs = peer("quetz")
        self.run("create", folder / "deployment", "--copy-conf", folder / "config.toml")
        self.variables = {"QUETZ_CONFIG_FILE": str(folder / "deployment" / "config.toml")}
        (folder / "plan").write_text(json.dumps(PLAN))
        oracle("quetz", "quetz_fill.py", folder / "plan", variables=self.variables)
        self.process: subprocess.Popen | None = None

    def run(self, *arguments: object) -> None:
        run = subprocess.run([self.programs / "quetz", *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    def start(self) -> str:
        """Its URL; it is started once."""
        if self.process is None:
            self.url = self.launch()
        return self.url

    def launch(self) -> str:
        port = free_port()
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([self.programs / "quetz", "start", ".", "--host", "127.0.0.1", "--port", str(port)],
                                            cwd=self.folder / "deployment", stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_parent)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                return requests.get(f"{url}/health/ready", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(answers, 120, "quetz", interval=0.2)
        return url

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)


@contextmanager
def closing_after(server: Dev) -> Iterator[Dev]:
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def quetz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quetz]:
    deployment = Quetz(tmp_path_factory.mktemp("quetz"))
    yield deployment
    deployment.stop()


def test_members_and_the_rules_of_the_server(quetz: Quetz, tmp_path: Path) -> None:
    run = granary_import("quetz", quetz.database, "--prove", "--table", tmp_path / "table")
    assert run.code == 0, run.report
    assert ", 0 not\n" in run.report
    answer = oracle("quetz", "quetz_rules.py", tmp_path / "table", variables=quetz.variables)
    assert answer["differing"] == [] and answer["compared"] > 150
    documents = {document["metadata"]["name"]: document["spec"] for document in yaml.safe_load_all(run.yaml)}
    assert documents["closed"] == {
        "name": "Closed", "format": "conda", "description": "about Closed", "visibility": "private", "permissions": [
            {"subjects": ["user:bob"], "role": "Owner"},
            {"subjects": ["user:carol"], "role": "Reader"},
            {"subjects": ["user:dave"], "role": "Reader", "packages": ["xtensor"]},
            {"subjects": ["user:carol", "user:dave"], "role": "Maintainer", "packages": ["xtl"]},
        ]}
    assert documents["open"]["visibility"] == "public"
    assert documents["empty"] == {"format": "conda", "description": "about empty", "visibility": "private"}
    assert "alice is an owner or a maintainer of the server" in run.report
    assert "`granary token create --user bob`" in run.report
    assert "--channel conda/Closed --role Maintainer" in run.report and "--channel conda/open --package xtl --role Reader" in run.report
    assert "secret-key-of" not in run.yaml + run.report
    assert granary_import("quetz", "--strict", variables={"QUETZ_SQLALCHEMY_DATABASE_URL": f"sqlite:///{quetz.database}"}).code == 2

    # Some of the same questions to the server itself, logged in as each of them.
    url, compared = quetz.start(), 0
    sessions = {None: requests.Session()}
    for user in PLAN["users"]:
        sessions[user] = requests.Session()
        sessions[user].get(f"{url}/api/dummylogin/{user}", timeout=60, allow_redirects=False)
    for row in table(tmp_path / "table"):
        session, channel = sessions[row["user"]], f"{url}/api/channels/{row['channel']}"
        if row["action"] == "read":
            status = session.get(f"{channel}/packages/{row['package']}", timeout=60).status_code
        elif row["action"] == "administer":
            status = session.post(f"{channel}/members", json={"username": "mia", "role": "member"}, timeout=60).status_code
        else:
            continue
        compared += 1
        assert (status in (200, 201)) == row["allowed"] and status in (200, 201, 401, 403), (row, status)
    assert compared > 50


def test_its_packages_come_along(quetz: Quetz, postgres: Postgres, tmp_path: Path) -> None:
    """Uploaded to Quetz by its own API, then brought along from its database and folder: byte for byte, with time and uploader."""
    packages = [Package("xtensor", "1.0", subdir="linux-64", run_exports={"weak": ["xtensor >=1"]}), Package("xtensor", "1.1", kind="tar.bz2"),
                Package("xtl"), Package("xtl", "2.0"), Package("xtl", "3.0"), Package("xtl", "4.0")]
    url = quetz.start()
    for package in packages:
        content = package.content()
        answer = requests.post(f"{url}/api/channels/Closed/upload/{package.filename}", data=content, timeout=120,
                               params={"sha256": hashlib.sha256(content).hexdigest()}, headers={"X-API-Key": "secret-key-of-of-all"})
        assert answer.status_code == 201, answer.text
    folder = quetz.folder / "deployment" / "channels"
    *whole, changed, missing, other = packages
    place = folder / "Closed" / "noarch"
    (place / changed.filename).write_bytes((place / changed.filename).read_bytes() + b"x")
    (place / missing.filename).unlink()

    server = Dev(tmp_path / "dev", postgres, "quetz_packages", {"closed": {"name": "Closed", "format": "conda", "visibility": "public"}})
    with closing_after(server.start()):
        def bring() -> Imported:
            return granary_import("quetz-packages", "--config", server.config, quetz.database, folder)

        server.wait_for_channel("Closed")
        # Somebody was quicker with another package of the name.
        taken = Package(other.name, other.version, depends=["something"])
        path = f"/conda/api/channels/Closed/upload/{taken.filename}"
        assert server.request("POST", path, server.admin, data=taken.content()).status_code == 201
        first = bring()
        assert first.code == 2 and f"{len(whole)} packages carried over" in first.report and "3 left out" in first.report
        assert f"Closed/noarch/{changed.filename}: the file has other bytes than the old registry knows it by" in first.report
        assert f"Closed/noarch/{missing.filename}: the file cannot be read" in first.report
        assert f"Closed/noarch/{other.filename}: the channel has another package of this name" in first.report
        for package in whole:
            answer = server.get(f"/conda/get/Closed/{package.subdir}/{package.filename}")
            assert answer.content == package.content()
            records = server.get(f"/conda/get/Closed/{package.subdir}/repodata.json").json()
            record = (records["packages.conda"] | records["packages"])[package.filename]
            theirs = requests.get(f"{url}/get/Closed/{package.subdir}/repodata.json", headers={"X-API-Key": "secret-key-of-of-all"}, timeout=60).json()
            old = (theirs["packages.conda"] | theirs["packages"])[package.filename]
            assert record["sha256"] == old["sha256"] and record["depends"] == old["depends"]
            # Listed for the first time when Quetz did, to the second that its database keeps at least.
            assert record["indexed_timestamp"] < time.time() * 1000
        uploaders = postgres.sql('select distinct uploaded_by from "quetz_packages".conda_package order by 1')
        assert ["bob"] in uploaders
        again = bring()
        assert f"0 packages carried over (0 bytes, each compared with its SHA-256), {len(whole)} were there, 3 left out" in again.report
        (place / missing.filename).write_bytes(missing.content())
        assert "1 packages carried over" in bring().report
        none = granary_import("quetz-packages", "--config", server.config, quetz.database, folder, "--channel", "open")
        assert none.code == 0 and "0 left out" in none.report
    postgres.drop("quetz_packages")


def test_postgres_holds_the_same(quetz: Quetz, postgres: Postgres) -> None:
    """The tables of the SQLite file, copied to Postgres with the types that Quetz' models give them there."""
    postgres.sql("CREATE DATABASE quetz")
    postgres.sql(oracle("quetz", "quetz_postgres.py", quetz.database)["sql"], "quetz")
    url = postgres.url_of("quetz").replace("postgresql://", "postgresql+psycopg2://")
    one = granary_import("quetz", quetz.database)
    other = granary_import("quetz", variables={"QUETZ_SQLALCHEMY_DATABASE_URL": url})
    assert other.code == 0, other.report
    assert (one.yaml, one.report) == (other.yaml, other.report)
