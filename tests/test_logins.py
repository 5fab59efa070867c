"""People in a browser: by an identity provider, by GitHub, by a password; sessions; and terminals that are let in by a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.browser import Browser
from tests.harness.identity_provider import IdentityProvider, pass_by
from tests.harness.lifetime import fresh_schema
from tests.harness.postgres import Postgres
from tests.harness.registry import Registry, store_of
from tests.harness.server import Dev

PEOPLE = {
    "ada": {"preferred_username": "ada", "groups": ["tools", "/not a group"], "email": "ada@example.org", "email_verified": True},
    "bob": {"preferred_username": "bob", "groups": [], "email": "bob@example.org", "email_verified": False},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider(PEOPLE).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def registry(provider: IdentityProvider, server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry whose people log in at the provider."""
    folder = tmp_path_factory.mktemp("registry")
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "company").write_text(provider.client["secret"])
    spec = {"identity": {"secretsDir": str(secrets), "logins": {"failuresPerAddress": 1000}, "providers": [{**provider.settings("company"), "groups": ["people"]}]}}
    registry = Registry(folder, postgres, fresh_schema(), store_of(server), spec=spec).migrate()
    registry.write_channel("tools", {"format": "pypi", "visibility": "private", "permissions": [{"subjects": ["group:tools"], "role": "Publisher"}]})
    registry.start()
    provider.client["redirect_uris"] = [f"{registry.url}/-/login/company/callback"]
    provider.restart()
    registry.secrets.add(provider.client["secret"])
    yield registry
    registry.assert_no_secrets()
    registry.stop()


def log_in(registry: Registry, login: str, browser: Browser | None = None, *, provider: str = "company", next: str = "/-/whoami", stop: str | None = None):
    """A browser after a login, and the page that it came to."""
    browser = browser or Browser()
    page = browser.go(f"{registry.url}/-/login/{provider}?next={next}", stop=stop)
    page = pass_by(browser, page, login, stop=stop)
    registry.secrets.update(value for name, value in browser.cookies.items() if "granary" in name)
    return browser, page


def test_somebody_logs_in_at_their_company(registry: Registry):
    browser = Browser()
    page = browser.go(f"{registry.url}/-/login?next=/-/whoami")
    assert "Log in with Company company" in page.text
    browser, page = log_in(registry, "ada", browser)
    assert page.status_code == 200, page.text
    told = page.json()
    assert (told["account"], told["groups"], told["admin"]) == ("ada", ["people", "tools"], False)
    assert told["credential"].startswith("session ")
    assert browser.get(f"{registry.url}/pypi/tools/+simple/").status_code == 200
    other, _ = log_in(registry, "bob")
    assert other.get(f"{registry.url}/pypi/tools/+simple/").status_code == 404


CALLBACK = "/-/login/company/callback"


def csrf(browser: Browser, registry: Registry) -> str:
    """What a page of ours would say."""
    return browser.get(f"{registry.url}/-/whoami").json()["csrfToken"]


def is_logged_in(browser: Browser, url: str) -> bool:
    status = browser.get(f"{url}/-/whoami").status_code
    assert status in (200, 401)
    return status == 200


@pytest.fixture
def twin(registry: Registry, postgres: Postgres, server: Dev, tmp_path: Path) -> Iterator[Registry]:
    """Another process of the same registry."""
    spec = {key: registry.spec[key] for key in ("identity",)}
    twin = Registry(tmp_path, postgres, registry.schema, store_of(server), channels=registry.channels, spec=spec)
    twin.start()
    yield twin
    twin.assert_no_secrets()
    twin.stop()


class TestComingBack:
    def test_an_answer_counts_once(self, registry: Registry):
        browser, back = log_in(registry, "ada", stop=CALLBACK)
        url = back.headers["Location"]
        assert browser.get(url).status_code == 303
        replayed = browser.get(url)
        assert replayed.status_code == 400 and "begin again" in replayed.text
        assert not [cookie for cookie in replayed.cookies]

    def test_an_answer_is_taken_by_any_process_and_by_one(self, registry: Registry, twin: Registry):
        browser, back = log_in(registry, "ada", stop=CALLBACK)
        query = back.headers["Location"].split("?")[1]
        assert browser.get(f"{twin.url}{CALLBACK}?{query}").status_code == 303
        assert browser.get(f"{registry.url}{CALLBACK}?{query}").status_code == 400
        assert is_logged_in(browser, registry.url) and is_logged_in(browser, twin.url)

    def test_an_answer_is_for_the_browser_that_asked(self, registry: Registry):
        """Else somebody could have another browser log in as themselves."""
        _, back = log_in(registry, "bob", stop=CALLBACK)
        victim = Browser()
        assert victim.get(back.headers["Location"]).status_code == 400
        victim.go(f"{registry.url}/-/login")
        assert victim.get(back.headers["Location"]).status_code == 400
        assert not is_logged_in(victim, registry.url)

    def test_a_state_is_neither_made_up_nor_left_out(self, registry: Registry):
        browser, back = log_in(registry, "ada", stop=CALLBACK)
        code = next(pair for pair in back.headers["Location"].split("?")[1].split("&") if pair.startswith("code="))
        for state in ("", "&state=", "&state=x", f"&state={'A' * 43}"):
            assert browser.get(f"{registry.url}{CALLBACK}?{code}{state}").status_code == 400, state

    def test_a_code_belongs_to_the_login_that_it_was_made_for(self, registry: Registry):
        """PKCE: a code that somebody put into another login is not redeemed."""
        browser, first = log_in(registry, "ada", stop=CALLBACK)
        second = browser.go(f"{registry.url}/-/login/company", stop=CALLBACK)
        assert second.is_redirect, "the provider knows her by now"
        parts = [dict(pair.split("=", 1) for pair in answer.headers["Location"].split("?")[1].split("&")) for answer in (first, second)]
        mixed = {**parts[1], "code": parts[0]["code"]}
        answer = browser.get(f"{registry.url}{CALLBACK}?{'&'.join(f'{name}={value}' for name, value in mixed.items())}")
        assert answer.status_code == 502 and "does not take its code back" in answer.text
        assert not is_logged_in(browser, registry.url)

    def test_a_login_has_to_end_within_ten_minutes(self, registry: Registry, postgres: Postgres):
        browser, back = log_in(registry, "ada", stop=CALLBACK)
        [[minutes]] = postgres.sql(f'SELECT round(extract(epoch FROM max(expires_at) - now()) / 60) FROM "{registry.schema}".login')
        assert minutes == "10"
        postgres.sql(f"UPDATE \"{registry.schema}\".login SET expires_at = now() - interval '1 second'")
        begun = int(postgres.sql(f'SELECT count(*) FROM "{registry.schema}".login')[0][0])
        assert browser.get(back.headers["Location"]).status_code == 400
        # What nobody comes back to goes when others log in.
        Browser().get(f"{registry.url}/-/login/company")
        [[left]] = postgres.sql(f'SELECT count(*) FROM "{registry.schema}".login')
        assert int(left) <= max(begun - 8, 1)

    def test_a_provider_that_goes_away_in_between(self, registry: Registry, provider: IdentityProvider):
        known, _ = log_in(registry, "ada")
        browser, back = log_in(registry, "bob", stop=CALLBACK)
        provider.stop()
        try:
            answer = browser.get(back.headers["Location"])
            assert answer.status_code == 503 and "identity provider" in answer.text and int(answer.headers["Retry-After"]) > 0
            # Who is logged in is not touched by it.
            assert is_logged_in(known, registry.url) and not is_logged_in(browser, registry.url)
        finally:
            provider.start()
        assert log_in(registry, "bob")[1].json()["account"] == "bob"

    def test_the_provider_may_say_no(self, registry: Registry):
        browser = Browser()
        away = browser.get(f"{registry.url}/-/login/company")
        state = away.headers["Location"].split("state=")[1].split("&")[0]
        answer = browser.get(f"{registry.url}{CALLBACK}?error=access_denied&error_description=%3Cb%3E&state={state}&iss={registry_issuer(registry)}")
        assert answer.status_code == 403 and "access_denied" in answer.text and "<b>" not in answer.text

    def test_another_provider_answers_for_nobody(self, registry: Registry):
        for issuer in ("", "&iss=https://issuer.example"):
            browser, back = log_in(registry, "ada", stop=CALLBACK)
            url = "&".join(pair for pair in back.headers["Location"].split("&") if not pair.startswith("iss="))
            answer = browser.get(url + issuer)
            assert answer.status_code == 502 and "another provider" in answer.text

    def test_a_provider_that_is_not_there(self, registry: Registry):
        assert Browser().get(f"{registry.url}/-/login/nobody").status_code == 404
        browser = Browser()
        browser.get(f"{registry.url}/-/login")
        assert browser.get(f"{registry.url}/-/login/nobody/callback?state={'A' * 43}&code=x").status_code == 404


def registry_issuer(registry: Registry) -> str:
    return registry.spec["identity"]["providers"][0]["oidc"]["issuer"]


ELSEWHERE = ["//evil.example", "///evil.example", "/\\evil.example", "/%5cevil.example", "https://evil.example", "/%2f/evil.example", "/%252fevil.example",
             "/%09/evil.example", "/\t/evil.example", "/%0d%0aSet-Cookie:%20a=b", "javascript:alert(1)", "evil.example", "/..//evil.example", "/x#y"]


@pytest.mark.parametrize("next", ELSEWHERE)
def test_a_login_leads_nowhere_else(registry: Registry, next: str):
    for path in ("/-/login", "/-/login/company"):
        answer = registry.get(path, params={"next": next})
        assert answer.status_code == 400 and "evil" not in answer.text and "Location" not in answer.headers
    browser = Browser()
    page = browser.go(f"{registry.url}/-/login")
    assert browser.submit(page, user="ada", password="x", next=next).status_code == 400


class TestSessions:
    def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(self, registry: Registry):
        browser, back = log_in(registry, "ada", stop=CALLBACK)
        answer = browser.get(back.headers["Location"])
        cookies = dict(cookie.split("=", 1) for cookie in answer.raw.headers.getlist("Set-Cookie"))
        assert cookies["granary_session"].split("; ")[1:] == ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Lax"]
        assert cookies["granary_login"].startswith("; Path=/; Max-Age=0")
        assert answer.headers["Cache-Control"] == "no-store"

    def test_a_session_is_a_new_one_and_ends_the_one_before(self, registry: Registry):
        """A cookie that somebody else put there logs nobody in."""
        browser = Browser()
        planted = "granary_0123456789_" + "A" * 43
        browser.session.cookies.set("granary_session", planted, domain="127.0.0.1", path="/")
        browser, page = log_in(registry, "ada", browser)
        assert page.json()["account"] == "ada"
        first = browser.cookies["granary_session"]
        assert first != planted
        log_in(registry, "ada", browser, next="/-/tokens")
        # It is not gone through anew: who is logged in goes on at once.
        browser.go(f"{registry.url}/-/login/company?next=/-/whoami")
        second = browser.cookies["granary_session"]
        assert second != first
        old = Browser()
        old.session.cookies.set("granary_session", first, domain="127.0.0.1", path="/")
        assert not is_logged_in(old, registry.url) and is_logged_in(browser, registry.url)

    def test_a_session_is_a_cookie_and_nothing_else(self, registry: Registry):
        browser, _ = log_in(registry, "ada")
        session = browser.cookies["granary_session"]
        for options in ({"headers": {"Authorization": f"Bearer {session}"}}, {"auth": ("ada", session)}, {"auth": ("__token__", session)},
                        {"headers": {"X-API-Key": session}}):
            assert registry.get("/-/whoami", **options).status_code == 401
        # Also while it is remembered as good.
        assert is_logged_in(browser, registry.url)
        assert registry.get("/-/whoami", headers={"Authorization": f"Bearer {session}"}).status_code == 401

    def test_a_token_is_no_session(self, registry: Registry):
        browser = Browser()
        browser.session.cookies.set("granary_session", registry.admin_token, domain="127.0.0.1", path="/")
        assert not is_logged_in(browser, registry.url)
        # And who has an old cookie is nobody in particular, not refused.
        assert browser.get(f"{registry.url}/-/login").status_code == 200

    def test_logging_out_ends_it_on_all_pods(self, registry: Registry, twin: Registry):
        browser, _ = log_in(registry, "ada")
        assert is_logged_in(browser, twin.url)
        cookie = browser.cookies["granary_session"]
        page = browser.go(f"{registry.url}/-/login")
        assert "You are logged in as" in page.text
        assert browser.submit(page).status_code == 200 and "granary_session" not in browser.cookies
        thief = Browser()
        thief.session.cookies.set("granary_session", cookie, domain="127.0.0.1", path="/")
        assert not is_logged_in(thief, twin.url) and not is_logged_in(thief, registry.url)

    def test_a_disabled_account_is_out_at_once_and_stays_out(self, registry: Registry, twin: Registry):
        browser, _ = log_in(registry, "eve")
        assert is_logged_in(browser, twin.url)
        assert registry.command("user", "disable", "eve").returncode == 0
        try:
            assert not is_logged_in(browser, twin.url)
            _, page = log_in(registry, "eve")
            assert page.status_code == 403 and "disabled" in page.text
        finally:
            assert registry.command("user", "enable", "eve").returncode == 0
        rows = registry.get("/-/audit?actor=eve&action=log in", registry.admin).json()["rows"]
        assert {row["outcome"] for row in rows} == {"done", "refused"}

    def test_sessions_are_listed_and_can_be_ended_from_elsewhere(self, registry: Registry):
        here, _ = log_in(registry, "carol")
        there, _ = log_in(registry, "carol")
        listed = here.get(f"{registry.url}/-/tokens").json()["tokens"]
        assert [token["kind"] for token in listed] == ["session", "session"]
        own = here.get(f"{registry.url}/-/whoami").json()["credential"].removeprefix("session ")
        [other] = [token["id"] for token in listed if token["id"] != own]
        ended = here.request("DELETE", f"{registry.url}/-/tokens/{other}", headers={"X-CSRF-Token": csrf(here, registry)})
        assert ended.status_code == 204
        assert is_logged_in(here, registry.url) and not is_logged_in(there, registry.url)

    def test_logins_and_logouts_are_in_the_audit(self, registry: Registry):
        browser, _ = log_in(registry, "dora")
        id = browser.get(f"{registry.url}/-/whoami").json()["credential"].removeprefix("session ")
        browser.submit(browser.go(f"{registry.url}/-/login"))
        rows = registry.get("/-/audit?actor=dora", registry.admin).json()["rows"]
        assert [(row["action"], row["address"]) for row in rows] == [("log out", "127.0.0.1"), ("log in", "127.0.0.1")]
        assert rows[0]["credential"] == f"session {id}" and rows[1]["detail"]["session"] == id and rows[1]["credential"] == "company"


class TestForgery:
    """Pages of others have a browser send its cookies: that is not enough to change anything."""

    def test_a_change_needs_the_sessions_token(self, registry: Registry):
        browser, _ = log_in(registry, "ada")
        good = csrf(browser, registry)
        other, _ = log_in(registry, "bob")
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": good[:-1]}, {"X-CSRF-Token": csrf(other, registry)},
                        {"X-CSRF-Token": browser.cookies["granary_session"]}):
            refused = browser.post(f"{registry.url}/-/tokens", json={}, headers=headers)
            assert refused.status_code == 403 and "X-CSRF-Token" in refused.text, headers
        made = browser.post(f"{registry.url}/-/tokens", json={"label": "mine"}, headers={"X-CSRF-Token": good})
        assert made.status_code == 201
        registry.secrets.add(made.json()["token"])
        assert registry.get("/-/whoami", ("", made.json()["token"])).json()["account"] == "ada"
        # It is asked of nobody else, and told nobody else.
        assert "csrfToken" not in registry.get("/-/whoami", ("", made.json()["token"])).json()
        assert registry.request("POST", "/-/tokens", ("", made.json()["token"]), json={}).status_code == 201

    def test_no_route_forgets_it(self, registry: Registry):
        """Every route of the server that is not `GET`, with and without it."""
        browser, _ = log_in(registry, "ada")
        good = csrf(browser, registry)
        routes = [line.split("\t")[:2] for line in registry.command("routes").stdout.splitlines()]
        changing = [(method, path) for method, path in routes if method not in ("GET", "HEAD")]
        assert len(changing) > 10
        for method, pattern in changing:
            path = pattern.replace("{channel:1}", "tools").replace("{channel}", "tools")
            path = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
            if path == "/-/logout":
                continue
            refused = browser.request(method, f"{registry.url}{path}")
            assert refused.status_code == 403 and "X-CSRF-Token" in refused.text, (method, path, refused.text)
            passed = browser.request(method, f"{registry.url}{path}", headers={"X-CSRF-Token": good})
            assert "X-CSRF-Token" not in passed.text, (method, path)

    def test_a_form_says_it_in_a_field(self, registry: Registry):
        browser, _ = log_in(registry, "ada")
        page = browser.go(f"{registry.url}/-/login")
        assert browser.submit(page, drop=("csrf",)).status_code == 403
        assert browser.submit(page, csrf="x" * 43).status_code == 403
        assert is_logged_in(browser, registry.url)
        assert browser.submit(page).status_code == 200 and not is_logged_in(browser, registry.url)

    def test_reading_needs_nothing(self, registry: Registry):
        browser, _ = log_in(registry, "ada")
        for method in ("GET", "HEAD"):
            assert browser.request(method, f"{registry.url}/pypi/tools/+simple/").status_code == 200


@pytest.fixture(scope="module")
def password(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of two accounts of the registry itself."""
    file = tmp_path_factory.mktemp("password") / "password"
    file.write_text("correct horse battery staple")
    for name in ("paula", "quinn"):
        made = registry.command("user", "create", name, "--password-file", str(file), "--group", "tools")
        assert made.returncode == 0, made.stderr
    registry.secrets.add(file.read_text())
    return file.read_text()


class TestPasswords:
    def form(self, registry: Registry, browser: Browser):
        return browser.go(f"{registry.url}/-/login?next=/-/whoami")

    def test_an_account_of_the_registry_logs_in(self, registry: Registry, password: str):
        browser = Browser()
        told = browser.submit(self.form(registry, browser), user="paula", password=password)
        assert told.status_code == 200 and told.json()["account"] == "paula" and told.json()["groups"] == ["tools"]
        assert told.json()["credential"].startswith("session ")
        registry.secrets.add(browser.cookies["granary_session"])

    def test_unknown_names_and_wrong_passwords_are_answered_alike(self, registry: Registry, password: str):
        log_in(registry, "ada")
        answers = []
        for user, wrong in (("paula", "wrong"), ("nobody-at-all", "wrong"), ("ada", "wrong"), ("a b", "wrong"), ("", ""), ("paula", "")):
            browser = Browser()
            answer = browser.submit(self.form(registry, browser), user=user, password=wrong)
            token = browser.cookies["granary_login"]
            assert "granary_session" not in browser.cookies and token
            answers.append((answer.status_code, [line for line in answer.text.split("<input") if 'name="csrf"' not in line]))
        assert answers[0][0] == 403
        assert all(answer == answers[0] for answer in answers)

    def test_tokens_are_no_passwords_here(self, registry: Registry, password: str):
        """A narrowed token must not become a session, which is not narrowed."""
        narrow = registry.token("paula", "--role", "Reader")[1]
        browser = Browser()
        assert browser.submit(self.form(registry, browser), user="paula", password=narrow).status_code == 403
        assert "granary_session" not in browser.cookies

    def test_a_form_of_somebody_else_logs_nobody_in(self, registry: Registry, password: str):
        browser = Browser()
        page = self.form(registry, browser)
        assert browser.submit(page, drop=("csrf",), user="paula", password=password).status_code == 403
        assert browser.submit(page, csrf="x" * 43, user="paula", password=password).status_code == 403
        # The token of a browser that the attacker has themselves.
        attacker = Browser()
        theirs = self.form(registry, attacker).text.split('name="csrf" value="')[1].split('"')[0]
        assert browser.submit(page, csrf=theirs, user="paula", password=password).status_code == 403
        own = page.text.split('name="csrf" value="')[1].split('"')[0]
        fields = {"csrf": own, "user": "paula", "password": password}
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            assert browser.post(f"{registry.url}/-/login", data=fields, headers=headers).status_code == 403, headers
        assert browser.post(f"{registry.url}/-/login", json=fields).status_code == 400
        assert browser.post(f"{registry.url}/-/login", data=fields).status_code == 303

    def test_too_many_wrong_ones_are_told_to_wait(self, registry: Registry, password: str):
        browser = Browser()
        for _ in range(10):
            assert browser.submit(self.form(registry, browser), user="quinn", password="wrong").status_code == 403
        for attempt in ("wrong", password):
            answer = browser.submit(self.form(registry, browser), user="quinn", password=attempt)
            assert answer.status_code == 429 and 0 < int(answer.headers["Retry-After"]) <= 300
            assert answer.headers["Content-Type"].startswith("text/html") and "Try again in" in answer.text

    def test_pages_load_nothing_and_are_in_no_frame(self, registry: Registry):
        page = Browser().get(f"{registry.url}/-/login")
        assert page.headers["Content-Security-Policy"] == "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        assert page.headers["X-Frame-Options"] == "DENY" and page.headers["Cache-Control"] == "no-store"
        assert "<script" not in page.text and "<style" not in page.text
