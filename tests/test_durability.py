"""Acknowledged means kept: after `kill -9`, without Postgres, without the object store, and on any process."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from tests.harness.lifetime import fresh_schema, serving, watched
from tests.harness.dists import Dist, sdist, wheel
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import Proxy
from tests.harness.registry import Registry, store_of
from tests.harness.server import JSON_INDEX, PUBLIC, Dev
from tests.harness.wire import MULTIPART, form, multipart


class Uploads:
    """Threads that upload one new file after the other and remember what was acknowledged."""

    def __init__(self, server: Dev, threads: int = 8):
        self.server, self.url, self.auth = server, f"{server.url}/pypi/dev/", server.admin
        self.acknowledged: dict[str, Dist] = {}
        self.tried: dict[str, Dist] = {}
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Uploads":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        with requests.Session() as session:
            session.trust_env = False
            for count in range(10_000):
                if self.stopping.is_set():
                    return
                make = chance.choice((wheel, wheel, sdist))
                # Some are large enough to be sent to the store in parts.
                size = chance.choice((0, 500, 20_000, 300_000, 9_000_000 if count % 20 == 7 else 1000))
                dist = make(f"acme-{number % 3}", f"{number}.{count}", payload=chance.randbytes(size))
                self.tried[dist.filename] = dist
                try:
                    answer = session.post(self.url, data=multipart(form(dist)), headers={"Content-Type": MULTIPART}, auth=self.auth, timeout=30)
                except requests.RequestException:
                    return
                if answer.status_code < 300:
                    self.acknowledged[dist.filename] = dist


def listed_files(server: Dev) -> dict[str, bytes]:
    """Every file that any index lists, with its bytes."""
    found = {}
    for project in server.projects():
        page = f"{server.url}/pypi/dev/+simple/{project}/"
        for name, file in server.files(project).items():
            answer = server.session.get(urljoin(page, file["url"]), auth=server.admin, timeout=60)
            assert answer.status_code == 200, f"{name} is listed: {answer.status_code} {answer.text}"
            found[name] = answer.content
    return found


def assert_kept(server: Dev, uploads: Uploads) -> None:
    found = listed_files(server)
    for name, dist in uploads.acknowledged.items():
        assert found.get(name) == dist.content, f"{name} was acknowledged"
    for name, content in found.items():
        # What was committed while its answer was lost may be listed; then it is whole.
        assert content == uploads.tried[name].content, name


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5])
def test_killed_in_the_middle_of_uploads(serve: Callable[..., Dev], seconds: float):
    server = serve()
    with Uploads(server) as uploads:
        time.sleep(seconds)
        server.kill()
    assert uploads.acknowledged, "some were acknowledged before"
    server.start()
    assert_kept(server, uploads)
    for dist in uploads.tried.values():
        assert server.upload(dist).status_code < 300, "what was lost can be sent again"
    assert set(listed_files(server)) == set(uploads.tried)


def test_killed_again_and_again(serve: Callable[..., Dev]):
    server = serve()
    acknowledged: dict[str, Dist] = {}
    for turn in range(4):
        with Uploads(server, threads=4) as uploads:
            time.sleep(0.25 + turn * 0.1)
            server.kill()
        acknowledged |= uploads.acknowledged
        server.start()
    found = listed_files(server)
    assert all(found.get(name) == dist.content for name, dist in acknowledged.items())


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


def test_without_postgres(own_postgres: Postgres):
    with serving(own_postgres) as server:
        before, lost = wheel("acme-before"), wheel("acme-lost")
        server.publish(before)
        own_postgres.stop()

        for answer in (server.get("/pypi/dev/+simple/acme-before/"), server.upload(lost)):
            assert answer.status_code == 503
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            assert "postgres" not in answer.text.lower()
        assert server.managed("livez").status_code == 200
        wait_until(lambda: server.managed("readyz").status_code == 503, 10, "not ready")

        own_postgres.start()
        wait_until(lambda: server.get("/pypi/dev/+simple/acme-before/").status_code == 200, 15, "Postgres found again")
        wait_until(lambda: server.managed("readyz").status_code == 200, 15, "ready again")
        assert server.index("acme-lost") is None
        server.publish(lost)
        assert server.download("acme-before", before.filename) == before.content


def test_postgres_lost_in_the_middle_of_uploads(own_postgres: Postgres):
    with serving(own_postgres) as server:
        with Uploads(server) as uploads:
            for _ in range(3):
                time.sleep(0.4)
                own_postgres.stop()
                own_postgres.start()
            time.sleep(0.4)
        wait_until(lambda: server.managed("readyz").status_code == 200, 15, "ready again")
        assert uploads.acknowledged
        assert_kept(server, uploads)


class TestSeveralProcesses:
    """Two `granary serve` over one database and one store: a `granary dev` lends the store."""

    @pytest.fixture
    def pair(self, postgres: Postgres, serve: Callable[..., Dev], tmp_path: Path) -> Iterator[tuple[Registry, Registry]]:
        store = store_of(serve())
        schema = fresh_schema()
        channels = tmp_path / "channels"
        first, second = (Registry(tmp_path / name, postgres, schema, store, channels=channels) for name in ("first", "second"))
        channels.mkdir(exist_ok=True)
        first.write_channel("dev", PUBLIC)
        first.migrate()
        with watched(first), watched(second):
            for each in (first, second):
                each.wait_for_channel("dev")
            yield first, second
        postgres.drop(schema)

    def test_what_one_acknowledged_the_other_shows(self, pair: tuple[Registry, Registry]):
        for turn in range(40):
            writer, reader = pair if turn % 2 else pair[::-1]
            dist = wheel("acme-tool", f"1.{turn}")
            writer.publish(dist)
            assert dist.filename in reader.files("acme-tool")
            assert reader.download("acme-tool", dist.filename) == dist.content

    def test_new_projects_too(self, pair: tuple[Registry, Registry]):
        for turn in range(20):
            writer, reader = pair if turn % 2 else pair[::-1]
            writer.publish(wheel(f"acme-{turn}"))
            assert f"acme-{turn}" in reader.projects()

    def test_also_when_many_write_at_once(self, pair: tuple[Registry, Registry]):
        def one(number: int) -> None:
            writer, reader = pair if number % 2 else pair[::-1]
            for turn in range(12):
                dist = wheel(f"acme-{number % 3}", f"{number}.{turn}")
                writer.publish(dist)
                assert dist.filename in reader.files(dist.name)

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(one, number) for number in range(8)]:
                future.result()
        assert sum(len(pair[0].files(f"acme-{number}")) for number in range(3)) == 96

    def test_a_deletion_and_a_yank_count_everywhere_at_once(self, pair: tuple[Registry, Registry]):
        writer, reader = pair
        writer.publish(wheel("acme-tool", "1.0"), wheel("acme-tool", "2.0"))
        assert len(reader.files("acme-tool")) == 2
        writer.yank("acme-tool", "2.0", "broken")
        assert reader.files("acme-tool")[wheel("acme-tool", "2.0").filename]["yanked"]
        writer.delete_release("acme-tool", "1.0")
        assert set(reader.files("acme-tool")) == {wheel("acme-tool", "2.0").filename}

    def test_the_same_name_in_a_race_has_one_winner(self, pair: tuple[Registry, Registry]):
        for turn in range(10):
            rivals = [wheel("acme-race", f"1.{turn}", payload=bytes([number]) * 100) for number in range(6)]
            with ThreadPoolExecutor(6) as pool:
                answers = list(pool.map(lambda each: pair[each[0] % 2].upload(each[1]).status_code, enumerate(rivals)))
            assert sorted(answers) == [200] + [409] * 5
            winner = rivals[answers.index(200)]
            for each in pair:
                assert each.download("acme-race", winner.filename) == winner.content

    def test_a_tag_of_one_is_a_tag_of_the_other(self, pair: tuple[Registry, Registry]):
        pair[0].publish(wheel("acme-tool"))
        tags = {each.get("/pypi/dev/+simple/acme-tool/", headers={"Accept": JSON_INDEX}).headers["ETag"] for each in pair}
        assert len(tags) == 1


class TestWithoutTheObjectStore:
    def test_503_and_back_by_itself(self, postgres: Postgres, serve: Callable[..., Dev], tmp_path: Path):
        store = store_of(serve())
        host, _, port = store.endpoint.removeprefix("http://").partition(":")
        schema = fresh_schema()
        with Proxy((host, int(port))) as line:
            store.endpoint = f"http://127.0.0.1:{line.port}"
            registry = Registry(tmp_path / "registry", postgres, schema, store, spec={"cache": {"maxSize": "0"}})
            registry.write_channel("dev", PUBLIC)
            registry.migrate()
            with watched(registry):
                registry.wait_for_channel("dev")
                kept, lost = wheel("acme-kept"), wheel("acme-lost")
                registry.publish(kept)
                line.cut()
                answer = registry.upload(lost)
                assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
                answer = registry.session.get(registry.file_url("acme-kept", kept.filename), timeout=60)
                assert answer.status_code == 503
                assert registry.get("/pypi/dev/+simple/acme-kept/").status_code == 200, "an index needs no object"
                assert registry.index("acme-lost") is None
                line.mend()
                wait_until(lambda: registry.upload(lost).status_code < 300, 15, "the store found again")
                assert registry.download("acme-kept", kept.filename) == kept.content
        postgres.drop(schema)


def test_a_database_that_went_back_and_on_another_way_is_noticed(postgres: Postgres, serve: Callable[..., Dev]):
    """As after a failover that lost the last commits: the steps are counted alike, and yet others."""
    server = serve()
    dists = [wheel("acme-tool", "1.0"), wheel("acme-tool", "2.0")]
    server.publish(*dists)
    assert set(server.files("acme-tool")) == {dist.filename for dist in dists}
    postgres.sql(f"delete from {server.schema}.pypi_file where filename = '{dists[1].filename}'")
    assert len(server.files("acme-tool")) == 2, "nothing says that the row is gone"
    postgres.sql(f"update {server.schema}.revision_slot set mark = mark + 1 where n > 0")
    assert set(server.files("acme-tool")) == {dists[0].filename}


def test_a_silent_database_is_an_outage_and_no_hang(postgres: Postgres, serve: Callable[..., Dev]):
    """A Postgres that is reachable and answers nothing, as a frozen machine: 503 in the end, and back by itself."""
    server = serve()
    server.publish(wheel("acme-tool"))
    backends = [int(pid) for (pid,) in postgres.sql("select pid from pg_stat_activity where application_name = 'granary'")]
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert server.get("/pypi/dev/+simple/acme-tool/", timeout=60).status_code == 503
        assert time.monotonic() - began < 30
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: server.get("/pypi/dev/+simple/acme-tool/", timeout=60).status_code == 200, 30, "recovery")
