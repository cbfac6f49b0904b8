"""The library as its users see it: `open_runner` with slots of its own, no server, no worker."""

import pytest
import trio

from queued_runner.errors import DataDirUnusable
from queued_runner.jobs import JobState
from queued_runner.service import open_runner
from queued_runner.store.base import JobNotFound, ResultNotFound
from remote_runner.errors import UnusableSettings
from tests.worker.real import PATIENCE


@pytest.fixture
async def runner(tmp_path):
    async with open_runner(tmp_path, local_slots=1) as runner:
        yield runner


async def output_of(runner, job_id):
    """All that a reader gets, until there is no more."""
    with trio.fail_after(PATIENCE):
        return [chunk.data async for chunk in runner.output(job_id)]


async def test_the_output_goes_on_with_the_attempts_that_follow(runner):
    job_id = await runner.submit(
        "echo $JOB_ATTEMPT; test $JOB_ATTEMPT = 3", shell=True, retries=5, backoff=0.01
    )
    assert await output_of(runner, job_id) == [b"1\n", b"2\n", b"3\n"]
    assert (await runner.get(job_id)).state is JobState.SUCCEEDED
    assert await output_of(runner, job_id) == [b"1\n", b"2\n", b"3\n"]  # it can be read again


async def test_output_and_results_may_lie_on_another_disk(tmp_path):
    (logs := tmp_path / "logs-of-all").mkdir()
    script = "head -c 200000 /dev/zero | tee /dev/stderr > $JOB_SCRATCH/results"
    async with open_runner(tmp_path / "state", local_slots=1, logs=logs) as runner:
        job_id = await runner.submit(f"mkdir $JOB_SCRATCH/results; {script}/r", shell=True)
        assert sum(map(len, await output_of(runner, job_id))) == 200_000
        with trio.fail_after(PATIENCE):
            await runner.wait(job_id)
        size, pieces = await runner.read_result(job_id, "r")
        assert len(b"".join([piece async for piece in pieces])) == size == 200_000
    held = {path.name for path in (tmp_path / "state").iterdir()}
    assert held.isdisjoint({"logs", "results"})
    assert {path.name for path in logs.iterdir()} == {"logs", "queue", "results"}
    async with open_runner(tmp_path / "state", logs=logs):
        pass  # it is its own


async def test_two_queues_cannot_have_their_output_in_one_folder(tmp_path):
    (logs := tmp_path / "logs-of-all").mkdir()
    async with open_runner(tmp_path / "one", logs=logs):
        with pytest.raises(DataDirUnusable, match="is that of another queue"):
            async with open_runner(tmp_path / "other", logs=logs):
                pass


async def test_a_folder_of_output_that_is_not_there_is_not_made(tmp_path):
    """It may be a disk that is not mounted."""
    with pytest.raises(DataDirUnusable, match="No such file or directory; make it"):
        async with open_runner(tmp_path / "one", logs=tmp_path / "unmounted"):
            pass
    assert not (tmp_path / "unmounted").exists()


async def test_the_output_ends_with_a_job_that_is_cancelled_between_its_attempts(runner):
    job_id = await runner.submit("echo $JOB_ATTEMPT; false", shell=True, retries=1, backoff=1000)
    with trio.fail_after(PATIENCE):
        received = []
        async for chunk in runner.output(job_id):
            received.append(chunk.data)
            while (await runner.get(job_id)).state is not JobState.QUEUED:
                pass
            await runner.cancel(job_id)
    assert received == [b"1\n"]


async def test_the_output_ends_with_a_job_that_never_starts(runner):
    job_id = await runner.submit("true", delay=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.cancel, job_id)
        assert await output_of(runner, job_id) == []


@pytest.mark.parametrize("args", ["abc", b"abc", ""])
async def test_a_text_is_no_list_of_arguments(runner, args):
    with pytest.raises(TypeError, match=r"args is a list of arguments.*\['-l'\]"):
        await runner.submit("ls", args)


@pytest.mark.parametrize("size", [3, 300_000])
async def test_what_a_job_leaves_is_read_by_name(runner, size):
    script = f'cd "$JOB_SCRATCH"; mkdir -p results/a; head -c {size} /dev/zero > results/a/b'
    job_id = await runner.submit(script, shell=True)
    with trio.fail_after(PATIENCE):
        await runner.wait(job_id)
    (file,) = (await runner.results(job_id)).files
    assert (file.name, file.size) == ("a/b", size)
    for attempt in (None, 1):
        told, pieces = await runner.read_result(job_id, "a/b", attempt=attempt)
        assert told == size
        assert b"".join([piece async for piece in pieces]) == bytes(size)
    for name in ("", "a", "b", "../1", "/etc/passwd", "a/b/"):
        with pytest.raises(ResultNotFound):
            await runner.read_result(job_id, name)
    with pytest.raises(ResultNotFound):
        await runner.read_result(job_id, "a/b", attempt=2)
    for attempt in (None, 1):
        with pytest.raises(JobNotFound):
            await runner.read_result(job_id + 1, "a/b", attempt=attempt)
        with pytest.raises(JobNotFound):
            await runner.results(job_id + 1, attempt=attempt)


async def test_a_runner_is_chosen_by_its_name(tmp_path):
    async with open_runner(tmp_path, runner="local", runner_options={"slots": 3}) as runner:
        [worker] = runner.workers()
        assert (worker.name, worker.slots) == ("local", 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"runner": "no-such"},
            r"no runner called 'no-such' is installed \(there is: local, remote",
        ),
        ({"runner": "loca"}, "did you mean 'local'"),
        ({"runner": "local", "runner_options": {"slot": 3}}, r"'slot'.*\[runners.local\]"),
        ({"runner_options": {"port": 3}}, "'remote' has no options of its own"),
    ],
)
async def test_a_runner_that_cannot_be_is_refused(tmp_path, options, words):
    with pytest.raises(UnusableSettings, match=words):
        async with open_runner(tmp_path, **options):
            pass
