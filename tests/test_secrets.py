"""No secret stands where others can read it: not in logs, answers, metrics, traces or the database, in whatever spelling. At the end
of each server all tests look for theirs; here they are planted, and looked for while everything is written down."""

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.harness.collector import Collector
from tests.harness.credentials import KINDS, Everybody
from tests.harness.dists import wheel
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.registry import Registry, store_of
from tests.harness.secrets import Leak, Secrets
from tests.harness.server import Dev

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: secret,
    "URL": lambda secret: quote(secret, safe=""),
    "hex": lambda secret: secret.encode().hex(),
    "upper case hex": lambda secret: secret.encode().hex().upper(),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 of a URL": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    **{f"base64 of {user}:password": lambda secret, user=user: base64.b64encode(f"{user}:{secret}".encode()).decode()
       for user in ("", "a", "ab", "abc", "__token__")},
}


# For the spellings: what URLs and base64 write in other ways.
AWKWARD = "planted?&/+ü~~>>??"


@pytest.fixture
def planted() -> str:
    """A secret of this test alone, which may stand in any name."""
    return f"planted{secrets.token_hex(8)}"


@pytest.fixture
def place(server: Dev, planted: str) -> Iterator[Callable[[], str]]:
    """Tells where this secret, and no other, is found among what the module's server has written."""
    everybodys, server.secrets = server.secrets, Secrets([planted])
    server.assert_no_secrets()

    def found() -> str:
        with pytest.raises(Leak) as leak:
            server.read_metrics()
            server.assert_no_secrets()
        return str(leak.value).split(",")[0].removeprefix("a secret stands in ")

    yield found
    server.secrets = everybodys


class TestTheSearch:
    """That it finds nothing tells something only where it would have found it."""

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_finds_every_spelling(self, spelling: str):
        known = Secrets([AWKWARD])
        known.check("a place", f"before {SPELLINGS[spelling](AWKWARD[1:])} after")
        with pytest.raises(Leak):
            known.check("a place", f"before {SPELLINGS[spelling](AWKWARD)} after")

    def test_finds_the_part_of_a_token_that_is_secret(self):
        token, signed = f"granary_{'id':0<10}_{secrets.token_urlsafe(32)}", f"eyJhbGciOiJub25lIn0.e30.{secrets.token_urlsafe(32)}"
        known = Secrets([token, signed])
        known.check("a place", f"{token[:19]} {signed.rsplit('.', 1)[0]}")
        for leak in (token, token[19:], signed, signed.rsplit(".", 1)[1], base64.b64encode(f"ada:{token}".encode()).decode()):
            with pytest.raises(Leak):
                known.check("a place", leak)

    def test_reads_the_log(self, server: Dev, planted: str, place: Callable[[], str]):
        server.get(f"/pypi/dev/+simple/{planted}/")
        wait_until(lambda: planted in server.log(), 10, "the request in the log")
        assert place() == "the log"

    def test_reads_refusals(self, server: Dev, planted: str, place: Callable[[], str]):
        server.publish(wheel(planted))
        assert server.upload(wheel(planted, payload=b"other")).status_code == 409
        assert place() == "an answer"

    def test_reads_the_metrics(self, server: Dev, planted: str, place: Callable[[], str]):
        """In which nothing stands that a client may choose: so it is a part of them that is looked for."""
        part = "granary_http_requests"
        assert part in server.managed("metrics").text
        server.secrets = Secrets([part])
        assert place() == "the metrics"

    def test_reads_the_database(self, server: Dev, planted: str, place: Callable[[], str]):
        server.publish(wheel(planted))
        assert place() == "the database"

    def test_reads_bytes_in_the_database(self, server: Dev, planted: str, place: Callable[[], str]):
        table = f'"{server.schema}".planted'
        server.postgres.sql(f"CREATE TABLE {table} AS SELECT convert_to('{planted}', 'UTF8') AS bytes")
        try:
            assert place() == "the database"
        finally:
            server.postgres.sql(f"DROP TABLE {table}")

    def test_reads_what_is_left_of_the_database_and_its_log(self, postgres: Postgres, planted: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("tests.harness.postgres.SECRETS", Secrets([planted]))
        postgres.assert_no_secrets()
        with pytest.raises(RuntimeError):
            postgres.sql(f"SELECT {planted}")
        with pytest.raises(Leak, match="Postgres' log"):
            postgres.assert_no_secrets()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path / "traces")
    yield collector
    collector.close()


@pytest.fixture
def everybody(server: Dev, postgres: Postgres, collector: Collector, tmp_path: Path) -> Iterator[Everybody]:
    """A registry that takes all kinds of credentials, writes all that it can into its log, and sends traces."""
    everybody = Everybody(tmp_path / "everybody", postgres, store_of(server), telemetry={"otlpEndpoint": collector.endpoint, "logFilter": "trace"})
    try:
        everybody.registry.start()
        everybody.registry.wait_for_channel("private")
        yield everybody
    finally:
        everybody.close()


def test_with_everything_written_down(everybody: Everybody, collector: Collector, planted: str):
    """All kinds of credentials, right ones and wrong ones, in every way, while libraries tell what they do as well. The registry's
    own search follows at its end."""
    registry = everybody.registry
    for kind in KINDS:
        credential = KINDS[kind](everybody)
        user, secret = credential.auth
        carried = [{"auth": (user, secret)}, {"params": {"token": secret, "password": secret}}]
        if credential.token:
            carried += [{"headers": {"Authorization": f"Bearer {secret}"}}, {"headers": {"X-API-Key": secret}},
                        {"headers": {"Cookie": f"granary_session={secret}"}}, {"auth": ("", secret)}, {"auth": ("", f"{secret}x")}]
        for options in carried:
            for path in ("/-/whoami", "/pypi/private/+simple/"):
                assert registry.get(path, **options).status_code in (200, 401, 404), (kind, options)
        assert registry.get("/-/whoami", auth=(user, f"wrong {secret}")).status_code == 401, kind
        registry.upload(wheel("acme-tool"), channel="private", auth=(user, secret))
        credential.end()
        assert registry.get("/-/whoami", auth=(user, secret)).status_code == 401, kind
    # Where there was a password in the field of the name, too.
    typed = registry.secrets.add(f"typed{secrets.token_hex(8)}")
    assert registry.get("/-/whoami", auth=(typed, "")).status_code == 401
    # What a client does choose reaches the traces, so that a secret there would be found.
    registry.get("/-/whoami", headers={"X-Request-Id": planted})
    bodies = lambda: b"".join(body for _, body in collector.received())
    wait_until(lambda: planted.encode() in bodies(), 20, "the last trace")
    with pytest.raises(Leak):
        Secrets([planted]).check("the traces", bodies())
    registry.stop()
    registry.secrets.check("the traces", bodies())
    assert len(registry.log()) > 100_000, "libraries have told what they do"


BIND = {"userBase": "ou=people,dc=example", "bindDn": "cn=granary,dc=example", "bindPasswordKey": "secret"}
# Sources that cannot be asked, with what the file of their secret holds; {0} is the secret itself.
BROKEN: dict[str, tuple[dict, str]] = {
    "a directory that is away": ({"ldap": {"url": "ldap://127.0.0.1:1", **BIND}}, "{0}"),
    "a service that is away": ({"http": {"url": "http://127.0.0.1:1/check", "tokenKey": "secret"}}, "{0}"),
    "a service's token that fits no header": ({"http": {"url": "http://127.0.0.1:1/check", "tokenKey": "secret"}}, "{0}\nand\x01more"),
    "a database that is away": ({"sql": {"urlKey": "secret", "query": "select $1"}}, "postgresql://granary:{0}@127.0.0.1:1/people"),
    "a database at no port": ({"sql": {"urlKey": "secret", "query": "select $1"}}, "postgresql://granary:{0}@127.0.0.1:port/people"),
    "no connection string": ({"sql": {"urlKey": "secret", "query": "select $1"}}, "{0}"),
    "an option that there is not": ({"sql": {"urlKey": "secret", "query": "select $1"}}, "host=127.0.0.1 password={0} option={0}"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_source_that_cannot_be_asked(server: Dev, postgres: Postgres, tmp_path: Path, planted: str, broken: str):
    """Its secret stands in no complaint, nor does the password of who wanted to log in."""
    source, content = BROKEN[broken]
    (tmp_path / "secrets").mkdir()
    secret = server.secrets.add(f"of-the-source-{secrets.token_hex(8)}")
    (tmp_path / "secrets" / "secret").write_text(content.format(secret))
    identity = {"secretsDir": str(tmp_path / "secrets"), "authenticators": [{"name": "broken", **source}]}
    registry = Registry(tmp_path / "registry", postgres, fresh_schema(), store_of(server), spec={"identity": identity}).migrate()
    try:
        with watched(registry):
            answer = registry.get("/-/whoami", ("ada", planted))
            assert answer.status_code >= 500, answer.text
            registry.get("/-/whoami", registry.admin)
            doctor = registry.command("doctor")
            registry.secrets.check("what the doctor says", doctor.stdout + doctor.stderr)
        assert "broken" in registry.log(), "the log says which source it is"
    finally:
        postgres.drop(registry.schema)


@pytest.mark.parametrize("url", ["postgresql://granary:{0}@127.0.0.1:port/granary", "{0}", "host=127.0.0.1 password={0} option={0}",
                                 "postgresql://granary:{0}@127.0.0.1:1/granary", "postgresql://granary:{0}@127.0.0.1:1/granary?sslmode={0}"])
def test_a_database_that_cannot_be_reached(server: Dev, postgres: Postgres, tmp_path: Path, planted: str, url: str):
    """Whatever is wrong with a connection string, nothing repeats its password."""
    server.secrets.add(planted)
    registry = Registry(tmp_path / "registry", postgres, fresh_schema(), store_of(server))
    registry.spec["database"] |= {"url": url.format(planted), "directUrl": url.format(planted)}
    registry.write_config()
    registry.launch()
    assert registry.process.wait(30) != 0
    registry.process = None
    server.secrets.check("the log", registry.log())
    for command in ("migrate", "doctor"):
        done = registry.command(command)
        assert done.returncode != 0, command
        server.secrets.check(f"what `granary {command}` says", done.stdout + done.stderr)
