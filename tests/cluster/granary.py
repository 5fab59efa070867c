"""Granary in a cluster: the charts installed with helm, registries with a database and a bucket prefix of their own, and the
clients that publish to them and install from them."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tests.cluster.kube import Kube
from tests.cluster.node import images
from tests.cluster.node.facts import Facts
from tests.harness.dists import Dist
from tests.harness.places import CHECKOUT, venv_program
from tests.harness.secrets import SECRETS

# Where the operator is installed.
SYSTEM = "granary-system"
API = "granary.dev/v1alpha1"
OPERATOR = "deployment/granary-operator"


# Image and charts


def image(name: str, folder: Path, tag: str, *options: str) -> Path:
    """Assembles an image of the release build."""
    path = folder / f"{tag.replace(':', '-').replace('/', '-')}.tar"
    binaries = os.environ.get("GRANARY_BINARIES") or str(CHECKOUT / "target" / "release")
    run(sys.executable, "scripts/image.py", name, "--output", path, "--tag", tag, "--format", "docker", "--binaries", binaries, *options)
    return path


def load_images(facts: Facts, folder: Path) -> str:
    """Puts the images that the charts name on the node, and a second one to roll out to. Returns what tells this build."""
    for name, tag in (("granary", f"granary:{version()}"), ("granary-store", f"granary-store:{version()}"),
                      ("granary", "granary:next")):
        images.load(facts.containerd, image(name, folder, tag))
    return hashlib.sha256((folder / f"granary-{version()}.tar").read_bytes()).hexdigest()[:16]


def version() -> str:
    """The version of the charts' app."""
    chart = (CHECKOUT / "charts" / "granary" / "Chart.yaml").read_text()
    return next(line.split(":", 1)[1].strip().strip('"') for line in chart.splitlines() if line.startswith("appVersion:"))


def helm(*arguments: object, ok: bool = True) -> str:
    """Runs helm in the operator's namespace; what it printed."""
    return run("helm", "--namespace", SYSTEM, *arguments, ok=ok)


def install(*values: str) -> None:
    """Installs or upgrades both charts, and waits until the operator is ready. Values: `replicas=2`."""
    settings = [option for value in values for option in ("--set", value)]
    charts = CHECKOUT / "charts"
    helm("upgrade", "--install", "granary-crds", charts / "granary-crds", "--create-namespace", "--wait")
    helm("upgrade", "--install", "granary", charts / "granary", "--reset-values", "--wait", "--timeout", "120s", *settings)


def run(*command: object, ok: bool = True, seconds: float = 300, **environment: str) -> str:
    """Runs a command; all that it printed. Insists that it succeeds, or with `ok=False` takes either."""
    done = subprocess.run([str(part) for part in command], cwd=CHECKOUT, env={**os.environ, **environment}, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
    assert done.returncode == 0 or not ok, f"{command} ended with {done.returncode}\n{done.stdout}"
    return done.stdout


# Objects


def package_registry(name: str = "main", **spec: object) -> dict:
    """A PackageRegistry as somebody writes it."""
    return {"apiVersion": API, "kind": "PackageRegistry", "metadata": {"name": name}, "spec": spec}


def channel(name: str, registry: str = "main", format: str = "pypi", **spec: object) -> dict:
    """A Channel as somebody writes it."""
    return {"apiVersion": API, "kind": "Channel", "metadata": {"name": name},
            "spec": {"registryRef": {"name": registry}, "format": format, **spec}}


def secret(name: str, **data: str) -> dict:
    """A Secret, whose values are looked for at the end of the test; `_` in keys stands for `-`."""
    for key, value in data.items():
        if key != "access_key_id":
            SECRETS.add(unquote(urlsplit(value).password or value))
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {key.replace("_", "-"): value for key, value in data.items()}}


PUBLISHERS = [{"subjects": ["group:publishers"], "role": "Maintainer"}]


@dataclass
class Registry:
    """A registry that serves in a namespace of its own."""

    facts: Facts
    kube: Kube
    name: str = "main"
    spec: dict = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host that the Ingress serves."""
        return f"{self.kube.namespace}.{self.facts.ingress.domain}"

    @property
    def url(self) -> str:
        """Where clients reach the registry."""
        return f"https://{self.host}"

    def objects(self, **spec: object) -> list[dict]:
        """The registry with the Secrets that it names: Postgres and MinIO of the node, and an Ingress with TLS."""
        facts, mine = self.facts, self.kube.namespace
        postgres = facts.postgres
        url = (f"postgresql://{postgres.user}:{quote(postgres.password, safe='')}@{postgres.host}:{postgres.port}"
               f"/postgres")
        pair = {"tls.crt": Path(facts.ingress.certificate).read_text(), "tls.key": Path(facts.ingress.key).read_text()}
        self.spec = {
            "host": self.host, "replicas": 1, "tls": {"secretName": "packages-tls"},
            "database": {"secretRef": {"name": "postgres"}, "schema": mine.replace("-", "_")[-40:]},
            "objectStore": {"endpoint": facts.store.endpoint, "region": facts.store.region,
                            "bucketPrefix": f"t{mine[-6:]}-", "secretRef": {"name": "minio"}},
            "admins": {"initial": {"name": "admin", "passwordSecretRef": {"name": "admin"}}},
            **spec,
        }
        return [
            secret("postgres", url=url),
            secret("minio", access_key_id=facts.store.access_key, secret_access_key=facts.store.secret_key),
            secret("admin", password="correct horse battery staple"),
            {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
             "metadata": {"name": "packages-tls"}, "stringData": pair},
            package_registry(self.name, **self.spec),
        ]

    def start(self, **spec: object) -> "Registry":
        """Applies the registry and waits until it is ready."""
        self.kube.apply(*self.objects(**spec))
        self.wait()
        return self

    def change(self, **spec: object) -> None:
        """Applies the registry with other settings."""
        self.spec.update(spec)
        self.kube.apply(package_registry(self.name, **self.spec))

    def wait(self, seconds: float = 120) -> dict:
        """Waits until the registry is ready."""
        return self.kube.wait(f"pkgreg/{self.name}", seconds=seconds)

    def add_channel(self, name: str, seconds: float = 60, **spec: object) -> dict:
        """Applies a channel, which the group `publishers` may publish to, and waits until it is ready."""
        self.kube.apply(channel(name, self.name, **{"permissions": PUBLISHERS, **spec}))
        return self.kube.wait(f"pkgch/{name}", seconds=seconds)

    def granary(self, *command: str) -> str:
        """Runs a command of the server in one of its pods."""
        return self.kube.exec(f"deployment/{self.name}", "/usr/bin/granary", *command)

    def publisher(self, name: str = "ci") -> tuple[str, str]:
        """An account of the group `publishers`: name and token."""
        self.granary("user", "create", name, "--group", "publishers")
        return name, SECRETS.add(self.granary("token", "create", "--user", name).strip().splitlines()[-1])

    def index(self, channel: str, who: tuple[str, str] | None = None) -> str:
        """The URL of a channel's simple index."""
        url = f"{self.url}/pypi/{channel}/+simple/"
        if who is None:
            return url
        parts = urlsplit(url)
        user, password = (quote(part, safe="") for part in who)
        return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()

    def upload(self, channel: str, who: tuple[str, str], *files: Path, ok: bool = True) -> str:
        """Uploads with twine."""
        return run(venv_program("twine"), "upload", "--non-interactive", "--disable-progress-bar", "--repository-url",
                   f"{self.url}/pypi/{channel}/", "-u", who[0], "-p", who[1], *files, ok=ok,
                   REQUESTS_CA_BUNDLE=self.facts.ingress.ca)

    def download(self, channel: str, folder: Path, *names: str, who: tuple[str, str] | None = None, ok: bool = True) -> str:
        """Downloads with pip."""
        return run(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-deps",
                   "--no-cache-dir", "--cert", self.facts.ingress.ca, "--index-url", self.index(channel, who),
                   "--dest", folder, *names, ok=ok)


def write(folder: Path, dist: Dist) -> Path:
    """A distribution as a file."""
    path = folder / dist.filename
    path.write_bytes(dist.content)
    return path


def conditions(object: dict) -> dict[str, str]:
    """The conditions of an object: what each says."""
    return {found["type"]: found["status"] for found in object.get("status", {}).get("conditions", [])}


def compact(object: dict) -> str:
    """An object on one line, for messages."""
    return json.dumps(object, separators=(",", ":"))
