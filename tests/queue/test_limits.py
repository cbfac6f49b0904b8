"""A job's limits: its own where it names some, else the server's; from the queue to the process."""

from itertools import pairwise

import pytest
import trio

from queued_runner.jobs import JobState, Limits
from remote_runner.runner import RemoteRunner
from simple_worker.local import LocalRunner
from tests.queue.conftest import Wire


@pytest.mark.parametrize(("detach", "server"), [(10, 120.0), (None, 15.0), (5, 300.0)])
async def test_a_job_is_given_up_after_its_detach_when_its_process_is_gone(
    autojump_clock, nursery, queue, processes, start_worker, detach, server
):
    limits = Limits(detach=server)
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    job = queue.add("live", detach=detach)
    async with queue.server(wire.runner, limits=limits) as dispatcher:
        start_worker(wire, "w-1")
        await trio.sleep(3)
        start_worker(wire, "w-2")
        cut = trio.current_time()
        await wire.cut("w-1")
        assert (await queue.end_of(dispatcher, job)).attempt == 2
    (first, second) = sorted(processes.lives)
    wait = detach or server
    assert 0.6 * wait <= first[1] - cut <= 0.9 * wait  # it counts from the last sign of life
    assert wait <= second[0] - cut < wait + 2
    assert all(before[1] < after[0] for before, after in pairwise(sorted(processes.lives)))


async def test_after_a_restart_a_job_is_waited_for_as_long_as_it_says(
    autojump_clock, nursery, queue, start_worker
):
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    short, long = queue.add("live", detach=5), queue.add("live", detach=200)
    async with queue.server(wire.runner):
        start_worker(wire, "w-1")
        start_worker(wire, "w-2")
        await trio.sleep(3)
        assert len(wire.runner.offers(9)) == 0
        wire.runner = None
    async with queue.server(RemoteRunner(port=None)):
        await trio.sleep(4.9)
        assert queue.job(short).state is JobState.RUNNING
        await trio.sleep(0.2)
        assert queue.job(short).state is JobState.QUEUED
        await trio.sleep(194)
        assert queue.job(long).state is JobState.RUNNING
        await trio.sleep(2)
        assert queue.job(long).state is JobState.QUEUED


async def test_a_resumed_job_keeps_its_detach(autojump_clock, nursery, queue, start_worker):
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    job = queue.add("live", detach=10)
    async with queue.server(wire.runner):
        start_worker(wire, "w-1")
        await trio.sleep(3)
        wire.runner = None
    wire.runner = RemoteRunner(port=None)
    async with queue.server(wire.runner):
        await trio.sleep(5)
        assert wire.runner.workers()[0].running == (f"{job}.1",)
        await wire.cut("w-1")
        await trio.sleep(9.9)
        assert queue.job(job).state is JobState.RUNNING
        await trio.sleep(0.2)
        assert queue.job(job).state is JobState.QUEUED


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize(
    ("own", "server", "kept"), [(4, 7, 4), (None, 7, 7), (8, 7, 8), (0, 7, 0), (None, 100, 10)]
)
async def test_output_is_kept_up_to_the_limit_and_the_rest_is_counted(
    autojump_clock, nursery, queue, processes, start_worker, own, server, kept, is_local
):
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    runner = LocalRunner(1, processes=processes) if is_local else wire.runner
    job = queue.add("talk", max_log_size=own)
    async with queue.server(runner, limits=Limits(max_log_size=server)) as dispatcher:
        if not is_local:
            start_worker(wire, "w-1")
        ended = await queue.end_of(dispatcher, job)
    assert (ended.log_bytes, ended.log_dropped) == (kept, 10 - kept)
    assert processes.children[0].launch.command.max_output == (server if own is None else own)
