"""Who is let in: hellos, tokens, clones, and rubbish in place of all that."""

import math
from contextlib import AsyncExitStack

import pytest
import trio
from structlog.testing import capture_logs

from remote_runner.door import BURST, RATE
from remote_runner.protocol.messages import (
    Goodbye,
    Hello,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Resume,
    Spawn,
    Welcome,
)
from remote_runner.server import SWAPS_PER_MINUTE, ServerSettings
from remote_runner.session import ANSWER
from remote_runner.types import Command
from tests.runner.conftest import Recorder, settle


async def test_the_newest_session_of_a_worker_wins(bench, autojump_clock):
    async with bench.worker() as old:
        seen = Recorder()
        bench.runner.start("1.1", Command("x"), {}, seen)
        async with bench.worker(holds=[("1.1", "running", 0)]) as new:
            await old.hear_end()
            await new.hear(Resume)
            assert seen.outcome is None
            assert len(bench.runner.workers()) == 1


async def test_two_clones_of_a_worker_are_both_refused(bench, autojump_clock):
    async with bench.worker(boot="a"), bench.worker(boot="b"), bench.worker(boot="a"):
        async with bench.connect() as fourth:
            await fourth.say(Hello((1, 1), "w-1", "b", "w-1", 1, {}, "0"))
            goodbye = await fourth.hear(Goodbye)
            assert goodbye.reason == "duplicate"
            assert "state folders" in goodbye.message
        assert bench.runner.workers() == []


async def test_a_clone_is_refused_while_the_other_one_answers(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker(boot="a") as first, bench.connect() as clone:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await first.hear(Spawn)
        await clone.say(Hello((1, 1), "w-1", "b", "w-1", 1, {}, "0"))
        await first.say(Pong((await first.hear(Ping)).n))
        assert (await clone.hear((Welcome, Goodbye))).reason == "duplicate"
        assert [worker.running for worker in bench.runner.workers()] == [("1.1",)]
        assert seen.outcome is None


async def test_a_worker_that_was_started_again_waits_for_no_answer_of_a_connection_that_ends(
    bench, autojump_clock
):
    async with bench.worker(boot="a") as first, bench.connect() as again:
        began = trio.current_time()
        await again.say(Hello((1, 1), "w-1", "b", "w-1", 1, {}, "0"))
        await first.hear(Ping)
        await first.emitter.stream.aclose()
        await again.hear(Welcome)
        assert trio.current_time() - began < ANSWER


async def test_a_worker_that_reconnects_again_and_again_is_no_clone(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker():
        bench.runner.start("1.1", Command("x"), {}, seen)
    async with AsyncExitStack() as connections:
        for _ in range(2 * SWAPS_PER_MINUTE):
            holds = [("1.1", "running", 0)]
            worker = await connections.enter_async_context(bench.worker(holds=holds))
            assert await worker.hear(Resume) == Resume("1.1", 0)
        assert trio.current_time() < 60
        assert len(bench.runner.workers()) == 1
        assert seen.outcome is None


async def test_a_hello_that_comes_late_is_welcome(bench, autojump_clock):
    """A machine that is busy may need more than the second after which it is taken for baseline."""
    async with bench.connect() as worker:
        await trio.sleep(3)
        assert [each.is_baseline for each in bench.runner.workers()] == [True]
        await worker.say(Hello((1, 1), "w-1", "b-1", "w-1", 2, {}, "0"))
        await worker.hear(Welcome)
        await worker.say(Ready(2))
        await settle()
        (known,) = bench.runner.workers()
        assert (known.is_baseline, known.id, known.free) == (False, "w-1", 2)


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello((2, 3), "w", "b", "n", 1, {}, "9"), "version"),
        (Hello((1, 1), "w", "b", "n", 0, {}, "0"), "slots"),
    ],
)
async def test_a_hello_that_cannot_be_accepted_gets_a_sentence(
    bench, autojump_clock, hello, reason
):
    async with bench.connect() as worker:
        await worker.say(hello)
        goodbye = await worker.hear(Goodbye)
        assert goodbye.reason == reason
        assert len(goodbye.message) > 20


async def test_a_storm_of_workers_is_let_in_by_turns_and_harms_nobody(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker(labels={"first": ""}) as before, AsyncExitStack() as connections:
        bench.runner.start("1.1", Command("x"), {"first": ""}, seen)
        refused = None
        for number in range(BURST):
            worker = await connections.enter_async_context(bench.connect())
            await worker.say(Hello((1, 1), f"s-{number}", "b", "n", 1, {}, "0"))
            answer = await worker.hear((Welcome, Goodbye))
            refused = answer if isinstance(answer, Goodbye) else None
        assert refused is not None  # the last of them: the first one had come before
        assert (refused.reason, refused.retry_after_ms) == ("busy", math.ceil(1000 / RATE))
        async with bench.connect() as again:  # a live worker that is turned away keeps what it has
            await again.say(Hello((1, 1), "w-1", "b-1", "w-1", 2, {"first": ""}, "0"))
            assert (await again.hear(Goodbye)).reason == "busy"
        await before.say(OutputChunk("stdout", b"abc", "1.1", 0))
        await settle()
        assert seen.data == b"abc"
        await trio.sleep(refused.retry_after_ms / 1000)
        async with bench.worker("late"):
            assert "late" in [worker.name for worker in bench.runner.workers()]


class TestWithToken:
    @pytest.fixture
    def settings(self):
        return ServerSettings(token="right")

    @pytest.mark.parametrize("token", [None, "wrong", "rig", "right!"])
    async def test_a_wrong_token_is_refused(self, bench, token, autojump_clock):
        async with bench.connect() as worker:
            await worker.say(Hello((1, 1), "w", "b", "n", 1, {}, "0", token))
            assert (await worker.hear(Goodbye)).reason == "unauthorized"

    async def test_the_right_one_is_accepted(self, bench, autojump_clock):
        async with bench.worker(token="right"):
            assert len(bench.runner.workers()) == 1

    async def test_there_are_no_baseline_workers(self, bench, autojump_clock):
        stream = bench.dial()
        assert b"no hello within 10 s" in await stream.receive_some()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\x91" * 100, b"\xdd\xff\xff\xff\xff", b"[}\n"],
)
async def test_garbage_costs_its_own_connection(bench, autojump_clock, data):
    async with bench.worker() as worker:
        stream = bench.dial()
        await stream.send_all(data)
        answer = b""
        while piece := await stream.receive_some():
            answer += piece
        assert answer
        bench.runner.start("1.1", Command("x"), {}, Recorder())
        await worker.hear(Spawn)


async def test_garbage_is_counted_in_the_log_and_seldom_said(bench, autojump_clock):
    async def refuse(data):
        stream = bench.dial()
        await stream.send_all(data)
        while await stream.receive_some():
            pass

    with capture_logs() as lines:
        for data in (b"[}\n", b"\x16\x03\x01", b"\x16\x03\x01"):
            await refuse(data)
        await trio.sleep(10)
        await refuse(b"\x16\x03\x01")
    first, second = [line for line in lines if line["event"] == "connection refused"]
    assert "JSON" in first["why"]
    assert "unsaid" not in first
    assert second["unsaid"] == 2
