"""Identity providers that lie, fail or change, and what the registry makes of them; GitHub; cookies over TLS."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.browser import Browser
from tests.harness.github import GitHub
from tests.harness.identity_provider import IdentityProvider, pass_by
from tests.harness.issuer import Answer, Issuer, LoginIssuer, encoded, unsigned, with_secret
from tests.harness.lifetime import fresh_schema
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.registry import Registry, store_of
from tests.harness.server import Dev
from tests.harness.tls import Terminator

PEOPLE = {"ada": {"email": "ada@example.org", "email_verified": True, "groups": ["team"]},
          "bob": {"email": "bob@example.org", "email_verified": False}}
SECRET = "the secret of a client, as long as a key has to be"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoginIssuer]:
    issuer = LoginIssuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    github = GitHub()
    yield github
    github.close()


@pytest.fixture(scope="module")
def company() -> Iterator[IdentityProvider]:
    """One whose ID tokens say all, so that nothing else is asked."""
    provider = IdentityProvider(PEOPLE, claims_in_id_token=True)
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def registry(issuer: LoginIssuer, github: GitHub, company: IdentityProvider, server: Dev, postgres: Postgres,
             tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    secrets = folder / "secrets"
    secrets.mkdir()
    for name, secret in (("issuer", SECRET), ("github", github.client_secret), ("mail", company.client["secret"])):
        (secrets / name).write_text(secret)
    providers = [
        {"name": "issuer", "oidc": {"issuer": issuer.url, "clientId": "granary", "clientSecretKey": "issuer"}},
        {"name": "github", "groups": ["developers"], "github": {
            "url": github.url, "clientId": github.client_id, "clientSecretKey": "github", "organizations": ["Acme", "other-org"]}},
        company.settings("mail", usernameClaim="email"),
        {"name": "gone", "oidc": {"issuer": "http://127.0.0.1:9", "clientId": "granary"}},
    ]
    spec = {"identity": {"secretsDir": str(secrets), "logins": {"failuresPerAddress": 1000}, "providers": providers},
            "proxy": {"trusted": ["127.0.0.0/8"]}, "admins": {"users": ["grace"]}}
    registry = Registry(folder, postgres, fresh_schema(), store_of(server), spec=spec).migrate()
    registry.start()
    company.client["redirect_uris"] = [f"{registry.url}/-/login/mail/callback"]
    company.start()
    registry.secrets.update({SECRET, github.client_secret, company.client["secret"]})
    yield registry
    registry.assert_no_secrets()
    registry.stop()


@pytest.fixture(autouse=True)
def honest(issuer: LoginIssuer) -> Iterator[None]:
    yield
    issuer.honest()


def log_in(registry: Registry, provider: str = "issuer", browser: Browser | None = None) -> tuple[Browser, requests.Response]:
    browser = browser or Browser()
    page = browser.go(f"{registry.url}/-/login/{provider}?next=/-/whoami")
    registry.secrets.update(value for name, value in browser.cookies.items() if "granary" in name)
    return browser, page


def person(**claims: object) -> dict:
    """Somebody new."""
    name = f"p{uuid.uuid4().hex[:8]}"
    return {"sub": f"sub-{name}", "preferred_username": name, "groups": [], **claims}


def refused(registry: Registry, reason: str, status: int = 502) -> None:
    """A login comes to nothing, for this reason."""
    browser, page = log_in(registry)
    assert page.status_code == status and reason in page.text, page.text
    assert not any("session" in name for name in browser.cookies)
    assert page.headers["Content-Type"].startswith("text/html")


def test_an_honest_issuer_logs_people_in(registry: Registry, issuer: LoginIssuer):
    issuer.person = person(groups=["team"])
    browser, page = log_in(registry)
    assert page.status_code == 200 and page.json()["groups"] == ["team"], page.text
    # Only whoever knows the client's secret may redeem codes; the verifier goes with it.
    assert issuer.redeemed[-1]["grant_type"] == "authorization_code" and len(issuer.redeemed[-1]["code_verifier"]) == 43
    assert "client_secret" not in issuer.redeemed[-1]


# What a token may say that it must not, and why it is refused.
LIES: list[tuple[dict, str]] = [
    ({"aud": "somebody-else"}, "audience"),
    ({"aud": ["granary", "somebody-else"]}, "audience"),
    ({"aud": ["granary", "somebody-else"], "azp": "somebody-else"}, "audience"),
    ({"azp": "somebody-else"}, "audience"),
    ({"aud": None}, "claim aud"),
    ({"iss": "https://issuer.example"}, "another issuer"),
    ({"nonce": "another"}, "nonce"),
    ({"nonce": None}, "nonce"),
    ({"exp": 1}, "expired"),
    ({"exp": None}, "no claim exp"),
    ({"iat": 1}, "expired"),
    ({"iat": 4_000_000_000}, "not valid yet"),
    ({"nbf": 4_000_000_000}, "not valid yet"),
    ({"sub": None}, "no claim sub"),
    ({"sub": ""}, "claim sub"),
    ({"at_hash": encoded(b"0" * 16)}, "access token"),
]


@pytest.mark.parametrize("claims, reason", LIES)
def test_what_an_id_token_says_wrongly(registry: Registry, issuer: LoginIssuer, claims: dict, reason: str):
    issuer.person = person()
    issuer.forge = lambda honest: issuer.sign({name: value for name, value in {**honest, **claims}.items() if value is not None})
    refused(registry, reason)


FORGERIES: dict[str, tuple[Callable[[LoginIssuer, dict], str], str]] = {
    "unsigned": (lambda issuer, claims: unsigned(claims), "not signed as it should be"),
    "by the client's secret": (lambda issuer, claims: with_secret(claims, SECRET.encode()), "not signed as it should be"),
    "by the public key as a secret": (lambda issuer, claims: with_secret(claims, issuer.public_pem(), {"kid": next(iter(issuer.keys))}),
                                      "not signed as it should be"),
    "by somebody else": (lambda issuer, claims: stranger_with_the_same_key_id(issuer).sign(claims), "not signed as it should be"),
    "by a key that it brings along": (lambda issuer, claims: with_own_key(claims), "not signed as it should be"),
    "by an algorithm that is not the key's": (lambda issuer, claims: issuer.sign(claims, {"alg": "RS512"}), "not signed as it should be"),
    "with its signature cut off": (lambda issuer, claims: issuer.sign(claims).rsplit(".", 1)[0] + ".", "not signed as it should be"),
    "with other claims than were signed": (lambda issuer, claims: swapped(issuer, claims), "not signed as it should be"),
    "of another type": (lambda issuer, claims: issuer.sign(claims, {"typ": "logout+jwt"}), "cannot be read"),
    "that is an access token": (lambda issuer, claims: issuer.sign(claims, {"typ": "at+jwt"}), "access token"),
    "with critical extensions": (lambda issuer, claims: issuer.sign(claims, {"crit": ["b64"], "b64": False}), "cannot be read"),
    "that is none": (lambda issuer, claims: "nonsense", "cannot be read"),
    "that is too long": (lambda issuer, claims: issuer.sign({**claims, "x": "x" * 20_000}), "cannot be read"),
}


def stranger_with_the_same_key_id(issuer: Issuer) -> Issuer:
    stranger = LoginIssuer()
    stranger.close()
    stranger.keys = {next(iter(issuer.keys)): next(iter(stranger.keys.values()))}
    return stranger


def with_own_key(claims: dict) -> str:
    stranger = LoginIssuer()
    stranger.close()
    [kid] = stranger.keys
    return stranger.sign(claims, {"jwk": stranger.public_key(kid), "jku": f"{stranger.url}/keys"})


def swapped(issuer: Issuer, claims: dict) -> str:
    header, _, signature = issuer.sign(claims).split(".")
    return ".".join((header, issuer.sign({**claims, "preferred_username": "grace"}).split(".")[1], signature))


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_id_token(registry: Registry, issuer: LoginIssuer, forgery: str):
    forge, reason = FORGERIES[forgery]
    issuer.person = person()
    issuer.forge = lambda claims: forge(issuer, claims)
    refused(registry, reason)


def test_an_id_token_counts_once(registry: Registry, issuer: LoginIssuer):
    issuer.person = person()
    seen: list[str] = []
    issuer.forge = lambda claims: seen.append(issuer.sign({**claims, "jti": "once"})) or seen[0]
    assert log_in(registry)[1].status_code == 200
    # The token of the last login, whose nonce is another; and one of this login by the same name.
    refused(registry, "nonce")
    issuer.forge = lambda claims: issuer.sign({**claims, "jti": "once"})
    refused(registry, "used before", 403)


ANSWERS: list[tuple[str, Answer, int]] = [
    ("/token", Answer({"error": "server_error"}, 500), 503),
    ("/token", Answer({"access_token": "x"}), 503),
    ("/token", Answer(b"<html>", 200), 503),
    ("/token", Answer(b" " * (2 << 20)), 503),
    ("/token", Answer(b"", 307, {"Location": "http://127.0.0.1:9/"}), 503),
    ("/token", Answer({"error": "invalid_grant"}, 400), 502),
]


@pytest.mark.parametrize("path, answer, status", ANSWERS)
def test_an_issuer_that_answers_something_else(registry: Registry, issuer: LoginIssuer, path: str, answer: Answer, status: int):
    issuer.person = person()
    issuer.instead = {path: answer}
    browser, page = log_in(registry)
    assert page.status_code == status and page.headers["Content-Type"].startswith("text/html")
    assert not any("session" in name for name in browser.cookies)


def test_keys_rotate_and_outages_of_keys_are_survived(registry: Registry, issuer: LoginIssuer):
    issuer.person = person()
    assert log_in(registry)[1].status_code == 200
    issuer.rotate()
    # Keys that nobody has are looked for every 10 s at most, and a test before may have had that done.
    wait_until(lambda: log_in(registry)[1].status_code == 200, 30, "the new key to be known", 0.5)
    issuer.instead = {path: Answer({}, 500) for path in ("/keys", "/.well-known/openid-configuration")}
    assert log_in(registry)[1].status_code == 200


def test_an_issuer_that_is_away(registry: Registry):
    started = time.monotonic()
    page = registry.get("/-/login/gone")
    assert page.status_code == 503 and int(page.headers["Retry-After"]) > 0 and time.monotonic() - started < 11
    # The others are not touched by it.
    assert log_in(registry)[1].status_code == 200


class TestWhoIsWho:
    def test_somebody_is_who_their_provider_knows_whatever_they_are_called(self, registry: Registry, issuer: LoginIssuer):
        issuer.person = somebody = person(groups=["first"])
        told = log_in(registry)[1].json()
        assert (told["account"], told["groups"]) == (somebody["preferred_username"], ["first"])
        issuer.person = {**somebody, "preferred_username": "married", "groups": ["second", "third"]}
        again = log_in(registry)[1].json()
        assert (again["account"], again["groups"]) == (somebody["preferred_username"], ["second", "third"])

    def test_a_name_is_not_handed_on(self, registry: Registry, issuer: LoginIssuer):
        """Somebody who gets the name of somebody else there gets nothing of theirs here."""
        issuer.person = somebody = person()
        assert log_in(registry)[1].status_code == 200
        issuer.person = {**somebody, "sub": "somebody-else"}
        refused(registry, f"the name {somebody['preferred_username']} belongs to another account", 409)

    def test_the_name_of_an_account_of_the_registry_is_not_taken(self, registry: Registry, issuer: LoginIssuer):
        registry.user("local-hero")
        issuer.person = person(preferred_username="local-hero")
        refused(registry, "belongs to another account", 409)

    def test_a_name_of_another_provider_is_not_taken(self, registry: Registry, issuer: LoginIssuer, github: GitHub):
        github.organizations, github.user = ["acme"], {"id": 1, "login": "both"}
        assert log_in(registry, "github")[1].json()["account"] == "both"
        issuer.person = person(sub="1", preferred_username="both")
        refused(registry, "belongs to another account", 409)

    @pytest.mark.parametrize("claims, reason", [
        ({"preferred_username": "../etc"}, "cannot be the name of an account"), ({"preferred_username": ""}, "cannot be the name of an account"),
        ({"preferred_username": None}, "says no preferred_username"), ({"preferred_username": ["ada"]}, "says no preferred_username")])
    def test_a_name_has_to_be_one(self, registry: Registry, issuer: LoginIssuer, claims: dict, reason: str):
        issuer.person = {name: value for name, value in {**person(), **claims}.items() if value is not None}
        refused(registry, reason, 403)

    def test_admins_are_those_of_the_configuration(self, registry: Registry, issuer: LoginIssuer):
        issuer.person = person(preferred_username="grace")
        assert log_in(registry)[1].json()["admin"] is True

    def test_a_change_of_groups_reaches_sessions_and_tokens(self, registry: Registry, issuer: LoginIssuer):
        issuer.person = somebody = person(groups=["before"])
        browser, _ = log_in(registry)
        issuer.person = {**somebody, "groups": ["after"]}
        log_in(registry)
        assert browser.get(f"{registry.url}/-/whoami").json()["groups"] == ["after"]

    def test_an_address_is_a_name_if_it_is_verified(self, registry: Registry, company: IdentityProvider):
        def by_mail(login: str) -> requests.Response:
            browser = Browser()
            return pass_by(browser, browser.go(f"{registry.url}/-/login/mail?next=/-/whoami"), login)

        told = by_mail("ada").json()
        assert (told["account"], told["groups"]) == ("ada@example.org", ["team"])
        page = by_mail("bob")
        assert page.status_code == 403 and "verified" in page.text


class TestGitHub:
    def test_organizations_and_teams_are_groups(self, registry: Registry, github: GitHub):
        """In pages; and only those of the configuration: anybody can found an organization called like a group."""
        github.user = {"id": 42, "login": "octo-cat"}
        github.organizations = ["evil", "tools", "more", "even-more", "acme"]
        github.teams = [("evil", "tools"), ("acme", "backend"), ("evil", "core"), ("acme", "release-managers"), ("more", "x")]
        told = log_in(registry, "github")[1].json()
        assert told["account"] == "octo-cat"
        assert told["groups"] == ["developers", "Acme", "Acme.backend", "Acme.release-managers"]

    def test_who_is_in_none_of_them_is_refused(self, registry: Registry, github: GitHub):
        for organizations in ([], ["evil"]):
            github.user, github.organizations = {"id": 43, "login": "stranger"}, organizations
            browser, page = log_in(registry, "github")
            assert page.status_code == 403 and "none of the organizations" in page.text
            assert not any("session" in name for name in browser.cookies)
        assert registry.command("token", "create", "--user", "stranger").returncode != 0, "no account was made"

    @pytest.mark.parametrize("withheld", ["/user", "/user/orgs", "/user/teams"])
    def test_what_is_withheld_is_not_taken_for_nothing(self, registry: Registry, github: GitHub, withheld: str):
        github.user, github.organizations, github.withheld = {"id": 44, "login": "sso"}, ["acme"], {withheld}
        try:
            browser, page = log_in(registry, "github")
        finally:
            github.withheld = set()
        assert page.status_code == 403 and "single sign-on" in page.text
        assert not any("session" in name for name in browser.cookies)

    def test_somebody_is_their_number(self, registry: Registry, github: GitHub):
        github.organizations, github.teams, github.user = ["acme"], [], {"id": 45, "login": "before"}
        assert log_in(registry, "github")[1].json()["account"] == "before"
        github.user = {"id": 45, "login": "after"}
        assert log_in(registry, "github")[1].json()["account"] == "before"
        # The login that became free is somebody else's now.
        github.user = {"id": 46, "login": "before"}
        assert log_in(registry, "github")[1].status_code == 409

    def test_a_code_is_redeemed_with_what_the_login_began_with(self, registry: Registry, github: GitHub):
        github.organizations, github.user = ["acme"], {"id": 47, "login": "pkce"}
        browser = Browser()
        backs = [browser.go(f"{registry.url}/-/login/github", stop="/callback").headers["Location"] for _ in range(2)]
        codes = [back.split("code=")[1].split("&")[0] for back in backs]
        answer = browser.get(backs[1].replace(codes[1], codes[0]))
        assert answer.status_code == 502 and "does not take its code back" in answer.text


class TestTls:
    @pytest.fixture
    def secure(self, registry: Registry, tmp_path: Path) -> Iterator[Terminator]:
        tls = Terminator(tmp_path, registry.url)
        yield tls
        tls.close()

    def browser(self, secure: Terminator) -> Browser:
        """Behind an ingress that ends TLS and says so."""
        browser = Browser(secure.certificate)
        browser.session.headers.update({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"})
        return browser

    def test_cookies_are_sent_securely_and_to_this_host_alone(self, registry: Registry, issuer: LoginIssuer, secure: Terminator):
        issuer.person = person()
        browser = self.browser(secure)
        away = browser.get(f"{secure.url}/-/login/issuer?next=/-/whoami")
        [cookie] = away.raw.headers.getlist("Set-Cookie")
        assert cookie.startswith("__Host-granary_login=") and cookie.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")
        back = browser.get(away.headers["Location"])
        assert back.headers["Location"].startswith(f"{secure.url}/-/login/issuer/callback?")
        answer = browser.get(back.headers["Location"])
        session = next(cookie for cookie in answer.raw.headers.getlist("Set-Cookie") if "session" in cookie)
        assert session.startswith("__Host-granary_session=granary_") and session.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure")
        assert browser.get(f"{secure.url}/-/whoami").json()["account"] == issuer.person["preferred_username"]
        value = browser.cookies["__Host-granary_session"]
        registry.secrets.add(value)
        # A neighbour or an insecure page could have set the other name.
        for name, status in (("granary_session", 401), ("__Host-granary_session", 200)):
            told = requests.get(f"{registry.url}/-/whoami", headers={"X-Forwarded-Proto": "https", "Cookie": f"{name}={value}"}, timeout=30)
            assert told.status_code == status, name
        plain = requests.get(f"{registry.url}/-/whoami", headers={"Cookie": f"__Host-granary_session={value}"}, timeout=30)
        assert plain.status_code == 401

    def test_logging_out_forgets_it(self, issuer: LoginIssuer, secure: Terminator):
        issuer.person = person()
        browser = self.browser(secure)
        page = browser.go(f"{secure.url}/-/login/issuer")
        answer = browser.post(f"{secure.url}/-/logout", data={"csrf": page.text.split('name="csrf" value="')[1].split('"')[0]},
                              headers={"Origin": secure.url})
        assert answer.status_code == 303
        assert answer.headers["Set-Cookie"] == "__Host-granary_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        assert browser.get(f"{secure.url}/-/whoami").status_code == 401
