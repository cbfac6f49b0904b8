"""`RemoteRunner` against a scripted worker: placement, output, ends, lies and silence."""

from contextlib import AsyncExitStack

import msgpack
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import lockstep_stream_pair

from remote_runner.emitter import WRITE_SIZE
from remote_runner.errors import NoWorkerAvailable
from remote_runner.protocol.messages import (
    Ack,
    Close,
    Closed,
    Draining,
    Goodbye,
    Hello,
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
from remote_runner.server import (
    SWAPS_PER_MINUTE,
    UNACKED_MARK,
    UNACKED_PER_RUN,
    ServerSettings,
)
from remote_runner.types import Adoption, Command, Outcome, Reason
from tests.runner.conftest import Bench


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.data = b""
        self.streams = []
        self.started = False
        self.outcome = None
        self.closed = trio.Event()

    def on_started(self, run, pid):
        self.started = True

    def on_output(self, run, output):
        assert output.offset == len(self.data)
        self.data += output.data
        self.streams.append(output.stream)

    def on_closed(self, run, outcome):
        self.outcome = outcome
        self.closed.set()


async def settle():
    await trio.testing.wait_all_tasks_blocked()


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


async def test_a_cut_shorter_than_detach_goes_on_where_it_stopped(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker() as worker:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await worker.say(OutputChunk("stdout", b"abc", "1.1", 0))
        await settle()
    await trio.sleep(60)
    async with bench.worker(holds=[("1.1", "running", 5)]) as worker:
        assert await worker.hear(Resume) == Resume("1.1", 3)
        await worker.say(OutputChunk("stdout", b"de", "1.1", 3))
        await worker.say(Close(0, "1.1", reason="exit", offset=5))
        await seen.closed.wait()
    assert seen.data == b"abcde"


async def test_a_worker_that_stays_away_has_lost_its_runs(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker():
        bench.runner.start("1.1", Command("x"), {}, seen)
    before = trio.current_time()
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.WORKER_LOST
    assert 120 <= trio.current_time() - before <= 130


async def test_a_run_with_a_detach_of_its_own_is_given_up_after_that(bench, autojump_clock):
    lost = {}

    async def wait_for(seen, name):
        await seen.closed.wait()
        assert seen.outcome.reason is Reason.WORKER_LOST
        lost[name] = trio.current_time() - before

    async with bench.worker(slots=3) as worker:
        watched = {"long": 300.0, "short": 2.5, "usual": None}
        for name, detach in watched.items():
            seen = Recorder()
            bench.runner.start(name, Command("x", detach=detach), {}, seen)
            bench.nursery.start_soon(wait_for, seen, name)
            told = (await worker.hear(Spawn)).options.detach_ms
            assert told == (None if detach is None else detach * 1000)
    before = trio.current_time()
    await trio.sleep(301)
    assert lost == pytest.approx({"short": 2.5, "usual": 120, "long": 300}, abs=0.01)


async def test_a_worker_that_comes_back_without_a_run_has_lost_it_at_once(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker():
        bench.runner.start("1.1", Command("x"), {}, seen)
    async with bench.worker(boot="b-2"):
        assert seen.outcome.reason is Reason.WORKER_LOST


async def test_a_worker_that_presents_what_nobody_knows_is_told_so(bench, autojump_clock):
    async with bench.worker(holds=[("9.9", "running", 5)]) as worker:
        assert await worker.hear(Stale) == Stale("9.9")


async def test_foreign_ids_only_earn_a_stale(bench, autojump_clock):
    seen = Recorder()
    async with bench.worker("a", slots=9), bench.worker("b", slots=1) as liar:
        bench.runner.start("1.1", Command("x"), {}, seen)
        await liar.say(OutputChunk("stdout", b"lie", "1.1", 0), Close(0, "1.1", reason="exit"))
        assert await liar.hear(Stale) == Stale("1.1")
        assert seen.data == b""
        assert seen.outcome is None


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


class TestWithToken:
    @pytest.fixture
    def settings(self):
        return ServerSettings(server_id="s-1", token="right")

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


async def read_values(stream, count):
    unpacker, values = msgpack.Unpacker(), []
    while len(values) < count:
        unpacker.feed(await stream.receive_some())
        values += unpacker
    return values


async def test_a_silent_peer_is_a_baseline_worker(bench, autojump_clock):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls", ("-l",), env={"JOB_ID": "1"}), {}, seen)
    assert await read_values(stream, 1) == [["spawn", "ls", ["-l"], {}]]
    await stream.send_all(msgpack.packb(["stdout", b"hi"]) + msgpack.packb(["close", 4]))
    await seen.closed.wait()
    assert seen.data == b"hi"
    assert seen.outcome.exit_code == 4
    assert len(bench.runner.offers(9)[0].slots) == 1


async def test_a_baseline_worker_that_leaves_has_lost_its_run_at_once(bench, autojump_clock):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls"), {}, seen)
    before = trio.current_time()
    await stream.aclose()
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.WORKER_LOST
    assert trio.current_time() == before


async def test_a_run_that_has_ended_is_timed_no_more(bench, autojump_clock):
    """Or each short job with a timeout of a day would keep a task for a day."""
    stream = bench.dial()
    await trio.sleep(1.5)

    def living():
        return trio.lowlevel.current_statistics().tasks_living

    before = living()
    for number in range(20):
        seen = Recorder()
        run = bench.runner.start(str(number), Command("ls", timeout=86_400.0), {}, seen)
        if number % 2:
            run.kill(None, 86_400.0)
        await stream.send_all(msgpack.packb(["close", 0]))
        await seen.closed.wait()
        run.forget()
    await trio.testing.wait_all_tasks_blocked()
    assert living() == before


async def test_a_baseline_worker_that_ignores_a_kill_is_cut_off(bench, autojump_clock):
    bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    run = bench.runner.start("1.1", Command("ls"), {}, seen)
    run.kill(None, 2.0)
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.KILLED


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


async def test_a_host_may_adopt_what_a_worker_presents(autojump_clock, settings):
    seen = Recorder()
    seen.data = b"abc"

    class Adopter:
        ready = None

        def on_capacity(self):
            pass

        def adopt(self, run, size):
            return Adoption(seen, 3) if run.id == "1.1" else None

        def on_worker_ready(self, worker_id, boot, held):
            self.ready = (worker_id, held)

    host = Adopter()
    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(host), trio.open_nursery() as nursery:
        holds = [("1.1", "ended", 5), ("2.1", "running", 0)]
        async with Bench(runner, nursery).worker(slots=4, holds=holds) as worker:
            assert host.ready == ("w-1", frozenset({"1.1"}))
            assert await worker.hear(Resume) == Resume("1.1", 3)
            await worker.say(
                OutputChunk("stdout", b"de", "1.1", 3),
                Close(0, "1.1", reason="exit", offset=5),
            )
            await seen.closed.wait()
            assert seen.data == b"abcde"
        nursery.cancel_scope.cancel()


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


async def test_a_cancel_from_before_a_restart_signals_once_and_as_it_was_asked(
    autojump_clock, settings
):
    class Canceller:
        def on_capacity(self):
            pass

        def adopt(self, run, size):
            run.kill("SIGINT", 3.0)
            return Adoption(Recorder(), 0)

        def on_worker_ready(self, worker_id, boot, held):
            pass

    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(Canceller()), trio.open_nursery() as nursery:
        async with Bench(runner, nursery).worker(holds=[("1.1", "running", 0)]) as worker:
            await worker.say(Ping(1))
            heard = []
            while not any(isinstance(message, Pong) for message in heard):
                heard += worker.take_heard() or await worker.emitter.receive_batch()
            kills = [message for message in heard if isinstance(message, Kill)]
            assert kills == [Kill("1.1", "SIGINT", 3000)]
        nursery.cancel_scope.cancel()


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


async def test_a_worker_cannot_take_over_a_run_of_another(bench, autojump_clock):
    async with bench.worker("w-1") as owner:
        seen = Recorder()
        bench.runner.start("1.1", Command("x"), {}, seen)
        await owner.hear(Spawn)
        await owner.say(OutputChunk("stdout", b"mine", "1.1", 0))
        async with bench.worker("w-2", holds=[("1.1", "running", 4)]) as thief:
            assert (await thief.hear(Stale)).id == "1.1"
            await thief.say(Close(0, id="1.1", offset=4))
            assert (await thief.hear(Stale)).id == "1.1"
        await owner.say(OutputChunk("stdout", b" still", "1.1", 4), Close(3, id="1.1", offset=10))
        await seen.closed.wait()
    assert (seen.data, seen.outcome.exit_code) == (b"mine still", 3)


@pytest.mark.parametrize(("boot", "reason"), [("b-1", Reason.REFUSED), ("b-2", Reason.WORKER_LOST)])
async def test_a_spawn_that_did_not_arrive_is_no_loss(bench, autojump_clock, boot, reason):
    seen = Recorder()
    async with bench.worker():
        bench.runner.start("1.1", Command("x"), {}, seen)
    async with bench.worker(boot=boot):
        await seen.closed.wait()
    assert seen.outcome.reason is reason
