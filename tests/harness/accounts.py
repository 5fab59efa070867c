"""The commands beside `serve`, as an administrator runs them: users, tokens, migrations, the doctor."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .places import BINARY
from .secrets import SECRETS


def granary(config: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a subcommand with a config file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRANARY_")}
    return subprocess.run([BINARY, command, "--config", str(config), *arguments], capture_output=True, text=True, timeout=60, env=environment)


def create_user(config: Path, name: str, *options: str, password: str | None = None) -> None:
    """An account, which without a password logs in by tokens only. Options: `--group NAME`, `--admin`."""
    with password_file(password) as given:
        done = granary(config, "user", "create", name, *options, *given)
    assert done.returncode == 0, done.stderr


def set_password(config: Path, name: str, password: str) -> None:
    """Gives an account another password."""
    with password_file(password) as given:
        done = granary(config, "user", "password", name, *given)
    assert done.returncode == 0, done.stderr


@contextmanager
def password_file(password: str | None) -> Iterator[list[str]]:
    """The options that name a file with this password; none where there is none."""
    if password is None:
        yield []
        return
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(SECRETS.add(password))
        file.flush()
        yield ["--password-file", file.name]


def create_token(config: Path, user: str, *options: str) -> tuple[str, str]:
    """A token of an account, as name and password of a request. Options: `--role Reader`, `--channel pypi/dev`, `--package 'acme-*'`."""
    done = granary(config, "token", "create", "--user", user, *options)
    assert done.returncode == 0, done.stderr
    return user, SECRETS.add(done.stdout.strip().splitlines()[-1])
