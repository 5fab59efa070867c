"""The files of the benchmark: the same for every server."""

import hashlib
import random
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

from tests.harness.dists import Dist, core_metadata, file_stem, wheel, wheel_entries, zip_archive
from tests.harness.wire import BOUNDARY, form, multipart

INDEX_PROJECT = "acme-index"
INDEX_FILES = 500


@lru_cache
def noise(size: int) -> bytes:
    """Bytes that do not compress, always the same."""
    return random.Random(size).randbytes(size)


def index_file(number: int) -> Dist:
    """One of the files of the project whose index is measured."""
    return wheel(INDEX_PROJECT, f"1.{number}", requires_python=">=3.8")


def small_wheel(number: int) -> Dist:
    """A wheel of a project that has few of them."""
    return wheel(f"acme-small-{number // 2:05}", f"1.{number % 2}", payload=noise(1500))


def project_wheel(number: int) -> Dist:
    """The only wheel of its project."""
    return wheel(f"acme-project-{number:06}", "1.0")


def late_wheel(number: int) -> Dist:
    """A wheel for a channel that is full already."""
    return wheel(f"acme-late-{number:05}", "1.0", payload=noise(1500))


def sized_wheel(name: str, size: int, version: str = "1.0") -> Dist:
    """A wheel of about this size, too dense to be compressed."""
    return wheel(name, version, payload=noise(size), stored=True)


class Large:
    """Wheels of any size that are never held in memory: one block over and over, then a tail of their own."""

    BLOCK = 1 << 20

    def __init__(self, blocks: int, name: str = "acme-large"):
        self.name, self.blocks, self.block = name, blocks, noise(self.BLOCK)
        size, path = blocks * self.BLOCK, f"{file_stem(name)}/payload.bin".encode()
        crc = 0
        for _ in range(blocks):
            crc = zlib.crc32(self.block, crc)
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x5C21, crc, size, size, len(path), 0)
        self.local = b"PK\x03\x04" + fields + path
        self.central = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0o644 << 16, 0) + path
        self._sha256 = hashlib.sha256(self.local)
        for _ in range(blocks):
            self._sha256.update(self.block)

    def tail(self, version: str) -> bytes:
        """What follows the payload: the small entries, and the directory of all."""
        *entries, (record, listed) = wheel_entries(self.name, version, core_metadata(self.name, version))
        listed = f"{file_stem(self.name)}/payload.bin,,\n".encode() + listed
        small = zip_archive([*entries, (record, listed)])
        start = len(self.local) + self.blocks * self.BLOCK
        directory, end = small.index(b"PK\x01\x02"), small.rindex(b"PK\x05\x06")
        entries = bytearray(small[directory:end])
        at = 0
        while at < len(entries):
            lengths = struct.unpack_from("<HHH", entries, at + 28)
            [offset] = struct.unpack_from("<I", entries, at + 42)
            struct.pack_into("<I", entries, at + 42, offset + start)
            at += 46 + sum(lengths)
        [count] = struct.unpack_from("<H", small, end + 10)
        closing = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(self.central) + len(entries), start + directory, 0)
        return small[:directory] + self.central + bytes(entries) + b"PK\x05\x06" + closing

    def filename(self, version: str) -> str:
        return f"{file_stem(self.name)}-{version}-py3-none-any.whl"

    def size(self, version: str) -> int:
        return len(self.local) + self.blocks * self.BLOCK + len(self.tail(version))

    def pieces(self, version: str) -> Iterator[bytes]:
        """The file's bytes."""
        yield self.local
        for _ in range(self.blocks):
            yield self.block
        yield self.tail(version)

    def body(self, version: str) -> tuple[int, Iterator[bytes]]:
        """The multipart body of an upload: its length and its pieces."""
        hasher = self._sha256.copy()
        hasher.update(self.tail(version))
        dist = wheel(self.name, version, content=b"")
        fields = [each for each in form(dist, without=("content", "md5_digest", "blake2_256_digest"), sha256_digest=hasher.hexdigest())]
        head = multipart(fields, closed=False) + (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="content"; filename="{self.filename(version)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()
        foot = f"\r\n--{BOUNDARY}--\r\n".encode()

        def pieces() -> Iterator[bytes]:
            yield head
            yield from self.pieces(version)
            yield foot

        return len(head) + self.size(version) + len(foot), pieces()
