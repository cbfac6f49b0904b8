"""Output of attempts in append-only segment files, and the format of its records.

Owns what a record is, what a place of output can do (`LogFiles`), and every touch of a file: all of
it blocks, and is called in a thread. Knows no event loop; `logs.py` says what is written when.

Who writes an attempt's output may change: each owner has an epoch, and its segments are named after
it. Nobody ever writes to another's, or cuts them. From the offset on where the newest epoch begins,
that one alone counts; below, what any of them has, and where several do, the newer one's. So what
an earlier owner leaves torn, or writes too late, is passed over.
"""

import errno
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from queued_runner.store.base import NoRoom
from remote_runner.types import StreamName

SEGMENT_SIZE: Final = 64 * 1024 * 1024
READ_SIZE: Final = 1024 * 1024
SYNC_PAUSE: Final = 0.02
"""Seconds between two syncs: one `fdatasync` serves all that arrived meanwhile."""
FLOOD: Final = 1024 * 1024
"""Bytes in one write from which on it is a flood: it need not wait for more, and leaves the page
cache. Otherwise each page of it would be a fresh one, which on a virtual machine costs more than
all else, and whatever else the machine has cached would go for it."""
FOLDER_DEPTH: Final = 4
"""Folders above that of an attempt that may be new with it, up to the one that holds `logs`."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HEADER: Final = struct.Struct(">BQI")
"""Stream (1 stdout, 2 stderr), wall clock in ms, number of bytes that follow."""
_STREAMS: Final[dict[int, StreamName]] = {1: "stdout", 2: "stderr"}
_NUMBERS: Final[dict[StreamName, int]] = {"stdout": 1, "stderr": 2}


@dataclass(frozen=True, slots=True)
class Record:
    """A piece of output; `offset` is that of its first byte."""

    offset: int
    at_ms: int
    stream: StreamName
    data: bytes


def encode_record(record: Record) -> bytes:
    """The record as it lies in a file or in the row."""
    header = _HEADER.pack(_NUMBERS[record.stream], record.at_ms, len(record.data))
    return header + record.data


def decode_records(data: bytes, offset: int) -> tuple[list[Record], int]:
    """The whole records in `data`, the first at `offset`, and how many bytes they take."""
    records = []
    at = 0
    while at + _HEADER.size <= len(data):
        number, at_ms, size = _HEADER.unpack_from(data, at)
        stream = _STREAMS.get(number)
        if stream is None or at + _HEADER.size + size > len(data):
            break
        start = at + _HEADER.size
        records.append(Record(offset, at_ms, stream, data[start : start + size]))
        offset += size
        at = start + size
    return records, at


def cut(record: Record, offset: int, end: int | None = None) -> Record:
    """The part of a record from `offset` on, and before `end`; maybe nothing."""
    first = max(0, offset - record.offset)
    last = len(record.data) if end is None else max(0, min(end - record.offset, len(record.data)))
    if first == 0 and last == len(record.data):
        return record
    return replace(record, offset=record.offset + first, data=record.data[first:last])


class LogWriter(Protocol):
    """Writes the output of an attempt on, as its owner."""

    def append(self, records: list[Record]) -> None:
        """Make these records durable. Raised NoRoom or StoreAway, it is to be called with them
        again, and more.

        Raises:
            NoRoom: there is no room; some of them may be there by now, each of these whole.
            StoreAway: the same, for a place that cannot be reached.
            OSError: the disk failed; what is on it is not known.
        """
        ...


class LogReader(Protocol):
    """Reads the output of an attempt, whoever writes it; it wants the bytes from `offset` on."""

    offset: int

    def read(self) -> list[Record]:
        """The next records, behind which it stands then; empty at the end, for now.

        Raises:
            StoreAway: the place cannot be reached.
        """
        ...


class LogFiles(Protocol):
    """A place of output. Every verb blocks, and may be called in several threads.

    `pause` is for how many seconds nothing is written after each write, except a flood.
    """

    pause: float

    def each(self, do: Callable[[Any], object], items: Iterable[Any]) -> Iterator[object]:
        """Do this with the items, several at once where that is quicker; results in order."""
        ...

    def writer(self, job_id: int, attempt: int, epoch: int) -> LogWriter: ...

    def reader(self, job_id: int, attempt: int, offset: int) -> LogReader: ...

    def recover(self, job_id: int, attempt: int, epoch: int) -> int:
        """The bytes that are there, whoever wrote them, durable now. From there on only what
        `epoch` writes counts. Raises OSError, StoreAway."""
        ...

    def newest_epoch(self, job_id: int, attempt: int) -> int | None:
        """The last one that has written; None: none has. Raises OSError, StoreAway."""
        ...

    def remove(self, job_ids: Sequence[int]) -> None:
        """Delete all output of these jobs. Raises OSError, StoreAway: some of it is left."""
        ...


class Segment(NamedTuple):
    """A file of output: which owner wrote it, and the offset of its first byte. Sorts as it is
    read."""

    epoch: int
    start: int

    @property
    def name(self) -> str:
        """Of the file; the first owner's bears no epoch."""
        epoch = f".{self.epoch}" if self.epoch else ""
        return f"{self.start:020}{epoch}.seg"


_NAME: Final = re.compile(r"(\d{20})(?:\.(\d+))?\.seg")


def _segments(folder: Path) -> list[Segment]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = filter(None, map(_NAME.fullmatch, names))
    return sorted(Segment(int(match[2] or 0), int(match[1])) for match in found)


def places(segments: list[Segment], offset: int) -> Iterator[tuple[Segment, int | None]]:
    """The segments where the byte at `offset` may be, and to which offset they count; the one to
    be preferred first."""
    limit = None
    for epoch, group in groupby(reversed(segments), lambda segment: segment.epoch):
        own = list(group)
        begun = next((segment for segment in own if segment.start <= offset), None)
        if begun is not None:
            yield begun, limit
            if epoch == segments[-1].epoch:
                return
        else:
            limit = own[-1].start if limit is None else min(limit, own[-1].start)


@dataclass(slots=True)
class Cursor:
    """Where a reader of segment files stands.

    It wants the bytes from `offset` on. In `segment` it has come to byte `at`, where the record at
    `position` begins; what it has from `limit` on may be another's.
    """

    offset: int
    segment: Segment | None = None
    at: int = 0
    position: int = 0
    limit: int | None = None

    def move(self, segment: Segment, limit: int | None) -> None:
        """Read on in this segment."""
        if segment != self.segment:
            self.segment, self.at, self.position = segment, 0, segment.start
        self.limit = limit


@dataclass(slots=True)
class Tail:
    """Where an owner writes the output of an attempt on: its newest segment, and its size."""

    folder: Path
    epoch: int = 0
    segment: Segment | None = None
    size: int = 0
    is_named: bool = False
    """Whether the name of the segment is durable."""
    written: int = 0
    """The offset below which records lie in files, synced or not."""


def append(tail: Tail, records: list[Record]) -> None:
    """Write and sync these records. Raised NoRoom, it is to be called with them again, and more.

    Raises:
        NoRoom: there is no room; some of them may be there by now, each of these whole.
        OSError: the disk failed; what is on it is not known.
    """
    records = [record for record in records if record.offset >= tail.written]
    is_new = tail.segment is None or tail.size >= SEGMENT_SIZE
    segment = tail.segment
    if segment is None or is_new:
        segment = Segment(tail.epoch, records[0].offset)
    try:
        if is_new:
            tail.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(tail.folder / segment.name, flags, 0o600)
    except OSError as error:
        raise _refusal(error) from error
    try:
        if is_new:
            if os.fstat(file).st_size:
                raise FileExistsError(errno.EEXIST, "another server has written", segment.name)
            tail.segment, tail.size, tail.is_named = segment, 0, False
        try:
            grown = _write_records(file, records)
        except OSError as error:
            _keep_whole(file, tail, records)
            raise _refusal(error) from error
        os.fdatasync(file)
        if grown >= FLOOD:
            with suppress(OSError):  # a kernel or a sandbox need not know it, and it is advice
                os.posix_fadvise(file, tail.size, grown, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
    if not tail.is_named:
        _sync_folders(tail.folder)
        tail.is_named = True
    tail.size += grown
    if records:
        tail.written = end_of(records[-1])


def _keep_whole(file: int, tail: Tail, records: list[Record]) -> None:
    """Half a record would hide all that is written after it. Whole ones stay: somebody who took
    over meanwhile may count on them."""
    size = os.fstat(file).st_size
    for record in records:
        taken = _HEADER.size + len(record.data)
        if tail.size + taken > size:
            break
        tail.size += taken
        tail.written = end_of(record)
    os.ftruncate(file, tail.size)


def end_of(record: Record) -> int:
    """The offset behind its last byte."""
    return record.offset + len(record.data)


def _refusal(error: OSError) -> OSError | NoRoom:
    if error.errno not in _NO_ROOM:
        return error
    return NoRoom(f"output cannot be written: {error.strerror}")


def _write_records(file: int, records: list[Record]) -> int:
    """How many bytes they took."""
    size = 0
    for start in range(0, len(records), 500):
        pieces: list[bytes] = []
        for record in records[start : start + 500]:
            number = _NUMBERS[record.stream]
            pieces += (_HEADER.pack(number, record.at_ms, len(record.data)), record.data)
        expected = sum(map(len, pieces))
        written = os.writev(file, pieces)
        if written < expected:
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[os.write(file, rest) :]
        size += expected
    return size


def _sync_folders(folder: Path) -> None:
    """Make the names durable that lead to a new segment, from the data directory on."""
    for each in (folder, *folder.parents[:FOLDER_DEPTH]):
        file = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def read(folder: Path, cursor: Cursor) -> list[Record]:
    """The next records at the cursor, which moves behind them; empty at the end.

    The folder is looked at only where the file that is being read has no more. What is deleted
    meanwhile has its end there.
    """
    try:
        if cursor.segment is not None and (found := _scan(folder, cursor)):
            return found
        for segment, limit in places(_segments(folder), cursor.offset):
            cursor.move(segment, limit)
            if found := _scan(folder, cursor):
                return found
    except FileNotFoundError:
        pass
    return []


def _scan(folder: Path, cursor: Cursor) -> list[Record]:
    """Read on in one file."""
    assert cursor.segment is not None
    with open(folder / cursor.segment.name, "rb") as file:

        def read(at: int, size: int) -> bytes:
            file.seek(at)
            return file.read(size)

        return scan(cursor, read)


def scan(cursor: Cursor, read: Callable[[int, int], bytes]) -> list[Record]:
    """The next records of the segment at the cursor, which moves behind them; `read` gives so many
    of its bytes from there on, fewer at its end."""
    size = READ_SIZE
    while cursor.limit is None or cursor.position < cursor.limit:
        data = read(cursor.at, size)
        records, used = decode_records(data, cursor.position)
        if not records:
            if len(data) < size:
                break
            size *= 2  # one record is larger than a read
            continue
        cursor.at += used
        cursor.position = end_of(records[-1])
        parts = (cut(record, cursor.offset, cursor.limit) for record in records)
        if kept := [part for part in parts if part.data]:
            cursor.offset = end_of(kept[-1])
            return kept
    return []


def count(reader: LogReader, size: int) -> dict[StreamName, int]:
    """How many records of each stream, of those it still reads, begin below the offset `size`."""
    counts = dict.fromkeys(_NUMBERS, 0)
    while reader.offset < size and (records := reader.read()):
        for record in records:
            counts[record.stream] += record.offset < size
    return counts


def remove(folders: Sequence[Path]) -> None:
    """Delete them with all that is in them. Raises OSError: some of it is left."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # most jobs have no files


def recover(folder: Path, epoch: int) -> int:
    """The bytes that are there, whoever wrote them, durable now. From there on only what `epoch`
    writes counts. Raises OSError.

    All before the newest epoch that has files was made durable when that one began.
    """
    segments = _segments(folder)
    if not segments:
        return 0
    newest = segments[-1]
    cursor = Cursor(newest.start, newest, 0, newest.start)
    while _scan(folder, cursor):
        pass
    # It may have been read from memory only: its worker is about to forget it.
    file = os.open(folder / newest.name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    _begin(folder / Segment(epoch, cursor.offset).name)
    _sync_folders(folder)
    return cursor.offset


def _begin(path: Path) -> None:
    """Make an empty segment, so that nothing an earlier owner still writes counts after this."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        # It begins with its first record then: earlier owners that write until then are rare.


def newest_epoch(folder: Path) -> int | None:
    """The last one that has written; None: none has."""
    segments = _segments(folder)
    return segments[-1].epoch if segments else None


class FolderReader(Cursor):
    """A cursor that knows its folder."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path, offset: int) -> None:
        super().__init__(offset)
        self._folder = folder

    def read(self) -> list[Record]:
        """As `LogReader`."""
        return read(self._folder, self)


class FolderWriter:
    """A tail that can be written to."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self._tail = Tail(folder, epoch)

    def append(self, records: list[Record]) -> None:
        """As `LogWriter`."""
        append(self._tail, records)


class LogFolder:
    """Output in a folder, which several servers may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pause = SYNC_PAUSE

    def folder_of(self, job_id: int, attempt: int) -> Path:
        """Where the segments of an attempt lie."""
        return self._folder / str(job_id // 1000) / str(job_id) / str(attempt)

    def each(self, do: Callable[[Any], object], items: Iterable[Any]) -> Iterator[object]:
        """As `LogFiles`: one after the other, for it is one disk."""
        return map(do, items)

    def writer(self, job_id: int, attempt: int, epoch: int) -> FolderWriter:
        """As `LogFiles`."""
        return FolderWriter(self.folder_of(job_id, attempt), epoch)

    def reader(self, job_id: int, attempt: int, offset: int) -> FolderReader:
        """As `LogFiles`."""
        return FolderReader(self.folder_of(job_id, attempt), offset)

    def recover(self, job_id: int, attempt: int, epoch: int) -> int:
        """As `LogFiles`."""
        return recover(self.folder_of(job_id, attempt), epoch)

    def newest_epoch(self, job_id: int, attempt: int) -> int | None:
        """As `LogFiles`."""
        return newest_epoch(self.folder_of(job_id, attempt))

    def remove(self, job_ids: Sequence[int]) -> None:
        """As `LogFiles`."""
        remove([self.folder_of(job_id, 1).parent for job_id in job_ids])
