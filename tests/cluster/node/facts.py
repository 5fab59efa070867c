"""What tests are told of a node: one JSON file, which the environment variable GRANARY_CLUSTER names.

For a cluster of one's own (KUBECONFIG) the same file can be written by hand, as far as its tests need it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "GRANARY_CLUSTER"
DOMAIN = "granary.test"
ADDRESS = "10.200.0.1"
# Name whom clients trust outside, where they cannot come; some clients then forget what they are told.
AUTHORITIES = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR",
               "SSL_CERT_FILE")


@dataclass(frozen=True)
class Ingress:
    """Where Ingresses are served. Names below the domain resolve to the address, in pods and for clients."""

    domain: str
    address: str
    class_name: str
    # PEM files: an authority of this cluster, and its certificate for the domain and each name below it.
    ca: str
    ca_key: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Database:
    """A Postgres server and its superuser."""

    host: str
    port: int
    # Of PgBouncer in transaction mode, in front of the same server.
    pooled_port: int
    user: str
    password: str


@dataclass(frozen=True)
class Store:
    """An S3 server and its root credentials."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Facts:
    """A running node. Paths are absolute."""

    state: str
    address: str
    kubeconfig: str
    # Folders of kubectl and helm, for the PATH.
    programs: list[str]
    containerd: str
    # One JSON object a line for every API request but those of Kubernetes' own parts.
    audit_log: str
    storage_class: str
    ingress: Ingress
    postgres: Database
    store: Store

    @classmethod
    def load(cls, path: str | Path) -> "Facts":
        """Reads the file."""
        read = json.loads(Path(path).read_text())
        parts = {"ingress": Ingress(**read.pop("ingress")), "postgres": Database(**read.pop("postgres")),
                 "store": Store(**read.pop("store"))}
        return cls(**read, **parts)

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2))
        part.rename(path)

    def environment(self) -> dict[str, str]:
        """Of a program that works with the node."""
        path = os.pathsep.join([*self.programs, os.environ.get("PATH", os.defpath)])
        inherited = {name: value for name, value in os.environ.items() if name not in AUTHORITIES}
        return {**inherited, VARIABLE: f"{self.state}/facts.json", "KUBECONFIG": self.kubeconfig,
                "PATH": path}
