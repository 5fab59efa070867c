"""`granary store` as a child process: its Postgres over TCP, its S3 server with signed requests."""

import hashlib
import hmac
import os
import re
import signal
import subprocess
import threading
from datetime import datetime, timezone
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import requests

from .places import BINARY
from .postgres import DATABASE, program
from .processes import dies_with_parent, free_port, wait_until
from .registry import ObjectStore
from .secrets import SECRETS

REGION = "us-east-1"


def signed(method: str, url: str, store: ObjectStore, body: bytes = b"") -> requests.Response:
    """A request with a signature of version 4; https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""
    address, _, path = url.removeprefix("http://").partition("/")
    time, content = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
    headers = {"host": address, "x-amz-content-sha256": content, "x-amz-date": time}
    names = ";".join(headers)
    canonical = [method, "/" + quote(path), "", *(f"{name}:{value}" for name, value in headers.items()), "", names, content]
    scope = f"{time[:8]}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()])
    key = f"AWS4{store.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={store.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return requests.request(method, url, headers=headers, data=body, timeout=10)


class Store:
    """A `granary store` over a folder. `command` is what starts it, when not the binary under test itself."""

    def __init__(self, data: Path, *, command: list[str] | None = None, folder: str | None = None, user: dict | None = None):
        self.data, self.user = data, user or {}
        self.command = command or [str(BINARY)]
        self.folder = folder or str(data)
        self.port, self.s3_port, self.management_port = free_port(), free_port(), free_port()
        self.password = SECRETS.add(token_hex(16))
        self.keys = ObjectStore(f"http://127.0.0.1:{self.s3_port}", "granary", SECRETS.add(token_hex(16)))
        self.lines: list[str] = []
        self.process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the process is told; the secrets among it."""
        return {
            "GRANARY_STORE_POSTGRES_PASSWORD": self.password,
            "GRANARY_STORE_ACCESS_KEY_ID": self.keys.access_key,
            "GRANARY_STORE_SECRET_ACCESS_KEY": self.keys.secret_key,
        }

    @property
    def url(self) -> str:
        """Where a registry finds the database."""
        return f"postgresql://granary:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def launch(self) -> subprocess.Popen:
        """Starts the process without waiting for it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GRANARY_", "PG"))}
        arguments = ["store", "--data-dir", self.folder, "--postgres-listen", f"127.0.0.1:{self.port}",
                     "--s3-listen", f"127.0.0.1:{self.s3_port}", "--management-listen", f"127.0.0.1:{self.management_port}"]
        self.process = subprocess.Popen([*self.command, *arguments], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace", env={**inherited, **self.environment},
                                        preexec_fn=dies_with_parent, **self.user)
        threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True).start()
        return self.process

    def _read(self, stream) -> None:
        with stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))

    def log(self) -> str:
        """All that was logged since the first start."""
        return "\n".join(self.lines)

    def managed(self, path: str) -> requests.Response:
        """A request to the management address."""
        return requests.get(f"http://127.0.0.1:{self.management_port}/{path}", timeout=5)

    def start(self, seconds: float = 60) -> "Store":
        """Starts the process and waits until both servers take connections."""
        self.launch()

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the store ended with {self.process.returncode}\n{self.log()[-4000:]}")
            try:
                return self.managed("readyz").status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(ready, seconds, f"the store\n{self.log()[-4000:]}")
        return self

    @property
    def pid(self) -> int:
        """The process id of `granary` itself, whatever started it."""
        pid = self.process.pid
        while Path(f"/proc/{pid}/comm").read_text().strip() != "granary":
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return pid

    def stop(self, seconds: float = 40) -> int:
        """Asks the process to end; its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """`kill -9`, if it runs."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(10)

    def rotate(self) -> None:
        """New secrets, for the next start."""
        self.password = SECRETS.add(token_hex(16))
        self.keys = ObjectStore(self.keys.endpoint, self.keys.access_key, SECRETS.add(token_hex(16)))

    def psql(self, statement: str, password: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a statement over TCP, by default with the right password."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.run(
            [program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "granary", "-d", DATABASE, "-wXqAt", "-c", statement],
            capture_output=True, text=True, timeout=30, env={**environment, "PGPASSWORD": password or self.password})

    def sql(self, statement: str) -> str:
        """What a statement answers."""
        done = self.psql(statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def s3(self, method: str, path: str, body: bytes = b"", keys: ObjectStore | None = None) -> requests.Response:
        """A signed request to the S3 server."""
        return signed(method, f"{self.keys.endpoint}/{path}", keys or self.keys, body)

    def postmaster(self) -> int:
        """The process id of the Postgres server, as this system counts."""
        children = [self.pid]
        while children:
            pid = children.pop()
            if re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
                continue
            if Path(f"/proc/{pid}/comm").read_text().strip() == "postgres":
                return pid
            for task in Path(f"/proc/{pid}/task").iterdir():
                children += map(int, (task / "children").read_text().split())
        raise LookupError("no Postgres below the store")
