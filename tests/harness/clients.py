"""The real clients, each run with a home of its own and none of the machine's settings."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from .dists import Dist, file_stem
from .places import TESTS, environment, venv_program
from .server import Server


def with_credentials(url: str, auth: tuple[str, str]) -> str:
    """A URL that carries a user name and a password."""
    parts = urlsplit(url)
    user, secret = (quote(each, safe="") for each in auth)
    return parts._replace(netloc=f"{user}:{secret}@{parts.netloc}").geturl()


class Desk:
    """A folder with a home, from which clients are run."""

    def __init__(self, folder: Path, server: Server):
        self.folder, self.server = folder, server
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        foreign = ("PIP_", "UV_", "TWINE_", "POETRY_", "PYTHON", "VIRTUAL_ENV", "XDG_", "NETRC")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign) and not name.lower().endswith("_proxy")},
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(folder / "uv-cache"),
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "POETRY_CACHE_DIR": str(folder / "poetry-cache"),
            "POETRY_KEYRING_ENABLED": "false",
            "NO_COLOR": "1",
        }

    def run(self, *command: object, ok: bool = True, cwd: Path | None = None, **environment: str) -> str:
        """Runs a command and returns all it printed; insists that it succeeds, or with `ok=False` that it fails."""
        done = subprocess.run([str(each) for each in command], cwd=cwd or self.folder, env={**self.environment, **environment},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert (done.returncode == 0) == ok, f"{command} ended with {done.returncode}\n{done.stdout}"
        return done.stdout

    # URLs

    def upload_url(self, channel: str = "dev") -> str:
        return f"{self.server.url}/pypi/{channel}/"

    def index_url(self, channel: str = "dev", auth: tuple[str, str] | None = None) -> str:
        url = f"{self.server.url}/pypi/{channel}/+simple/"
        return with_credentials(url, auth) if auth else url

    # Clients

    def pip(self, *arguments: object, ok: bool = True, **environment: str) -> str:
        return self.run(sys.executable, "-m", "pip", *arguments, ok=ok, **environment)

    def uv(self, *arguments: object, ok: bool = True, **environment: str) -> str:
        return self.run(venv_program("uv"), *arguments, ok=ok, **environment)

    def twine_upload(self, *files: Path, channel: str = "dev", auth: tuple[str, str] | None = None, ok: bool = True) -> str:
        user, secret = auth or self.server.admin
        return self.run(venv_program("twine"), "upload", "--non-interactive", "--disable-progress-bar",
                        "--repository-url", self.upload_url(channel), "-u", user, "-p", secret, *files, ok=ok)

    def uv_publish(self, *files: Path, channel: str = "dev", auth: tuple[str, str] | None = None, check: bool = False, ok: bool = True) -> str:
        user, secret = auth or self.server.admin
        check_url = ["--check-url", self.index_url(channel)] if check else []
        return self.uv("publish", "--publish-url", self.upload_url(channel), *check_url, "-u", user, "-p", secret,
                       "--trusted-publishing", "never", *files, ok=ok)

    def poetry(self, *arguments: object, cwd: Path, ok: bool = True, **environment_: str) -> str:
        program = environment(TESTS / "peers" / "poetry.txt") / "bin" / "poetry"
        return self.run(program, "--no-interaction", *arguments, cwd=cwd, ok=ok, **environment_)

    # Files

    def write(self, *dists: Dist) -> list[Path]:
        """Puts made packages into a folder; returns their paths."""
        folder = self.folder / "dist"
        folder.mkdir(exist_ok=True)
        paths = []
        for dist in dists:
            (folder / dist.filename).write_bytes(dist.content)
            paths.append(folder / dist.filename)
        return paths

    def netrc(self, auth: tuple[str, str]) -> Path:
        """A netrc with credentials for the server."""
        path = self.home / ".netrc"
        path.write_text(f"machine {urlsplit(self.server.url).hostname} login {auth[0]} password {auth[1]}\n")
        path.chmod(0o600)
        return path

    def installed_version(self, target: Path, name: str) -> str:
        """What a made package says of itself where it was installed."""
        return self.run(sys.executable, "-c", f"import {file_stem(name)} as it; print(it.VERSION)", PYTHONPATH=str(target)).strip()
