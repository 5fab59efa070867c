"""Load from outside: wrk for reading, processes with kept connections and finished bodies for publishing."""

import json
import multiprocessing
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.wire import BOUNDARY, form, multipart
from tests.harness.dists import Dist

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass
class Load:
    """What a load was answered with."""

    rate: float
    p50: float
    p99: float
    bytes_per_second: float


def wrk(url: str, headers: dict[str, str] | None = None, *, connections: int = 16, seconds: float = 4, warm: bool = True) -> Load:
    """Asks for a URL over so many kept connections, for so long; every answer must be a 2xx or 3xx."""
    command = ["wrk", "-t1", f"-c{connections}", "--timeout", "60s", "-s", str(_SCRIPT)]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    if warm:
        subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    out = subprocess.run([*command, f"-d{seconds:.0f}s", url], check=True, capture_output=True, text=True).stdout
    result = json.loads(out.strip().splitlines()[-1])
    if result["refused"] or result["broken"]:
        raise RuntimeError(f"{url}: {out}")
    return Load(result["requests"] / result["seconds"], result["p50"], result["p99"], result["bytes"] / result["seconds"])


def in_turns(*requests: tuple[str, dict[str, str]], seconds: float, rounds: int = 3, connections: int = 16) -> list[Load]:
    """Loads servers that are compared one after the other, several times round, so that whatever else the machine does falls on all
    alike; of each the round of the median rate."""
    loads = [[wrk(url, headers, connections=connections, seconds=max(1, seconds / rounds), warm=turn == 0) for url, headers in requests]
             for turn in range(rounds)]
    return [sorted(each, key=lambda load: load.rate)[rounds // 2] for each in zip(*loads, strict=True)]


def once(url: str, headers: dict[str, str] | None = None) -> float:
    """The seconds that one request takes on a new connection, body included."""
    started = time.perf_counter()
    with Line(url) as line:
        status, _ = line.request("GET", urlsplit(url).path, headers or {})
    if status != 200:
        raise RuntimeError(f"{url}: {status}")
    return time.perf_counter() - started


class Line:
    """A kept HTTP/1.1 connection that costs the measuring side as little as Python can."""

    _LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

    def __init__(self, url: str):
        self.address = urlsplit(url)
        self.socket: socket.socket | None = None
        self.buffer = bytearray(1 << 20)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def request(self, method: str, target: str, headers: dict[str, str], *pieces: bytes | Iterable[bytes]) -> tuple[int, int]:
        """Sends a request, whose body may come in pieces; its status and the length of the answer's body, which is read and dropped."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.address.netloc}", *(f"{name}: {value}" for name, value in headers.items())]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if self.socket is None:
            self.socket = socket.create_connection((self.address.hostname, self.address.port), 600)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(pieces) == 1 and isinstance(pieces[0], bytes):
            self.socket.sendall(head + pieces[0])
        else:
            self.socket.sendall(head)
            for piece in pieces:
                for each in [piece] if isinstance(piece, bytes) else piece:
                    self.socket.sendall(each)
        got = bytearray()
        while (end := got.find(b"\r\n\r\n")) < 0:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError(f"closed after {bytes(got)!r}")
            got += more
        status = int(got[9:12])
        top = bytes(got[:end]).lower()
        found = self._LENGTH.search(top)
        read = len(got) - end - 4
        if b"transfer-encoding: chunked" in top:
            last = bytes(got[-5:])
            while not last.endswith(b"0\r\n\r\n"):
                more = self.socket.recv_into(self.buffer)
                if not more:
                    raise ConnectionError("closed in the middle of a body")
                read += more
                last = (last + bytes(self.buffer[max(0, more - 5):more]))[-5:]
        elif found is None:
            while more := self.socket.recv_into(self.buffer):
                read += more
            self.close()
        else:
            length = int(found[1])
            while read < length:
                more = self.socket.recv_into(self.buffer)
                if not more:
                    raise ConnectionError("closed in the middle of a body")
                read += more
            if b"connection: close" in top:
                self.close()
        return status, read


@dataclass
class Target:
    """Where files are published to."""

    url: str
    authorization: str | None = None

    def headers(self, length: int) -> dict[str, str]:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
        return headers | ({"Authorization": self.authorization} if self.authorization else {})


@dataclass
class Publishing:
    """How publishing went: when each file was acknowledged, and after how long, in the order of acknowledgement."""

    ends: list[float]
    seconds: list[float]

    @property
    def rate(self) -> float:
        return len(self.ends) / self.ends[-1]

    def rate_between(self, first: int, last: int) -> float:
        """Files a second between two of them."""
        start = self.ends[first - 1] if first else 0.0
        return (last - first) / (self.ends[last - 1] - start)

    def quantile(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * share))]


# Path, headers and body of an upload.
Upload = tuple[str, dict[str, str], bytes]


def as_form(target: Target, dist: Dist) -> Upload:
    """An upload as twine sends it."""
    body = multipart(form(dist))
    return urlsplit(target.url).path, target.headers(len(body)), body


def _worker(target: Target, make: Callable[[int], object], upload: Callable[[Target, object], Upload], numbers: list[int], ahead: bool, gate, results) -> None:
    """One client. Bodies that fit in memory are made before the clock starts."""
    made = (upload(target, make(number)) for number in numbers)
    uploads: Iterable[Upload] = list(made) if ahead else made
    done = []
    gate.wait()
    try:
        with Line(target.url) as line:
            for path, headers, body in uploads:
                started = time.perf_counter()
                status, _ = line.request("POST", path, headers, body)
                ended = time.perf_counter()
                if status >= 300:
                    raise RuntimeError(f"answered with {status}")
                done.append((ended, ended - started))
        results.put(done)
    except (OSError, RuntimeError) as error:
        results.put(f"{target.url}: {error}")


def publish(target: Target, make: Callable[[int], object], numbers: Iterable[int], *, clients: int = 8, ahead: bool = True,
                  upload: Callable[[Target, object], Upload] = as_form) -> Publishing:
    """Publishes `make(number)` for each number, by so many clients at once, each on a connection of its own."""
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(clients + 1), context.Queue()
    numbers = list(numbers)
    workers = [context.Process(target=_worker, args=(target, make, upload, numbers[start::clients], ahead, gate, results)) for start in range(clients)]
    for worker in workers:
        worker.start()
    gate.wait()
    begun = time.perf_counter()
    outcomes = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if failed:
        raise RuntimeError(failed[0])
    done = sorted(each for outcome in outcomes for each in outcome)
    return Publishing([end - begun for end, _ in done], [seconds for _, seconds in done])
