"""conda's content trust: roles that are signed by each other, and packages that are signed by the last of them.

The judge is what clients do, written down here anew from the format: ed25519 over JSON as Python writes it with an indent of two and
sorted keys, checked by `cryptography`, from a root that the client has to the signature of a package.
"""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from os import urandom

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.harness.conda_packages import Package
from tests.harness.processes import wait_until
from tests.harness.server import Dev
from tests.test_conda import get, publish, repodata, upload

GRANTS = [{"subjects": ["user:olga"], "role": "Owner"}, {"subjects": ["user:mia"], "role": "Maintainer"}]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    trusted = {"format": "conda", "visibility": "public", "permissions": GRANTS, "conda": {"contentTrust": True}}
    return {"trusted": trusted, "chain": trusted, "plain": {**trusted, "conda": {}}, "rotated": trusted}


@pytest.fixture(scope="module")
def olga(server: Dev) -> tuple[str, str]:
    server.user("olga")
    return server.token("olga")


def canonical(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def delegation(*keys: Ed25519PrivateKey | str, threshold: int = 1) -> dict:
    return {"pubkeys": [key if isinstance(key, str) else public(key) for key in keys], "threshold": threshold}


def role(kind: str, delegations: dict, *signers: Ed25519PrivateKey, version: int = 1, days: int = 30) -> dict:
    """A role's document, signed."""
    now = datetime.now(UTC).replace(microsecond=0)

    def text(time: datetime) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")

    signed = {"type": kind, "version": version, "timestamp": text(now), "expiration": text(now + timedelta(days=days)),
              "metadata_spec_version": "0.6.0", "delegations": delegations}
    return {"signatures": {public(key): {"signature": key.sign(canonical(signed)).hex()} for key in signers}, "signed": signed}


def good(signed: object, signatures: dict, asked: dict) -> bool:
    """Whether enough of the keys that are asked for have signed."""
    count = 0
    for key in asked["pubkeys"]:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signatures[key]["signature"]), canonical(signed))
            count += 1
        except (KeyError, InvalidSignature):
            pass
    return count >= asked["threshold"]


def post(server: Dev, document: dict | bytes, auth: tuple[str, str] | None, *, channel: str = "trusted", kind: str | None = None,
         **query: str) -> requests.Response:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    kind = kind or document["signed"]["type"]
    return server.request("POST", f"/conda/api/content-trust/{channel}/roles", auth, params={"type": kind, **query},
                          files={"file": (f"{kind}.json", content)})


def new_key(server: Dev, auth: tuple[str, str], channel: str, **query: str) -> dict:
    answer = server.request("POST", f"/conda/api/content-trust/{channel}/new-key", auth, params=query)
    assert answer.status_code == 201, answer.text
    return answer.json()


def trusted_index(server: Dev, root: dict, subdir: str, channel: str) -> dict:
    """The repodata of a subdir, in which every package is signed as the client's root has it: what a client does."""
    while True:
        # From one root to the next, as mamba asks for them.
        version = root["signed"]["version"] + 1
        answers = [get(server, name, channel=channel) for name in (f"{version}.sv1.root.json", f"{version}.sv0.6.root.json", f"{version}.root.json")]
        later = next((answer.json() for answer in answers if answer.status_code == 200), None)
        if later is None:
            break
        for by in (root, later):
            assert good(later["signed"], later["signatures"], by["signed"]["delegations"]["root"])
        root = later
    key_mgr = get(server, "key_mgr.json", channel=channel).json()
    assert good(key_mgr["signed"], key_mgr["signatures"], root["signed"]["delegations"]["key_mgr"])
    index = repodata(server, subdir, channel=channel)
    records = {**index["packages"], **index["packages.conda"]}
    assert records.keys() == index["signatures"].keys()
    for name, record in records.items():
        assert good(record, index["signatures"][name], key_mgr["signed"]["delegations"]["pkg_mgr"]), name
    return index


def set_up(server: Dev, olga: tuple[str, str], channel: str) -> tuple[dict, Ed25519PrivateKey, Ed25519PrivateKey, str]:
    """Roles for a channel whose packages the registry signs."""
    root_key, mgr_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signing = new_key(server, olga, channel)["keyval"]
    root = role("root", {"root": delegation(root_key), "key_mgr": delegation(mgr_key)}, root_key)
    key_mgr = role("key_mgr", {"pkg_mgr": delegation(signing)}, mgr_key)
    for document in (root, key_mgr):
        answer = post(server, document, olga, channel=channel)
        assert (answer.status_code, answer.text) == (201, "null"), answer.text
    return root, root_key, mgr_key, signing


class TestSignatures:
    def test_every_package_is_signed_from_the_root_on(self, server: Dev, olga: tuple[str, str]):
        # What is there before the channel signs, and what comes after; with all that JSON can hold.
        publish(server, Package("acme-before", index={"license": "é \U0001f600 \" \\ \t", "extra": {"z": [], "a": {}, "f": 1.5, "n": None}}),
                channel="trusted")
        assert "signatures" not in repodata(server, "noarch", channel="trusted")
        root, _, _, signing = set_up(server, olga, "trusted")
        publish(server, Package("acme-after", kind="tar.bz2"), Package("acme-after"), Package("acme-linux", subdir="linux-64"), channel="trusted")
        index = trusted_index(server, root, "noarch", "trusted")
        assert set(index["signatures"]) == {"acme-before-1.0-h_0.conda", "acme-after-1.0-h_0.tar.bz2", "acme-after-1.0-h_0.conda"}
        assert all(set(keys) == {signing} for keys in index["signatures"].values())
        trusted_index(server, root, "linux-64", "trusted")
        # Another package under the same name is signed anew.
        assert upload(server, Package("acme-after", depends=["acme-before"]), channel="trusted", force="true").status_code == 201
        index = trusted_index(server, root, "noarch", "trusted")
        assert index["packages.conda"]["acme-after-1.0-h_0.conda"]["depends"] == ["acme-before"]

    def test_the_judge_finds_a_forged_record(self, server: Dev):
        index = repodata(server, "noarch", channel="trusted")
        name, record = next(iter(index["packages.conda"].items()))
        asked = {"pubkeys": list(index["signatures"][name]), "threshold": 1}
        assert good(record, index["signatures"][name], asked) and not good({**record, "size": 1}, index["signatures"][name], asked)

    def test_keys_change(self, server: Dev, olga: tuple[str, str]):
        publish(server, Package("acme-a"), channel="chain")
        root, root_key, mgr_key, first = set_up(server, olga, "chain")
        trusted_index(server, root, "noarch", "chain")
        second = new_key(server, olga, "chain")["keyval"]
        both = role("key_mgr", {"pkg_mgr": delegation(first, second, threshold=2)}, mgr_key, version=2)
        assert post(server, both, olga, channel="chain").status_code == 409
        assert post(server, both, olga, channel="chain", force="true").status_code == 201
        index = trusted_index(server, root, "noarch", "chain")
        assert set(index["signatures"]["acme-a-1.0-h_0.conda"]) == {first, second}
        # A new root takes the key manager's key away: nothing is signed until there is a new key manager.
        new_root_key, new_mgr_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        delegations = {"root": delegation(new_root_key), "key_mgr": delegation(new_mgr_key)}
        later = role("root", delegations, root_key, new_root_key, version=2)
        assert post(server, later, olga, channel="chain", force="true").status_code == 201
        assert "signatures" not in repodata(server, "noarch", channel="chain")
        third = role("key_mgr", {"pkg_mgr": delegation(second)}, new_mgr_key, version=3)
        assert post(server, third, olga, channel="chain", force="true").status_code == 201
        index = trusted_index(server, root, "noarch", "chain")
        assert set(index["signatures"]["acme-a-1.0-h_0.conda"]) == {second}
        assert get(server, "1.root.json", channel="chain").json() == root and get(server, "root.json", channel="chain").json() == later

    def test_keys_are_encrypted_and_the_key_of_that_can_be_changed(self, server: Dev, olga: tuple[str, str]):
        publish(server, Package("acme-r"), channel="rotated")
        root, *_ = set_up(server, olga, "rotated")
        secret = new_key(server, olga, "rotated", secret="true")["secret"]
        server.secrets.add(secret)
        assert len(bytes.fromhex(secret)) == 32

        def sealed() -> list[str]:
            rows = server.postgres.sql(f"SELECT encode(sealed, 'hex') FROM \"{server.schema}\".conda_trust_key ORDER BY 1")
            return [key for key, in rows]

        before = sealed()
        assert before and not any(secret in key for key in before)
        file = server.data / "secrets" / "sealing-keys"
        old = file.read_text()
        file.write_text(f"{b64encode(urandom(32)).decode()}\n{old}")
        server.restart()
        wait_until(lambda: not {key[:16] for key in sealed()} & {key[:16] for key in before}, 20, "keys encrypted anew")
        file.write_text(file.read_text().splitlines()[0])
        server.restart()
        trusted_index(server, root, "noarch", "rotated")


class TestRoles:
    def test_who_may(self, server: Dev, olga: tuple[str, str]):
        server.user("mia")
        key = Ed25519PrivateKey.generate()
        document = role("root", {"root": delegation(key), "key_mgr": delegation(key)}, key)
        assert post(server, document, None, channel="rotated").status_code == 401
        assert post(server, document, server.token("mia"), channel="rotated").status_code == 403
        assert server.request("POST", "/conda/api/content-trust/rotated/new-key", server.token("mia")).status_code == 403
        assert server.request("POST", "/conda/api/content-trust/rotated/new-key").status_code == 401
        assert post(server, document, olga, channel="plain").status_code == 404, "not switched on"
        assert get(server, "root.json", channel="plain").status_code == 404

    def test_what_is_told(self, server: Dev, olga: tuple[str, str]):
        told = server.get("/conda/api/content-trust/trusted/roles").json()
        assert set(told) == {"root", "key_mgr"} and told["root"]["version"] == 1
        assert told["key_mgr"]["delegations"]["pkg_mgr"]["threshold"] == 1
        whole = server.get("/conda/api/content-trust/trusted/roles?type=root")
        assert whole.json() == get(server, "root.json", channel="trusted").json()
        assert get(server, "pkg_mgr.json", channel="trusted").status_code == 404
        assert get(server, "9.root.json", channel="trusted").status_code == 404

    def test_a_bad_role_changes_nothing(self, server: Dev, olga: tuple[str, str]):
        before = server.get("/conda/api/content-trust/trusted/roles").json()
        key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        both = {"root": delegation(key), "key_mgr": delegation(key)}
        for document, message in [
            (role("root", both, key, version=2), "signatures"),
            (role("root", both, other, version=2), "signatures"),
            (role("root", both, key, version=3), "version"),
            (role("root", both, key, version=2, days=-1), "expired"),
            (role("key_mgr", {"pkg_mgr": delegation(key)}, other, version=2), "signatures"),
            (role("pkg_mgr", {}, other), "signatures"),
            (role("key_mgr", {}, key), "delegation"),
        ]:
            answer = post(server, document, olga, force="true")
            assert answer.status_code == 400 and message in answer.json()["detail"], answer.text
        for content in (b"", b"{}", b"no json", b"\xff", b"[" * 100_000):
            assert post(server, content, olga, kind="root", force="true").status_code == 400
        assert post(server, role("root", both, key), olga, kind="boss").status_code == 400
        assert post(server, role("root", both, key), olga, kind="key_mgr", force="true").status_code == 400
        assert server.get("/conda/api/content-trust/trusted/roles").json() == before

    def test_a_role_waits_for_who_names_its_keys(self, serve):
        channel = {"format": "conda", "visibility": "public", "conda": {"contentTrust": True}}
        server = serve({"new": channel})
        key = Ed25519PrivateKey.generate()
        answer = post(server, role("key_mgr", {"pkg_mgr": delegation(key)}, key), server.admin, channel="new")
        assert (answer.status_code, answer.json()["detail"]) == (400, "'key_mgr' keys not yet delegated")
