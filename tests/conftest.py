"""Fixtures: one Postgres for the run, a server a module (or a test), packages named after the test that asks."""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import lifetime
from tests.harness.clients import Desk
from tests.harness.places import BINARY
from tests.harness.postgres import Postgres
from tests.harness.server import Dev


def pytest_sessionstart(session: pytest.Session) -> None:
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: cargo build --release", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed:
        for server in lifetime.running:
            report.sections.append((f"log of granary {server.arguments()[0]}", server.log()[-6000:]))
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The Postgres that tests share; each has a schema of its own."""
    server = Postgres()
    yield server
    try:
        server.assert_no_secrets()
    finally:
        server.close()


Serve = Callable[..., Dev]


@pytest.fixture
def serve(postgres: Postgres) -> Iterator[Serve]:
    """Starts servers for one test: `serve(channels, options)`."""
    with ExitStack() as stack:
        yield lambda channels=None, options=(): stack.enter_context(lifetime.serving(postgres, channels, options))


@pytest.fixture(scope="module")
def channels() -> dict[str, dict] | None:
    """The channels of the module's server; modules override it."""
    return None


@pytest.fixture(scope="module")
def server(postgres: Postgres, channels: dict[str, dict] | None) -> Iterator[Dev]:
    """A server that the tests of a module share."""
    with lifetime.serving(postgres, channels) as running:
        yield running


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """A project name that no other test of the module uses."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60] + "-" + uuid.uuid4().hex[:6]


@pytest.fixture
def desk(tmp_path: Path, server: Dev) -> Desk:
    """A place to run clients from, against the module's server."""
    return Desk(tmp_path, server)
