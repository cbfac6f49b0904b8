"""Workers that were away: what goes on, what is lost, what was never theirs."""

from contextlib import asynccontextmanager

import pytest
import trio

from remote_runner.errors import NotNow
from remote_runner.protocol.messages import (
    Ack,
    Attempts,
    Close,
    Goodbye,
    Hello,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Resume,
    Spawn,
    Stale,
    Welcome,
)
from remote_runner.run import NoHost
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from remote_runner.types import Adoption, Command, Output, Reason
from tests.runner.conftest import Bench, Recorder, settle


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


async def test_an_acknowledgement_that_was_lost_in_a_cut_is_repeated(bench, autojump_clock):
    """A worker whose memory is full waits for it, and sends nothing more before."""
    async with bench.worker() as worker:
        run = bench.runner.start("1.1", Command("x"), {}, Recorder())
        await worker.say(OutputChunk("stdout", b"abc", "1.1", 0))
        await settle()
    run.ack(2)
    async with bench.worker(holds=[("1.1", "running", 3)]) as worker:
        assert await worker.hear((Resume, Ack)) == Resume("1.1", 3)
        assert await worker.hear((Resume, Ack)) == Ack("1.1", 2)


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


async def test_a_host_may_adopt_what_a_worker_presents(autojump_clock, settings):
    seen = Recorder()
    seen.on_output(None, Output("stdout", b"abc", 0))

    class Adopter(NoHost):
        id = "queue"
        ready = None
        stale = 0

        def adopt(self, run, size):
            return Adoption(seen, 3, slots=2) if run.id == "1.1" else None

        def on_worker_ready(self, worker_id, boot, held):
            self.ready = (worker_id, held)

        def on_stale(self):
            self.stale += 1

    host = Adopter()
    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(host), trio.open_nursery() as nursery:
        holds = [("1.1", "ended", 5), ("2.1", "running", 0)]
        async with Bench(runner, nursery).worker(slots=4, holds=holds) as worker:
            assert host.ready == ("w-1", frozenset({"1.1"}))
            assert runner.workers()[0].free == 2
            assert await worker.hear(Resume) == Resume("1.1", 3)
            await worker.say(
                OutputChunk("stdout", b"de", "1.1", 3),
                Close(0, "1.1", reason="exit", offset=5),
            )
            await seen.closed.wait()
            assert seen.data == b"abcde"
        nursery.cancel_scope.cancel()


async def test_a_cancel_from_before_a_restart_signals_once_and_as_it_was_asked(
    autojump_clock, settings
):
    class Canceller(NoHost):
        id = "queue"

        def adopt(self, run, size):
            run.kill("SIGINT", 3.0)
            return Adoption(Recorder(), 0)

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


# --- whom a server makes run on ---


class Queue(NoHost):
    """A host that makes a worker's runs its own when it is told to, and adopts them later still."""

    id = "queue"

    def __init__(self, *, is_shared):
        self.is_shared = is_shared
        self.is_asked = trio.Event()
        self.is_in_reach = trio.Event()
        self.is_away = False
        self.is_loaded = trio.Event()

    async def prepare(self, worker, boot, connection):
        self.is_asked.set()
        if self.is_away:
            raise NotNow("away")
        await self.is_in_reach.wait()
        return self.is_loaded.wait

    def adopt(self, run, size):
        return Adoption(Recorder(), 0)


@asynccontextmanager
async def connected(host):
    """A worker that has said hello to a new server of this host."""
    runner = RemoteRunner(port=None, settings=ServerSettings())
    async with runner.open(host), trio.open_nursery() as nursery:
        async with Bench(runner, nursery).connect() as worker:
            await worker.say(Hello((1, 1), "w-1", "b-1", "w-1", 2, {}, "0", None))
            yield worker
        nursery.cancel_scope.cancel()


async def test_one_of_several_servers_welcomes_nobody_whose_runs_another_may_give_up(
    autojump_clock,
):
    host = Queue(is_shared=True)
    host.is_away = True
    async with connected(host) as worker:
        assert (await worker.hear((Welcome, Goodbye))).reason == "away"


async def test_one_of_several_servers_says_nothing_before_it_welcomes(autojump_clock):
    host = Queue(is_shared=True)
    async with connected(host) as worker:
        await trio.sleep(9 * ServerSettings().heartbeat)
        host.is_in_reach.set()
        await worker.hear(Welcome)


async def test_a_server_that_is_alone_takes_what_a_worker_has_before_it_makes_it_run_on(
    autojump_clock,
):
    """Or it would give up what it has from its last life while the worker believes in its welcome:
    what the worker says of it may be held up on its way."""
    host = Queue(is_shared=False)
    async with connected(host) as worker:
        await host.is_asked.wait()
        host.is_in_reach.set()
        await worker.hear(Welcome)


async def test_a_server_that_is_alone_keeps_its_workers_while_it_cannot_write(autojump_clock):
    host = Queue(is_shared=False)
    async with connected(host) as worker:
        await worker.hear(Welcome)
        host.is_away = True
        await worker.say(Ready(2))
        assert (await worker.hear(Goodbye)).reason == "away"


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_worker_is_kept_for_as_long_as_it_takes_to_adopt_its_runs(
    autojump_clock, is_shared
):
    host = Queue(is_shared=is_shared)
    host.is_in_reach.set()
    async with connected(host) as worker:
        await worker.hear(Welcome)
        await worker.say(Attempts((("1.1", "running", 0),)), Ready(1))
        for _ in range(30):
            await worker.hear(Ping)
        host.is_loaded.set()
        assert (await worker.hear(Resume)).id == "1.1"
