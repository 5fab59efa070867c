"""Channels read from a folder: applied, watched, and each mistake reported by file and line while the others go on."""

from collections.abc import Callable

from tests.harness.dists import wheel
from tests.harness.processes import wait_until
from tests.harness.server import PUBLIC, Dev, channel

PRIVATE = {**PUBLIC, "visibility": "private"}


def anonymous_status(server: Dev, name: str) -> int:
    return server.get(f"/pypi/{name}/+simple/").status_code


def wait_for_status(server: Dev, name: str, status: int) -> None:
    wait_until(lambda: anonymous_status(server, name) == status, 10, f"{status} from {name}")


def wait_for_log(server: Dev, *words: str) -> str:
    """Waits for a line of the log that holds all these words, and returns it."""
    return wait_until(lambda: next((line for line in server.log().splitlines() if all(word in line for word in words)), None), 10, f"{words} in the log")


def test_a_new_file_is_a_new_channel(serve: Callable[..., Dev]):
    server = serve()
    assert anonymous_status(server, "later") == 401
    server.write_channel("later", PUBLIC)
    wait_for_status(server, "later", 200)
    server.publish(wheel("acme-tool"), channel="later")


def test_a_change_counts_from_then_on(serve: Callable[..., Dev]):
    server = serve()
    server.publish(wheel("acme-tool"))
    server.write_channel("dev", PRIVATE)
    wait_for_status(server, "dev", 401)
    assert set(server.files("acme-tool")) == {wheel("acme-tool").filename}
    server.write_channel("dev", PUBLIC)
    wait_for_status(server, "dev", 200)


def test_a_limit_that_changes(serve: Callable[..., Dev]):
    server = serve()
    large = wheel("acme-large", payload=bytes(range(256)) * 8000, stored=True)
    server.write_channel("dev", {**PUBLIC, "limits": {"maxUploadSize": "1Mi"}})
    wait_until(lambda: server.upload(large).status_code == 413, 10, "the limit")
    server.write_channel("dev", {**PUBLIC, "limits": {"maxUploadSize": "4Mi"}})
    wait_until(lambda: server.upload(large).status_code < 300, 10, "the higher limit")


def test_a_removed_file_hides_the_channel_and_keeps_its_packages(serve: Callable[..., Dev]):
    server = serve({"dev": PUBLIC, "other": PUBLIC})
    server.publish(wheel("acme-tool"))
    (server.channels / "dev.yaml").unlink()
    wait_for_status(server, "dev", 401)
    assert server.get("/pypi/dev/+simple/", server.admin).status_code == 404
    assert anonymous_status(server, "other") == 200
    server.write_channel("dev", PUBLIC)
    wait_for_status(server, "dev", 200)
    assert server.download("acme-tool", wheel("acme-tool").filename) == wheel("acme-tool").content


def test_a_channel_outlives_restarts_and_changes_meanwhile(serve: Callable[..., Dev]):
    server = serve()
    server.publish(wheel("acme-tool"))
    server.stop()
    server.write_channel("dev", PRIVATE)
    server.start()
    assert anonymous_status(server, "dev") == 401
    assert set(server.files("acme-tool")) == {wheel("acme-tool").filename}


def test_a_file_that_is_no_yaml_is_reported_by_line(serve: Callable[..., Dev]):
    server = serve()
    (server.channels / "broken.yaml").write_text("apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: [unclosed\n")
    line = wait_for_log(server, "broken.yaml")
    assert ":4" in line or ":5" in line or "line 4" in line or "line 5" in line or '"line":4' in line or '"line":5' in line
    assert anonymous_status(server, "dev") == 200
    server.write_channel("next", PUBLIC)
    wait_for_status(server, "next", 200)
    (server.channels / "broken.yaml").write_text(channel("mended", PUBLIC))
    wait_for_status(server, "mended", 200)


def test_a_wrong_field_is_reported_by_line_and_the_last_good_state_stays(serve: Callable[..., Dev]):
    server = serve()
    path = server.channels / "dev.yaml"
    path.write_text("apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: dev\nspec:\n  format: pypi\n  visibility: secret\n")
    line = wait_for_log(server, "dev.yaml", "line 7")
    assert ":7" in line or "line 7" in line or '"line":7' in line
    assert anonymous_status(server, "dev") == 200
    path.write_text("apiVersion: granary.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: dev\nspec:\n  format: pypi\n  visibilty: private\n")
    wait_for_log(server, "dev.yaml", "visibilty")
    assert anonymous_status(server, "dev") == 200


def test_several_in_one_file_and_other_files_beside(serve: Callable[..., Dev]):
    server = serve()
    (server.channels / "two.yml").write_text(f"{channel('first', PUBLIC)}\n---\n{channel('second', PUBLIC)}\n")
    (server.channels / "README.md").write_text("not a channel")
    (server.channels / ".dev.yaml.swp").write_text("an editor's leftovers")
    wait_for_status(server, "first", 200)
    wait_for_status(server, "second", 200)
    assert "README.md" not in server.log()


def test_what_never_changes_is_refused(serve: Callable[..., Dev]):
    server = serve()
    server.publish(wheel("acme-tool"))
    server.write_channel("dev", {**PUBLIC, "format": "conda"})
    wait_for_log(server, "dev.yaml", "format")
    assert set(server.files("acme-tool")) == {wheel("acme-tool").filename}


def test_two_files_of_the_same_channel(serve: Callable[..., Dev]):
    server = serve()
    (server.channels / "twin.yaml").write_text(channel("dev", PRIVATE))
    wait_for_log(server, "twin.yaml")
    assert anonymous_status(server, "dev") == 200


def test_a_broken_file_at_the_start_stops_nobody(serve: Callable[..., Dev]):
    server = serve()
    server.stop()
    (server.channels / "broken.yaml").write_text("{{{")
    server.start()
    assert anonymous_status(server, "dev") == 200
    wait_for_log(server, "broken.yaml")


def test_grants_change_without_a_restart(serve: Callable[..., Dev]):
    server = serve({"dev": PRIVATE})
    assert anonymous_status(server, "dev") == 401
    server.write_channel("dev", {**PRIVATE, "permissions": [{"subjects": ["anonymous"], "role": "Reader"}]})
    wait_for_status(server, "dev", 200)
