"""Results at rest: there with their attempt's outcome, whole or not at all, whatever happens."""

import errno
import os

import pytest
import trio

from queued_runner import result_files
from queued_runner.jobs import JobState, Limits
from queued_runner.result_files import ResultFile as StoredFile
from queued_runner.results import INLINE_LIMIT, READ_SIZE, Results
from queued_runner.store.base import NoRoom, ResultGone
from remote_runner.protocol.messages import Close, Closed, ResultChunk, Resume, Spawn
from remote_runner.results import MAX_HEAD, Head, LeftOut, ResultFile, encode_head
from remote_runner.runner import RemoteRunner
from simple_worker.local import LocalRunner
from simple_worker.results import Archive
from tests.queue.conftest import Wire, inline
from tests.runner.conftest import Bench

SMALL = {"a": b"first", "b/c": b"", "d": b"\0\xff"}
LARGE = {"big": os.urandom(INLINE_LIMIT * 3), "other": b"x" * (READ_SIZE + 5)}


def archive_of(files, left_out=()):
    head = Head(
        tuple(ResultFile(name, len(data)) for name, data in files.items()),
        tuple(left_out),
        len(left_out),
    )
    body = b"".join(files.values())
    return Archive(encode_head(head), body, len(body))


def stream_of(files):
    head = Head(tuple(ResultFile(name, len(data)) for name, data in files.items()))
    return encode_head(head) + b"".join(files.values())


async def read(queue, job, attempt=1):
    """All that an attempt left, as a reader gets it."""
    stored = queue.store.results(job, attempt)
    if stored is None:
        return None
    return {
        file.name: b"".join(
            [
                data
                async for data in queue.results.read(
                    job, attempt, stored, *stored.head.offset_of(file.name)
                )
            ]
        )
        for file in stored.head.files
    }


def files_of(queue):
    """The files on the disk of the server."""
    folder = queue.results.files._folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def why_none(queue, job, attempt=1):
    """Why none of an attempt's results were kept."""
    head = queue.store.results(job, attempt).head
    assert head.files == ()
    assert head.left_out_count == 1
    return head.left_out[0].why


@pytest.fixture
def leave(processes):
    """Programs that leave these files, and then end with this code."""

    def program(name, files, code=0, left_out=()):
        async def run(child):
            child.results = archive_of(files, left_out)
            return code

        processes.programs[name] = run

    return program


@pytest.fixture
def local(processes):
    return LocalRunner(1, processes=processes)


# --- kept ---


@pytest.mark.parametrize(("files", "code"), [(SMALL, 0), (SMALL, 3), (LARGE, 0), (LARGE, 3)])
async def test_what_a_job_leaves_is_there_with_its_end(
    autojump_clock, queue, leave, local, files, code
):
    leave("leaver", files, code)
    job = queue.add("leaver")
    async with queue.server(local) as dispatcher:
        ended = await queue.end_of(dispatcher, job)
        assert ended.exit_code == code
        assert await read(queue, job) == files
        assert files_of(queue) == ([] if files is SMALL else [f"0/{job}/1"])


async def test_a_job_that_leaves_nothing_has_no_row_and_no_file(autojump_clock, queue, local):
    job = queue.add("talk")
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert queue.store.results(job, 1) is None
        assert files_of(queue) == []


async def test_each_attempt_has_its_own(autojump_clock, queue, processes, local):
    async def fail_once(child):
        number = child.launch.command.env["JOB_ATTEMPT"]
        child.results = archive_of({"n": number.encode()})
        return 1 if number == "1" else 0

    processes.programs["fail_once"] = fail_once
    job = queue.add("fail_once", retries=1)
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert await read(queue, job, 1) == {"n": b"1"}
        assert await read(queue, job, 2) == {"n": b"2"}


async def test_what_was_left_out_is_told(autojump_clock, queue, leave, local):
    leave("leaver", {}, left_out=[LeftOut("core", "it is a link")])
    job = queue.add("leaver")
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert queue.store.results(job, 1).head == Head((), (LeftOut("core", "it is a link"),), 1)


@pytest.mark.parametrize(("own", "server", "expected"), [(10, 99, 10), (None, 99, 99), (0, 99, 0)])
async def test_the_limit_is_the_jobs_own_or_the_servers(
    autojump_clock, queue, processes, leave, local, own, server, expected
):
    leave("leaver", {})
    job = queue.add("leaver", max_results_size=own)
    async with queue.server(local, limits=Limits(max_results_size=server)) as dispatcher:
        await queue.end_of(dispatcher, job)
    assert processes.children[0].launch.command.max_results == expected


# --- read ---


@pytest.mark.parametrize("how", ["removed", "shortened", "link"])
async def test_a_file_that_is_gone_is_no_empty_one(autojump_clock, queue, leave, local, how):
    leave("leaver", LARGE)
    job = queue.add("leaver")
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        path = queue.results.files.path_of(StoredFile(job, 1))
        assert path.stat().st_mode & 0o777 == 0o600
        if how == "shortened":
            os.truncate(path, 1000)
        else:
            path.unlink()
        if how == "link":
            path.symlink_to("/etc/passwd")
        with pytest.raises(ResultGone):
            await read(queue, job)


async def test_those_of_a_job_are_removed_together(autojump_clock, queue, leave, local):
    leave("leaver", LARGE, code=1)
    jobs = [queue.add("leaver", retries=1), queue.add("leaver")]
    async with queue.server(local) as dispatcher:
        for job in jobs:
            await queue.end_of(dispatcher, job)
        assert files_of(queue) == ["0/1/1", "0/1/2", "0/2/1"]
        await queue.results.remove([jobs[0]])
        await queue.results.remove([99])
        assert files_of(queue) == ["0/2/1"]


# --- what a worker says ---


class Scripted:
    """A scripted worker of a queue, which runs its one job."""

    def __init__(self, queue, nursery):
        self.queue = queue
        self.runner = RemoteRunner(port=None)
        self.bench = Bench(self.runner, nursery)

    async def run(self, *said, **fields):
        """The job, after the worker has said this of it."""
        job = self.queue.add("x", **fields)
        async with self.queue.server(self.runner) as dispatcher, self.bench.worker() as worker:
            await worker.hear(Spawn)
            await worker.say(*said)
            await worker.hear(Closed)
            await self.queue.end_of(dispatcher, job)
            await self.queue.results._run_sync(lambda: None)
            return job


@pytest.fixture
def scripted(queue, nursery):
    return Scripted(queue, nursery)


def end(size):
    return Close(0, "1.1", reason="exit", offset=0, results=size)


@pytest.mark.parametrize("files", [SMALL, LARGE])
async def test_results_that_are_not_whole_are_none_and_the_outcome_is_right(
    autojump_clock, queue, scripted, files
):
    stream = stream_of(files)
    said = [
        ResultChunk(stream[at : at + 65536], "1.1", at) for at in range(0, len(stream) - 1, 65536)
    ]
    said[-1] = ResultChunk(said[-1].data[:-1], "1.1", said[-1].offset)
    job = await scripted.run(*said, end(len(stream) - 1))
    assert queue.job(job).state is JobState.SUCCEEDED
    assert why_none(queue, job) == f"only {len(stream) - 1:,} of {len(stream):,} bytes of them came"
    assert files_of(queue) == []


@pytest.mark.parametrize("tail", [0, INLINE_LIMIT])
@pytest.mark.parametrize(
    "stream",
    [
        b"x", b"\n", b"{}\nmore", b'{"files":[["a",1]]}\nxy', b'{"files":[["../a",1]]}\nx',
        b'{"files":[["/etc/passwd",1]]}\nx', b"\xff\n", b'{"files":[["a\\nb",1]]}\nx',
    ],
)  # fmt: skip
async def test_what_is_no_stream_of_results_is_none(autojump_clock, queue, scripted, stream, tail):
    stream += b"x" * tail
    job = await scripted.run(ResultChunk(stream, "1.1", 0), end(len(stream)))
    assert queue.job(job).state is JobState.SUCCEEDED
    assert why_none(queue, job)
    assert files_of(queue) == []


@pytest.mark.parametrize("limit", [0, 4, 1000])
async def test_more_than_there_may_be_is_none(autojump_clock, queue, scripted, limit):
    stream = stream_of({"a": b"x" * (limit + 1)})
    job = await scripted.run(
        ResultChunk(stream, "1.1", 0), end(len(stream)), max_results_size=limit
    )
    assert why_none(queue, job) == f"they have more than {limit:,} bytes"


async def test_a_flood_beyond_the_limit_is_not_kept(autojump_clock, queue, scripted):
    size = MAX_HEAD + 200_000
    said = [ResultChunk(b"x" * min(65536, size - at), "1.1", at) for at in range(0, size, 65536)]
    job = await scripted.run(*said, end(size), max_results_size=100_000)
    assert queue.job(job).state is JobState.SUCCEEDED
    assert why_none(queue, job) == "they have more than 100,000 bytes"
    assert files_of(queue) == []


async def test_results_without_a_word_of_them_at_the_end_are_kept_if_they_are_whole(
    autojump_clock, queue, scripted
):
    """The disk of their worker has failed, or it is one that counts nothing."""
    job = await scripted.run(ResultChunk(stream_of(SMALL), "1.1", 0), end(None))
    assert await read(queue, job) == SMALL


# --- faults ---


async def test_partial_ones_of_a_lost_worker_are_never_seen(autojump_clock, queue, nursery):
    runner = RemoteRunner(port=None)
    job = queue.add("x", on_lost="fail", detach=5)
    stream = stream_of(LARGE)
    async with queue.server(runner) as dispatcher:
        async with Bench(runner, nursery).worker() as worker:
            await worker.hear(Spawn)
            for at in range(0, 4 * 65536, 65536):
                await worker.say(ResultChunk(stream[at : at + 65536], "1.1", at))
            await trio.sleep(1)
            assert files_of(queue) == ["0/1/1"]
            assert queue.store.results(job, 1) is None
        ended = await queue.end_of(dispatcher, job)
        assert (ended.state, ended.reason) == (JobState.FAILED, "worker-lost")
        assert why_none(queue, job) == f"only 262,144 of {len(stream):,} bytes of them came"
        assert files_of(queue) == []


@pytest.mark.parametrize("chunks", [0, 1, 4])
async def test_a_new_server_has_all_of_them_sent_again(autojump_clock, queue, nursery, chunks):
    stream = stream_of(LARGE)
    job = queue.add("x")
    runner = RemoteRunner(port=None)
    async with queue.server(runner):
        async with Bench(runner, nursery).worker() as worker:
            await worker.hear(Spawn)
            for at in range(0, chunks * 65536, 65536):
                await worker.say(ResultChunk(stream[at : at + 65536], "1.1", at))
            await trio.sleep(1)
    runner = RemoteRunner(port=None)
    async with queue.server(runner) as dispatcher:
        async with Bench(runner, nursery).worker(holds=[("1.1", "ended", 0)]) as worker:
            assert (await worker.hear(Resume)).results == 0
            await worker.say(
                *(
                    ResultChunk(stream[at : at + 65536], "1.1", at)
                    for at in range(0, len(stream), 65536)
                ),
                end(len(stream)),
            )
            await worker.hear(Closed)
        await queue.end_of(dispatcher, job)
        assert await read(queue, job) == LARGE


@pytest.fixture
def shared(tmp_path, nursery):
    """The results of several servers in one folder, here by one that speaks for each of them."""
    results = Results(tmp_path, run_sync=inline)
    nursery.start_soon(results.run)
    return results


def open_epoch(shared, epoch, attempt=1):
    return shared.open(1, attempt, 1 << 30, lambda offset: None, epoch)


async def test_an_earlier_owner_that_writes_on_harms_nothing(autojump_clock, shared, tmp_path):
    stream, kept = stream_of(LARGE), []
    first = open_epoch(shared, 0)
    first.append(stream[: INLINE_LIMIT + 5])
    await trio.sleep(1)
    second = open_epoch(shared, 2)
    second.append(stream)
    first.append(b"?" * INLINE_LIMIT)
    second.close(kept.append)
    await trio.sleep(1)
    (stored,) = kept
    assert stored.epoch == 2
    first.discard()  # its end was stale
    await trio.sleep(1)
    assert [path.name for path in tmp_path.glob("*/*/*")] == ["1.2"]
    place = stored.head.offset_of("big")
    data = b"".join([piece async for piece in shared.read(1, 1, stored, *place)])
    assert data == LARGE["big"]


async def test_the_end_of_an_attempt_removes_what_its_earlier_owners_left(
    autojump_clock, shared, tmp_path
):
    for attempt, epoch in ((1, 0), (1, 1), (1, 10), (1, 12), (2, 0), (11, 0)):
        open_epoch(shared, epoch, attempt).append(b"x" * (INLINE_LIMIT + 1))
    await trio.sleep(1)
    shared.remove_older(1, 1, 10)
    shared.remove_older(7, 1, 10)  # it has left nothing
    await trio.sleep(1)
    left = sorted(path.name for path in tmp_path.glob("*/*/*"))
    assert left == ["1.10", "1.12", "11", "2"]


async def test_a_new_server_keeps_the_file_that_its_row_names(autojump_clock, shared, tmp_path):
    for epoch in (0, 1, 2):
        open_epoch(shared, epoch).append(b"x" * (INLINE_LIMIT + 1))
    await trio.sleep(1)
    await shared.tidy([(1, 1, 1)])
    assert [path.name for path in tmp_path.glob("*/*/*")] == ["1.1"]


async def test_real_workers_that_are_cut_off_while_they_send(
    autojump_clock, nursery, queue, leave, start_worker
):
    leave("leaver", LARGE)
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None)
    job = queue.add("leaver")
    async with queue.server(wire.runner) as dispatcher:
        start_worker(wire, "w-1")
        for _ in range(20):
            await trio.sleep(0.001)
            wire.cut_off.discard("w-1")
            await wire.cut("w-1")
        wire.cut_off.clear()
        ended = await queue.end_of(dispatcher, job)
        assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
        assert await read(queue, job) == LARGE


async def test_what_nobody_kept_is_swept_when_a_server_starts(autojump_clock, queue, leave, local):
    leave("leaver", LARGE)
    job = queue.add("leaver")
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        for key in ((job, 2), (77, 1), (1234, 1)):
            path = queue.results.files.path_of(StoredFile(*key))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"left by an attempt that never ended")
        foreign = queue.results.files._folder / "0" / "notes" / "mine.txt"
        foreign.parent.mkdir()
        foreign.write_text("somebody's")
    async with queue.server(local):
        assert files_of(queue) == ["0/1/1", "0/notes/mine.txt"]
        assert await read(queue, job) == LARGE
        assert not queue.results.files.path_of(StoredFile(77, 1)).parent.exists()


async def test_a_stale_outcome_leaves_none(autojump_clock, queue, leave, processes, local):
    leave("leaver", LARGE)
    job = queue.add("leaver")
    taken = []

    async def steal(function):
        """Another attempt has begun, somehow, before this end is stored."""
        if queue.job(job).state is JobState.RUNNING and not taken:
            taken.append(True)
            queue.store._db.execute("UPDATE jobs SET attempt = 2 WHERE id = ?", (job,))
        await trio.lowlevel.checkpoint()
        return function()

    async with queue.server(local, run_sync=steal):
        await trio.sleep(5)
        assert taken
        assert queue.store.results(job, 1) is None
        assert files_of(queue) == []


async def test_a_full_disk_is_waited_for(autojump_clock, queue, leave, local):
    leave("leaver", LARGE)
    full = [True]

    def require_room():
        if full:
            raise NoRoom("the disk is full")

    async with queue.server(local) as dispatcher:
        queue.results.require_room = require_room
        job = queue.add("leaver")
        dispatcher.wake()
        await trio.sleep(10)
        assert queue.job(job).state is JobState.RUNNING
        full.clear()
        await queue.end_of(dispatcher, job)
        assert await read(queue, job) == LARGE


async def test_a_disk_that_ends_half_way_leaves_no_half(
    autojump_clock, queue, leave, local, monkeypatch
):
    leave("leaver", LARGE)
    job = queue.add("leaver")
    real, failures = os.pwrite, []

    def pwrite(file, data, offset):
        if len(failures) < 5:
            failures.append(real(file, data[: len(data) // 2], offset))
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data, offset)

    monkeypatch.setattr(result_files.os, "pwrite", pwrite)
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert len(failures) == 5
        assert await read(queue, job) == LARGE


async def test_results_of_a_cancelled_job_are_kept(autojump_clock, queue, processes, nursery):
    runner = RemoteRunner(port=None)
    job = queue.add("x")
    async with queue.server(runner) as dispatcher, Bench(runner, nursery).worker() as worker:
        await worker.hear(Spawn)
        await dispatcher.cancel(job, None, None)
        await worker.say(
            ResultChunk(stream_of(SMALL), "1.1", 0),
            Close(
                None,
                "1.1",
                signal="SIGTERM",
                reason="killed",
                offset=0,
                results=len(stream_of(SMALL)),
            ),
        )
        await worker.hear(Closed)
        assert (await queue.end_of(dispatcher, job)).state is JobState.CANCELLED
        assert await read(queue, job) == SMALL


async def test_a_program_that_leaves_keeps_no_part(autojump_clock, queue, leave, local):
    leave("leaver", {"big": bytes(9 * 1024 * 1024)})
    job = queue.add("leaver")
    async with queue.server(local):
        queue.results.require_room = _no_room
        await trio.sleep(2)
        assert queue.job(job).state is JobState.RUNNING
    async with queue.server(local) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert queue.store.results(job, 1) is None or why_none(queue, job)
        assert len((await read(queue, job, 2))["big"]) == 9 * 1024 * 1024


def _no_room():
    raise NoRoom("the disk is full")
