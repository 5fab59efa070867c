"""Machines without a stored secret: tokens that somebody else signed, as Bearer, as a password, and exchanged for one of ours."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Desk
from tests.harness.dists import wheel
from tests.harness.issuer import Issuer
from tests.harness.lifetime import fresh_schema
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.registry import Registry, store_of
from tests.harness.server import Dev
from tests.harness.tls import Terminator

GRANTS = [{"subjects": ["workload:ci?repository=acme/tools&ref=refs/tags/*"], "role": "Publisher"}]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def registry(issuer: Issuer, server: Dev, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that trusts the issuer."""
    spec = {"identity": {"issuers": [{"name": "ci", "url": issuer.url, "audiences": ["granary"]},
                                     {"name": "twin", "url": f"{issuer.url}/twin", "audiences": ["granary"]}]}}
    registry = Registry(tmp_path_factory.mktemp("registry"), postgres, fresh_schema(), store_of(server), spec=spec).migrate()
    registry.write_channel("dev", {"format": "pypi", "visibility": "private", "permissions": GRANTS})
    registry.start()
    yield registry
    registry.stop()
    registry.assert_no_secrets()


CLAIMS = {"sub": "repo:acme/tools:ref:refs/tags/v1", "repository": "acme/tools", "ref": "refs/tags/v1"}


@pytest.fixture
def job(issuer: Issuer, registry: Registry) -> str:
    """The token of a job that may publish."""
    return issuer.token(**CLAIMS)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_signed_token_is_a_credential(registry: Registry, job: str):
    """As Bearer and as the password of any user name, which is all that pip, conan and conda can send."""
    for options in ({"headers": bearer(job)}, {"auth": ("__token__", job)}, {"auth": ("", job)}):
        told = registry.get("/-/whoami", **options).json()
        assert told["workload"]["issuer"] == "ci" and told["workload"]["claims"]["repository"] == "acme/tools"
        assert told["actor"] == f"workload:ci:{CLAIMS['sub']}"
    assert registry.upload(wheel("acme-a"), auth=("ci", job)).status_code == 200
    assert "acme-a" in registry.projects(auth=("", job))


@pytest.mark.parametrize("claims", [
    {"repository": "acme/other"}, {"ref": "refs/heads/main"}, {"repository": ["acme/tools"]}, {"repository": None}])
def test_all_claims_of_a_grant_have_to_fit(registry: Registry, issuer: Issuer, claims: dict):
    token = issuer.token(**{**CLAIMS, **claims})
    assert registry.get("/-/whoami", ("", token)).status_code == 200
    # A grant that is not one's own is none: the channel is as good as absent.
    assert registry.get("/pypi/dev/+simple/", ("", token)).status_code == 404
    assert registry.upload(wheel("acme-b"), auth=("", token)).status_code == 404


@pytest.mark.parametrize("changed", [{"aud": "somebody-else"}, {"exp": 1}, {"nbf": 4_000_000_000}, {"iss": "https://issuer.example"}, {"sub": ""}])
def test_what_is_wrong_with_a_token_is_told(registry: Registry, issuer: Issuer, changed: dict):
    answer = registry.get("/pypi/dev/+simple/", ("", issuer.token(**{**CLAIMS, **changed})))
    assert answer.status_code == 401 and answer.text.startswith("the token is not valid: ")


def test_the_same_claims_of_another_issuer_are_not_the_same(registry: Registry, issuer: Issuer, server: Dev):
    other = Issuer()
    try:
        for token in (other.token(**CLAIMS), other.token(**{**CLAIMS, "iss": issuer.url}), other.token(**{**CLAIMS, "iss": f"{issuer.url}/twin"})):
            # The last one's keys cannot be had: whether it is good is not known.
            assert registry.get("/pypi/dev/+simple/", ("", token)).status_code in (401, 503)
    finally:
        other.close()


def test_uv_publishes_by_trusted_publishing(registry: Registry, issuer: Issuer, tmp_path: Path):
    """As in a job of a CI system: the client asks for the audience, fetches a signed token, has it exchanged, and uploads."""
    desk = Desk(tmp_path, registry)
    [path] = desk.write(wheel("acme-trusted"))
    audience = registry.get("/_/oidc/audience").json()["audience"]
    assert audience == "granary"
    # What a GitLab job has by `id_tokens`: the variable is named after the audience.
    # uv asks for the audience over TLS alone.
    tls = Terminator(tmp_path, registry.url)
    try:
        desk.uv("publish", "--trusted-publishing", "always", "--publish-url", f"{tls.url}/pypi/dev/", path,
                GITLAB_CI="true", GRANARY_ID_TOKEN=issuer.token(**CLAIMS), SSL_CERT_FILE=tls.certificate)
    finally:
        tls.close()
    assert "acme-trusted" in registry.projects()


def test_twine_publishes_with_an_exchanged_token(registry: Registry, job: str, tmp_path: Path):
    answer = registry.request("POST", "/_/oidc/mint-token", json={"token": job})
    assert answer.status_code == 200 and answer.json()["success"] is True and answer.headers["Cache-Control"] == "no-store"
    token = answer.json()["token"]
    registry.secrets.add(token)
    desk = Desk(tmp_path, registry)
    desk.twine_upload(*desk.write(wheel("acme-exchanged")), auth=("__token__", token))
    assert "acme-exchanged" in registry.projects()
    # It is the workload's, with the rights of the workload and no others.
    assert registry.get("/-/whoami", ("", token)).json()["workload"]["subject"] == CLAIMS["sub"]
    assert registry.request("POST", "/-/tokens", ("", token), json={}).status_code == 403
    # A token of ours is no signed one.
    assert registry.request("POST", "/_/oidc/mint-token", json={"token": token}).status_code == 422


def test_a_signed_token_is_exchanged_once(registry: Registry, job: str):
    """However many ask at once."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: registry.request("POST", "/_/oidc/mint-token", json={"token": job}), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 15
    assert "used before" in next(answer for answer in answers if answer.status_code == 422).json()["message"]


def test_a_grant_that_goes_takes_exchanged_tokens_with_it(registry: Registry, job: str):
    token = registry.request("POST", "/_/oidc/mint-token", json={"token": job}).json()["token"]
    assert registry.get("/pypi/dev/+simple/", ("", token)).status_code == 200
    registry.write_channel("dev", {"format": "pypi", "visibility": "private", "permissions": []})
    try:
        wait_until(lambda: registry.get("/pypi/dev/+simple/", ("", token)).status_code == 404, 10, "the grant to be gone")
        assert registry.get("/pypi/dev/+simple/", ("", job)).status_code == 404
    finally:
        registry.write_channel("dev", {"format": "pypi", "visibility": "private", "permissions": GRANTS})
        wait_until(lambda: registry.get("/pypi/dev/+simple/", ("", token)).status_code == 200, 10, "the grant to be there")


def test_keys_rotate(registry: Registry, issuer: Issuer):
    """A new key is taken at once; what the old one signed counts no more once the issuer has withdrawn it."""
    old = issuer.token(**CLAIMS)
    assert registry.get("/-/whoami", ("", old)).status_code == 200
    issuer.rotate()
    asked = len(issuer.asked)
    wait_until(lambda: registry.get("/-/whoami", ("", issuer.token(**CLAIMS))).status_code == 200, 30, "the new key to be known", 0.5)
    assert registry.get("/-/whoami", ("", old)).status_code == 401
    assert len(issuer.asked) - asked <= 6
