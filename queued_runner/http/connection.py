"""One HTTP/1.1 connection: bytes of a socket through anycorn's protocol to the application.

It owns how long a client may be silent and what its end of the stream means. A client that has
said its whole request and then closes its sending side gets its answer; one that closes it in the
middle is gone at once. What comes on a connection is bounded in time and memory before anyone is
known: a head has `HEAD_SECONDS` and anycorn's 16 KiB.

anycorn's own `TCPServer` is not used: it keeps a half-closed connection for its whole keep-alive.
"""

from math import inf
from typing import Any, Final

import h11
import trio
from anycorn.config import Config
from anycorn.events import Closed, Event, RawData, Updated
from anycorn.protocol.h11 import H11Protocol
from anycorn.protocol.http_stream import HTTPStream
from anycorn.task_group import TaskGroup
from anycorn.typing import ConnectionState
from anycorn.utils import parse_socket_addr
from anycorn.worker_context import WorkerContext

HEAD_SECONDS: Final = 5.0
"""From the accept, or from the end of an answer, to the end of the next request's head."""
LINGER_SECONDS: Final = 5.0
"""For which a client whose request was refused on its way may send the rest, which nobody looks at:
before it has, it does not look at the answer, and a connection closed then is reset, which may take
the answer away."""
MAX_RECEIVED: Final = 64 * 1024
"""Bytes that are read at once."""


class HttpConnection:
    """Serves the requests of one client, one after the other.

    `app` is what anycorn's `wrap_app` gives.
    """

    def __init__(
        self, stream: trio.SocketStream, app: Any, config: Config, context: WorkerContext
    ) -> None:
        self.stream = stream
        self._app = app
        self._config = config
        self._context = context
        self._is_idle = True
        self._is_over = False
        """Whether all has been answered that will be; what still comes is thrown away."""
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._sending = trio.Lock()
        self._protocol: H11Protocol

    async def run(self) -> None:
        """Serve until the client leaves, is silent for too long, or says what is not HTTP.

        Raises:
            OSError: the client was gone before it was looked at.
        """
        sock = self.stream.socket
        self._reading.deadline = trio.current_time() + HEAD_SECONDS
        with self._scope:
            async with TaskGroup() as tasks:
                self._protocol = _Protocol(
                    self._app,
                    self._config,
                    self._context,
                    tasks,
                    ConnectionState({}),
                    parse_socket_addr(sock.family, sock.getpeername()),
                    parse_socket_addr(sock.family, sock.getsockname()),
                    self._on_event,
                    None,
                )
                with self._reading:
                    await self._read()
                await self._protocol.handle(Closed())  # a request that goes on hears of it

    def finish(self) -> None:
        """Take no further request. An answer that goes on is not touched."""
        if self._is_idle:
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            while data := await self.stream.receive_some(MAX_RECEIVED):
                if not self._is_over:
                    await self._protocol.handle(RawData(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _on_event(self, event: Event) -> None:
        """What the protocol wants of the connection."""
        match event:
            case RawData(data=data):
                await self._send(data)
            case Updated(idle=is_idle):
                self._is_idle = is_idle
                self._reading.deadline = trio.current_time() + HEAD_SECONDS if is_idle else inf
            case Closed() if self._protocol.connection.their_state is h11.SEND_BODY:
                await self._linger()
            case Closed():
                await self._end()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            try:
                with trio.CancelScope(shield=True):  # a live answer ends between two pieces
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._end()

    async def _linger(self) -> None:
        """The client is still sending what was refused, and reads the answer after that."""
        self._is_over = True
        self._reading.deadline = trio.current_time() + LINGER_SECONDS
        async with self._sending:
            try:
                await self.stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._end()

    async def _end(self) -> None:
        """Nobody reads any more, or nothing more can be understood."""
        await self._protocol.handle(Closed())
        self._scope.cancel()


class _Protocol(H11Protocol):
    async def _maybe_recycle(self) -> None:
        """The application has answered. anycorn tells it so through the queue of the body, in which
        there is no room where it has not read that: it would wait for itself."""
        if isinstance(self.stream, HTTPStream):
            self.stream.app_put = None
        await super()._maybe_recycle()

    async def _check_protocol(self, event: object) -> None:
        """HTTP/2 is not offered: an offer to change to it is answered in HTTP/1.1."""
