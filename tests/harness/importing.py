"""`granary import`, and old servers as oracles: each in an environment of its own, asked by a script that runs there."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .places import BINARY, TESTS, environment

ORACLES = TESTS / "import" / "oracles"


@dataclass
class Imported:
    """What `granary import` said."""

    code: int
    yaml: str
    report: str


def granary_import(*arguments: object, variables: dict[str, str] | None = None) -> Imported:
    """Runs `granary import` and gives back what it printed; the caller looks at the exit code."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("CONAN_", "QUETZ_"))}
    run = subprocess.run([BINARY, "import", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                         env=others | (variables or {}), check=False)
    return Imported(run.returncode, run.stdout, run.stderr)


def table(path: Path) -> list[dict]:
    """What `--table` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def peer(name: str) -> Path:
    """The programs of an old server's environment."""
    return environment(TESTS / "peers" / f"{name}.txt") / "bin"


def oracle(name: str, script: str, *arguments: object, variables: dict[str, str] | None = None) -> dict:
    """Runs a script of `oracles/` in the environment of an old server and gives back the JSON that it prints last."""
    run = subprocess.run([peer(name) / "python", ORACLES / script, *map(str, arguments)], capture_output=True, text=True,
                         timeout=300, env=os.environ | (variables or {}), check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])
