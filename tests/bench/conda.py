"""conda channels: what a publish costs whatever the channel holds, and what its indexes cost to be sent."""

import hashlib
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import zstandard

from tests.harness.conda_packages import Package
from tests.harness.processes import peak_resident, reset_peak
from tests.harness.registry import Registry, store_of
from tests.harness.server import Server
from tests.harness.wire import basic

from . import conda_data
from .conda_data import SUBDIR, uploaded
from .load import Line, Target, Upload, in_turns, once, publish
from .peers import Nginx, Quetz
from .report import duration, mebibytes, number

if TYPE_CHECKING:
    from .sections import Bench

CHANNEL = {"format": "conda", "visibility": "public"}
VERSIONS = 20
SMALL = 50
MIB = 1 << 20


def url(server: Server, path: str, channel: str = "main") -> str:
    return f"{server.url}/conda/get/{channel}/{SUBDIR}/{path}"


def quantile(times: list[float], at: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * at))]


@contextmanager
def pods(bench: "Bench", names: int) -> Iterator[tuple[Registry, Registry]]:
    """Two pods of a registry with a channel of so many names, each in twenty versions, and a small one."""
    with bench.dev() as lender:
        store, schema = store_of(lender), f"bench_conda_{names}"
        writer = Registry(bench.place(), bench.postgres, schema, store)
        for channel in ("main", "small"):
            writer.write_channel(channel, CHANNEL)
        writer.migrate().start()
        reader = Registry(bench.place(), bench.postgres, schema, store, channels=writer.channels)
        try:
            for channel in ("main", "small"):
                writer.wait_for_channel(channel)
            conda_data.fill(bench.postgres, schema, "small", SMALL, VERSIONS)
            conda_data.fill(bench.postgres, schema, "main", names, VERSIONS)
            reader.start()
            yield writer, reader
        finally:
            writer.stop()
            reader.stop()
            bench.postgres.drop(schema)


class Seen:
    """Publishes one package after the other through one pod, and waits until another one shows each in its indexes."""

    def __init__(self, writer: Server, reader: Server, channel: str):
        self.writer, self.reader, self.channel = writer, reader, channel
        self.auth = basic(*writer.admin)

    def once(self, number: int) -> tuple[float, float]:
        """The seconds from the first byte of the upload until it stands in the index of shards, all of which has been received, and until
        repodata.json.zst is ready to be sent, with its length."""
        package = uploaded(number % SMALL, f"99.{number}")
        content = package.content()
        path = f"/conda/api/channels/{self.channel}/upload/{package.filename}"
        index, whole = (url(self.reader, file, self.channel) for file in ("repodata_shards.msgpack.zst", "repodata.json.zst"))
        with Line(self.writer.url) as line, requests.Session() as session:
            tag, before = session.head(whole, timeout=60).headers["ETag"], self.shard(session.get(index, timeout=60), package.name)
            started = time.perf_counter()
            status, _ = line.request("POST", path, {"Authorization": self.auth, "Content-Length": str(len(content))}, content)
            answer = session.get(index, timeout=60)
            shards = time.perf_counter() - started
            head = session.head(whole, timeout=60)
            both = time.perf_counter() - started
        if status != 201 or head.headers["ETag"] == tag or self.shard(answer, package.name) == before:
            raise RuntimeError(f"{package.filename} was answered with {status} and is not in every index")
        return shards, both

    @staticmethod
    def shard(answer: requests.Response, name: str) -> bytes:
        """The digest that an index gives for a name."""
        answer.raise_for_status()
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(answer.content)
        at = plain.index(name.encode() + b"\xc4\x20") + len(name) + 2
        return plain[at:at + 32]


def raw_upload(target: Target, package: Package) -> Upload:
    """An upload as the clients of Quetz send it."""
    body = package.content()
    headers = {"Content-Length": str(len(body))} | ({"X-API-Key": target.authorization} if target.authorization else {})
    return f"{urlsplit(target.url).path}{package.filename}?sha256={hashlib.sha256(body).hexdigest()}", headers, body


def late(number: int) -> Package:
    return Package(f"late-{number:05}", subdir=SUBDIR, depends=conda_data.LIBRARIES[:3])


def conda(bench: "Bench") -> None:
    """A channel of a million records, in a full run."""
    names, records = bench.sizes.conda_names, bench.sizes.conda_names * VERSIONS
    with pods(bench, names) as (writer, reader):
        measure(bench, writer, reader, records)
        warm(bench, reader)
        uploads(bench, writer)


def conda_huge(bench: "Bench") -> None:
    """A channel of ten million records: once, for its figures."""
    with pods(bench, 500_000) as (writer, reader):
        measure(bench, writer, reader, 10_000_000)


def measure(bench: "Bench", writer: Registry, reader: Registry, records: int) -> None:
    """A publish through one pod until another one shows it; a pod that has just begun; memory."""
    report, publishes = bench.report, bench.sizes.conda_publishes
    for pod in (writer, reader):
        reset_peak(pod.pid)
    size = int(requests.head(url(writer, "repodata.json.zst"), timeout=3600).headers["Content-Length"])
    report.row(f"conda: first rendering of {records:,} records ({size / 1e6:.0f} MB of zstd), most resident", granary=mebibytes(peak_resident(writer.pid)))
    requests.head(url(reader, "repodata.json.zst"), timeout=3600)
    time.sleep(6)  # until what the document is made of is saved
    seen = {}
    for channel, holds in (("small", SMALL * VERSIONS), ("main", records)):
        both = Seen(writer, reader, channel)
        times = [both.once(number) for number in range(publishes)]
        for place, what in enumerate(("in shards", "in shards and repodata.json.zst")):
            took = [each[place] for each in times]
            seen[channel, place] = statistics.median(took), quantile(took, 0.99)
            report.row(f"conda: publish until seen {what} on another pod, {holds:,} records (median, p99)",
                       granary=f"{duration(seen[channel, place][0])}, {duration(seen[channel, place][1])}")
    p99, growth = seen["main", 1][1], seen["main", 1][0] / seen["small", 1][0]
    report.goal(f"conda: publish seen in all indexes of {records:,} records, p99 under 250 ms", duration(p99), p99 < 0.25)
    report.goal("conda: within 25 % of the same with 1,000 records", f"{growth:.2f} ×", growth <= 1.25)
    cold = []
    for path in ("repodata_shards.msgpack.zst", "repodata.json.zst") * 3:
        reader.restart()
        reset_peak(reader.pid)
        started = time.perf_counter()
        with requests.get(url(reader, path), stream=True, timeout=600) as answer:
            answer.raise_for_status()
            next(answer.iter_content(1024))
        cold.append((path, time.perf_counter() - started))
    for path in ("repodata_shards.msgpack.zst", "repodata.json.zst"):
        worst = max(took for each, took in cold if each == path)
        report.row(f"conda: a pod that has just begun, until the first bytes of {path} of {records:,} records, slowest of 3", granary=duration(worst))
        report.goal(f"conda: first answer of {path} by a new pod within 500 ms", duration(worst), worst < 0.5)
    reader.restart()
    started = time.perf_counter()
    with ProcessPoolExecutor(24, get_context("fork")) as pool:
        list(pool.map(once, [url(reader, "repodata_shards.msgpack.zst")] * 24))
    report.row("conda: 24 clients at once of a new pod, index of shards, all answered after", granary=duration(time.perf_counter() - started))
    once(url(reader, "repodata.json.zst"))
    once(url(reader, "repodata.json"))
    most = max(peak_resident(pod.pid) for pod in (writer, reader))
    report.row("conda: most resident of both pods during all this", granary=mebibytes(most))
    report.goal("conda: memory under 512 MiB at all times", mebibytes(most), most < 512 * MIB)


def warm(bench: "Bench", reader: Registry) -> None:
    """The same bytes from us and from nginx."""
    report, seconds = bench.report, bench.sizes.seconds
    index = requests.get(url(reader, "repodata_shards.msgpack.zst"), timeout=60)
    shard = Seen.shard(index, conda_data.name_of(1)).hex() + ".msgpack.zst"
    with bench.peer(Nginx) as nginx:
        for path, what, connections, share in ((shard, "a shard", 16, 0.75), ("repodata_shards.msgpack.zst", "the index of shards", 16, 0.75),
                                               ("repodata.json.zst", "repodata.json.zst", 4, 1 / 1.2)):
            body = requests.get(url(reader, path), timeout=600).content
            static = nginx.put(what.replace(" ", "-"), body)
            mine, beside = in_turns((url(reader, path), {}), (static, {}), seconds=seconds, connections=connections)
            report.row(f"conda: {what}, warm ({number(len(body) / 1000)} kB)", granary=mine, nginx=beside)
            report.ratio_goal(f"conda: {what}, {share:.0%} of nginx", mine.rate, beside.rate, share, "%")


def uploads(bench: "Bench", writer: Registry) -> None:
    """200 packages by 8 clients, into a full channel and beside Quetz with some packages in its channel."""
    report, packages = bench.report, bench.sizes.quetz_packages
    key = writer.admin[1]
    mine = publish(Target(f"{writer.url}/conda/api/channels/main/upload/", key), late, range(200), upload=raw_upload)
    first, last = mine.rate_between(0, 50), mine.rate_between(150, 200)
    with bench.peer(Quetz) as quetz:
        quetz.fill(Package(f"acme-{place:05}", subdir=SUBDIR, kind="tar.bz2") for place in range(packages))
        target = Target(quetz.target.url, quetz.key)
        theirs = publish(target, late, range(20), clients=1, upload=raw_upload)
    report.row(f"conda: uploads by 8 clients (Quetz: by one, with {packages:,} packages in its channel)", granary=mine, quetz=theirs)
    report.goal("conda: the last 50 of 200 uploads as fast as the first 50 (at least 80 %)", f"{last / first:.0%}", last >= 0.8 * first)
    report.ratio_goal(f"conda: uploads 50 × quetz with {packages:,} packages", mine.rate, theirs.rate, 50)
