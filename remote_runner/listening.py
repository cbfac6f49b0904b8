"""The sockets behind which a server listens, also together with others behind the same port.

Owns how they are made. Who is accepted on them is the business of those who open them.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from remote_runner.errors import CannotListen

BACKLOG = 1024


async def open_listeners(
    host: str, port: int, *, reuse_port: bool = False
) -> list[trio.SocketListener]:
    """Listen on every address of a host; port 0 picks a free one.

    `reuse_port`: as one of several processes of this user that do, between which the kernel
    divides the connections.

    Raises:
        CannotListen: the address is not ours, or is taken.
    """
    try:
        if not reuse_port:
            return await trio.open_tcp_listeners(port, host=host)
        with ExitStack() as stack:
            sockets = [stack.enter_context(sock) for sock in _bind(host, port, is_shared=True)]
            for sock in sockets:
                sock.listen(BACKLOG)
            stack.pop_all()
        return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port for processes that listen with `reuse_port`, while entered: its number.

    It listens for nobody itself.

    Raises:
        CannotListen: the address is not ours, or somebody listens there, sharing it or not.
    """
    try:
        sockets = _bind(host, port, is_shared=False)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error
    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
            # Not before it was bound, or it would share the port with those of another server.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield sockets[0].getsockname()[1]


def _bind(host: str, port: int, *, is_shared: bool) -> list[socket.socket]:
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                sock = stack.enter_context(socket.socket(family, kind, protocol))
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    continue  # a machine without IPv6 may know addresses of it
                raise
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sock.bind(address)
            sockets.append(sock)
        if not sockets:
            raise OSError(errno.EAFNOSUPPORT, "none of its addresses can be used here")
        stack.pop_all()
    return sockets
