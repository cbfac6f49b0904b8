"""A worker that lies hurts its own connection and nobody else: the others' jobs go on exactly."""

import pytest
import trio
from trio.testing import memory_stream_pair

from remote_runner.protocol.framing import Codec, encode
from remote_runner.protocol.messages import (
    MAX_INTEGER,
    Attempts,
    Close,
    Draining,
    Goodbye,
    Hello,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    Spawn,
    Started,
)
from remote_runner.protocol.wire import to_wire
from remote_runner.types import Command, Reason
from tests.runner.conftest import Recorder, settle

OWN, FOREIGN = "2.1", "1.1"
"""The run that the liar has been given, and that of an honest worker."""


def out(data, run_id, offset, stream="stdout"):
    return OutputChunk(stream, data, run_id, offset)


def end(run_id, **fields):
    return Close(0, run_id, **{"reason": "exit", "offset": 0, **fields})


LIES = {
    "output of another's run": [out(b"lie", FOREIGN, 0), out(b"lie", FOREIGN, 3, "stderr")],
    "the end of another's run": [end(FOREIGN), end(FOREIGN, offset=3)],
    "another's run started": [Started(FOREIGN, 1, 0)],
    "another's run refused": [Refused(FOREIGN, "no")],
    "ids that nobody has": [out(b"x", "9.9", 0), end("9.9"), Started("x", 1, 0), Refused("y", "")],
    "an end that comes twice": [end(OWN), end(OWN), end(OWN, reason="killed")],
    "output after the end": [end(OWN), out(b"late", OWN, 0)],
    "an end below its output": [out(b"abc", OWN, 0), end(OWN, offset=1)],
    "an end far beyond its output": [end(OWN, offset=MAX_INTEGER)] * 3,
    "a gap": [out(b"abc", OWN, MAX_INTEGER), out(b"abc", OWN, 7)] * 3,
    "other bytes at the same place": [out(b"abc", OWN, 0), out(b"xyz", OWN, 0)],
    "output without an id": [out(b"abc", None, None)],
    "an end without an id": [Close(0)],
    "started twice": [Started(OWN, 1, 0), Started(OWN, MAX_INTEGER, MAX_INTEGER)],
    "started after the end": [end(OWN), Started(OWN, 1, 0)],
    "refused after output": [out(b"abc", OWN, 0), Refused(OWN, "no")],
    "refused twice": [Refused(OWN, ""), Refused(OWN, ""), end(OWN)],
    "the largest numbers": [
        Started(OWN, MAX_INTEGER, MAX_INTEGER),
        end(
            OWN,
            duration_ms=MAX_INTEGER,
            max_rss_kb=MAX_INTEGER,
            cpu_ms=MAX_INTEGER,
        ),
    ],
    "strange words": [Close(None, OWN, signal="SIGNONSENSE\0", reason="because", offset=0)],
    "a status that there is not": [Close(-MAX_INTEGER, OWN, reason="signal", offset=0)],
    "a thousand slots more": [Ready(MAX_INTEGER), Ready(0), Ready(MAX_INTEGER)],
    "draining twice": [Draining(), Draining(), Ready(9)],
    "pongs that nobody asked for": [Pong(MAX_INTEGER)] * 100,
    "a flood of pings": [Ping(1)] * 5000,
    "goodbye, and it stays": [Goodbye("x", "")],
    "goodbye, and it goes on": [Ping(1), Goodbye("x", ""), Ping(2), end(OWN)],
    "a second list": [Attempts(((FOREIGN, "ended", 5),))],
    "a second hello": [Hello((1, 1), "honest", "b-1", "honest", 1, {}, "0")],
    "no word at all": [],
}


async def talk(stream, messages):
    """Say it all in one go, as nobody would who cares about the protocol; take what comes."""
    await stream.send_all(b"".join(encode(Codec.MSGPACK, to_wire(each)) for each in messages))


async def swallow(stream):
    try:
        while await stream.receive_some():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def hello(worker_id="liar", boot="b-9", slots=1):
    return Hello((1, 1), worker_id, boot, worker_id, slots, {"is": worker_id}, "0")


async def go_on(bench, honest, seen):
    """The honest worker's run goes on as if nothing were; new workers are welcome."""
    assert (seen.data, seen.outcome) == (b"", None)
    await honest.say(Started(FOREIGN, 5, 0), out(b"abc", FOREIGN, 0), out(b"d", FOREIGN, 3))
    await honest.say(end(FOREIGN, offset=4))
    await seen.closed.wait()
    assert seen.data == b"abcd"
    assert (seen.outcome.reason, seen.outcome.exit_code) == (Reason.EXIT, 0)
    async with bench.worker("new", labels={"is": "new"}) as new:
        bench.runner.start("3.1", Command("x"), {"is": "new"}, Recorder())
        await new.hear(Spawn)


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_runs_hurts_nobody_else(bench, autojump_clock, lie):
    seen, own = Recorder(), Recorder()
    async with bench.worker("honest", labels={"is": "honest"}) as honest:
        bench.runner.start(FOREIGN, Command("x"), {"is": "honest"}, seen)
        stream = bench.dial()
        bench.nursery.start_soon(swallow, stream)
        await talk(stream, [hello()])
        await settle()
        await talk(stream, [Ready(1)])
        await settle()
        run = bench.runner.start(OWN, Command("x"), {"is": "liar"}, own)
        await talk(stream, LIES[lie])
        await settle()
        run.kill()
        with trio.move_on_after(300):  # it is never heard of again
            while True:
                await honest.hear(Ping)
                await honest.say(Pong(1))
        await own.closed.wait()
        await go_on(bench, honest, seen)


@pytest.mark.parametrize(
    "greeting",
    [
        [hello(), Goodbye("x", "")],
        [hello(boot=""), Goodbye("x", "")],
        [hello(slots=0), Goodbye("x", "")],
        [Goodbye("x", "")],
        [hello(), hello()],
        [hello(), Ready(1)],
        [Ready(1)],
        [out(b"x", None, None)],
    ],
    ids=lambda messages: " ".join(to_wire(each)[0] for each in messages),
)
async def test_a_lie_at_the_door_hurts_nobody_else(bench, autojump_clock, greeting):
    seen = Recorder()
    async with bench.worker("honest", labels={"is": "honest"}) as honest:
        bench.runner.start(FOREIGN, Command("x"), {"is": "honest"}, seen)
        stream = bench.dial()
        bench.nursery.start_soon(swallow, stream)
        await talk(stream, greeting)
        await settle()
        assert [worker.name for worker in bench.runner.workers()] == ["honest"]
        await go_on(bench, honest, seen)


@pytest.mark.parametrize(
    "listed",
    [
        [(FOREIGN, "running", 0)],
        [(FOREIGN, "ended", MAX_INTEGER)],
        [("9.9", "running", MAX_INTEGER)] * 256,
        [(FOREIGN, "running", 0), (FOREIGN, "ended", 7)],
    ],
)
async def test_a_list_of_what_is_not_its_own_hurts_nobody_else(bench, autojump_clock, listed):
    seen = Recorder()
    async with bench.worker("honest", labels={"is": "honest"}) as honest:
        bench.runner.start(FOREIGN, Command("x"), {"is": "honest"}, seen)
        stream = bench.dial()
        bench.nursery.start_soon(swallow, stream)
        await talk(stream, [hello()])
        await settle()
        await talk(stream, [Attempts(tuple(listed)), Ready(1), out(b"lie", FOREIGN, 0)])
        await settle()
        assert all(FOREIGN not in w.running for w in bench.runner.workers() if w.name == "liar")
        await go_on(bench, honest, seen)


async def test_a_lie_of_a_baseline_worker_hurts_nobody_else(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker("honest", labels={"is": "honest"}) as honest:
        bench.runner.start(FOREIGN, Command("x"), {"is": "honest"}, seen)
        for lies in (
            [out(b"x", None, None)], [Close(0), Close(0)], [Goodbye("x", "")], [Ready(1)],
            [out(b"x", FOREIGN, 0)], [end(FOREIGN)], [Ping(1), Goodbye("x", "")],
        ):  # fmt: skip
            stream = bench.dial(memory_stream_pair)
            bench.nursery.start_soon(swallow, stream)
            await trio.sleep(2)
            await talk(stream, lies)
            await settle()
            await stream.aclose()
        await go_on(bench, honest, seen)
