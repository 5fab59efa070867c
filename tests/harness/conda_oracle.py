"""conda-index beside us: the same packages, and what each says of them."""

import json
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard

from .conda_packages import Package
from .places import TESTS, environment
from .server import Dev

_PROGRAM = Path(__file__).with_name("conda_index_run.py")


def _run(*arguments: str | Path) -> str:
    python = environment(TESTS / "peers" / "conda-index.txt") / "bin" / "python"
    done = subprocess.run([python, _PROGRAM, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


class Oracle:
    """A channel that conda-index has indexed."""

    def __init__(self, folder: Path, packages: Iterable[Package], patches: Package | None = None):
        self.folder = folder
        (folder / "noarch").mkdir(parents=True)
        for package in packages:
            (folder / package.subdir).mkdir(exist_ok=True)
            (folder / package.subdir / package.filename).write_bytes(package.content())
        arguments = []
        if patches is not None:
            arguments = [folder.with_name(patches.filename)]
            arguments[0].write_bytes(patches.content())
        self.shards: dict[str, dict[str, dict]] = json.loads(_run(folder, *arguments))

    def document(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text())


def upload_all(server: Dev, channel: str, packages: Iterable[Package]) -> None:
    """Uploads packages, several at a time."""
    def upload(package: Package) -> None:
        answer = server.request("POST", f"/conda/api/channels/{channel}/upload/{package.filename}", server.admin, data=package.content())
        assert answer.status_code == 201, f"{package.subdir}/{package.filename}: {answer.text}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, packages))


def document(server: Dev, channel: str, path: str) -> dict:
    answer = server.get(f"/conda/get/{channel}/{path}")
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def shards(server: Dev, channel: str, subdir: str, folder: Path) -> dict[str, dict]:
    """What our shards of a subdir hold, by their names; digests in hex."""
    folder.mkdir(parents=True)
    index = server.get(f"/conda/get/{channel}/{subdir}/repodata_shards.msgpack.zst")
    (folder / "repodata_shards.msgpack.zst").write_bytes(index.content)
    text = zstandard.ZstdDecompressor().decompressobj().decompress(index.content)
    # Behind the key and the map's length stand a name and a digest each: `bin 8` of 32 bytes.
    at = 0
    while (at := text.find(b"\xc4\x20", at)) >= 0:
        digest = text[at + 2:at + 34].hex()
        (folder / f"{digest}.msgpack.zst").write_bytes(server.get(f"/conda/get/{channel}/{subdir}/{digest}.msgpack.zst").content)
        at += 34
    return json.loads(_run("--shards", folder))


def without(records: dict[str, dict], *fields: str) -> dict[str, dict]:
    """Records without some fields."""
    return {name: {field: value for field, value in record.items() if field not in fields} for name, record in records.items()}
