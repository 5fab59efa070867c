"""The container images that scripts/image.py assembles: what is in them, that they are the same each time, and that they run."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.harness import container
from tests.harness.dists import wheel
from tests.harness.places import BINARY, CHECKOUT
from tests.harness.processes import wait_until
from tests.harness.registry import Registry
from tests.harness.store import Store

SCRIPT = CHECKOUT / "scripts" / "image.py"
PROGRAMS = ("granary", "granary-operator")
VERSION = re.search(r'^version = "(.+)"', (CHECKOUT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def image_py(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env={**inherited, **environment})


def make(name: str, output: Path, binaries: Path, *options: str, **environment: str) -> str:
    """Assembles an image; what the script printed."""
    done = image_py(name, "--output", output, "--binaries", binaries, *options, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the images' user may enter."""
    folder = tmp_path_factory.mktemp("images")
    for part in (folder, *folder.parents):
        if part.owner() == Path.home().owner() and part.stat().st_uid == os.geteuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)
    return folder


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, dict[str, bytes]]:
    """Both images, as the files of their archives."""
    made = {}
    for name in ("granary", "granary-store"):
        printed = make(name, folder / f"{name}.tar", BINARY.parent, "--revision", "abc123")
        made[name] = container.archive(folder / f"{name}.tar")
        index = json.loads(made[name]["index.json"])
        assert f"{name}:{VERSION} {index['manifests'][0]['digest']}" in printed
    return made


@pytest.fixture(scope="module")
def roots(folder: Path, images: dict) -> dict[str, Path]:
    """Both images, unpacked."""
    return {name: container.unpack(files, folder / name) for name, files in images.items()}


def layers(files: dict[str, bytes]) -> dict[str, tarfile.TarInfo]:
    """Everything that is in an image, by path."""
    found = {}
    for layer in json.loads(files["manifest.json"])[0]["Layers"]:
        with tarfile.open(fileobj=io.BytesIO(files[layer])) as content:
            found.update({f"/{member.name}": member for member in content})
    return found


def test_the_archive_is_an_image_layout(images: dict):
    for name, files in images.items():
        for path, content in files.items():
            if path.startswith("blobs/sha256/"):
                assert path.removeprefix("blobs/sha256/") == hashlib.sha256(content).hexdigest()
        blob = lambda descriptor: files[f"blobs/{descriptor['digest'].replace(':', '/')}"]  # noqa: E731
        assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        entry = json.loads(files["index.json"])["manifests"][0]
        assert entry["annotations"] == {"io.containerd.image.name": f"{name}:{VERSION}", "org.opencontainers.image.ref.name": VERSION}
        manifest = json.loads(blob(entry))
        config = json.loads(blob(manifest["config"]))
        assert [len(blob(part)) for part in (entry, manifest["config"], *manifest["layers"])] == \
            [part["size"] for part in (entry, manifest["config"], *manifest["layers"])]
        unpacked = [gzip.decompress(blob(layer)) for layer in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in unpacked]
        assert config["config"]["User"] == "65532:65532" and config["config"]["Entrypoint"] == ["/usr/bin/granary"]
        assert config["config"]["Labels"]["org.opencontainers.image.version"] == VERSION
        assert config["config"]["Labels"]["org.opencontainers.image.revision"] == "abc123"
    # A node that has the one image already fetches only Postgres for the other.
    shared = [json.loads(files["manifest.json"])[0]["Layers"] for files in images.values()]
    assert shared[0] == shared[1][:-1]


def test_the_same_inputs_give_the_same_bytes(folder: Path, images: dict):
    copies = folder / "copies"
    copies.mkdir()
    for name in PROGRAMS:
        shutil.copyfile(BINARY.parent / name, copies / name)
        (copies / name).chmod(0o700)
    umask = os.umask(0o077)
    try:
        for name in images:
            make(name, folder / "again.tar", copies, "--revision", "abc123", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
            assert container.archive(folder / "again.tar") == images[name]
    finally:
        os.umask(umask)
    make("granary", folder / "dated.tar", copies, SOURCE_DATE_EPOCH="1700000000")
    dated = container.archive(folder / "dated.tar")
    assert container.config(dated)["created"] == "2023-11-14T22:13:20Z"
    assert {member.mtime for member in layers(dated).values()} == {1700000000}


def test_what_is_in_them(images: dict):
    granary, store = layers(images["granary"]), layers(images["granary-store"])
    programs = {path for path in granary if path.startswith("/usr/bin/")}
    assert programs == {"/usr/bin/granary", "/usr/bin/granary-operator"}
    runnable = {Path(path).name for path, member in granary.items() if member.isfile() and member.mode & 0o111}
    assert {name for name in runnable if ".so" not in name} == set(PROGRAMS)
    assert "/usr/bin/sh" in store and "/usr/bin/psql" not in store
    for entries in (granary, store):
        assert {member.mode for member in entries.values() if member.isfile()} <= {0o644, 0o755}
        owned = {path for path, member in entries.items() if member.uid or member.gid}
        assert owned <= {"/data", "/var/cache/granary"} and not any(member.uname for member in entries.values())
        assert entries["/tmp"].mode == 0o1777


def test_programs_run_as_nobody_in_particular(roots: dict[str, Path]):
    for name, root in roots.items():
        certificates = (root / "etc/ssl/certs/ca-certificates.crt").read_text()
        assert certificates.count("BEGIN CERTIFICATE") == certificates.count("END CERTIFICATE") > 100
        for program in PROGRAMS:
            done = container.run(root, f"/usr/bin/{program}", "--version")
            assert done.returncode == 0 and done.stdout.strip().endswith(VERSION), (name, done)
    assert container.run(roots["granary"], "/bin/sh", "-c", "true").returncode == 127
    script = 'while read -r line; do case $line in Uid*) echo $line;; esac; done </proc/self/status; echo x >/here'
    shell = container.run(roots["granary-store"], "/bin/sh", "-c", script)
    assert shell.stdout.split() == ["Uid:", *["65532"] * 4] and "Read-only" in shell.stderr


def test_the_store_serves_a_registry(roots: dict[str, Path], folder: Path):
    """On a volume of another owner, as Kubernetes gives one to a group."""
    data = folder / "volume"
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(data, 1000, container.USER)
    data.chmod(0o2775)
    store = Store(data, command=[*container.command(roots["granary-store"], data), "/usr/bin/granary"], folder="/data")
    try:
        store.start()
        assert store.sql("SELECT count(*) > 500 FROM pg_timezone_names") == "t"
        assert store.sql("SELECT to_tsvector('english', 'granaries') || to_tsvector('simple', 'x')") == "'granari':1 'x':2"
        assert store.sql("SHOW data_directory") == "/data/postgres/data"
        registry = Registry(folder / "registry", store, "granary", store.keys)
        registry.write_channel("dev", {"format": "pypi", "visibility": "public"})
        registry.migrate().start()
        try:
            registry.wait_for_channel("dev")
            made = wheel("from-a-container", "1.0")
            registry.publish(made)
            store.kill()
            store.rotate()
            store.start()
            assert store.sql("SELECT count(*) FROM granary.blob") == "1"
        finally:
            registry.kill()
        assert store.stop() == 0
    finally:
        store.kill()


def test_what_cannot_be_made_is_said(folder: Path):
    empty = folder / "empty"
    empty.mkdir()
    done = image_py("granary", "--output", folder / "none.tar", "--binaries", empty)
    assert done.returncode == 1 and "cargo build --release" in done.stderr and "Traceback" not in done.stderr
    for name in PROGRAMS:
        (empty / name).write_text("#!/bin/sh\n")
    done = image_py("granary", "--output", folder / "none.tar", "--binaries", empty)
    assert done.returncode == 1 and "not a Linux program" in done.stderr
    assert not (folder / "none.tar").exists()


def test_the_bundle_for_a_cluster_without_a_way_out(folder: Path, images: dict):
    make("bundle", folder / "bundle.tar", BINARY.parent, "--revision", "abc123")
    top = f"granary-{VERSION}-airgap/"
    files = container.archive(folder / "bundle.tar")
    assert all(name.startswith(top) for name in files)
    files = {name.removeprefix(top): content for name, content in files.items()}
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "SHA256SUMS"}
    assert {f"granary-{VERSION}.tgz", f"granary-crds-{VERSION}.tgz"} <= set(files)
    with tarfile.open(fileobj=io.BytesIO(files[f"granary-{VERSION}.tgz"])) as chart:
        assert {"granary/Chart.yaml", "granary/values.yaml"} <= set(chart.getnames())
        assert all(name.startswith("granary/") for name in chart.getnames())
    for name, image in images.items():
        with tarfile.open(fileobj=io.BytesIO(files[f"{name}.tar"])) as saved:
            inside = {member.name: saved.extractfile(member).read() for member in saved}
        # As older tools know it: they complete the short name themselves.
        assert "oci-layout" not in inside and json.loads(inside["manifest.json"])[0]["RepoTags"] == [f"{name}:{VERSION}"]
        assert container.config(inside) == container.config(image)


# For those with a builder


def stages(dockerfile: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found[rest.split(" AS ")[1]] = current = []
        current.append((instruction, rest.strip()))
    return found


@pytest.mark.parametrize("name", ["granary", "granary-store"])
def test_the_dockerfile_makes_the_same_image(name: str, images: dict):
    """It lays out the very files of image.py; what it says of them besides has to be the same."""
    found = stages((CHECKOUT / "deploy" / "Dockerfile").read_text())
    instructions, config = found[name], container.config(images[name])["config"]
    said = {instruction: rest for instruction, rest in instructions}
    assert said["FROM"] == f"scratch AS {name}"
    assert said["USER"] == config["User"] and said["WORKDIR"] == config["WorkingDir"]
    assert json.loads(said["ENTRYPOINT"]) == config["Entrypoint"] and json.loads(said.get("CMD", "null")) == config.get("Cmd")
    assert set(said["EXPOSE"].split()) == set(config["ExposedPorts"])
    any_version = lambda text: re.sub(r"postgresql/\d+", "postgresql/N", text)  # noqa: E731  that of the distribution
    assert {any_version(pair) for pair in said["ENV"].split()} == {any_version(pair) for pair in config["Env"]}
    labels = dict(re.findall(r'(\S+?)="([^"]*)"', said["LABEL"]))
    assert labels == {key: value for key, value in config["Labels"].items() if not key.endswith("revision")}
    copies = [rest for instruction, rest in instructions if instruction == "COPY"]
    assert copies[0] == f"--from=assemble /image/{name}/ /"
    owned = {path for path, member in layers(images[name]).items() if member.uid}
    assert set(copies[1:]) == {f"--from=assemble --chown=65532:65532 /image/{name}{path} {path}" for path in owned}
    assert any(f"image.py {name} --binaries /programs --folder /image/{name}" in rest for _, rest in found["assemble"])


def test_a_dockerfile_gets_the_files_of_the_image(folder: Path, images: dict):
    done = image_py("granary", "--folder", folder / "laid-out", "--binaries", BINARY.parent)
    assert done.returncode == 0, done.stderr
    laid_out = {"/" + path.relative_to(folder / "laid-out").as_posix(): path for path in (folder / "laid-out").rglob("*")}
    entries = layers(images["granary"])
    assert laid_out.keys() == entries.keys()
    for path, place in laid_out.items():
        assert place.is_symlink() == entries[path].issym(), path
        assert place.is_symlink() or place.stat().st_mode & 0o7777 == entries[path].mode, path


class ComposeRegistry(Registry):
    """`granary serve` with its configuration from the environment alone."""

    def arguments(self) -> list[str]:
        return ["serve", "--channels", str(CHECKOUT / "deploy" / "channels")]


def test_the_compose_file_describes_a_registry_that_runs(folder: Path):
    """Its variables and commands, with the real programs in place of its containers."""
    text = (CHECKOUT / "deploy" / "compose.yaml").read_text()
    assert set(re.findall(r"image:.*?(granary\S*:\S+)", text)) == {f"granary:{VERSION}", f"granary-store:{VERSION}"}
    (folder / "compose").mkdir()
    (folder / "compose").chmod(0o755)
    store = Store(folder / "compose" / "data")
    given = {"POSTGRES_PASSWORD": store.password, "SECRET_ACCESS_KEY": store.keys.secret_key}
    text = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: given[match[1]], text)
    variables = dict(re.findall(r"^      (GRANARY_\w+): (.+)$", text, re.MULTILINE))
    assert {name for name in variables if name.startswith("GRANARY_STORE_")} == set(store.environment)
    assert variables["GRANARY_STORE_ACCESS_KEY_ID"] == variables["GRANARY_OBJECT_STORE_ACCESS_KEY_ID"] == store.keys.access_key
    elsewhere = {"store:5432": f"127.0.0.1:{store.port}", "store:9000": f"127.0.0.1:{store.s3_port}",
                 "/var/cache/granary": str(folder / "compose/cache")}
    environment = {name: value for name, value in variables.items() if not name.startswith("GRANARY_STORE_")}
    for there, here in elsewhere.items():
        environment = {name: value.replace(there, here) for name, value in environment.items()}
    assert "./channels:/etc/granary/channels:ro" in text and "[serve, --channels, /etc/granary/channels]" in text
    try:
        store.start()
        migrated = subprocess.run([BINARY, "migrate"], env=environment, capture_output=True, text=True, timeout=60)
        assert migrated.returncode == 0, migrated.stderr
        registry = ComposeRegistry(folder / "compose/registry", store, "granary", store.keys)
        listen = {"GRANARY_LISTEN": registry.spec["listen"][0], "GRANARY_MANAGEMENT_LISTEN": registry.management}
        registry.environment = {**environment, **listen}
        registry.start()
        try:
            wait_until(lambda: registry.get("/pypi/dev/+simple/").status_code == 200, 10, "the channel")
        finally:
            registry.kill()
    finally:
        store.kill()
