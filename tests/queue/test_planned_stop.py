"""A server that is stopped on purpose while jobs run in its own slots: no job pays for it."""

import pytest
import trio

from queued_runner.datadir import DATABASE
from queued_runner.jobs import JobState
from queued_runner.retry import MAX_LOSSES
from queued_runner.service import open_runner
from queued_runner.store.sqlite import SQLiteStore
from tests.worker.real import PATIENCE, until


def at_rest(folder, job_id):
    """A job and its attempts, as they lie on disk."""
    store = SQLiteStore(folder / DATABASE, is_reader=True)
    try:
        return store.get(job_id), store.attempts(job_id)
    finally:
        store.close()


@pytest.mark.parametrize("command", ["exec sleep 1000", "exec yes"])
async def test_what_it_stops_is_queued_again_and_costs_nothing(tmp_path, command):
    witness = tmp_path / "witness"
    job_id = None
    for number in range(MAX_LOSSES + 1):
        async with open_runner(tmp_path, local_slots=1) as runner:
            if job_id is None:
                job_id = await runner.submit(f"echo x >> {witness}; {command}", shell=True)
            lines = "x\n" * (number + 1)
            await until(lambda: witness.exists() and witness.read_text() == lines)  # noqa: B023
        job, attempts = at_rest(tmp_path, job_id)
        assert job.state is JobState.QUEUED
        assert (job.attempt, job.losses, job.failures) == (number + 1, 0, 0)
        assert attempts[-1].reason == "stopped"
        assert attempts[-1].finished_at is not None


async def test_a_job_that_may_run_only_once_fails(tmp_path):
    witness = tmp_path / "witness"
    async with open_runner(tmp_path, local_slots=1) as runner:
        command = f"echo x >> {witness}; exec sleep 1000"
        job_id = await runner.submit(command, shell=True, on_lost="fail")
        await until(witness.exists)
    job, _ = at_rest(tmp_path, job_id)
    assert (job.state, job.reason) == (JobState.FAILED, "worker-lost")


async def test_a_job_that_was_being_cancelled_is_cancelled(tmp_path):
    witness = tmp_path / "witness"
    async with open_runner(tmp_path, local_slots=1) as runner:
        job_id = await runner.submit(
            f"trap '' TERM; echo x >> {witness}; while :; do sleep 1; done", shell=True
        )
        await until(witness.exists)
        await runner.cancel(job_id)
    assert at_rest(tmp_path, job_id)[0].state is JobState.CANCELLED


async def test_jobs_that_are_claimed_while_it_stops_are_released(tmp_path):
    """The stop comes at every moment there is, counted in steps of the event loop."""
    for steps in range(25):
        folder = tmp_path / str(steps)
        async with open_runner(folder, local_slots=4) as runner:
            jobs = [await runner.submit("true") for _ in range(4)]
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
        for job_id in jobs:
            job, attempts = at_rest(folder, job_id)
            assert job.state in (JobState.QUEUED, JobState.SUCCEEDED)
            assert job.losses == 0
            assert all(attempt.finished_at is not None for attempt in attempts)


async def test_the_next_server_runs_it(tmp_path):
    witness = tmp_path / "witness"
    async with open_runner(tmp_path, local_slots=1) as runner:
        job_id = await runner.submit(
            f'echo x >> {witness}; test "$JOB_ATTEMPT" = 2 || exec sleep 1000', shell=True
        )
        await until(witness.exists)
    async with open_runner(tmp_path, local_slots=1) as runner:
        with trio.fail_after(PATIENCE):
            job = await runner.wait(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
