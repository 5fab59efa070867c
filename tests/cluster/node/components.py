"""The programs of a node, built once from the Go module proxy into the cache.

Each recipe names a module and a version. Its programs lie in a folder named after a hash of the recipe: a
changed pin builds anew, an unchanged one costs nothing. Go reads the `replace` and `exclude` lines of a main
module alone, so those that the pinned module was developed with are taken from its go.mod when it is built.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.peers import Minio
from tests.harness.places import cache_dir

RECIPES = Path(__file__).with_name("recipes")
KUBERNETES = "1.34.4"
HELM = "v3.19.0"
# The folder of the Gateway API's resources, of the version that the gateway was written for.
GATEWAY_CRDS = "gateway-crds"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")


@dataclass(frozen=True)
class Recipe:
    """What to build of one module, or with no module of the recipe's own sources alone."""

    name: str
    # Program to package. "." is the recipe's own main.go.
    programs: dict[str, str]
    module: str = ""
    version: str = ""
    # What `-X` sets: the version a program says it has, which charts compare.
    variables: dict[str, str] = field(default_factory=dict)
    # The version of the modules that a go.mod replaces by folders of its own repository.
    staging: str = ""
    # Other names of a program that acts by the name it is called by.
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Files kept beside the programs: name to a module that it is built from and a folder there.
    files: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def sources(self) -> list[Path]:
        """The recipe's own files."""
        return sorted((RECIPES / self.name).glob("*.go"))

    @property
    def folder(self) -> Path:
        """Where its programs are once they are built."""
        identity = hashlib.sha256(repr(self).encode())
        for source in self.sources:
            identity.update(source.read_bytes())
        return cache_dir() / "go" / "nodes" / f"{self.name}-{identity.hexdigest()[:12]}"


ALL = (
    Recipe("probe", {"probe": "."}),
    Recipe(
        "kubernetes", {"servers": ".", "kubectl": "k8s.io/kubernetes/cmd/kubectl"}, "k8s.io/kubernetes",
        f"v{KUBERNETES}",
        {f"k8s.io/component-base/version.{name}": value for name, value in
         {"gitVersion": f"v{KUBERNETES}", "gitMajor": "1", "gitMinor": "34",
          "gitTreeState": "clean"}.items()},
        staging="v0.34.4", names={"servers": SERVERS}),
    Recipe("coredns", {"coredns": "github.com/coredns/coredns"}, "github.com/coredns/coredns", "v1.12.4"),
    Recipe("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, "helm.sh/helm/v3", HELM,
           {"helm.sh/helm/v3/internal/version.version": HELM}),
    Recipe("traefik", {"traefik": "github.com/traefik/traefik/v3/cmd/traefik"},
           "github.com/traefik/traefik/v3", "v3.5.3",
           files={GATEWAY_CRDS: ("sigs.k8s.io/gateway-api", "config/crd/standard")}),
)


def environment() -> dict[str, str]:
    """Of the go command: modules in the cache; proxies, checksums and toolchain as the machine has them."""
    flags = "-mod=mod -modcacherw -trimpath -buildvcs=false"
    return {**os.environ, "GOPATH": str(cache_dir() / "go"), "GOFLAGS": flags, "GOWORK": "off",
            "CGO_ENABLED": "0"}


def go(folder: Path, *arguments: str) -> str:
    """Runs the go command; its output."""
    done = subprocess.run(["go", *arguments], cwd=folder, env=environment(), stdout=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        raise RuntimeError(f"go {' '.join(arguments)} ended with {done.returncode} in {folder}")
    return done.stdout


def requirements(recipe: Recipe, theirs: dict) -> list[str]:
    """The lines of a go.mod that builds a module as its own does: `theirs`, from `go mod edit -json`."""
    lines = ["module granary.test/node", f"go {theirs['Go']}", f"require {recipe.module} {recipe.version}"]
    for replaced in theirs.get("Replace") or []:
        old, new = replaced["Old"], replaced["New"]
        if new["Path"].startswith("."):
            new = {"Path": old["Path"], "Version": recipe.staging}
        source = f"{old['Path']} {old.get('Version', '')}".strip()
        lines.append(f"replace {source} => {new['Path']} {new['Version']}")
    lines += [f"exclude {excluded['Path']} {excluded['Version']}" for excluded in theirs.get("Exclude") or []]
    return lines


def compile_into(recipe: Recipe, work: Path) -> Path:
    """Builds a recipe in an empty folder; the folder of its programs."""
    for source in recipe.sources:
        shutil.copy(source, work)
    manifest = work / "go.mod"
    manifest.write_text("module granary.test/node\n")
    if recipe.module:
        downloaded = json.loads(go(work, "mod", "download", "-json", f"{recipe.module}@{recipe.version}"))
        theirs = json.loads(go(work, "mod", "edit", "-json", downloaded["GoMod"]))
        manifest.write_text("\n".join(requirements(recipe, theirs)) + "\n")
    linker = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in recipe.variables.items())])
    folder = work / "bin"
    for program, package in recipe.programs.items():
        go(work, "build", "-ldflags", linker, "-o", f"{folder}/{program}", package)
        for name in recipe.names.get(program, ()):
            (folder / name).symlink_to(program)
    for name, (module, path) in recipe.files.items():
        source = go(work, "list", "-m", "-f", "{{.Dir}}", module).strip()
        shutil.copytree(f"{source}/{path}", folder / name)
    return folder


def build(recipe: Recipe) -> Path:
    """The folder of a recipe's programs, built when it is not there yet."""
    folder = recipe.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        if shutil.which("go") is None:
            raise RuntimeError("the go command, which builds a node's parts, is missing; or set KUBECONFIG")
        print(f"building {recipe.name} {recipe.version} (once)", file=sys.stderr, flush=True)
        started = time.monotonic()
        work = folder.with_suffix(".work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        compile_into(recipe, work).rename(folder)
        shutil.rmtree(work)
        print(f"built {recipe.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return folder


def programs() -> dict[str, Path]:
    """Every program of a node by its name; builds what is missing."""
    found: dict[str, Path] = {}
    for recipe in ALL:
        folder = build(recipe)
        found.update({path.name: path for path in folder.iterdir()})
    Minio.build()
    return {**found, "minio": Minio.binary()}


def missing_clients() -> list[str]:
    """Folders with kubectl and helm, where the machine has none; builds them."""
    needed = {"kubernetes": "kubectl", "helm": "helm"}
    return [str(build(recipe)) for recipe in ALL
            if recipe.name in needed and shutil.which(needed[recipe.name]) is None]
