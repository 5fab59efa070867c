"""Wheels and source distributions made in microseconds, well formed or broken in one chosen way."""

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from dataclasses import dataclass, field

Entries = list[tuple[str, bytes]]

# Files of the same content are equal bytes: archives carry this time and no other.
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)
_TAR_TIME = 1_767_225_600


def normalize(name: str) -> str:
    """A project's name as it stands in URLs."""
    return re.sub(r"[-_.]+", "-", name).lower()


def file_stem(name: str) -> str:
    """A project's name as it stands in file names."""
    return normalize(name).replace("-", "_")


@dataclass
class Dist:
    """A file to publish, with what its form says."""

    name: str
    version: str
    filename: str
    filetype: str
    content: bytes
    pyversion: str
    metadata: bytes
    requires_python: str | None = None
    extra_fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def fields(self) -> list[tuple[str, str]]:
        """The form fields of an upload, as twine and uv send them."""
        fields = [
            (":action", "file_upload"),
            ("protocol_version", "1"),
            ("metadata_version", "2.1"),
            ("name", self.name),
            ("version", self.version),
            ("filetype", self.filetype),
            ("pyversion", self.pyversion),
            ("summary", "made by a test"),
            ("sha256_digest", self.sha256),
            ("blake2_256_digest", hashlib.blake2b(self.content, digest_size=32).hexdigest()),
            ("md5_digest", hashlib.md5(self.content).hexdigest()),
        ]
        if self.requires_python is not None:
            fields.append(("requires_python", self.requires_python))
        return fields + self.extra_fields


def core_metadata(name: str, version: str, *, requires_python: str | None = None, requires: tuple[str, ...] = (),
                  metadata_version: str = "2.1", extra: str = "") -> bytes:
    """The METADATA of a wheel or the PKG-INFO of a source distribution."""
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}", "Summary: made by a test"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return ("\n".join(lines) + "\n" + extra + "\n").encode()


def zip_archive(entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these entries, in this order, names exactly as given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.filename = name
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, compression)
    return buffer.getvalue()


def wheel_entries(name: str, version: str, metadata: bytes, *, tag: str = "py3-none-any", payload: bytes = b"") -> Entries:
    """What a good wheel holds; the module's `VERSION` lets a test ask what was installed."""
    stem = file_stem(name)
    entries: Entries = [(f"{stem}/__init__.py", f"VERSION = {version!r}\n".encode())]
    if payload:
        entries.append((f"{stem}/payload.bin", payload))
    info = f"{stem}-{version}.dist-info"
    entries.append((f"{info}/METADATA", metadata))
    entries.append((f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()))
    record = "".join(f"{path},sha256={_record_hash(content)},{len(content)}\n" for path, content in entries)
    entries.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode()))
    return entries


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def wheel(name: str, version: str = "1.0", *, requires_python: str | None = None, requires: tuple[str, ...] = (),
          tag: str = "py3-none-any", payload: bytes = b"", metadata: bytes | None = None, entries: Entries | None = None,
          content: bytes | None = None, filename: str | None = None, stored: bool = False) -> Dist:
    """A wheel. `payload` is added as it is; `metadata`, `entries`, `content` or `filename` replace what would be made."""
    if metadata is None:
        metadata = core_metadata(name, version, requires_python=requires_python, requires=requires)
    if content is None:
        if entries is None:
            entries = wheel_entries(name, version, metadata, tag=tag, payload=payload)
        content = zip_archive(entries, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return Dist(name, version, filename or f"{file_stem(name)}-{version}-{tag}.whl", "bdist_wheel", content,
                tag.split("-")[0], metadata, requires_python)


def tar_archive(entries: Entries, compression: str = "gz") -> bytes:
    """A tar of these entries, names exactly as given."""
    buffer = io.BytesIO()
    extra = {"compresslevel": 1} if compression else {}
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}", format=tarfile.PAX_FORMAT, **extra) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), _TAR_TIME
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


_PYPROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'

# A build backend of its own, so that installing a source distribution needs nothing from anywhere.
_BACKEND = '''
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{stem}-{version}-py3-none-any.whl"
    info = "{stem}-{version}.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.write("{stem}.py")
        archive.write("PKG-INFO", info + "/METADATA")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "")
    return name
'''


def sdist_entries(name: str, version: str, metadata: bytes, payload: bytes = b"") -> Entries:
    """What a good source distribution holds."""
    stem = file_stem(name)
    top = f"{stem}-{version}"
    entries: Entries = [
        (f"{top}/PKG-INFO", metadata),
        (f"{top}/pyproject.toml", _PYPROJECT),
        (f"{top}/backend.py", _BACKEND.format(stem=stem, version=version).encode()),
        (f"{top}/{stem}.py", f"VERSION = {version!r}\n".encode()),
    ]
    if payload:
        entries.append((f"{top}/payload.bin", payload))
    return entries


def sdist(name: str, version: str = "1.0", *, requires_python: str | None = None, metadata: bytes | None = None,
          payload: bytes = b"", entries: Entries | None = None, content: bytes | None = None,
          filename: str | None = None) -> Dist:
    """A source distribution that pip and uv can build offline."""
    if metadata is None:
        metadata = core_metadata(name, version, requires_python=requires_python, metadata_version="2.2")
    if content is None:
        content = tar_archive(entries if entries is not None else sdist_entries(name, version, metadata, payload))
    return Dist(name, version, filename or f"{file_stem(name)}-{version}.tar.gz", "sdist", content, "source", metadata,
                requires_python)
