"""Who did what, and who was refused what: as the command tells it."""

import json
import time
from collections.abc import Callable

import pytest

from tests.harness.accounts import granary
from tests.harness.dists import wheel
from tests.harness.processes import wait_until
from tests.harness.server import PUBLIC, Dev

FIELDS = ["id", "at", "actor", "credential", "address", "action", "channel", "package", "outcome", "times", "request_id", "detail"]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    reader = {"subjects": ["user:reader", "user:prober"], "role": "Reader", "packages": ["open-*"]}
    return {"dev": {**PUBLIC, "permissions": [{"subjects": ["user:ada"], "role": "Publisher", "packages": ["acme-*"]}]},
            "private": {"format": "pypi", "permissions": [reader]}}


@pytest.fixture
def person(server: Dev, project: str) -> tuple[str, str]:
    """An account of this test alone, which has no grants beyond everybody's."""
    server.user(project)
    return server.token(project)


def audit(server: Dev, *options: str) -> list[dict]:
    """The rows that the command tells, newest first."""
    done = granary(server.config, "audit", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def with_times(server: Dev, times: int, *options: str) -> list[dict]:
    """The rows, once so many refusals are counted in them."""
    wait_until(lambda: sum(row["times"] for row in audit(server, *options)) == times, 20, f"{times} refusals")
    return audit(server, *options)


def well_within_a_minute() -> None:
    """Refusals are counted by the minute, and those of a test shall be of one."""
    left = 60 - time.time() % 60
    if left < 20:
        time.sleep(left)


class TestRefusals:
    def test_the_same_again_and_again_is_one_row(self, server: Dev, project: str, person: tuple[str, str]):
        well_within_a_minute()
        file = wheel(f"Other.{project}")
        first = server.upload(file, auth=person)
        assert first.status_code == 403
        [row] = audit(server, "--actor", project)
        assert row["times"] == 1, "the first is there at once"
        for _ in range(49):
            assert server.upload(file, auth=person).status_code == 403
        [row] = with_times(server, 50, "--actor", project, "--outcome", "refused")
        assert list(row) == FIELDS
        expected = {"actor": project, "credential": f"token {person[1].split('_')[1]}", "address": "127.0.0.1", "action": "publish",
                    "channel": "pypi/dev", "package": None, "outcome": "refused", "times": 50, "detail": {}}
        assert {name: row[name] for name in expected} == expected
        assert row["request_id"] == first.headers["X-Request-Id"]

    def test_of_some_packages_names_the_package(self, server: Dev, project: str):
        well_within_a_minute()
        server.user("ada")
        ada = server.token("ada")
        assert server.upload(wheel(f"acme-{project}"), auth=ada).status_code == 200
        assert server.upload(wheel(f"other-{project}"), auth=ada).status_code == 403
        assert server.yank(f"acme-{project}", "1.0", auth=ada).status_code == 403
        rows = audit(server, "--actor", "ada", "--channel", "pypi/dev")
        assert [(row["outcome"], row["action"], row["package"]) for row in rows] == [
            ("refused", "remove", None), ("refused", "publish", f"other-{project}"), ("done", "publish", f"acme-{project}")]
        done = rows[-1]
        assert done["detail"]["file"] == wheel(f"acme-{project}").filename and done["times"] == 1
        assert list(done) == FIELDS

    def test_what_is_hidden_is_refused_and_what_is_absent_is_not(self, server: Dev, person: tuple[str, str], project: str):
        well_within_a_minute()
        for path in ("/pypi/private/+simple/", "/pypi/absent/+simple/", "/pypi/dev/+simple/absent/"):
            assert server.get(path, person).status_code == 404
            assert server.get(path).status_code in (401, 404)
        [row] = with_times(server, 1, "--actor", project)
        assert (row["action"], row["channel"], row["package"]) == ("read", "pypi/private", None)
        assert audit(server, "--actor", "anonymous") == []

    def test_of_a_package_that_a_reader_may_not_see(self, server: Dev, project: str):
        well_within_a_minute()
        server.user("reader")
        reader = server.token("reader")
        server.publish(wheel(f"hidden-{project}"), channel="private")
        assert server.get("/pypi/private/+simple/", reader).status_code == 200
        assert server.get(f"/pypi/private/+simple/open-{project}/", reader).status_code == 404
        assert server.get(f"/pypi/private/+simple/hidden-{project}/", reader).status_code == 404
        [row] = with_times(server, 1, "--actor", "reader")
        assert row["package"] == f"hidden-{project}"

    def test_a_database_that_cannot_take_them_delays_nobody(self, server: Dev, person: tuple[str, str], project: str):
        well_within_a_minute()
        file = wheel(project)
        assert server.get("/pypi/dev/+simple/", person).status_code == 200
        with server.postgres.holding(f'LOCK TABLE "{server.schema}".audit IN ACCESS EXCLUSIVE MODE'):
            for _ in range(3):
                started = time.monotonic()
                assert server.upload(file, auth=person).status_code == 403
                assert time.monotonic() - started < 2
        [row] = with_times(server, 3, "--actor", project)
        assert row["outcome"] == "refused"

    def test_a_flood_is_few_rows(self, server: Dev, person: tuple[str, str], project: str):
        """What is hidden as a whole is one row, whatever is asked for in it; else somebody gets a hundred rows and one more."""
        well_within_a_minute()
        for n in range(150):
            assert server.get(f"/pypi/private/+simple/package-{n}/", person).status_code == 404
        assert len(with_times(server, 150, "--actor", project)) == 1
        server.user("prober")
        prober = server.token("prober")
        for n in range(150):
            assert server.get(f"/pypi/private/+simple/package-{n}/", prober).status_code == 404
        rows = with_times(server, 150, "--actor", "prober")
        assert len(rows) == 101
        [rest] = [row for row in rows if row["credential"] == "several"]
        assert (rest["times"], rest["channel"], rest["package"], rest["detail"]) == (50, None, None, {"several": True})

    def test_those_of_the_last_seconds_are_written_at_the_end(self, serve: Callable[..., Dev]):
        well_within_a_minute()
        server = serve()
        server.user("eve")
        eve = server.token("eve")
        for _ in range(5):
            assert server.upload(wheel("x"), auth=eve).status_code == 403
        server.stop()
        rows = server.postgres.sql(f"SELECT actor, times FROM \"{server.schema}\".audit WHERE outcome = 'refused'")
        assert [list(map(str, row)) for row in rows] == [["eve", "5"]]


class TestCommand:
    def test_writes_and_commands_stand_in_it(self, server: Dev, project: str, person: tuple[str, str]):
        server.publish(wheel(project), wheel(project, "2.0"))
        assert server.yank(project, "1.0", "broken").status_code < 300
        rows = audit(server, "--package", project)
        assert [row["action"] for row in rows] == ["yank", "publish", "publish"]
        assert rows[0]["detail"] == {"version": "1.0", "reason": "broken"}
        assert all(row["actor"] == "admin" and row["address"] == "127.0.0.1" for row in rows)
        assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
        made = [row for row in audit(server, "--action", "create account") if row["detail"]["account"] == project]
        assert len(made) == 1 and made[0]["actor"] == "command line"

    def test_filters_narrow(self, server: Dev, project: str):
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        server.publish(wheel(project))
        [row] = audit(server, "--package", project, "--since", "1h", "--action", "publish", "--outcome", "done", "--actor", "admin")
        for options in (["--actor", "nobody"], ["--action", "yank"], ["--outcome", "refused"], ["--until", "1h"], ["--until", started],
                        ["--channel", "pypi/private"], ["--since", "2126-01-01T00:00:00Z"], ["--limit", "0"]):
            assert audit(server, "--package", project, *options) == [], options
        assert audit(server, "--package", project, "--since", started) == [row]

    def test_all_pages_are_read(self, server: Dev, project: str):
        server.postgres.sql(f"INSERT INTO \"{server.schema}\".audit (actor, credential, action, outcome) "
                            f"SELECT '{project}', 'none', 'count ' || n, 'done' FROM generate_series(1, 2500) AS n")
        assert [row["action"] for row in audit(server, "--actor", project)] == [f"count {n}" for n in range(2500, 0, -1)]
        assert len(audit(server, "--actor", project, "--limit", "1500")) == 1500
        for options, lines in ((), 101), (("--limit", "2000"), 2001):
            table = granary(server.config, "audit", "--actor", project, *options).stdout.splitlines()
            assert len(table) == lines
            assert table[0].split() == ["AT", "ACTOR", "ADDRESS", "ACTION", "CHANNEL", "PACKAGE", "OUTCOME", "TIMES"]
            assert table[1].split()[1:] == [project, "-", "count", "2500", "-", "-", "done", "1"]

    @pytest.mark.parametrize("options", [("--since", "yesterday"), ("--channel", "dev"), ("--outcome", "perhaps"), ("--limit", "-1")],
                             ids=lambda options: options[0])
    def test_what_makes_no_sense_is_refused(self, server: Dev, options: tuple[str, ...]):
        done = granary(server.config, "audit", *options)
        assert done.returncode == 2 and options[0] in done.stderr


def test_old_rows_are_pruned(serve: Callable[..., Dev]):
    """By the first run of the job, which is queued at the start."""
    server = serve()
    job = f"SELECT count(*) FROM \"{server.schema}\".job WHERE kind = 'prune' AND state = 'queued' AND run_at > now()"
    wait_until(lambda: int(server.postgres.sql(job)[0][0]) == 1, 20, "the first run")
    server.publish(wheel("x"))
    table = f'"{server.schema}".audit'
    server.postgres.sql(f"INSERT INTO {table} (at, actor, credential, action, outcome) "
                        "SELECT now() - n * interval '1 day', 'old', 'none', 'x', 'done' FROM generate_series(360, 369) AS n")
    server.postgres.sql(f"UPDATE \"{server.schema}\".job SET run_at = now() WHERE kind = 'prune'")
    count = f"SELECT count(*) FROM {table} WHERE actor = 'old'"
    wait_until(lambda: int(server.postgres.sql(count)[0][0]) == 5, 20, "the old rows to go")
