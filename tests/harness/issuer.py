"""An OpenID Connect issuer: one that signs for workloads, as CI systems and clusters do, and one that people log in at, which says
whatever a test has it say."""

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .secrets import SECRETS


def encoded(data: bytes) -> str:
    """Base64 as JSON Web Tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Answer:
    """What a request is answered: JSON, or bytes, or a redirect."""

    def __init__(self, content: object = None, status: int = 200, headers: dict[str, str] | None = None):
        self.body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.status, self.headers = status, headers or {}


class Web:
    """A small web server on a port of this machine, until it is closed. Subclasses say what it answers."""

    def __init__(self):
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply({})

            def do_POST(self):
                self.reply(dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True)))

            def reply(self, form: dict[str, str]):
                url = urlsplit(self.path)
                web.asked.append(url.path)
                answer = web.answer(self.command, url.path, dict(parse_qsl(url.query)), form, {name.lower(): value for name, value in self.headers.items()})
                answer = answer or Answer({}, 404)
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]) -> Answer | None:
        """The answer to a request, whose headers have small names; None where there is nothing."""
        raise NotImplementedError

    def close(self) -> None:
        """Answers no more."""
        self.server.shutdown()
        self.server.server_close()


class Issuer(Web):
    """Signs for workloads."""

    def __init__(self):
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()
        super().__init__()

    def answer(self, method, path, query, form, headers):
        if (method, path) == ("GET", "/.well-known/openid-configuration"):
            return Answer(self.discovery())
        if (method, path) == ("GET", "/keys"):
            return Answer({"keys": [self.public_key(kid) for kid in self.keys]})
        return None

    def discovery(self) -> dict:
        """What the issuer says of itself."""
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def rotate(self) -> None:
        """Signs with a new key, and offers no other."""
        self.keys = {uuid.uuid4().hex: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    def public_key(self, kid: str) -> dict:
        """A key as others see it."""
        numbers = self.keys[kid].public_key().public_numbers()
        as_bytes = lambda number: number.to_bytes((number.bit_length() + 7) // 8, "big")
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": encoded(as_bytes(numbers.n)), "e": encoded(as_bytes(numbers.e))}

    def token(self, audience: str = "granary", seconds: int = 600, **claims: object) -> str:
        """A signed token. Claims: `sub`, `repository` and so on."""
        now = int(time.time())
        return self.sign({"iss": self.url, "aud": audience, "iat": now, "nbf": now, "exp": now + seconds, "jti": uuid.uuid4().hex,
                          "sub": "nobody", **claims})

    def sign(self, content: dict, header: dict | None = None) -> str:
        """A token of these claims, signed as the issuer does; `header` replaces members of its header."""
        [(kid, key)] = self.keys.items()
        header = {"alg": "RS256", "typ": "JWT", "kid": kid, **(header or {})}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, content))
        return SECRETS.add(f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}")

    def public_pem(self) -> bytes:
        """The public key as those take it who would mistake it for a shared secret."""
        [key] = self.keys.values()
        return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def with_secret(content: dict, secret: bytes, header: dict | None = None) -> str:
    """A token that is signed by a shared secret."""
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", **(header or {})}, content))
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(content: dict) -> str:
    """A token that nobody signed."""
    return ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "none", "typ": "JWT"}, content)) + "."


class LoginIssuer(Issuer):
    """Logs everybody in as `person`, without asking. `forge` makes the ID token of the claims that an honest one would have;
    `instead` answers in the place of a path."""

    def __init__(self):
        self.person: dict = {"sub": "1", "preferred_username": "ada", "groups": []}
        self.forge: Callable[[dict], str] = self.sign
        self.instead: dict[str, Answer] = {}
        self.answered: dict = {}
        self.logins: dict[str, dict[str, str]] = {}
        self.redeemed: list[dict[str, str]] = []
        super().__init__()

    def honest(self) -> None:
        """Says what is true again."""
        self.forge, self.instead, self.answered = self.sign, {}, {}

    def discovery(self):
        return {**super().discovery(), "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
                "authorization_response_iss_parameter_supported": True}

    def answer(self, method, path, query, form, headers):
        if path in self.instead:
            return self.instead[path]
        if (method, path) == ("GET", "/authorize"):
            code = uuid.uuid4().hex
            self.logins[code] = query
            back = {"code": code, "state": query["state"], "iss": self.url, **self.answered}
            back = urlencode({name: value for name, value in back.items() if value is not None})
            return Answer(b"", 303, {"Location": f"{query['redirect_uri']}?{back}"})
        if (method, path) == ("POST", "/token"):
            login = self.logins.pop(form["code"], None)
            self.redeemed.append(form)
            challenge = encoded(hashlib.sha256(form["code_verifier"].encode()).digest())
            if login is None or challenge != login["code_challenge"] or form["redirect_uri"] != login["redirect_uri"]:
                return Answer({"error": "invalid_grant"}, 400)
            now, access_token = int(time.time()), uuid.uuid4().hex
            claims = {"iss": self.url, "aud": login["client_id"], "iat": now, "exp": now + 300, "nonce": login["nonce"], **self.person,
                      "at_hash": encoded(hashlib.sha256(access_token.encode()).digest()[:16])}
            return Answer({"access_token": access_token, "token_type": "Bearer", "id_token": self.forge(claims)})
        return super().answer(method, path, query, form, headers)
