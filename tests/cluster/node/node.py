"""A node from outside: started, entered, stopped, however its starter ended."""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.places import CHECKOUT, cache_dir
from tests.harness.processes import wait_until

from . import components, control_groups
from .facts import Facts
from .services import process_state

FACTS = "facts.json"
PROGRAMS = "programs.json"
FIRST_PROCESS = "first-process"
# Where programs keep things at a place that nothing can change: the node mounts over them what it alone sees.
OWN_PLACES = ("/run", "/dev/shm", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def default_state() -> Path:
    """The folder of a node that nobody named one for."""
    return Path(tempfile.gettempdir()).resolve() / "granary-cluster"


def start_time(pid: int | str) -> str:
    """When a process started, in ticks: tells it from a later one with its number. Empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def record_first_process(state: Path) -> None:
    """Called by the first process while it still sees the machine's /proc: writes the number it has there."""
    pid = os.readlink("/proc/self")
    (state / FIRST_PROCESS).write_text(f"{pid} {start_time(pid)}")


def killed_with_parent() -> None:
    """As `preexec_fn`: when the starter is gone, so is the node."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def made_places() -> Path:
    """The file that says which of `OWN_PLACES` the machine did not have before there was a node on it."""
    return cache_dir() / "cluster-places.json"


def make_places() -> None:
    """Makes what is missing of `OWN_PLACES`."""
    missing = [place for place in OWN_PLACES if not Path(place).exists()]
    if missing:
        made_places().write_text(json.dumps(missing))
    for place in missing:
        Path(place).mkdir()


def remove_places() -> None:
    """Removes what was made. No node may be left: the kernel would end what it mounted there."""
    if made_places().exists():
        for place in json.loads(made_places().read_text()):
            if Path(place).exists():
                Path(place).rmdir()
        made_places().unlink()


class Node:
    """The node with this state folder."""

    def __init__(self, state: Path):
        self.state = state.resolve()
        # What holds the namespaces, when we started it.
        self._holder: subprocess.Popen | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other runs from using the node at the same time."""
        identity = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        with open(cache_dir() / f"cluster-{identity}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def first_process(self) -> int | None:
        """The process that the node lives and dies with; none when it is not running."""
        try:
            pid, started = (self.state / FIRST_PROCESS).read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if start_time(pid) == started and process_state(int(pid)) not in ("Z", "X") else None

    def running(self) -> bool:
        """Whether the node was started and has become ready."""
        return self.first_process() is not None and (self.state / FACTS).exists()

    def facts(self) -> Facts:
        """Of a running node."""
        return Facts.load(self.state / FACTS)

    def start(self, *, outlives_us: bool) -> Facts:
        """Starts the node anew and waits until pods can run on it."""
        if os.geteuid() != 0:
            raise RuntimeError("a node can only be started by root; or name a cluster with KUBECONFIG")
        subprocess.run([CHECKOUT / "scripts" / "need.sh", "cluster"], check=True)
        programs = {name: str(path) for name, path in components.programs().items()}
        self.stop()
        self.state.mkdir(mode=0o755, parents=True)
        (self.state / PROGRAMS).write_text(json.dumps(programs))
        control_groups.make(self.state)
        make_places()
        with open(self.state / "log", "wb") as log:
            self._holder = subprocess.Popen(
                ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", sys.executable,
                 "-m", f"{__package__}.init", str(self.state), f"{self.state}/{PROGRAMS}"],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=None if outlives_us else killed_with_parent)

        def ready() -> bool:
            if self._holder.poll() is not None:
                raise RuntimeError(f"the node ended:\n{(self.state / 'log').read_text()[-6000:]}")
            return self.running()

        wait_until(ready, 300, f"the node: {self.state}/log", 0.05)
        return self.facts()

    def stop(self) -> None:
        """Ends the node and removes everything of it. Does nothing when there is none."""
        if self.state.exists() and any(self.state.iterdir()) and not (self.state / PROGRAMS).exists():
            raise RuntimeError(f"{self.state} is not the folder of a node")
        pid = self.first_process()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.first_process() is None, 60, "the node to end")
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._holder = None
        wait_until(lambda: control_groups.remove(self.state), 30, "the node's control groups to be empty")
        if not control_groups.any_left():
            remove_places()
        if self.state.exists():
            shutil.rmtree(self.state)

    def inside(self, command: list[str]) -> list[str]:
        """The command that runs a command on the node: in its network and with its names, in the same folder.

        Start it with SIGINT ignored: then Ctrl-C reaches the command, and not what waits for its end.
        """
        namespaces = ["nsenter", f"--target={self.first_process()}", "--mount", "--net", "--pid", "--ipc"]
        return [*namespaces, "env", "--default-signal=INT", f"--chdir={Path.cwd()}", *command]
