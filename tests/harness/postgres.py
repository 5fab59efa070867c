"""A private Postgres on a Unix socket in a temporary folder."""

import glob
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .processes import dies_with_parent, unprivileged, wait_until
from .secrets import SECRETS

# Appears in the connection URL, so that a log which shows the URL is found out.
PASSWORD = SECRETS.add("planted-database-password")
DATABASE = "granary"


def program(name: str) -> str:
    """A Postgres program: Debian keeps the server's outside PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = found[-1] if found else shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed: scripts/need.sh postgres")
    return path


class Postgres:
    """A server of its own, as durable as one of production."""

    def __init__(self, *, settings: dict[str, str] | None = None):
        self.folder = Path(tempfile.mkdtemp(prefix="granary-pg-"))
        self.user = unprivileged()
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        self.settings = {"max_connections": "200", **(settings or {})}
        self.process: subprocess.Popen | None = None
        self._run("initdb", "-D", f"{self.folder}/data", "-U", "granary", "--auth=trust", "--no-sync",
                  "--encoding=UTF8", "--locale=C.UTF-8")
        self.start()
        self._run("createdb", "-h", str(self.folder), "-U", "granary", DATABASE)

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run([program(name), *arguments], cwd=self.folder, capture_output=True, text=True, **self.user)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", f"{self.folder}/data", "-k", str(self.folder), "-clisten_addresses=", *options],
                cwd=self.folder, stdout=log, stderr=log, preexec_fn=dies_with_parent, **self.user)

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            done = subprocess.run([program("pg_isready"), "-q", "-h", str(self.folder)])
            return done.returncode == 0

        wait_until(ready, 60, "Postgres")

    def stop(self) -> None:
        """Stops at once, breaking every connection, as a lost server does; `start` recovers."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None

    def close(self) -> None:
        """Stops and removes everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The connection URL, with a password that trust authentication does not ask for."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The connection URL of another database."""
        return f"postgresql://granary:{PASSWORD}@/{database}?host={quote(str(self.folder), safe='')}"

    def sql(self, statement: str, database: str = DATABASE) -> list[list[str]]:
        """Runs a statement, or several; their rows, as text."""
        out = self._run("psql", "-h", str(self.folder), "-U", "granary", "-d", database, "-v", "ON_ERROR_STOP=1", "-XqAt", "-F", "\t", "-c", statement)
        return [line.split("\t") for line in out.splitlines()]

    def dump(self, schema: str | None = None, database: str = DATABASE) -> str:
        """All rows of a schema, or of the whole database, as text; bytes are in hex."""
        only = ["--schema", f'"{schema}"'] if schema else []
        return self._run("pg_dump", "-h", str(self.folder), "-U", "granary", "-d", database, *only)

    def assert_no_secrets(self) -> None:
        """No secret stands in what is left of the database, nor in the server's own log, where statements stand that failed."""
        SECRETS.check("the database", self.dump())
        SECRETS.check("Postgres' log", (self.folder / "log").read_text(errors="replace"))

    @contextmanager
    def holding(self, statement: str) -> Iterator[None]:
        """A transaction that has run this statement, and ends with the `with`: what it locks is locked."""
        command = [program("psql"), "-h", str(self.folder), "-U", "granary", "-d", DATABASE, "-XqAt", "-v", "ON_ERROR_STOP=1"]
        session = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   preexec_fn=dies_with_parent, **self.user)
        session.stdin.write(f"BEGIN;\n{statement};\n\\echo held\n")
        session.stdin.flush()
        try:
            assert session.stdout.readline() == "held\n", statement
            yield
        finally:
            session.communicate("COMMIT;\n", timeout=30)

    def drop(self, schema: str) -> None:
        """Forgets a test's schema."""
        self.sql(f'SET client_min_messages = warning; DROP SCHEMA IF EXISTS "{schema}" CASCADE')
