"""Output in objects that never change: whoever wrote it, whatever came late, always one stream."""

from contextlib import contextmanager
from unittest.mock import patch

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queued_runner.log_files import Record
from queued_runner.logs import INLINE_LIMIT, Logs
from queued_runner.store.base import OutputAway
from tests.buckets import MemoryBucket
from tests.queue.conftest import inline
from tests.store.test_epochs import STREAM, Reader, cuts, records_of, sizes
from tests.store.test_output_at_rest import PIECE, Written

pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")

from queued_runner import log_files
from queued_runner.log_objects import LogObjects

JOB = (1, 1)


class Owner:
    """A server that has the attempt, or believes so."""

    def __init__(self, files, epoch, offset):
        self.epoch = epoch
        self.written = offset
        self._writer = files.writer(*JOB, epoch)
        self._waiting = []

    def append(self, size, cuts):
        """What waited, and the next bytes: whether they are durable."""
        end = min(self.written + size, len(STREAM))
        self._waiting += records_of(self.written, end, cuts)
        self.written = end
        try:
            self._writer.append(self._waiting)
        except OutputAway:
            return False
        self._waiting = []
        return True


@contextmanager
def small_reads(size):
    with patch.object(log_files, "READ_SIZE", size):
        yield


owner = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), owner, sizes, cuts),
        st.tuples(st.just("append"), owner, sizes, cuts),
        st.tuples(st.just("swallowed"), owner, sizes, cuts),
        st.tuples(st.just("lost"), owner, sizes, cuts),
        st.tuples(st.just("late"), owner, sizes, cuts),
        st.tuples(st.just("arrive")),
        st.tuples(st.just("take over"), st.integers(1, 3)),
        st.tuples(st.just("read"), owner),
    ),
    max_size=30,
)


@settings(max_examples=400)
@example(
    # What a next owner wrote arrives after the one after it has found more, of the first one's.
    [
        ("lost", 0, 2, set()), ("take over", 1), ("append", 1, 0, set()), ("late", 0, 1, set()),
        ("take over", 1),
    ],
    [0, 0, 0, 0], 1,
)  # fmt: skip
@given(steps, st.lists(st.integers(0, 100), min_size=4, max_size=4), st.integers(1, 80))
def test_any_history_of_owners_reads_as_one_stream(steps, offsets, size):
    bucket = MemoryBucket()
    files = LogObjects(bucket)
    owners = [Owner(files, 0, 0)]
    readers = [Reader(files.reader(*JOB, offset)) for offset in offsets]
    on_its_way = []
    durable = 0

    def take_over(later):
        nonlocal durable
        epoch = owners[-1].epoch + later
        offset = files.recover(*JOB, epoch)
        assert offset >= durable
        assert Reader(files.reader(*JOB, 0)).read(size) == offset
        owners.append(Owner(files, epoch, offset))
        durable = offset

    with small_reads(size):
        for kind, *what in steps:
            if kind == "take over":
                take_over(*what)
            elif kind == "arrive":
                bucket.objects.update(on_its_way)
                on_its_way.clear()
            elif kind == "read":
                readers[what[0]].read(size)
            else:
                number, *what = what
                owner = owners[-1 - number % len(owners)]
                bucket.swallows, bucket.is_away = kind == "swallowed", kind == "lost"
                bucket.late = on_its_way if kind == "late" else None
                is_durable = owner.append(*what)
                bucket.swallows, bucket.is_away, bucket.late = False, False, None
                if is_durable and owner is owners[-1]:
                    durable = max(durable, owner.written)
        bucket.objects.update(on_its_way)
        take_over(1)
        assert owners[-1].append(len(STREAM), set())
        assert files.recover(*JOB, owners[-1].epoch + 1) == len(STREAM)
        others = (Reader(files.reader(*JOB, offset)) for offset in range(0, len(STREAM), 23))
        for reader in [*readers, *others]:
            assert reader.read(size) == len(STREAM)


def test_what_arrives_late_does_not_take_the_place_of_what_was_acknowledged():
    """The storage may be at work on a request whose answer nobody waits for any more."""
    bucket = MemoryBucket()
    files = LogObjects(bucket)
    writer = files.writer(*JOB, 0)
    one, two = Record(0, 5, "stdout", b"one"), Record(3, 5, "stdout", b"two")
    bucket.late = late = []
    with pytest.raises(OutputAway):
        writer.append([one])
    bucket.late = None
    writer.append([one, two])
    bucket.objects.update(late)
    assert files.recover(*JOB, 1) == 6


def test_a_long_log_is_listed_once_and_read_from_where_it_is_wanted():
    bucket = MemoryBucket()
    files = LogObjects(bucket)
    writer = files.writer(*JOB, 0)
    for number in range(100):
        writer.append([Record(number * 10, 5, "stdout", b"0123456789")])
    reader = files.reader(*JOB, 555)
    read = []
    while records := reader.read():
        read += records
        if len(read) == 3:
            reader.offset = 903  # the rest came another way
    assert [record.offset for record in read] == [555, 560, 570, 903, *range(910, 1000, 10)]
    assert len(bucket.listed) == 2  # and once more at the end
    writer.append([Record(1000, 5, "stderr", b"more")])
    assert [record.data for record in reader.read()] == [b"more"]


def test_other_objects_are_let_alone():
    bucket = MemoryBucket()
    files = LogObjects(bucket)
    files.writer(*JOB, 0).append([Record(0, 5, "stdout", b"one")])
    for name in ("logs/0/1/1/notes", "logs/0/1/1/0.3.seg", "logs/0/10/1/x", "logs/0/1"):
        bucket.objects[name] = b"somebody's"
    assert files.recover(*JOB, 1) == 3
    assert files.newest_epoch(*JOB) == 1
    files.remove([1])
    assert sorted(bucket.objects) == ["logs/0/1", "logs/0/10/1/x"]


def test_one_that_was_deleted_has_its_end_there():
    bucket = MemoryBucket()
    files = LogObjects(bucket)
    writer = files.writer(*JOB, 0)
    for number in range(3):
        writer.append([Record(number, 5, "stdout", b"x")])
    reader = files.reader(*JOB, 0)
    assert reader.read()
    files.remove([1])
    assert reader.read() == []
    assert files.newest_epoch(*JOB) is None
    assert files.recover(*JOB, 1) == 0
    assert bucket.objects == {}


# --- with the clock ---


@pytest.fixture
def bucket():
    return MemoryBucket()


@pytest.fixture
def logs(bucket):
    return Logs(LogObjects(bucket), run_sync=inline, now=trio.current_time)


async def test_output_is_acknowledged_when_it_is_there(bucket, logs, nursery, autojump_clock):
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    await trio.sleep(0.5)
    assert written.acked == len(PIECE)
    assert await written.read() == PIECE


async def test_what_prints_a_little_makes_one_object_a_second(
    bucket, logs, nursery, autojump_clock
):
    nursery.start_soon(logs.run)
    written = Written(logs)
    written.append()
    for _ in range(1000):
        written.append(b"a line\n")
        await trio.sleep(0.01)
    assert 9 <= len(bucket.objects) <= 12
    await trio.sleep(2)
    assert await written.read() == PIECE + 1000 * b"a line\n"


async def test_output_waits_for_its_storage(bucket, logs, nursery, autojump_clock):
    nursery.start_soon(logs.run)
    written = Written(logs)
    bucket.is_away = True
    written.append()
    written.close()
    await trio.sleep(100)
    assert (written.acked, written.is_closed) == (0, False)
    with pytest.raises(OutputAway):
        await written.read()
    bucket.is_away, bucket.swallows = False, True
    await trio.sleep(10)
    assert (written.acked, written.is_closed) == (0, False)
    bucket.swallows = False
    await trio.sleep(10)
    assert (written.acked, written.is_closed) == (len(PIECE), True)
    assert await written.read() == PIECE


async def test_the_next_owner_waits_for_its_storage(bucket, logs, nursery, autojump_clock):
    nursery.start_soon(logs.run)
    Written(logs).append()
    await trio.sleep(1)
    bucket.is_away = True
    with trio.move_on_after(60):
        await logs.recover(1, 1, 1)
        pytest.fail("it cannot know")
    bucket.is_away = False
    assert await logs.recover(1, 1, 1) == len(PIECE)
    assert await logs.count(1, 1, len(PIECE)) == {"stdout": 1, "stderr": 0}
    assert await logs.free_epoch(1, 1) == 2


async def test_many_attempts_are_written_at_once(bucket, logs, nursery, autojump_clock):
    nursery.start_soon(logs.run)
    acked = []
    for job in range(50):
        log = logs.open(job, 1, 0, 1 << 40, acked.append)
        log.append("stdout", b"x" * (INLINE_LIMIT + 1))
    await trio.sleep(1.5)
    assert acked == 50 * [INLINE_LIMIT + 1]
    await logs.remove(range(49))
    assert {name.split("/")[2] for name in bucket.objects} == {"49"}
