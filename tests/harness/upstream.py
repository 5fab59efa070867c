"""Another registry's channel: files on a small web server that counts what it is asked for, and answers wrongly when told to."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import zstandard

from .conda_packages import Package

Fault = Callable[[BaseHTTPRequestHandler], None]


def record(package: Package, **fields: object) -> dict:
    """What an index says of a package."""
    content = package.content()
    digests = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return {**{name: value for name, value in package.index_json.items() if value is not None}, **digests, **fields}


def html(handler: BaseHTTPRequestHandler) -> None:
    """A page for people."""
    _send(handler, 200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html; charset=utf-8"})


def garbage(handler: BaseHTTPRequestHandler) -> None:
    """Not what it says to be."""
    _send(handler, 200, b'{"packages": oops', {"Content-Type": "application/json"})


def redirects(handler: BaseHTTPRequestHandler) -> None:
    """To itself."""
    _send(handler, 302, b"", {"Location": handler.path})


def fails(handler: BaseHTTPRequestHandler) -> None:
    """500."""
    _send(handler, 500, b"oops", {})


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    """Less than it says."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"packages": {')
    handler.close_connection = True


def never_ends(handler: BaseHTTPRequestHandler) -> None:
    """More and more, of no declared length."""
    handler.protocol_version = "HTTP/1.0"
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.wfile.write(b'{"packages": {')
    handler.close_connection = True
    try:
        for _ in range(1 << 20):
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass  # whoever asked has had enough


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


class Channel:
    """A channel of files; `asked` counts requests by path, `sent` the answers with a body."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.delay = 0.0
        self.lock = threading.Lock()
        channel = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                channel.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/channel"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers with a file, or as a fault says."""
        path = handler.path.removeprefix("/channel/")
        with self.lock:
            self.asked[path] += 1
        time.sleep(self.delay)
        fault = self.faults.get(path) or self.faults.get("*")
        if fault is not None:
            fault(handler)
            return
        content = self.files.get(path)
        if content is None:
            _send(handler, 404, b"", {})
            return
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if handler.headers.get("If-None-Match") == etag:
            _send(handler, 304, b"", {"ETag": etag})
            return
        with self.lock:
            self.sent[path] += 1
        _send(handler, 200, content, {"ETag": etag, "Content-Type": "application/octet-stream"})

    def put(self, *packages: Package, base: str = "", info: dict | None = None, fields: dict | None = None, removed: tuple[str, ...] = ()) -> None:
        """Puts packages below `base`, or beside their index, and writes the whole indexes of their subdirs anew."""
        for subdir in {package.subdir for package in packages} | {"noarch"}:
            index = {"info": {"subdir": subdir, **(info or {})}, "packages": {}, "packages.conda": {}, "removed": list(removed),
                     "repodata_version": 2 if info else 1}
            for package in packages:
                if package.subdir == subdir:
                    section = "packages.conda" if package.kind == "conda" else "packages"
                    index[section][package.filename] = record(package, **(fields or {}))
                    self.files[f"{base or subdir}/{package.filename}"] = package.content()
            text = json.dumps(index).encode()
            self.files[f"{subdir}/repodata.json"] = text
            self.files[f"{subdir}/repodata.json.zst"] = zstandard.ZstdCompressor().compress(text)
