"""A cluster as tests see it: kubectl with JSON in and out, and waiting for conditions."""

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable

# Of test namespaces: how leftovers are found.
LABEL = "granary.dev/test"
LIST = {"apiVersion": "v1", "kind": "List"}


class KubeError(Exception):
    """kubectl failed; the text is what it said."""


def condition(object: dict | None, name: str) -> dict:
    """A condition of an object's status; empty when it is not there."""
    conditions = (object or {}).get("status", {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == name), {})


def is_current(object: dict, found: dict) -> bool:
    """Whether what a status says is about the object's present spec."""
    observed = found.get("observedGeneration", object.get("status", {}).get("observedGeneration"))
    return observed is None or observed >= object["metadata"].get("generation", 0)


class Kube:
    """kubectl in one namespace. Names are `kind/name`, as kubectl takes them."""

    def __init__(self, namespace: str = "default", kubectl: str = "kubectl"):
        self.namespace, self.kubectl = namespace, kubectl

    def within(self, namespace: str) -> "Kube":
        """The same cluster, another namespace."""
        return Kube(namespace, self.kubectl)

    def command(self, *arguments: str) -> list[str]:
        """The command line, for those who start it themselves."""
        return [self.kubectl, f"--namespace={self.namespace}", *arguments]

    def run(self, *arguments: str, input: str | None = None, seconds: float = 60) -> str:
        """Runs kubectl; what it printed."""
        stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        try:
            done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=seconds,
                                  **stdin)
        except subprocess.TimeoutExpired as expired:
            raise KubeError(f"kubectl {' '.join(arguments)}: not done after {seconds} s") from expired
        if done.returncode != 0:
            raise KubeError(done.stderr.strip())
        return done.stdout

    # Objects

    def apply(self, *objects: dict | str, server_side: bool = True, dry_run: bool = False,
              manager: str = "tests", force: bool = False) -> list[dict]:
        """Applies objects, or text in YAML; what the server made of them."""
        texts = [object for object in objects if isinstance(object, str)]
        if dicts := [object for object in objects if not isinstance(object, str)]:
            texts.append(json.dumps({**LIST, "items": dicts}))
        options = ["--dry-run=server"] if dry_run else []
        if server_side:
            options += ["--server-side", f"--field-manager={manager}",
                        f"--force-conflicts={json.dumps(force)}"]
        return parse(self.run("apply", "--filename=-", "--output=json", *options,
                              input="\n---\n".join(texts)))

    def refusal(self, object: dict | str) -> str:
        """Why the server refuses an object; fails when it does not."""
        try:
            self.apply(object, dry_run=True)
        except KubeError as error:
            return str(error)
        raise AssertionError(f"the server accepts {object}")

    def get(self, name: str) -> dict:
        """An object."""
        return json.loads(self.run("get", name, "--output=json"))

    def find(self, name: str) -> dict | None:
        """An object, when it is there."""
        found = self.run("get", name, "--output=json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    def all(self, kind: str, selector: str = "", everywhere: bool = False) -> list[dict]:
        """Objects of a kind."""
        options = [f"--selector={selector}"] if selector else []
        return json.loads(self.run("get", kind, "--output=json", *options,
                                   *(["--all-namespaces"] if everywhere else [])))["items"]

    def delete(self, *names: str, wait: bool = True, seconds: float = 60, grace: int | None = None) -> None:
        """Deletes objects, and waits until they are gone with their finalizers."""
        options = [] if grace is None else [f"--grace-period={grace}", *(["--force"] if grace == 0 else [])]
        self.run("delete", *names, f"--wait={json.dumps(wait)}", "--ignore-not-found", *options,
                 seconds=seconds)

    def patch(self, name: str, change: dict | list, subresource: str = "") -> dict:
        """Merges a change into an object, or with a list applies a JSON patch; the object."""
        options = [f"--type={'json' if isinstance(change, list) else 'merge'}",
                   f"--patch={json.dumps(change)}"]
        return json.loads(self.run("patch", name, *options, "--output=json",
                                   *([f"--subresource={subresource}"] if subresource else [])))

    # Waiting

    def until(self, name: str, holds: Callable[[dict | None], object], seconds: float = 60,
              what: str = "") -> dict | None:
        """Asks for an object until something holds of it (`None` while it is not there); the object."""
        deadline = time.monotonic() + seconds
        while True:
            object = self.find(name)
            if holds(object):
                return object
            if time.monotonic() > deadline:
                status = json.dumps((object or {}).get("status"), indent=2)
                vain = f"waited {seconds} s in vain for {name} {what}"
                raise TimeoutError(f"{vain}\nstatus: {status}\n{self.story()}")
            time.sleep(0.1)

    def wait(self, name: str, type: str = "Ready", status: str = "True", reason: str = "",
             seconds: float = 60) -> dict:
        """Waits for a condition about the object's present spec; the object."""

        def holds(object: dict | None) -> bool:
            found = condition(object, type)
            as_asked = found.get("status") == status and reason in ("", found.get("reason"))
            return as_asked and is_current(object, found)

        return self.until(name, holds, seconds, f"to be {type}={status} {reason}".strip())

    def wait_gone(self, name: str, seconds: float = 60) -> None:
        """Waits until an object is not there."""
        self.until(name, lambda object: object is None, seconds, "to be gone")

    def rollout(self, name: str, seconds: float = 120) -> None:
        """Waits until all pods of a Deployment, StatefulSet or DaemonSet are new and ready."""
        try:
            self.run("rollout", "status", name, f"--timeout={seconds:.0f}s", seconds=seconds + 10)
        except KubeError as error:
            raise TimeoutError(f"{error}\n{self.story()}") from error

    # Pods

    def pods(self, selector: str = "") -> list[str]:
        """Names of pods that are not about to end."""
        found = [pod["metadata"] for pod in self.all("pods", selector)]
        return [metadata["name"] for metadata in found if "deletionTimestamp" not in metadata]

    def logs(self, name: str, *options: str) -> str:
        """What a pod logged (`pod/name`, `deployment/name`)."""
        return self.run("logs", name, "--all-containers", *options)

    def exec(self, name: str, *command: str, input: str | None = None, seconds: float = 60) -> str:
        """Runs a command in a pod; what it printed."""
        return self.run("exec", name, *(["--stdin"] if input is not None else []), "--", *command,
                        input=input, seconds=seconds)

    def events(self, about: str = "") -> list[dict]:
        """Events of the namespace, oldest first; `about` is the name of an object."""
        selector = [f"--field-selector=involvedObject.name={about}"] if about else []
        events = json.loads(self.run("get", "events", "--output=json", *selector))["items"]
        return sorted(events, key=lambda event: event["metadata"]["creationTimestamp"])

    def story(self, last: int = 40) -> str:
        """What happened in the namespace, for who has to find out why: pods, events, the ends of logs."""
        parts = [attempt(lambda: self.run("get", "pods,jobs,ingresses,pvc", "--output=wide"))]
        parts.append(attempt(lambda: "\n".join(map(told, self.events()[-last:]))))
        for pod in attempt(lambda: self.run("get", "pods", "--output=name")).split():
            for options in ((), ("--previous",)):
                log = attempt(lambda: self.logs(pod, f"--tail={last}", *options))
                if log and "previous terminated container" not in log:
                    parts.append(f"log of {pod} {' '.join(options)}\n{log}")
        return "\n\n".join(part for part in parts if part)

    # Namespaces

    def make_namespace(self, hint: str, labels: dict[str, str] | None = None) -> "Kube":
        """A new namespace with a name that nobody else has."""
        name = f"{re.sub('[^a-z0-9]+', '-', hint.lower()).strip('-')[:40].rstrip('-')}-{secrets.token_hex(3)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": {LABEL: "true", **(labels or {})}}})
        made = self.within(name)
        # Until the controllers have made it, no pod can be created.
        made.until("serviceaccount/default", bool, 30)
        return made


def told(event: dict) -> str:
    """An event as a line."""
    about = event["involvedObject"]
    return f"{event.get('reason')} {about['kind']}/{about['name']}: {event.get('message')}"


def attempt(ask: Callable[[], str]) -> str:
    """An answer, or the reason why there is none."""
    try:
        return ask()
    except KubeError as error:
        return str(error)


def parse(printed: str) -> list[dict]:
    """The objects that kubectl printed: one, a list, or several after each other."""
    decoder, objects, rest = json.JSONDecoder(), [], printed.strip()
    while rest:
        found, end = decoder.raw_decode(rest)
        objects += found["items"] if found["kind"] == "List" else [found]
        rest = rest[end:].lstrip()
    return objects
