"""The commands of docs/operations.md, as tests run them: what the page says and what is proven cannot drift apart."""

import re

from tests.cluster.granary import run
from tests.cluster.kube import Kube
from tests.harness.places import CHECKOUT
from tests.harness.postgres import program

PAGE = CHECKOUT / "docs" / "operations.md"


def commands(name: str) -> str:
    """The commands of the page whose block begins with ```sh NAME."""
    found = re.findall(rf"^```sh {re.escape(name)}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{PAGE} has {len(found)} blocks named {name}"
    return found[0]


def follow(kube: Kube, *names: str, registry: str = "main", seconds: float = 300, **variables: str) -> str:
    """Runs these blocks in a namespace, one after the other; each command has to succeed. What they printed."""
    here = f'kubectl() {{ command kubectl --namespace={kube.namespace} "$@"; }}'
    postgres = program("pg_dump").rpartition("/")[0]
    script = "\n".join([here, f"PATH={postgres}:$PATH", *map(commands, names)])
    return run("bash", "-euo", "pipefail", "-c", script, seconds=seconds, REGISTRY=registry, **variables)
