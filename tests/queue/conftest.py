"""The real dispatcher over a store in memory, with simulated time: what is durable is durable."""

from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.dispatcher import Dispatcher
from queued_runner.events import Events
from queued_runner.fleet import Fleet
from queued_runner.hints import NoHints
from queued_runner.jobs import JobSpec, Limits
from queued_runner.logs import Logs
from queued_runner.results import Results
from queued_runner.store.commit import GroupCommit
from queued_runner.store.sqlite import SQLiteStore
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker
from tests.worker.simulation import SimulatedProcesses


async def inline(function):
    """Blocking work without a thread: a virtual clock would not wait for one."""
    await trio.lowlevel.checkpoint()
    return function()


LIVES = count(1)
"""No two servers have the same id, whatever bench they were on."""


class QueueBench:
    """A queue that outlives the servers which a test opens on it, one after the other."""

    def __init__(self, folder, store=None):
        self._folder = folder
        self.store = store or SQLiteStore(":memory:")
        self.commits = None
        self.results = None

    def add(self, command, **fields):
        """The id of a new job."""
        (job_id,) = self.store.add([JobSpec(command=command, **fields)], trio.current_time()).ids
        return job_id

    def job(self, job_id):
        return self.store.get(job_id)

    @asynccontextmanager
    async def server(self, *runners, limits=None, run_sync=inline):
        """A server on this queue; leaving it is a crash. `run_sync` runs its commits."""
        commits = self.commits = GroupCommit(self.store, run_sync)
        logs = Logs(self._folder, run_sync=inline, now=trio.current_time)
        results = self.results = Results(self._folder / "results", run_sync=inline)
        dispatcher = Dispatcher(
            self.store.identity(),
            commits,
            logs,
            runners,
            results=results,
            limits=limits or Limits(),
            events=Events("b", trio.current_time),
            hints=NoHints(),
            is_shared=False,
            now=trio.current_time,
            rng=lambda: 0.5,
        )
        life = f"life-{next(LIVES)}"
        fleet = Fleet(
            commits,
            dispatcher,
            runners,
            name="server",
            new_id=lambda: life,
            is_shared=False,
            detach=dispatcher.limits.detach,
            silence=0.0,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.run)
            nursery.start_soon(logs.run)
            nursery.start_soon(results.run)
            await results.tidy(self.store.result_files())
            await fleet.enter()
            nursery.start_soon(dispatcher.takeovers.load)
            for runner in runners:
                await nursery.start(_keep_open, runner, dispatcher)
            nursery.start_soon(dispatcher.run)
            nursery.start_soon(dispatcher.expire)
            nursery.start_soon(fleet.run)
            yield dispatcher
            nursery.cancel_scope.cancel()

    async def end_of(self, dispatcher, job_id):
        """The job, once it has ended."""
        while not self.job(job_id).state.is_terminal:
            await dispatcher.changes.of(job_id).wait()
        return self.job(job_id)


async def _keep_open(runner, host, *, task_status):
    async with runner.open(host):
        task_status.started()
        await trio.sleep_forever()


@pytest.fixture
def queue(tmp_path):
    return QueueBench(tmp_path)


class Wire:
    """Connects workers to the server of the moment; each can be cut off by its name."""

    def __init__(self, nursery):
        self._nursery = nursery
        self._ends = {}
        self.runner = None
        self.cut_off = set()

    async def dial(self, name):
        if self.runner is None or name in self.cut_off:
            raise OSError("no route")
        ours, theirs = memory_stream_pair()
        self._ends[name] = ours, theirs
        self._nursery.start_soon(self.runner.handle_stream, theirs)
        return ours

    async def cut(self, name):
        self.cut_off.add(name)
        for end in self._ends.get(name, ()):
            await trio.aclose_forcefully(end)


@pytest.fixture
def processes():
    """Those of every worker, with the times of each child's life in `lives`."""
    processes = SimulatedProcesses()
    processes.lives = []

    async def live(child):
        begin = trio.current_time()
        try:
            await trio.sleep(40)
        finally:
            processes.lives.append((begin, trio.current_time()))

    async def talk(child):
        await child.write(b"0123456789")

    processes.programs = {"live": live, "talk": talk}
    return processes


@pytest.fixture
def start_worker(nursery, processes):
    def start(wire, name):
        worker = Worker(
            Identity(name, f"boot-{name}", name, 1),
            [Server(lambda: wire.dial(name))],
            processes,
            rng=lambda: 0.5,
            now=trio.current_time,
            say=lambda line: None,
        )
        nursery.start_soon(worker.run)

    return start
