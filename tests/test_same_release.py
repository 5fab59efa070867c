"""What makes two files or versions the same, and who may touch whose: however names are spelled."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.accounts import granary
from tests.harness.dists import core_metadata, sdist, wheel
from tests.harness.processes import peak_resident, reset_peak, resident
from tests.harness.server import PUBLIC, Dev
from tests.harness.wire import BOUNDARY, MULTIPART

MIB = 1 << 20


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    narrow = {"subjects": ["user:bob"], "role": "Maintainer", "packages": ["a-1"]}
    partial = {"subjects": ["anonymous"], "role": "Reader", "packages": ["*"], "except": ["secret-*"]}
    return {"dev": PUBLIC, "volatile": {**PUBLIC, "pypi": {"allowOverwrite": True}, "permissions": [narrow]},
            "partial": {"format": "pypi", "permissions": [partial]}}


def test_versions_that_are_equal_are_one_release(server: Dev):
    first, second = wheel("acme-ver", "1.0"), wheel("acme-ver", "1.0.0", tag="py2-none-any")
    server.publish(first, second)
    assert server.yank("acme-ver", "1").status_code == 204
    assert all(file["yanked"] for file in server.files("acme-ver").values())
    assert len(server.files("acme-ver")) == 2
    assert server.delete_release("acme-ver", "1.0.0.0").status_code == 204
    assert server.index("acme-ver") is None


def test_another_spelling_of_a_file_is_the_same_file(server: Dev):
    server.publish(wheel("acme-case", "1.0"))
    for filename in ("Acme_Case-1.0-py3-none-any.whl", "acme_case-1.0.0-py3-none-any.whl", "acme.case-1.0-py3-none-any.whl"):
        other = replace(wheel("acme-case", "1.0", payload=b"other"), filename=filename)
        assert server.upload(other).status_code in (400, 409), filename
    assert set(server.files("acme-case")) == {"acme_case-1.0-py3-none-any.whl"}


def test_a_file_name_that_two_projects_could_have_stays_with_the_first(server: Dev):
    server.user("bob")
    bob = server.token("bob")
    held = replace(sdist("a", "1.post1"), filename="a-1-1.tar.gz")
    answer = server.upload(held, channel="volatile")
    if answer.status_code == 400:
        pytest.fail(answer.text)
    rival = replace(sdist("a-1", "1"), filename="a-1-1.tar.gz")
    assert server.upload(rival, channel="volatile", auth=bob).status_code == 409
    assert set(server.files("a", channel="volatile")) == {"a-1-1.tar.gz"}


@pytest.mark.parametrize("fields", [{"comment": "a\0b"}, {"attestations": '[{"a": "\\u0000"}]'}])
def test_nul_in_the_form_is_a_mistake_of_the_client(server: Dev, fields: dict[str, str]):
    assert server.upload(wheel("acme-nul"), **fields).status_code == 400


def test_nul_in_the_metadata_is_a_mistake_of_the_client(server: Dev):
    dist = wheel("acme-nul", metadata=core_metadata("acme-nul", "1.0") + b"a \0 b\n")
    assert server.upload(dist).status_code == 400


def test_a_head_of_a_part_without_end_costs_little(server: Dev):
    endless = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"; y="'.encode() + b"a" * (200 * MIB)
    reset_peak(server.pid)
    before = resident(server.pid)
    answer = server.request("POST", "/pypi/dev/", server.admin, data=endless, headers={"Content-Type": MULTIPART})
    assert answer.status_code in (400, 413)
    assert peak_resident(server.pid) - before < 64 * MIB


def test_hidden_and_absent_files_answer_alike(server: Dev):
    dist = wheel("secret-tool")
    server.publish(dist, channel="partial")
    hidden = server.get(server.file_url("secret-tool", dist.filename, channel="partial").removeprefix(server.url))
    absent = server.get(f"/pypi/partial/+f/abc/0123456789abc/{wheel('other-tool').filename}")
    assert hidden.status_code == absent.status_code == 401
    assert hidden.text == absent.text


def test_a_damaged_file_is_mended_by_uploading_it_again(server: Dev):
    dist = wheel("acme-torn", payload=bytes(range(256)) * 40, stored=True)
    server.publish(dist)
    [stored] = [path for path in Path(server.folder).rglob("*") if path.is_file() and dist.content in path.read_bytes()
                and "cache" not in path.parts]
    torn = bytearray(stored.read_bytes())
    torn[100] ^= 1
    stored.write_bytes(torn)
    assert granary(server.config, "scrub").returncode != 0
    server.publish(dist)
    assert granary(server.config, "scrub").returncode == 0
    assert server.download("acme-torn", dist.filename) == dist.content


def test_a_refusal_is_kept_by_no_cache(server: Dev):
    assert server.get("/pypi/dev/+simple/nothing-here/").headers["Cache-Control"] == "no-store"
