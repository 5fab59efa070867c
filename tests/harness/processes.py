"""Child processes that never outlive the tests, and what the kernel says of them."""

import ctypes
import os
import pwd
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def dies_with_parent() -> None:
    """As `preexec_fn`: the kernel stops the child when the tests are gone, however they ended."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def unprivileged() -> dict:
    """Arguments of `Popen` for what refuses to run as root: nothing unless we are root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("Postgres does not run as root, and this system knows neither `postgres` nor `nobody`")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], seconds: float, what: str, interval: float = 0.02):
    """Asks until the answer is true and returns it; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        time.sleep(interval)


def status_field(pid: int, field: str) -> int:
    """A field of /proc/PID/status that is given in kB, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def resident(pid: int) -> int:
    """Resident memory now, in bytes."""
    return status_field(pid, "VmRSS")


def peak_resident(pid: int) -> int:
    """The most memory that was resident since the start or the last reset, in bytes."""
    return status_field(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Makes the peak begin anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
