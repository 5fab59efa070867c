"""Credentials of every kind, for one registry that takes all of them: how each is made, carried and ended."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from .accounts import granary, set_password
from .issuer import Issuer
from .lifetime import fresh_schema
from .postgres import DATABASE, Postgres
from .registry import ObjectStore, Registry
from .secrets import SECRETS

# For every password: what URLs, Basic headers and files of passwords have to be careful with.
AWKWARD = "p@ss:word/%41+&?ü"

# The claims that the grant of workloads names.
CLAIMS = {"sub": "repo:acme/tools:ref:refs/tags/v1", "repository": "acme/tools"}
PRIVATE = {"format": "pypi", "visibility": "private", "permissions": [
    {"subjects": ["group:team"], "role": "Maintainer"}, {"subjects": ["workload:ci?repository=acme/tools"], "role": "Publisher"}]}

# How long after its end a signed token counts, as far as clocks may differ.
LEEWAY = 60


@dataclass
class Credential:
    """A credential that is good."""

    actor: str
    """Whom it makes one."""
    user: str | None
    """The user name that it belongs to; a token goes with any."""
    secret: str
    end: Callable[[], None]
    """Ends it: when this returns, no request may succeed with it."""
    token: bool = True
    """Whether `Bearer` and `X-API-Key` carry it, too."""

    @property
    def auth(self) -> tuple[str, str]:
        """As user name and password."""
        return ("__token__" if self.user is None else self.user), self.secret


class PasswordService:
    """A service that says whether a password is somebody's, and wants to be shown a token of its own."""

    def __init__(self, token: str):
        self.passwords: dict[str, str] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = service.passwords.get(asked["username"])
                allowed = self.headers["Authorization"] == f"Bearer {token}"
                status = 403 if not allowed else 404 if known is None else 200 if known == asked["password"] else 401
                body = b'{"groups": ["team"]}' if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/check"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answers no more."""
        self.server.shutdown()
        self.server.server_close()


class Everybody:
    """A registry with the channel `private`, and whoever may log in to it. Close it in the end."""

    def __init__(self, folder: Path, postgres: Postgres, store: ObjectStore, **spec: object):
        self.issuer = Issuer()
        self.service = PasswordService(SECRETS.add("planted-token-of-the-password-service"))
        self.secrets = folder / "secrets"
        self.secrets.mkdir(parents=True)
        self.people = f"people_{fresh_schema()}"
        postgres.sql(f'CREATE SCHEMA "{self.people}"; CREATE TABLE "{self.people}".people (login text, hash text, groups text[])')
        database = f"postgresql://granary:{SECRETS.add('planted-password-of-the-portal')}@/{DATABASE}?host={quote(str(postgres.folder), safe='')}"
        for name, content in (("users", ""), ("htpasswd", ""), ("portal-url", database), ("service-token", "planted-token-of-the-password-service"),
                              ("bind-password", SECRETS.add("planted-password-of-the-directory"))):
            (self.secrets / name).write_text(content)
        identity = {"issuers": [{"name": "ci", "url": self.issuer.url, "audiences": ["granary"]}], "secretsDir": str(self.secrets),
                    # All clients of the tests come from one address.
                    "logins": {"failuresPerUser": 100_000, "failuresPerAddress": 100_000},
                    "authenticators": [
                        {"name": "legacy", "groups": ["team"], "users": {"key": "users"}},
                        {"name": "apache", "groups": ["team"], "htpasswd": {"key": "htpasswd"}},
                        {"name": "portal", "sql": {"urlKey": "portal-url", "query": f'select hash, groups from "{self.people}".people where login = $1'}},
                        {"name": "own", "http": {"url": self.service.url, "tokenKey": "service-token"}}]}
        self.registry = Registry(folder / "registry", postgres, fresh_schema(), store, spec={"identity": identity, **spec}).migrate()
        self.registry.write_channel("private", PRIVATE)
        self._count = 0

    def close(self) -> None:
        """Stops all of it, and reads what is left for secrets."""
        try:
            self.registry.stop()
            self.registry.assert_no_secrets()
        finally:
            self.registry.kill()
            self.issuer.close()
            self.service.close()
            for schema in (self.people, self.registry.schema):
                self.registry.postgres.drop(schema)

    def _named(self, kind: str) -> tuple[str, str]:
        """A name that nobody has, and a password."""
        self._count += 1
        return f"{kind}{self._count}", SECRETS.add(f"{AWKWARD}{kind}{self._count}")

    def _command(self, *arguments: str) -> None:
        done = granary(self.registry.config, *arguments)
        assert done.returncode == 0, done.stderr

    def _disable(self, name: str) -> Callable[[], None]:
        return lambda: self._command("user", "disable", name)

    def _revoke(self, token: str) -> Callable[[], None]:
        return lambda: self._command("token", "revoke", token.split("_")[1])

    # Of the registry's own accounts

    def password(self) -> Credential:
        """Of an account, which is disabled in the end."""
        name, password = self._named("ada")
        self.registry.user(name, "team", password=password)
        return Credential(name, name, password, self._disable(name), token=False)

    def changed_password(self) -> Credential:
        """Of an account, which gets another one in the end."""
        name, password = self._named("bob")
        self.registry.user(name, "team", password=password)
        return Credential(name, name, password, lambda: set_password(self.registry.config, name, f"another {password}"), token=False)

    def api_token(self) -> Credential:
        """Of an account that has no password; revoked in the end."""
        name, _ = self._named("eve")
        self.registry.user(name, "team")
        _, token = self.registry.token(name)
        return Credential(name, None, token, self._revoke(token))

    def token_of_somebody_disabled(self) -> Credential:
        """Of an account that is disabled in the end, with its tokens."""
        name, _ = self._named("joe")
        self.registry.user(name, "team")
        return Credential(name, None, self.registry.token(name)[1], self._disable(name))

    # Of workloads

    def signed_token(self) -> Credential:
        """Signed by an issuer; it ends by itself, which is waited for."""
        end = int(time.time()) + 6
        token = self.issuer.token(**CLAIMS, exp=end - LEEWAY, nbf=end - 600, iat=end - 600)
        return Credential(f"workload:ci:{CLAIMS['sub']}", None, token, lambda: time.sleep(max(0.0, end + 0.5 - time.time())))

    def exchanged_token(self) -> Credential:
        """For which a signed one was exchanged; revoked in the end."""
        answer = self.registry.request("POST", "/_/oidc/mint-token", json={"token": self.issuer.token(**CLAIMS)})
        assert answer.status_code == 200, answer.text
        token = SECRETS.add(answer.json()["token"])
        return Credential(f"workload:ci:{CLAIMS['sub']}", None, token, self._revoke(token))

    # Of other sources

    def users_file(self) -> Credential:
        """In a file of names and plain passwords."""
        return self._in_a_file("users", lambda password: f" {password}")

    def htpasswd_file(self) -> Credential:
        """In a file of names and hashes."""
        return self._in_a_file("htpasswd", lambda password: "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode())

    def _in_a_file(self, kind: str, line: Callable[[str], str]) -> Credential:
        name, password = self._named(kind)
        with open(self.secrets / kind, "a") as file:
            file.write(f"{name}:{line(password)}\n")
        time.sleep(1.1)  # the file is looked at once a second
        return Credential(name, name, password, self._disable(name), token=False)

    def table(self) -> Credential:
        """In a table of another database."""
        name, password = self._named("portal")
        stranger, _ = self._named("stranger")
        # The hash is what the registry itself makes of the password.
        postgres, schema = self.registry.postgres, self.registry.schema
        self.registry.user(stranger, password=password)
        postgres.sql(f"""INSERT INTO "{self.people}".people SELECT '{name}', password_hash, '{{team}}' FROM "{schema}".account WHERE name = '{stranger}'""")
        return Credential(name, name, password, self._disable(name), token=False)

    def other_service(self) -> Credential:
        """Known to a service."""
        name, password = self._named("own")
        self.service.passwords[name] = password
        return Credential(name, name, password, self._disable(name), token=False)


KINDS: dict[str, Callable[[Everybody], Credential]] = {
    "password": Everybody.password,
    "changed password": Everybody.changed_password,
    "API token": Everybody.api_token,
    "API token of a disabled account": Everybody.token_of_somebody_disabled,
    "signed token": Everybody.signed_token,
    "exchanged token": Everybody.exchanged_token,
    "users file": Everybody.users_file,
    "htpasswd file": Everybody.htpasswd_file,
    "table": Everybody.table,
    "service": Everybody.other_service,
}
