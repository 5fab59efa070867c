"""The walk through Quetz' own documents, with our URL: a test user's key, packages, an installation, a channel, a key for it."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.conda_packages import Package
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.places import TESTS, environment
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.server import Dev
from tests.test_conda import SOLVE
from tests.test_quetz_api import Ours

XTENSOR = [Package("xtensor", "0.24.3", build=build, subdir=subdir, kind="tar.bz2", depends=["xtl >=0.7"])
           for subdir, build in (("linux-64", "h924138e_1"), ("osx-64", "h1b54a9f_1"), ("osx-arm64", "hf86a087_1"))]


class AsQuetz(Ours):
    """`granary dev` as somebody starts it who wants to try it: it prints a key, as `quetz run --dev` does."""

    key = ""

    def is_ready(self) -> bool:
        found = [re.match(r'Test API key created for user "(\w+)": (\S+)', line) for line in self.output]
        self.key = next((line[2] for line in found if line), "")
        return super().is_ready() and bool(self.key)


@pytest.fixture(scope="module")
def dev(postgres: Postgres) -> Iterator[AsQuetz]:
    schema = fresh_schema()
    with tempfile.TemporaryDirectory(prefix="granary-test-") as folder:
        try:
            with watched(AsQuetz(Path(folder), postgres, schema)) as server:
                yield server
        finally:
            postgres.drop(schema)


@pytest.fixture(scope="module")
def clients() -> Path:
    return environment(TESTS / "peers" / "conda-clients.txt") / "bin"


def run(folder: Path, command: str, clients: Path, **variables: str) -> str:
    """A line of the documents, in a shell."""
    done = subprocess.run(["sh", "-ec", command], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
                          env={"PATH": f"{clients}:/usr/bin:/bin", "HOME": str(folder), **variables})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_walk(dev: AsQuetz, clients: Path, tmp_path: Path):
    base = f"{dev.url}/conda"
    packages = XTENSOR + [Package("xtl", "0.7.4", subdir="linux-64")]
    for package in packages:
        file = tmp_path / package.name / package.subdir / package.filename
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(package.content())
    exports = f"export QUETZ_API_KEY={dev.key}\nexport QUETZ_SERVER_URL={base}\n"
    run(tmp_path, exports + """
quetz-client post_file_to_channel channel0 xtensor/linux-64/xtensor-0.24.3-h924138e_1.tar.bz2
quetz-client post_file_to_channel channel0 xtensor/osx-64/xtensor-0.24.3-h1b54a9f_1.tar.bz2
quetz-client post_file_to_channel channel0 xtensor/osx-arm64/xtensor-0.24.3-hf86a087_1.tar.bz2
quetz-client post_file_to_channel channel0 xtl/linux-64/xtl-0.7.4-h_0.conda
""", clients)
    done = subprocess.run([clients / "python", "-c", SOLVE, f"{base}/get/channel0", tmp_path / "prefix", "xtensor"], capture_output=True,
                          text=True, timeout=120, check=False, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    found = done.stdout
    assert json.loads(found.splitlines()[-1]) == ["xtensor-0.24.3-h924138e_1.tar.bz2", "xtl-0.7.4-h_0.conda"]
    assert (tmp_path / "prefix/share/xtensor.txt").exists()

    # Using quetz: a channel, and a key for it.
    channel = {"name": "my-channel", "description": "Description for my-channel", "private": False}
    key = {"X-API-Key": dev.key}
    assert requests.post(f"{base}/api/channels", json=channel, headers=key, timeout=30).status_code == 201
    wanted = {"description": "my-test-token", "roles": [{"role": "owner", "channel": "my-channel"}]}
    made = requests.post(f"{base}/api/api-keys", json=wanted, headers=key, timeout=30)
    assert made.status_code == 201
    token = dev.secrets.add(made.json()["key"])
    listed = requests.get(f"{base}/api/api-keys", headers=key, timeout=30).json()
    assert "my-test-token" in [one["description"] for one in listed]
    run(tmp_path, "quetz-client post_file_to_channel my-channel xtl/linux-64/xtl-0.7.4-h_0.conda", clients,
        QUETZ_API_KEY=token, QUETZ_SERVER_URL=base)
    packages = run(tmp_path, f"curl -sf {base}/api/channels/my-channel/packages", clients)
    assert [package["name"] for package in json.loads(packages)] == ["xtl"]
    # The key is for that channel alone.
    refused = requests.post(f"{base}/api/channels/channel0/upload/{XTENSOR[0].filename}", data=XTENSOR[0].content(), headers={"X-API-Key": token}, timeout=30)
    assert refused.status_code == 403


def test_a_proxy_and_a_mirror(dev: AsQuetz, clients: Path, tmp_path: Path):
    """As Quetz' documents make them with curl, of a channel of the same server."""
    base = f"{dev.url}/conda"
    for name in ("libfirst", "libsecond"):
        package = Package(name, subdir="linux-64")
        answer = requests.post(f"{base}/api/channels/channel0/upload/{package.filename}", data=package.content(), headers={"X-API-Key": dev.key}, timeout=30)
        assert answer.status_code == 201
    for mode in ("proxy", "mirror"):
        run(tmp_path, f"""
curl -sf -X POST "{base}/api/channels" \
    -H  "accept: application/json" \
    -H  "Content-Type: application/json" \
    -H  "X-API-Key: ${{QUETZ_API_KEY}}" \
    -d '{{"name":"{mode}-channel",
         "private":false,
         "mirror_channel_url":"{base}/get/channel0",
         "metadata": {{"includelist": ["libf"]}},
         "mirror_mode":"{mode}"}}'
""", clients, QUETZ_API_KEY=dev.key)
        told = requests.get(f"{base}/api/channels/{mode}-channel", timeout=30).json()
        assert (told["mirror_mode"], told["mirror_channel_url"]) == (mode, f"{base}/get/channel0")
    run(tmp_path, f"""
curl -sf -X PUT {base}/api/channels/mirror-channel/actions \
   -H "X-API-Key: ${{QUETZ_API_KEY}}" \
   -d '{{"action": "synchronize"}}'
""", clients, QUETZ_API_KEY=dev.key)

    def shown(channel: str) -> set[str]:
        answer = requests.get(f"{base}/get/{channel}/linux-64/repodata.json", timeout=30)
        return set(answer.json()["packages.conda"]) if answer.status_code == 200 else set()

    assert shown("proxy-channel") == {"libfirst-1.0-h_0.conda"}
    wait_until(lambda: shown("mirror-channel") == {"libfirst-1.0-h_0.conda"}, 40, "the mirror", interval=0.3)
    package = Package("libfirst", "2.0")
    for mode in ("proxy", "mirror"):
        refused = requests.post(f"{base}/api/channels/{mode}-channel/upload/{package.filename}", data=package.content(), headers={"X-API-Key": dev.key}, timeout=30)
        assert (refused.status_code, refused.json()["detail"]) == (405, f"This method is not implemented for {mode} channels")


def test_quetz_client_manages_channels(dev: AsQuetz, clients: Path, tmp_path: Path):
    """What the library of the client asks for, beside uploads."""
    script = """
import json, os, sys
from quetz_client.client import QuetzClient
client = QuetzClient.from_token(os.environ["QUETZ_SERVER_URL"], os.environ["QUETZ_API_KEY"])
client.set_channel("by-client", private=False)
client.set_channel_member("carol", "maintainer", "by-client")
members = [[member.role, member.user.username] for member in client.yield_channel_members("by-client")]
client.delete_channel_member("carol", "by-client")
left = [member.user.username for member in client.yield_channel_members("by-client")]
channels = [channel.name for channel in client.yield_channels()]
users = sorted(user.username for user in client.yield_users(limit=2))
client.set_role("dave", "member")
role = str([one.role for one in client.get_role("dave")])
packages = [package.name for package in client.yield_packages("channel0", limit=1)]
client.delete_channel("by-client")
print(json.dumps([sorted(members), left, "by-client" in channels, users, role, packages]))
"""
    done = subprocess.run([clients / "python", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
                          env={"QUETZ_SERVER_URL": f"{dev.url}/conda", "QUETZ_API_KEY": dev.key, "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    members, left, listed, users, role, _ = json.loads(done.stdout.splitlines()[-1])
    assert members == [["maintainer", "carol"], ["owner", "alice"]] and left == ["alice"] and listed
    assert {"alice", "bob", "carol", "dave"} <= set(users) and "member" in role


@pytest.fixture(scope="module")
def builder() -> Path:
    return environment(TESTS / "peers" / "conda-uploads.txt") / "bin"


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {"main": {"format": "conda", "visibility": "public"}}


DIALECTS = {
    "quetz": "upload_package_to_quetz([file], url, 'main', api_key=token)",
    "prefix": "upload_package_to_prefix([file], url, 'main', api_key=token)",
    "artifactory": "upload_package_to_artifactory([file], url, 'main', token=token)",
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["conda", "tar.bz2"])
def test_rattler_build_uploads(server: Dev, builder: Path, tmp_path: Path, dialect: str, kind: str):
    package = Package(f"by-{dialect}", subdir="linux-64", kind=kind)
    file = tmp_path / package.filename
    file.write_bytes(package.content())
    script = f"import sys, rattler_build; file, url, token = sys.argv[1:]; rattler_build.{DIALECTS[dialect]}"
    # Artifactory has its channels where they are read.
    url = f"{server.url}/conda/get" if dialect == "artifactory" else f"{server.url}/conda"
    arguments = [builder / "python", "-c", script, file, url, server.admin[1]]
    environment_ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment_, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert package.filename in server.get("/conda/get/main/linux-64/repodata.json").json()["packages" if kind != "conda" else "packages.conda"]
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment_, check=False)
    assert again.returncode != 0, "it is there already"
    wrong = subprocess.run([*arguments[:-1], "wrong"], capture_output=True, text=True, timeout=60, env=environment_, check=False)
    assert wrong.returncode != 0


def test_a_package_is_put_where_it_belongs(server: Dev):
    package = Package("placed", subdir="linux-64")
    put = lambda subdir: server.request("PUT", f"/conda/get/main/{subdir}/{package.filename}", server.admin, data=package.content())  # noqa: E731
    refused = put("osx-64")
    assert refused.status_code == 400 and "subdir" in refused.json()["detail"]
    assert put("linux-64").status_code == 201
