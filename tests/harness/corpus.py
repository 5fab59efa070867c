"""Real wheels and source distributions, fetched once with pip into the cache."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from .places import TESTS, cache_dir

_LIST = TESTS / "corpus.txt"


def corpus() -> list[Path]:
    """The files of tests/corpus.txt, in a folder named after the list and the Python that chose the wheels."""
    identity = hashlib.sha256(_LIST.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_dir() / f"corpus-{identity}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        wanted = [line.split() for line in _LIST.read_text().splitlines() if line and not line.startswith("#")]
        for kind, only in (("wheel", "--only-binary"), ("sdist", "--no-binary")):
            names = [requirement for each, requirement in wanted if each == kind]
            subprocess.run(
                [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
                 "--no-build-isolation", only, ":all:", "--dest", partial, *names], check=True)
        partial.rename(folder)
    return sorted(folder.iterdir())
