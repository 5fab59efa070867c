"""Whatever is wrong with an upload or a request: a clear 4xx or a closed connection, nothing listed, and the server well."""

import io
import socket
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.dists import (Dist, core_metadata, file_stem, sdist, sdist_entries, tar_archive, wheel, wheel_entries,
                                 zip_archive)
from tests.harness.lifetime import fresh_schema, watched
from tests.harness.postgres import Postgres
from tests.harness.processes import peak_resident, reset_peak, resident
from tests.harness.registry import Registry, store_of
from tests.harness.server import PUBLIC, Dev, Server
from tests.harness.wire import (BOUNDARY, MULTIPART, Closed, Connection, basic, exchange, form, multipart, part)

MIB = 1 << 20


@pytest.fixture(scope="module")
def channels() -> dict[str, dict]:
    return {"dev": PUBLIC, "small": {**PUBLIC, "limits": {"maxUploadSize": "1Mi"}}, "volatile": {**PUBLIC, "pypi": {"allowOverwrite": True}}}


@pytest.fixture(autouse=True)
def still_well(server: Dev) -> Iterator[None]:
    """After each test the same process takes an upload and gives it back."""
    process = server.pid
    yield
    assert server.pid == process and server.process.poll() is None
    dist = wheel("acme-still-well", f"1.{time.time_ns()}")
    server.publish(dist)
    assert server.download("acme-still-well", dist.filename) == dist.content
    assert server.managed("livez").status_code == server.managed("readyz").status_code == 200


def upload_headers(server: Server, **headers: str) -> dict[str, str | bytes]:
    """The headers of an upload, for requests made by hand; `_` in a name stands for `-`."""
    return {"Authorization": basic(*server.admin), "Content-Type": MULTIPART,
            **{name.replace("_", "-"): value for name, value in headers.items()}}


def assert_nothing_of(server: Server, name: str, channel: str = "dev") -> None:
    assert server.index(name, channel=channel) is None
    assert name not in server.projects(channel=channel)


def assert_refused(server: Dev, project: str, dist: Dist, status: int = 400, **fields: str) -> str:
    """The upload is refused with a message that fits a line; nothing is listed. Returns the message."""
    answer = server.upload(dist, **fields)
    assert answer.status_code == status, f"{answer.status_code} {answer.reason}: {answer.text}"
    assert answer.text.strip(), "the refusal says why"
    assert "panicked" not in answer.text and "/src/" not in answer.text
    assert_nothing_of(server, project)
    return answer.text


def with_entries(project: str, change: Callable[[list], list]) -> Dist:
    """A wheel whose list of entries was changed."""
    return wheel(project, entries=change(wheel_entries(project, "1.0", core_metadata(project, "1.0"))))


class TestForm:
    @pytest.mark.parametrize("algorithm", ["sha256_digest", "blake2_256_digest", "md5_digest"])
    def test_wrong_digests(self, server: Dev, project: str, algorithm: str):
        good = dict(wheel(project).fields())[algorithm]
        wrong = "0" * len(good)
        assert "digest" in assert_refused(server, project, wheel(project), **{algorithm: wrong}).lower()
        assert_refused(server, project, wheel(project), **{algorithm: "not hex"})
        assert_refused(server, project, wheel(project), **{algorithm: good[:-1]})

    @pytest.mark.parametrize("field", [":action", "name", "version", "filetype", "content", "metadata_version", "protocol_version"])
    def test_missing_fields(self, server: Dev, project: str, field: str):
        answer = server.post_form(form(wheel(project), without=(field,)))
        if field in ("metadata_version", "protocol_version"):
            assert answer.status_code in (200, 400)  # old clients leave them out
        else:
            assert answer.status_code == 400
            assert_nothing_of(server, project)

    @pytest.mark.parametrize("field", [":action", "name", "version", "filetype", "sha256_digest", "requires_python"])
    def test_duplicate_fields(self, server: Dev, project: str, field: str):
        dist = wheel(project, requires_python=">=3.8")
        parts = form(dist)
        first = dict(dist.fields())[field]
        other = {"name": "acme-other", "version": "9.9", "requires_python": ">=2"}.get(field, first)
        content = parts.pop()
        assert server.post_form([*parts, part(field, other), content]).status_code == 400
        assert server.post_form([*parts, content, part(field, other)]).status_code == 400
        assert_nothing_of(server, project)
        assert_nothing_of(server, "acme-other")

    def test_two_contents(self, server: Dev, project: str):
        parts = form(wheel(project))
        other = wheel(project, "2.0")
        assert server.post_form([*parts, part("content", other.content, other.filename)]).status_code == 400
        assert_nothing_of(server, project)

    def test_content_that_is_no_file(self, server: Dev, project: str):
        dist = wheel(project)
        assert server.post_form([*form(dist, without=("content",)), part("content", dist.content)]).status_code == 400
        assert_nothing_of(server, project)

    @pytest.mark.parametrize("fields", [
        {"action": "submit-nonsense"}, {"action": ""}, {"filetype": "bdist_wininst"}, {"filetype": "sdist"}, {"protocol_version": "2"},
        {"name": "acme-other"}, {"version": "1.1"}, {"version": "1.0.0.0.1"}, {"version": "not a version"}, {"version": ""}, {"name": ""},
        {"name": "-acme"}, {"name": "acme tool"}, {"name": "acmé"}, {"name": "a" * 5000}, {"name": "../acme"}, {"name": "a\x00b"},
        {"version": "1.0\r\nX-Evil: 1"}, {"name": "acme\r\nSet-Cookie: a=b"}, {"version": "9" * 5000},
        {"requires_python": "three"}, {"metadata_version": "99.0"}, {"metadata_version": "x"}, {"attestations": "{not json"},
    ], ids=lambda fields: next(iter(fields)) + "=" + next(iter(fields.values()))[:20].encode("unicode_escape").decode())
    def test_wrong_values(self, server: Dev, project: str, fields: dict[str, str]):
        answer = server.upload(wheel(project), **fields)
        assert answer.status_code == 400, answer.text
        assert "X-Evil" not in answer.headers and "Set-Cookie" not in answer.headers
        assert_nothing_of(server, project)

    def test_line_breaks_in_harmless_fields_stay_inside(self, server: Dev, project: str):
        dist = wheel(project)
        answer = server.upload(dist, summary="one\r\nX-Evil: 1\r\n\r\n<script>", description="a\x00b", author='"><script>alert(1)</script>')
        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            for path in (f"/pypi/dev/+simple/{project}/", f"/pypi/dev/pypi/{project}/json"):
                page = server.get(path)
                assert page.status_code == 200 and "X-Evil" not in page.headers
                assert "html" not in page.headers["Content-Type"] or "<script>" not in page.text

    def test_not_a_form_at_all(self, server: Dev, project: str):
        body = multipart(form(wheel(project)))
        for content_type, data, statuses in (
            ("application/json", b"{}", {400, 415}),
            ("application/x-www-form-urlencoded", b":action=file_upload", {400, 415}),
            ("multipart/form-data", body, {400, 415}),
            ("multipart/form-data; boundary=another", body, {400}),
            ("multipart/form-data; boundary=" + "x" * 300, body, {400}),
            (MULTIPART, b"", {400}),
            (MULTIPART, b"\x00" * 1000, {400}),
            (MULTIPART, f"--{BOUNDARY}--\r\n".encode(), {400}),
        ):
            answer = server.request("POST", "/pypi/dev/", server.admin, data=data, headers={"Content-Type": content_type})
            assert answer.status_code in statuses, (content_type, answer.status_code, answer.text)
        assert_nothing_of(server, project)

    def test_endless_fields_and_headers_of_parts(self, server: Dev, project: str):
        [*parts, content] = form(wheel(project))
        assert server.post_form([*parts, *[part(f"field{i}", "x") for i in range(20_000)], content]).status_code in (400, 413)
        assert server.post_form([*parts, part("description", "x" * (64 * MIB)), content]).status_code in (400, 413)
        assert server.post_form([*parts, part("n" * 100_000, "x"), content]).status_code in (400, 413)
        assert_nothing_of(server, project)

    def test_the_file_name_of_another_upload(self, server: Dev, project: str):
        dist = wheel(project)
        server.publish(dist)
        answer = server.upload(wheel(project, payload=b"other"))
        assert answer.status_code == 409
        assert dist.filename in answer.text
        assert server.download(project, dist.filename) == dist.content
        assert server.upload(dist).status_code < 300

    def test_a_channel_that_allows_it_takes_other_bytes(self, server: Dev, project: str):
        server.publish(wheel(project), channel="volatile")
        changed = wheel(project, payload=b"other")
        server.publish(changed, channel="volatile")
        assert server.download(project, changed.filename, channel="volatile") == changed.content

    def test_unknown_channels(self, server: Dev, project: str):
        for name in ("absent", "dev/absent", "..", "%2e%2e", "dev%2f..", "absent/x/y"):
            answer = exchange(server.url, "POST", f"/pypi/{name}/", upload_headers(server, Content_Length="4"), b"abcd")
            assert answer is None or 400 <= answer.status < 500


class TestFileNames:
    @pytest.mark.parametrize("filename", [
        "../{stem}-1.0-py3-none-any.whl", "..\\{stem}-1.0-py3-none-any.whl", "/etc/{stem}-1.0-py3-none-any.whl",
        "a/{stem}-1.0-py3-none-any.whl", "%2e%2e/{stem}-1.0-py3-none-any.whl", "%252f{stem}-1.0-py3-none-any.whl",
        "{stem}-1.0-py3-none-any.whl\x00.tar.gz", "{stem}\x00-1.0-py3-none-any.whl", "{stem}-1.0-py3-none-any.whl/", "..", ".", "",
        "C:{stem}-1.0-py3-none-any.whl", "{stem}-1.0-py3-none-any.exe", "{stem}-1.0.egg", "{stem}-1.0-py3-none-any.whl.asc", "{stem}-1.0.whl",
        "{stem}-1.0-py3-none.whl", "{stem}-1.1-py3-none-any.whl", "other-1.0-py3-none-any.whl", "{stem}-1.0-x1-py3-none-any.whl",
        "{stem}-1.0-py3-none-any-more-and-more.whl", "{stem}-1.0-py3-none-äny.whl", "{stem}-1.0-py3-none-any.whl.metadata",
        "{stem}-1.0-\udcc0\udcaf-none-any.whl", "{stem}-1.0-py3-none-<script>.whl", "-1.0-py3-none-any.whl",
    ], ids=lambda name: name.encode("unicode_escape").decode())
    def test_of_wheels(self, server: Dev, project: str, filename: str):
        assert_refused(server, project, wheel(project), filename=filename.format(stem=file_stem(project)))

    @pytest.mark.parametrize("filename", [
        "{stem}.tar.gz", "{stem}-1.1.tar.gz", "other-1.0.tar.gz", "{stem}-1.0.tar.bz2.exe", "{stem}-1.0.rpm", "../{stem}-1.0.tar.gz",
        "{stem}-1.0.tar.gz\x00", "{stem}-1.0", "{stem}-.tar.gz",
    ], ids=lambda name: name.encode("unicode_escape").decode())
    def test_of_source_distributions(self, server: Dev, project: str, filename: str):
        assert_refused(server, project, sdist(project), filename=filename.format(stem=file_stem(project)))

    def test_a_header_in_the_file_name(self, server: Dev, project: str):
        body = multipart(form(wheel(project), filename="FILENAME")).replace(b'"FILENAME"', b'"x.whl"\r\nX-Evil: "1"')
        answer = server.request("POST", "/pypi/dev/", server.admin, data=body, headers={"Content-Type": MULTIPART})
        assert answer.status_code == 400 and "X-Evil" not in answer.headers
        assert_nothing_of(server, project)


def bomb(size: int) -> bytes:
    """Zeros, a thousand times larger than they compress to."""
    return b"\0" * size


class TestWheels:
    @pytest.mark.parametrize("cut", [1, 10, 22, 100, -1])
    def test_truncated(self, server: Dev, project: str, cut: int):
        content = wheel(project).content
        assert_refused(server, project, wheel(project, content=content[:-cut] if cut > 0 else content[:50]))

    @pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 100, b"PK\x05\x06" + b"\0" * 18, b"\x1f\x8b\x08" + b"\0" * 50])
    def test_no_archive(self, server: Dev, project: str, content: bytes):
        assert_refused(server, project, wheel(project, content=content))

    @pytest.mark.parametrize("metadata", [
        b"", b"\n", b"no header at all", b"\xff\xfe\x00", b"Metadata-Version: 2.1\nName: {name}\n", b"Metadata-Version: 2.1\nVersion: 1.0\n",
        b"Name: {name}\nVersion: 1.0\n", b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n", b"Metadata-Version: 2.1\nName: {name}\nVersion: 1.1\n",
        b"Metadata-Version: 2.1\nName: {name}\nName: other\nVersion: 1.0\n", b"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nVersion: 2.0\n",
        b"Metadata-Version: 9.0\nName: {name}\nVersion: 1.0\n", b"Metadata-Version: 2.1\nName: {name}\nVersion: one\n",
        b"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: snake\n",
    ], ids=range(14))
    def test_bad_metadata(self, server: Dev, project: str, metadata: bytes):
        assert_refused(server, project, wheel(project, metadata=metadata.replace(b"{name}", project.encode())))

    def test_metadata_that_disagrees_with_the_form_about_python(self, server: Dev, project: str):
        answer = server.upload(wheel(project, requires_python=">=3.8"), requires_python=">=2")
        if answer.status_code < 300:  # or the file's own word counts
            assert server.files(project)[wheel(project).filename]["requires-python"] == ">=3.8"
        else:
            assert answer.status_code == 400

    def test_no_metadata(self, server: Dev, project: str):
        assert_refused(server, project, with_entries(project, lambda entries: [each for each in entries if "METADATA" not in each[0]]))

    def test_no_dist_info(self, server: Dev, project: str):
        assert_refused(server, project, with_entries(project, lambda entries: entries[:1]))

    def test_two_dist_infos(self, server: Dev, project: str):
        other = core_metadata("other", "1.0")
        assert_refused(server, project, with_entries(project, lambda entries: [*entries, ("other-1.0.dist-info/METADATA", other)]))

    def test_two_metadatas(self, server: Dev, project: str):
        name = f"{file_stem(project)}-1.0.dist-info/METADATA"
        with pytest.warns(UserWarning, match="Duplicate name"):
            dist = with_entries(project, lambda entries: [*entries, (name, core_metadata(project, "1.0", extra="X: y\n"))])
        assert_refused(server, project, dist)

    def test_metadata_only_in_a_folder_below(self, server: Dev, project: str):
        assert_refused(server, project, with_entries(project, lambda entries: [(f"inner/{name}", content) for name, content in entries]))

    @pytest.mark.parametrize("path", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:\\evil.py", "a\x00b.py", "a//../../b"])
    def test_traversal(self, server: Dev, project: str, path: str):
        assert_refused(server, project, with_entries(project, lambda entries: [(path, b"evil"), *entries]))

    def test_bomb_in_the_metadata(self, server: Dev, project: str):
        reset_peak(server.pid)
        before = resident(server.pid)
        metadata = core_metadata(project, "1.0") + bomb(400 * MIB)
        assert_refused(server, project, wheel(project, metadata=metadata))
        assert peak_resident(server.pid) - before < 96 * MIB

    def test_ten_thousand_entries_are_no_burden(self, server: Dev, project: str):
        def many(entries: list) -> list:
            *others, (record, listed) = entries
            extra = [f"x/{i}.py" for i in range(10_000)]
            return [*((path, b"") for path in extra), *others, (record, "".join(f"{path},,\n" for path in extra).encode() + listed)]
        dist = with_entries(project, many)
        started = time.monotonic()
        assert server.upload(dist).status_code in (200, 201)
        assert time.monotonic() - started < 5

    def test_size_of_the_metadata_is_a_lie(self, server: Dev, project: str):
        content = bytearray(wheel(project).content)
        for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
            at = -1
            while (at := content.find(signature, at + 1)) >= 0:
                content[at + offset:at + offset + 4] = struct.pack("<I", 5)
        assert_refused(server, project, wheel(project, content=bytes(content)))

    def test_two_readers_disagree_about_a_name(self, server: Dev, project: str):
        dist = wheel(project)
        at = dist.content.index(b".dist-info/METADATA")  # in the local header, which comes before the directory
        changed = dist.content[:at] + b".dist-info/METADATB" + dist.content[at + 19:]
        assert_refused(server, project, wheel(project, content=changed))

    def test_two_readers_disagree_where_the_directory_is(self, server: Dev, project: str):
        decoy = wheel("acme-decoy").content
        assert_refused(server, project, wheel(project, content=decoy + wheel(project).content))

    def test_a_second_end_in_the_comment(self, server: Dev, project: str):
        buffer = io.BytesIO(wheel(project).content)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = wheel("acme-decoy").content
        assert_refused(server, project, wheel(project, content=buffer.getvalue()))

    def test_bytes_after_the_end(self, server: Dev, project: str):
        assert_refused(server, project, wheel(project, content=wheel(project).content + b"trailing"))

    def test_an_entry_between_the_lines(self, server: Dev, project: str):
        """A local entry that the directory does not name: a streaming reader would see it."""
        good = wheel(project).content
        ghost = zip_archive([("ghost.py", b"evil")], zipfile.ZIP_STORED)
        ghost = ghost[:ghost.index(b"PK\x01\x02")]
        directory = good.index(b"PK\x01\x02")
        end = good.index(b"PK\x05\x06")
        moved = struct.pack("<I", directory + len(ghost))
        content = good[:directory] + ghost + good[directory:end + 16] + moved + good[end + 20:]
        assert_refused(server, project, wheel(project, content=content))

    def test_encrypted_entries(self, server: Dev, project: str):
        content = bytearray(wheel(project).content)
        for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            at = -1
            while (at := content.find(signature, at + 1)) >= 0:
                content[at + offset] |= 1
        assert_refused(server, project, wheel(project, content=bytes(content)))

    def test_metadata_with_a_wrong_checksum(self, server: Dev, project: str):
        dist = wheel(project, stored=True)
        assert_refused(server, project, wheel(project, content=dist.content.replace(b"Summary: made by", b"Summary: mAde by")))


def raw_tar(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


class TestSourceDistributions:
    @pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"not a gzip" * 50, zip_archive([("a", b"b")]), tar_archive([], ""), tar_archive([])],
                             ids=["nothing", "two bytes", "text", "zip", "plain tar", "empty tar"])
    def test_no_archive(self, server: Dev, project: str, content: bytes):
        assert_refused(server, project, sdist(project, content=content))

    def test_truncated(self, server: Dev, project: str):
        content = sdist(project, payload=bytes(range(256)) * 100).content
        assert_refused(server, project, sdist(project, content=content[:-9]))
        assert_refused(server, project, sdist(project, content=content[:200]))

    @pytest.mark.parametrize("metadata", [b"", b"nothing", b"Metadata-Version: 2.2\nName: other\nVersion: 1.0\n",
                                          b"Metadata-Version: 2.2\nName: {name}\nVersion: 1.1\n"], ids=range(4))
    def test_bad_metadata(self, server: Dev, project: str, metadata: bytes):
        assert_refused(server, project, sdist(project, metadata=metadata.replace(b"{name}", project.encode())))

    def test_no_metadata(self, server: Dev, project: str):
        entries = sdist_entries(project, "1.0", core_metadata(project, "1.0"))
        assert_refused(server, project, sdist(project, entries=entries[1:]))

    @pytest.mark.parametrize("path", ["../evil.py", "/etc/evil.py", "{top}/../../evil.py"])
    def test_traversal(self, server: Dev, project: str, path: str):
        entries = sdist_entries(project, "1.0", core_metadata(project, "1.0"))
        path = path.format(top=f"{file_stem(project)}-1.0")
        assert_refused(server, project, sdist(project, entries=[*entries, (path, b"evil")]))

    def test_another_top_folder(self, server: Dev, project: str):
        entries = sdist_entries("other", "1.0", core_metadata(project, "1.0"))
        assert_refused(server, project, sdist(project, entries=entries))

    def test_a_link_out_of_the_archive(self, server: Dev, project: str):
        top = f"{file_stem(project)}-1.0"
        link = tarfile.TarInfo(f"{top}/PKG-INFO")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
        assert_refused(server, project, sdist(project, content=raw_tar(link)))

    def test_bomb(self, server: Dev, project: str):
        reset_peak(server.pid)
        before = resident(server.pid)
        metadata = core_metadata(project, "1.0") + bomb(400 * MIB)
        assert_refused(server, project, sdist(project, metadata=metadata))
        assert peak_resident(server.pid) - before < 96 * MIB


class TestBodies:
    def send(self, server: Dev, headers: dict[str, str | bytes], body: bytes, channel: str = "dev", timeout: float = 60):
        return exchange(server.url, "POST", f"/pypi/{channel}/", headers, body, timeout)

    def test_a_form_that_ends_in_the_middle(self, server: Dev, project: str):
        body = multipart(form(wheel(project)), closed=False)
        for cut in (len(body), len(body) - 3, len(body) // 2, 60):
            answer = self.send(server, upload_headers(server, Content_Length=str(cut)), body[:cut])
            assert answer is None or answer.status == 400
        assert_nothing_of(server, project)

    def test_a_client_that_hangs_up(self, server: Dev, project: str):
        body = multipart(form(wheel(project, payload=bytes(range(256)) * 8000, stored=True)))
        for sent in (0, 100, 3000, len(body) // 2, len(body) - 1):
            with Connection(server.url) as connection:
                connection.send(connection.head("POST", "/pypi/dev/", upload_headers(server, Content_Length=str(len(body)))) + body[:sent])
                # A reset, as from a machine that went away, rather than a polite end.
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.3)
        assert_nothing_of(server, project)

    def test_a_client_that_stops_sending_politely(self, server: Dev, project: str):
        body = multipart(form(wheel(project, payload=bytes(range(256)) * 8000, stored=True)))
        with Connection(server.url) as connection:
            connection.send(connection.head("POST", "/pypi/dev/", upload_headers(server, Content_Length=str(len(body)))) + body[:len(body) // 2])
            connection.socket.shutdown(socket.SHUT_WR)
            try:
                assert 400 <= connection.answer().status < 500
            except Closed:
                pass
        assert_nothing_of(server, project)

    def test_declared_too_large(self, server: Dev, project: str):
        answer = self.send(server, upload_headers(server, Content_Length=str(2 * MIB)), b"--", channel="small")
        assert answer is None or answer.status == 413
        answer = self.send(server, upload_headers(server, Content_Length=str(2**70)), b"--", channel="small")
        assert answer is None or answer.status in (400, 413)
        assert_nothing_of(server, project, "small")

    def test_too_large_without_saying_so(self, server: Dev, project: str):
        body = multipart(form(wheel(project, payload=bytes(range(256)) * 8000, stored=True)))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[i:i + 50_000] for i in range(0, len(body), 50_000))) + b"0\r\n\r\n"
        answer = self.send(server, upload_headers(server, Transfer_Encoding="chunked"), chunks, channel="small")
        assert answer is None or answer.status == 413
        assert_nothing_of(server, project, "small")
        answer = self.send(server, upload_headers(server, Transfer_Encoding="chunked"), chunks)
        assert answer is not None and answer.status < 300, "chunked bodies as such are fine"

    def test_too_large_is_said_in_words(self, server: Dev, project: str):
        dist = wheel(project, payload=bytes(range(256)) * 4200, stored=True)
        answer = server.upload(dist, channel="small")
        assert answer.status_code == 413 and answer.text.strip()
        assert_nothing_of(server, project, "small")

    def test_a_broken_chunk(self, server: Dev, project: str):
        body = multipart(form(wheel(project)))
        for chunks in (b"zz\r\n" + body, b"%x\r\n" % (len(body) + 5) + body, b"%x\r\n%s" % (len(body), body), b"ffffffffffffffffff\r\n" + body):
            with Connection(server.url) as connection:
                connection.send(connection.head("POST", "/pypi/dev/", upload_headers(server, Transfer_Encoding="chunked")) + chunks)
                connection.socket.shutdown(socket.SHUT_WR)
                try:
                    assert 400 <= connection.answer().status < 500
                except Closed:
                    pass
        assert_nothing_of(server, project)

    def test_length_and_chunks_at_once(self, server: Dev, project: str):
        """The two ways of saying where a body ends must not make two requests out of one."""
        smuggled = b"0\r\n\r\nGET /pypi/dev/+simple/smuggled/ HTTP/1.1\r\nHost: x\r\n\r\n"
        headers = upload_headers(server, Transfer_Encoding="chunked", Content_Length=str(len(smuggled)))
        with Connection(server.url, timeout=5) as connection:
            connection.send(connection.head("POST", "/pypi/dev/", headers) + smuggled)
            answer = connection.answer()
            assert 400 <= answer.status < 500
            try:
                assert connection.answer().status >= 400
            except (Closed, TimeoutError):
                pass

    def test_compressed_bodies_are_not_unpacked(self, server: Dev, project: str):
        answer = self.send(server, upload_headers(server, Content_Encoding="gzip", Content_Length="20"), b"\x1f\x8b" + b"\0" * 18)
        assert answer is None or 400 <= answer.status < 500

    def test_clients_that_stall_hold_nothing_up(self, server: Dev, postgres: Postgres, tmp_path: Path):
        """With short timeouts set, stalled connections are closed; meanwhile others are served."""
        limits = {"headerTimeout": "1s", "requestTimeout": "1s"}
        hasty = Registry(tmp_path / "registry", postgres, fresh_schema(), store_of(server), spec={"limits": limits})
        hasty.write_channel("dev", PUBLIC)
        hasty.migrate()
        with watched(hasty):
            hasty.wait_for_channel("dev")
            body = multipart(form(wheel("acme-stalled")))
            stalled = []
            for sent in (lambda head: b"", lambda head: head[:20], lambda head: head[:-2], lambda head: head, lambda head: head + body[:-20]):
                connection = Connection(hasty.url, timeout=15)
                connection.send(sent(connection.head("POST", "/pypi/dev/", upload_headers(hasty, Content_Length=str(len(body))))))
                stalled.append(connection)
            hasty.publish(wheel("acme-lively"))
            for connection in stalled:
                with connection:
                    try:
                        assert connection.answer().status in (400, 408)
                    except Closed:
                        pass
            assert_nothing_of(hasty, "acme-stalled")
        postgres.drop(hasty.schema)

    def test_many_that_hang_up_leave_room(self, server: Dev, project: str):
        body = multipart(form(wheel(project, payload=bytes(range(256)) * 4000, stored=True)))
        for _ in range(100):
            with Connection(server.url) as connection:
                connection.send(connection.head("POST", "/pypi/dev/", upload_headers(server, Content_Length=str(len(body)))) + body[:-200])
        dist = wheel(project, "2.0")
        server.publish(dist)
        assert set(server.files(project)) == {dist.filename}


class TestRequests:
    TARGETS = [
        "/pypi/dev/../dev/+simple/", "/pypi/../pypi/dev/+simple/", "/pypi/dev/+simple/../../../../etc/passwd", "/../../../../etc/passwd",
        "/pypi/dev/%2e%2e/%2e%2e/etc/passwd", "/pypi/dev/+simple/%2e%2e/", "/pypi/dev/+simple/..%2f..%2fetc%2fpasswd/", "/pypi/dev/+simple/%252e%252e%252f/",
        "/pypi/dev/%252fetc%252fpasswd", "/pypi/dev/+simple/a%00b/", "/pypi/dev/+simple/a%5c..%5cb/", "/pypi/dev/+simple/a\\b/", "/pypi/dev/+simple/%c0%ae%c0%ae/",
        "/pypi/dev/+simple/%c0%af/", "/pypi/dev/+simple/%ff%fe/", "/pypi/dev/+simple/%/", "/pypi/dev/+simple/%zz/", "/pypi/dev/+simple/%0d%0aX-Evil:%201/",
        "//etc/passwd", "/pypi//dev/+simple/", "/pypi/dev//+simple/", "/pypi/%64ev/%2bsimple/x/../y/", "/./pypi/dev/+simple/", "/pypi/dev/+simple/./",
        "/pypi/" + "a/" * 3000, "/pypi/dev/+simple/" + "a" * 60_000 + "/", "*", "/pypi/dev/+simple/?format=%0d%0a", "/%", "/pypi/dev/+f/../../x",
    ]

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:60])
    def test_path_tricks(self, server: Dev, target: str):
        answer = exchange(server.url, "GET", target, {"Authorization": basic(*server.admin)})
        if answer is not None:
            lowest = 200 if "format=" in target else 300
            assert lowest <= answer.status < 500, answer
            assert "x-evil" not in answer.headers
            assert b"root:" not in answer.body

    @pytest.mark.parametrize("target", [b"/pypi/dev/+simple/\xc0\xae/", b"/pypi/dev/+simple/\x00/", b"/pypi/dev/+simple/\xff/", b"/pypi/dev/+simple/a b/", b"pypi", b""])
    def test_bytes_that_no_path_may_hold(self, server: Dev, target: bytes):
        answer = exchange(server.url, "GET", target)
        assert answer is None or 400 <= answer.status < 500

    def test_encoded_letters_are_letters(self, server: Dev, project: str):
        server.publish(wheel(project))
        answer = exchange(server.url, "GET", f"/pypi/%64ev/%2Bsimple/{project}/")
        assert answer is not None and answer.status == 200

    @pytest.mark.parametrize("authorization", [
        "Basic", "Basic !!!", "Basic " + "A" * 10_000, "Basic //8=", "Bearer", "Bearer " + "x" * 10_000, "Nonsense abc", "Basic Og==",
        b"Basic \xff\xfe", "Negotiate abc",
    ], ids=lambda value: str(value)[:20])
    def test_credentials_that_are_none(self, server: Dev, project: str, authorization: str | bytes):
        body = multipart(form(wheel(project)))
        answer = exchange(server.url, "POST", "/pypi/dev/", {"Authorization": authorization, "Content-Type": MULTIPART, "Content-Length": str(len(body))}, body)
        assert answer is not None and answer.status in (400, 401)
        assert_nothing_of(server, project)

    @pytest.mark.parametrize("head", [
        b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"y" * 1_000_000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    ], ids=range(12))
    def test_requests_that_are_none(self, server: Dev, head: bytes):
        with Connection(server.url, timeout=10) as connection:
            try:
                connection.send(head)
                connection.socket.shutdown(socket.SHUT_WR)
                answer = connection.answer()
                assert 300 <= answer.status < 600 and answer.status != 500
            except (Closed, OSError):
                pass

    def test_a_secret_in_a_url_does_not_reach_the_log(self, server: Dev):
        secret = "planted-query-secret"
        server.secrets.add(secret)
        server.get(f"/pypi/dev/+simple/?token={secret}&password={secret}")
        server.get("/pypi/dev/+simple/", headers={"X-API-Key": secret, "Cookie": f"session={secret}"})
        server.get("/pypi/dev/+simple/", headers={"Authorization": f"Bearer {secret}"})

    def test_errors_are_short_and_tell_nothing_of_the_inside(self, server: Dev):
        for path in ("/absent", "/pypi/", "/pypi/absent/+simple/", "/pypi/dev/+simple/absent/", "/pypi/dev/absent/absent"):
            answer = server.get(path, server.admin)
            assert answer.status_code in (404, 405)
            assert len(answer.content) < 2000
            assert all(word not in answer.text.lower() for word in ("postgres", "select ", "panicked", "bucket"))
