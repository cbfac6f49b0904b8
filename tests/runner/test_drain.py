"""A worker that the server drains: it gets nothing new, keeps what it has, and can be resumed."""

import pytest
import trio

from remote_runner.errors import NoWorkerAvailable
from remote_runner.protocol.messages import Close, Draining, Refused, Spawn, Withdraw
from remote_runner.run import NoHost
from remote_runner.runner import RemoteRunner
from remote_runner.types import Command, Reason, WorkerEvent
from tests.runner.conftest import Bench, Recorder, settle


class Listener(NoHost):
    """A host that keeps what it is told of workers."""

    id = "queue"

    def __init__(self):
        self.told = []

    def on_worker(self, event, worker):
        self.told.append((event.value, worker.name, worker.state))

    def on_protocol_error(self):
        self.told.append("protocol error")


@pytest.fixture
def host():
    return Listener()


@pytest.fixture
async def bench(autojump_clock, settings, host):
    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(host), trio.open_nursery() as nursery:
        yield Bench(runner, nursery)
        nursery.cancel_scope.cancel()


def names(runner):
    """The workers of the slots that are offered."""
    return [slot.worker for offer in runner.offers(100) for slot in offer.slots]


async def test_a_drained_worker_gets_nothing_new_and_keeps_what_it_has(bench, host):
    runner = bench.runner
    async with bench.worker("w-1", slots=2) as worker, bench.worker("w-2", slots=1):
        run, seen = Command("true"), Recorder()
        runner.start("1.1", run, {}, seen, "w-1")
        await worker.hear(Spawn)
        runner.drain("w-1")
        runner.drain("w-1")
        assert names(runner) == ["w-2"]
        with pytest.raises(NoWorkerAvailable):
            runner.start("2.1", run, {}, Recorder(), "w-1")
        assert [info.state for info in runner.workers()] == ["draining", "ready"]
        assert host.told[-1] == ("draining", "w-1", "draining")
        await worker.say(Close(0, "1.1", reason="exit", offset=0))
        await seen.closed.wait()
        assert seen.outcome.is_success
        assert host.told[-1] == ("drained", "w-1", "drained")
        runner.resume("w-1")
        runner.resume("w-1")
        assert sorted(names(runner)) == ["w-1", "w-1", "w-2"]
        assert host.told[-1] == ("resumed", "w-1", "ready")
        assert len(host.told) == 5


async def test_it_stays_drained_when_it_connects_again_and_others_do_not_notice(bench, host):
    runner = bench.runner
    runner.drain("w-1")
    async with bench.worker("w-1"), bench.worker("w-2", slots=1):
        assert names(runner) == ["w-2"]
    async with bench.worker("w-1", boot="b-2"):
        assert names(runner) == []
        assert host.told[-2:] == [("joined", "w-1", "drained"), ("drained", "w-1", "drained")]
        runner.resume("w-1")
        assert names(runner) == ["w-1", "w-1"]
    runner.drain("w-3")
    runner.resume("w-3")
    async with bench.worker("w-3"):
        assert names(runner) == ["w-3", "w-3"]


async def test_what_waits_there_for_a_slot_is_given_back(bench, host):
    runner = bench.runner
    async with bench.worker("w-1", slots=1) as worker:
        quick = Recorder()
        runner.start("1.1", Command("true"), {}, quick)
        await worker.say(Close(0, "1.1", reason="exit", offset=0, duration_ms=1))
        await quick.closed.wait()
        running, ahead = Recorder(), Recorder()
        runner.start("2.1", Command("true"), {}, running, "w-1")
        runner.start("3.1", Command("true"), {}, ahead, "w-1")
        for _ in range(3):
            await worker.hear(Spawn)
        runner.drain("w-1")
        assert await worker.hear(Withdraw) == Withdraw("3.1")
        await worker.say(Refused("3.1", "withdrawn"))
        await ahead.closed.wait()
        assert ahead.outcome.reason is Reason.GIVEN_BACK
        assert running.outcome is None
        assert names(runner) == []
        await worker.say(Close(0, "2.1", reason="exit", offset=0, duration_ms=1))
        await running.closed.wait()
        assert host.told[-1] == ("drained", "w-1", "drained")
        assert names(runner) == []


async def test_one_that_leaves_by_itself_says_so_once(bench, host):
    async with bench.worker("w-1") as worker:
        await worker.say(Draining(), Draining())
        await settle()
        (info,) = bench.runner.workers()
        assert (info.state, info.is_leaving, info.free) == ("draining", True, 0)
        bench.runner.drain("w-1")
        bench.runner.resume("w-1")
        assert bench.runner.workers()[0].state == "draining"
        assert names(bench.runner) == []
    assert [item[0] for item in host.told].count(WorkerEvent.LEAVING) == 1


async def test_a_baseline_worker_is_drained_for_its_connection(bench, host):
    async with bench.connect():
        await trio.sleep(1.1)
        (info,) = bench.runner.workers()
        bench.runner.drain(info.id)
        assert names(bench.runner) == []
    await settle()
    async with bench.connect():
        await trio.sleep(1.1)
        assert len(names(bench.runner)) == 1


async def test_rubbish_is_told(bench, host):
    async with bench.worker("w-1") as worker:
        await worker.say(Close(0, "9.1", reason="exit", offset=0))
        await worker.say(Close(0, None, reason="exit", offset=0))
        await settle()
    assert "protocol error" in host.told
