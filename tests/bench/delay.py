"""Distance to the object store: a proxy in a process of its own that adds a round trip's time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.harness.processes import dies_with_parent
from tests.harness.registry import ObjectStore


@contextmanager
def delayed(store: ObjectStore, seconds: float) -> Iterator[ObjectStore]:
    """The store behind a line that adds so much to every request; with 0 too, so that the proxy's own cost is in both."""
    command = [sys.executable, "-m", "tests.harness.proxy", "0", store.endpoint.removeprefix("http://"), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=dies_with_parent)
    try:
        port = process.stdout.readline().strip()
        yield replace(store, endpoint=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
