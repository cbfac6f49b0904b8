"""Output in segment files: acknowledged when it is on disk, with its name; for room it waits.

The files are real ones on a disk that fails, fills up and crashes when the test says so.
"""

import ctypes
import errno
import mmap
import os

import apsw
import pytest
import trio
import trio.testing

from queued_runner.log_files import FLOOD, Record
from queued_runner.logs import INLINE_LIMIT, LARGE, Logs
from queued_runner.store.base import NoRoom, StoreBroken, StoredOutput
from remote_runner.types import Output
from tests.queue.conftest import inline
from tests.simdisk import SimDisk, SimFiles

PIECE = os.urandom(INLINE_LIMIT + 1)
"""More than stays in memory until the end."""


@pytest.fixture
def disk(tmp_path, monkeypatch):
    disk = SimDisk(1)
    monkeypatch.setattr("queued_runner.log_files.os", SimFiles(disk, tmp_path / "data" / "logs"))
    return disk


class Written:
    """One attempt's log, how far it was acknowledged, and whether it could be closed."""

    def __init__(self, logs, offset=0, cap=1 << 40, job_id=1):
        self.logs = logs
        self.acked = offset
        self.is_closed = False
        self.log = logs.open(job_id, 1, offset, cap, self._on_durable)

    def _on_durable(self, offset):
        self.acked = offset

    def append(self, data=PIECE, stream="stdout"):
        self.log.append(stream, data)

    def close(self):
        def closed():
            self.is_closed = True

        self.log.close(closed)

    async def read(self):
        return b"".join([record.data async for record in self.logs.read(1, 1, None, 0)])


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path / "data" / "logs", run_sync=inline, now=trio.current_time)


async def test_what_was_acknowledged_survives_a_crash_with_its_name(
    disk, logs, nursery, autojump_clock
):
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    await trio.sleep(1)
    assert written.acked == len(PIECE)
    disk.crash()
    assert await written.read() == PIECE


async def test_what_a_new_server_found_in_memory_is_on_disk_before_it_is_acknowledged(
    disk, logs, nursery, autojump_clock
):
    disk.crash_at = ("sync", 1)
    disk.keeps = 1.0  # the server dies, the machine does not
    with pytest.RaisesGroup(StoreBroken):
        async with trio.open_nursery() as first:
            first.start_soon(logs.run)
            written = Written(logs)
            written.append()
            await trio.sleep_forever()
    assert written.acked == 0
    disk.restart()
    assert await logs.recover(1, 1, 1) == len(PIECE)
    disk.keeps = 0.0
    disk.crash()
    assert await written.read() == PIECE


async def test_output_waits_for_room_and_half_of_it_is_not_left(
    disk, logs, nursery, autojump_clock
):
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    await trio.sleep(1)
    disk.fault = apsw.FullError
    written.append(b"some words that come later")
    written.close()
    await trio.sleep(10)
    assert (written.acked, written.is_closed) == (len(PIECE), False)
    disk.fault = None
    await trio.sleep(10)
    assert (written.acked, written.is_closed) == (len(PIECE) + 26, True)
    assert await written.read() == PIECE + b"some words that come later"


async def test_output_waits_while_the_rest_is_kept_for_states(tmp_path, nursery, autojump_clock):
    def require_room():
        if is_short:
            raise NoRoom("nearly full")

    is_short = True
    logs = Logs(tmp_path / "data" / "logs", run_sync=inline, require_room=require_room)
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    await trio.sleep(10)
    assert written.acked == 0
    assert not (tmp_path / "data").exists()
    is_short = False
    await trio.sleep(10)
    assert written.acked == len(PIECE)


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_an_error_of_the_disk_ends_it_and_acknowledges_nothing(
    disk, logs, kind, autojump_clock
):
    disk.fault = apsw.IOError
    disk.is_faulty = lambda operation, path: operation == kind
    written = Written(logs)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreBroken, match="output cannot be written")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run)
            written.append()
    assert written.acked == 0


async def test_a_disk_that_is_full_when_it_syncs_is_broken(disk, logs, autojump_clock):
    """What a sync that failed has lost is not known: it cannot be tried again."""
    disk.fault = apsw.FullError
    disk.is_faulty = lambda operation, path: operation == "sync"
    written = Written(logs)
    with pytest.RaisesGroup(StoreBroken):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.run)
            written.append()
    assert written.acked == 0


@pytest.mark.parametrize(
    ("output", "agrees"),
    [
        (Output("stdout", b"abc", 0), True),
        (Output("stdout", b"bc", 1), True),
        (Output("stdout", b"bX", 1), False),
        (Output("stderr", b"de", 3), True),
        (Output("stdout", b"de", 3), False),
        (Output("stdout", b"cd", 2), False),
    ],
)
async def test_what_comes_again_is_compared_with_what_waits_for_the_disk(
    logs, output, agrees, autojump_clock
):
    written = Written(logs)
    written.append(b"abc")
    written.append(b"def", "stderr")
    assert written.log.agrees(output) is agrees


async def test_what_is_durable_is_not_compared(logs, nursery, autojump_clock):
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    await trio.sleep(1)
    assert written.log.agrees(Output("stdout", b"something else", 0))


async def test_what_an_earlier_owner_writes_after_the_end_is_not_read(logs):
    assert await logs.recover(1, 1, epoch=1) == 0
    logs.files.writer(1, 1, 0).append([Record(0, 0, "stdout", PIECE)])
    ended = StoredOutput(0, 0, None)
    assert [record async for record in logs.read(1, 1, ended, 0)] == []
    cut_short = StoredOutput(3, 0, None)
    assert [record.data async for record in logs.read(1, 1, cut_short, 1)] == [PIECE[1:3]]


async def test_a_flood_is_written_without_pauses(logs, nursery, autojump_clock):
    written = Written(logs)
    nursery.start_soon(logs.run)
    began = trio.current_time()
    for count in range(1, 11):
        written.append(os.urandom(FLOOD))
        await trio.testing.wait_all_tasks_blocked()
        assert written.acked == count * FLOOD
    assert trio.current_time() == began


async def test_small_pieces_share_a_sync_beside_a_flood_too(logs, nursery, autojump_clock):
    """In a bucket each sync is an object, and a second long enough for very many."""
    flood, trickle = Written(logs), Written(logs, job_id=2)
    nursery.start_soon(logs.run)
    trickle.append()
    await trio.testing.wait_all_tasks_blocked()
    assert trickle.acked == len(PIECE)
    for count in range(1, 11):
        trickle.append(b"line\n")
        flood.append(bytes(FLOOD))
        await trio.testing.wait_all_tasks_blocked()
        assert flood.acked == count * FLOOD
        assert trickle.acked == len(PIECE)
    await trio.sleep(logs.files.pause)
    await trio.testing.wait_all_tasks_blocked()
    assert trickle.acked == len(PIECE) + 10 * len(b"line\n")


@pytest.mark.parametrize(("size", "waits"), [(LARGE, False), (LARGE - 1, True)])
async def test_several_large_pieces_are_a_flood(logs, nursery, autojump_clock, size, waits):
    """As of agents, each of which sends the next piece when the last one is on disk."""
    written = [Written(logs, job_id=number) for number in range(4)]
    nursery.start_soon(logs.run)
    for each in written:
        each.append()
    await trio.testing.wait_all_tasks_blocked()
    for each in written:
        each.append(bytes(size))
    await trio.testing.wait_all_tasks_blocked()
    assert all(each.acked == len(PIECE) + (0 if waits else size) for each in written)
    await trio.sleep(logs.files.pause)
    await trio.testing.wait_all_tasks_blocked()
    assert all(each.acked == len(PIECE) + size for each in written)


async def test_what_comes_in_small_pieces_shares_a_sync(logs, nursery, autojump_clock):
    written = Written(logs)
    nursery.start_soon(logs.run)
    written.append()
    await trio.testing.wait_all_tasks_blocked()
    assert written.acked == len(PIECE)
    written.append(b"more")
    await trio.testing.wait_all_tasks_blocked()
    assert written.acked == len(PIECE)
    await trio.sleep(logs.files.pause)
    await trio.testing.wait_all_tasks_blocked()
    assert written.acked == len(PIECE) + 4


def is_in_memory(path):
    """Whether the page cache has the file's first page. `RWF_NOWAIT` would not do: it begins to
    read what is not there, and now and then finds it."""
    with open(path, "rb") as file:
        page = mmap.mmap(file.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_COPY)
    start = ctypes.c_char.from_buffer(page)
    resident = ctypes.c_ubyte()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.byref(start), ctypes.c_size_t(mmap.PAGESIZE), ctypes.byref(resident)):
        raise OSError(ctypes.get_errno(), "mincore", str(path))
    return bool(resident.value & 1)


@pytest.mark.parametrize(("size", "stays"), [(FLOOD, False), (FLOOD // 2, True)])
async def test_only_a_flood_leaves_the_page_cache(
    tmp_path, logs, nursery, autojump_clock, size, stays
):
    written = Written(logs)
    nursery.start_soon(logs.run)
    written.append(bytes(size))
    await trio.testing.wait_all_tasks_blocked()
    (segment,) = tmp_path.rglob("*.seg")
    assert is_in_memory(segment) == stays


async def test_a_kernel_that_takes_no_advice_keeps_a_flood(
    logs, nursery, autojump_clock, monkeypatch
):
    def refuse(file, start, size, advice):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("queued_runner.log_files.os.posix_fadvise", refuse)
    written = Written(logs)
    nursery.start_soon(logs.run)
    for count in range(1, 3):
        written.append(bytes(FLOOD))
        await trio.testing.wait_all_tasks_blocked()
        assert written.acked == count * FLOOD
