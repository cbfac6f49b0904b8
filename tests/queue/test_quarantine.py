"""A job that takes its workers down is given up after the third; see also test_planned_stop.py."""

import pytest
import trio

from queued_runner.jobs import JobState
from queued_runner.retry import MAX_LOSSES
from remote_runner.runner import RemoteRunner
from tests.queue.conftest import Wire


@pytest.fixture
def wire(nursery):
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    return wire


@pytest.fixture
def poison(processes, wire):
    """The names of the workers that the job `poison` has taken down, in order."""
    fallen = []

    async def kill_the_worker(child):
        name = child.launch.extra_env["JOB_WORKER"]
        fallen.append(name)
        await wire.cut(name)
        await trio.sleep_forever()

    async def be_fine(child):
        return 0

    processes.programs |= {"poison": kill_the_worker, "fine": be_fine}
    return fallen


async def test_a_poison_job_is_quarantined_and_the_others_go_on(
    autojump_clock, queue, start_worker, wire, poison
):
    job = queue.add("poison", retries=9, detach=30)
    async with queue.server(wire.runner) as dispatcher:
        for number in range(MAX_LOSSES + 1):
            start_worker(wire, f"w-{number}")
        ended = await queue.end_of(dispatcher, job)
        assert (ended.state, ended.reason) == (JobState.FAILED, "quarantined")
        assert (ended.attempt, ended.losses, ended.failures) == (MAX_LOSSES, MAX_LOSSES, 0)
        assert len(set(poison)) == len(poison) == MAX_LOSSES == 3
        other = queue.add("fine")
        dispatcher.wake()
        assert (await queue.end_of(dispatcher, other)).state is JobState.SUCCEEDED


async def test_a_job_that_may_be_lost_once_is_not_tried_again(
    autojump_clock, queue, start_worker, wire, poison
):
    job = queue.add("poison", on_lost="fail", detach=30)
    async with queue.server(wire.runner) as dispatcher:
        for name in ("w-1", "w-2"):
            start_worker(wire, name)
        ended = await queue.end_of(dispatcher, job)
        assert (ended.reason, ended.attempt) == ("worker-lost", 1)
        assert len(poison) == 1
