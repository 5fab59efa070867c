"""HTTP at two levels: multipart bodies made by hand, and bytes on a socket for what no client library would send."""

import base64
import socket
from dataclasses import dataclass
from email.parser import BytesParser
from urllib.parse import urlsplit

from .dists import Dist

BOUNDARY = "boundary-of-the-tests"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[str, bytes, str | None]


def basic(user: str, secret: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def part(name: str, value: str | bytes, filename: str | None = None) -> Part:
    """One part of a form."""
    return name, value.encode() if isinstance(value, str) else value, filename


def form(dist: Dist, *, without: tuple[str, ...] = (), filename: str | None = None, **fields: str) -> list[Part]:
    """The parts of an upload. `fields` replaces values (`action` stands for `:action`), `without` leaves fields out."""
    if "action" in fields:
        fields[":action"] = fields.pop("action")
    values = [(name, fields.pop(name, value)) for name, value in dist.fields() if name not in without]
    parts = [part(name, value) for name, value in [*values, *fields.items()]]
    if "content" not in without:
        parts.append(part("content", dist.content, dist.filename if filename is None else filename))
    return parts


def multipart(parts: list[Part], *, closed: bool = True) -> bytes:
    """A multipart body; not `closed`, it lacks the last boundary."""
    body = bytearray()
    for name, value, filename in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += b'; filename="' + filename.encode("utf-8", "surrogateescape") + b'"\r\n'
            body += b"Content-Type: application/octet-stream"
        body += b"\r\n\r\n" + value + b"\r\n"
    if closed:
        body += f"--{BOUNDARY}--\r\n".encode()
    return bytes(body)


@dataclass
class Answer:
    """What came back on a raw connection."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Closed(Exception):
    """The server closed the connection without an answer."""


class Connection:
    """A TCP connection that sends exactly what it is told to."""

    def __init__(self, url: str, timeout: float = 30):
        address = urlsplit(url)
        self.host = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), timeout)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, method: str, target: str | bytes, headers: dict[str, str | bytes] | None = None) -> bytes:
        """A request's head; the target goes out byte for byte."""
        if isinstance(target, str):
            target = target.encode()
        lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: " + self.host.encode()]
        for name, value in (headers or {}).items():
            lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def answer(self, *, to_head: bool = False) -> Answer:
        """Reads one answer; raises `Closed` when the server has hung up instead."""
        data = bytearray()
        try:
            while b"\r\n\r\n" not in data:
                more = self.socket.recv(65536)
                if not more:
                    raise Closed
                data += more
            head, _, rest = bytes(data).partition(b"\r\n\r\n")
            first, _, fields = head.partition(b"\r\n")
            _, status, *reason = first.decode("latin-1").split(" ", 2)
            parsed = BytesParser().parsebytes(fields + b"\r\n\r\n", headersonly=True)
            headers = {name.lower(): value for name, value in parsed.items()}
            body = rest
            length = int(headers.get("content-length", 0))
            while not to_head and len(body) < length:
                more = self.socket.recv(65536)
                if not more:
                    break
                body += more
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Closed from error
        return Answer(int(status), "".join(reason), headers, body)


def exchange(url: str, method: str, target: str | bytes, headers: dict[str, str | bytes] | None = None,
             body: bytes = b"", timeout: float = 30) -> Answer | None:
    """One request on a connection of its own; None when the server answered by closing it."""
    with Connection(url, timeout) as connection:
        try:
            connection.send(connection.head(method, target, {"Connection": "close", **(headers or {})}) + body)
        except (ConnectionResetError, BrokenPipeError):
            pass  # an early answer may be waiting
        try:
            return connection.answer(to_head=method == "HEAD")
        except Closed:
            return None
