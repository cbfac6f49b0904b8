"""Drained workers through the queue: kept over a restart, refused where it cannot be, undone."""

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner import open_runner
from queued_runner.config import Settings
from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.jobs import JobState
from queued_runner.service import open_queue
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Draining, Hello, Ready, Welcome
from remote_runner.protocol.states import Role
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings


async def test_a_drain_outlives_the_server(tmp_path):
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        assert (await runner.drain_worker("local")).state == "drained"
        assert (await runner.drain_worker("local")).state == "drained"
        job = await runner.submit("true")
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        queued = await runner.get(job)
        assert queued.state is JobState.QUEUED
        assert "resume" in await runner.pending_reason(queued)
        assert await away_of(runner) == []
        assert (await runner.resume_worker("local")).state == "ready"
        assert (await runner.wait(job)).state is JobState.SUCCEEDED
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        assert runner.workers()[0].state == "ready"


async def away_of(queue):
    """The drained ones that are not connected."""
    return [each for each in await queue.all_workers() if each.state == "away"]


class Bench:
    """A queue over a runner that workers of a test talk to."""

    def __init__(self, queue, remote, nursery):
        self.queue = queue
        self.remote = remote
        self.nursery = nursery

    def connect(self, worker_id):
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.remote.handle_stream, theirs)
        return _Connected(ours, worker_id)


class _Connected:
    def __init__(self, stream, worker_id):
        self._emitter = DuplexEmitter(stream, Connection(Role.WORKER))
        self._worker_id = worker_id

    async def __aenter__(self):
        await self._emitter.__aenter__()
        await self.say(Hello((1, 1), self._worker_id, "b", f"name-{self._worker_id}", 1, {}, "0"))
        while not any(isinstance(item, Welcome) for item in await self._emitter.receive_batch()):
            pass
        await self.say(Ready(1))
        await trio.testing.wait_all_tasks_blocked(0.01)
        return self

    async def __aexit__(self, *error):
        await self._emitter.__aexit__(*error)
        await trio.testing.wait_all_tasks_blocked(0.01)

    async def say(self, message):
        await self._emitter.send(message)
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.fixture
async def bench(tmp_path):
    remote = RemoteRunner(port=None, settings=ServerSettings())
    async with open_queue(Settings(data_dir=tmp_path), [remote]) as queue:
        async with trio.open_nursery() as nursery:
            yield Bench(queue, remote, nursery)
            nursery.cancel_scope.cancel()


async def test_one_that_is_away_stays_drained_and_can_be_resumed(bench):
    queue = bench.queue
    async with bench.connect("a"), bench.connect("b"):
        await queue.drain_worker("a")
    (away,) = await away_of(queue)
    assert (away.id, away.name, away.state) == ("a", "name-a", "away")
    assert (await queue.drain_worker("a")).state == "away"
    async with bench.connect("a"):
        assert queue.workers()[0].state == "drained"
        assert await away_of(queue) == []
    assert (await queue.resume_worker("a")).state == "away"
    assert await away_of(queue) == []
    async with bench.connect("a"):
        assert queue.workers()[0].state == "ready"


async def test_what_cannot_be_drained_or_resumed(bench):
    queue = bench.queue
    for worker_id in ("a", "", "\x00", "x" * 10_000):
        for verb in (queue.drain_worker, queue.resume_worker):
            with pytest.raises(WorkerNotFound, match="queued-runner workers"):
                await verb(worker_id)
    async with bench.connect("a") as worker:
        await worker.say(Draining())
        with pytest.raises(WorkerLeaves, match="start it again"):
            await queue.resume_worker("a")
        assert queue.workers()[0].state == "draining"
        assert (await queue.drain_worker("a")).state == "draining"
        with pytest.raises(WorkerLeaves):
            await queue.resume_worker("a")
    assert await away_of(queue) == []


async def test_orders_that_cross_leave_runner_and_store_agreed(bench, tmp_path):
    """Each is a commit: what the runner is told comes in the order of the commits."""
    queue = bench.queue
    for _ in range(10):
        async with bench.connect("a"):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(queue.drain_worker, "a")
                    nursery.start_soon(queue.resume_worker, "a")
            is_drained = queue.workers()[0].state == "drained"
        assert [worker.id for worker in await away_of(queue)] == ["a"] * is_drained
        reader = SQLiteStore(tmp_path / "queue.db", is_reader=True)
        assert list(reader.drained_workers()) == ["a"] * is_drained
        reader.close()
