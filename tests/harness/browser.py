"""A browser, as far as logins need one: cookies, redirects, forms. It does what a person would, or stops where an attacker would."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import requests


class Page(HTMLParser):
    """The forms and the links of an answer."""

    def __init__(self, answer: requests.Response):
        super().__init__()
        self.url, self.forms, self.links = answer.url, [], []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.forms.append({"method": found.get("method", "get").lower(), "action": urljoin(self.url, found.get("action", "")), "fields": {}})
        elif tag in ("input", "button") and found.get("name") and self.forms:
            self.forms[-1]["fields"][found["name"]] = found.get("value") or ""
        elif tag == "a" and "href" in found:
            self.links.append(urljoin(self.url, found["href"]))


def origin(url: str) -> str:
    """Scheme and host of a URL."""
    return "/".join(url.split("/")[:3])


class Browser:
    """One person's browser: a jar of cookies."""

    def __init__(self, certificate: Path | None = None):
        self.session = requests.Session()
        self.session.trust_env = False
        if certificate is not None:
            self.session.verify = str(certificate)

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value for cookie in self.session.cookies}

    def request(self, method: str, url: str, **options) -> requests.Response:
        """One request, with the cookies; no redirect is followed."""
        return self.session.request(method, url, allow_redirects=False, timeout=30, **options)

    def get(self, url: str, **options) -> requests.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options) -> requests.Response:
        return self.request("POST", url, **options)

    def go(self, url: str, *, stop: str | None = None) -> requests.Response:
        """Opens a URL and follows redirects, but none to a URL that holds `stop`: then the answer is the redirect."""
        return self._follow(self.get(url), stop)

    def submit(self, answer: requests.Response, index: int = 0, *, stop: str | None = None, drop: tuple[str, ...] = (), **fields: str) -> requests.Response:
        """Fills in a form of a page, without the fields of `drop`, and sends it as browsers do."""
        form = Page(answer).forms[index]
        filled = {name: value for name, value in {**form["fields"], **fields}.items() if name not in drop}
        if form["method"] == "post":
            sent = self.post(form["action"], data=filled, headers={"Origin": origin(answer.url), "Sec-Fetch-Site": "same-origin"})
        else:
            sent = self.get(form["action"], params=filled)
        return self._follow(sent, stop)

    def _follow(self, answer: requests.Response, stop: str | None) -> requests.Response:
        for _ in range(20):
            if not answer.is_redirect or (stop is not None and stop in answer.headers["Location"]):
                return answer
            answer = self.get(urljoin(answer.url, answer.headers["Location"]))
        raise AssertionError(f"redirects without end at {answer.url}")
