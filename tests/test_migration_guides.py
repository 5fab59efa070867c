"""The guides for those who come from an old server: nothing that it has is left without an answer."""

import json
import re
import subprocess

import pytest

from tests.harness.importing import peer
from tests.harness.places import CHECKOUT

OLD_SERVER = """
import json, warnings
warnings.simplefilter("ignore")
import typer
from quetz.cli import app
from quetz.config import Config
sections = {section.name: [entry.name for entry in section.entries] for section in Config._config_map}
commands = {name: [option for each in command.params for option in each.opts if option.startswith("--")]
            for name, command in typer.main.get_command(app).commands.items()}
print(json.dumps([sections, commands]))
"""


@pytest.fixture(scope="module")
def guide() -> str:
    return (CHECKOUT / "docs" / "migrating-from-quetz.md").read_text()


@pytest.fixture(scope="module")
def quetz() -> tuple[dict, dict]:
    """Its sections with their options, and its commands with theirs."""
    run = subprocess.run([peer("quetz") / "python", "-c", OLD_SERVER], capture_output=True, text=True, check=True)
    sections, commands = json.loads(run.stdout)
    return sections, commands


def test_every_option_of_quetz_has_an_answer(guide: str, quetz: tuple[dict, dict]):
    sections, _ = quetz
    assert len(sections) > 15
    for section, entries in sections.items():
        found = re.search(rf"\*\*\[{section}\]\*\*(.*?)(?=\*\*\[|\n\n)", guide, re.DOTALL)
        assert found, section
        for entry in entries:
            assert f"`{entry}`" in found[1], f"{section}.{entry}"


def test_every_command_of_quetz_has_an_answer(guide: str, quetz: tuple[dict, dict]):
    _, commands = quetz
    table = guide[guide.index("## Command line"):]
    assert len(commands) > 8
    for command, options in commands.items():
        assert f"`quetz {command}" in table, command
        for option in options:
            assert f"`{option}" in table, f"{command} {option}"
