"""A TCP proxy that breaks connections in every way that a network does.

It owns the connections; what lies in it when they are cut is lost. It knows nothing of what passes.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import trio

_RESET = struct.pack("ii", 1, 0)


class Lane:
    """One direction of all connections: `chunk` bytes at most at once, `delay` seconds each."""

    def __init__(self) -> None:
        self.chunk = 65536
        self.delay = 0.0
        self._opened = trio.Event()
        self._opened.set()

    def stall(self) -> None:
        """Let nothing through; nobody is told."""
        if self._opened.is_set():
            self._opened = trio.Event()

    def go_on(self) -> None:
        """Let through what waits, and all that follows, unharmed."""
        self.chunk, self.delay = 65536, 0.0
        self._opened.set()

    async def pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Carry bytes until their end."""
        while data := await source.receive_some(self.chunk):
            await trio.sleep(self.delay)
            while not self._opened.is_set():
                await self._opened.wait()
            await sink.send_all(data)
        await sink.send_eof()


class Proxy:
    """Listens on a free port for as long as `run` runs.

    Args:
        upstream: the port to dial for a new connection, on loopback; None: there is nobody.
    """

    def __init__(self, upstream: Callable[[], int | None]) -> None:
        self._upstream = upstream
        self._links: dict[trio.CancelScope, tuple[trio.SocketStream, ...]] = {}
        self.up = Lane()
        self.down = Lane()
        self.refuses = False
        """Whether a new connection ends at once."""
        self.port = 0

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """Towards the server, and back."""
        return self.up, self.down

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve for ever."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    def cut(self, *, with_reset: bool = False) -> None:
        """End every connection; what is on its way is lost."""
        for scope, streams in list(self._links.items()):
            for stream in streams if with_reset else ():
                with suppress(OSError):
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        port = None if self.refuses else self._upstream()
        if port is None:
            await client.aclose()
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await client.aclose()
            return
        async with client, server:
            with trio.CancelScope() as scope:
                self._links[scope] = (client, server)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self.up.pump, client, server)
                        nursery.start_soon(self.down.pump, server, client)
                except* trio.BrokenResourceError:
                    pass  # one side is gone, and now the other is
                finally:
                    del self._links[scope]
