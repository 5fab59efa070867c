"""Who may do what, as seen from outside: visibility, grants with patterns, scoped tokens, and what the others are told."""

import time

import pytest

from tests.harness.accounts import granary
from tests.harness.dists import wheel
from tests.harness.server import JSON_INDEX, Dev
from tests.harness.wire import MULTIPART, form, multipart


def pypi(visibility: str, *grants: dict) -> dict:
    return {"format": "pypi", "visibility": visibility, "permissions": list(grants)}


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {
        "dev": pypi("public", {"subjects": ["user:ada"], "role": "Publisher", "packages": ["acme-*"]},
                    {"subjects": ["group:team"], "role": "Maintainer", "packages": ["team-*"], "except": ["team-secret*"]}),
        "internal": pypi("internal"),
        "private": pypi("private", {"subjects": ["user:ada"], "role": "Reader"},
                        {"subjects": ["user:carl"], "role": "Reader", "packages": ["shared-*"]}),
        "open-door": pypi("private", {"subjects": ["anonymous"], "role": "Publisher"}),
        "members": pypi("private", {"subjects": ["authenticated"], "role": "Publisher"}),
    }


@pytest.fixture(scope="module")
def ada(server: Dev) -> tuple[str, str]:
    server.user("ada")
    return server.token("ada")


@pytest.fixture(scope="module")
def carl(server: Dev) -> tuple[str, str]:
    server.user("carl")
    return server.token("carl")


@pytest.fixture(scope="module")
def member(server: Dev) -> tuple[str, str]:
    server.user("member", "team")
    return server.token("member")


@pytest.fixture(scope="module", autouse=True)
def packages(server: Dev) -> None:
    for channel in ("dev", "internal", "private", "open-door", "members"):
        server.publish(wheel("acme-tool"), wheel("shared-lib"), wheel("hidden-lib"), channel=channel)


def paths(channel: str, name: str = "acme-tool") -> list[str]:
    """Every way to look at a channel and a package of it."""
    return [f"/pypi/{channel}/+simple/", f"/pypi/{channel}/simple/", f"/pypi/{channel}/+simple/{name}/", f"/pypi/{channel}/simple/{name}/",
            f"/pypi/{channel}/pypi/{name}/json", f"/pypi/{channel}/pypi/{name}/1.0/json"]


def file_paths(server: Dev, channel: str, name: str = "acme-tool") -> list[str]:
    url = server.file_url(name, wheel(name).filename, channel=channel).removeprefix(server.url)
    return [url, f"{url}.metadata"]


class TestReading:
    def test_public_is_for_everybody(self, server: Dev, carl: tuple[str, str]):
        for path in paths("dev") + file_paths(server, "dev"):
            assert server.get(path).status_code == server.get(path, carl).status_code == 200, path

    def test_internal_is_for_those_who_are_logged_in(self, server: Dev, carl: tuple[str, str]):
        for path in paths("internal") + file_paths(server, "internal"):
            assert server.get(path, carl).status_code == 200, path
            answer = server.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"].lower().startswith("basic realm=")

    def test_private_is_for_those_who_were_named(self, server: Dev, ada: tuple[str, str], member: tuple[str, str]):
        for path in paths("private") + file_paths(server, "private"):
            assert server.get(path, ada).status_code == 200, path
            assert server.get(path, member).status_code == 404, path
            assert server.get(path).status_code == 401, path

    def test_a_grant_of_some_packages_shows_those_alone(self, server: Dev, carl: tuple[str, str]):
        assert server.projects(channel="private", auth=carl) == {"shared-lib"}
        for path in paths("private", "shared-lib") + file_paths(server, "private", "shared-lib"):
            assert server.get(path, carl).status_code == 200, path
        for path in paths("private", "hidden-lib")[2:] + file_paths(server, "private", "hidden-lib"):
            assert server.get(path, carl).status_code == 404, path

    def test_a_grant_to_anonymous_opens_a_private_channel(self, server: Dev):
        for path in paths("open-door") + file_paths(server, "open-door"):
            assert server.get(path).status_code == 200, path

    def test_head_is_no_way_around(self, server: Dev, member: tuple[str, str]):
        for path in paths("private") + file_paths(server, "private"):
            assert server.request("HEAD", path).status_code == 401
            assert server.request("HEAD", path, member).status_code == 404

    @pytest.mark.parametrize("suffix", ["/+simple/", "/+simple/acme-tool/", "/simple/", "/pypi/acme-tool/json", "/"])
    def test_hidden_and_absent_look_the_same(self, server: Dev, member: tuple[str, str], suffix: str):
        """To anonymous both are a challenge; to somebody else neither is there. Status, headers and body agree."""
        for auth, status in ((None, 401), (member, 404)):
            hidden, absent = (server.get(f"/pypi/{channel}{suffix}", auth) for channel in ("private", "absents"))
            assert hidden.status_code == absent.status_code == status
            assert hidden.text.replace("private", "absents") == absent.text
            ignored = {"date", "content-length", "x-request-id", "traceparent"}
            assert {k: v.replace("private", "absents") for k, v in hidden.headers.items() if k.lower() not in ignored} == \
                   {k: v for k, v in absent.headers.items() if k.lower() not in ignored}

    def test_a_tag_from_one_view_is_not_good_in_another(self, server: Dev, ada: tuple[str, str], carl: tuple[str, str]):
        headers = {"Accept": JSON_INDEX}
        tag = server.get("/pypi/private/+simple/", ada, headers=headers).headers["ETag"]
        answer = server.get("/pypi/private/+simple/", carl, headers={**headers, "If-None-Match": tag})
        assert answer.status_code == 200
        assert "hidden-lib" not in answer.text

    def test_protected_answers_are_not_for_shared_caches(self, server: Dev, ada: tuple[str, str]):
        for path in paths("private") + file_paths(server, "private"):
            control = server.get(path, ada).headers.get("Cache-Control", "")
            assert "public" not in control, path


class TestWriting:
    def status(self, server: Dev, name: str, auth: tuple[str, str] | None, channel: str = "dev") -> int:
        answer = server.request("POST", f"/pypi/{channel}/", auth, data=multipart(form(wheel(name))), headers={"Content-Type": MULTIPART})
        if answer.status_code == 401:
            assert answer.headers["WWW-Authenticate"].lower().startswith("basic realm=")
        return answer.status_code

    def test_anonymous_is_challenged(self, server: Dev, project: str):
        for channel in ("dev", "internal", "private", "absent"):
            assert self.status(server, project, None, channel) == 401
        assert server.index(project) is None

    def test_within_the_pattern_and_outside_of_it(self, server: Dev, project: str, ada: tuple[str, str]):
        assert self.status(server, f"acme-{project}", ada) == 200
        assert self.status(server, f"Acme.{project}-2", ada) == 200
        assert self.status(server, project, ada) == 403
        assert self.status(server, f"x-acme-{project}", ada) == 403

    def test_except_takes_away(self, server: Dev, project: str, member: tuple[str, str]):
        assert self.status(server, f"team-{project}", member) == 200
        assert self.status(server, f"team-secret-{project}", member) == 403

    def test_readers_may_not(self, server: Dev, project: str, ada: tuple[str, str], carl: tuple[str, str]):
        assert self.status(server, project, ada, "private") == 403
        assert self.status(server, project, carl, "internal") == 403
        assert self.status(server, project, carl, "dev") == 403

    def test_who_sees_nothing_is_told_nothing(self, server: Dev, project: str, member: tuple[str, str]):
        assert self.status(server, project, member, "private") == self.status(server, project, member, "absent") == 404

    def test_authenticated_and_anonymous_grants(self, server: Dev, project: str, carl: tuple[str, str]):
        assert self.status(server, project, carl, "members") == 200
        assert self.status(server, project, None, "members") == 401
        assert self.status(server, project, None, "open-door") == 200

    def test_removing_takes_more_than_publishing(self, server: Dev, project: str, ada: tuple[str, str], member: tuple[str, str]):
        acme, team = f"acme-{project}", f"team-{project}"
        server.publish(wheel(acme), wheel(team))
        for act in (server.yank, server.unyank, server.delete_release):
            assert act(acme, "1.0", auth=ada).status_code == 403
            assert act(team, "1.0", auth=ada).status_code == 403
        assert server.delete_file(acme, wheel(acme).filename, auth=ada).status_code == 403
        for act in (server.yank, server.unyank, server.delete_release):
            assert act(team, "1.0", auth=member).status_code < 300

    def test_wrong_credentials_are_never_taken_for_none(self, server: Dev, project: str):
        """Where anonymous may publish, a wrong password is still a mistake that must be told."""
        assert self.status(server, project, ("ada", "wrong"), "open-door") == 401


class TestTokens:
    @pytest.fixture(autouse=True)
    def people(self, ada: tuple[str, str], carl: tuple[str, str]) -> None:
        """Those whose tokens these are."""

    def test_of_one_channel(self, server: Dev):
        token = server.token("ada", "--channel", "pypi/dev")
        assert server.get("/pypi/dev/+simple/", token).status_code == 200
        assert server.get("/pypi/private/+simple/", token).status_code == 404

    def test_of_some_packages(self, server: Dev, project: str):
        token = server.token("ada", "--package", "acme-narrow-*")
        assert server.upload(wheel(f"acme-narrow-{project}"), auth=token).status_code == 200
        assert server.upload(wheel(f"acme-{project}"), auth=token).status_code == 403

    def test_of_a_lower_role(self, server: Dev, project: str):
        token = server.token("ada", "--role", "Reader")
        assert server.upload(wheel(f"acme-{project}"), auth=token).status_code == 403

    def test_never_of_more_than_its_user_may(self, server: Dev, project: str):
        token = server.token("carl", "--role", "Owner")
        assert server.upload(wheel(project), auth=token).status_code == 403

    def test_that_expires(self, server: Dev):
        token = server.token("ada", "--expires-in-days", "1")
        server.postgres.sql(f"UPDATE \"{server.schema}\".token SET expires_at = now() + interval '1 second' WHERE id = '{token[1].split('_')[1]}'")
        assert server.get("/pypi/private/+simple/", token).status_code == 200
        time.sleep(1.5)
        assert server.get("/pypi/private/+simple/", token).status_code == 401

    def test_every_carrier(self, server: Dev, ada: tuple[str, str]):
        token = ada[1]
        for headers in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": token}):
            assert server.get("/pypi/private/+simple/", headers=headers).status_code == 200
        for user in ("ada", "__token__", "", "nobody-else"):
            assert server.get("/pypi/private/+simple/", (user, token)).status_code == 200

    def test_changed_ones_are_no_tokens(self, server: Dev, ada: tuple[str, str]):
        token = ada[1]
        flipped = token[:-1] + ("A" if token[-1] != "A" else "B")
        for wrong in (flipped, token[:-1], token + "x", token.upper(), ""):
            assert server.get("/pypi/private/+simple/", ("__token__", wrong)).status_code == 401

    def test_the_database_holds_no_token(self, server: Dev, ada: tuple[str, str]):
        tables = server.postgres.sql(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{server.schema}'")
        secret = ada[1].rsplit("_", 1)[-1]
        for [table] in tables:
            rows = server.postgres.sql(f'SELECT t::text FROM "{server.schema}"."{table}" t')
            assert not any(secret in row[0] for row in rows), table

    def test_that_is_revoked(self, server: Dev):
        token = server.token("ada")
        assert server.get("/pypi/private/+simple/", token).status_code == 200
        done = granary(server.config, "token", "revoke", token[1].split("_")[1])
        assert done.returncode == 0, done.stderr
        assert server.get("/pypi/private/+simple/", token).status_code == 401

    @pytest.mark.parametrize("options", [("--user", "ada", "--role", "Emperor"), ("--user", "ada", "--expires-in-days", "soon"),
                                         ("--user", "no spaces please"), ("--user", "nobody-of-that-name")], ids=lambda options: options[-1])
    def test_the_command_refuses_what_makes_no_sense(self, server: Dev, options: tuple[str, ...]):
        done = granary(server.config, "token", "create", *options)
        assert done.returncode != 0 and done.stderr.strip()
        assert "planted" not in done.stderr
