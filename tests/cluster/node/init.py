"""The first process of a node's namespaces: makes them a machine, starts everything, and collects what ends.

    python -m tests.cluster.node.init STATE PROGRAMS

`node` starts it in new namespaces for mounts, network, processes and shared memory. PROGRAMS is a JSON file.
"""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness.postgres import program
from tests.harness.processes import wait_until

from . import components, control_groups, images
from .facts import ADDRESS
from .node import FACTS, OWN_PLACES, record_first_process
from .parts import API, DATABASE, NODE, PAUSE, VOLUMES, Keys, Parts, objects, token
from .services import Services

SUBFOLDERS = ("config", "containerd", "kubelet", "keys", "logs/pods", "minio", "postgres", "services",
              "volumes")


def run(*command: str | Path, **options) -> None:
    """Runs a command; fails with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}")


def mounts(state: Path) -> None:
    """What the node sees in other places than the machine it runs on."""
    run("mount", "-t", "proc", "proc", "/proc")
    resolver = Path("/etc/resolv.conf").resolve()
    for place in OWN_PLACES:
        run("mount", "-t", "tmpfs", "tmpfs", place)
    content = f"nameserver {ADDRESS}\n"
    if resolver.exists():
        (state / "config" / "resolv.conf").write_text(content)
        run("mount", "--bind", state / "config" / "resolv.conf", resolver)
    else:  # it is a link into /run
        resolver.parent.mkdir(parents=True)
        resolver.write_text(content)
    # What a container mounts may be seen by others. Outside nothing is: this namespace is a copy.
    run("mount", "--make-rshared", "/")


def network() -> None:
    """An interface with the node's address, and a route that leads nowhere."""
    for command in ("link set lo up", "link add node0 type bridge", f"address add {ADDRESS}/24 dev node0",
                    "link set node0 up",
                    "route replace default dev node0"):
        run("ip", *command.split())
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        path = Path("/proc/sys") / setting
        if path.exists():
            path.write_text("1")


class Api:
    """The API server, as the administrator."""

    def __init__(self, authority: Path):
        self.trust = ssl.create_default_context(cafile=str(authority))

    def get(self, path: str) -> bytes:
        """An answer's body. Fails with `URLError`."""
        request = urllib.request.Request(API + path, headers={"Authorization": f"Bearer {token('admin')}"})
        with urllib.request.urlopen(request, timeout=10, context=self.trust) as response:
            return response.read()

    def ready(self) -> bool:
        """Whether it serves and has made its own roles."""
        try:
            return self.get("/readyz") == b"ok"
        except OSError:
            return False

    def node_ready(self) -> bool:
        """Whether pods can be placed on the node."""
        try:
            node = json.loads(self.get(f"/api/v1/nodes/{NODE}"))
        except urllib.error.HTTPError:
            return False
        conditions = node["status"].get("conditions", [])
        return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)

    def account_ready(self) -> bool:
        """Whether pods can be created in the default namespace."""
        try:
            return bool(self.get("/api/v1/namespaces/default/serviceaccounts/default"))
        except urllib.error.HTTPError:
            return False


def control_plane(parts: Parts, services: Services) -> None:
    """Everything of Kubernetes, until pods can be created."""
    services.add(parts.etcd())
    services.wait_ready("etcd")
    services.add(parts.apiserver())
    services.add(parts.containerd())
    api = Api(parts.keys.ca.certificate)

    def ready() -> bool:
        if not services.alive("kube-apiserver"):
            raise RuntimeError(f"kube-apiserver ended:\n{services.log('kube-apiserver')}")
        return api.ready()

    wait_until(ready, 120, f"the API server: {services.logs}", 0.1)
    for service in (parts.manager(), parts.scheduler(), parts.kubelet(), parts.proxy(), parts.dns()):
        services.add(service)
    kubectl = (parts.programs["kubectl"], f"--kubeconfig={parts.kubeconfig('admin')}")
    run(*kubectl, "apply", "--server-side", f"--filename={parts.programs[components.GATEWAY_CRDS]}")
    run(*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    services.add(parts.ingress())
    run(*kubectl, "apply", "--server-side",
        f"--filename={parts.write('objects.json', objects(parts.state / 'volumes'))}")
    wait_until(lambda: Path(parts.socket).exists(), 60, "containerd", 0.1)
    probe = parts.programs["probe"]
    for name, arguments in ((PAUSE, []), ("localhost/probe:1", ["serve", ":8080"])):
        archive = parts.state / "config" / "image.tar"
        images.archive(archive, name, probe, arguments)
        images.load(parts.socket, archive)
    for name in ("coredns", "traefik"):
        services.wait_ready(name)
    wait_until(lambda: api.node_ready() and api.account_ready(), 120, f"the node: {services.logs}", 0.1)


def database(parts: Parts, services: Services) -> None:
    """Postgres and the pooler in front of it."""
    folder = parts.state / "postgres"
    password = folder / "password"
    password.write_text(DATABASE.password)
    if parts.user:
        for path in (folder, password):
            os.chown(path, parts.user["user"], parts.user["group"])
    run(program("initdb"), "-D", folder / "data", "-U", DATABASE.user, "--auth=scram-sha-256",
        f"--pwfile={password}", "--no-sync",
        "--encoding=UTF8", "--locale=C.UTF-8", cwd=folder, **parts.user)
    services.add(parts.postgres())
    services.wait_ready("postgres")
    services.add(parts.pooler())
    services.wait_ready("pgbouncer")


def object_store(parts: Parts, services: Services) -> None:
    """The S3 server."""
    services.add(parts.store())
    services.wait_ready("minio")


def main(state: Path, programs: dict[str, Path]) -> None:
    """Starts the node and then waits for ever."""
    record_first_process(state)
    for name in SUBFOLDERS:
        (state / name).mkdir(parents=True)
    for number in range(VOLUMES):
        (state / "volumes" / str(number)).mkdir()
    mounts(state)
    network()
    parts = Parts(state, programs, Keys.make(state / "keys"), control_groups.name(state))
    services = Services(state)
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(start, parts, services) for start in (control_plane, database, object_store)]
        for started in starts:
            started.result()
    parts.facts().save(state / FACTS)
    while True:
        # What ends here was orphaned by its parent; the kernel keeps it until somebody asks.
        pid, status = os.wait()
        print(f"process {pid} ended with status {status}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), {name: Path(path) for name,
                             path in json.loads(Path(sys.argv[2]).read_text()).items()})
