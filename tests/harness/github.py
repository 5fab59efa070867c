"""What GitHub's documentation says of its OAuth and REST API, as far as logins ask it: authorization codes with PKCE, the user, and
their organizations and teams in pages."""

import hashlib
import uuid
from urllib.parse import urlencode

from .issuer import Answer, Web, encoded


class GitHub(Web):
    """Logs everybody in as `user`, without asking."""

    PAGE = 2

    def __init__(self):
        self.client_id, self.client_secret = "Iv1.granary", uuid.uuid4().hex
        self.user = {"id": 583231, "login": "octo-cat"}
        self.organizations: list[str] = ["acme"]
        self.teams: list[tuple[str, str]] = []
        # Lists that are withheld, as where an organization demands single sign-on.
        self.withheld: set[str] = set()
        self.logins: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        super().__init__()

    def answer(self, method, path, query, form, headers):
        if (method, path) == ("GET", "/login/oauth/authorize"):
            assert query["client_id"] == self.client_id and "read:org" in query["scope"].split(), query
            code = uuid.uuid4().hex
            self.logins[code] = query
            return Answer(b"", 302, {"Location": f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"})
        if (method, path) == ("POST", "/login/oauth/access_token"):
            return self.redeem(form, headers)
        if method == "GET" and path.startswith("/api/v3/"):
            return self.api(path.removeprefix("/api/v3"), query, headers)
        return None

    def redeem(self, form: dict[str, str], headers: dict[str, str]) -> Answer:
        assert headers["accept"] == "application/json", "a form would be answered"
        login = self.logins.pop(form.get("code", ""), None)
        challenge = encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        # Also what is wrong is answered with 200.
        if (form["client_id"], form["client_secret"]) != (self.client_id, self.client_secret):
            return Answer({"error": "incorrect_client_credentials", "error_description": "…", "error_uri": "…"})
        if login is None or challenge != login["code_challenge"]:
            return Answer({"error": "bad_verification_code", "error_description": "…", "error_uri": "…"})
        token = f"gho_{uuid.uuid4().hex}"
        self.tokens.add(token)
        return Answer({"access_token": token, "scope": "read:org", "token_type": "bearer"})

    def api(self, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer | None:
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Answer({"message": "Bad credentials"}, 401)
        if not headers.get("user-agent"):
            return Answer({"message": "Request forbidden by administrative rules"}, 403)
        assert headers["accept"] == "application/vnd.github+json" and headers["x-github-api-version"] == "2022-11-28"
        if path in self.withheld:
            return Answer({"message": "Resource protected by organization SAML enforcement."}, 403, {"X-GitHub-SSO": "required; url=https://sso.example"})
        if path == "/user":
            return Answer(self.user)
        lists = {"/user/orgs": [{"login": name, "id": 1} for name in self.organizations],
                 "/user/teams": [{"slug": slug, "name": slug.title(), "organization": {"login": name}} for name, slug in self.teams]}
        if path not in lists:
            return None
        page, rows = int(query.get("page", 1)), lists[path]
        start = (page - 1) * self.PAGE
        link = lambda number, relation: f'<{self.url}/api/v3{path}?page={number}>; rel="{relation}"'
        links = [link(page - 1, "prev")] if page > 1 else []
        if start + self.PAGE < len(rows):
            links.append(link(page + 1, "next"))
        return Answer(rows[start:start + self.PAGE], headers={"Link": ", ".join(links)} if links else None)
