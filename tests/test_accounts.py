"""What somebody may ask of the registry about themselves: who they are, their tokens, what they may."""

import json

import pytest

from tests.harness.accounts import granary
from tests.harness.dists import wheel
from tests.harness.server import Dev

Auth = tuple[str, str]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    grants = [{"subjects": ["user:ada"], "role": "Publisher", "packages": ["acme-*"]},
              {"subjects": ["group:team"], "role": "Owner"}]
    return {"dev": {"format": "pypi", "visibility": "internal", "permissions": grants},
            "other": {"format": "pypi", "visibility": "private", "permissions": [{"subjects": ["user:ada"], "role": "Reader"}]}}


@pytest.fixture(scope="module")
def ada(server: Dev) -> Auth:
    server.user("ada")
    return server.token("ada")


@pytest.fixture(scope="module")
def owner(server: Dev) -> Auth:
    server.user("owner", "team")
    return server.token("owner")


@pytest.fixture(scope="module")
def eve(server: Dev) -> Auth:
    server.user("eve")
    return server.token("eve")


def make(server: Dev, by: Auth, status: int = 201, **wanted: object) -> dict:
    """Asks for a token."""
    answer = server.request("POST", "/-/tokens", by, json=wanted)
    assert answer.status_code == status, answer.text
    made = answer.json()
    if status == 201:
        server.secrets.add(made["token"])
        assert answer.headers["Cache-Control"] == "no-store"
    return made


def works(server: Dev, token: str) -> bool:
    """Whether a token is one."""
    status = server.get("/-/whoami", ("", token)).status_code
    assert status in (200, 401)
    return status == 200


class TestWho:
    def test_a_caller_is_told_who_they_are(self, server: Dev, owner: Auth):
        told = server.get("/-/whoami", owner).json()
        assert told["actor"] == told["account"] == "owner"
        assert told["groups"] == ["team"] and told["admin"] is False
        assert told["credential"] == f"token {owner[1].split('_')[1]}"
        assert "scope" not in told
        assert server.get("/-/whoami", server.admin).json()["admin"] is True

    def test_nobody_in_particular_is_asked_to_log_in(self, server: Dev):
        for path in ("/-/whoami", "/-/tokens", "/-/can", "/-/audit"):
            answer = server.get(path)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Basic")
            assert answer.json()["errors"][0]["code"] == "unauthorized"


class TestTokens:
    def test_a_token_is_made_shown_once_listed_and_ended(self, server: Dev, ada: Auth):
        made = make(server, ada, label="ci", role="Reader", channels=["pypi/dev"], expiresInSeconds=600)
        assert works(server, made["token"])
        listed = server.get("/-/tokens", ada)
        assert made["token"] not in listed.text
        [found] = [token for token in listed.json()["tokens"] if token["id"] == made["id"]]
        assert found["label"] == "ci" and found["scope"]["role"] == "Reader" and found["expiresAt"] == made["expiresAt"]
        assert server.request("DELETE", f"/-/tokens/{made['id']}", ada).status_code == 204
        assert not works(server, made["token"])
        assert server.request("DELETE", f"/-/tokens/{made['id']}", ada).status_code == 404

    def test_a_token_makes_none_that_may_more(self, server: Dev, ada: Auth):
        """Asked for more or for nothing in particular, it hands on what it has."""
        reader = make(server, ada, role="Reader")
        for wanted in ({}, {"role": "Owner"}, {"role": "Publisher", "channels": ["pypi/*"]}):
            child = make(server, ("", reader["token"]), **wanted)
            assert server.projects(auth=("", child["token"])) is not None
            assert server.upload(wheel("acme-more"), auth=("", child["token"])).status_code == 403
        elsewhere = make(server, ada, role="Publisher", channels=["pypi/other"])
        child = make(server, ("", elsewhere["token"]), channels=["pypi/dev"])
        assert server.upload(wheel("acme-more"), auth=("", child["token"])).status_code in (403, 404)
        assert server.upload(wheel("acme-more"), auth=ada).status_code == 200

    def test_a_token_makes_none_that_lives_longer(self, server: Dev, ada: Auth):
        short = make(server, ada, expiresInSeconds=300)
        for wanted in ({}, {"expiresInSeconds": 10_000_000}):
            assert make(server, ("", short["token"]), **wanted)["expiresAt"] == short["expiresAt"]

    def test_what_a_token_made_ends_with_it(self, server: Dev, ada: Auth):
        first = make(server, ada)
        second = make(server, ("", first["token"]))
        third = make(server, ("", second["token"]))
        assert works(server, third["token"])
        assert server.request("DELETE", f"/-/tokens/{first['id']}", ada).status_code == 204
        assert not any(works(server, made["token"]) for made in (first, second, third))

    def test_tokens_of_others_are_none_of_ones_business(self, server: Dev, ada: Auth, eve: Auth):
        made = make(server, ada)
        assert server.request("DELETE", f"/-/tokens/{made['id']}", eve).status_code == 404
        assert server.get("/-/tokens?account=ada", eve).status_code == 403
        make(server, eve, 403, account="ada")
        assert works(server, made["token"])
        assert made["id"] in server.get("/-/tokens?account=ada", server.admin).text
        assert server.request("DELETE", f"/-/tokens/{made['id']}", server.admin).status_code == 204
        assert not works(server, made["token"])

    def test_an_admin_makes_one_for_somebody_else(self, server: Dev):
        made = make(server, server.admin, account="ada", label="for ada")
        assert server.get("/-/whoami", ("", made["token"])).json()["account"] == "ada"

    @pytest.mark.parametrize("wanted", [{"role": "King"}, {"channels": [""]}, {"expiresInSeconds": -1}, {"admin": True}, [], None])
    def test_bad_wishes_are_told(self, server: Dev, ada: Auth, wanted: object):
        answer = server.request("POST", "/-/tokens", ada, data=json.dumps(wanted))
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("the body: ")


class TestCan:
    def can(self, server: Dev, by: Auth, **question: str) -> dict:
        answer = server.get("/-/can", by, params=question)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def test_the_grant_that_decides_is_named(self, server: Dev, ada: Auth):
        answer = self.can(server, ada, action="publish", channel="pypi/dev", package="acme-x")
        assert answer["allowed"] is True
        assert answer["grant"]["subjects"] == ["user:ada"] and answer["grant"]["packages"] == ["acme-*"]
        answer = self.can(server, ada, action="publish", channel="pypi/dev", package="other")
        assert answer["allowed"] is False and "no grant" in answer["because"]
        assert {"Reader", "Publisher"} == {grant["role"] for grant in answer["lesser"]}

    def test_one_asks_about_others_as_an_owner_or_an_admin(self, server: Dev, ada: Auth, owner: Auth):
        question = {"subject": "user:ada", "action": "publish", "channel": "pypi/dev", "package": "acme-x"}
        assert self.can(server, owner, **question)["allowed"] is True
        assert self.can(server, server.admin, **question)["allowed"] is True
        assert server.get("/-/can", ada, params={**question, "subject": "user:owner"}).status_code == 403
        assert server.get("/-/can", owner, params={**question, "channel": "pypi/other"}).status_code == 403

    def test_hidden_and_absent_channels_have_one_answer(self, server: Dev, eve: Auth):
        hidden, absent = (self.can(server, eve, action="read", channel=f"pypi/{name}") for name in ("other", "absent"))
        assert hidden["allowed"] is absent["allowed"] is False
        assert hidden["because"].replace("other", "absent") == absent["because"]

    @pytest.mark.parametrize("question", [{}, {"action": "fly", "channel": "pypi/dev"}, {"action": "read", "channel": "dev"},
                                          {"action": "read", "channel": "npm/dev"}, {"action": "read", "channel": "pypi/../x"}])
    def test_a_question_that_is_none(self, server: Dev, ada: Auth, question: dict):
        assert server.get("/-/can", ada, params=question).status_code == 400

    def test_a_page_for_browsers(self, server: Dev, ada: Auth):
        answer = server.get("/-/can", ada, params={"action": "publish", "channel": "pypi/dev", "package": "<script>alert(1)</script>"},
                            headers={"Accept": "text/html"})
        assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/html")
        assert "<h2>No</h2>" in answer.text and "<script>" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "<form>" in server.get("/-/can", ada, headers={"Accept": "text/html"}).text

    def test_the_command_says_the_same(self, server: Dev, ada: Auth):
        yes = granary(server.config, "can", "user:ada", "publish", "pypi/dev", "acme-x")
        assert yes.returncode == 0 and yes.stdout.startswith("yes: grant")
        no = granary(server.config, "can", "user:ada", "publish", "pypi/dev", "other")
        assert no.returncode == 1 and no.stdout.startswith("no: no grant lets user:ada publish")
        stranger = ("user:not-here-yet", "administer", "pypi/dev")
        assert granary(server.config, "can", *stranger).returncode == 1
        assert granary(server.config, "can", *stranger, "--group", "team").returncode == 0
        wrong = granary(server.config, "can", "ada", "publish", "pypi/dev")
        assert wrong.returncode not in (0, 1) or "a subject is" in wrong.stderr
