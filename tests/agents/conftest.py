"""The real dispatcher and agents over a store in memory, in virtual time; no HTTP."""

from contextlib import asynccontextmanager

import pytest
import trio

from queued_runner.agents.agent import PREFIX, Agent
from queued_runner.agents.runner import AgentRunner
from queued_runner.dispatcher import Dispatcher
from queued_runner.events import Events
from queued_runner.fleet import Fleet
from queued_runner.hints import NoHints
from queued_runner.jobs import JobSpec, Limits
from queued_runner.logs import Logs
from queued_runner.results import Results
from queued_runner.store.commit import GroupCommit
from queued_runner.store.sqlite import SQLiteStore
from tests.queue.conftest import inline
from tests.queue.shared_store import Connection

OURS = Agent("id-1", "boot-1", name="ours", slots=2)


class AgentBench:
    """A queue that outlives the servers which a test opens on it, one after the other."""

    def __init__(self, folder):
        self._folder = folder
        self.store = SQLiteStore(":memory:")
        self._lives = 0

    def add(self, command="true", **fields):
        (job_id,) = self.store.add([JobSpec(command=command, **fields)], trio.current_time()).ids
        return job_id

    def job(self, job_id):
        return self.store.get(job_id)

    @asynccontextmanager
    async def server(self, *, limits=None, run_sync=inline, place=None):
        """A server on this queue; leaving it is a crash. `place`: one of several, of which there is
        one life at a time."""
        is_shared = place is not None
        store = Connection(self.store) if is_shared else self.store
        commits = GroupCommit(store, run_sync)
        self.logs = Logs(self._folder, run_sync=inline, now=trio.current_time)
        agents = self.agents = AgentRunner(
            commits,
            self.logs,
            limits or Limits(),
            recall=(lambda job_id: dispatcher.takeovers.recall_job(PREFIX, job_id))
            if is_shared
            else None,
        )
        results = Results(self._folder / "results", run_sync=inline)
        dispatcher = self.dispatcher = Dispatcher(
            self.store.identity(), commits, self.logs, [agents], results=results,
            limits=limits or Limits(), events=Events("b", trio.current_time), hints=NoHints(),
            is_shared=is_shared, now=trio.current_time, rng=lambda: 0.5,
        )  # fmt: skip
        self._lives += 1
        fleet = Fleet(
            commits, self.dispatcher, [agents], name="server",
            new_id=lambda: f"life-{self._lives}", is_shared=is_shared,
            detach=self.dispatcher.limits.detach, silence=0.0, place=place or "",
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.run)
            nursery.start_soon(self.logs.run)
            nursery.start_soon(results.run)
            await fleet.enter()
            nursery.start_soon(dispatcher.takeovers.load)
            await dispatcher.takeovers.recall(PREFIX, fleet.earlier if is_shared else None)
            async with agents.open(dispatcher):
                nursery.start_soon(dispatcher.run)
                nursery.start_soon(dispatcher.expire)
                nursery.start_soon(fleet.run)
                yield agents
                nursery.cancel_scope.cancel()

    async def output(self, job_id):
        """What is at rest of the newest attempt, as (stream, bytes)."""
        job = self.job(job_id)
        stored = self.store.stored_output(job_id, job.attempt)
        records = self.logs.read(job_id, job.attempt, stored, 0)
        return [(record.stream, record.data) async for record in records]

    async def end_of(self, job_id):
        """The job, once it is queued again or has ended."""
        while self.job(job_id).state == "running":
            await self.dispatcher.changes.of(job_id).wait()
        return self.job(job_id)


@pytest.fixture
def bench(tmp_path):
    return AgentBench(tmp_path)
