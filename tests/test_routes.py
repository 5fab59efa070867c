"""Every route of the server, asked by every kind of caller, of channels of every visibility: what each may is computed from one
table, and a route that the table lacks fails the test."""

import itertools
from collections.abc import Callable

import pytest

from tests.harness.accounts import granary
from tests.harness.dists import wheel
from tests.harness.server import Dev

# Each route with a path to ask for, the channel's name in the place of {}, and what whoever may is answered. Nothing here changes
# anything: what is removed is not there.
NOBODY, SOMEBODY, ADMIN = "open", "authenticated", "admin"
FILE = "/pypi/{}/+f/000/0000000000000/absent-1.0-py3-none-any.whl"
ROUTES: dict[tuple[str, str], tuple[str, str, int]] = {
    ("GET", "/-/whoami"): (SOMEBODY, "/-/whoami", 200),
    ("GET", "/-/tokens"): (SOMEBODY, "/-/tokens", 200),
    ("POST", "/-/tokens"): (SOMEBODY, "/-/tokens", 400),
    ("DELETE", "/-/tokens/{id}"): (SOMEBODY, "/-/tokens/0000000000", 404),
    ("GET", "/-/can"): (SOMEBODY, "/-/can?action=read&channel=pypi/absent", 200),
    ("GET", "/-/audit"): (ADMIN, "/-/audit", 200),
    ("GET", "/-/login"): (NOBODY, "/-/login", 200),
    ("POST", "/-/login"): (NOBODY, "/-/login", 400),
    ("GET", "/-/login/{provider}"): (NOBODY, "/-/login/absent", 404),
    ("GET", "/-/login/{provider}/callback"): (NOBODY, "/-/login/absent/callback", 400),
    ("POST", "/-/logout"): (NOBODY, "/-/logout", 303),
    ("GET", "/-/device"): (NOBODY, "/-/device", 303),
    ("POST", "/-/device"): (NOBODY, "/-/device", 400),
    ("POST", "/-/device/confirm"): (NOBODY, "/-/device/confirm", 403),
    ("POST", "/-/device/token"): (NOBODY, "/-/device/token", 400),
    ("GET", "/_/oidc/audience"): (NOBODY, "/_/oidc/audience", 404),
    ("POST", "/_/oidc/mint-token"): (NOBODY, "/_/oidc/mint-token", 400),
    ("POST", "/pypi/{channel}/"): ("publish", "/pypi/{}/", 400),
    ("POST", "/pypi/{channel}"): ("publish", "/pypi/{}", 400),
    ("GET", "/pypi/{channel}/"): ("read", "/pypi/{}/", 302),
    ("GET", "/pypi/{channel}"): ("read", "/pypi/{}", 302),
    ("GET", "/pypi/{channel}/+simple/"): ("read", "/pypi/{}/+simple/", 200),
    ("GET", "/pypi/{channel}/+simple"): ("read", "/pypi/{}/+simple", 301),
    ("GET", "/pypi/{channel}/+simple/{project}/"): ("read", "/pypi/{}/+simple/acme/", 200),
    ("GET", "/pypi/{channel}/+simple/{project}"): ("read", "/pypi/{}/+simple/acme", 301),
    ("GET", "/pypi/{channel:1}/simple/"): ("read", "/pypi/{}/simple/", 200),
    ("GET", "/pypi/{channel:1}/simple"): ("read", "/pypi/{}/simple", 301),
    ("GET", "/pypi/{channel:1}/simple/{project}/"): ("read", "/pypi/{}/simple/acme/", 200),
    ("GET", "/pypi/{channel:1}/simple/{project}"): ("read", "/pypi/{}/simple/acme", 301),
    ("GET", "/pypi/{channel}/pypi/{project}/json"): ("read", "/pypi/{}/pypi/acme/json", 200),
    ("GET", "/pypi/{channel}/pypi/{project}/{version}/json"): ("read", "/pypi/{}/pypi/acme/1.0/json", 200),
    ("GET", "/pypi/{channel}/+f/{start}/{rest}/{filename}"): ("read", FILE, 404),
    ("DELETE", "/pypi/{channel}/+f/{start}/{rest}/{filename}"): ("remove", FILE, 404),
    ("DELETE", "/pypi/{channel}/+project/{project}"): ("remove", "/pypi/{}/+project/absent", 404),
    ("DELETE", "/pypi/{channel}/+project/{project}/{version}"): ("remove", "/pypi/{}/+project/absent/1.0", 404),
    ("PUT", "/pypi/{channel}/+yank/{project}/{version}"): ("remove", "/pypi/{}/+yank/absent/1.0", 404),
    ("DELETE", "/pypi/{channel}/+yank/{project}/{version}"): ("remove", "/pypi/{}/+yank/absent/1.0", 404),
    ("GET", "/conda/get/{channel}/{subdir}/{file}"): ("read", "/conda/get/{}/noarch/repodata.json", 200),
    ("DELETE", "/conda/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}"):
        ("remove", "/conda/api/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda", 404),
    ("PUT", "/conda/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}/yank"):
        ("remove", "/conda/api/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda/yank", 404),
    ("DELETE", "/conda/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}/yank"):
        ("remove", "/conda/api/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda/yank", 404),
    ("GET", "/conda/get/{channel:1}"): ("read", "/conda/get/{}", 301),
    ("GET", "/conda/get/{channel:1}/"): ("read", "/conda/get/{}/", 200),
    ("GET", "/conda/get/{channel:1}/{file}"): ("read", "/conda/get/{}/channeldata.json", 200),
    ("GET", "/conda/get/{channel:1}/{subdir}/"): ("read", "/conda/get/{}/noarch/", 200),
    ("GET", "/conda/api/channels/{channel}/synchronization"): ("read", "/conda/api/channels/{}/synchronization", 405),
    ("POST", "/conda/api/channels/{channel}/synchronization"): ("remove", "/conda/api/channels/{}/synchronization", 405),
    ("POST", "/conda/api/channels/{channel}/upload/{file}"): ("publish", "/conda/api/channels/{}/upload/acme-1.0-0.conda", 400),
    ("GET", "/conda/api/channels/{channel:1}/packages/{package}/versions/{platform}/{file}/run_exports"):
        ("read", "/conda/api/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda/run_exports", 404),
    ("GET", "/conda/api/channels/{channel:1}/{subdir}/conda-suggest"): ("read", "/conda/api/channels/{}/noarch/conda-suggest", 404),
    ("GET", "/conda/api/content-trust/{channel:1}/roles"): ("read", "/conda/api/content-trust/{}/roles", 404),
    ("POST", "/conda/api/content-trust/{channel:1}/roles"): ("administer", "/conda/api/content-trust/{}/roles?type=root", 404),
    ("POST", "/conda/api/content-trust/{channel:1}/new-key"): ("administer", "/conda/api/content-trust/{}/new-key", 404),
    ("GET", "/conda/api/tos"): (NOBODY, "/conda/api/tos", 404),
    ("GET", "/conda/api/tos/status"): (SOMEBODY, "/conda/api/tos/status", 404),
    ("POST", "/conda/api/tos/sign"): (SOMEBODY, "/conda/api/tos/sign", 404),
    ("POST", "/conda/api/tos/upload"): (ADMIN, "/conda/api/tos/upload", 400),
    ("POST", "/conda/api/channels/{channel}/files/"): ("publish", "/conda/api/channels/{}/files/", 422),
    ("POST", "/conda/api/channels/{channel}/packages/{package}/files/"): ("publish", "/conda/api/channels/{}/packages/acme/files/", 404),
    ("POST", "/conda/api/v1/upload/{channel}"): ("publish", "/conda/api/v1/upload/{}", 400),
    ("PUT", "/conda/get/{channel}/{subdir}/{file}"): ("publish", "/conda/get/{}/noarch/acme-1.0-0.conda", 400),
    ("GET", "/conda/api/dummylogin/{user}"): (NOBODY, "/conda/api/dummylogin/alice", 404),
    ("GET", "/conda/openapi.json"): (NOBODY, "/conda/openapi.json", 200),
    ("GET", "/conda/docs"): (NOBODY, "/conda/docs", 200),
    ("GET", "/conda/api/me"): (SOMEBODY, "/conda/api/me", 200),
    ("GET", "/conda/api/users"): (SOMEBODY, "/conda/api/users", 200),
    ("GET", "/conda/api/paginated/users"): (SOMEBODY, "/conda/api/paginated/users", 200),
    ("GET", "/conda/api/users/{user}"): (SOMEBODY, "/conda/api/users/absent", 404),
    ("DELETE", "/conda/api/users/{user}"): (SOMEBODY, "/conda/api/users/absent", 404),
    ("GET", "/conda/api/users/{user}/role"): (SOMEBODY, "/conda/api/users/absent/role", 404),
    ("PUT", "/conda/api/users/{user}/role"): (SOMEBODY, "/conda/api/users/absent/role", 422),
    ("GET", "/conda/api/users/{user}/channels"): (SOMEBODY, "/conda/api/users/absent/channels", 404),
    ("GET", "/conda/api/paginated/users/{user}/channels"): (SOMEBODY, "/conda/api/paginated/users/absent/channels", 404),
    ("GET", "/conda/api/users/{user}/packages"): (SOMEBODY, "/conda/api/users/absent/packages", 404),
    ("GET", "/conda/api/paginated/users/{user}/packages"): (SOMEBODY, "/conda/api/paginated/users/absent/packages", 404),
    ("GET", "/conda/api/api-keys"): (SOMEBODY, "/conda/api/api-keys", 200),
    ("POST", "/conda/api/api-keys"): (SOMEBODY, "/conda/api/api-keys", 422),
    ("DELETE", "/conda/api/api-keys/{key}"): (SOMEBODY, "/conda/api/api-keys/absent", 404),
    ("GET", "/conda/api/jobs"): (SOMEBODY, "/conda/api/jobs", 200),
    ("POST", "/conda/api/jobs"): (SOMEBODY, "/conda/api/jobs", 422),
    ("GET", "/conda/api/jobs/{job}"): (SOMEBODY, "/conda/api/jobs/0", 404),
    ("PATCH", "/conda/api/jobs/{job}"): (SOMEBODY, "/conda/api/jobs/0", 422),
    ("GET", "/conda/api/jobs/{job}/tasks"): (SOMEBODY, "/conda/api/jobs/0/tasks", 404),
    ("GET", "/conda/api/channels"): (NOBODY, "/conda/api/channels", 200),
    ("POST", "/conda/api/channels"): (SOMEBODY, "/conda/api/channels", 422),
    ("GET", "/conda/api/paginated/channels"): (NOBODY, "/conda/api/paginated/channels", 200),
    ("GET", "/conda/api/packages/search/"): (NOBODY, "/conda/api/packages/search/?q=acme", 200),
    ("GET", "/conda/api/channels/search/"): (NOBODY, "/conda/api/channels/search/?q=public", 200),
    ("GET", "/conda/api/channels/{channel}"): ("read", "/conda/api/channels/{}", 200),
    ("PATCH", "/conda/api/channels/{channel}"): ("administer", "/conda/api/channels/{}", 422),
    # A resource describes it.
    ("DELETE", "/conda/api/channels/{channel}"): ("administer", "/conda/api/channels/{}", 403),
    ("PUT", "/conda/api/channels/{channel}/actions"): ("remove", "/conda/api/channels/{}/actions", 422),
    ("GET", "/conda/api/channels/{channel}/members"): ("remove", "/conda/api/channels/{}/members", 200),
    ("POST", "/conda/api/channels/{channel}/members"): ("administer", "/conda/api/channels/{}/members", 422),
    ("DELETE", "/conda/api/channels/{channel}/members"): ("administer", "/conda/api/channels/{}/members", 422),
    ("GET", "/conda/api/channels/{channel}/packages"): ("read", "/conda/api/channels/{}/packages", 200),
    ("POST", "/conda/api/channels/{channel}/packages"): ("publish", "/conda/api/channels/{}/packages", 422),
    ("GET", "/conda/api/paginated/channels/{channel}/packages"): ("read", "/conda/api/paginated/channels/{}/packages", 200),
    ("POST", "/conda/api/channels/{channel}/packages/copy"): ("publish", "/conda/api/channels/{}/packages/copy", 422),
    ("GET", "/conda/api/channels/{channel}/packages/{package}"): ("read", "/conda/api/channels/{}/packages/acme", 404),
    ("DELETE", "/conda/api/channels/{channel}/packages/{package}"): ("remove", "/conda/api/channels/{}/packages/acme", 404),
    ("GET", "/conda/api/channels/{channel}/packages/{package}/members"): ("publish", "/conda/api/channels/{}/packages/acme/members", 404),
    ("POST", "/conda/api/channels/{channel}/packages/{package}/members"): ("publish", "/conda/api/channels/{}/packages/acme/members", 422),
    ("GET", "/conda/api/channels/{channel}/packages/{package}/versions"): ("read", "/conda/api/channels/{}/packages/acme/versions", 404),
    ("GET", "/conda/api/paginated/channels/{channel}/packages/{package}/versions"):
        ("read", "/conda/api/paginated/channels/{}/packages/acme/versions", 404),
    ("GET", "/conda/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}"):
        ("read", "/conda/api/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda", 404),
    ("GET", "/conda/metrics/channels/{channel}"): ("read", "/conda/metrics/channels/{}", 200),
    ("GET", "/conda/metrics/channels/{channel}/packages/{package}/versions/{subdir}/{file}"):
        ("read", "/conda/metrics/channels/{}/packages/acme/versions/noarch/acme-1.0-0.conda", 404),
}

# What each role may, and which role each caller has on a channel.
ROLES = {"Reader": {"read"}, "Publisher": {"read", "publish"}, "Maintainer": {"read", "publish", "remove"},
         "Owner": {"read", "publish", "remove", "administer"}}
VISIBILITIES = ("public", "internal", "private")
GRANTS = [{"subjects": [f"user:{role.lower()}"], "role": role} for role in ROLES]
CALLERS = ("anonymous", "stranger", *(role.lower() for role in ROLES), "admin", "narrow-admin", "reading-owner")
HIDDEN = "there is no such thing here for you"


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {f"{kind}-{name}": {"format": kind, "name": name, "visibility": name, "permissions": GRANTS}
            for kind in ("pypi", "conda") for name in VISIBILITIES}


@pytest.fixture(scope="module")
def callers(server: Dev) -> dict[str, tuple[str, str] | None]:
    """Credentials by the kind of caller."""
    for name in ("stranger", *(role.lower() for role in ROLES)):
        server.user(name)
    for name in VISIBILITIES:
        server.publish(wheel("acme"), channel=name)
    server.user("other-admin")
    tokens = {name: server.token(name) for name in ("stranger", *(role.lower() for role in ROLES))}
    return {"anonymous": None, **tokens, "admin": server.admin,
            "narrow-admin": server.token("owner", "--channel", "pypi/elsewhere"),
            "reading-owner": server.token("owner", "--role", "Reader")}


def may(caller: str, visibility: str, action: str) -> bool:
    """Whether a caller may do something to a channel, by the rules and not by the code."""
    if caller == "admin":
        return True
    actions: set[str] = set()
    if visibility == "public":
        actions |= {"read"}
    # A token that is narrowed to somewhere else is worth no more here than none.
    if caller in ("anonymous", "narrow-admin"):
        return action in actions
    if visibility == "internal":
        actions |= {"read"}
    if caller == "reading-owner":
        return action in actions | {"read"}
    actions |= next((may for role, may in ROLES.items() if role.lower() == caller), set())
    return action in actions


def test_every_route_is_in_the_table(server: Dev):
    printed = granary(server.config, "routes")
    assert printed.returncode == 0, printed.stderr
    routes = {tuple(line.split("\t")[:2]): line.split("\t")[2] for line in printed.stdout.splitlines()}
    assert routes.keys() == ROUTES.keys()
    for route, access in routes.items():
        assert access.split(": ")[-1 if access.startswith("channel") else 0] == ROUTES[route][0], route


@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_gets_what_the_table_says(server: Dev, callers: dict, caller: str):
    for ((method, pattern), (needs, path, status)), visibility in itertools.product(ROUTES.items(), (*VISIBILITIES, "absent")):
        is_of_channel = "{channel" in pattern
        if not is_of_channel and visibility != "public":
            continue
        answer = server.request(method, path.format(visibility) if is_of_channel else path, callers[caller])
        told = f"{method} {answer.request.url} as {caller}: {answer.status_code} {answer.text[:200]}"
        if is_of_channel:
            allowed = visibility != "absent" and may(caller, visibility, needs)
            readable = visibility != "absent" and may(caller, visibility, "read")
        else:
            allowed = needs == NOBODY or caller == "admin" or (needs == SOMEBODY and caller != "anonymous")
            readable = True
        if allowed:
            assert answer.status_code == status and HIDDEN not in answer.text, told
        elif caller == "anonymous":
            assert answer.status_code == 401, told
        elif readable:
            assert answer.status_code == 403, told
        else:
            assert answer.status_code == 404 and HIDDEN in answer.text, told
