"""`RemoteRunner` against a scripted worker: placement, output, ends, pressure and silence."""

import pytest
import trio
from trio.testing import lockstep_stream_pair

from remote_runner.emitter import WRITE_SIZE
from remote_runner.errors import NoWorkerAvailable
from remote_runner.protocol.messages import (
    Ack,
    Close,
    Closed,
    Draining,
    Goodbye,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    Resume,
    Spawn,
    Stale,
    Started,
    Stdin,
    StdinEnd,
)
from remote_runner.runner import STDIN_CHUNK, RemoteRunner
from remote_runner.session import UNACKED_MARK, UNACKED_PER_RUN
from remote_runner.types import Command, Outcome, Reason
from tests.runner.conftest import Bench, Recorder, settle


async def test_a_run_from_spawn_to_closed(bench, autojump_clock):
    async with bench.worker() as worker:
        seen = Recorder()
        command = Command("make", ("test",), cwd="/src", env={"A": "b"}, stdin=b"in", timeout=1.5)
        run = bench.runner.start("7.1", command, {}, seen)
        spawn = await worker.hear(Spawn)
        assert (spawn.command, spawn.args) == ("make", ("test",))
        assert spawn.options.id == "7.1"
        assert spawn.options.set_env == {"A": "b"}
        assert spawn.options.timeout_ms == 1500
        assert (await worker.hear(Stdin)).data == b"in"
        await worker.hear(StdinEnd)
        await worker.say(
            Started("7.1", 99, 0),
            OutputChunk("stdout", b"out", "7.1", 0),
            OutputChunk("stderr", b"err", "7.1", 3),
            Close(3, "7.1", reason="exit", offset=6, duration_ms=20, max_rss_kb=4, cpu_ms=5),
        )
        await seen.closed.wait()
        assert seen.started
        assert seen.data == b"outerr"
        assert seen.streams == ["stdout", "stderr"]
        assert seen.outcome == Outcome(Reason.EXIT, 3, None, 6, 0.02, 4096, 0.005)
        run.forget()
        assert await worker.hear(Closed) == Closed("7.1")


async def test_acks_travel_and_overlap_is_dropped_and_a_gap_is_asked_for(bench, autojump_clock):
    async with bench.worker() as worker:
        seen = Recorder()
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.say(
            OutputChunk("stdout", b"abc", "1.1", 0),
            OutputChunk("stdout", b"bcd", "1.1", 1),
            OutputChunk("stdout", b"zz", "1.1", 9),
        )
        assert await worker.hear(Resume) == Resume("1.1", 4)
        assert seen.data == b"abcd"
        run.ack(4)
        assert await worker.hear(Ack) == Ack("1.1", 4)


async def test_a_worker_that_repeats_something_else_loses_its_connection(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.say(
            OutputChunk("stdout", b"abc", "1.1", 0), OutputChunk("stdout", b"bXd", "1.1", 1)
        )
        *_, goodbye = await worker.hear_end()
    assert goodbye.reason == "protocol-error"
    assert goodbye.message == "output of 1.1 at offset 1 is not what it sent before"
    assert seen.data == b"abc"


@pytest.mark.parametrize(
    "later", [OutputChunk("stdout", b"z", "1.1", 9), Close(0, "1.1", offset=9)]
)
async def test_a_run_is_lost_whose_worker_never_fills_a_gap(bench, autojump_clock, later):
    async with bench.worker() as worker:
        seen = Recorder()
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        with trio.fail_after(60):
            while not seen.closed.is_set():
                await worker.say(later)
                await settle()
        assert seen.outcome == Outcome(Reason.WORKER_LOST)
        run.forget()
        assert await worker.hear(Stale) == Stale("1.1")
        assert worker.emitter.is_open


async def test_what_a_worker_dropped_beyond_the_limit_is_counted(bench, autojump_clock):
    async with bench.worker() as worker:
        seen = Recorder()
        bench.runner.start("1.1", Command("x", max_output=4), {}, seen)
        assert (await worker.hear(Spawn)).options.max_output == 4
        close = Close(0, "1.1", reason="exit", offset=10)
        await worker.say(OutputChunk("stdout", b"abc", "1.1", 0), close)
        assert await worker.hear(Resume) == Resume("1.1", 3)  # this much was not dropped
        await worker.say(OutputChunk("stderr", b"d", "1.1", 3), close)
        await seen.closed.wait()
        assert seen.data == b"abcd"
        assert seen.outcome.output_bytes == 10


async def test_a_large_input_delays_neither_a_kill_nor_another_spawn(bench, autojump_clock):
    # A stream that takes nothing but what is read at its other end, as a slow network.
    async with bench.worker(pair=lockstep_stream_pair) as worker:
        size = 4 * 1024 * 1024
        run = bench.runner.start("1.1", Command("x", stdin=bytes(size)), {}, Recorder())
        await worker.hear(Spawn)
        await settle()
        bench.runner.start("2.1", Command("y"), {}, Recorder())
        run.kill()
        before, wanted = 0, {Spawn, Kill}
        while wanted:
            message = await worker.hear((Stdin, Spawn, Kill))
            wanted.discard(type(message))
            before += len(message.data) if isinstance(message, Stdin) else 0
        assert before <= WRITE_SIZE + STDIN_CHUNK  # the write that was under way
        rest = size - before
        while rest:
            rest -= len((await worker.hear(Stdin)).data)
        assert await worker.hear(StdinEnd) == StdinEnd("1.1")


async def test_the_least_loaded_worker_with_the_labels_gets_the_run(bench, autojump_clock):
    async with (
        bench.worker("small", slots=1),
        bench.worker("large", slots=8),
        bench.worker("gpu", slots=1, labels={"gpu": "yes"}),
    ):
        start = bench.runner.start
        assert start("1.1", Command("x"), {}, Recorder()).worker == "large"
        assert start("2.1", Command("x"), {"gpu": "yes"}, Recorder()).worker == "gpu"
        with pytest.raises(NoWorkerAvailable):
            start("3.1", Command("x"), {"gpu": "yes"}, Recorder())
        assert sum(len(offer.slots) for offer in bench.runner.offers(99)) == 8


async def test_a_run_of_several_slots_takes_them_of_one_worker(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker("small", slots=2), bench.worker("large", slots=4) as worker:
        start = bench.runner.start
        assert start("1.1", Command("x", slots=3), {}, seen).worker == "large"
        assert {info.name: info.free for info in bench.runner.workers()} == {"small": 2, "large": 1}
        for worker_id in (None, "small", "large"):
            with pytest.raises(NoWorkerAvailable):
                start("2.1", Command("x", slots=3), {}, Recorder(), worker_id)
        assert start("2.1", Command("x", slots=2), {}, Recorder()).worker == "small"
        [offer] = bench.runner.offers(9)
        assert [(slot.worker, slot.of, slot.free) for slot in offer.slots] == [("large", 4, 1)]
        await worker.say(Close(0, "1.1", reason="exit", offset=0))
        await seen.closed.wait()
        assert start("3.1", Command("x", slots=4), {}, Recorder()).worker == "large"


async def test_run_waits_for_a_worker_and_returns_the_outcome(bench, autojump_clock):
    results = []

    async def ask():
        output = []
        results.append(await bench.runner.run("echo", ["hi"], on_output=output.append))
        results.append(output[0].data)

    bench.nursery.start_soon(ask)
    await settle()
    async with bench.worker() as worker:
        spawn = await worker.hear(Spawn)
        run_id = spawn.options.id
        await worker.say(OutputChunk("stdout", b"hi\n", run_id, 0))
        await worker.say(Close(0, run_id, reason="exit", offset=3))
        await worker.hear(Closed)
        await settle()
    assert results[0].is_success
    assert results[1] == b"hi\n"


async def test_kill_and_refusal(bench, autojump_clock):
    async with bench.worker() as worker:
        killed, refused = Recorder(), Recorder()
        run = bench.runner.start("1.1", Command("x"), {}, killed)
        bench.runner.start("2.1", Command("x"), {}, refused)
        run.kill("SIGINT", 2.0)
        assert await worker.hear(Kill) == Kill("1.1", "SIGINT", 2000)
        await worker.say(Close(None, "1.1", signal="SIGINT", reason="killed", offset=0))
        await worker.say(Refused("2.1", "full"))
        await killed.closed.wait()
        await refused.closed.wait()
        assert killed.outcome.reason is Reason.KILLED
        assert refused.outcome.reason is Reason.REFUSED


async def test_foreign_ids_only_earn_a_stale(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker("a", slots=9), bench.worker("b", slots=1) as liar:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await liar.say(OutputChunk("stdout", b"lie", "1.1", 0), Close(0, "1.1", reason="exit"))
        assert await liar.hear(Stale) == Stale("1.1")
        assert seen.data == b""
        assert seen.outcome is None


async def test_silence_is_pinged_and_then_given_up(bench, autojump_clock):
    async with bench.worker() as worker:
        ping = await worker.hear(Ping)
        await worker.say(Pong(ping.n))
        assert len(bench.runner.workers()) == 1
        before = trio.current_time()
        await worker.hear_end()
        assert 30 <= trio.current_time() - before <= 41


async def test_draining_workers_get_no_more_runs(bench, autojump_clock):
    async with bench.worker() as worker:
        await worker.say(Draining())
        await settle()
        assert bench.runner.offers(9) == []
        assert bench.runner.workers()[0].state == "draining"


async def test_leaving_says_goodbye(autojump_clock, settings):
    runner = RemoteRunner(port=None, settings=settings)
    heard = []

    async def work(*, task_status):
        async with bench.worker() as worker:
            task_status.started()
            heard.append(await worker.hear(Goodbye))

    async with trio.open_nursery() as nursery, runner.open():
        bench = Bench(runner, nursery)
        await nursery.start(work)
    assert heard[0].reason == "shutdown"


async def test_after_its_goodbye_nothing_is_said_any_more(autojump_clock, settings):
    runner = RemoteRunner(port=None, settings=settings)
    async with trio.open_nursery() as nursery:
        leave = await nursery.start(_be_open_until_told, runner)
        async with Bench(runner, nursery).worker(pair=lockstep_stream_pair) as worker:
            run = runner.start("1.1", Command("x"), {}, Recorder())
            await worker.hear(Spawn)
            await worker.say(OutputChunk("stdout", b"abc", "1.1", 0))
            await settle()
            leave.set()
            await settle()  # it waits until its goodbye is read
            run.ack(3)
            await worker.say(Ping(1))
            await settle()
            assert (await worker.hear((Goodbye, Ack, Pong))).reason == "shutdown"


async def test_input_that_waits_for_room_does_not_follow_the_goodbye(autojump_clock, settings):
    runner = RemoteRunner(port=None, settings=settings)
    async with trio.open_nursery() as nursery:
        leave = await nursery.start(_be_open_until_told, runner)
        async with Bench(runner, nursery).worker(pair=lockstep_stream_pair) as worker:
            runner.start("1.1", Command("x", stdin=bytes(3 << 20)), {}, Recorder())
            await settle()
            leave.set()
            await settle()
            assert (await worker.hear((Goodbye, StdinEnd))).reason == "shutdown"


async def _be_open_until_told(runner, *, task_status):
    leave = trio.Event()
    async with runner.open():
        task_status.started(leave)
        await leave.wait()


async def test_a_flood_of_undurable_output_stops_the_reading_until_it_is_acked(
    bench, autojump_clock
):
    async with bench.worker() as worker:
        seen = Recorder()
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        chunk = b"x" * 65_536
        with trio.move_on_after(5):
            for number in range(1000):
                await worker.say(OutputChunk("stdout", chunk, "1.1", number * 65_536))
                await settle()
                if len(seen.data) < number * 65_536:
                    break
        stopped = len(seen.data)
        assert stopped < 12 * 1024 * 1024
        run.ack(stopped)
        await settle()
        assert len(seen.data) > stopped


async def test_a_connection_that_is_not_read_for_long_is_not_silent(bench, autojump_clock):
    async with bench.worker() as worker:
        seen = Recorder()
        run = bench.runner.start("1.1", Command("x"), {}, seen)
        chunk = bytes(65_536)
        for number in range(200):
            await worker.say(OutputChunk("stdout", chunk, "1.1", number * len(chunk)))
        await settle()
        assert len(seen.data) < 200 * len(chunk)
        while trio.current_time() < 300:  # it hears that the runner is there
            await worker.hear(Ping)
        assert len(bench.runner.workers()) == 1
        run.ack(len(seen.data))
        await settle()
        assert len(seen.data) == 200 * len(chunk)
        began = trio.current_time()
        await worker.hear_end()  # it says nothing more, and that is silence
        assert 30 <= trio.current_time() - began <= 41


async def test_the_time_in_which_it_was_not_read_is_no_silence_afterwards(bench, autojump_clock):
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", Command("x"), {}, Recorder())
        size = UNACKED_MARK + UNACKED_PER_RUN + 1  # the last byte is what stops the reading
        for start in range(0, size, 65_536):
            data = bytes(min(65_536, size - start))
            await worker.say(OutputChunk("stdout", data, "1.1", start))
            await settle()
        await trio.sleep(100)
        run.ack(size)
        await trio.sleep(9)  # it has nothing to say yet
        assert len(bench.runner.workers()) == 1


async def test_ready_later_changes_the_slots(bench, autojump_clock):
    async with bench.worker(slots=2) as worker:
        await worker.say(Ready(5))
        await settle()
        assert len(bench.runner.offers(9)[0].slots) == 5


async def test_a_paused_connection_that_is_replaced_leaves_nothing_behind(bench):
    async with bench.worker() as first:
        bench.runner.start("1.1", Command("yes"), {}, Recorder())
        chunk = bytes(64 * 1024)
        for number in range(200):
            offset = number * len(chunk)
            await first.say(OutputChunk("stdout", chunk, "1.1", offset))
        await settle()
        async with bench.worker(holds=[("1.1", "running", 200 * len(chunk))]):
            await settle()
            assert len(bench.nursery.child_tasks) == 1
