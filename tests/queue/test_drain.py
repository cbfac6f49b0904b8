"""A draining dispatcher: what runs ends, what is queued stays, what was claimed goes back."""

import pytest
import trio

from queued_runner.jobs import JobState
from simple_worker.local import LocalRunner
from tests.queue.conftest import inline
from tests.worker.simulation import SimulatedProcesses


@pytest.fixture
def processes():
    processes = SimulatedProcesses()

    async def sleep(child):
        await trio.sleep(60)
        return len(processes.children) % 2  # the first one fails

    processes.programs = {"sleep": sleep}
    return processes


async def test_it_waits_for_what_runs_and_starts_nothing_more(autojump_clock, queue, processes):
    first, second = queue.add("sleep", retries=3, backoff=0), queue.add("sleep")
    async with queue.server(LocalRunner(1, processes=processes)) as dispatcher:
        await trio.sleep(1)
        await dispatcher.drain()
        assert trio.current_time() == pytest.approx(60, abs=0.1)
        await trio.sleep(100)
        assert len(processes.children) == 1
    for job_id in (first, second):
        assert queue.job(job_id).state is JobState.QUEUED
    assert (queue.job(first).failures, queue.job(second).attempt) == (1, 0)


async def test_with_nothing_to_wait_for_it_is_over_at_once(autojump_clock, queue):
    async with queue.server() as dispatcher:
        await dispatcher.drain()
        assert trio.current_time() == 0


async def test_a_claim_that_is_answered_while_it_drains_is_given_back(
    autojump_clock, queue, processes
):
    is_claiming = trio.Event()

    async def slowly(function):
        is_claiming.set()
        await trio.sleep(1)
        return await inline(function)

    runner = LocalRunner(1, processes=processes)
    async with queue.server(runner, run_sync=slowly) as dispatcher:
        await dispatcher.settle()  # of its first look
        is_claiming = trio.Event()
        job_id = queue.add("sleep")
        dispatcher.wake()
        await is_claiming.wait()
        await dispatcher.drain()
        assert len(runner.offers(9)[0].slots) == 1
    assert processes.children == []
    job = queue.job(job_id)
    assert (job.state, job.attempt, job.losses, job.failures) == (JobState.QUEUED, 1, 0, 0)
