"""Where things are: the checkout, the binary under test, the cache that outlives a run."""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
BINARY = Path(os.environ.get("GRANARY_BINARY") or CHECKOUT / "target" / "release" / "granary")

sys.path.insert(0, str(CHECKOUT / "scripts"))
from node_env import environment as node_environment  # noqa: E402
from python_env import cache_dir, environment  # noqa: E402

__all__ = ["BINARY", "CHECKOUT", "TESTS", "cache_dir", "environment", "node_environment", "venv_program"]


def venv_program(name: str) -> Path:
    """A program of the environment that runs this: twine, uv."""
    return Path(sys.prefix) / "bin" / name
