#!/usr/bin/env python3
"""Installs what a folder's package-lock.json names and prints where it stands.

    scripts/node_env.py tests/identity-provider

The folder lies in the cache, outside the checkout, and is named after a hash of the lock: a changed pin makes a new one and
an unchanged one costs nothing. Needs Node with npm, and otherwise only the standard library.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from python_env import cache_dir, made


def environment(packages: Path) -> Path:
    """The folder that holds `node_modules`, made when it is not there yet."""
    identity = hashlib.sha256((packages / "package.json").read_bytes() + (packages / "package-lock.json").read_bytes())
    folder = cache_dir() / "node" / f"{packages.name}-{identity.hexdigest()[:12]}"

    def make() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(packages / name, folder / name)
        # Exactly what the lock says, by its digests; no package runs anything.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)

    return made(folder, f"the Node packages of {packages.name}", make)


if __name__ == "__main__":
    print(environment(Path(sys.argv[1])))
