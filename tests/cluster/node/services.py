"""The programs of a node: started, stopped, paused. Works inside the node's namespaces.

How each is started stands in a file of the state folder, and so does its process, so that a test can stop
what the node started, and what a test starts again lives on when the test is over.
"""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.harness.postgres import program
from tests.harness.processes import wait_until


@dataclass(frozen=True)
class Service:
    """How a program is started and when it is ready."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    # As `Popen` takes them: the user who runs it.
    user: dict = field(default_factory=dict)
    # A URL: http://… answers 200; postgresql://HOST:PORT takes connections; empty: as soon as it runs.
    ready: str = ""


def process_state(pid: int) -> str:
    """The kernel's letter for a process; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int) -> list[int]:
    """A process and all that it started, itself first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(below for child in children for below in descendants(int(child)))]


def answers(url: str) -> bool:
    """Whether what `Service.ready` names is ready."""
    scheme, _, rest = url.partition("://")
    if scheme == "postgresql":
        host, _, port = rest.partition(":")
        return subprocess.run([program("pg_isready"), "-q", "-h", host, "-p", port, "-U", "postgres", "-d",
                               "postgres"]).returncode == 0
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Services:
    """The services of the node with this state folder."""

    def __init__(self, state: Path):
        self.folder = state / "services"
        self.logs = state / "logs"
        self._children: dict[str, subprocess.Popen] = {}

    def add(self, service: Service) -> None:
        """Starts a service for the first time; does not wait until it is ready."""
        (self.folder / f"{service.name}.json").write_text(json.dumps(asdict(service)))
        self._launch(service)

    def _service(self, name: str) -> Service:
        return Service(**json.loads((self.folder / f"{name}.json").read_text()))

    def pid(self, name: str) -> int:
        """The process of a service, whether it lives or not."""
        return int((self.folder / f"{name}.pid").read_text())

    def alive(self, name: str) -> bool:
        """Whether a service runs. A process that has ended and was not asked for its exit code does not."""
        return process_state(self.pid(name)) not in ("", "Z", "X")

    def log(self, name: str, last: int = 3000) -> str:
        """The end of a service's log, in characters."""
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace")[-last:] if path.exists() else ""

    def _launch(self, service: Service) -> None:
        with open(self.logs / f"{service.name}.log", "ab") as log:
            process = subprocess.Popen(
                service.command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                env={**os.environ, **service.environment}, **service.user)
        self._children[service.name] = process
        (self.folder / f"{service.name}.pid").write_text(str(process.pid))

    def start(self, name: str, seconds: float = 60) -> None:
        """Starts a service that was stopped, and waits until it is ready."""
        if not self.alive(name):
            self._launch(self._service(name))
        self.wait_ready(name, seconds)

    def wait_ready(self, name: str, seconds: float = 60) -> None:
        """Waits until a service is ready; fails at once when it has ended."""
        service = self._service(name)

        def ready() -> bool:
            if not self.alive(name):
                raise RuntimeError(f"{name} ended:\n{self.log(name)}")
            return not service.ready or answers(service.ready)

        wait_until(ready, seconds, f"{name} to be ready", 0.05)

    def stop(self, name: str, by: signal.Signals = signal.SIGTERM, seconds: float = 30) -> None:
        """Ends a service; with SIGKILL also all that it started, as when its machine fails."""
        pid = self.pid(name)
        for target in descendants(pid) if by == signal.SIGKILL else [pid]:
            _signal(target, by)
        wait_until(lambda: self._gone(name), seconds, f"{name} to end", 0.05)

    def _gone(self, name: str) -> bool:
        child = self._children.get(name)
        if child is not None:
            child.poll()
        return not self.alive(name)

    def pause(self, name: str) -> None:
        """Stops a service without ending it: connections stay open and nothing answers."""
        for target in descendants(self.pid(name)):
            _signal(target, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Lets a paused service go on."""
        for target in descendants(self.pid(name)):
            _signal(target, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
