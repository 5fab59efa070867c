"""`granary serve` with a config file, as in production, over any S3 endpoint."""

import json
import subprocess
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import requests

from .accounts import create_user, granary
from .postgres import Postgres
from .processes import free_port
from .server import Dev, Server


@dataclass
class ObjectStore:
    """An S3 endpoint and the key to it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


def store_of(dev: Dev) -> ObjectStore:
    """The S3 server that runs in the process of a `granary dev`, as the config file says that it leaves beside its data."""
    endpoint = json.loads((dev.data / "config.yaml").read_text())["objectStore"]["endpoint"]
    access_key, secret_key = ((dev.data / "secrets" / name).read_text().strip() for name in ("object-store-key-id", "object-store-key"))
    return ObjectStore(endpoint.rstrip("/"), access_key, secret_key)


class Registry(Server):
    """A process of `granary serve`. Those of the same schema, store and channels are one registry."""

    def __init__(self, folder: Path, postgres: Postgres, schema: str, store: ObjectStore, *, channels: Path | None = None, spec: dict | None = None):
        super().__init__(folder, postgres, schema)
        if channels is not None:
            self.channels = channels
        self.secrets.add(store.secret_key)
        self.spec = {
            "listen": [f"127.0.0.1:{free_port()}"],
            "managementListen": self.management,
            "database": {"url": postgres.url, "directUrl": postgres.url, "schema": schema},
            "objectStore": {"endpoint": store.endpoint, "region": store.region, "bucketPrefix": schema.replace("_", "-") + "-",
                            "accessKeyId": store.access_key, "secretAccessKey": store.secret_key},
            "cache": {"dir": str(folder / "cache")},
            **(spec or {}),
        }
        self.write_config()

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def write_config(self) -> None:
        """Writes the config file anew, after a change of `spec`."""
        self.config.write_text(json.dumps({"apiVersion": "granary.dev/v1alpha1", "kind": "PackageRegistry", "metadata": {"name": "test"}, "spec": self.spec}))
        self.config.chmod(0o600)

    def arguments(self) -> list[str]:
        return ["serve", "--config", str(self.config), "--channels", str(self.channels)]

    def is_ready(self) -> bool:
        self.url = f"http://{self.spec['listen'][0]}"
        try:
            return self.managed("readyz").status_code == 200
        except requests.ConnectionError:
            return False

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another subcommand with the same config: `migrate`, `doctor`."""
        return granary(self.config, *arguments)

    def migrate(self) -> "Registry":
        """Makes or changes the tables."""
        done = self.command("migrate")
        assert done.returncode == 0, done.stdout + done.stderr
        return self

    @cached_property
    def admin_token(self) -> str:
        name = f"admin-{uuid.uuid4().hex[:6]}"
        create_user(self.config, name, "--admin")
        return self.token(name)[1]
