"""The proxy carries bytes unharmed, and breaks what it is told to break."""

from contextlib import asynccontextmanager

import pytest
import trio

from tests.torture.proxy import Proxy

PATIENCE = 10


@pytest.fixture
async def proxy(nursery):
    """Before a server that echoes."""
    listeners = await nursery.start(trio.serve_tcp, _echo, 0)
    proxy = Proxy(lambda: listeners[0].socket.getsockname()[1])
    await nursery.start(proxy.run)
    return proxy


async def _echo(stream):
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def _client(proxy):
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            yield stream


async def _receive(stream, count):
    data = b""
    while len(data) < count:
        data += await stream.receive_some()
    return data


async def test_bytes_pass_whole_in_any_pieces(proxy):
    data = bytes(range(256)) * 4
    proxy.up.chunk, proxy.down.chunk = 7, 3
    async with _client(proxy) as stream:
        await stream.send_all(data)
        assert await _receive(stream, len(data)) == data
        await stream.send_eof()
        assert await stream.receive_some() == b""


@pytest.mark.parametrize("way", [0, 1])
async def test_what_is_stalled_one_way_comes_later_and_whole(proxy, way):
    async with _client(proxy) as stream:
        await stream.send_all(b"one")
        assert await _receive(stream, 3) == b"one"
        proxy.lanes[way].stall()
        await stream.send_all(b"two")
        with trio.move_on_after(0.05) as wait:
            await stream.receive_some()
        assert wait.cancelled_caught
        proxy.lanes[way].go_on()
        assert await _receive(stream, 3) == b"two"


async def test_a_cut_ends_every_connection(proxy):
    async with _client(proxy) as first, _client(proxy) as second:
        for stream in (first, second):
            await stream.send_all(b"x")
            assert await _receive(stream, 1) == b"x"
        proxy.cut()
        assert await first.receive_some() == b""
        assert await second.receive_some() == b""


async def test_a_reset_is_one(proxy):
    async with _client(proxy) as stream:
        await stream.send_all(b"x")
        assert await _receive(stream, 1) == b"x"
        proxy.cut(with_reset=True)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_who_is_refused_is_told_at_once(proxy):
    proxy.refuses = True
    async with _client(proxy) as stream:
        assert await stream.receive_some() == b""
