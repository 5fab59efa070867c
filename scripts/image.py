#!/usr/bin/env python3
"""Assembles the container images from a release build, without a container builder.

    scripts/image.py granary --output granary.tar
    scripts/image.py granary-store --output granary-store.tar --tag registry.example/granary-store:0.1.0
    scripts/image.py bundle --output granary-airgap.tar     both images and the charts, for a cluster without a way out

`granary` holds the two programs, the shared libraries that they need, and certificate authorities: no shell, no root.
`granary-store` is the same and a layer more: the Postgres server of this machine's packages, with a shell. The same
inputs give the same bytes. The platform is that of the programs; their libraries come from this machine, so it has to be
of the same kind (the Dockerfile beside it covers the others). Needs only Python's standard library, and `ldd`.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tomllib
from datetime import datetime, timezone
from pathlib import Path

from oci_archive import Image, Tree, digest, gzip, pack, write_tar

CHECKOUT = Path(__file__).resolve().parents[1]
IMAGES = ("granary", "granary-store")
USER = 65532
# The machine field of an ELF header, by the names that images use.
MACHINES = {0x3E: "amd64", 0xB7: "arm64"}

PASSWD = f"root:x:0:0:root:/:/sbin/nologin\ngranary:x:{USER}:{USER}:granary:/:/sbin/nologin\n"
GROUP = f"root:x:0:\ngranary:x:{USER}:\n"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Where Debian's package keeps them one by one. The bundle beside them may have authorities of this machine alone.
PACKAGED_CERTIFICATES = Path("/usr/share/ca-certificates/mozilla")

POSTGRES_LIB, POSTGRES_SHARE = Path("/usr/lib/postgresql"), Path("/usr/share/postgresql")
# The server, and what an administrator backs it up and looks into it with.
POSTGRES_PROGRAMS = ["postgres", "initdb", "pg_dump", "pg_restore", "pg_isready", "psql"]
# Modules that a new cluster refers to: PL/pgSQL, text search, conversions between encodings.
POSTGRES_MODULES = ["plpgsql", "dict_snowball", "*_and_*"]
POSTGRES_FILES = ["*.bki", "*.sql", "*.txt", "postgresql.conf.sample", "pg_*.conf.sample", "timezonesets/*", "tsearch_data/*",
                  "extension/plpgsql*"]
ZONES = Path("/usr/share/zoneinfo")


class Problem(Exception):
    """What keeps an image from being made, and what to do about it."""


def version() -> str:
    return tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


# What goes in


def architecture(program: Path) -> str:
    """The platform that a program is for, from its ELF header."""
    with open(program, "rb") as file:
        header = file.read(20)
    machine = MACHINES.get(int.from_bytes(header[18:20], "little")) if header.startswith(b"\x7fELF") else None
    if machine is None:
        raise Problem(f"{program} is not a Linux program for {' or '.join(MACHINES.values())}")
    return machine


def libraries(program: Path) -> list[Path]:
    """The shared libraries of a program and the loader, as the loader names them."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0 or "not found" in done.stdout:
        raise Problem(f"the libraries of {program} cannot be found on this machine:\n{done.stdout}{done.stderr}")
    return [Path(found) for found in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)]


def add_program(tree: Tree, path: str, source: Path) -> None:
    """A program or module with the libraries that it needs."""
    tree.file(path, source)
    for library in libraries(source):
        # Where /lib is a link to /usr/lib, it is one in the image too.
        add_merged(tree, str(library.parent))
        tree.file(str(library.parent.resolve() / library.name), library)


def add_merged(tree: Tree, folder: str) -> None:
    top = Path("/" + folder.split("/")[1])
    if top.is_symlink():
        tree.link(str(top), os.readlink(top))


def add_base(tree: Tree) -> None:
    """What the C library and TLS look for."""
    tree.text("/etc/passwd", PASSWD)
    tree.text("/etc/group", GROUP)
    tree.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    tree.folder("/tmp", 0o1777)
    found = sorted(PACKAGED_CERTIFICATES.glob("*.crt"))
    if not found:
        raise Problem(f"no certificate authorities in {PACKAGED_CERTIFICATES}: install the package ca-certificates")
    tree.text(CERTIFICATES, "".join(one.read_text().rstrip("\n") + "\n" for one in found))
    add_packages(tree, set(found))


def add_packages(tree: Tree, sources: set[Path]) -> None:
    """Licenses, and what scanners for known faults read, of the Debian packages that files came from."""
    # Since /lib and /usr/lib became one, packages name their files by either.
    names = {str(source) for source in sources}
    names |= {name.removeprefix("/usr") for name in names}
    try:
        done = subprocess.run(["dpkg-query", "--search", *sorted(names)], capture_output=True, text=True)
    except FileNotFoundError:
        return
    owners = {owner.strip() for line in done.stdout.splitlines() for owner in line.partition(": ")[0].split(",")}
    for owner in sorted(owners):
        name = owner.partition(":")[0]
        described = subprocess.run(["dpkg-query", "--status", owner], capture_output=True, text=True, check=True)
        tree.text(f"/var/lib/dpkg/status.d/{name}", described.stdout)
        license_file = Path("/usr/share/doc", name, "copyright")
        if license_file.exists():
            tree.file(str(license_file), license_file)
    if owners:
        tree.file("/etc/os-release", Path("/etc/os-release"))


def programs_trees(binaries: Path) -> list[Tree]:
    """Two layers: one that seldom changes, and the programs."""
    programs = [binaries / name for name in ("granary", "granary-operator")]
    for program in programs:
        if not program.is_file():
            raise Problem(f"{program} is not there: run `cargo build --release` first, or name its folder by --binaries")
    base = Tree()
    add_base(base)
    above = Tree(base)
    for program in programs:
        found = Tree()
        add_program(found, f"/usr/bin/{program.name}", program)
        above.entries[f"/usr/bin/{program.name}"] = found.entries.pop(f"/usr/bin/{program.name}")
        base.entries.update(found.entries)
    add_packages(base, base.sources())
    above.folder("/var/cache/granary", 0o755, USER)
    return [base, above]


def postgres_version() -> str:
    """The newest major version that is installed."""
    found = [int(folder.name) for folder in POSTGRES_LIB.glob("*") if (folder / "bin/postgres").exists()]
    if not found:
        raise Problem(f"no Postgres server in {POSTGRES_LIB}: run `scripts/need.sh postgres`")
    return str(max(found))


def store_tree(below: Tree) -> Tree:
    """The layer with Postgres and a shell."""
    tree, major = Tree(below), postgres_version()
    lib, share = POSTGRES_LIB / major, POSTGRES_SHARE / major
    for program in POSTGRES_PROGRAMS:
        add_program(tree, str(lib / "bin" / program), lib / "bin" / program)
    for pattern in POSTGRES_MODULES:
        for module in (lib / "lib").glob(f"{pattern}.so"):
            add_program(tree, str(module), module)
    for pattern in POSTGRES_FILES:
        for file in share.glob(pattern):
            tree.file(str(file), file)
    for zone in ZONES.rglob("*"):
        part = zone.relative_to(ZONES)
        # Variants of all zones that are not asked for, and this machine's own zone.
        if part.parts[0] in ("posix", "right", "localtime") or zone.is_dir():
            continue
        if zone.is_symlink():
            tree.link(str(zone), os.readlink(zone))
        else:
            tree.file(str(zone), zone)
    add_merged(tree, "/bin")
    add_program(tree, "/usr/bin/dash", Path("/bin/dash"))
    tree.link("/usr/bin/sh", "dash")
    tree.folder("/data", 0o755, USER)
    add_packages(tree, tree.sources())
    return tree


def config_of(name: str, revision: str | None) -> dict:
    """How a container of the image runs."""
    path, environment, command, ports = ["/usr/bin"], [f"SSL_CERT_FILE={CERTIFICATES}"], None, ["8080/tcp", "9090/tcp"]
    title, description = "Granary", "A package registry for Kubernetes, and its operator"
    if name == "granary-store":
        path.append(str(POSTGRES_LIB / postgres_version() / "bin"))
        # For `kubectl exec … psql`; the server that the store starts is shielded from them.
        environment += ["PGDATABASE=granary", "PGHOST=/data/postgres/socket", "PGUSER=granary"]
        command, ports = ["store"], ["5432/tcp", "9000/tcp", "9090/tcp"]
        title, description = "Granary store", "Postgres and an S3 server for a Granary that has neither"
    labels = {"title": title, "description": description, "version": version(), "licenses": "Apache-2.0"}
    if revision:
        labels["revision"] = revision
    return {
        "User": f"{USER}:{USER}", "WorkingDir": "/", "Entrypoint": ["/usr/bin/granary"],
        **({"Cmd": command} if command else {}),
        "Env": [f"PATH={':'.join(path)}", *environment],
        "ExposedPorts": {port: {} for port in ports},
        "Labels": {f"org.opencontainers.image.{key}": value for key, value in labels.items()},
    }


# What comes out


def trees_of(name: str, binaries: Path) -> list[Tree]:
    trees = programs_trees(binaries)
    return [*trees, store_tree(trees[-1])] if name == "granary-store" else trees


def build(name: str, binaries: Path, revision: str | None, mtime: int) -> Image:
    """An image with its layers."""
    platforms = {architecture(binaries / program) for program in ("granary", "granary-operator") if (binaries / program).is_file()}
    if len(platforms) > 1:
        raise Problem(f"the programs in {binaries} are for different machines")
    trees = trees_of(name, binaries)
    created = datetime.fromtimestamp(mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    image = Image({"architecture": platforms.pop(), "os": "linux"}, config_of(name, revision), created)
    for tree in trees:
        image.add_layer(tree, mtime)
    return image


def chart_package(folder: Path, mtime: int) -> tuple[str, bytes]:
    """A chart as `helm package` names and lays it out: NAME-VERSION.tgz with everything below NAME/."""
    described = (folder / "Chart.yaml").read_text()
    fields = dict(re.findall(r"""^(name|version):\s*["']?([^"'\s#]+)""", described, re.MULTILINE))
    if set(fields) != {"name", "version"}:
        raise Problem(f"{folder}/Chart.yaml has no name or no version")
    files = {f"{fields['name']}/{file.relative_to(folder).as_posix()}": file for file in folder.rglob("*") if file.is_file()}
    return f"{fields['name']}-{fields['version']}.tgz", gzip(pack(files, mtime))


LOADING = """\
Granary {version}, for a cluster without a way out. sha256sum --check SHA256SUMS tells whether everything came across.

1. The images: into a registry of your own,

     skopeo copy docker-archive:granary.tar       docker://registry.example/granary:{version}
     skopeo copy docker-archive:granary-store.tar docker://registry.example/granary-store:{version}

   or onto every node, one of

     ctr --namespace k8s.io images import granary.tar
     docker load --input granary.tar
     podman load --input granary.tar

   granary-store is only needed for registries without a database and an object store of their own.

2. The charts, which pull nothing else. With a registry of your own, name it:

{installs}
"""


def bundle(binaries: Path, revision: str | None, mtime: int) -> tuple[dict[str, bytes], list[str]]:
    """The files of the bundle, and a line on each."""
    files: dict[str, bytes] = {}
    for name in IMAGES:
        out = io.BytesIO()
        build(name, binaries, revision, mtime).write(out, f"{name}:{version()}", "docker", mtime)
        files[f"{name}.tar"] = out.getvalue()
    charts = [chart_package(chart.parent, mtime) for chart in sorted((CHECKOUT / "charts").glob("*/Chart.yaml"))]
    if not charts:
        raise Problem(f"no charts in {CHECKOUT / 'charts'}")
    files.update(charts)
    # The definitions of resources come before what uses them.
    order = sorted((name for name, _ in charts), key=lambda name: (not name.startswith("granary-crds-"), name))
    installs = []
    for name in order:
        release = re.sub(r"-\d+\.\d+\.\d+.*$", "", name)
        options = " --set image.repository=registry.example/granary" if release == "granary" else ""
        installs.append(f"     helm install {release} {name} --namespace granary --create-namespace{options}")
    files["README.txt"] = LOADING.format(version=version(), installs="\n".join(installs)).encode()
    files["SHA256SUMS"] = "".join(f"{digest(data).removeprefix('sha256:')}  {name}\n" for name, data in sorted(files.items())).encode()
    return files, [f"  {name} {len(data):,} bytes" for name, data in sorted(files.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description="Assembles the container images from a release build.")
    parser.add_argument("what", choices=[*IMAGES, "bundle"])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, metavar="FILE", help="the archive to write")
    where.add_argument("--folder", type=Path, metavar="DIR", help="lay the image's files out in this folder, for a Dockerfile")
    parser.add_argument("--binaries", type=Path, metavar="DIR", default=CHECKOUT / "target" / "release", help="where the programs are")
    parser.add_argument("--tag", metavar="NAME:TAG", help="the image's name [default: granary:VERSION or granary-store:VERSION]")
    parser.add_argument("--format", choices=["oci", "docker"], default="oci",
                        help="docker: an archive as `docker save` made them, whose short names every tool completes itself")
    parser.add_argument("--revision", metavar="COMMIT", help="the commit that was built, for a label")
    arguments = parser.parse_args()
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    what, output = arguments.what, arguments.output
    if what == "bundle":
        if output is None:
            parser.error("a bundle goes to a file: --output")
        files, lines = bundle(arguments.binaries, arguments.revision, mtime)
        folder = f"granary-{version()}-airgap"
        write_tar(output, {f"{folder}/{name}": data for name, data in files.items()}, mtime)
        print(f"{output} {output.stat().st_size:,} bytes", *lines, sep="\n")
        return
    if arguments.folder is not None:
        for tree in trees_of(what, arguments.binaries):
            tree.write(arguments.folder)
        return
    image = build(what, arguments.binaries, arguments.revision, mtime)
    reference = arguments.tag or f"{what}:{version()}"
    with open(output.with_name(output.name + ".new"), "wb") as out:
        manifest = image.write(out, reference, arguments.format, mtime)
    Path(out.name).replace(output)
    print(f"{reference} {manifest} {image.platform['architecture']} {output.stat().st_size:,} bytes in {output}")


if __name__ == "__main__":
    try:
        main()
    except (Problem, OSError) as problem:
        sys.exit(f"image.py: {problem}")
