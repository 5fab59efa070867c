"""conda channels: what a publish costs whatever the channel holds, and what indexes cost to be sent."""

import statistics
import threading
import time
from urllib.parse import urlsplit

import requests
import zstandard

from tests.harness.processes import peak_resident, reset_peak, resident
from tests.harness.registry import Registry, store_of
from tests.harness.server import Server
from tests.harness.wire import basic

from . import conda_data
from .conda_data import SUBDIR, uploaded
from .load import Line, in_turns, once, wrk
from .report import duration, mebibytes, number

CHANNEL = {"format": "conda", "visibility": "public"}


def url(server: Server, path: str, channel: str = "main") -> str:
    return f"{server.url}/conda/get/{channel}/{SUBDIR}/{path}"


def quantile(times: list[float], at: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * at))]


class Seen:
    """Publishes one package after the other through one pod, and waits until another one shows each in its indexes."""

    def __init__(self, writer: Server, reader: Server):
        self.writer, self.reader = writer, reader
        self.auth = basic(*writer.admin)

    def once(self, number: int) -> tuple[float, float]:
        """The seconds from the first byte of the upload until it stands in the index of shards, and in repodata.json.zst."""
        package = uploaded(number % 1000, f"99.{number}")
        content = package.content()
        path = f"/conda/api/channels/main/upload/{package.filename}"
        index, whole = url(self.reader, "repodata_shards.msgpack.zst"), url(self.reader, "repodata.json.zst")
        with Line(self.writer.url) as line, requests.Session() as session:
            tag = session.head(whole, timeout=60).headers["ETag"]
            before = self.shard(session, index, package.name)
            started = time.perf_counter()
            status, _ = line.request("POST", path, {"Authorization": self.auth, "Content-Length": str(len(content))}, content)
            if status != 201:
                raise RuntimeError(f"{path}: {status}")
            shard = self.shard(session, index, package.name)
            shards = time.perf_counter() - started
            if shard == before:
                raise RuntimeError("the shard is the one of before")
            # All of it is there and ready to be sent, with its length: what remains is the line's.
            head = session.head(whole, timeout=60)
            if head.headers["ETag"] == tag:
                raise RuntimeError("repodata.json.zst is the one of before")
            return shards, time.perf_counter() - started

    @staticmethod
    def shard(session: requests.Session, index: str, name: str) -> bytes:
        """The digest that the index gives for a name."""
        answer = session.get(index, timeout=60)
        answer.raise_for_status()
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(answer.content)
        at = plain.index(name.encode() + b"\xc4\x20") + len(name) + 2
        return plain[at:at + 32]
