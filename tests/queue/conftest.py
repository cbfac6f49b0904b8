"""The real dispatcher over a store in memory, with simulated time: what is durable is durable."""

from contextlib import asynccontextmanager

import pytest
import trio

from queued_runner.dispatcher import Dispatcher
from queued_runner.jobs import JobSpec, Limits
from queued_runner.logs import Logs
from queued_runner.store.commit import GroupCommit
from queued_runner.store.sqlite import SQLiteStore


async def inline(function):
    """Blocking work without a thread: a virtual clock would not wait for one."""
    await trio.lowlevel.checkpoint()
    return function()


class QueueBench:
    """A queue that outlives the servers which a test opens on it, one after the other."""

    def __init__(self, folder):
        self._folder = folder
        self.store = SQLiteStore(":memory:")

    def add(self, command, **fields):
        """The id of a new job."""
        (job_id,) = self.store.add([JobSpec(command=command, **fields)], trio.current_time())
        return job_id

    def job(self, job_id):
        return self.store.get(job_id)

    @asynccontextmanager
    async def server(self, *runners, limits=None, run_sync=inline):
        """A server on this queue; leaving it is a crash. `run_sync` runs its commits."""
        commits = GroupCommit(self.store, run_sync)
        logs = Logs(self._folder, run_sync=inline, now=trio.current_time)
        dispatcher = Dispatcher(
            commits,
            logs,
            runners,
            limits=limits or Limits(),
            now=trio.current_time,
            rng=lambda: 0.5,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.run)
            nursery.start_soon(logs.run)
            dispatcher.adopt_running(
                [(job, await logs.recover(job.id, job.attempt)) for job in self.store.running()]
            )
            for runner in runners:
                await nursery.start(_keep_open, runner, dispatcher)
            nursery.start_soon(dispatcher.run)
            nursery.start_soon(dispatcher.expire)
            yield dispatcher
            nursery.cancel_scope.cancel()

    async def end_of(self, dispatcher, job_id):
        """The job, once it has ended."""
        while not self.job(job_id).state.is_terminal:
            await dispatcher.change_of(job_id).wait()
        return self.job(job_id)


async def _keep_open(runner, host, *, task_status):
    async with runner.open(host):
        task_status.started()
        await trio.sleep_forever()


@pytest.fixture
def queue(tmp_path):
    return QueueBench(tmp_path)
