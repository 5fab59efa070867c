"""A container without a container runtime: an image's files as the root of a process, as Kubernetes would restrict it."""

import json
import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

USER = 65532

# As a runtime prepares it: a root that cannot be written to, a few devices, /proc, a /tmp and the volume.
_PREPARE = """
set -eu
root=$1 data=$2
shift 2
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 devices "$root/dev"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777 memory "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 temporary "$root/tmp"
if [ -n "$data" ]; then mount --bind "$data" "$root/data"; fi
mount -o remount,bind,ro "$root"
exec "$@"
"""


def archive(path: Path) -> dict[str, bytes]:
    """The files of an image's archive."""
    with tarfile.open(path) as files:
        return {member.name: files.extractfile(member).read() for member in files}


def config(files: dict[str, bytes]) -> dict:
    """The config of the image in an archive."""
    return json.loads(files[json.loads(files["manifest.json"])[0]["Config"]])


def unpack(files: dict[str, bytes], root: Path) -> Path:
    """Lays the image of an archive out in a folder, with the mount points that a runtime adds."""
    root.mkdir()
    for layer in json.loads(files["manifest.json"])[0]["Layers"]:
        with tarfile.open(fileobj=BytesIO(files[layer])) as content:
            content.extraction_filter = lambda member, path: member  # the layers are our own: take them as they are
            content.extractall(root)
    for name in ("dev", "proc"):
        (root / name).mkdir()
    return root


def command(root: Path, data: Path | None = None) -> list[str]:
    """What starts a program in the image: as its user, with a process namespace that ends with it."""
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    prepare = ["sh", "-c", _PREPARE, "sh", str(root), str(data or "")]
    if os.geteuid() == 0:
        return [*namespaces, *prepare, "chroot", f"--userspec={USER}:{USER}", "--groups=", str(root)]
    # Who is not root gets a user namespace in which he is, and within it one in which he is the image's user.
    return [*namespaces, "--map-root-user", *prepare, "unshare", f"--map-user={USER}", f"--map-group={USER}", f"--root={root}"]


def run(root: Path, *arguments: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program of the image to its end."""
    return subprocess.run([*command(root, data), *arguments], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
