"""The peers: each started on loopback with the settings its own documentation gives for production."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import requests

from tests.harness.conda_packages import Package
from tests.harness.places import TESTS, cache_dir, environment
from tests.harness.processes import dies_with_parent, free_port, resident, wait_until
from tests.harness.quetz import config
from tests.harness.registry import ObjectStore
from tests.harness.wire import basic

from .load import Target


def tree_resident(pid: int) -> int:
    """Resident memory of a process and its children, in bytes."""
    total = resident(pid)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total + sum(tree_resident(int(child)) for child in children)


class Peer:
    """A server that is measured beside ours."""

    name = ""

    def __init__(self, folder: Path):
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.prepare()

    def prepare(self) -> None:
        """What is done once, before the first start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> "Peer":
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_parent)
        wait_until(self.answers, 60, f"{self.name}: {self.folder / 'log'}")
        self.started()
        return self

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {(self.folder / 'log').read_text()[-2000:]}")
        try:
            requests.get(self.url, timeout=5)
        except requests.ConnectionError:
            return False
        return True

    def started(self) -> None:
        """What is done whenever it answers."""

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def resident(self) -> int:
        return tree_resident(self.process.pid)

    @property
    def target(self) -> Target:
        """Where to publish."""
        raise NotImplementedError

    def index(self, project: str) -> str:
        """The simple index of a project, or with no name the list of projects."""
        raise NotImplementedError


class Pypiserver(Peer):
    """pypiserver with its threaded server and its cache of file hashes."""

    name = "pypiserver"

    def prepare(self) -> None:
        self.program = environment(TESTS / "peers" / "pypiserver.txt") / "bin" / "pypi-server"
        self.packages = self.folder / "packages"
        self.packages.mkdir()

    def command(self) -> list[str]:
        return [str(self.program), "run", "-i", "127.0.0.1", "-p", str(self.port), "-a", ".", "-P", ".", "--disable-fallback",
                "--overwrite", "--server", "auto", str(self.packages)]

    @property
    def target(self) -> Target:
        return Target(self.url + "/")

    def index(self, project: str) -> str:
        return f"{self.url}/simple/{project}/" if project else f"{self.url}/simple/"


class Devpi(Peer):
    """devpi-server with one index that has no mirror below it: a mirror would fetch the names of a whole public index."""

    name = "devpi"

    def prepare(self) -> None:
        self.programs = environment(TESTS / "peers" / "devpi.txt") / "bin"
        self.data = self.folder / "data"
        subprocess.run([self.programs / "devpi-init", "--serverdir", self.data, "--no-root-pypi"], check=True, capture_output=True)
        subprocess.run([self.programs / "devpi-gen-secret", "--secretfile", self.folder / "secret"], check=True, capture_output=True)
        (self.folder / "secret").chmod(0o600)
        self.token = ""

    def command(self) -> list[str]:
        return [str(self.programs / "devpi-server"), "--serverdir", str(self.data), "--host", "127.0.0.1", "--port", str(self.port),
                "--secretfile", str(self.folder / "secret")]

    def answers(self) -> bool:
        return super().answers() and requests.get(f"{self.url}/+api", timeout=5).status_code == 200

    def started(self) -> None:
        if not self.token:
            requests.put(f"{self.url}/bench", json={"password": "bench-password"}, timeout=60).raise_for_status()
        login = requests.post(f"{self.url}/+login", json={"user": "bench", "password": "bench-password"}, timeout=60)
        login.raise_for_status()
        first, self.token = not self.token, login.json()["result"]["password"]
        if first:
            requests.put(f"{self.url}/bench/dev", json={"bases": [], "volatile": True}, auth=("bench", self.token), timeout=60).raise_for_status()

    @property
    def target(self) -> Target:
        return Target(f"{self.url}/bench/dev/", basic("bench", self.token))

    @property
    def target_by_password(self) -> Target:
        """As twine uploads: with the account's password, which devpi checks anew each time."""
        return Target(f"{self.url}/bench/dev/", basic("bench", "bench-password"))

    def index(self, project: str) -> str:
        return f"{self.url}/bench/dev/+simple/{project}/" if project else f"{self.url}/bench/dev/+simple/"


class Nginx(Peer):
    """nginx serving files from disk: the same bytes that our server answers with."""

    name = "nginx"

    def prepare(self) -> None:
        self.program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.root = self.folder / "root"
        self.root.mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(f"""
            daemon off; {user} worker_processes auto; pid nginx.pid; error_log error.log warn;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type application/octet-stream;
                client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
                server {{ listen 127.0.0.1:{self.port}; root root; }}
            }}""")

    def command(self) -> list[str]:
        return [self.program, "-p", str(self.folder), "-c", "nginx.conf"]

    def put(self, name: str, content: bytes) -> str:
        """Offers a file; its URL."""
        (self.root / name).write_bytes(content)
        return f"{self.url}/{name}"


class Quetz(Peer):
    """Quetz without plugins over SQLite, as its `run --dev` sets it up: the one channel that its test key may write to is full of packages."""

    name = "quetz"
    CHANNEL = "channel0"

    def prepare(self) -> None:
        self.programs = environment(TESTS / "peers" / "quetz.txt") / "bin"
        self.key = ""
        (self.folder / "config.toml").write_text(config(self.folder / "quetz.sqlite", level="WARNING"))

    def command(self) -> list[str]:
        return [str(self.programs / "quetz"), "run", str(self.folder / "deployment"), "--copy-conf", str(self.folder / "config.toml"), "--dev",
                "--host", "127.0.0.1", "--port", str(self.port)]

    def started(self) -> None:
        log = (self.folder / "log").read_text()
        self.key = re.search(r'Test API key created for user "\w+": (\S+)', log)[1]

    @property
    def target(self) -> Target:
        return Target(f"{self.url}/api/channels/{self.CHANNEL}/upload/")

    def fill(self, packages: Iterable[Package]) -> None:
        """Puts packages into the channel's folder and has them read: uploads would take hours."""
        count, headers = 0, {"X-API-Key": self.key}
        for package in packages:
            place = self.folder / "deployment" / "channels" / self.CHANNEL / package.subdir
            place.mkdir(parents=True, exist_ok=True)
            (place / package.filename).write_bytes(package.content())
            count += 1
        channel = f"{self.url}/api/channels/{self.CHANNEL}"
        requests.put(f"{channel}/actions", json={"action": "reindex"}, headers=headers, timeout=60).raise_for_status()
        wait_until(lambda: requests.get(channel, headers=headers, timeout=600).json()["packages_count"] >= count, 3600, "quetz", interval=1)


class Minio(Peer):
    """MinIO on one folder: the external S3 server. Built once, into the cache, through the Go module proxy."""

    name = "minio"
    VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
    KEY, SECRET = "bench-access-key", "bench-secret-key-0123"

    @staticmethod
    def binary() -> Path:
        return cache_dir() / "go" / "bin" / "minio"

    @classmethod
    def build(cls) -> None:
        if not cls.binary().exists():
            print("building MinIO (some minutes, once)", flush=True)
            folders = {"GOPATH": str(cache_dir() / "go"), "GOBIN": str(cls.binary().parent), "GOFLAGS": "-modcacherw"}
            subprocess.run(["go", "install", f"github.com/minio/minio@{cls.VERSION}"], check=True, env={**os.environ, **folders})

    def prepare(self) -> None:
        self.build()

    def command(self) -> list[str]:
        return ["env", f"MINIO_ROOT_USER={self.KEY}", f"MINIO_ROOT_PASSWORD={self.SECRET}", "MINIO_BROWSER=off",
                str(self.binary()), "server", "--quiet", "--address", f"127.0.0.1:{self.port}", str(self.folder / "data")]

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.url, self.KEY, self.SECRET)
