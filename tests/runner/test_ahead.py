"""`RemoteRunner` places runs ahead of free slots, where slots become free quickly."""

import pytest
import trio

from remote_runner.ahead import LONGEST_ECHO, PATIENCE
from remote_runner.errors import NoWorkerAvailable
from remote_runner.pool import QUICK, RECENT
from remote_runner.protocol.messages import (
    AHEAD_PER_SLOT,
    Close,
    Draining,
    Goodbye,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    Spawn,
    Started,
    Withdraw,
)
from remote_runner.server import ServerSettings
from remote_runner.types import Command, Outcome, Reason
from tests.runner.conftest import Recorder, settle


class Busy:
    """A worker of two slots, both taken by `long-0` and `long-1`, after `quick` short runs."""

    def __init__(self, bench, worker):
        self.runner = bench.runner
        self.worker = worker
        self.seen = {}

    def start(self, run_id, detach=None):
        self.seen[run_id] = Recorder()
        command = Command("job", detach=detach)
        return self.runner.start(run_id, command, {}, self.seen[run_id], "w-1")

    async def place(self, run_id, detach=None):
        """Start it, and hear of it at the worker."""
        run = self.start(run_id, detach)
        assert (await self.worker.hear(Spawn)).options.id == run_id
        return run

    async def run(self, run_id, duration_ms=1):
        await self.place(run_id)
        await self.end(run_id, duration_ms)

    async def begin(self, run_id):
        await self.worker.say(Started(run_id, 1, 0))
        await settle()

    async def end(self, run_id, duration_ms=1):
        await self.worker.say(Close(0, run_id, reason="exit", offset=0, duration_ms=duration_ms))
        await self.seen[run_id].closed.wait()

    async def live(self, seconds):
        """Let time pass, and give signs of life meanwhile. Whether something was asked back."""
        is_asked = False
        for _ in range(seconds):
            await trio.sleep(1)
            is_asked |= await self.is_asked_back()
        return is_asked

    async def is_asked_back(self):
        """Whether a withdrawal has come by now, or since this was asked last."""
        await self.worker.say(Ping(7))
        is_asked = False
        while not isinstance(message := await self.worker.hear((Pong, Withdraw)), Pong):
            is_asked = True
        return is_asked and message.n == 7

    async def fill(self):
        for number in range(2):
            await self.place(f"long-{number}")
            await self.begin(f"long-{number}")

    @property
    def room(self):
        return [len(offer.slots) for offer in self.runner.offers(99)]


@pytest.fixture
async def busy(bench, autojump_clock):
    async with bench.worker() as worker:
        busy = Busy(bench, worker)
        for number in range(2):
            await busy.run(f"quick-{number}")
        await busy.fill()
        yield busy


async def test_runs_ahead_are_sent_at_once_and_do_not_run_yet(autojump_clock, busy):
    assert busy.room == [2]
    await busy.place("a")
    await busy.place("b")
    assert busy.room == []
    with pytest.raises(NoWorkerAvailable):
        busy.start("c")
    await settle()
    assert busy.runner.workers()[0].running == ("long-0", "long-1")
    await busy.end("long-1")
    await busy.begin("a")
    assert busy.runner.workers()[0].running == ("a", "long-0")
    assert busy.seen["a"].started == [("a", 1)]


@pytest.mark.parametrize("how", ["time", "a long one", "a refusal"])
async def test_only_as_many_as_have_ended_quickly_just_now(autojump_clock, bench, how):
    async with bench.worker(slots=2) as worker:
        busy = Busy(bench, worker)
        for number in range(3):
            await busy.run(f"quick-{number}")
        if how == "time":
            await trio.sleep(RECENT)
            await busy.run("quick-again")
        elif how == "a long one":
            await trio.sleep(RECENT)
            await busy.run("long", duration_ms=1000 * QUICK)
        else:
            await busy.place("refused")
            await worker.say(Refused("refused", "no room"))
            await busy.seen["refused"].closed.wait()
        await busy.fill()
        assert busy.room == ([1] if how == "time" else [])


async def test_and_never_more_than_its_slots_allow(bench, autojump_clock):
    async with bench.worker(slots=2) as worker:
        busy = Busy(bench, worker)
        for number in range(20):
            await busy.run(f"quick-{number}")
        await busy.fill()
        assert busy.room == [2 * AHEAD_PER_SLOT]


async def test_not_while_anybody_has_a_free_slot(autojump_clock, bench, busy):
    async with bench.worker("w-2", slots=1):
        assert [slot.worker_id for [slot] in [o.slots for o in busy.runner.offers(9)]] == ["w-2"]


async def test_not_at_a_worker_that_cannot_give_back(bench, autojump_clock):
    async with bench.worker(features=()) as worker:
        busy = Busy(bench, worker)
        for number in range(2):
            await busy.run(f"quick-{number}")
        await busy.fill()
        assert busy.room == []
        with pytest.raises(NoWorkerAvailable):
            busy.start("a")


async def test_a_slot_that_does_not_become_free_gives_the_run_back(autojump_clock, busy):
    await busy.place("a")
    before = trio.current_time()
    assert await busy.worker.hear(Withdraw) == Withdraw("a")
    assert PATIENCE / 2 <= trio.current_time() - before <= PATIENCE
    assert busy.room == []  # it is not believed to be quick any more
    assert busy.runner.workers()[0].running == ("long-0", "long-1")
    assert not busy.seen["a"].closed.is_set()
    await busy.worker.say(Refused("a", "withdrawn"))
    await busy.seen["a"].closed.wait()
    assert busy.seen["a"].outcome == Outcome(Reason.GIVEN_BACK)
    await busy.end("long-0")
    await busy.place("b")


async def test_one_that_has_just_begun_goes_on(autojump_clock, busy):
    await busy.place("a")
    await busy.worker.hear(Withdraw)
    await busy.begin("a")
    await busy.live(1000)
    await busy.end("a", duration_ms=1_000_000)
    assert busy.seen["a"].outcome.reason is Reason.EXIT


async def test_it_is_asked_for_once(autojump_clock, busy):
    await busy.place("a")
    await busy.worker.hear(Withdraw)
    assert not await busy.live(100)


@pytest.mark.parametrize("settings", [ServerSettings(detach=30)])
async def test_a_worker_that_neither_begins_it_nor_gives_it_back_has_lost_it(autojump_clock, busy):
    await busy.place("a")
    await busy.worker.hear(Withdraw)
    await busy.live(69)
    assert not busy.seen["a"].closed.is_set()
    await busy.live(2)
    assert busy.seen["a"].outcome.reason is Reason.UNHEARD
    assert not busy.seen["long-0"].closed.is_set()


async def test_one_whose_worker_may_only_be_out_of_reach_has_its_time_after_that(
    autojump_clock, busy
):
    """That it has begun may be on its way: a worker is heard of again before it is given up."""
    await busy.place("a", detach=1)
    await busy.worker.hear(Withdraw)
    await trio.sleep(29)
    assert not busy.seen["a"].closed.is_set()
    await busy.begin("a")
    await busy.live(100)
    await busy.end("a")
    assert busy.seen["a"].outcome.reason is Reason.EXIT


async def test_each_waits_for_its_own_time(autojump_clock, busy):
    await busy.place("a")
    await trio.sleep(PATIENCE / 4)
    await busy.end("long-0")
    await busy.begin("a")
    await busy.place("b")
    await trio.sleep(PATIENCE / 2 - 0.001)
    assert not await busy.is_asked_back()


async def test_a_worker_that_leaves_is_asked_for_them(autojump_clock, bench, busy):
    await busy.place("a")
    await busy.worker.say(Draining())
    assert await busy.worker.hear(Withdraw) == Withdraw("a")
    await busy.worker.say(Refused("a", "draining"))
    await busy.seen["a"].closed.wait()
    assert busy.seen["a"].outcome == Outcome(Reason.GIVEN_BACK)


async def test_what_a_worker_does_not_list_when_it_is_back_never_began(autojump_clock, bench, busy):
    await busy.place("a")
    await trio.aclose_forcefully(busy.worker.emitter.stream)
    await settle()
    assert not busy.seen["a"].closed.is_set()  # it may have begun just now
    async with bench.worker(holds=[("long-0", "running", 0), ("long-1", "running", 0)]):
        assert busy.seen["a"].outcome == Outcome(Reason.REFUSED)
        assert not busy.seen["long-0"].closed.is_set()


async def test_what_waited_at_a_worker_that_began_anew_is_not_counted_as_a_loss(
    autojump_clock, bench, busy
):
    await busy.place("a")
    await busy.place("b")
    await busy.end("long-0")
    await busy.begin("a")
    await trio.aclose_forcefully(busy.worker.emitter.stream)
    async with bench.worker(boot="b-2"):
        reasons = {name: seen.outcome.reason for name, seen in busy.seen.items()}
        assert reasons["a"] is reasons["long-1"] is Reason.WORKER_LOST
        assert reasons["b"] is Reason.UNHEARD


async def test_what_it_has_begun_meanwhile_goes_on(autojump_clock, bench, busy):
    await busy.place("a")
    await trio.aclose_forcefully(busy.worker.emitter.stream)
    async with bench.worker(holds=[("long-0", "running", 0), ("a", "running", 0)]) as worker:
        assert not busy.seen["a"].closed.is_set()
        busy.worker = worker
        await busy.end("a")


async def test_a_kill_ends_it_before_it_begins(autojump_clock, busy):
    run = await busy.place("a")
    run.kill()
    assert (await busy.worker.hear(Kill)).id == "a"
    await busy.worker.say(Close(None, "a", reason="killed", offset=0))
    await busy.seen["a"].closed.wait()
    assert busy.seen["a"].outcome.reason is Reason.KILLED


async def test_output_says_that_it_has_begun(autojump_clock, busy):
    await busy.place("a")
    await busy.worker.say(OutputChunk("stdout", b"x", "a", 0))
    await settle()
    assert busy.runner.workers()[0].running == ("a", "long-0", "long-1")
    await busy.worker.say(Refused("a", "withdrawn"))
    assert "after it had begun" in (await busy.worker.hear(Goodbye)).message


async def test_more_slots_are_counted_without_what_waits(autojump_clock, busy):
    await busy.place("a")
    await busy.worker.say(Ready(1))
    await settle()
    [worker] = busy.runner.workers()
    assert worker.slots == 3


@pytest.mark.parametrize(("echo", "counted"), [(0.3, 0.3), (5.0, LONGEST_ECHO)])
async def test_a_worker_far_away_has_the_time_of_its_answers(autojump_clock, bench, echo, counted):
    async with bench.worker() as worker:
        busy = Busy(bench, worker)
        for number in range(2):
            await busy.run(f"quick-{number}")
        for number in range(2):
            await busy.place(f"long-{number}")
            await trio.sleep(echo)
            await busy.begin(f"long-{number}")
        await busy.place("a")
        before = trio.current_time()
        await worker.hear(Withdraw)
        assert PATIENCE / 2 + counted <= trio.current_time() - before <= PATIENCE + counted
