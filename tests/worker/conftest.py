"""A real worker over a simulated network and simulated processes; a machine with real ones."""

import pytest
import trio

from simple_worker.machine import opened_machine
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker
from tests.worker.simulation import Network, SimulatedDisk, SimulatedProcesses


class WorkerBench:
    """A worker that runs, and all that it meets. `said` are its lines for a person."""

    def __init__(self, nursery):
        self.network = Network()
        self.other = Network()
        """Where a second server of the queue is, for a worker that knows it."""
        self.processes = SimulatedProcesses()
        self.said = []
        self.now = 1234.5
        """What the wall clock says."""
        self.left = trio.Event()
        self._nursery = nursery

    def start(self, slots=2, once=False, spool=None, is_one_of_two=False):
        servers = [Server(self.network.connect, "the one"), Server(self.other.connect, "the other")]
        self.worker = Worker(
            Identity("w-1", "b-1", "name", slots, {"os": "linux"}),
            servers if is_one_of_two else [Server(self.network.connect)],
            self.processes,
            rng=lambda: 0.5,
            now=lambda: self.now,
            say=self.said.append,
            spool=spool,
            once=once,
        )
        self._nursery.start_soon(self._run)

    async def _run(self):
        await self.worker.run()
        self.left.set()


@pytest.fixture
def bench(nursery):
    return WorkerBench(nursery)


@pytest.fixture
def disk(monkeypatch):
    """What spools are written to, at once and in no virtual time; it breaks when a test says so."""
    disk = SimulatedDisk()
    monkeypatch.setattr("simple_worker.spool_files.SpoolFolder.in_thread", disk.in_thread)
    monkeypatch.setattr("simple_worker.spool_files.os", disk)
    return disk


@pytest.fixture
async def machine(tmp_path):
    """Real processes, as a program with children of its own starts them."""
    async with opened_machine(tmp_path) as machine:
        yield machine
