"""Output in very small pieces: what they cost beside their bytes is bounded, and nobody waits."""

import trio

from queued_runner.jobs import JobState
from remote_runner.runner import RemoteRunner
from tests.queue.conftest import Wire


async def test_a_job_that_prints_dots_ends(autojump_clock, nursery, queue, start_worker, processes):
    """They fit into the row of the attempt, and yet not into the window of its worker."""

    async def print_dots(child):
        for _ in range(10_000):
            await child.write(b".", "stdout")
            await child.write(b"!", "stderr")
        return 0

    processes.programs["dots"] = print_dots
    job_id = queue.add("dots")
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    start_worker(wire, "w")
    async with queue.server(wire.runner) as dispatcher:
        with trio.fail_after(600):
            job = await queue.end_of(dispatcher, job_id)
        assert (job.state, job.log_bytes) == (JobState.SUCCEEDED, 20_000)
