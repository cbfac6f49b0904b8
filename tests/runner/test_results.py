"""Results on their way to the runner: in order, once, whole, and none before the output."""

import pytest
import trio

from remote_runner.protocol.messages import (
    Ack,
    Close,
    Closed,
    OutputChunk,
    Ping,
    Pong,
    ResultChunk,
    Resume,
    Spawn,
    Stale,
)
from remote_runner.run import NoHost
from remote_runner.runner import MAX_GAPS, RemoteRunner
from remote_runner.session import UNACKED_MARK
from remote_runner.types import Adoption, Command, Reason
from tests.runner.conftest import Bench, Recorder, settle

COMMAND = Command("x", max_results=1000)


async def test_a_worker_is_told_how_many_may_come(bench):
    async with bench.worker() as worker:
        bench.runner.start("1.1", COMMAND, {}, Recorder())
        bench.runner.start("2.1", Command("y"), {}, Recorder())
        assert (await worker.hear(Spawn)).options.max_results == 1000
        assert (await worker.hear(Spawn)).options.max_results is None


async def test_results_come_between_output_and_end(bench):
    seen = Recorder()
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", COMMAND, {}, seen)
        await worker.say(
            OutputChunk("stdout", b"out", "1.1", 0),
            ResultChunk(b"abc", "1.1", 0),
            ResultChunk(b"de", "1.1", 3),
            Close(0, "1.1", reason="exit", offset=3, results=5),
        )
        await seen.closed.wait()
        assert (seen.data, seen.results) == (b"out", b"abcde")
        run.forget()
        assert await worker.hear(Closed) == Closed("1.1")


async def test_what_comes_twice_counts_once(bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", COMMAND, {}, seen)
        await worker.say(
            ResultChunk(b"abc", "1.1", 0), ResultChunk(b"abc", "1.1", 0),
            ResultChunk(b"bcd", "1.1", 1), ResultChunk(b"", "1.1", 4),
            Close(0, "1.1", reason="exit", offset=0, results=4),
        )  # fmt: skip
        await seen.closed.wait()
    assert seen.results == b"abcd"


@pytest.mark.parametrize(
    "early", [ResultChunk(b"de", "1.1", 3), Close(0, "1.1", reason="exit", offset=0, results=5)]
)
async def test_what_is_missing_is_asked_for(bench, early):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", COMMAND, {}, seen)
        await worker.say(ResultChunk(b"ab", "1.1", 0), early)
        assert await worker.hear(Resume) == Resume("1.1", 0, 2)
        assert seen.outcome is None
        await worker.say(
            ResultChunk(b"cde", "1.1", 2), Close(0, "1.1", reason="exit", offset=0, results=5)
        )
        await seen.closed.wait()
    assert seen.results == b"abcde"


async def test_a_worker_that_never_has_them_loses_the_attempt(bench):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", COMMAND, {}, seen)
        for _ in range(MAX_GAPS + 1):
            await worker.say(Close(0, "1.1", reason="exit", offset=0, results=5))
        await seen.closed.wait()
    assert seen.outcome.reason is Reason.WORKER_LOST


async def test_after_a_cut_they_go_on_where_they_stopped(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", COMMAND, {}, seen)
        await worker.say(OutputChunk("stdout", b"out", "1.1", 0), ResultChunk(b"abc", "1.1", 0))
        await settle()
    async with bench.worker(holds=[("1.1", "ended", 3)]) as worker:
        assert await worker.hear(Resume) == Resume("1.1", 3, 3)
        await worker.say(
            ResultChunk(b"de", "1.1", 3), Close(0, "1.1", reason="exit", offset=3, results=5)
        )
        await seen.closed.wait()
    assert seen.results == b"abcde"


async def test_a_new_runner_goes_on_where_its_host_says(autojump_clock, settings, nursery):
    seen = Recorder()
    seen.results = b"abc"

    class Host(NoHost):
        id = "queue"

        def adopt(self, run, size):
            return Adoption(seen, 0, results=3)

    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(Host()):
        async with Bench(runner, nursery).worker(holds=[("1.1", "ended", 0)]) as worker:
            assert await worker.hear(Resume) == Resume("1.1", 0, 3)
            await worker.say(
                ResultChunk(b"de", "1.1", 3), Close(0, "1.1", reason="exit", offset=0, results=5)
            )
            await seen.closed.wait()
    assert seen.results == b"abcde"


async def test_results_of_others_attempts_are_stale(bench):
    async with bench.worker() as worker:
        await worker.say(ResultChunk(b"x", "9.1", 0))
        assert await worker.hear(Stale) == Stale("9.1")


async def test_nobody_has_to_want_them(bench, nursery):
    outcomes = []

    async def run():
        outcomes.append(await bench.runner.run(COMMAND))

    async with bench.worker() as worker:
        nursery.start_soon(run)
        spawn = await worker.hear(Spawn)
        attempt = spawn.options.id
        await worker.say(
            ResultChunk(b"abc", attempt, 0), Close(0, attempt, reason="exit", offset=0, results=3)
        )
        await worker.hear(Closed)
    await settle()
    assert outcomes[0].is_success


async def test_results_that_wait_for_the_disk_hold_their_worker_back(bench, autojump_clock):
    seen = Recorder()
    piece = bytes(64 * 1024)
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", COMMAND, {}, seen)

        async def flood():
            for number in range(3 * UNACKED_MARK // len(piece)):
                await worker.say(ResultChunk(piece, "1.1", number * len(piece)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await settle()
            held = len(seen.results)
            assert UNACKED_MARK <= held < UNACKED_MARK + 3 * 1024 * 1024
            run.ack_result(held)
            await settle()
            assert len(seen.results) > held
            run.ack_result(len(seen.results))
            await settle()
            run.ack_result(len(seen.results))
        await worker.say(Ping(1))
        while True:
            await settle()
            run.ack_result(len(seen.results))
            if len(seen.results) == 3 * UNACKED_MARK:
                break
        assert await worker.hear((Pong, Ack)) == Pong(1)
