"""A Kubernetes cluster for the tests, and the tests on it.

    python -m tests.cluster run [--state DIR] [-- PYTEST-ARGUMENTS]
    python -m tests.cluster up | down [--state DIR]
    python -m tests.cluster exec [--state DIR] -- COMMAND…

`run` runs the tests against the cluster that KUBECONFIG names; with none, on a node that it starts here and
takes away afterwards. `up` leaves one running, which `run` then uses; `exec` runs a command on it,
and `down` removes it.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.harness.places import CHECKOUT

from .node import components
from .node.node import Node, default_state


def pytest_command(arguments: list[str]) -> list[str]:
    """Runs the tests of this folder, unless the arguments name some of them."""
    named = any(argument.startswith("tests/") for argument in arguments)
    return [sys.executable, "-m", "pytest", *([] if named else ["tests/cluster"]), *arguments]


def enter(node: Node, command: list[str]) -> int:
    """Runs a command on a node; its exit code."""
    # Ctrl-C is the command's affair: it ends in its own time, and we then take the node away.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(node.inside(command), env=node.facts().environment()).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def start(node: Node, *, outlives_us: bool) -> None:
    """Starts a node and says how long it took."""
    started = time.monotonic()
    node.start(outlives_us=outlives_us)
    print(f"the node is ready after {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def run(node: Node, arguments: list[str]) -> int:
    """Runs the tests."""
    if os.environ.get("KUBECONFIG"):
        path = os.pathsep.join([*components.missing_clients(), os.environ.get("PATH", os.defpath)])
        return subprocess.run(pytest_command(arguments), env={**os.environ, "PATH": path}).returncode
    with node.alone():
        if node.running():
            return enter(node, pytest_command(arguments))
        try:
            start(node, outlives_us=False)
            return enter(node, pytest_command(arguments))
        finally:
            node.stop()


def up(node: Node) -> int:
    """Starts a node that stays."""
    with node.alone():
        if not node.running():
            start(node, outlives_us=True)
    again = f"{Path(sys.executable)} -m tests.cluster"
    state = "" if node.state == default_state() else f" --state {node.state}"
    print(f"kubectl: {again} exec{state} -- kubectl get pods --all-namespaces")
    print(f"a shell: {again} exec{state} -- bash")
    print(f"facts:   {node.state}/facts.json")
    return 0


def main() -> int:
    """Reads the command line."""
    words, after = sys.argv[1:], []
    if "--" in words:
        words, after = words[: words.index("--")], words[words.index("--") + 1:]
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "up", "down", "exec"))
    parser.add_argument("--state", type=Path, default=default_state(), help="the node's folder (%(default)s)")
    options = parser.parse_args(words)
    node = Node(options.state)
    # As Ctrl-C does: what was started is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(CHECKOUT)
    match options.action:
        case "run":
            return run(node, after)
        case "up":
            return up(node)
        case "down":
            node.stop()
            return 0
        case _:
            if not node.running():
                parser.error("no node is running: python -m tests.cluster up")
            return enter(node, after or ["bash"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"error: {error}")
