"""Every secret that the tests make or send is noted here; none of them may stand in what a server writes, keeps or answers."""

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

# Shorter ones are made-up wrong passwords, words that stand in any log.
SHORTEST = 12


def essence(secret: str) -> str:
    """What alone makes a secret one: of a token of ours what follows its id, of a signed token the signature."""
    if found := re.fullmatch(r"granary_[0-9A-Za-z]{10}_(\S+)", secret):
        return found[1]
    if secret.startswith("eyJ") and secret.count(".") == 2:
        return secret.rsplit(".", 1)[1]
    return secret


def encodings(secret: bytes) -> Iterator[bytes]:
    """A secret in base64, wherever it begins in what was encoded: alone, and behind a user name in a Basic header."""
    for before in range(3):
        # The first characters depend on what stands before, the last ones on what follows.
        first, whole = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        encoded = base64.b64encode(b"\0" * before + secret)[first:whole]
        yield encoded
        yield encoded.replace(b"+", b"-").replace(b"/", b"_")


def forms(secret: str) -> set[bytes]:
    """The ways in which a secret may be written so that whoever reads it has it: plain, in JSON, in a URL, in hex, in base64."""
    plain = secret.encode()
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"').encode()
    return {plain, escaped, quote(secret, safe="").encode(), quote_plus(secret).encode(), plain.hex().encode(), plain.hex().upper().encode(),
            *encodings(plain)}


class Leak(AssertionError):
    """A secret stands where none may."""


class Secrets:
    """Secrets that are known."""

    def __init__(self, secrets: Iterable[str] = ()):
        self._forms: dict[str, set[bytes]] = {}
        self.update(secrets)

    def update(self, secrets: Iterable[str]) -> None:
        """Notes several."""
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> str:
        """Notes a secret, and returns it."""
        if len(kept := essence(secret)) >= SHORTEST and kept not in self._forms:
            self._forms[kept] = forms(kept)
        return secret

    def __contains__(self, secret: str) -> bool:
        return essence(secret) in self._forms

    def check(self, place: str, content: str | bytes) -> None:
        """Raises `Leak` when one of them stands in this; `place` says what it is."""
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        for known in self._forms.values():
            for form in known:
                at = data.find(form)
                if at >= 0:
                    around = data[max(0, at - 200):at + len(form) + 100].decode(errors="replace")
                    raise Leak(f"a secret stands in {place}, written as {form.decode(errors='replace')}: …{around}…")


# Those of this run.
SECRETS = Secrets()
