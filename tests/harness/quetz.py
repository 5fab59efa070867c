"""A Quetz, the oracle of the API of conda channels."""

import subprocess
from pathlib import Path

import requests

from .importing import peer
from .processes import dies_with_parent, free_port, wait_until

CONFIG = """
[github]
client_id = "none"
client_secret = "none"
[sqlalchemy]
database_url = "sqlite:///{database}"
[session]
secret = "b72376b88e6f249cb0921052ea8a092381ca17fd8bb0caf4d847e337b3d34cf8"
https_only = false
[logging]
level = "{level}"
file = ""
"""


def config(database: Path, *, level: str = "INFO", more: str = "") -> str:
    """A configuration over this SQLite file, with further sections behind."""
    return CONFIG.format(database=database, level=level) + more


class Quetz:
    """A deployment of Quetz with its test users: alice owns the server, bob maintains it, carol is a member, dave is nothing."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(config(folder / "quetz.sqlite", more='[users]\nadmins = ["dummy:alice"]\n'))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [peer("quetz") / "quetz", "run", "deployment", "--copy-conf", "config.toml", "--dev", "--host", "127.0.0.1",
                 "--port", self.url.rsplit(":", 1)[1]],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_parent)
        wait_until(self._answers, 120, "quetz", interval=0.2)
        self.keys: dict[str, str] = {}
        for user in ("alice", "bob", "carol", "dave"):
            session = requests.Session()
            session.get(f"{self.url}/api/dummylogin/{user}", timeout=60, allow_redirects=False)
            made = session.post(f"{self.url}/api/api-keys", json={"description": "of the tests", "roles": []}, timeout=60)
            assert made.status_code == 201, made.text
            self.keys[user] = made.json()["key"]

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
