"""Output that several owners have written, one after the other or not quite: always one stream.

The history is drawn: appends, writes that a crash tears or a full disk cuts short, hand-overs, and
owners that write on after them. All of it in real files, with segments of a few bytes.
"""

import errno
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queued_runner import log_files
from queued_runner.log_files import Cursor, FolderReader, Record, Tail, encode_record
from queued_runner.store.base import NoRoom

MEMORY = "/dev/shm"
STREAM = bytes(range(256))
"""What the process writes; every byte tells of which stream it is."""
PIECE = 8
"""Bytes of it that belong to one of the two streams, in turn."""


def stream_at(offset):
    return ("stdout", "stderr")[offset // PIECE % 2]


def records_of(first, last, cuts):
    """These bytes as records that end where the stream changes, and at the cuts."""
    ends = {at for at in range(first + 1, last) if at % PIECE == 0 or at in cuts}
    edges = [first, *sorted(ends), last]
    return [
        Record(at, 5, stream_at(at), STREAM[at:end])
        for at, end in zip(edges, edges[1:], strict=False)
        if end > at
    ]


class Owner:
    """A server that has the attempt, or believes so."""

    def __init__(self, folder, epoch, offset):
        self.tail = Tail(folder, epoch)
        self.written = offset
        self.waiting = []
        self.is_dead = False

    def append(self, size, cuts):
        """What waited, and the next bytes; they are durable."""
        end = min(self.written + size, len(STREAM))
        self.waiting += records_of(self.written, end, cuts)
        self.written = end
        if self.waiting:
            log_files.append(self.tail, self.waiting)
            self.waiting = []

    def append_while_full(self, size, cuts, room, meanwhile):
        """The disk takes `room` bytes of it, and then something happens; the rest waits."""

        def writev(file, pieces):
            os.write(file, b"".join(pieces)[:room])
            meanwhile()
            raise OSError(errno.ENOSPC, "full")

        with patch.object(log_files.os, "writev", writev):
            try:
                self.append(size, cuts)
            except NoRoom:
                pass

    def tear(self, size, cuts, kept):
        """It dies in the middle of a write."""
        end = min(self.written + size, len(STREAM))
        records = self.waiting + records_of(self.written, end, cuts)
        records = [record for record in records if record.offset >= self.tail.written]
        if records and not self.is_dead:
            segment = self.tail.segment
            if segment is None or self.tail.size >= log_files.SEGMENT_SIZE:
                segment = log_files.Segment(self.tail.epoch, records[0].offset)
            self.tail.folder.mkdir(parents=True, exist_ok=True)
            with open(self.tail.folder / segment.name, "ab") as file:
                file.write(b"".join(map(encode_record, records))[:kept])
        self.is_dead = True


class Reader:
    """Reads along, in pieces of any size, and never gets a byte twice or wrong."""

    def __init__(self, reader):
        self.reader = reader
        self.offset = reader.offset

    def read(self, size):
        with patch.object(log_files, "READ_SIZE", size):
            while records := self.reader.read():
                self.take(records)
        return self.offset

    def take(self, records):
        for record in records:
            end = record.offset + len(record.data)
            assert record.offset == self.offset < end
            assert record.data == STREAM[record.offset : end]
            assert record.stream == stream_at(record.offset)
            self.offset = end


@contextmanager
def small_segments():
    """A folder, and limits that a few bytes reach; nothing crashes here, so nothing is synced."""
    with ExitStack() as stack:
        memory = MEMORY if os.path.isdir(MEMORY) else None
        root = stack.enter_context(TemporaryDirectory(dir=memory))
        stack.enter_context(patch.object(log_files, "SEGMENT_SIZE", 60))
        for name in ("fsync", "fdatasync"):
            stack.enter_context(patch.object(log_files.os, name, lambda file: None))
        yield Path(root) / "logs" / "0" / "1" / "1"


sizes = st.integers(0, 60)
cuts = st.sets(st.integers(0, len(STREAM)), max_size=60)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 3), sizes, cuts),
        st.tuples(st.just("full"), st.integers(0, 3), sizes, cuts, sizes, st.booleans()),
        st.tuples(st.just("tear"), st.integers(0, 3), sizes, cuts, sizes),
        st.tuples(st.just("take over"), st.just(1)),
        st.tuples(st.just("take over"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(1, 80)),
    ),
    max_size=30,
)


@settings(max_examples=400)
@given(steps, st.lists(st.integers(0, 100), min_size=4, max_size=4), st.integers(1, 80))
def test_any_history_of_owners_reads_as_one_stream(steps, offsets, size):
    with small_segments() as folder:
        owners = [Owner(folder, 0, 0)]
        readers = [Reader(FolderReader(folder, offset)) for offset in offsets]
        durable = 0

        def take_over(later):
            nonlocal durable
            epoch = owners[-1].tail.epoch + later
            offset = log_files.recover(folder, epoch)
            assert offset >= durable
            assert Reader(FolderReader(folder, 0)).read(size) == offset
            owners.append(Owner(folder, epoch, offset))
            durable = offset

        for kind, *what in steps:
            if kind == "take over":
                take_over(*what)
                continue
            number, *what = what
            if kind == "read":
                readers[number].read(*what)
                continue
            owner = owners[-1 - number % len(owners)]
            if kind == "tear":
                owner.tear(*what)
            elif kind == "append" and not owner.is_dead:
                owner.append(*what)
                if owner is owners[-1]:
                    durable = max(durable, owner.written)
            elif kind == "full" and not owner.is_dead:
                *what, is_taken = what
                owner.append_while_full(*what, partial(take_over, 1) if is_taken else bool)
        take_over(1)
        owners[-1].append(len(STREAM), set())
        assert log_files.recover(folder, owners[-1].tail.epoch + 1) == len(STREAM)
        others = (Reader(FolderReader(folder, offset)) for offset in range(0, len(STREAM), 23))
        for reader in [*readers, *others]:
            assert reader.read(size) == len(STREAM)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 9)), max_size=6),
    st.integers(0, 20),
)
def test_each_piece_is_counted_once_whoever_wrote_it(lives, last):
    """Agents number the pieces that they send: these are the same to every server."""
    every = set(range(0, len(STREAM), PIECE))
    with small_segments() as folder:
        before = Owner(folder, 0, 0)
        for pieces, is_torn, late in [*lives, (last, False, 0)]:
            epoch = before.tail.epoch + 1
            owner = Owner(folder, epoch, log_files.recover(folder, epoch))
            owner.append(pieces * PIECE, every)
            if is_torn:
                owner.tear(PIECE, every, 15)
            if not before.is_dead:
                before.append(late * PIECE, every)
            before = owner
        end = log_files.recover(folder, before.tail.epoch + 1)
        pieces = end // PIECE
        assert log_files.count(FolderReader(folder, 0), end) == {
            "stdout": (pieces + 1) // 2, "stderr": pieces // 2,
        }  # fmt: skip


def test_what_an_earlier_owner_writes_otherwise_does_not_count(tmp_path):
    """Chunks of agents that never came are replaced by a line of the server's own."""
    first, second = Tail(tmp_path, 0), Tail(tmp_path, 1)
    log_files.append(first, [Record(0, 5, "stdout", b"one")])
    log_files.append(second, [Record(3, 5, "stdout", b"two")])
    log_files.append(first, [Record(3, 5, "stdout", b"(this never came)")])
    cursor = Cursor(0)
    assert [record.data for record in log_files.read(tmp_path, cursor)] == [b"one"]
    assert [record.data for record in log_files.read(tmp_path, cursor)] == [b"two"]
    assert log_files.read(tmp_path, cursor) == []
    assert log_files.count(FolderReader(tmp_path, 0), 6) == {"stdout": 2, "stderr": 0}


def test_an_owner_never_writes_into_a_file_that_is_there(tmp_path):
    log_files.append(Tail(tmp_path, 1), [Record(3, 5, "stdout", b"two")])
    with pytest.raises(FileExistsError):
        log_files.append(Tail(tmp_path, 1), [Record(3, 5, "stdout", b"two")])


def test_other_files_in_the_folder_are_let_alone(tmp_path):
    log_files.append(Tail(tmp_path), [Record(0, 5, "stdout", b"one")])
    for name in ("notes.seg", "0.seg", f"{3:020}.x.seg", f"{3:020}.seg~", ".nfs0001"):
        (tmp_path / name).write_bytes(b"somebody's")
    assert log_files.recover(tmp_path, 1) == 3
    assert log_files.newest_epoch(tmp_path) == 1
