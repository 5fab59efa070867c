"""Every kind of credential, in every way that clients carry one, and each once it has ended."""

import configparser
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.harness.clients import Desk
from tests.harness.credentials import KINDS, Credential, Everybody
from tests.harness.dists import Dist, wheel
from tests.harness.places import venv_program
from tests.harness.postgres import Postgres
from tests.harness.registry import store_of
from tests.harness.server import JSON_INDEX, Dev

DIST = wheel("acme-tool")


@pytest.fixture(scope="module")
def everybody(server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    """A registry that knows all kinds of credentials, with a file in its private channel."""
    everybody = Everybody(tmp_path_factory.mktemp("everybody"), postgres, store_of(server))
    try:
        everybody.registry.start()
        everybody.registry.wait_for_channel("private")
        everybody.registry.publish(DIST, channel="private")
        yield everybody
    finally:
        everybody.close()


@pytest.fixture
def desk(tmp_path: Path, everybody: Everybody) -> Desk:
    """A place to run clients from, against that registry."""
    return Desk(tmp_path, everybody.registry)


# curl


def basic(user: str) -> Callable[[Credential], str]:
    """As the password of a user of this name."""
    return lambda credential: f'user = "{quoted(user)}:{quoted(credential.secret)}"'


def header(name: str, before: str = "") -> Callable[[Credential], str]:
    """In a header."""
    return lambda credential: f'header = "{name}: {before}{quoted(credential.secret)}"'


def quoted(text: str) -> str:
    """As it stands between quotes in curl's config file."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


# Lines of curl's config file, from which a secret does not show among the processes.
OF_PASSWORDS: dict[str, Callable[[Credential], str]] = {"Basic": lambda credential: basic(credential.user)(credential)}
OF_TOKENS: dict[str, Callable[[Credential], str]] = {
    **{f"Basic of {user or 'nobody'}": basic(user) for user in ("__token__", "", "somebody-else")},
    "Bearer": header("Authorization", "Bearer "),
    "X-API-Key": header("X-API-Key"),
}


def curl(desk: Desk, url: str, credential: str = "", accept: str = "*/*") -> tuple[int, bytes]:
    """The status and the body that curl gets with this line in its config file."""
    lines = [f'url = "{url}"', f'header = "Accept: {accept}"', 'write-out = "%{stderr}%{http_code}"', "silent", credential]
    done = subprocess.run(["curl", "--disable", "--noproxy", "*", "--config", "-"], input="\n".join(lines).encode(), capture_output=True,
                          timeout=30, env=desk.environment)
    assert done.returncode == 0, done.stderr
    return int(done.stderr), done.stdout


def addresses(everybody: Everybody) -> list[str]:
    """Who am I, what is there, and the file itself."""
    registry = everybody.registry
    return [f"{registry.url}/-/whoami", f"{registry.url}/pypi/private/+simple/{DIST.name}/",
            registry.file_url(DIST.name, DIST.filename, channel="private")]


@pytest.mark.parametrize("kind", KINDS)
def test_curl_with_each_kind_of_credential_until_it_ends(everybody: Everybody, desk: Desk, kind: str):
    credential = KINDS[kind](everybody)
    ways = OF_TOKENS if credential.token else OF_PASSWORDS
    whoami, index, file = addresses(everybody)
    for way, write in ways.items():
        line = write(credential)
        status, body = curl(desk, whoami, line)
        assert status == 200, (way, body)
        assert json.loads(body)["actor"] == credential.actor, way
        status, body = curl(desk, index, line, JSON_INDEX)
        assert status == 200 and [listed["filename"] for listed in json.loads(body)["files"]] == [DIST.filename], way
        assert curl(desk, file, line) == (200, DIST.content), way
    credential.end()
    for way, write in ways.items():
        assert [curl(desk, url, write(credential))[0] for url in (whoami, index, file)] == [401] * 3, way


def test_without_a_credential_nothing_is_to_be_had(everybody: Everybody, desk: Desk):
    assert [curl(desk, url)[0] for url in addresses(everybody)] == [401] * 3


def test_a_password_is_no_token(everybody: Everybody, desk: Desk):
    """Without the name that it belongs to, a password is nothing."""
    credential = everybody.password()
    for way, write in OF_TOKENS.items():
        assert {curl(desk, url, write(credential))[0] for url in addresses(everybody)} == {401}, way


# Clients that find their credentials by themselves


KEYRING = '''
import json, os
from pathlib import Path
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential

class Keyring(KeyringBackend):
    """Passwords by service and user name, in a file."""
    priority = 1

    def _held(self):
        return json.loads(Path(os.environ["ACME_KEYRING"]).read_text())

    def set_password(self, service, username, password):
        Path(os.environ["ACME_KEYRING"]).write_text(json.dumps([*self._held(), [service, username, password]]))

    def get_password(self, service, username):
        return next((password for held, user, password in self._held() if (held, user) == (service, username)), None)

    def get_credential(self, service, username):
        for held, user, password in self._held():
            if held == service and username in (None, user):
                return SimpleCredential(user, password)
        return None
'''


def keyring(desk: Desk, auth: tuple[str, str]) -> dict[str, str]:
    """The environment of a client that is given a keyring with this entry."""
    (desk.folder / "acme_keyring.py").write_text(KEYRING)
    held = desk.folder / "keyring.json"
    services = [urlsplit(desk.server.url).netloc, desk.index_url("private"), desk.upload_url("private")]
    held.write_text(json.dumps([[service, *auth] for service in services]))
    # As a program of somewhere else: pip passes over the one of its own environment.
    programs = desk.folder / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "keyring").exists():
        (programs / "keyring").symlink_to(venv_program("keyring"))
    return {"PYTHONPATH": str(desk.folder), "PYTHON_KEYRING_BACKEND": "acme_keyring.Keyring", "ACME_KEYRING": str(held),
            "PATH": f"{programs}:{desk.environment['PATH']}"}


def named(url: str, user: str) -> str:
    """A URL with a user name alone."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(user, safe='')}@{parts.netloc}").geturl()


# A run of a client: whether it succeeds, with these credentials or with none.
Run = Callable[[Desk, tuple[str, str] | None, bool], None]


def pip(desk: Desk, url: str, ok: bool, *options: str, **environment: str) -> None:
    """Downloads the file with pip; or is told that it has to log in."""
    target = desk.folder / "got"
    out = desk.pip("download", "--no-deps", "--index-url", url, *options, "-d", target, DIST.name, ok=ok, **environment)
    if ok:
        assert (target / DIST.filename).read_bytes() == DIST.content
        (target / DIST.filename).unlink()
    else:
        assert "401" in out or "No matching distribution" in out, out


def uv(desk: Desk, ok: bool, *options: str, **environment: str) -> None:
    """Installs the file with uv; or is told that it has to log in."""
    target = desk.folder / "target"
    out = desk.uv("pip", "install", "--no-cache", "--reinstall", "--target", target, *options, DIST.name, ok=ok, **environment)
    if ok:
        assert desk.installed_version(target, DIST.name) == DIST.version
    else:
        assert "401" in out or "not found in the package registry" in out, out


def pip_url(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    pip(desk, desk.index_url("private", auth), ok)


def pip_netrc(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    if auth:
        desk.netrc(auth)
    pip(desk, desk.index_url("private"), ok)


def pip_keyring_import(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    pip(desk, desk.index_url("private"), ok, "--keyring-provider", "import", **(keyring(desk, auth) if auth else {}))


def pip_keyring_subprocess(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    user = auth[0] if auth else "__token__"
    pip(desk, named(desk.index_url("private"), user), ok, "--keyring-provider", "subprocess", **(keyring(desk, auth) if auth else {}))


def uv_url(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    uv(desk, ok, "--default-index", desk.index_url("private", auth))


def uv_netrc(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    if auth:
        desk.netrc(auth)
    uv(desk, ok, "--default-index", desk.index_url("private"))


def uv_environment(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    given = {"UV_INDEX_ACME_USERNAME": auth[0], "UV_INDEX_ACME_PASSWORD": auth[1]} if auth else {}
    uv(desk, ok, "--default-index", f"acme={desk.index_url('private')}", **given)


def uv_keyring(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    user = auth[0] if auth else "__token__"
    uv(desk, ok, "--keyring-provider", "subprocess", "--default-index", named(desk.index_url("private"), user), **(keyring(desk, auth) if auth else {}))


def published(desk: Desk, ok: bool, command: Callable[[Path], str]) -> None:
    """Publishes another version by a command that answers what the client printed; or the client is told that it has to log in."""
    dist = another(desk)
    [path] = desk.write(dist)
    out = command(path)
    if ok:
        assert dist.filename in desk.server.files(dist.name, channel="private")
    else:
        assert "401" in out or "No username" in out or "Credential not found" in out or "Missing credentials" in out, out


def another(desk: Desk) -> Dist:
    """A file that is not there yet."""
    there = desk.server.files("acme-published", channel="private")
    return wheel("acme-published", f"1.{len(there)}")


def twine(desk: Desk, ok: bool, path: Path, *options: str, **environment: str) -> str:
    return desk.run(venv_program("twine"), "upload", "--non-interactive", "--disable-progress-bar", *options, path, ok=ok, **environment)


def twine_keyring(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    user = auth[0] if auth else "__token__"
    environment = keyring(desk, auth) if auth else {}
    published(desk, ok, lambda path: twine(desk, ok, path, "--repository-url", desk.upload_url("private"), "-u", user, **environment))


def twine_pypirc(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    settings = configparser.RawConfigParser()
    settings["distutils"] = {"index-servers": "acme"}
    settings["acme"] = {"repository": desk.upload_url("private"), **({"username": auth[0], "password": auth[1]} if auth else {})}
    with open(desk.home / ".pypirc", "w") as file:
        settings.write(file)
    published(desk, ok, lambda path: twine(desk, ok, path, "--repository", "acme"))


def twine_environment(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    given = {"TWINE_USERNAME": auth[0], "TWINE_PASSWORD": auth[1]} if auth else {}
    published(desk, ok, lambda path: twine(desk, ok, path, "--repository-url", desk.upload_url("private"), **given))


def uv_publish_environment(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    given = {"UV_PUBLISH_USERNAME": auth[0], "UV_PUBLISH_PASSWORD": auth[1]} if auth else {}
    published(desk, ok, lambda path: desk.uv("publish", "--trusted-publishing", "never", "--publish-url", desk.upload_url("private"), path, ok=ok, **given))


def uv_publish_keyring(desk: Desk, auth: tuple[str, str] | None, ok: bool) -> None:
    user = auth[0] if auth else "__token__"
    environment = keyring(desk, auth) if auth else {}
    published(desk, ok, lambda path: desk.uv("publish", "--trusted-publishing", "never", "--keyring-provider", "subprocess", "-u", user,
                                             "--publish-url", desk.upload_url("private"), path, ok=ok, **environment))


CLIENTS: dict[str, Run] = {
    "pip, URL": pip_url,
    "pip, netrc": pip_netrc,
    "pip, keyring imported": pip_keyring_import,
    "pip, keyring as a program": pip_keyring_subprocess,
    "uv, URL": uv_url,
    "uv, netrc": uv_netrc,
    "uv, environment": uv_environment,
    "uv, keyring": uv_keyring,
    "uv publish, environment": uv_publish_environment,
    "uv publish, keyring": uv_publish_keyring,
    "twine, keyring": twine_keyring,
    "twine, pypirc": twine_pypirc,
    "twine, environment": twine_environment,
}


@pytest.mark.parametrize("kind", ["password", "API token", "exchanged token"])
@pytest.mark.parametrize("client", CLIENTS)
def test_clients_find_their_credentials_until_these_end(everybody: Everybody, desk: Desk, client: str, kind: str):
    """First with none, which shows that it is this one by which they succeed."""
    run, credential = CLIENTS[client], KINDS[kind](everybody)
    run(desk, None, False)
    run(desk, credential.auth, True)
    credential.end()
    run(desk, credential.auth, False)
