"""Trees of files as the layers of a container image, and images as archives: byte for byte the same for the same files.

Formats: https://github.com/opencontainers/image-spec/blob/main/image-layout.md and .../layer.md. Standard library only.
"""

import hashlib
import io
import json
import shutil
import stat
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Entry:
    """A file, a link or a folder. Content is a file of this machine or bytes."""

    kind: bytes
    mode: int
    owner: int = 0
    content: Path | bytes = b""
    target: str = ""


class Tree:
    """What a layer adds to those below it."""

    def __init__(self, below: "Tree | None" = None):
        self.below, self.entries = below, {}

    def __contains__(self, path: str) -> bool:
        return path in self.entries or (self.below is not None and path in self.below)

    def _add(self, path: str, entry: Entry) -> None:
        """Adds an entry and the folders above it, unless it is there."""
        pure = PurePosixPath(path)
        assert pure.is_absolute() and ".." not in pure.parts, path
        if path in self:
            return
        for parent in reversed(pure.parents[:-1]):
            if str(parent) not in self:
                self.entries[str(parent)] = Entry(tarfile.DIRTYPE, 0o755)
        self.entries[path] = entry

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        self._add(path, Entry(tarfile.DIRTYPE, mode, owner))

    def text(self, path: str, text: str, mode: int = 0o644) -> None:
        self._add(path, Entry(tarfile.REGTYPE, mode, content=text.encode()))

    def link(self, path: str, target: str) -> None:
        self._add(path, Entry(tarfile.SYMTYPE, 0o777, target=target))

    def file(self, path: str, source: Path) -> None:
        """A file as it is on this machine; only whether it is a program is taken over of its mode."""
        source = source.resolve(strict=True)
        executable = source.stat().st_mode & stat.S_IXUSR
        self._add(path, Entry(tarfile.REGTYPE, 0o755 if executable else 0o644, content=source))

    def sources(self) -> set[Path]:
        """The files of this machine that were taken in."""
        return {entry.content for entry in self.entries.values() if isinstance(entry.content, Path)}

    def tar(self, mtime: int) -> bytes:
        """The layer, sorted by path and with one time for everything."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path, entry in sorted(self.entries.items()):
                content = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
                info = tarfile.TarInfo(path.lstrip("/"))
                info.type, info.mode, info.mtime, info.size, info.linkname = entry.kind, entry.mode, mtime, len(content), entry.target
                info.uid = info.gid = entry.owner
                archive.addfile(info, io.BytesIO(content))
        return out.getvalue()

    def write(self, folder: Path) -> None:
        """Lays the entries out in a folder; owners are left to whoever copies them from there."""
        for path, entry in sorted(self.entries.items()):
            place = folder / path.lstrip("/")
            if entry.kind == tarfile.DIRTYPE:
                place.mkdir(parents=True, exist_ok=True)
                place.chmod(entry.mode)
            elif entry.kind == tarfile.SYMTYPE:
                place.symlink_to(entry.target)
            else:
                if isinstance(entry.content, Path):
                    shutil.copyfile(entry.content, place)
                else:
                    place.write_bytes(entry.content)
                place.chmod(entry.mode)


def gzip(data: bytes) -> bytes:
    """Compressed without a name and a time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Image:
    """An image of several layers. `created` is a time of RFC 3339."""

    platform: dict[str, str]
    config: dict
    created: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    layers: list[dict] = field(default_factory=list)
    unpacked: list[str] = field(default_factory=list)

    def add_layer(self, tree: Tree, mtime: int) -> None:
        layer = tree.tar(mtime)
        self.unpacked.append(digest(layer))
        self.layers.append(self._blob(LAYER, gzip(layer)))

    def _blob(self, media_type: str, data: bytes) -> dict:
        name = digest(data)
        self.blobs[name] = data
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def manifest(self) -> tuple[dict, dict]:
        """The descriptors of the manifest and of the config."""
        config = self._blob(CONFIG, to_json({
            **self.platform, "created": self.created, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": self.unpacked},
            "history": [{"created": self.created, "created_by": "scripts/image.py"} for _ in self.layers],
        }))
        manifest = self._blob(MANIFEST, to_json({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": self.layers,
            "annotations": self.config["Labels"],
        }))
        return manifest, config

    def write(self, out: BinaryIO, reference: str, layout: str, mtime: int) -> str:
        """Writes the image as an archive; its digest. `layout` is `oci` (an image layout, with what older tools read beside it), or
        `docker` (as `docker save` wrote it before there was OCI)."""
        manifest, config = self.manifest()
        blob = {name: f"blobs/{name.replace(':', '/')}" for name in self.blobs}
        files = {blob[name]: data for name, data in self.blobs.items()}
        files["manifest.json"] = to_json([{
            "Config": blob[config["digest"]], "RepoTags": [reference], "Layers": [blob[layer["digest"]] for layer in self.layers],
        }])
        if layout == "docker":
            del files[blob[manifest["digest"]]]
        else:
            files["oci-layout"] = to_json({"imageLayoutVersion": "1.0.0"})
            names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
            files["index.json"] = to_json({
                "schemaVersion": 2, "mediaType": INDEX, "manifests": [{**manifest, "platform": self.platform, "annotations": names}],
            })
        out.write(pack(files, mtime))
        return manifest["digest"]


def write_tar(path: Path, files: dict[str, bytes | Path], mtime: int) -> None:
    """An archive of plain files, sorted, that appears when it is whole."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(pack(files, mtime))
    fresh.replace(path)


def pack(files: dict[str, bytes | Path], mtime: int) -> bytes:
    """Plain files as a tar, sorted."""
    tree = Tree()
    for name, content in files.items():
        tree.entries[name] = Entry(tarfile.REGTYPE, 0o644, content=content)
    return tree.tar(mtime)
