"""What is measured, section by section. Each starts what it needs and leaves the machine quiet for the next."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import requests

from tests.harness.postgres import Postgres
from tests.harness.processes import peak_resident, reset_peak, resident
from tests.harness.registry import ObjectStore, Registry, store_of
from tests.harness.server import JSON_INDEX, Dev, Server
from tests.harness.wire import basic

from . import data
from .conda import conda, conda_huge
from .authorization import ACCOUNT, PASSWORD, Subject, latencies, rates
from .delay import delayed
from .load import Line, Publishing, Target, in_turns, once, publish, wrk
from .peers import Devpi, Minio, Nginx, Peer, Pypiserver
from .report import Report, duration, mebibytes, microseconds, number

INTERNAL = {"format": "pypi", "visibility": "internal"}
HTML, JSON = {"Accept": "text/html"}, {"Accept": JSON_INDEX}
MIB = 1 << 20


@dataclass
class Sizes:
    """How much of everything. The quick run finds mistakes; figures are quoted from a full one."""

    seconds: float
    projects: int
    uploads: int
    devpi_uploads: int
    series: int
    late: int
    large_blocks: int
    many: tuple[int, ...]
    blocks: int
    turns: tuple[float, int]
    conda_names: int
    conda_publishes: int
    quetz_packages: int

    @staticmethod
    def of(mode: str) -> "Sizes":
        if mode == "quick":
            return Sizes(seconds=3, projects=4_000, uploads=1_000, devpi_uploads=200, series=2_000, late=500, large_blocks=100, many=(8, 16), blocks=40, turns=(1, 2),
                         conda_names=2_000, conda_publishes=50, quetz_packages=200)
        return Sizes(seconds=10, projects=50_000, uploads=1_000, devpi_uploads=1_000, series=10_000, late=1_000, large_blocks=500, many=(16, 64), blocks=60, turns=(1, 6),
                     conda_names=50_000, conda_publishes=300, quetz_packages=2_000)


def publishes_to(server: Server, channel: str) -> Target:
    """A channel of ours as a target of uploads."""
    return Target(f"{server.url}/pypi/{channel}/", basic(*server.admin))


def credentials(server: Server) -> dict[str, str]:
    return {"Authorization": basic(*server.admin)}


def index_url(server: Server, channel: str, project: str = "") -> str:
    return f"{server.url}/pypi/{channel}/+simple/" + (f"{project}/" if project else "")


class Bench:
    """What the sections share: the folder, the report, and one Postgres that really writes to disk."""

    def __init__(self, folder: Path, report: Report, sizes: Sizes):
        self.folder, self.report, self.sizes = folder, report, sizes
        folder.chmod(0o755)
        self.postgres = Postgres()
        self._count = 0
        self._open: list[Server | Peer] = []

    def close(self) -> None:
        for each in self._open:
            each.stop()
        self.postgres.close()

    def place(self) -> Path:
        self._count += 1
        return self.folder / str(self._count)

    @contextmanager
    def dev(self, *channels: str, specs: dict[str, dict] | None = None):
        """Ours, with the object store in its process."""
        place = self.place()
        specs = specs or {name: INTERNAL for name in channels or ("dev",)}
        server = Dev(place, self.postgres, f"bench_{self._count}", specs)
        with self._kept(server):
            for name in specs:
                server.wait_for_channel(name)
            yield server
        shutil.rmtree(place)

    @contextmanager
    def registry(self, store: ObjectStore, **spec: object):
        """Ours, as `serve` runs in production."""
        place = self.place()
        server = Registry(place, self.postgres, f"bench_{self._count}", store, spec=spec)
        server.write_channel("dev", {**INTERNAL, "limits": {"maxUploadSize": "1Gi"}})
        server.migrate()
        with self._kept(server):
            server.wait_for_channel("dev")
            yield server
        shutil.rmtree(place)

    @contextmanager
    def peer(self, kind: type[Peer]):
        place = self.place()
        with self._kept(kind(place)) as peer:
            yield peer
        shutil.rmtree(place)

    @contextmanager
    def _kept(self, server):
        self._open.append(server)
        try:
            yield server.start()
        finally:
            server.stop()
            self._open.remove(server)


def indexes(bench: Bench) -> None:
    """The simple index of a project with 500 files."""
    report, seconds, name = bench.report, bench.sizes.seconds, data.INDEX_PROJECT
    theirs = {}
    for kind in (Pypiserver, Devpi):
        with bench.peer(kind) as peer:
            publish(peer.target, data.index_file, range(data.INDEX_FILES))
            headers = {"Authorization": peer.target.authorization} if peer.target.authorization else {}
            peer.restart()
            cold = once(peer.index(name), HTML)
            theirs[peer.name] = {"cold": cold, "html": wrk(peer.index(name), HTML | headers, seconds=seconds),
                                 "json": wrk(peer.index(name), JSON | headers, seconds=seconds), "memory": peer.resident()}
    with bench.dev() as ours, bench.peer(Nginx) as nginx:
        publish(publishes_to(ours, "dev"), data.index_file, range(data.INDEX_FILES))
        url, auth = index_url(ours, "dev", name), credentials(ours)
        ours.restart()
        url, cold = index_url(ours, "dev", name), once(index_url(ours, "dev", name), HTML | auth)
        report.row("index of 500 files, HTML, first request after a start", granary=duration(cold),
                   **{peer: duration(each["cold"]) for peer, each in theirs.items()})
        for label, accept in (("HTML", HTML), ("JSON", JSON)):
            answer = requests.get(url, headers=accept | auth | {"Accept-Encoding": "identity"}, timeout=30)
            static = nginx.put(f"index.{label}", answer.content)
            mine, beside = in_turns((url, accept | auth), (static, {}), seconds=seconds)
            report.row(f"index of 500 files, {label}, warm ({len(answer.content) // 1000} kB)", granary=mine, nginx=beside,
                       **{peer: each[label.lower()] for peer, each in theirs.items()})
            if label == "HTML":
                for peer, each in theirs.items():
                    report.ratio_goal(f"warm index: 100 × {peer}", mine.rate, each["html"].rate, 100)
                report.ratio_goal("warm index: 75 % of nginx", mine.rate, beside.rate, 0.75, "%")
                report.goal("warm index: p99 at most twice nginx's", f"{mine.p99 / beside.p99:.2g} ×", mine.p99 <= 2 * beside.p99)
            packed = requests.get(url, headers=accept | auth | {"Accept-Encoding": "gzip"}, stream=True, timeout=30)
            static = nginx.put(f"index.{label}.gz", packed.raw.read(decode_content=False))
            both = in_turns((url, accept | auth | {"Accept-Encoding": "gzip"}), (static, {}), seconds=seconds)
            report.row(f"index of 500 files, {label}, warm, gzip", granary=both[0], nginx=both[1])
            static = static.removesuffix(".gz")
            tag = requests.head(static, timeout=5).headers["ETag"]
            both = in_turns((url, accept | auth | {"If-None-Match": answer.headers["ETag"]}), (static, {"If-None-Match": tag}), seconds=seconds)
            report.row(f"index of 500 files, {label}, 304", granary=both[0], nginx=both[1])
        report.row("resident after these", granary=mebibytes(resident(ours.pid)), nginx=mebibytes(nginx.resident()),
                   **{peer: mebibytes(each["memory"]) for peer, each in theirs.items()})


def uploads(bench: Bench) -> None:
    """Small wheels by 8 clients: beside the peers, as a series, into a full channel, and over a slow line to the store."""
    report, sizes = bench.report, bench.sizes
    theirs: dict[str, Publishing] = {}
    memory = {}
    with bench.peer(Pypiserver) as peer:
        theirs["pypiserver"] = publish(peer.target, data.small_wheel, range(sizes.uploads))
        memory["pypiserver"] = mebibytes(peer.resident())
    with bench.peer(Devpi) as peer:
        theirs["devpi"] = publish(peer.target, data.small_wheel, range(sizes.devpi_uploads))
        by_password = publish(peer.target_by_password, data.late_wheel, range(sizes.devpi_uploads // 5))
        memory["devpi"] = mebibytes(peer.resident())
    report.note(f"devpi took {sizes.devpi_uploads} of the small wheels with a login token; with the account's password, as twine sends it, {number(by_password.rate)}/s")
    with bench.dev("dev", "full", "empty") as ours:
        mine = publish(publishes_to(ours, "dev"), data.small_wheel, range(sizes.uploads))
        report.row(f"upload of {sizes.uploads:,} small wheels by 8 clients", granary=mine, **theirs)
        report.ratio_goal("small uploads: 50 × devpi (token)", mine.rate, theirs["devpi"].rate, 50)
        report.ratio_goal("small uploads: 50 × devpi (password)", mine.rate, by_password.rate, 50)
        report.row("resident after these", granary=mebibytes(resident(ours.pid)), **memory)

        whole = publish(publishes_to(ours, "full"), data.project_wheel, range(sizes.projects), ahead=False)
        window = sizes.series // 10
        first, last = whole.rate_between(0, window), whole.rate_between(sizes.series - window, sizes.series)
        report.row(f"upload number 1 to {window:,}", granary=f"{number(first)}/s")
        report.row(f"upload number {sizes.series - window:,} to {sizes.series:,}", granary=f"{number(last)}/s")
        report.ratio_goal(f"flat from the first to upload number {sizes.series:,} (at least 80 %)", last, first, 0.8, "%")

        # In turns, so that whatever else the machine does falls on both alike.
        empty, full = [], []
        for turn in range(4):
            numbers = range(turn * sizes.late, (turn + 1) * sizes.late)
            for channel, outcomes in (("empty", empty), ("full", full)) if turn % 2 else (("full", full), ("empty", empty)):
                outcomes.append(publish(publishes_to(ours, channel), data.late_wheel, numbers).rate)
        into_empty, into_full = sum(empty) / 4, sum(full) / 4
        report.row("upload into an empty channel", granary=f"{number(into_empty)}/s")
        report.row(f"upload into a channel of {sizes.projects:,} projects", granary=f"{number(into_full)}/s")
        report.ratio_goal(f"publishing into {sizes.projects:,} projects: within 20 % of an empty channel", into_full, into_empty, 1 / 1.2, "%")
        project_list(bench, ours)

    with bench.dev() as lender:
        store = store_of(lender)
        for delay in (0.0, 0.02):
            with delayed(store, delay) as behind, bench.registry(behind) as ours:
                late = publish(publishes_to(ours, "dev"), data.late_wheel, range(sizes.late))
                more = publish(publishes_to(ours, "dev"), data.small_wheel, range(sizes.late), clients=32)
                report.row(f"upload by 8 clients, {delay * 1000:.0f} ms added to the store", granary=late)
                report.row(f"upload by 32 clients, {delay * 1000:.0f} ms added to the store", granary=more)


def project_list(bench: Bench, ours: Dev) -> None:
    """The list of all projects of the channel that the uploads filled."""
    report, sizes = bench.report, bench.sizes
    seconds = sizes.seconds
    with bench.peer(Pypiserver) as peer:
        for number_ in range(sizes.projects):
            dist = data.project_wheel(number_)
            (peer.packages / dist.filename).write_bytes(dist.content)
        peer.restart()
        cold = once(peer.index(""), HTML)
        theirs = wrk(peer.index(""), HTML, connections=2, seconds=seconds) if cold < 5 else None
    url, auth = index_url(ours, "full"), credentials(ours)
    report.row(f"list of {sizes.projects:,} projects, HTML, first request after a start" , granary=duration(cold_list(ours)), pypiserver=duration(cold))
    url, auth = index_url(ours, "full"), credentials(ours)
    with bench.peer(Nginx) as nginx:
        for label, accept in (("HTML", HTML), ("JSON", JSON)):
            for encoding in ("identity", "gzip"):
                headers = accept | auth | {"Accept-Encoding": encoding}
                answer = requests.get(url, headers=headers, stream=True, timeout=60)
                body = answer.raw.read(decode_content=False)
                static = nginx.put(f"list.{label}.{encoding}", body)
                mine, beside = in_turns((url, headers), (static, {}), seconds=seconds)
                report.row(f"list of {sizes.projects:,} projects, {label}, {encoding} ({len(body) / 1e6:.2g} MB)", granary=mine, nginx=beside, **({"pypiserver": theirs} if (label, encoding) == ("HTML", "identity") else {}))
            report.row(f"list of {sizes.projects:,} projects, {label}, 304", granary=wrk(url, headers | {"If-None-Match": answer.headers["ETag"]}, seconds=seconds))
    publish(publishes_to(ours, "full"), data.index_file, [1])
    report.row("the list right after a publish", granary=duration(once(url, JSON | auth)))
    report.row("resident with this list", granary=mebibytes(resident(ours.pid)))


def cold_list(ours: Dev) -> float:
    ours.restart()
    return once(index_url(ours, "full"), HTML | credentials(ours))


def downloads(bench: Bench) -> None:
    """Files of three sizes, cold and warm."""
    report, seconds = bench.report, bench.sizes.seconds
    blocks = bench.sizes.large_blocks
    small, medium, large = data.sized_wheel("acme-10k", 10_000), data.sized_wheel("acme-5m", 5_000_000), data.Large(blocks)
    many = [data.sized_wheel("acme-cold", 10_000, f"1.{number_}") for number_ in range(50)]
    with (bench.dev() as lender, bench.registry(store_of(lender)) as ours, bench.peer(Nginx) as nginx,
          bench.peer(Pypiserver) as simple, bench.peer(Devpi) as devpi):
        for target in (publishes_to(ours, "dev"), simple.target, devpi.target):
            publish(target, lambda number_: [small, medium][number_], range(2), clients=1)
        publish(publishes_to(ours, "dev"), many.__getitem__, range(len(many)))
        publish_large(publishes_to(ours, "dev"), large, "1.0")
        with open(nginx.root / large.filename("1.0"), "wb") as file:
            file.writelines(large.pieces("1.0"))
        ours.stop()
        shutil.rmtree(ours.folder / "cache", ignore_errors=True)  # a new pod has no copies of blobs
        ours.start()
        auth = credentials(ours)

        cold = [once(ours.file_url("acme-cold", dist.filename), auth) for dist in many]
        report.row("download of 10 kB, cold (median of 50 files)", granary=duration(sorted(cold)[25]))
        for dist, label, share in ((small, "10 kB", 0.75), (medium, "5 MB", 0.8)):
            url = ours.file_url(dist.name, dist.filename)
            if dist is medium:
                report.row("download of 5 MB, cold", granary=duration(once(url, auth)))
            static = nginx.put(dist.filename, dist.content)
            mine, beside = in_turns((url, auth), (static, {}), seconds=seconds)
            theirs = {"pypiserver": wrk(f"{simple.url}/packages/{dist.filename}", seconds=seconds),
                      "devpi": wrk(devpi_file(devpi, dist.name, dist.filename), seconds=seconds)}
            report.row(f"download of {label}, warm", granary=mine, nginx=beside, **theirs)
            report.ratio_goal(f"warm {label} wheel: {share:.0%} of nginx", mine.rate, beside.rate, share, "%")

        url, static = ours.file_url(large.name, large.filename("1.0")), f"{nginx.url}/{large.filename('1.0')}"
        size = large.size("1.0")
        report.row(f"download of {blocks} MiB, cold", granary=f"{number(size / once(url, auth) / 1e6)} MB/s")
        reset_peak(ours.pid)
        mine, beside = (wrk(each, headers, connections=4, seconds=max(6, seconds), warm=True).bytes_per_second for each, headers in ((url, auth), (static, {})))
        report.row(f"download of {blocks} MiB, warm, 4 at once", granary=f"{number(mine / 1e6)} MB/s", nginx=f"{number(beside / 1e6)} MB/s")
        report.row("most resident during that", granary=mebibytes(peak_resident(ours.pid)))


def devpi_file(devpi: Devpi, project: str, filename: str) -> str:
    """devpi's URL of a file, which its index tells."""
    index = requests.get(devpi.index(project), headers=JSON, timeout=10)
    [url] = [file["url"] for file in index.json()["files"] if file["filename"] == filename]
    return requests.compat.urljoin(index.url, url)


def publish_large(target: Target, large: data.Large, version: str) -> float:
    """Uploads a wheel that is never in memory; the seconds it took."""
    length, pieces = large.body(version)
    started = time.perf_counter()
    with Line(target.url) as line:
        status, _ = line.request("POST", urlsplit(target.url).path, target.headers(length), pieces)
    if status >= 300:
        raise RuntimeError(f"{target.url}: {status}")
    return time.perf_counter() - started


def _upload_large(target: Target, blocks: int, version: str) -> None:
    publish_large(target, data.Large(blocks), version)


def authorization(bench: Bench) -> None:
    """What it adds to a warm request to know who asks and what they may: beside nobody in particular, with many grants, by a password."""
    report, sizes = bench.report, bench.sizes
    with bench.dev(specs=Subject.FEW) as small, bench.dev(specs=Subject.MANY) as large:
        few, many = Subject(small), Subject(large)
        for kind, name in (("page", "page of a project"), ("file", "file of 8 kB")):
            nobody, token = few.case(kind, few.PUBLIC, None), few.case(kind, few.PRIVATE, few.token)
            crowded = many.case(kind, many.PRIVATE, many.token)
            password = few.case(kind, few.PRIVATE, (ACCOUNT, PASSWORD))
            # Beside many grants the process is another one, which has an anonymous request of its own to be compared with.
            beside = many.case(kind, many.PUBLIC, None)
            runs = [latencies([nobody, token, crowded, beside, password], sizes.blocks) for _ in range(3)]
            for position, who in ((0, "anonymous on a public channel"), (1, "by a token on a private channel"), (4, "by a password on a private channel"),
                                  (2, "by a token, 500 of 10,000 grants")):
                report.row(f"{name}, one connection, {who}", granary=microseconds(median(run[position] for run in runs)))
            added, more = [run[1] - run[0] for run in runs], [run[2] - run[3] for run in runs]
            change = [run[2] / run[1] for run in runs]
            report.goal(f"{name}: authorization adds less than 50 µs", three(added, microseconds), median(added) < 50e-6)
            report.goal(f"{name}: with 500 of 10,000 grants, too", three(more, microseconds), median(more) < 50e-6)
            report.goal(f"{name}: 500 grants of 10,000 change it by at most 20 %", three(change, "{:.3f} ×".format), median(change) <= 1.2)
            turns = [rates([nobody, token, password, crowded], *sizes.turns) for _ in range(3)]
            for position, who in enumerate(("anonymous", "by a token", "by a password", "by a token, 500 of 10,000 grants")):
                report.row(f"{name}, 16 connections, {who}", granary=f"{number(median(turn[position] for run in turns for turn in run))}/s")
            shares = [[median(turn[one] / turn[other] for turn in run) for run in turns] for one, other in ((1, 0), (3, 1), (2, 1))]
            report.row(f"{name}, 16 connections, token ÷ anonymous", granary=three(shares[0], "{:.1%}".format))
            report.row(f"{name}, 16 connections, 500 of 10,000 grants ÷ 1", granary=three(shares[1], "{:.1%}".format))
            report.goal(f"{name}: a password at 95 % of a token's rate", three(shares[2], "{:.1%}".format), median(shares[2]) >= 0.95)


def three(runs: list[float], shown: Callable[[float], str]) -> str:
    """The median of three runs, and all of them."""
    return f"{shown(median(runs))} ({', '.join(map(shown, sorted(runs)))})"


def memory(bench: Bench) -> None:
    """Many large uploads and downloads at once against MinIO: memory must not follow their number."""
    report, blocks = bench.report, bench.sizes.large_blocks
    if not Minio.binary().exists() and bench.report.mode == "quick":
        report.note("memory under many large transfers was not measured: MinIO is not built yet (a full run builds it)")
        return
    with bench.peer(Minio) as minio, bench.registry(minio.store) as ours:
        target, auth, size = publishes_to(ours, "dev"), credentials(ours), data.Large(blocks).size("1.0")
        growth = {}
        for clients in bench.sizes.many:
            reset_peak(ours.pid)
            before, started = resident(ours.pid), time.perf_counter()
            with ProcessPoolExecutor(clients, get_context("fork")) as pool:
                for future in [pool.submit(_upload_large, target, blocks, f"{clients}.{number_}") for number_ in range(clients)]:
                    future.result()
            seconds = time.perf_counter() - started
            growth[f"upload {clients}"] = peak_resident(ours.pid) - before
            report.row(f"{clients} uploads of {blocks} MiB at once (MinIO)",
                       granary=f"+{mebibytes(growth[f'upload {clients}'])}, {number(clients * size / seconds / 1e6)} MB/s")
        for clients in bench.sizes.many:
            names = [data.Large(1).filename(f"{bench.sizes.many[-1]}.{number_ % bench.sizes.many[-1]}") for number_ in range(clients)]
            urls = [file["url"] for name, file in ours.files("acme-large").items() if name in names]
            urls = [requests.compat.urljoin(index_url(ours, "dev", "acme-large"), url) for url in urls]
            reset_peak(ours.pid)
            before, started = resident(ours.pid), time.perf_counter()
            with ProcessPoolExecutor(clients, get_context("fork")) as pool:
                for future in [pool.submit(once, url, auth) for url in urls]:
                    future.result()
            seconds = time.perf_counter() - started
            growth[f"download {clients}"] = peak_resident(ours.pid) - before
            report.row(f"{clients} downloads of {blocks} MiB at once (MinIO)",
                       granary=f"+{mebibytes(growth[f'download {clients}'])}, {number(len(urls) * size / seconds / 1e6)} MB/s")
        few, many = bench.sizes.many
        for way in ("upload", "download"):
            report.goal(f"{few} {way}s of {blocks} MiB: memory grows by less than 128 MiB", mebibytes(growth[f"{way} {few}"]), growth[f"{way} {few}"] < 128 * MIB)
            report.goal(f"{many} {way}s: by no more than that", mebibytes(growth[f"{way} {many}"]), growth[f"{way} {many}"] < 128 * MIB)


def idle(bench: Bench) -> None:
    """Memory of a server that has nothing to do, and how fast it is ready."""
    report = bench.report
    with bench.dev() as lender:
        with bench.registry(store_of(lender)) as ours:
            starts = []
            for _ in range(5):
                ours.restart()
                starts.append(ours.ready_after)
            time.sleep(3)
            size = resident(ours.pid)
            report.row("idle `granary serve`, resident", granary=mebibytes(size))
            report.goal("idle `serve`: under 25 MiB resident", mebibytes(size), size < 25 * MIB)
            report.row("start to ready, slowest of 5", granary=duration(max(starts)))
            report.goal("ready within 1 s of its start", duration(max(starts)), max(starts) < 1)
        report.row("idle `granary dev` over a given Postgres, resident", granary=mebibytes(resident(lender.pid)))


SECTIONS: dict[str, Callable[[Bench], None]] = {"idle": idle, "indexes": indexes, "downloads": downloads, "uploads": uploads, "memory": memory,
                                               "authorization": authorization, "conda": conda}
# What takes most of an hour is measured only when it is named.
LONG_SECTIONS: dict[str, Callable[[Bench], None]] = {"conda-huge": conda_huge}
