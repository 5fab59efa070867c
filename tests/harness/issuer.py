"""An OpenID Connect issuer that signs for workloads, as CI systems and clusters do: discovery, keys, tokens."""

import base64
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .secrets import SECRETS


def encoded(data: bytes) -> str:
    """Base64 as JSON Web Tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Serves on a port of this machine until it is closed."""

    def __init__(self):
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                answers = {"/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                           "/keys": {"keys": [issuer.public_key(kid) for kid in issuer.keys]}}
                body = json.dumps(answers.get(self.path, {})).encode()
                self.send_response(200 if self.path in answers else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.rotate()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answers no more."""
        self.server.shutdown()
        self.server.server_close()

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
        [(kid, key)] = self.keys.items()
        content = {"iss": self.url, "aud": audience, "iat": now, "nbf": now, "exp": now + seconds, "jti": uuid.uuid4().hex,
                   "sub": "nobody", **claims}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": kid}, content))
        return SECRETS.add(f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}")
