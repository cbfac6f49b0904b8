"""`DuplexEmitter` as its document describes it, for protocols that are not the runner's."""

import json

import msgpack
import pytest
import trio
from trio.testing import memory_stream_pair

from remote_runner.emitter import (
    MAX_CONTROL_PENDING,
    MAX_OUTPUT_PENDING,
    DuplexEmitter,
    Event,
    EventWire,
)
from remote_runner.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from remote_runner.protocol.framing import Codec

VALUES = [None, True, -5, 1.5, "é", b"\x00\xff", [1, [2]], {"a": {"b": b"c"}}]


@pytest.fixture
async def pair():
    ours, theirs = memory_stream_pair()
    async with DuplexEmitter(ours) as left, DuplexEmitter(theirs) as right:
        yield left, right


async def test_a_cancelled_emitter_closes_its_stream(autojump_clock):
    ours, theirs = memory_stream_pair()
    with trio.move_on_after(1):
        async with DuplexEmitter(ours):
            await trio.sleep_forever()
    with trio.fail_after(5):
        assert await theirs.receive_some() == b""


@pytest.mark.parametrize("codec", Codec)
async def test_what_travels_arrives_as_it_was(codec):
    ours, theirs = memory_stream_pair()
    async with DuplexEmitter(ours, EventWire(codec)) as left, DuplexEmitter(theirs) as right:
        await left.emit("values", *VALUES)
        assert await anext(right) == Event("values", tuple(VALUES))
        await right.emit("back", *VALUES)  # in the codec that it was spoken to
        assert await anext(left) == Event("back", tuple(VALUES))
        assert right.wire.codec is codec


@pytest.mark.parametrize("codec", Codec)
async def test_a_peer_in_any_language(codec):
    ours, theirs = memory_stream_pair()
    async with DuplexEmitter(ours) as emitter:
        if codec is Codec.MSGPACK:
            await theirs.send_all(msgpack.packb(["hi", b"x"]) + msgpack.packb(["end"]))
        else:
            await theirs.send_all(b'["hi",{"type":"Buffer","data":[120]}]\n["end"]\n')
        async for name, args in emitter:
            if name == "end":
                break
            assert (name, args) == ("hi", (b"x",))
        await emitter.emit("bye", b"x")
        await emitter.flush()
        sent = bytes(await theirs.receive_some())
        if codec is Codec.MSGPACK:
            assert msgpack.unpackb(sent) == ["bye", b"x"]
        else:
            assert json.loads(sent) == ["bye", {"type": "Buffer", "data": [120]}]


async def test_who_breaks_off_finds_the_rest_in_the_next_loop(pair):
    left, right = pair
    for number in range(5):
        await left.emit("n", number)
    await left.flush()
    async for _, (number,) in right:
        if number == 1:
            break
    heard = []
    right.on("n", heard.append)
    async for _, (number,) in right:
        if number == 2:
            break
    left.close_nowait("that was all")
    await right.listen()
    assert heard == [2, 3, 4]


async def test_handlers(pair):
    left, right = pair
    heard = []

    def first(*args):
        heard.append(("first", args))

    def only(*args):
        heard.append(("only", args))

    right.on("x", first)
    right.on("x", first)
    right.once("x", only)
    right.once("y", only)
    right.off("y", only)
    right.off("z", only)  # nobody knows it
    for event in ("x", "y", "x"):
        await left.emit(event, 1, "a")
        await anext(right)
    assert heard == [("first", (1, "a"))] * 2 + [("only", (1, "a"))] + [("first", (1, "a"))] * 2
    right.off("x", first)
    await left.emit("x")
    await anext(right)
    assert len(heard) == 5


async def test_what_a_handler_raises_comes_out_where_it_is_read(pair):
    left, right = pair
    right.on("x", lambda: 1 / 0)
    await left.emit("x")
    with pytest.raises(ZeroDivisionError):
        await right.listen()
    assert right.is_open


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (Codec.MSGPACK, object()), (Codec.MSGPACK, 1 << 70), (Codec.MSGPACK, "\ud800"),
        (Codec.JSON_LINES, object()), (Codec.JSON_LINES, float("nan")),
        (Codec.JSON_LINES, "\ud800"),
    ],
)  # fmt: skip
async def test_what_cannot_travel_costs_nothing(pair, codec, value):
    left, right = pair
    left.wire.codec = codec
    with pytest.raises(LocalProtocolError, match="cannot send"):
        await left.emit("x", value)
    await left.emit("y")
    assert await anext(right) == Event("y")


async def test_what_is_too_large_is_not_sent(pair):
    left, right = pair
    with pytest.raises(LocalProtocolError, match=r"'x' has 10485\d\d bytes.*1048576.*in pieces"):
        await left.emit("x", bytes(1024 * 1024))
    with pytest.raises(LocalProtocolError):
        left.emit_nowait("x", bytes(1024 * 1024))
    await left.emit("y", bytes(1024 * 1024 - 100))
    assert len((await anext(right)).args[0]) == 1024 * 1024 - 100


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x03", b"\x90", b"\x91\x05", b"[5]\n", b"[[]]\n", b"[\n"]
)
async def test_what_is_no_event_ends_the_reading(data):
    ours, theirs = memory_stream_pair()
    async with DuplexEmitter(ours) as emitter:
        await theirs.send_all(data)
        with pytest.raises(RemoteProtocolError):
            await emitter.listen()


async def test_emit_waits_until_the_peer_reads(autojump_clock):
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with DuplexEmitter(ours) as left, DuplexEmitter(theirs) as right:
        sent = 0
        with trio.move_on_after(1):
            while True:
                await left.emit("data", bytes(100_000))
                sent += 1
        assert MAX_OUTPUT_PENDING <= left.pending <= MAX_OUTPUT_PENDING + 200_000
        left.emit_nowait("urgent")
        heard = [await anext(right) for _ in range(sent + 1)]
        assert heard.index(Event("urgent")) < sent  # ahead of what was not on its way
        await left.emit("data")


async def test_who_does_not_read_loses_the_connection(autojump_clock):
    ours, _theirs = trio.testing.lockstep_stream_pair()
    async with DuplexEmitter(ours) as left:
        for _ in range(MAX_CONTROL_PENDING // 100_000):
            left.emit_nowait("beat", bytes(100_000))
        with pytest.raises(ConnectionLost, match="does not read"):
            left.emit_nowait("beat", bytes(100_000))
        assert not left.is_open
        with pytest.raises(ConnectionLost):
            await left.emit("x")


async def test_the_end_of_the_connection_ends_the_loop(pair):
    left, right = pair
    await left.emit("last")
    await left.flush()
    left.close_nowait("that was all")
    assert [event.name async for event in right] == ["last"]
    with pytest.raises(ConnectionLost, match="the peer closed"):
        await right.emit("x")
