"""`RemoteRunner` places runs ahead of free slots, where slots become free quickly."""

import pytest
import trio

from remote_runner.errors import NoWorkerAvailable
from remote_runner.protocol.messages import Close, Closed, Draining, Ready, Spawn, Stale
from remote_runner.runner import AHEAD
from remote_runner.types import Command, Outcome, Reason
from tests.runner.conftest import Recorder, settle


class Busy:
    """A worker of two slots, both taken by `long-0` and `long-1`, after `quick` short runs."""

    def __init__(self, bench, worker):
        self.runner = bench.runner
        self.worker = worker
        self.seen = {}

    def start(self, run_id):
        self.seen[run_id] = Recorder()
        return self.runner.start(run_id, Command("job"), {}, self.seen[run_id], "w-1")

    async def run(self, run_id, duration_ms=1):
        self.start(run_id)
        await self.hear_spawn(run_id)
        await self.end(run_id, duration_ms)

    async def hear_spawn(self, run_id):
        assert (await self.worker.hear(Spawn)).options.id == run_id

    async def end(self, run_id, duration_ms=1):
        await self.worker.say(Close(0, run_id, reason="exit", offset=0, duration_ms=duration_ms))
        await self.seen[run_id].closed.wait()

    async def fill(self):
        for number in range(2):
            self.start(f"long-{number}")
            await self.hear_spawn(f"long-{number}")

    @property
    def room(self):
        return [len(offer.slots) for offer in self.runner.offers(9)]


@pytest.fixture
async def busy(bench, autojump_clock):
    async with bench.worker() as worker:
        busy = Busy(bench, worker)
        for number in range(2):
            await busy.run(f"quick-{number}")
        await busy.fill()
        yield busy


async def test_a_run_ahead_begins_when_a_slot_is_free(busy):
    assert busy.room == [2]
    busy.start("a")
    busy.start("b")
    assert busy.room == []
    with pytest.raises(NoWorkerAvailable):
        busy.start("c")
    await settle()
    assert busy.runner.workers()[0].running == ("long-0", "long-1")
    await busy.end("long-1")
    await busy.hear_spawn("a")
    await busy.end("long-0")
    await busy.hear_spawn("b")


async def test_only_as_many_as_were_quick_in_a_row(bench, autojump_clock):
    async with bench.worker(slots=2) as worker:
        busy = Busy(bench, worker)
        await busy.run("quick")
        await busy.fill()
        assert busy.room == [1]
        await busy.end("long-0", duration_ms=1000)
        busy.start("again")
        assert busy.room == []


async def test_not_while_anybody_has_a_free_slot(bench, busy):
    async with bench.worker("w-2", slots=1):
        assert [slot.worker_id for [slot] in [o.slots for o in busy.runner.offers(9)]] == ["w-2"]


async def test_a_slot_that_does_not_become_free_gives_the_run_back(busy):
    busy.start("a")
    before = trio.current_time()
    await busy.seen["a"].closed.wait()
    assert trio.current_time() - before <= AHEAD
    assert busy.seen["a"].outcome == Outcome(Reason.GIVEN_BACK)
    assert busy.room == []  # it is not believed to be quick any more
    await busy.end("long-0")
    busy.start("b")
    await busy.hear_spawn("b")


async def test_each_waits_for_its_own_time(busy):
    busy.start("a")
    await trio.sleep(AHEAD / 4)
    await busy.end("long-0")
    await busy.hear_spawn("a")
    busy.start("b")
    await trio.sleep(AHEAD / 2 - 0.001)
    assert not busy.seen["b"].closed.is_set()
    await busy.end("a")
    await busy.hear_spawn("b")


@pytest.mark.parametrize("message", [Draining(), None], ids=["draining", "gone"])
async def test_a_worker_that_leaves_gives_them_back(bench, autojump_clock, message):
    async with bench.worker() as worker:
        busy = Busy(bench, worker)
        await busy.run("quick")
        await busy.fill()
        run = busy.start("a")
        if message is None:
            await trio.aclose_forcefully(worker.emitter.stream)
        else:
            await worker.say(message)
        await settle()
        assert busy.seen["a"].outcome == Outcome(Reason.GIVEN_BACK)
        run.forget()


async def test_a_kill_ends_it_before_it_begins(busy):
    run = busy.start("a")
    busy.start("b")
    run.kill()
    assert busy.seen["a"].outcome == Outcome(Reason.KILLED)
    run.forget()
    await busy.end("long-0")
    await busy.hear_spawn("b")


async def test_a_worker_cannot_speak_of_what_it_was_not_sent(busy):
    busy.start("a")
    await busy.worker.say(Close(0, "a", reason="exit", offset=0))
    assert await busy.worker.hear(Stale) == Stale("a")
    await busy.end("long-0")
    await busy.hear_spawn("a")


async def test_more_slots_take_what_waits_for_one(busy):
    busy.start("a")
    await busy.worker.say(Ready(1))
    await busy.hear_spawn("a")
    assert not [message for message in busy.worker.take_heard() if isinstance(message, Closed)]
