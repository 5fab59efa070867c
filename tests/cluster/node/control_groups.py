"""The control group that all pods of a node live in: the one thing that the kernel does not end with it."""

import errno
import hashlib
import os
from pathlib import Path

PREFIX = "granary-"
MOUNTED = Path("/sys/fs/cgroup")


def name(state: Path) -> str:
    """The group's name: a node's own, as its state folder is."""
    return f"{PREFIX}{hashlib.sha256(str(state).encode()).hexdigest()[:8]}"


def _hierarchies() -> list[Path]:
    if (MOUNTED / "cgroup.controllers").exists():
        return [MOUNTED]
    return [path.parent for path in MOUNTED.glob("*/cgroup.procs") if not path.parent.is_symlink()]


def make(state: Path) -> None:
    """Makes the group in every hierarchy."""
    for hierarchy in _hierarchies():
        group = hierarchy / name(state)
        group.mkdir(exist_ok=True)
        if hierarchy != MOUNTED and (hierarchy / "cpuset.cpus").exists():
            # In version 1 a new group has no processors and takes no process in.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (group / setting).write_text((hierarchy / setting).read_text())


def any_left() -> bool:
    """Whether there is the group of any node."""
    return any(True for hierarchy in _hierarchies() for _ in hierarchy.glob(f"{PREFIX}*"))


def remove(state: Path) -> bool:
    """Removes the group and all below it; false when something still runs in it."""
    try:
        for hierarchy in _hierarchies():
            for folder, _, _ in os.walk(hierarchy / name(state), topdown=False):
                os.rmdir(folder)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
