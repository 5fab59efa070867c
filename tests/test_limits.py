"""What a flood is answered: of wrong passwords, which are borne up to a limit, and of requests."""

import concurrent.futures
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.accounts import granary
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.postgres import Postgres
from tests.harness.registry import Registry, store_of
from tests.harness.server import Dev

PASSWORD = "correct horse battery staple"
FAILURES_PER_USER = 10
PER_CALLER, PER_ADDRESS, BURST_SECONDS = 4, 2, 10
# Checks that may be under way when the limit is reached: two hashes at a time.
AT_A_TIME = 2


def limited(server: Dev, postgres: Postgres, folder: Path, schema: str, **limits: int) -> Registry:
    """A registry behind a proxy that it trusts, so that a test can come from any address."""
    spec = {"proxy": {"trusted": ["127.0.0.0/8"]}, "limits": limits,
            "identity": {"logins": {"failuresPerUser": FAILURES_PER_USER, "failuresPerAddress": 1000, "within": "1h"}}}
    registry = Registry(folder, postgres, schema, store_of(server), spec=spec)
    registry.secrets.add(PASSWORD)
    return registry


@pytest.fixture(scope="module")
def pods(server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Registry]]:
    """Two processes of one registry, with an account for each test."""
    schema = fresh_schema()
    first, second = (limited(server, postgres, tmp_path_factory.mktemp("pod"), schema) for _ in range(2))
    first.migrate()
    password = first.folder / "password"
    password.write_text(PASSWORD)
    for name in ("ada", "bob", "eve"):
        made = granary(first.config, "user", "create", name, "--password-file", str(password))
        assert made.returncode == 0, made.stderr
    with watched(first), watched(second):
        yield [first, second]


def whoami(pod: Registry, user: str, password: str, address: str) -> requests.Response:
    return requests.get(f"{pod.url}/-/whoami", auth=(user, password), headers={"X-Forwarded-For": address}, timeout=30)


def at_once(questions: list) -> list[requests.Response]:
    """Asks all of these at the same moment."""
    together = threading.Barrier(len(questions))

    def ask(question) -> requests.Response:
        together.wait()
        return question()

    with concurrent.futures.ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(ask, questions))


def test_wrong_passwords_are_borne_up_to_a_limit_on_all_pods_together(pods: list[Registry]):
    statuses = [whoami(pods[turn % 2], "ada", f"wrong {turn}", "192.0.2.1").status_code for turn in range(14)]
    assert statuses == [401] * FAILURES_PER_USER + [429] * 4
    for pod in pods:
        refused = whoami(pod, "ada", PASSWORD, "192.0.2.1")
        assert refused.status_code == 429 and 3500 < int(refused.headers["Retry-After"]) <= 3600
        # Whoever comes from elsewhere is not locked out by a stranger.
        assert whoami(pod, "ada", PASSWORD, "192.0.2.2").status_code == 200


def test_names_that_nobody_has_are_answered_alike(pods: list[Registry]):
    answers = [whoami(pods[0], "nobody-of-this-name", f"wrong {turn}", "192.0.2.3") for turn in range(11)]
    assert [answer.status_code for answer in answers] == [401] * FAILURES_PER_USER + [429]
    of_somebody = whoami(pods[0], "bob", "wrong", "192.0.2.4")
    assert (of_somebody.status_code, of_somebody.text) == (answers[0].status_code, answers[0].text)


def test_guesses_sent_at_once_do_not_pass_the_limit(pods: list[Registry]):
    guesses = [lambda pod=pods[turn % 2], turn=turn: whoami(pod, "bob", f"guess {turn}", "192.0.2.5") for turn in range(60)]
    counted = Counter(answer.status_code for answer in at_once(guesses))
    assert set(counted) == {401, 429}
    assert FAILURES_PER_USER <= counted[401] <= FAILURES_PER_USER + len(pods) * (AT_A_TIME - 1) + 1


def test_a_right_password_is_right_however_many_come_at_once(pods: list[Registry]):
    questions = [lambda: whoami(pods[0], "eve", PASSWORD, "192.0.2.6")] * 60
    begun = time.monotonic()
    assert {answer.status_code for answer in at_once(questions)} == {200}
    assert time.monotonic() - begun < 10


@pytest.fixture(scope="module")
def rationed(server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    limits = {"requestsPerCaller": PER_CALLER, "requestsPerAddress": PER_ADDRESS}
    registry = limited(server, postgres, tmp_path_factory.mktemp("rationed"), fresh_schema(), **limits).migrate()
    for name in ("ada", "bob"):
        registry.user(name)
    registry.write_channel("dev", {"format": "pypi", "visibility": "public"})
    with watched(registry):
        yield registry


def flood(registry: Registry, requests_: int, **options) -> list[requests.Response]:
    return [registry.get("/pypi/dev/+simple/", **options) for _ in range(requests_)]


def assert_rationed(answers: list[requests.Response], rate: int, took: float) -> None:
    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(passed) + len(refused) == len(answers)
    assert rate * BURST_SECONDS <= len(passed) <= rate * (BURST_SECONDS + took) + 1
    assert refused and all(answer.headers["Retry-After"] == "1" for answer in refused)


def test_one_caller_is_rationed_and_others_are_not(rationed: Registry):
    ada, bob = rationed.token("ada"), rationed.token("bob")
    begun = time.monotonic()
    answers = flood(rationed, 80, auth=ada)
    assert_rationed(answers, PER_CALLER, time.monotonic() - begun)
    # Another token of hers is hers too; his is not.
    assert flood(rationed, 1, auth=rationed.token("ada"))[0].status_code == 429
    assert flood(rationed, 1, auth=bob)[0].status_code == 200


def test_strangers_are_rationed_by_their_address(rationed: Registry):
    begun = time.monotonic()
    answers = flood(rationed, 40, headers={"X-Forwarded-For": "192.0.2.7"})
    assert_rationed(answers, PER_ADDRESS, time.monotonic() - begun)
    assert flood(rationed, 1, headers={"X-Forwarded-For": "192.0.2.8"})[0].status_code == 200
    # Whoever says who they are is not counted with the strangers of their address.
    known = flood(rationed, 1, auth=rationed.token("bob"), headers={"X-Forwarded-For": "192.0.2.7"})
    assert known[0].status_code == 200
