"""conda packages made in microseconds, well formed or broken in one chosen way."""

import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field

import zstandard

# Files of the same content are equal bytes: archives carry this time and no other.
_TIME = 1_767_225_600
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)


def tar(entries: list[tuple[str, bytes]]) -> bytes:
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), _TIME
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def stored_zip(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive whose entries are stored."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, method)
    return out.getvalue()


def compressed(data: bytes) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor(level=3).compress(data)


@dataclass
class Package:
    """A package and the file that it is."""

    name: str
    version: str = "1.0"
    build: str = "h_0"
    subdir: str = "noarch"
    kind: str = "conda"
    build_number: int = 0
    depends: list[str] = field(default_factory=list)
    run_exports: dict | None = None
    files: dict[str, bytes] | None = None
    # Replaces fields of info/index.json; None removes one.
    index: dict = field(default_factory=dict)
    # Further files of info/, and others in the place of those that are made here.
    info_files: dict[str, bytes] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def filename(self) -> str:
        return f"{self.stem}.{'conda' if self.kind == 'conda' else 'tar.bz2'}"

    @property
    def index_json(self) -> dict:
        index = {"name": self.name, "version": self.version, "build": self.build, "build_number": self.build_number,
                 "subdir": self.subdir, "depends": self.depends, "timestamp": _TIME * 1000, "license": "MIT",
                 "arch": None if self.subdir == "noarch" else "x86_64", "platform": None if self.subdir == "noarch" else "linux"}
        if self.subdir == "noarch":
            index["noarch"] = "generic"
        index.update(self.index)
        return {name: value for name, value in index.items() if value is not None or name in ("arch", "platform")}

    def contents(self) -> dict[str, bytes]:
        """What is installed."""
        return {f"share/{self.name}.txt": f"{self.stem}\n".encode()} if self.files is None else self.files

    def info(self) -> list[tuple[str, bytes]]:
        """The files of `info/`."""
        contents = self.contents()
        paths = [{"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
                 for path, data in contents.items()]
        files = [("info/index.json", json.dumps(self.index_json).encode()),
                 ("info/about.json", json.dumps({"summary": "made by a test"}).encode()),
                 ("info/files", "".join(f"{path}\n" for path in contents).encode()),
                 ("info/paths.json", json.dumps({"paths": paths, "paths_version": 1}).encode())]
        if self.run_exports is not None:
            files.append(("info/run_exports.json", json.dumps(self.run_exports).encode()))
        return list({**dict(files), **self.info_files}.items())

    def content(self) -> bytes:
        """The bytes of the file."""
        info, contents = self.info(), list(self.contents().items())
        if self.kind != "conda":
            return bz2.compress(tar([*info, *contents]))
        return stored_zip([("metadata.json", b'{"conda_pkg_format_version": 2}'),
                           (f"pkg-{self.stem}.tar.zst", compressed(tar(contents))),
                           (f"info-{self.stem}.tar.zst", compressed(tar(info)))])
