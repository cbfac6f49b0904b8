"""A claim names its worker: what that is good for when the server dies or a worker lies."""

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.jobs import JobState
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Attempts, Hello, Ready, Stale
from remote_runner.protocol.states import Role
from remote_runner.runner import RemoteRunner
from remote_runner.types import Offer, Slot
from tests.queue.conftest import QueueBench, Wire
from tests.simdisk import SimDisk


@pytest.mark.parametrize("on_lost", ["retry", "fail"])
async def test_what_a_server_claimed_and_never_sent_is_known_when_its_worker_comes(
    autojump_clock, nursery, queue, start_worker, on_lost
):
    """It died between the two. The worker's process is the same, so the job has not begun."""
    job_id = queue.add("live", on_lost=on_lost)
    queue.store.claim([Offer({}, (Slot("w-1", "w-1", "boot-w-1"),))], trio.current_time(), 1)
    assert queue.job(job_id).state is JobState.RUNNING
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    async with queue.server(wire.runner):
        start_worker(wire, "w-1")
        await trio.sleep(5)  # and not `detach`
        job = queue.job(job_id)
        assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 2, 0)


@pytest.mark.parametrize("on_lost", ["retry", "fail"])
async def test_it_may_have_begun_where_the_worker_has_started_anew(
    autojump_clock, nursery, queue, start_worker, on_lost
):
    job_id = queue.add("live", on_lost=on_lost)
    queue.store.claim([Offer({}, (Slot("w-1", "w-1", "earlier"),))], trio.current_time(), 1)
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    async with queue.server(wire.runner):
        start_worker(wire, "w-1")
        await trio.sleep(5)
        job = queue.job(job_id)
        expected = JobState.RUNNING if on_lost == "retry" else JobState.FAILED
        assert (job.state, job.losses) == (expected, 1)


async def test_a_worker_cannot_take_over_what_was_claimed_for_another(queue, autojump_clock):
    job_id = queue.add("live")
    queue.store.claim([Offer({}, (Slot("w-1", "w-1", "b"),))], trio.current_time(), 1)
    runner = RemoteRunner(port=None)
    async with queue.server(runner), trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(runner.handle_stream, theirs)
        async with DuplexEmitter(ours, Connection(Role.WORKER)) as liar:
            await liar.send(Hello((1, 1), "w-2", "b", "w-2", 1, {}, "0", None))
            await liar.receive_batch()
            await liar.send(Attempts(((f"{job_id}.1", "running", 0),)))
            await liar.send(Ready(0))
            heard = []
            while not any(isinstance(message, Stale) for message in heard):
                heard += await liar.receive_batch()
        assert queue.job(job_id).worker_id == "w-1"
        nursery.cancel_scope.cancel()


async def test_a_claim_that_waits_for_a_full_disk_is_not_made_twice(
    tmp_path, start_worker, nursery, autojump_clock
):
    disk = SimDisk()
    with disk.installed():
        store = SQLiteStore(tmp_path / "queue.db")
    queue = QueueBench(tmp_path, store)
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    jobs = [queue.add("talk") for _ in range(3)]
    async with queue.server(wire.runner) as dispatcher:
        disk.capacity = disk.size
        start_worker(wire, "w")
        for _ in range(5):
            await trio.sleep(10)
            dispatcher.wake()
        disk.capacity = None
        ended = [await queue.end_of(dispatcher, job_id) for job_id in jobs]
    assert [job.attempt for job in ended] == [1, 1, 1]
    nursery.cancel_scope.cancel()
    store.close()
