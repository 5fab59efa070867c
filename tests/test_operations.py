"""What an operator sees: start and stop, health, metrics, migrations, the doctor, listeners, proxies in front."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from urllib.parse import urljoin

import pytest
import requests

from tests.harness.collector import Collector
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.dists import wheel
from tests.harness.places import BINARY
from tests.harness.postgres import Postgres
from tests.harness.processes import free_port, wait_until
from tests.harness.registry import ObjectStore, Registry, store_of
from tests.harness.server import JSON_INDEX, PUBLIC, Dev
from tests.harness.wire import MULTIPART, Connection, basic, form, multipart


class TestDev:
    def test_is_ready_within_a_second(self, serve: Callable[..., Dev]):
        server = serve()
        first = server.ready_after
        server.restart()
        assert server.ready_after < 1.0, f"first start {first:.2f} s, second {server.ready_after:.2f} s"
        assert first < 2.0

    def test_prints_one_line_and_the_real_port(self, serve: Callable[..., Dev]):
        server = serve()
        assert [line for line in server.output if line.startswith("ready ")] == [f"ready {server.url}"]
        assert not server.url.endswith(":0")

    def test_keeps_the_admin_token_and_its_file_to_itself(self, serve: Callable[..., Dev]):
        server = serve()
        token = server.admin_token
        assert len(token) >= 20
        assert server.token_file.stat().st_mode & 0o077 == 0
        server.restart()
        assert server.admin_token == token
        assert server.get("/pypi/dev/+simple/", server.admin).status_code == 200

    def test_takes_a_token_that_is_given(self, serve: Callable[..., Dev]):
        server = serve()
        server.stop()
        given = f"granary_{'given'.ljust(10, '0')}_{token_hex(22)[:43]}"
        server.token_file.write_text(given + "\n")
        server.start()
        server.publish(wheel("acme-tool"))
        assert server.get("/pypi/dev/+simple/", ("__token__", given)).status_code == 200

    def test_with_a_postgres_of_its_own(self, tmp_path: Path):
        """No database given: `dev` starts one, as another user when it runs as root, and stops it again."""
        class Alone(Dev):
            def arguments(self) -> list[str]:
                arguments = super().arguments()
                at = arguments.index("--database-url")
                return arguments[:at] + arguments[at + 4:]  # nor a schema

        class NoPostgres:
            url = ""

        server = Alone(tmp_path, NoPostgres(), "")
        server.start(60)
        try:
            dist = wheel("acme-tool")
            server.publish(dist)
            assert server.stop() == 0
            left = subprocess.run(["pgrep", "-f", str(server.data)], capture_output=True, text=True).stdout
            assert not left, "its Postgres ended with it"
            server.start(60)
            assert server.download("acme-tool", dist.filename) == dist.content
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(30) == 0
        finally:
            server.kill()


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_is_clean(self, serve: Callable[..., Dev], number: signal.Signals):
        server = serve()
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        server.process = None

    def test_what_runs_is_finished(self, serve: Callable[..., Dev]):
        """An upload that began before SIGTERM gets its answer; new connections are refused or not ready."""
        server = serve()
        dist = wheel("acme-slow", payload=bytes(range(256)) * 4000, stored=True)
        body = multipart(form(dist))
        headers = {"Authorization": basic(*server.admin), "Content-Type": MULTIPART, "Content-Length": str(len(body))}
        with Connection(server.url) as connection:
            connection.send(connection.head("POST", "/pypi/dev/", headers) + body[:1000])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not_ready(server), 5, "ready to go false")
            connection.send(body[1000:])
            assert connection.answer().status < 300
        assert server.process.wait(15) == 0
        server.process = None
        server.start()
        assert server.download("acme-slow", dist.filename) == dist.content

    def test_idle_connections_do_not_hold_it_up(self, serve: Callable[..., Dev]):
        server = serve()
        with Connection(server.url) as idle, Connection(server.url) as used:
            idle.send(b"")
            used.send(used.head("GET", "/pypi/dev/+simple/"))
            assert used.answer().status == 200
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 5


def not_ready(server: Dev) -> bool:
    try:
        return server.managed("readyz").status_code == 503
    except requests.ConnectionError:
        return True


class TestManagement:
    def test_health(self, server: Dev):
        assert server.managed("livez").status_code == 200
        assert server.managed("readyz").status_code == 200

    def test_is_not_on_the_public_port(self, server: Dev):
        for path in ("/metrics", "/livez", "/readyz"):
            assert server.get(path).status_code in (401, 404)

    def test_metrics_count_by_route_and_not_by_path(self, server: Dev):
        server.publish(wheel("acme-metrics"))
        for number in range(50):
            server.get(f"/pypi/dev/+simple/acme-absent-{number}/")
        text = server.managed("metrics").text
        assert re.search(r"^# TYPE \S+ histogram$", text, re.MULTILINE)
        assert re.search(r'^granary_\w*requests\w*\{.*status="404".*\} \d+', text, re.MULTILINE), text[:2000]
        assert "acme-absent" not in text
        server.secrets.check("the metrics", text)

    def test_logs_are_json_with_a_request_id(self, server: Dev):
        answer = server.get("/pypi/dev/+simple/")
        request_id = answer.headers["X-Request-Id"]
        line = wait_until(lambda: next((line for line in server.log().splitlines() if request_id in line), None), 5, "the request in the log")
        assert isinstance(json.loads(line), dict)


class TestServe:
    @pytest.fixture
    def store(self, serve: Callable[..., Dev]) -> ObjectStore:
        return store_of(serve())

    @pytest.fixture
    def registry(self, postgres: Postgres, store: ObjectStore, tmp_path: Path) -> Iterator[Registry]:
        schema = fresh_schema()
        registry = Registry(tmp_path / "registry", postgres, schema, store)
        registry.write_channel("dev", PUBLIC)
        yield registry
        registry.kill()
        postgres.drop(schema)

    def test_refuses_to_start_unmigrated_and_says_what_to_run(self, registry: Registry):
        registry.launch()
        assert registry.process.wait(10) != 0
        registry.process = None
        assert "granary migrate" in registry.log()

    def test_serves_once_migrated_within_a_second(self, registry: Registry):
        registry.migrate()
        registry.migrate()
        with watched(registry):
            assert registry.ready_after < 1.0
            registry.wait_for_channel("dev")
            dist = wheel("acme-tool")
            registry.publish(dist)
            assert registry.download("acme-tool", dist.filename) == dist.content

    def test_migrations_at_the_same_time(self, registry: Registry):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(registry.command("migrate"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.returncode for answer in answers] == [0] * 4, [answer.stderr for answer in answers]

    def test_a_protocol_may_have_a_host_of_its_own(self, registry: Registry):
        registry.spec["publicUrl"] = "https://packages.example"
        registry.spec["hosts"] = {"pypi": {"host": "pypi.example"}}
        registry.write_config()
        registry.migrate()
        with watched(registry):
            registry.wait_for_channel("dev")
            dist = wheel("acme-tool")
            registry.publish(dist)
            own, other = {"Host": "pypi.example"}, {"Host": "packages.example"}
            documents = [registry.get("/dev/pypi/acme-tool/json", headers=own),
                         registry.get("/pypi/dev/pypi/acme-tool/json", headers=other)]
            assert documents[0].content == documents[1].content
            url = documents[0].json()["urls"][0]["url"]
            assert url.startswith("https://pypi.example/dev/")
            assert registry.get(url.removeprefix("https://pypi.example"), headers=own).content == dist.content
            for page, headers in (("/dev/+simple/acme-tool/", own), ("/pypi/dev/+simple/acme-tool/", other)):
                file = registry.get(page, headers={**headers, "Accept": JSON_INDEX}).json()["files"][0]
                assert registry.get(urljoin(page, file["url"]), headers=headers).content == dist.content
            assert registry.get("/pypi/dev/+simple/", headers=own).status_code in (401, 404)

    def test_the_doctor_finds_nothing_wrong(self, registry: Registry):
        registry.migrate()
        done = registry.command("doctor")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.strip().splitlines()) >= 4

    def test_the_doctor_names_what_is_wrong(self, registry: Registry):
        done = registry.command("doctor")
        assert done.returncode != 0 and "granary migrate" in done.stdout
        registry.migrate()
        registry.spec["objectStore"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
        registry.write_config()
        done = registry.command("doctor")
        assert done.returncode != 0 and registry.spec["objectStore"]["endpoint"] in done.stdout
        registry.spec["database"]["url"] = registry.spec["database"]["url"].replace("granary-pg-", "granary-absent-")
        registry.write_config()
        done = registry.command("doctor")
        assert done.returncode != 0 and "database" in done.stdout.lower()
        assert "planted" not in done.stdout + done.stderr

    def test_traces_go_to_the_collector_with_the_parent_of_the_request(self, registry: Registry, tmp_path: Path):
        collector = Collector(tmp_path / "traces")
        registry.migrate()
        registry.spec["telemetry"] = {"otlpEndpoint": collector.endpoint}
        registry.write_config()
        trace = "0af7651916cd43dd8448eb211c80319c"
        with watched(registry):
            registry.wait_for_channel("dev")
            registry.get("/pypi/dev/+simple/", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
            wait_until(lambda: any(bytes.fromhex(trace) in body for _, body in collector.received()), 15, "the trace")
        collector.close()
        assert {path for path, _ in collector.received()} == {"/v1/traces"}

    def test_a_wrong_config_is_refused_by_line(self, registry: Registry):
        registry.config.write_text("apiVersion: granary.dev/v1alpha1\nkind: PackageRegistry\nmetadata:\n  name: test\nspec:\n  databse: {}\n")
        registry.launch()
        assert registry.process.wait(10) != 0
        registry.process = None
        log = registry.log()
        assert "databse" in log and ("line 6" in log or ":6" in log)

    def test_help_names_every_command(self):
        out = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=10).stdout
        for command in ("serve", "dev", "migrate", "doctor", "token"):
            assert command in out
        for command in ("serve", "dev", "migrate", "doctor"):
            assert subprocess.run([BINARY, command, "--help"], capture_output=True, timeout=10).returncode == 0

    def test_several_listeners_one_of_them_a_unix_socket(self, registry: Registry, tmp_path: Path):
        path = tmp_path / "granary.sock"
        ports = [free_port(), free_port()]
        registry.spec["listen"] = [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{path}?mode=660"]
        registry.write_config()
        registry.migrate()
        with watched(registry):
            registry.wait_for_channel("dev")
            assert requests.get(f"http://127.0.0.1:{ports[0]}/pypi/dev/+simple/", timeout=5).status_code == 200
            if socket.has_ipv6:
                assert requests.get(f"http://[::1]:{ports[1]}/pypi/dev/+simple/", timeout=5).status_code == 200
            assert path.stat().st_mode & 0o777 == 0o660
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(5)
                line.connect(str(path))
                line.sendall(b"GET /pypi/dev/+simple/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert line.recv(12) == b"HTTP/1.1 200"

    def test_presigned_redirects_where_the_channel_says_so(self, registry: Registry):
        registry.spec["objectStore"]["publicEndpoint"] = registry.spec["objectStore"]["endpoint"]
        registry.write_config()
        registry.write_channel("redirecting", {**PUBLIC, "downloads": {"redirect": True}})
        registry.migrate()
        with watched(registry):
            for name in ("dev", "redirecting"):
                registry.wait_for_channel(name)
                registry.publish(wheel("acme-tool"), channel=name)
            dist = wheel("acme-tool")
            direct = registry.session.get(registry.file_url("acme-tool", dist.filename), allow_redirects=False, timeout=10)
            assert direct.status_code == 200
            url = registry.file_url("acme-tool", dist.filename, channel="redirecting")
            answer = registry.session.get(url, allow_redirects=False, timeout=10)
            assert answer.status_code in (302, 303, 307)
            location = answer.headers["Location"]
            assert location.startswith(registry.spec["objectStore"]["endpoint"])
            assert "immutable" not in answer.headers.get("Cache-Control", "")
            registry.secrets.add(re.search(r"X-Amz-Signature=([0-9a-f]+)", location).group(1))
            assert requests.get(location, timeout=10).content == dist.content

    def test_forwarded_headers_count_from_a_trusted_proxy_alone(self, registry: Registry):
        registry.migrate()
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "packages.example", "X-Forwarded-Prefix": "/team", "Accept": JSON_INDEX}

        def link() -> str:
            page = registry.get("/pypi/dev/pypi/acme-tool/json", headers=forwarded).json()
            return page["urls"][0]["url"]

        with watched(registry):
            registry.wait_for_channel("dev")
            registry.publish(wheel("acme-tool"))
            assert "packages.example" not in link()
        registry.spec["proxy"] = {"trusted": ["127.0.0.0/8"]}
        registry.write_config()
        with watched(registry):
            registry.wait_for_channel("dev")
            assert link().startswith("https://packages.example/team/pypi/dev/")
