"""A full worker that answers pings and nothing else holds nobody's job for ever."""

import pytest
import trio

from remote_runner.protocol.messages import (
    Close,
    Goodbye,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Refused,
    Resume,
    Spawn,
    Stale,
    Started,
)
from remote_runner.types import Command, Reason
from tests.runner.conftest import Recorder


async def live_on(worker, nursery):
    """Answer pings, and keep what else is heard."""
    heard = []

    async def answer():
        while batch := await worker.emitter.receive_batch():
            for message in batch:
                if isinstance(message, Ping):
                    await worker.say(Pong(message.n))
                heard.append(message)

    nursery.start_soon(answer)
    return heard


def kinds(heard, kind):
    return [message for message in heard if isinstance(message, kind)]


@pytest.mark.parametrize("is_started", [True, False])
async def test_a_kill_that_is_never_confirmed(autojump_clock, bench, is_started):
    seen = Recorder()
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.hear(Spawn)
        if is_started:
            await worker.say(Started("1.1", 7, 0))
        heard = await live_on(worker, bench.nursery)
        run.kill(grace=2.0)
        began = trio.current_time()
        await seen.closed.wait()
        assert trio.current_time() - began == pytest.approx(2 + 120, abs=1)
        assert seen.outcome.reason is Reason.KILLED
        run.forget()
        await trio.testing.wait_all_tasks_blocked()
        assert kinds(heard, Kill) == [Kill("1.1", None, 2000)]
        assert kinds(heard, Stale) == [Stale("1.1")]


async def test_a_timeout_that_its_worker_does_not_see_to(autojump_clock, bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x", timeout=5, kill_grace=1, detach=30), {}, seen)
        await worker.hear(Spawn)
        heard = await live_on(worker, bench.nursery)
        began = trio.current_time()
        await seen.closed.wait()
        assert trio.current_time() - began == pytest.approx(5 + 2 * (1 + 30), abs=1)
        assert seen.outcome.reason is Reason.WORKER_LOST
        assert len(kinds(heard, Kill)) == 1


async def test_an_end_whose_output_never_comes(autojump_clock, bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x", detach=30), {}, seen)
        await worker.hear(Spawn)
        await worker.say(Close(0, "1.1", reason="exit", offset=50))
        heard = await live_on(worker, bench.nursery)
        await seen.closed.wait()
        assert seen.outcome.reason is Reason.WORKER_LOST
        assert kinds(heard, Resume) == [Resume("1.1", 0)]


async def test_output_that_comes_slowly_is_waited_for(autojump_clock, bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x", detach=30), {}, seen)
        await worker.hear(Spawn)
        await worker.say(Close(0, "1.1", reason="exit", offset=4))
        await live_on(worker, bench.nursery)
        for offset in range(4):
            await trio.sleep(20)
            await worker.say(OutputChunk("stdout", b"x", "1.1", offset))
        await worker.say(Close(0, "1.1", reason="exit", offset=4))
        await seen.closed.wait()
        assert seen.outcome.is_success
        assert seen.data == b"xxxx"


@pytest.mark.parametrize("word", [Started("1.1", 7, 0), OutputChunk("stdout", b"x", "1.1", 0)])
async def test_what_has_begun_cannot_be_refused(autojump_clock, bench, word):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.hear(Spawn)
        await worker.say(word, Refused("1.1", "no"))
        assert isinstance((await worker.hear_end())[-1], Goodbye)
    assert seen.outcome is None


async def test_what_was_listed_cannot_be_refused(autojump_clock, bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.hear(Spawn)
    async with bench.worker(holds=[("1.1", "running", 0)]) as worker:
        await worker.say(Refused("1.1", "no"))
        assert isinstance((await worker.hear_end())[-1], Goodbye)
    assert seen.outcome is None


async def test_what_has_begun_and_is_not_held_any_more_is_lost(autojump_clock, bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.hear(Spawn)
        await worker.say(Started("1.1", 7, 0))
        await trio.testing.wait_all_tasks_blocked()
    async with bench.worker():
        assert seen.outcome.reason is Reason.WORKER_LOST


async def test_a_kill_is_not_given_up_while_its_worker_is_not_read(
    autojump_clock, bench, monkeypatch
):
    monkeypatch.setattr("remote_runner.session.UNACKED_MARK", 0)
    monkeypatch.setattr("remote_runner.session.UNACKED_PER_RUN", 100)
    seen = Recorder()
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.hear(Spawn)
        await worker.say(Started("1.1", 7, 0))
        await worker.say(OutputChunk("stdout", b"x" * 200, "1.1", 0))
        await live_on(worker, bench.nursery)
        await trio.testing.wait_all_tasks_blocked()
        run.kill(grace=2.0)
        await worker.say(Close(None, id="1.1", signal="SIGTERM", reason="killed", offset=200))
        await trio.sleep(200)
        assert not seen.closed.is_set()
        run.ack(200)
        await seen.closed.wait()
        assert (seen.outcome.reason, seen.outcome.signal) == (Reason.KILLED, "SIGTERM")
