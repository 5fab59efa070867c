"""The real binary as a child process, with what tests ask of it."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urljoin

import requests

from .accounts import create_token, create_user
from .dists import Dist, normalize
from .places import BINARY
from .postgres import Postgres
from .processes import dies_with_parent, free_port, wait_until
from .secrets import SECRETS
from .wire import MULTIPART, Part, form, multipart

JSON_INDEX = "application/vnd.pypi.simple.v1+json"
HTML_INDEX = "application/vnd.pypi.simple.v1+html"

PUBLIC = {"format": "pypi", "visibility": "public"}


def channel(name: str, spec: dict) -> str:
    """A Channel resource; JSON is YAML."""
    return json.dumps({"apiVersion": "granary.dev/v1alpha1", "kind": "Channel", "metadata": {"name": name.replace("/", "-")}, "spec": spec}, indent=2)


class Server:
    """A `granary` process. Subclasses say with which arguments it starts."""

    def __init__(self, folder: Path, postgres: Postgres, schema: str):
        self.folder, self.postgres, self.schema = folder, postgres, schema
        self.channels = folder / "channels"
        self.channels.mkdir(parents=True, exist_ok=True)
        self.stderr = folder / "log"
        self.management = f"127.0.0.1:{free_port()}"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen | None = None
        self.url = ""
        self.ready_after = 0.0
        self.secrets = SECRETS
        self.refusals: list[str] = []
        self.metrics = ""
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.hooks["response"].append(self._note_refusal)
        self.output: list[str] = []

    def arguments(self) -> list[str]:
        """The command and its options."""
        raise NotImplementedError

    @property
    def config(self) -> Path:
        """The config file for the commands beside the server."""
        raise NotImplementedError

    # The process

    def launch(self) -> subprocess.Popen:
        """Starts the process without waiting for it to serve."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRANARY_", "AWS_", "PG", "OTEL_"))}
        self.output = []
        with open(self.stderr, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, *self.arguments()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**environment, **self.environment}, preexec_fn=dies_with_parent)
        threading.Thread(target=self._read_output, args=(self.process.stdout, self.output), daemon=True).start()
        return self.process

    @staticmethod
    def _read_output(stream, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))

    def is_ready(self) -> bool:
        """Whether the process that was launched says that it serves; sets `url`."""
        raise NotImplementedError

    def start(self, seconds: float = 30) -> "Server":
        """Starts the process and waits until it serves."""
        started = time.monotonic()
        self.launch()
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}\n{self.log()[-4000:]}")
            if time.monotonic() > started + seconds:
                self.kill()
                raise TimeoutError(f"not ready within {seconds} s\n{self.log()[-4000:]}")
            time.sleep(0.005)
        self.ready_after = time.monotonic() - started
        return self

    def stop(self, seconds: float = 30) -> int:
        """Asks the process to end, as an operator would; its exit code."""
        if self.process is None:
            return 0
        self.read_metrics()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.process = None
        self.session.close()
        return code

    def kill(self) -> None:
        """`kill -9`: no chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.session.close()

    def restart(self) -> "Server":
        self.stop()
        return self.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """All that this process and those before it logged, and what this one printed."""
        logged = self.stderr.read_text(errors="replace") if self.stderr.exists() else ""
        return logged + "\n".join(self.output)

    def _note_refusal(self, answer: requests.Response, **_: object) -> None:
        if answer.status_code >= 400:
            self.refusals.append(f"{answer.request.method} {answer.status_code} {dict(answer.headers)} {answer.text}")

    def read_metrics(self) -> None:
        """Keeps what the metrics say now, for `assert_no_secrets`."""
        try:
            self.metrics += requests.get(f"http://{self.management}/metrics", timeout=5).text
        except requests.RequestException:
            pass  # a test has taken away what it would need to answer

    def assert_no_secrets(self) -> None:
        """No secret that any test knows of stands in the log, in a refusal, in the metrics or in the database."""
        self.secrets.check("the log", self.log())
        self.secrets.check("an answer", "\n".join(self.refusals))
        self.secrets.check("the metrics", self.metrics)
        if self.postgres.process is not None:
            self.secrets.check("the database", self.postgres.dump(self.schema))

    # Accounts

    def user(self, name: str, *groups: str, password: str | None = None) -> None:
        """An account; without a password it logs in by tokens only."""
        create_user(self.config, name, *(option for group in groups for option in ("--group", group)), password=password)

    def token(self, user: str, *options: str) -> tuple[str, str]:
        """A token of an account, as name and password of a request."""
        return create_token(self.config, user, *options)

    # Channels

    def write_channel(self, name: str, spec: dict) -> Path:
        """Writes a channel's file; returns where."""
        path = self.channels / f"{name.replace('/', '--')}.yaml"
        path.write_text(channel(name, spec))
        return path

    # Requests

    @property
    def admin_token(self) -> str:
        raise NotImplementedError

    @property
    def admin(self) -> tuple[str, str]:
        """The admin's token as the password of a user of no account."""
        self.secrets.add(self.admin_token)
        return "__token__", self.admin_token

    def request(self, method: str, path: str, auth: tuple[str, str] | None = None, **options) -> requests.Response:
        """A request to a path of this server; follows no redirect unless told to."""
        options.setdefault("allow_redirects", False)
        options.setdefault("timeout", 30)
        if auth is not None:
            self.secrets.add(auth[1])
        return self.session.request(method, urljoin(self.url + "/", path.lstrip("/")), auth=auth, **options)

    def get(self, path: str, auth: tuple[str, str] | None = None, **options) -> requests.Response:
        return self.request("GET", path, auth, **options)

    def managed(self, path: str) -> requests.Response:
        """A request to the management port."""
        return requests.get(f"http://{self.management}/{path.lstrip('/')}", timeout=5)

    def post_form(self, parts: list[Part], *, channel: str = "dev", auth: tuple[str, str] | None = None, closed: bool = True) -> requests.Response:
        """Posts a form to a channel, as the admin unless someone else is named."""
        return self.request("POST", f"/pypi/{channel}/", auth or self.admin, data=multipart(parts, closed=closed),
                            headers={"Content-Type": MULTIPART})

    def upload(self, dist: Dist, *, channel: str = "dev", auth: tuple[str, str] | None = None, **fields: str) -> requests.Response:
        """Uploads a file; `fields` replaces form fields."""
        return self.post_form(form(dist, **fields), channel=channel, auth=auth)

    def publish(self, *dists: Dist, channel: str = "dev") -> None:
        """Uploads files and insists."""
        for dist in dists:
            answer = self.upload(dist, channel=channel)
            assert answer.status_code < 300, f"{dist.filename}: {answer.status_code} {answer.text}"

    def index(self, name: str, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> dict | None:
        """A project's index as JSON; None where there is none."""
        answer = self.get(f"/pypi/{channel}/+simple/{normalize(name)}/", auth or self.admin, headers={"Accept": JSON_INDEX})
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()

    def files(self, name: str, *, channel: str = "dev") -> dict[str, dict]:
        """A project's files by their names."""
        index = self.index(name, channel=channel)
        return {file["filename"]: file for file in index["files"]} if index else {}

    def projects(self, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> set[str]:
        """The names in a channel's project list."""
        answer = self.get(f"/pypi/{channel}/+simple/", auth or self.admin, headers={"Accept": JSON_INDEX})
        assert answer.status_code == 200, answer.text
        return {normalize(project["name"]) for project in answer.json()["projects"]}

    def file_url(self, name: str, filename: str, *, channel: str = "dev") -> str:
        """The absolute URL under which an index offers a file."""
        listed = self.files(name, channel=channel)[filename]["url"]
        return urljoin(f"{self.url}/pypi/{channel}/+simple/{normalize(name)}/", listed)

    def download(self, name: str, filename: str, *, channel: str = "dev") -> bytes:
        """A file's bytes, by way of the index."""
        answer = self.session.get(self.file_url(name, filename, channel=channel), auth=self.admin, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.content

    def yank(self, name: str, version: str, reason: str = "", *, channel: str = "dev", auth: tuple[str, str] | None = None) -> requests.Response:
        """Yanks a release."""
        return self.request("PUT", f"/pypi/{channel}/+yank/{normalize(name)}/{version}", auth or self.admin, data=reason.encode())

    def unyank(self, name: str, version: str, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> requests.Response:
        """Takes a yank back."""
        return self.request("DELETE", f"/pypi/{channel}/+yank/{normalize(name)}/{version}", auth or self.admin)

    def delete_release(self, name: str, version: str, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> requests.Response:
        """Deletes a release with its files."""
        return self.request("DELETE", f"/pypi/{channel}/+project/{normalize(name)}/{version}", auth or self.admin)

    def delete_project(self, name: str, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> requests.Response:
        """Deletes a project."""
        return self.request("DELETE", f"/pypi/{channel}/+project/{normalize(name)}", auth or self.admin)

    def delete_file(self, name: str, filename: str, *, channel: str = "dev", auth: tuple[str, str] | None = None) -> requests.Response:
        """Deletes one file."""
        return self.session.delete(self.file_url(name, filename, channel=channel), auth=auth or self.admin, timeout=30)

    def wait_for_channel(self, name: str, seconds: float = 10) -> None:
        """Waits until a channel's file has been applied, whichever its format."""
        indexes = f"/pypi/{name}/+simple/", f"/conda/get/{name}/noarch/repodata.json"
        wait_until(lambda: any(self.get(index, self.admin).status_code == 200 for index in indexes), seconds, f"channel {name}")


class Dev(Server):
    """`granary dev` over a Postgres that runs already."""

    def __init__(self, folder: Path, postgres: Postgres, schema: str, channels: dict[str, dict] | None = None,
                 options: tuple[str, ...] = ()):
        super().__init__(folder, postgres, schema)
        self.options = options
        self.data = folder / "data"
        self.token_file = folder / "admin-token"
        for name, spec in (channels or {"dev": PUBLIC}).items():
            self.write_channel(name, spec)

    def arguments(self) -> list[str]:
        return ["dev", "--data-dir", str(self.data), "--listen", "127.0.0.1:0", "--management-listen", self.management,
                "--channels", str(self.channels), "--admin-token-file", str(self.token_file),
                "--database-url", self.postgres.url, "--schema", self.schema,
                "--log-format", "json", "--log", "info", *self.options]

    def is_ready(self) -> bool:
        for line in self.output:
            if line.startswith("ready "):
                self.url = line.removeprefix("ready ").rstrip("/")
                self.secrets.add((self.data / "secrets" / "object-store-key").read_text().strip())
                return True
        return False

    @property
    def config(self) -> Path:
        return self.data / "config.yaml"

    @property
    def admin_token(self) -> str:
        return self.token_file.read_text().strip()
