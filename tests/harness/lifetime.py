"""How long a server lives: as long as a `with`, at whose end what it has written is read for secrets."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .postgres import Postgres
from .server import Dev, Server

# Servers that run now, for the report of a test that fails.
running: list[Server] = []


def fresh_schema() -> str:
    """A schema that nobody uses, short enough to begin the name of a bucket."""
    return f"test_{uuid.uuid4().hex[:12]}"


@contextmanager
def watched(server: Server) -> Iterator[Server]:
    """A started server; what it has written and kept is read for secrets at the end."""
    running.append(server)
    try:
        yield server.start()
        server.stop()
        server.assert_no_secrets()
    finally:
        server.kill()
        running.remove(server)


@contextmanager
def serving(postgres: Postgres, channels: dict[str, dict] | None = None, options: tuple[str, ...] = ()) -> Iterator[Dev]:
    """A `granary dev` with a schema and a folder that are gone afterwards."""
    schema = fresh_schema()
    with tempfile.TemporaryDirectory(prefix="granary-test-") as folder:
        try:
            with watched(Dev(Path(folder), postgres, schema, channels, options)) as server:
                yield server
        finally:
            if postgres.process is not None:
                postgres.drop(schema)
