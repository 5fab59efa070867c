"""An OpenID Connect provider that people log in at: npm's `oidc-provider`, which is certified, as a process on Node."""

import json
import subprocess
import uuid

import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from .browser import Browser
from .issuer import encoded
from .places import TESTS, node_environment
from .processes import dies_with_parent, free_port, wait_until

FOLDER = TESTS / "identity-provider"


def signing_keys() -> dict:
    """A JWK Set of one new key, with its private parts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = key.private_numbers(), key.public_key().public_numbers()
    numbers = {"n": public.n, "e": public.e, "d": private.d, "p": private.p, "q": private.q, "dp": private.dmp1, "dq": private.dmq1,
               "qi": private.iqmp}
    parts = {name: encoded(number.to_bytes((number.bit_length() + 7) // 8, "big")) for name, number in numbers.items()}
    return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": uuid.uuid4().hex, **parts}]}


class IdentityProvider:
    """Serves on a port of this machine from `start` to `stop`; `people` are claims by login, and everybody's password is anything."""

    def __init__(self, people: dict[str, dict], *, claims_in_id_token: bool = False):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.people, self.claims_in_id_token = people, claims_in_id_token
        self.client = {"id": "granary", "secret": uuid.uuid4().hex + "+/%", "redirect_uris": []}
        self.keys = signing_keys()
        self.process: subprocess.Popen | None = None

    def start(self) -> "IdentityProvider":
        settings = {"port": self.port, "client": self.client, "people": self.people, "keys": self.keys,
                    "claimsInIdToken": self.claims_in_id_token}
        self.process = subprocess.Popen(
            ["node", FOLDER / "provider.mjs", node_environment(FOLDER) / "node_modules", json.dumps(settings)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=dies_with_parent)
        wait_until(self.is_serving, 30, "the identity provider")
        return self

    def is_serving(self) -> bool:
        try:
            return requests.get(f"{self.url}/.well-known/openid-configuration", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def restart(self) -> "IdentityProvider":
        """Begins anew, with the clients, people and keys that it is told now; who was logged in there no longer is."""
        self.stop()
        return self.start()

    def settings(self, name: str, **oidc: object) -> dict:
        """How a registry's configuration names it."""
        return {"name": name, "title": f"Company {name}",
                "oidc": {"issuer": self.url, "clientId": self.client["id"], "clientSecretKey": name, **oidc}}


def pass_by(browser: Browser, page: requests.Response, login: str, *, stop: str | None = None) -> requests.Response:
    """Goes through the provider's own pages, login and consent, until it sends the browser back."""
    while "/interaction/" in page.url and not page.is_redirect:
        fields = {"login": login, "password": "anything"} if "password" in page.text else {}
        page = browser.submit(page, stop=stop, **fields)
    return page
