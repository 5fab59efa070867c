"""The commands beside `serve`, as an administrator runs them: users, tokens, migrations, the doctor."""

import os
import subprocess
from pathlib import Path

from .places import BINARY


def granary(config: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a subcommand with a config file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRANARY_")}
    return subprocess.run([BINARY, command, "--config", str(config), *arguments], capture_output=True, text=True, timeout=60, env=environment)


def create_user(config: Path, name: str, *options: str) -> None:
    """An account that logs in by tokens only. Options: `--group NAME`, `--admin`."""
    done = granary(config, "user", "create", name, *options)
    assert done.returncode == 0, done.stderr


def create_token(config: Path, user: str, *options: str) -> tuple[str, str]:
    """A token of an account, as name and password of a request. Options: `--role Reader`, `--channel pypi/dev`, `--package 'acme-*'`."""
    done = granary(config, "token", "create", "--user", user, *options)
    assert done.returncode == 0, done.stderr
    return user, done.stdout.strip().splitlines()[-1]
