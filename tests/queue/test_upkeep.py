"""Retry, deletion and retention, of the library with its real store and files."""

import time

import pytest
import trio

import queued_runner.service
from queued_runner import removal
from queued_runner.jobs import JobSpec, JobState
from queued_runner.logs import INLINE_LIMIT, Logs
from queued_runner.service import open_runner
from queued_runner.store.base import JobNotFound, NotEnded, StillNamed
from remote_runner.errors import UnusableSettings
from tests.worker.real import PATIENCE

LARGE = f"head -c {2 * INLINE_LIMIT} /dev/zero"


@pytest.fixture
async def runner(tmp_path):
    async with open_runner(tmp_path, local_slots=2) as runner:
        yield runner


def segments(folder):
    return sorted(path.parent.parent.name for path in folder.glob("logs/*/*/*/*.seg"))


async def ran(runner, command, **options):
    """A job that has ended."""
    job_id = await runner.submit(command, shell=True, **options)
    with trio.fail_after(PATIENCE):
        await runner.wait(job_id)
    return job_id


async def test_a_retry_keeps_what_was_and_adds_to_it(runner):
    job_id = await ran(runner, "echo $JOB_ATTEMPT; test $JOB_ATTEMPT = 4", retries=1, backoff=0.01)
    assert (await runner.get(job_id)).attempt == 2
    assert (await runner.retry(job_id)).state is JobState.QUEUED
    with trio.fail_after(PATIENCE):
        job = await runner.wait(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 4)
    chunks = [chunk.data async for chunk in runner.output(job_id)]
    assert chunks == [b"1\n", b"2\n", b"3\n", b"4\n"]
    assert [record.data async for record in runner.records(job_id, attempt=1)] == [b"1\n"]


async def test_only_what_has_ended_is_retried_or_deleted(runner, tmp_path):
    job_id = await runner.submit("sleep", ["1000"])
    for verb in (runner.retry, runner.delete):
        with pytest.raises(NotEnded, match="cancel it first"):
            await verb(job_id)
        for unknown in (0, 99, 1 << 70):
            with pytest.raises(JobNotFound):
                await verb(unknown)
    await runner.cancel(job_id)


async def test_a_deleted_job_leaves_no_file(runner, tmp_path):
    small, large, kept = [await ran(runner, command) for command in ("echo", LARGE, LARGE)]
    assert segments(tmp_path) == [str(large), str(kept)]
    await runner.delete(small)
    await runner.delete(large)
    assert segments(tmp_path) == [str(kept)]
    with pytest.raises(JobNotFound):
        await runner.get(large)
    assert await runner.removal._read(lambda store: store.deleted(9)) == []


async def test_one_who_reads_what_is_deleted_is_told(runner):
    job_id = await ran(runner, f"head -c {40 * INLINE_LIMIT} /dev/zero")
    records = runner.records(job_id)
    size = len((await anext(records)).data)
    await runner.delete(job_id)

    async def read_on():
        nonlocal size
        async for record in records:
            size += len(record.data)

    with pytest.raises(JobNotFound):
        await read_on()
    assert size < 40 * INLINE_LIMIT


async def test_one_that_others_are_still_to_be_told_of_is_deleted_after_that(runner, monkeypatch):
    monkeypatch.setattr("queued_runner.store.dependencies.BUDGET", 5)
    first = await runner.submit("true", delay=1000)
    waiting = await runner.submit_many([JobSpec(command="true", after=(first,))] * 40)
    await runner.cancel(first)
    with pytest.raises(StillNamed, match=f"job {waiting[0]} came after it; delete that one first"):
        await runner.delete(first)
    for job_id in waiting:
        await runner.wait(job_id)
        await runner.delete(job_id)
    await runner.delete(first)


async def test_a_chain_that_failed_is_pruned_from_its_end(runner, monkeypatch):
    monkeypatch.setattr("queued_runner.removal.BATCH", 5)
    ids = [await runner.submit("false")]
    for _ in range(23):
        ids.append(await runner.submit("true", after=(ids[-1],)))
    for job_id in ids:
        await runner.wait(job_id)
    assert await runner.prune(0.0) == 24
    assert await runner.page() == []


async def test_files_that_a_crash_has_left_go_at_the_next_start(tmp_path, monkeypatch):
    async def crash(self, job_ids):
        raise KeyboardInterrupt

    async with open_runner(tmp_path, local_slots=1) as runner:
        job_id = await ran(runner, LARGE)
    with (
        monkeypatch.context() as patch,
        pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True, flatten_subgroups=True),
    ):
        patch.setattr(Logs, "remove", crash)
        async with open_runner(tmp_path, local_slots=1) as runner:
            await runner.delete(job_id)
    assert segments(tmp_path) == [str(job_id)]
    async with open_runner(tmp_path, local_slots=1) as runner:
        with trio.fail_after(PATIENCE):
            while segments(tmp_path) or await runner.removal._read(lambda s: s.deleted(9)):
                await trio.sleep(0.01)


async def test_files_that_cannot_be_removed_are_tried_again_and_the_job_is_gone(
    tmp_path, monkeypatch
):
    async def refuse(self, job_ids):
        raise OSError("the disk says no")

    async with open_runner(tmp_path, local_slots=1) as runner:
        job_id = await ran(runner, LARGE)
        with monkeypatch.context() as patch:
            patch.setattr(Logs, "remove", refuse)
            await runner.delete(job_id)
        with pytest.raises(JobNotFound):
            await runner.get(job_id)
        await runner.removal._sweep()
        assert segments(tmp_path) == []


async def test_old_jobs_are_deleted_and_failures_on_request_kept(runner):
    good, bad = await ran(runner, "true"), await ran(runner, "false")
    waiting = await runner.submit("true", delay=1000)
    assert await runner.prune(60) == 0
    assert await runner.prune(0, keep_failed=True) == 1
    assert [job.id for job in await runner.page()] == [waiting, bad]
    assert await runner.prune(0) == 1
    assert [job.id for job in await runner.page()] == [waiting]
    assert await runner.submit("true") > waiting > good


async def test_many_old_jobs_are_deleted_in_small_commits(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "LOOK", 30)
    monkeypatch.setattr(removal, "BATCH", 10)
    async with open_runner(tmp_path, local_slots=1) as runner:
        ids = await runner.submit_many([JobSpec(command="true", delay=1000)] * 95)
        for job_id in ids[::2]:
            await runner.cancel(job_id)
        assert await runner.prune(0) == 48
        assert [job.id for job in await runner.page()] == ids[1::2][::-1]


async def test_retention_deletes_by_itself_each_state_in_its_time(tmp_path, monkeypatch):
    class Clock:
        offset = 0.0

        @classmethod
        def time(cls):
            return time.time() + cls.offset

    monkeypatch.setattr(queued_runner.service, "time", Clock)
    monkeypatch.setattr(removal, "PERIOD", 0.01)
    options = {"local_slots": 1, "retention": 1000.0, "keep_failed": 5000.0}
    async with open_runner(tmp_path, **options) as runner:
        good, bad = await ran(runner, "true"), await ran(runner, "false")
        queued = await runner.submit("true", delay=100_000)
        for age, left in ((900, [queued, bad, good]), (1100, [queued, bad]), (5100, [queued])):
            Clock.offset = age
            with trio.fail_after(PATIENCE):
                while [job.id for job in await runner.page()] != left:
                    await trio.sleep(0.01)


@pytest.mark.parametrize("option", ["retention", "keep_failed"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
async def test_no_time_to_keep_is_refused_before_anything_is_deleted(tmp_path, option, seconds):
    with pytest.raises(UnusableSettings, match=f"{option} must be more than 0 s"):
        async with open_runner(tmp_path, local_slots=1, **{option: seconds}):
            pass


async def test_what_is_never_to_be_deleted_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "PERIOD", 0.0)
    passes = 0
    original = removal.Removal._sweep

    async def sweep(self):
        nonlocal passes
        passes += 1
        await original(self)

    monkeypatch.setattr(removal.Removal, "_sweep", sweep)
    forever = float("inf")
    async with open_runner(tmp_path, local_slots=1, retention=forever, keep_failed=1e-9) as runner:
        good = await ran(runner, "true")
        await ran(runner, "false")
        with trio.fail_after(PATIENCE):
            while passes < 5 or [job.id for job in await runner.page()] != [good]:
                await trio.sleep(0)
