"""Terminals that get a token by somebody's word in a browser (RFC 8628), by the protocol and by `granary login`."""

import netrc
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.browser import Browser
from tests.harness.issuer import LoginIssuer
from tests.harness.lifetime import fresh_schema
from tests.harness.places import BINARY
from tests.harness.postgres import Postgres
from tests.harness.processes import dies_with_parent
from tests.harness.registry import Registry, store_of
from tests.harness.server import Dev

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DAY = 24 * 3600


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoginIssuer]:
    issuer = LoginIssuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def registry(issuer: LoginIssuer, server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    spec = {"identity": {"maxTokenLifetime": "60d", "providers": [{"name": "sso", "oidc": {"issuer": issuer.url, "clientId": "granary"}}]}}
    registry = Registry(tmp_path_factory.mktemp("registry"), postgres, fresh_schema(), store_of(server), spec=spec).migrate()
    registry.write_channel("tools", {"format": "pypi", "visibility": "private", "permissions": [{"subjects": ["group:tools"], "role": "Owner"}]})
    registry.start()
    yield registry
    registry.assert_no_secrets()
    registry.stop()


def browser_of(registry: Registry, issuer: LoginIssuer, name: str) -> Browser:
    """Somebody who is logged in."""
    issuer.person = {"sub": name, "preferred_username": name, "groups": ["tools"]}
    browser = Browser()
    assert browser.go(f"{registry.url}/-/login/sso?next=/-/whoami").json()["account"] == name
    registry.secrets.add(browser.cookies["granary_session"])
    return browser


@pytest.fixture
def ada(registry: Registry, issuer: LoginIssuer) -> Browser:
    return browser_of(registry, issuer, "ada")


@pytest.fixture(scope="module")
def admin(registry: Registry) -> tuple[str, str]:
    """An admin's token, which ends as all have to here."""
    assert registry.command("user", "create", "root", "--admin").returncode == 0
    return registry.token("root", "--expires-in-days", "1")


def begin(registry: Registry, **fields: object) -> dict:
    answer = registry.request("POST", "/-/device", data={"client_id": "test", **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    registry.secrets.add(answer.json()["device_code"])
    return answer.json()


def poll(registry: Registry, device_code: str, **fields: str) -> requests.Response:
    return registry.request("POST", "/-/device/token", data={"client_id": "test", "grant_type": GRANT, "device_code": device_code, **fields})


def hurry(registry: Registry, postgres: Postgres) -> None:
    """As if the terminal had waited for as long as it has to."""
    postgres.sql(f'UPDATE "{registry.schema}".device SET asked_at = NULL')


def error(answer: requests.Response) -> str:
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def test_somebody_lets_a_terminal_in(registry: Registry, postgres: Postgres, ada: Browser, admin: tuple[str, str]):
    begun = begin(registry, label="laptop <b>", role="Publisher", channel=["pypi/tools", "pypi/x-*"], expires_in=7 * DAY)
    assert begun["interval"] == 5 and begun["expires_in"] == 600
    assert begun["verification_uri"] == f"{registry.url}/-/device" and begun["verification_uri_complete"].endswith(f"?user_code={begun['user_code']}")
    letters = begun["user_code"].replace("-", "")
    assert len(letters) == 8 and not set(letters) & set("AEIOUY")
    assert error(poll(registry, begun["device_code"])) == "authorization_pending"
    page = ada.go(begun["verification_uri_complete"])
    for shown in ("ada", begun["user_code"], "laptop &lt;b&gt;", "127.0.0.1", "what a Publisher may", "pypi/tools, pypi/x-*", "7 days"):
        assert shown in page.text, shown
    # A link of somebody else, or a page of theirs, allows nothing.
    assert ada.submit(page, drop=("csrf",), decision="allow").status_code == 403
    hurry(registry, postgres)
    assert error(poll(registry, begun["device_code"])) == "authorization_pending"
    assert "Allowed" in ada.submit(page, decision="allow").text
    hurry(registry, postgres)
    granted = poll(registry, begun["device_code"])
    assert granted.status_code == 200 and granted.headers["Cache-Control"] == "no-store"
    told = granted.json()
    registry.secrets.add(told["access_token"])
    assert told["token_type"] == "Bearer" and told["account"] == "ada" and abs(told["expires_in"] - 7 * DAY) < 60
    who = registry.get("/-/whoami", ("", told["access_token"])).json()
    assert who["account"] == "ada" and who["scope"]["role"] == "Publisher" and who["scope"]["channels"] == ["pypi/tools", "pypi/x-*"]
    # Once, whoever asks.
    assert error(poll(registry, begun["device_code"])) == "expired_token"
    assert ada.submit(page, decision="allow").status_code == 404
    # It outlives the session.
    ada.submit(ada.go(f"{registry.url}/-/login"))
    assert registry.get("/pypi/tools/+simple/", ("", told["access_token"])).status_code == 200
    actions = [row["action"] for row in registry.get("/-/audit?actor=ada", admin).json()["rows"]]
    assert {"allow terminal", "create token"} <= set(actions)


def test_somebody_says_no(registry: Registry, postgres: Postgres, ada: Browser):
    begun = begin(registry)
    page = ada.go(begun["verification_uri_complete"])
    assert "everything that you may" in page.text and "30 days" in page.text
    assert "Refused" in ada.submit(page, 1, decision="refuse").text
    assert error(poll(registry, begun["device_code"])) == "access_denied"
    assert error(poll(registry, begun["device_code"])) == "expired_token"


def test_who_asks_too_often_has_to_slow_down(registry: Registry, postgres: Postgres):
    code = begin(registry)["device_code"]
    assert error(poll(registry, code)) == "authorization_pending"
    for interval in (10, 15):
        answer = poll(registry, code)
        assert error(answer) == "slow_down" and answer.json()["interval"] == interval


def test_a_code_ends(registry: Registry, postgres: Postgres, ada: Browser):
    begun = begin(registry)
    postgres.sql(f"UPDATE \"{registry.schema}\".device SET expires_at = now() - interval '1 second' WHERE user_code = '{begun['user_code'].replace('-', '')}'")
    assert ada.go(begun["verification_uri_complete"]).status_code == 404
    assert error(poll(registry, begun["device_code"])) == "expired_token"


def test_tokens_live_no_longer_than_the_registry_says(registry: Registry, ada: Browser):
    begun = begin(registry, expires_in=1000 * DAY)
    assert "60 days" in ada.go(begun["verification_uri_complete"]).text


@pytest.mark.parametrize("fields", [{"client_id": ""}, {"role": "King"}, {"channel": ""}, {"expires_in": "soon"}, {"expires_in": "0"}, {"expires_in": "-1"},
                                    {"label": "a\nb"}, {"label": "x" * 129}])
def test_what_is_asked_for_has_to_make_sense(registry: Registry, fields: dict):
    answer = registry.request("POST", "/-/device", data={"client_id": "test", **fields})
    assert error(answer) == "invalid_request" and answer.json()["error_description"]


@pytest.mark.parametrize("fields, code", [({"grant_type": "password"}, "unsupported_grant_type"), ({"device_code": "x"}, "invalid_grant"),
                                          ({"device_code": "A" * 43}, "expired_token")])
def test_a_question_for_a_token_has_to_be_one(registry: Registry, fields: dict, code: str):
    assert error(poll(registry, **{"device_code": "A" * 43, **fields})) == code


class TestWhoSaysYes:
    def test_somebody_who_is_not_logged_in_logs_in_first(self, registry: Registry, issuer: LoginIssuer):
        begun = begin(registry)
        browser = Browser()
        page = browser.go(begun["verification_uri_complete"])
        assert page.url.startswith(f"{registry.url}/-/login?next=")
        issuer.person = {"sub": "late", "preferred_username": "late"}
        [link] = [line.split('"')[0] for line in page.text.split('href="')[1:]]
        page = browser.go(f"{registry.url}{link.replace('&amp;', '&')}")
        assert begun["user_code"] in page.text and "late" in page.text
        # What is not a code does not come along.
        answer = Browser().get(f"{registry.url}/-/device?user_code=%2F%2Fevil.example")
        assert answer.headers["Location"] == "/-/login?next=%2F%2D%2Fdevice"

    def test_a_token_lets_nobody_in(self, registry: Registry, admin: tuple[str, str]):
        """Else a narrow token would make a wide one."""
        begun = begin(registry)
        answer = registry.request("POST", "/-/device/confirm", admin, data={"user_code": begun["user_code"], "decision": "allow"})
        assert answer.status_code == 403
        assert error(poll(registry, begun["device_code"])) == "authorization_pending"

    def test_a_code_is_typed_however_somebody_types(self, registry: Registry, ada: Browser):
        code = begin(registry)["user_code"]
        page = ada.go(f"{registry.url}/-/device")
        for typed in (code.lower(), code.replace("-", ""), f" {code} "):
            assert code in ada.submit(page, user_code=typed).text
        for typed in ("BDFG", "AAAA-AAAA", "<b>"):
            answer = ada.submit(page, user_code=typed)
            assert answer.status_code == 404 and "<b>" not in answer.text

    def test_codes_are_not_guessed(self, registry: Registry, issuer: LoginIssuer):
        eve = browser_of(registry, issuer, "eve")
        begun = begin(registry)
        for _ in range(10):
            assert eve.get(f"{registry.url}/-/device?user_code=BBBB-BBBB").status_code == 404
        for url in ("/-/device?user_code=BBBB-BBBB", f"/-/device?user_code={begun['user_code']}"):
            answer = eve.get(f"{registry.url}{url}")
            assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
        answer = eve.post(f"{registry.url}/-/device/confirm", data={
            "user_code": begun["user_code"], "decision": "allow", "csrf": eve.get(f"{registry.url}/-/whoami").json()["csrfToken"]})
        assert answer.status_code == 429
        # Others from there are not locked out.
        assert begun["user_code"] in browser_of(registry, issuer, "frank").go(begun["verification_uri_complete"]).text

    def test_few_terminals_of_one_network_wait_at_a_time(self, registry: Registry, postgres: Postgres):
        for _ in range(50):
            answer = registry.request("POST", "/-/device", data={"client_id": "test"})
            if answer.status_code != 200:
                break
        assert registry.request("POST", "/-/device", data={"client_id": "test"}).status_code == 429
        postgres.sql(f'DELETE FROM "{registry.schema}".device')
        begin(registry)


class Terminal:
    """`granary login` in a process of its own."""

    def __init__(self, registry: Registry, home: Path, *options: str):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRANARY_") and name != "NETRC"}
        self.process = subprocess.Popen(
            [BINARY, "login", registry.url, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment, "HOME": str(home)}, preexec_fn=dies_with_parent)
        first = self.process.stderr.readline()
        assert first.startswith("Open "), first + self.process.stderr.read()
        self.page = first.removeprefix("Open ").strip()
        self.code = self.process.stderr.readline().split()[-1]

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and what it printed on both ways."""
        out, told = self.process.communicate(timeout=60)
        return self.process.returncode, out, told


class TestCommand:
    def test_it_prints_a_token(self, registry: Registry, tmp_path: Path, ada: Browser):
        terminal = Terminal(registry, tmp_path, "--label", "from a test & co", "--role", "reader", "--channel", "pypi/tools", "--expires", "2h")
        page = ada.go(terminal.page)
        assert terminal.code in page.text and "from a test &amp; co" in page.text and "2 hours" in page.text
        ada.submit(page, decision="allow")
        code, out, told = terminal.end()
        assert code == 0 and "Logged in as ada" in told, told
        token = out.strip()
        registry.secrets.add(token)
        assert out.count("\n") == 1 and token not in told
        assert registry.get("/pypi/tools/+simple/", ("", token)).status_code == 200
        assert registry.get("/-/whoami", ("", token)).json()["scope"]["role"] == "Reader"
        assert not (tmp_path / ".netrc").exists()

    def test_it_writes_the_token_where_others_find_it(self, registry: Registry, tmp_path: Path, ada: Browser):
        file = tmp_path / ".netrc"
        file.write_text("# kept\nmachine other.example login a password b\nmachine 127.0.0.1 login old password old\n")
        file.chmod(0o644)
        terminal = Terminal(registry, tmp_path, "--netrc")
        ada.submit(ada.go(terminal.page), decision="allow")
        code, out, told = terminal.end()
        assert code == 0 and out == "" and str(file) in told, told
        login, _, token = netrc.netrc(str(file)).authenticators("127.0.0.1")
        registry.secrets.add(token)
        assert login == "ada" and netrc.netrc(str(file)).authenticators("other.example") == ("a", "", "b")
        assert file.read_text().startswith("# kept\n") and "old" not in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        found = subprocess.run(["curl", "--silent", "--fail", "--netrc-file", file, f"{registry.url}/-/whoami"], capture_output=True, text=True, timeout=30)
        assert found.returncode == 0 and '"account":"ada"' in found.stdout.replace(" ", "")

    def test_somebody_says_no(self, registry: Registry, tmp_path: Path, ada: Browser):
        terminal = Terminal(registry, tmp_path)
        ada.submit(ada.go(terminal.page), 1, decision="refuse")
        code, out, told = terminal.end()
        assert code != 0 and out == "" and "refused" in told

    def test_a_registry_that_comes_back_is_asked_again(self, registry: Registry, tmp_path: Path, ada: Browser):
        terminal = Terminal(registry, tmp_path)
        ada.submit(ada.go(terminal.page), decision="allow")
        registry.stop()
        time.sleep(6)
        registry.start()
        code, out, told = terminal.end()
        assert code == 0, told
        registry.secrets.add(out.strip())

    def test_what_is_no_registry(self, tmp_path: Path, issuer: LoginIssuer):
        for url, reason in ((issuer.url, "404"), ("http://127.0.0.1:9", "the registry")):
            done = subprocess.run([BINARY, "login", url], capture_output=True, text=True, timeout=60)
            assert done.returncode != 0 and reason in done.stderr, done.stderr
