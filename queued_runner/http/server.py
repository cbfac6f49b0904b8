"""The accept loop: one guarded task a connection.

It owns the sockets of HTTP, how many there are, and their end. anycorn's own `serve()` is not
used: one malformed request would end it, and with it everything in our nursery. Here an error
costs its connection. No lifespan is run: start and stop belong to the caller's nursery. The names
taken from anycorn are half private: the version is pinned, and the fuzz test stands guard.
"""

import errno
import logging
import socket
from typing import Any, Final, cast

import trio
from anycorn.config import Config
from anycorn.utils import wrap_app
from anycorn.worker_context import WorkerContext
from starlette.types import ASGIApp

from queued_runner.http.connection import HttpConnection
from remote_runner.errors import CannotListen
from remote_runner.sparing_log import SparingLog

log = logging.getLogger("queued_runner.http")

MAX_CONNECTIONS: Final = 1000
LAST_MOMENT: Final = 0.5
"""Seconds for a connection to see that its socket was shut down, before its task is cancelled."""
STALLED_MS: Final = 30_000
"""A client that takes nothing for so long loses its connection (TCP_USER_TIMEOUT)."""

_OUT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; port 0 picks a free one.

    `reuse_port`: other processes of this user listen there too.

    Raises:
        CannotListen: the address is not ours or is taken.
    """
    try:
        return _bind(host, port, reuse_port)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error


def _bind(host: str, port: int, reuse_port: bool) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(1024)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve_http(
    sock: socket.socket,
    app: ASGIApp,
    *,
    shutdown: trio.Event,
    grace: float = 3.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on a listening socket, which this closes, until `shutdown` is set.

    Then requests have `grace` seconds to end before their sockets are shut down.
    """
    connections = _Connections(app)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    try:
        async with listener, trio.open_nursery() as nursery:
            accepting = await nursery.start(connections.accept, listener, nursery)
            task_status.started()
            await shutdown.wait()
            accepting.cancel()
            await listener.aclose()
            await connections.finish()
            with trio.move_on_after(grace):
                await connections.wait_empty()
            connections.shut_down()
            with trio.move_on_after(LAST_MOMENT):
                await connections.wait_empty()
            nursery.cancel_scope.cancel()
    except BaseException:
        connections.shut_down()
        raise


class _Connections:
    def __init__(self, app: ASGIApp) -> None:
        self._app = wrap_app(cast(Any, app), 0, "asgi")
        self._config = Config()
        self._config.errorlog = None
        self._config.accesslog = None
        self._config.include_server_header = False
        self._context = WorkerContext(None)
        self._open: set[HttpConnection] = set()
        self._room = trio.Semaphore(MAX_CONNECTIONS)
        self._changed = trio.lowlevel.ParkingLot()
        self._on_shortage = SparingLog("queued_runner.http", "no connection can be accepted")

    async def accept(
        self,
        listener: trio.SocketListener,
        nursery: trio.Nursery,
        *,
        task_status: trio.TaskStatus[trio.CancelScope],
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                await self._room.acquire()
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._room.release()
                    if error.errno in _OUT_OF:
                        self._on_shortage.warning(why=str(error))
                        await trio.sleep(0.1)
                    continue
                except BaseException:
                    self._room.release()
                    raise
                nursery.start_soon(self._handle, stream)

    async def _handle(self, stream: trio.SocketStream) -> None:
        connection = HttpConnection(stream, self._app, self._config, self._context)
        self._open.add(connection)
        try:
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
            await connection.run()
        except* Exception as errors:
            log.debug("an HTTP connection ended with an error", exc_info=errors)
        finally:
            stream.socket.close()
            self._open.discard(connection)
            self._room.release()
            self._changed.unpark_all()

    async def finish(self) -> None:
        """End what asks for nothing; what is being answered takes no further request."""
        await self._context.terminated.set()
        for connection in self._open:
            connection.finish()

    async def wait_empty(self) -> None:
        while self._open:
            await self._changed.park()

    def shut_down(self) -> None:
        """End what is left: a shielded send to a stalled client ends in no other way."""
        for connection in self._open:
            try:
                connection.stream.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
