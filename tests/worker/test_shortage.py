"""A worker without room and the real runner: both agree on the free slots, and nothing spins."""

import trio

from remote_runner.protocol.messages import Refused, Spawn, SpawnOptions
from remote_runner.runner import RemoteRunner
from remote_runner.types import Command, Reason
from simple_worker.launch import SpawnFailure
from simple_worker.spool_files import SpoolFolder
from simple_worker.worker import LOOK
from tests.runner.conftest import Bench, Recorder
from tests.worker.simulation import connected_slots

MINUTE = 60.0


class Pair:
    """The worker of a bench at a runner."""

    def __init__(self, bench, runner, nursery):
        self.runner = runner
        self._dial = Bench(runner, nursery).dial
        self._bench = bench
        self._ends = trio.Event()
        self._count = 0
        self.spawns = 0
        bench.processes.programs = {"job": self._job}
        bench.network.connect = self._connect

    async def _connect(self):
        return self._dial()

    async def _job(self, child):
        await self._ends.wait()
        return 0

    def end_jobs(self):
        self._ends.set()
        self._ends = trio.Event()

    @property
    def free(self):
        (worker,) = self.runner.workers()
        return worker.free

    async def run_until_it_has_ended(self):
        """A job, started again and again, as soon as there is room, while it is refused."""
        while True:
            while not self.free:
                await trio.sleep(0.01)
            seen = Recorder()
            self._count += 1
            self.spawns += 1
            run = self.runner.start(f"{self._count}.1", Command("job"), {}, seen)
            await seen.closed.wait()
            self.runner.forget(run)
            if seen.outcome.reason is not Reason.REFUSED:
                return seen.outcome


async def play(bench, nursery, spool, act):
    runner = RemoteRunner(port=None)
    async with runner.open(), trio.open_nursery() as jobs:
        pair = Pair(bench, runner, nursery)
        bench.start(slots=2, spool=spool)
        await trio.sleep(1)
        await act(pair, jobs)
        bench.worker.drain()
        await bench.left.wait()


async def test_slots_that_become_free_meanwhile_are_not_filled_and_all_come_back(
    autojump_clock, bench, nursery, disk, tmp_path
):
    async def act(pair, jobs):
        for _ in range(4):
            jobs.start_soon(pair.run_until_it_has_ended)
        await trio.sleep(1)
        assert (pair.free, pair.spawns) == (0, 2)
        disk.free = 0
        await trio.sleep(LOOK + 1)
        pair.end_jobs()  # two have ended, two wait: there is no room for them
        await trio.sleep(MINUTE)
        assert pair.free == 0
        assert pair.spawns <= 4
        disk.free = 10**12
        await trio.sleep(LOOK + 1)
        assert len(bench.processes.children) == 4
        assert pair.free == 0
        pair.end_jobs()
        await trio.sleep(1)
        assert pair.free == 2

    await play(bench, nursery, SpoolFolder(tmp_path, 0, print), act)


async def test_a_worker_that_can_start_nothing_is_tried_now_and_then(
    autojump_clock, bench, nursery
):
    failure = SpawnFailure(126, "job: Cannot allocate memory", is_refusal=True)
    start = bench.processes.start

    async def act(pair, jobs):
        bench.processes.start = lambda launch: failure
        for _ in range(10):
            jobs.start_soon(pair.run_until_it_has_ended)
        await trio.sleep(MINUTE)
        assert MINUTE / LOOK / 2 <= pair.spawns <= 10 + 3 * MINUTE / LOOK
        bench.processes.start = start
        while pair.spawns and len(bench.processes.children) < 10:
            await trio.sleep(LOOK)
            pair.end_jobs()
        await trio.sleep(1)
        pair.end_jobs()
        await trio.sleep(1)
        assert pair.free == 2

    await play(bench, nursery, None, act)


class Full:
    """A machine that has no room, and says why as the others are told."""

    def __init__(self):
        self.begun = []
        self._untold = []

    def begin(self, launch, then):
        self.begun.append(launch)
        self._untold.append(then)
        return False

    def settle(self):
        while self._untold:
            self._untold.pop()(SpawnFailure(126, "no room here", is_refusal=True))


async def test_where_one_finds_no_room_no_other_is_begun(nursery):
    machine = Full()
    slots = connected_slots(machine, 3)
    await nursery.start(slots.run)
    slots.outlet.lateness = 1000.0
    for number in range(5):
        slots.receive(Spawn("true", (), SpawnOptions(id=f"{number}.1")))
    slots.outlet.lateness = 0.0
    slots.begin_waiting()
    assert len(machine.begun) == 1
    told = [call.args[0] for call in slots.outlet.send.call_args_list]
    assert sorted(m.id for m in told if isinstance(m, Refused)) == [f"{n}.1" for n in range(5)]
    assert (slots.is_idle, slots.shortage) == (True, "no room here")
