"""A port that several processes share, and that nobody else gets."""

import socket

import pytest
import trio

from remote_runner.errors import CannotListen
from remote_runner.listening import open_listeners, reserved


def port_of(listener):
    return listener.socket.getsockname()[1]


async def close(listeners):
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_those_who_share_a_reserved_port_all_listen_on_it(host):
    with reserved(host, 0) as port:
        first = await open_listeners(host, port, reuse_port=True)
        second = await open_listeners(host, port, reuse_port=True)
        assert {port_of(listener) for listener in first + second} == {port}
        await close(first)
        stream = await trio.open_tcp_stream(host, port)
        await stream.aclose()
        await close(second)


async def test_nobody_else_gets_a_port_where_somebody_listens():
    with reserved("127.0.0.1", 0) as port:
        listeners = await open_listeners("127.0.0.1", port, reuse_port=True)
        with pytest.raises(CannotListen, match=f"port {port}"):
            await open_listeners("127.0.0.1", port)
        with pytest.raises(CannotListen, match=f"port {port}"), reserved("127.0.0.1", port):
            pass
        await close(listeners)


async def test_a_port_that_was_not_meant_to_be_shared_is_not():
    (listener,) = await open_listeners("127.0.0.1", 0)
    with pytest.raises(CannotListen), reserved("127.0.0.1", port_of(listener)):
        pass
    with pytest.raises(CannotListen):
        await open_listeners("127.0.0.1", port_of(listener), reuse_port=True)
    await listener.aclose()


async def test_who_reserves_a_port_takes_no_connection():
    with reserved("127.0.0.1", 0) as port, socket.socket() as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
