"""`granary store`: a Postgres and an S3 server that keep what they have acknowledged, and open to their secrets alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.dists import wheel
from tests.harness.places import BINARY
from tests.harness.processes import unprivileged, wait_until
from tests.harness.registry import Registry
from tests.harness.secrets import SECRETS
from tests.harness.store import Store


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may enter: as root, Postgres runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="granary-store-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A store that is ready; at the end its log is read for secrets."""
    store = Store(folder / "data")
    try:
        yield store.start()
        SECRETS.check("the log", store.log())
    finally:
        store.kill()


def registry(store: Store, folder: Path) -> Registry:
    return Registry(folder, store, "granary", store.keys)


def test_a_registry_keeps_its_packages_over_a_crash_and_a_rotation(store: Store, folder: Path):
    first = wheel("kept", "1.0")
    with_first_secrets = registry(store, folder / "registry")
    with_first_secrets.write_channel("dev", {"format": "pypi", "visibility": "public"})
    with_first_secrets.migrate().start()
    try:
        with_first_secrets.wait_for_channel("dev")
        with_first_secrets.publish(first)
        old_password, old_keys = store.password, store.keys
        store.kill()
    finally:
        with_first_secrets.kill()

    store.rotate()
    store.start()
    assert "authentication failed" in store.psql("SELECT 1", old_password).stderr
    assert store.s3("GET", "", keys=old_keys).status_code == 403
    assert store.sql("SELECT count(*) > 0 FROM granary.blob") == "t"

    with_new_secrets = registry(store, folder / "registry")
    with_new_secrets.start()
    try:
        with_new_secrets.wait_for_channel("dev")
        assert with_new_secrets.download("kept", first.filename) == first.content
        with_new_secrets.publish(wheel("kept", "1.1"))
        assert len(with_new_secrets.files("kept")) == 2
        assert with_new_secrets.command("doctor").returncode == 0
        assert with_new_secrets.stop() == 0
    finally:
        with_new_secrets.kill()


def test_nobody_gets_in_without_the_secrets(store: Store):
    assert store.sql("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user") == "granary|t"
    assert store.sql("SELECT split_part(rolpassword, '$', 1) FROM pg_authid WHERE rolname = 'granary'") == "SCRAM-SHA-256"
    for wrong in ("wrong", store.password + "x"):
        assert "authentication failed" in store.psql("SELECT 1", wrong).stderr
    assert store.s3("PUT", "a-bucket").status_code == 200
    assert store.s3("PUT", "a-bucket/an-object", b"content").status_code == 200
    assert store.s3("GET", "a-bucket/an-object").content == b"content"
    stranger = type(store.keys)(store.keys.endpoint, store.keys.access_key, "wrong")
    assert store.s3("GET", "a-bucket/an-object", keys=stranger).status_code == 403
    # A role's password that stands in a statement that fails is not logged.
    assert store.psql("ALTER ROLE nobody_of_that_name PASSWORD 'planted-in-a-statement'").returncode != 0
    wait_until(lambda: "nobody_of_that_name" in store.log(), 10, "the error in the log")
    assert "planted-in-a-statement" not in store.log()


def test_it_tells_how_it_is_and_stops_cleanly(store: Store):
    assert store.managed("livez").status_code == 200
    metrics = store.managed("metrics").text
    sizes = {name: int(value) for name, value in re.findall(r"^(granary_store_volume_\w+) (\d+)$", metrics, re.MULTILINE)}
    assert 0 < sizes["granary_store_volume_free_bytes"] <= sizes["granary_store_volume_size_bytes"]

    assert store.psql("SELECT 1", "wrong").returncode != 0
    assert store.stop() == 0
    wait_until(lambda: "database system is shut down" in store.log(), 5, "Postgres's last word")
    events = [json.loads(line) for line in store.lines]
    refused = next(event for event in events if "authentication failed" in event["message"])
    assert refused["target"] == "postgres" and refused["level"] == "WARN"
    assert not (store.data / "postgres/data/postmaster.pid").exists()


def test_the_end_of_postgres_is_the_end_of_the_store(store: Store):
    os.kill(store.postmaster(), signal.SIGKILL)
    assert store.process.wait(30) == 1
    wait_until(lambda: "Postgres has ended by itself" in store.log(), 5, "the reason")
    store.start()
    assert store.sql("SELECT 1") == "1"


def test_a_volume_that_belongs_to_a_group(folder: Path):
    """As Kubernetes prepares one: owned by another user, given to the pod's group, and all files in it too, at each start."""
    user = unprivileged()
    program = folder / "granary"
    shutil.copy(BINARY, program)
    data = folder / "data"
    data.mkdir()
    if user:
        os.chown(data, 0, user["group"])
    data.chmod(0o2775)
    store = Store(data, command=[str(program)], user=user)
    try:
        for start in (1, 2):
            store.start()
            store.sql("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
            assert store.sql("SELECT count(*) FROM kept") == str(start)
            assert store.stop() == 0
            for path in [data, *data.rglob("*")]:
                path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))
    finally:
        store.kill()


@pytest.mark.parametrize(("changed", "said"), [
    ({"GRANARY_STORE_POSTGRES_PASSWORD": ""}, "set GRANARY_STORE_POSTGRES_PASSWORD, or GRANARY_STORE_POSTGRES_PASSWORD_FILE"),
    ({"GRANARY_STORE_ACCESS_KEY_ID_FILE": "/nowhere"}, "GRANARY_STORE_ACCESS_KEY_ID_FILE, not both"),
    ({"GRANARY_STORE_SECRET_ACCESS_KEY": "", "GRANARY_STORE_SECRET_ACCESS_KEY_FILE": "/nowhere/key"}, "No such file"),
])
def test_a_missing_secret_is_said(folder: Path, changed: dict[str, str], said: str):
    store = Store(folder / "data")
    done = subprocess.run([BINARY, "store", "--data-dir", str(store.data)], capture_output=True, text=True, timeout=30,
                          env={**os.environ, **store.environment, **changed})
    assert done.returncode == 1 and said in done.stderr
    assert not store.data.exists()


def test_a_folder_serves_one_store_at_a_time(store: Store):
    other = Store(store.data)
    assert other.launch().wait(30) == 1
    wait_until(lambda: "in use by another process" in other.log(), 5, "the reason")
    assert store.sql("SELECT 1") == "1"
