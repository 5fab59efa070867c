"""Packages that a channel keeps for a while only."""

import pytest

from tests.harness.conda_packages import Package
from tests.harness.processes import wait_until
from tests.harness.server import Dev

RETENTION = {"keepNewest": 2, "olderThanDays": 10, "packages": ["nightly-*"]}


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {"nightlies": {"format": "conda", "visibility": "public", "conda": {"retention": RETENTION}},
            "kept": {"format": "conda", "visibility": "public"}}


def names(server: Dev, channel: str, subdir: str = "noarch") -> set[str]:
    return set(server.get(f"/conda/get/{channel}/{subdir}/repodata.json").json()["packages.conda"])


def test_the_newest_builds_and_the_young_ones_stay(server: Dev):
    builds = [Package("nightly-tool", version) for version in ("1.9", "1.10", "1.11.dev1", "1.11")]
    others = [Package("nightly-tool", "1.0", subdir="linux-64"), *(Package("stable-tool", version) for version in ("1", "2", "3"))]
    for channel in ("nightlies", "kept"):
        for package in (*builds, *others):
            path = f"/conda/api/channels/{channel}/upload/{package.filename}"
            assert server.request("POST", path, server.admin, data=package.content()).status_code == 201
    schema = server.schema
    server.postgres.sql(f'update "{schema}".conda_package set uploaded_at = now() - interval \'11 days\' where version <> \'1.10\'')
    before = {(channel, subdir): names(server, channel, subdir) for channel in ("nightlies", "kept") for subdir in ("noarch", "linux-64")}
    server.postgres.sql(f"update \"{schema}\".job set run_at = now() where kind = 'conda retention'")
    gone = builds[0].filename
    wait_until(lambda: gone not in names(server, "nightlies"), 30, "the retention")
    # 1.11 and 1.11.dev1 are the newest two, 1.10 is young, 1.9 is neither; the other names are not meant.
    assert names(server, "nightlies") == before["nightlies", "noarch"] - {gone}
    assert names(server, "nightlies", "linux-64") == before["nightlies", "linux-64"]
    assert server.get(f"/conda/get/nightlies/noarch/{gone}").status_code == 404
    for subdir in ("noarch", "linux-64"):
        assert names(server, "kept", subdir) == before["kept", subdir]
    [[actor, action]] = server.postgres.sql(f"select actor, action from \"{schema}\".audit where action = 'delete file'")
    assert (actor, action) == ("retention", "delete file")
