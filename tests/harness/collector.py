"""A collector of traces as a process of its own: it takes OTLP over HTTP and keeps each body as a file.

    python -m tests.harness.collector FOLDER

What is asked for: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import gzip
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

from .places import CHECKOUT
from .processes import dies_with_parent


class Collector:
    """Runs until it is closed."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.process = subprocess.Popen([sys.executable, "-m", "tests.harness.collector", str(folder)], cwd=CHECKOUT,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=dies_with_parent)
        self.endpoint = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def close(self) -> None:
        """Takes no more."""
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def received(self) -> list[tuple[str, bytes]]:
        """The path and the body of each request, in the order of their coming; bodies are Protobuf, which leaves texts as they are."""
        found = []
        for path in sorted(self.folder.glob("*.body")):
            asked, _, body = path.read_bytes().partition(b"\n")
            found.append((asked.decode(), body))
        return found


def main() -> None:
    folder, numbers, lock = Path(sys.argv[1]), count(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            with lock:
                name = f"{next(numbers):06}"
            partial = folder / f"{name}.partial"
            partial.write_bytes(self.path.encode() + b"\n" + body)
            partial.rename(folder / f"{name}.body")
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
