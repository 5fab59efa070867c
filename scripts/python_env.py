#!/usr/bin/env python3
"""Makes the virtual environment of a requirements file and prints its folder.

    scripts/python_env.py tests/requirements.txt

The folder lies in the cache, outside the checkout, and is named after a hash of the file and of the Python that
runs it: a changed pin makes a new environment and an unchanged one costs nothing. Needs only the standard library.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def cache_dir() -> Path:
    """Where everything that may be fetched again is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "granary"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made(folder: Path, what: str, make: Callable[[], None]) -> Path:
    """A folder that is made once, however many ask for it at the same time, and anew where its making was broken off."""
    folder.parent.mkdir(exist_ok=True)
    complete = folder / ".complete"
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"making {what}", file=sys.stderr)
            make()
            complete.touch()
    return folder


def environment(requirements: Path) -> Path:
    """The virtual environment of a requirements file, made when it is not there yet."""
    identity = hashlib.sha256(requirements.read_bytes())
    identity.update(f"{sys.version} {sys.base_prefix}".encode())
    folder = cache_dir() / "venvs" / f"{requirements.stem}-{identity.hexdigest()[:12]}"

    def make() -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, stdout=sys.stderr)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "-r", requirements], check=True, stdout=sys.stderr)

    return made(folder, f"the Python environment of {requirements.name}", make)


if __name__ == "__main__":
    print(environment(Path(sys.argv[1])))
