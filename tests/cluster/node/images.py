"""Container images of one layer, made without a builder, and how a node takes an image in."""

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def libraries(program: Path) -> list[Path]:
    """The shared libraries that a program needs, the loader among them."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)]


def archive(path: Path, name: str, program: Path, arguments: list[str] = [], others: list[Path] = []) -> None:
    """Writes an archive as `docker save` does: an image that runs a program, as a user without rights, and has others beside it,
    with the libraries that these need."""
    layer = io.BytesIO()
    programs = {each.name: each for each in (program, *others)}
    needed = {str(library).lstrip("/"): library for each in others for library in libraries(each)}
    with tarfile.open(fileobj=layer, mode="w") as files:
        for place, each in {**programs, **needed}.items():
            entry = files.gettarinfo(str(each.resolve()), arcname=place)
            entry.mode, entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime = 0o755, 0, 0, "", "", 0
            with open(each, "rb") as content:
                files.addfile(entry, content)
    config = json.dumps({
        "architecture": ARCHITECTURE, "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "Cmd": arguments, "User": "65532:65532",
                   "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as out:
        for member, content in ((config_name, config), ("layer.tar", layer.getvalue()),
                                ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))


def load(containerd: str, path: Path, base_name: str = "") -> list[str]:
    """Takes a docker or OCI archive in; the names of its images. `base_name` completes mere tags."""
    command = ["ctr", "--address", containerd, "--namespace", "k8s.io", "images", "import",
               *(["--base-name", base_name] if base_name else []), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return re.findall(r"^unpacking (\S+) ", done.stdout, re.MULTILINE)
