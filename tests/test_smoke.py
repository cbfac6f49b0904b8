"""The real server and the real worker in one event loop: simulated network, processes and time."""

import trio
from trio.testing import memory_stream_pair

from remote_runner.runner import RemoteRunner
from remote_runner.types import Reason
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker
from tests.worker.simulation import SimulatedProcesses

LINES = [
    (f"line {number}\n".encode(), ("stdout", "stderr")[number % 3 == 0]) for number in range(60)
]


async def count(child):
    """A line a second, on both streams; then exit code 3."""
    for data, stream in LINES:
        await child.write(data, stream)
        await trio.sleep(1)
    return 3


class Cable:
    """The one connection between the two; can be cut, and plugged in again."""

    def __init__(self, runner, nursery):
        self._runner = runner
        self._nursery = nursery
        self.is_plugged = True
        self.calls = 0

    async def connect(self):
        if not self.is_plugged:
            raise OSError("the cable is cut")
        self.calls += 1
        self._ends = ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._runner.handle_stream, theirs)
        return ours

    async def cut(self, seconds):
        self.is_plugged = False
        for end in self._ends:
            await trio.aclose_forcefully(end)
        await trio.sleep(seconds)
        self.is_plugged = True


async def test_a_job_runs_from_start_to_outcome_across_a_cut(autojump_clock, nursery):
    runner = RemoteRunner(port=None)
    processes = SimulatedProcesses()
    processes.programs["count"] = count
    outputs = []
    async with runner.open():
        cable = Cable(runner, nursery)
        worker = Worker(
            Identity("w-1", "b-1", "worker", 1),
            [Server(cable.connect)],
            processes,
            rng=lambda: 0.5,
            now=trio.current_time,
            say=lambda line: None,
        )
        nursery.start_soon(worker.run)

        async def cut_in_the_middle():
            await trio.sleep(20)
            assert 0 < len(outputs) < len(LINES)
            await cable.cut(20)

        nursery.start_soon(cut_in_the_middle)
        outcome = await runner.run("count", on_output=outputs.append)
        worker.drain()
        await trio.testing.wait_all_tasks_blocked()
    assert (outcome.reason, outcome.exit_code) == (Reason.EXIT, 3)
    for wanted in ("stdout", "stderr"):
        assert b"".join(o.data for o in outputs if o.stream == wanted) == b"".join(
            data for data, stream in LINES if stream == wanted
        )
    assert b"".join(o.data for o in outputs) == b"".join(data for data, _ in LINES)
    assert [o.offset for o in outputs] == sorted({o.offset for o in outputs})
    assert cable.calls == 2
    assert len(processes.children) == 1
