"""A TCP proxy that adds delay, or cuts the line, between a server and what it depends on.

Runs as a thread with an event loop of its own; as a program (`python -m tests.harness.proxy LISTEN TARGET DELAY`) it leaves
the interpreter of a measurement alone.
"""

import asyncio
import sys
import threading


class Proxy:
    """Forwards to `target`; each direction hands on bytes `delay` seconds after they came, without limiting the rate."""

    def __init__(self, target: tuple[str, int], delay: float = 0.0, port: int = 0):
        self.target, self.delay, self.port = target, delay, port
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Breaks every connection and refuses new ones until `mend`."""
        self.open = False
        self._loop.call_soon_threadsafe(self._abort_all)

    def mend(self) -> None:
        self.open = True

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, up_writer}
        self._writers |= pair
        try:
            # The delay is that of a round trip: all of it on the way there, none on the way back.
            await asyncio.gather(self._pump(reader, up_writer, self.delay), self._pump(up_reader, writer, 0.0))
        finally:
            self._writers -= pair
            for each in pair:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await line.get()
                await asyncio.sleep(due - self._loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()

        delivery = asyncio.ensure_future(deliver())
        try:
            while data := await reader.read(1 << 18):
                line.put_nowait((self._loop.time() + delay, data))
            line.put_nowait((self._loop.time() + delay, b""))
            await delivery
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()
        finally:
            delivery.cancel()


def main() -> None:
    listen, target, delay = sys.argv[1:4]
    host, port = target.rsplit(":", 1)
    with Proxy((host, int(port)), float(delay), int(listen)) as proxy:
        print(proxy.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
