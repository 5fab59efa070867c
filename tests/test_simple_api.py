"""The simple index and the files behind it, as HTTP: negotiation, conditional requests, ranges, encodings."""

import gzip
import hashlib
import re
import zlib
from email.parser import BytesParser
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
import zstandard

from tests.harness.dists import Dist, core_metadata, normalize, sdist, wheel
from tests.harness.server import HTML_INDEX, JSON_INDEX, PUBLIC, Dev

PIP_ACCEPT = f"{JSON_INDEX}, {HTML_INDEX}; q=0.1, text/html; q=0.01"
UV_ACCEPT = f"{JSON_INDEX}, {HTML_INDEX};q=0.2, text/html;q=0.01"
INDEX_PATHS = ["+simple/", "+simple/{project}/"]


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {"dev": PUBLIC, "ada/index": {"format": "pypi", "visibility": "public", "name": "ada/index"}}


@pytest.fixture(scope="module")
def sample(server: Dev) -> Dist:
    """A wheel beside others in its project."""
    dist = wheel("Acme.Sample", "2.0", requires_python=">=3.8,<9", payload=bytes(range(256)) * 40)
    server.publish(dist, wheel("acme-sample", "1.0"), sdist("acme-sample", "1.0"), wheel("acme-other", "1.0"))
    return dist


class Links(HTMLParser):
    """The anchors and the meta tags of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.anchors: dict[str, dict[str, str | None]] = {}
        self.meta: dict[str, str | None] = {}
        self._open: dict[str, str | None] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self._open = dict(attrs)
        elif tag == "meta" and "name" in dict(attrs):
            self.meta[dict(attrs)["name"]] = dict(attrs).get("content")

    def handle_data(self, data):
        if self._open is not None:
            self.anchors[data.strip()] = self._open
            self._open = None


class TestNegotiation:
    @pytest.mark.parametrize("path", INDEX_PATHS)
    @pytest.mark.parametrize(("accept", "content_type"), [
        (None, "text/html"),
        ("*/*", None),
        ("text/html", "text/html"),
        (HTML_INDEX, HTML_INDEX),
        (JSON_INDEX, JSON_INDEX),
        ("application/vnd.pypi.simple.latest+json", JSON_INDEX),
        ("application/vnd.pypi.simple.latest+html", HTML_INDEX),
        (PIP_ACCEPT, JSON_INDEX),
        (UV_ACCEPT, JSON_INDEX),
        (f"{JSON_INDEX};q=0.1, text/html;q=0.9", "text/html"),
        (f"text/html;q=0, {JSON_INDEX};q=0.5, */*;q=0", JSON_INDEX),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("TEXT/HTML", "text/html"),
    ])
    def test_accept(self, server: Dev, sample: Dist, path: str, accept: str | None, content_type: str | None):
        answer = server.get(f"/pypi/dev/{path.format(project='acme-sample')}", headers={"Accept": accept})
        assert answer.status_code == 200
        got = answer.headers["Content-Type"].partition(";")[0]
        assert got == content_type if content_type else got in ("text/html", JSON_INDEX, HTML_INDEX)
        assert "accept" in answer.headers["Vary"].lower()

    @pytest.mark.parametrize("path", INDEX_PATHS)
    @pytest.mark.parametrize("accept", ["application/json", "image/png", "application/vnd.pypi.simple.v2+json", f"{JSON_INDEX};q=0"])
    def test_what_nobody_can_give_is_not_acceptable(self, server: Dev, sample: Dist, path: str, accept: str):
        answer = server.get(f"/pypi/dev/{path.format(project='acme-sample')}", headers={"Accept": accept})
        assert answer.status_code == 406
        assert JSON_INDEX in answer.text


class TestContent:
    def test_project_as_json(self, server: Dev, sample: Dist):
        index = server.index("acme-sample")
        assert index["name"] == "acme-sample"
        assert tuple(map(int, index["meta"]["api-version"].split("."))) >= (1, 1)
        assert set(index["versions"]) == {"1.0", "2.0"}
        files = {file["filename"]: file for file in index["files"]}
        assert set(files) == {sample.filename, "acme_sample-1.0-py3-none-any.whl", "acme_sample-1.0.tar.gz"}
        file = files[sample.filename]
        assert file["hashes"]["sha256"] == sample.sha256
        assert file["size"] == len(sample.content)
        assert file["requires-python"] == ">=3.8,<9"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", file["upload-time"])
        assert file.get("yanked", False) is False
        digest = {"sha256": hashlib.sha256(sample.metadata).hexdigest()}
        assert file["core-metadata"] == digest
        assert file["dist-info-metadata"] == digest
        assert not files["acme_sample-1.0.tar.gz"].get("core-metadata")

    def test_project_as_html(self, server: Dev, sample: Dist):
        page = server.get("/pypi/dev/+simple/acme-sample/", headers={"Accept": "text/html"})
        links = Links(page.text)
        assert links.meta["pypi:repository-version"].startswith("1.")
        anchor = links.anchors[sample.filename]
        assert anchor["href"].endswith(f"#sha256={sample.sha256}")
        assert anchor["data-requires-python"] == ">=3.8,<9"
        digest = f"sha256={hashlib.sha256(sample.metadata).hexdigest()}"
        assert anchor["data-core-metadata"] == anchor["data-dist-info-metadata"] == digest
        assert "data-yanked" not in anchor
        listed = {file["filename"]: file["url"] for file in server.index("acme-sample")["files"]}
        assert set(links.anchors) == set(listed)
        for name, each in links.anchors.items():
            assert urljoin(page.url, each["href"]).partition("#")[0] == urljoin(page.url, listed[name])

    def test_yanked_is_shown_with_its_reason(self, server: Dev, project: str):
        server.publish(wheel(project, "1.0"), wheel(project, "2.0"))
        server.yank(project, "2.0", 'it "leaks" <badly>')
        files = server.files(project)
        assert files[wheel(project, "2.0").filename]["yanked"] == 'it "leaks" <badly>'
        assert not files[wheel(project, "1.0").filename].get("yanked")
        page = Links(server.get(f"/pypi/dev/+simple/{project}/", headers={"Accept": "text/html"}).text)
        assert page.anchors[wheel(project, "2.0").filename]["data-yanked"] == 'it "leaks" <badly>'

    def test_project_list(self, server: Dev, sample: Dist):
        answer = server.get("/pypi/dev/+simple/", headers={"Accept": JSON_INDEX}).json()
        names = [project["name"] for project in answer["projects"]]
        # The names as their uploads wrote them, as the public index has it; links are in normal form.
        names = [normalize(name) for name in names]
        assert {"acme-sample", "acme-other"} <= set(names)
        assert len(names) == len(set(names))
        page = server.get("/pypi/dev/+simple/", headers={"Accept": "text/html"})
        links = Links(page.text)
        assert set(links.anchors) == set(names)
        for name in ("acme-sample", "acme-other"):
            assert server.get(urljoin(page.url, links.anchors[name]["href"]).removeprefix(server.url)).status_code == 200

    def test_metadata_file(self, server: Dev, sample: Dist):
        url = server.file_url("acme-sample", sample.filename)
        answer = server.session.get(f"{url}.metadata", timeout=10)
        assert answer.status_code == 200
        assert answer.content == sample.metadata

    def test_json_pages_of_project_and_version(self, server: Dev, sample: Dist):
        page = server.get("/pypi/dev/pypi/acme-sample/json").json()
        assert page["info"]["name"] in ("Acme.Sample", "acme-sample")
        assert page["info"]["version"] == "2.0"
        assert page["info"]["requires_python"] == ">=3.8,<9"
        assert set(page["releases"]) == {"1.0", "2.0"}
        [file] = page["urls"]
        assert file["filename"] == sample.filename
        assert file["digests"]["sha256"] == sample.sha256
        assert file["size"] == len(sample.content)
        assert file["packagetype"] == "bdist_wheel"
        assert server.session.get(urljoin(server.url, file["url"]), timeout=10).content == sample.content
        version = server.get("/pypi/dev/pypi/acme-sample/1.0/json").json()
        assert version["info"]["version"] == "1.0"
        assert {file["packagetype"] for file in version["urls"]} == {"bdist_wheel", "sdist"}
        assert server.get("/pypi/dev/pypi/acme-sample/9.9/json").status_code == 404
        assert server.get("/pypi/dev/pypi/acme-absent/json").status_code == 404

    def test_deleting_a_file_a_version_and_the_last_of_a_project(self, server: Dev, project: str):
        first, second, source = wheel(project, "1.0"), wheel(project, "2.0"), sdist(project, "2.0")
        server.publish(first, second, source)
        gone = server.file_url(project, source.filename)
        assert server.delete_file(project, source.filename).status_code < 300
        assert set(server.files(project)) == {first.filename, second.filename}
        assert server.session.get(gone, timeout=10).status_code in (404, 410)
        assert server.delete_release(project, "2.0").status_code < 300
        assert set(server.files(project)) == {first.filename}
        assert server.delete_release(project, "1.0").status_code < 300
        assert not server.files(project)
        assert project not in server.projects()


class TestPaths:
    @pytest.mark.parametrize("name", ["Acme.Sample", "ACME-SAMPLE", "acme_sample", "acme--sample", "Acme-._Sample"])
    def test_other_spellings_lead_to_the_normal_one(self, server: Dev, sample: Dist, name: str):
        answer = server.get(f"/pypi/dev/+simple/{name}/")
        assert answer.status_code in (301, 302, 307, 308)
        assert urljoin(answer.url, answer.headers["Location"]) == f"{server.url}/pypi/dev/+simple/acme-sample/"

    @pytest.mark.parametrize("path", ["+simple", "+simple/acme-sample", "simple", "simple/acme-sample"])
    def test_a_missing_slash_is_added(self, server: Dev, sample: Dist, path: str):
        answer = server.get(f"/pypi/dev/{path}")
        assert answer.status_code in (301, 302, 307, 308)
        assert urljoin(answer.url, answer.headers["Location"]) == f"{server.url}/pypi/dev/{path}/"

    def test_the_alias_gives_the_same_answers(self, server: Dev, sample: Dist):
        for path in INDEX_PATHS:
            path = path.format(project="acme-sample")
            answers = [server.get(f"/pypi/dev/{each}", headers={"Accept": JSON_INDEX}) for each in (path, path.lstrip("+"))]
            documents = []
            for answer in answers:
                document = answer.json()
                for file in document.get("files", []):
                    file["url"] = urljoin(answer.url, file["url"])
                documents.append(document)
            assert documents[0] == documents[1]
        assert server.get("/pypi/dev/simple/acme-absent/").status_code == 404

    @pytest.mark.parametrize("name", ["acme-absent", "-", "%C3%A9t%C3%A9", "a%00b", "a%2Fb", "x" * 300])
    def test_unknown_and_impossible_projects_are_not_there(self, server: Dev, sample: Dist, name: str):
        assert server.get(f"/pypi/dev/+simple/{name}/").status_code in (400, 404)

    def test_a_channel_of_two_segments(self, server: Dev):
        dist = wheel("acme-nested")
        server.publish(dist, channel="ada/index")
        assert server.download("acme-nested", dist.filename, channel="ada/index") == dist.content
        assert server.index("acme-nested") is None

    @pytest.mark.parametrize("path", ["+simple/", "+simple/acme-sample/"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_methods_that_an_index_has_not(self, server: Dev, sample: Dist, method: str, path: str):
        answer = server.request(method, f"/pypi/dev/{path}", server.admin)
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]


class TestConditional:
    @pytest.mark.parametrize("path", INDEX_PATHS)
    @pytest.mark.parametrize("accept", [JSON_INDEX, HTML_INDEX, "text/html"])
    def test_an_index_that_did_not_change_is_not_sent_again(self, server: Dev, project: str, path: str, accept: str):
        server.publish(wheel(project, "1.0"))
        path = f"/pypi/dev/{path.format(project=project)}"
        tag = server.get(path, headers={"Accept": accept}).headers["ETag"]
        assert tag.startswith('"')
        for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = server.get(path, headers={"Accept": accept, "If-None-Match": header})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["ETag"] == tag
        assert server.get(path, headers={"Accept": accept, "If-None-Match": '"other"'}).status_code == 200
        server.publish(wheel(project + "-new", "1.0"), wheel(project, "2.0"))
        answer = server.get(path, headers={"Accept": accept, "If-None-Match": tag})
        assert answer.status_code == 200
        assert answer.headers["ETag"] != tag

    def test_publishing_elsewhere_leaves_a_tag_alone(self, server: Dev, project: str):
        server.publish(wheel(project))
        tag = server.get(f"/pypi/dev/+simple/{project}/").headers["ETag"]
        server.publish(wheel(f"{project}-elsewhere"))
        assert server.get(f"/pypi/dev/+simple/{project}/").headers["ETag"] == tag

    def test_representations_have_tags_of_their_own(self, server: Dev, sample: Dist):
        tags = [server.get("/pypi/dev/+simple/acme-sample/", headers={"Accept": accept, "Accept-Encoding": encoding}).headers["ETag"]
                for accept in (JSON_INDEX, "text/html") for encoding in ("identity", "gzip", "zstd")]
        assert len(set(tags)) == len(tags)

    def test_files_too(self, server: Dev, sample: Dist):
        url = server.file_url("acme-sample", sample.filename)
        answer = server.session.get(url, timeout=10)
        tag = answer.headers["ETag"]
        assert "immutable" in answer.headers["Cache-Control"]
        again = server.session.get(url, headers={"If-None-Match": tag}, timeout=10)
        assert (again.status_code, again.content) == (304, b"")
        modified = answer.headers.get("Last-Modified")
        if modified:
            assert server.session.get(url, headers={"If-Modified-Since": modified}, timeout=10).status_code == 304


class TestHeadAndEncodings:
    @pytest.mark.parametrize("path", INDEX_PATHS)
    @pytest.mark.parametrize("accept", [JSON_INDEX, "text/html"])
    @pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
    def test_head_says_what_get_would(self, server: Dev, sample: Dist, path: str, accept: str, encoding: str):
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        path = f"/pypi/dev/{path.format(project='acme-sample')}"
        head, get = (server.request(method, path, headers=headers, stream=True) for method in ("HEAD", "GET"))
        assert head.status_code == get.status_code == 200
        body = get.raw.read(decode_content=False)
        assert int(head.headers["Content-Length"]) == int(get.headers["Content-Length"]) == len(body)
        for header in ("ETag", "Content-Type", "Vary"):
            assert head.headers[header] == get.headers[header]
        assert head.headers.get("Content-Encoding") == get.headers.get("Content-Encoding")
        assert head.raw.read() == b""

    @pytest.mark.parametrize("path", INDEX_PATHS)
    @pytest.mark.parametrize("accept", [JSON_INDEX, "text/html"])
    def test_every_encoding_holds_the_same(self, server: Dev, sample: Dist, path: str, accept: str):
        bodies = {}
        for encoding in ("identity", "gzip", "zstd"):
            answer = server.get(f"/pypi/dev/{path.format(project='acme-sample')}", stream=True,
                                headers={"Accept": accept, "Accept-Encoding": encoding})
            assert answer.headers.get("Content-Encoding", "identity") == encoding
            assert "accept-encoding" in answer.headers["Vary"].lower()
            bodies[encoding] = answer.raw.read(decode_content=False)
        member = zlib.decompressobj(31)
        assert member.decompress(bodies["gzip"]) == bodies["identity"]
        assert member.eof and not member.unused_data, "one gzip member, and nothing after it"
        assert gzip.decompress(bodies["gzip"]) == bodies["identity"]
        frame = zstandard.ZstdDecompressor().decompressobj()
        assert frame.decompress(bodies["zstd"]) == bodies["identity"]
        assert frame.eof and not frame.unused_data, "one zstd frame, and nothing after it"

    @pytest.mark.parametrize(("accepted", "expected"), [
        (None, {None}), ("", {None}), ("br", {None}), ("gzip;q=0", {None}), ("*", {None, "gzip", "zstd"}),
        ("gzip, deflate", {"gzip"}), ("gzip, deflate, br, zstd", {"gzip", "zstd"}), ("zstd;q=0, gzip", {"gzip"}),
        ("GZIP", {"gzip"}),
    ])
    def test_the_encoding_is_one_that_was_asked_for(self, server: Dev, sample: Dist, accepted: str | None, expected: set):
        answer = server.get("/pypi/dev/+simple/acme-sample/", headers={"Accept-Encoding": accepted}, stream=True)
        assert answer.headers.get("Content-Encoding") in expected

    def test_head_of_a_file(self, server: Dev, sample: Dist):
        url = server.file_url("acme-sample", sample.filename)
        answer = server.session.head(url, headers={"Accept-Encoding": "gzip"}, timeout=10)
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(sample.content)
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert "Content-Encoding" not in answer.headers
        disposition = answer.headers["Content-Disposition"]
        assert disposition.startswith("attachment") and sample.filename in disposition


class TestRanges:
    @pytest.fixture
    def url(self, server: Dev, sample: Dist) -> str:
        return server.file_url("acme-sample", sample.filename)

    @pytest.mark.parametrize(("asked", "start", "end"), [
        ("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=100-199", 100, 200), ("bytes=50-", 50, None),
        ("bytes=-70", -70, None), ("bytes=10-999999999", 10, None), ("bytes=-999999999", 0, None),
    ])
    def test_one(self, server: Dev, sample: Dist, url: str, asked: str, start: int, end: int | None):
        answer = server.session.get(url, headers={"Range": asked}, timeout=10)
        wanted = sample.content[start:end]
        first = start if start >= 0 else len(sample.content) + start
        assert answer.status_code == 206
        assert answer.content == wanted
        assert int(answer.headers["Content-Length"]) == len(wanted)
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(sample.content)}"

    def test_several(self, server: Dev, sample: Dist, url: str):
        answer = server.session.get(url, headers={"Range": "bytes=0-9, 100-119, -5"}, timeout=10)
        assert answer.status_code == 206
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        message = BytesParser().parsebytes(b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\r\n\r\n" + answer.content)
        assert message.get_content_type() == "multipart/byteranges"
        size = len(sample.content)
        assert {part["Content-Range"] for part in message.get_payload()} == {f"bytes 0-9/{size}", f"bytes 100-119/{size}", f"bytes {size - 5}-{size - 1}/{size}"}
        boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        bodies = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in answer.content.split(b"--" + boundary)[1:-1]]
        assert bodies == [sample.content[:10], sample.content[100:120], sample.content[-5:]]

    @pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
    def test_unsatisfiable(self, server: Dev, sample: Dist, url: str, asked: str):
        answer = server.session.get(url, headers={"Range": asked}, timeout=10)
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(sample.content)}"

    @pytest.mark.parametrize("asked", ["bytes=9-1", "bytes=a-b", "bytes", "lines=1-2", "bytes=-", "bytes=1-2-3", "bytes=18446744073709551616-"])
    def test_nonsense_is_ignored(self, server: Dev, sample: Dist, url: str, asked: str):
        answer = server.session.get(url, headers={"Range": asked}, timeout=10)
        if answer.status_code == 416:
            assert asked.endswith("6-")  # a number too large is also one past the end
        else:
            assert (answer.status_code, answer.content) == (200, sample.content)

    def test_a_thousand_overlapping_ones_do_not_multiply_the_file(self, server: Dev, sample: Dist, url: str):
        asked = "bytes=" + ",".join(["0-"] * 1000)
        answer = server.session.get(url, headers={"Range": asked}, timeout=10)
        assert answer.status_code in (200, 206, 400, 416)
        assert len(answer.content) <= 2 * len(sample.content)

    def test_if_range(self, server: Dev, sample: Dist, url: str):
        tag = server.session.head(url, timeout=10).headers["ETag"]
        for condition, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200)):
            answer = server.session.get(url, headers={"Range": "bytes=0-9", "If-Range": condition}, timeout=10)
            assert answer.status_code == status, condition
            assert answer.content == (sample.content[:10] if status == 206 else sample.content)

    def test_head_ignores_them(self, server: Dev, sample: Dist, url: str):
        answer = server.session.head(url, headers={"Range": "bytes=0-9"}, timeout=10)
        assert answer.status_code in (200, 206)

    def test_a_reader_of_zips_gets_at_the_metadata(self, server: Dev, project: str):
        dist = wheel(project, metadata=core_metadata(project, "1.0", requires=("acme-x",)), payload=b"p" * 200_000, stored=True)
        server.publish(dist)
        url = server.file_url(project, dist.filename)
        tail = server.session.get(url, headers={"Range": "bytes=-4000"}, timeout=10).content
        directory = int.from_bytes(tail[tail.rindex(b"PK\x05\x06") + 16:][:4], "little")
        start = dist.content.index(b"Metadata-Version")
        part = server.session.get(url, headers={"Range": f"bytes={start}-{start + 19}"}, timeout=10).content
        assert directory < len(dist.content) and part == dist.content[start:start + 20]
