"""The pages of conda channels: what people see who look around."""

import html.parser
from urllib.parse import urljoin

import pytest
import requests

from tests.harness.conda_oracle import upload_all
from tests.harness.conda_packages import Package
from tests.harness.server import Dev


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    grants = [{"subjects": ["user:ada"], "role": "Reader", "packages": ["acme-*"]}]
    return {"main": {"format": "conda", "visibility": "public", "title": "Tools & <more>"},
            "many": {"format": "conda", "visibility": "public"},
            "private": {"format": "conda", "visibility": "private", "permissions": grants}}


class Links(html.parser.HTMLParser):
    """What a page links to, by the texts."""

    def __init__(self, text: str):
        super().__init__()
        self.links: dict[str, str] = {}
        self._href = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "form")
        self._href = dict(attrs).get("href") or "" if tag == "a" else self._href

    def handle_endtag(self, tag: str) -> None:
        self._href = "" if tag == "a" else self._href

    def handle_data(self, data: str) -> None:
        if self._href:
            self.links[data] = self._href


def page(server: Dev, path: str, auth: tuple[str, str] | None = None) -> requests.Response:
    answer = server.get(f"/conda/get/{path}", auth)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8" and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    return answer


def test_a_channel_is_browsed_down_to_a_package(server: Dev):
    package = Package("acme-lib", subdir="linux-64", version="1!1.0+a", info_files={"info/about.json": b'{"summary": "<script>alert(1)</script>"}'})
    upload_all(server, "main", [package])
    for path in ("main", "main/linux-64"):
        answer = server.get(f"/conda/get/{path}", allow_redirects=False)
        assert answer.status_code == 301 and urljoin(answer.url, answer.headers["Location"]) == f"{server.url}/conda/get/{path}/"
        assert page(server, f"{path}/index.html").text == page(server, f"{path}/").text
    first = page(server, "main/")
    assert "Tools &amp; &lt;more&gt;" in first.text and "<script>" not in first.text and "&lt;script&gt;" in first.text
    assert f"conda install --channel {server.url}/conda/get/main" in first.text
    links = Links(first.text).links
    assert server.get(urljoin(first.url, links["channeldata.json"])).status_code == 200
    second = page(server, urljoin("main/", links["linux-64"]))
    file = server.get(urljoin(second.url, Links(second.text).links[package.filename]))
    assert file.content == package.content()
    assert server.get("/conda/get/main/", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    for path in ("main/osx-64/", "main/nothing/", "nothing/"):
        assert server.get(f"/conda/get/{path}").status_code in (401, 404), path


def test_long_lists_have_pages(server: Dev):
    upload_all(server, "many", [Package(f"acme-{number:03}") for number in range(205)])
    for path, count in (("many/", 205), ("many/noarch/", 205)):
        seen, at = 0, path
        for _ in range(2):
            answer = page(server, at)
            seen += answer.text.count('<th scope="row">')
            following = Links(answer.text).links.get("Next page")
            at = f"{path}{following}"
        assert (seen, following) == (count, None)


def test_readers_see_what_they_may_read(server: Dev):
    server.user("ada")
    upload_all(server, "private", [Package("acme-tool"), Package("secret"), Package("secret", subdir="linux-64")])
    ada = server.token("ada")
    for path in ("private/", "private/noarch/"):
        text = page(server, path, ada).text
        assert "acme-tool" in text and "secret" not in text and "linux-64" not in text
        assert server.get(f"/conda/get/{path}").status_code == 401
    assert server.get("/conda/get/private/linux-64/", ada).status_code == 404
