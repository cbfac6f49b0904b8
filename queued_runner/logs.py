"""Output at rest: small output beside the job's row, large output in append-only segment files.

Owns the record format, the files, and what is durable. Addressed by the attempt's byte offset.
Never decides what output means, and never blocks the event loop: files are touched in threads.
"""

import errno
import os
import shutil
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio

from queued_runner.store.base import NoRoom, StoreBroken, StoredOutput
from remote_runner.sparing_log import SparingLog
from remote_runner.types import Output, StreamName

INLINE_LIMIT: Final = 64 * 1024
INLINE_RECORDS: Final = 1024
"""Its worker counts what a piece costs beside its bytes, and stops at many: so do we, earlier."""
SEGMENT_SIZE: Final = 64 * 1024 * 1024
SYNC_PAUSE: Final = 0.02
"""Seconds between two syncs at most: one `fdatasync` serves all that arrived meanwhile."""
FULL_PAUSE: Final = 1.0
"""Seconds between two tries while the disk has no room."""
READ_SIZE: Final = 1024 * 1024
MAX_COMPARED: Final = 256
"""Pieces of output that a repeated one is compared with: bounds what a worker can cost with it."""
FOLDER_DEPTH: Final = 4
"""Folders above that of an attempt that may be new with it, up to the one that holds `logs`."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HEADER: Final = struct.Struct(">BQI")
"""Stream (1 stdout, 2 stderr), wall clock in ms, number of bytes that follow."""
_STREAMS: Final[dict[int, StreamName]] = {1: "stdout", 2: "stderr"}
_NUMBERS: Final[dict[StreamName, int]] = {"stdout": 1, "stderr": 2}

RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]


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


def cut(record: Record, offset: int) -> Record:
    """The part of a record from `offset` on."""
    skip = offset - record.offset
    return record if skip <= 0 else replace(record, offset=offset, data=record.data[skip:])


class AttemptLog:
    """The output of one attempt while it is live here.

    Bytes stay in memory until the outcome is stored with them (small output), or until they are
    synced to a segment (large output, or output in many pieces).
    """

    def __init__(
        self, logs: "Logs", job_id: int, attempt: int, offset: int, cap: int,
        on_durable: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._logs = logs
        self._key = (job_id, attempt)
        self._cap = cap
        self._on_durable = on_durable
        self._on_closed: Callable[[], None] | None = None
        self.size = offset
        """Bytes the process wrote that arrived here, dropped ones included."""
        self.stored_size = offset
        self.durable = offset
        self.dropped = 0
        self.is_spilled = offset > 0
        self.is_closed = False
        self.pending: deque[Record] = deque()
        self.grown = trio.Event()
        # Owned by the writing thread:
        self.segment: int | None = None
        self.segment_size = 0

    @property
    def folder(self) -> Path:
        """Where its segments lie."""
        return self._logs.folder_of(*self._key)

    def append(self, stream: StreamName, data: bytes) -> None:
        """Take the next bytes; what is beyond the cap is counted and dropped."""
        kept = data[: max(0, self._cap - self.stored_size)]
        self.size += len(data)
        self.dropped += len(data) - len(kept)
        if kept:
            self.pending.append(Record(self.stored_size, self._logs.now_ms(), stream, kept))
            self.stored_size += len(kept)
            self._wake_readers()
        # Dropped bytes can be acknowledged only with those before them, once these are on disk.
        if self.stored_size > INLINE_LIMIT or len(self.pending) > INLINE_RECORDS or self.dropped:
            self.is_spilled = True
        if self.is_spilled:
            self._logs.mark_dirty(self)

    def spill(self) -> None:
        """Put what there is into a file soon, however little it is: somebody waits for that."""
        self.is_spilled = True
        self._logs.mark_dirty(self)

    def agrees(self, output: Output) -> bool:
        """Whether bytes that came before came like this: of those that wait for the disk, the
        newest pieces are compared. What is durable is forgotten at its worker, and in files here.
        """
        end = output.offset + len(output.data)
        for record in islice(reversed(self.pending), MAX_COMPARED):
            first = max(output.offset, record.offset)
            last = min(end, record.offset + len(record.data))
            if first < last and (
                record.stream != output.stream
                or record.data[first - record.offset : last - record.offset]
                != output.data[first - output.offset : last - output.offset]
            ):
                return False
        return True

    def skip_dropped(self, size: int) -> None:
        """The process has written `size` bytes, says its worker, of which a full log takes none."""
        if self.stored_size >= self._cap and size > self.size:
            self.dropped += size - self.size
            self.size = size

    def _wake_readers(self) -> None:
        self.grown.set()
        self.grown = trio.Event()

    def close(self, on_closed: Callable[[], None]) -> None:
        """No more will come; `on_closed` is called once `stored()` can be written down."""
        if self.is_spilled and self.pending:
            self._on_closed = on_closed
            self._logs.mark_dirty(self)
        else:
            on_closed()

    def synced(self, records: int) -> None:
        """The first `records` pending ones are on disk, and so is all before them."""
        for _ in range(records):
            record = self.pending.popleft()
            self.durable = record.offset + len(record.data)
        self._on_durable(self.size if self.durable == self.stored_size else self.durable)
        if not self.pending and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            on_closed()

    def stored(self) -> StoredOutput:
        """What belongs in the row of the attempt."""
        inline = None
        if not self.is_spilled and self.pending:
            inline = b"".join(encode_record(record) for record in self.pending)
        return StoredOutput(self.stored_size, self.dropped, inline)

    def end(self) -> None:
        """The outcome is stored: readers find the output at rest from here on."""
        self.is_closed = True
        self._wake_readers()


@dataclass(slots=True)
class Cursor:
    """Where a reader of segment files stands: in which file, at which byte of it."""

    offset: int
    segment: int | None = None
    at: int = 0


class Logs:
    """All output of one service.

    Args:
        folder: where segments lie.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
        now: wall clock, UNIX seconds.
        require_room: raises NoRoom while nothing is to be written; called in the thread.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run_sync: RunSync | None = None,
        now: Callable[[], float] = time.time,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._require_room = require_room
        self._run_sync: RunSync = run_sync or trio.to_thread.run_sync
        self._now = now
        self._dirty: dict[int, AttemptLog] = {}
        self.written = 0
        """Bytes of output written into files."""
        self._work = trio.lowlevel.ParkingLot()
        self._on_full = SparingLog("queued_runner", "output waits for room on the disk")

    def now_ms(self) -> int:
        """The wall clock in ms, as records carry it."""
        return int(self._now() * 1000)

    def folder_of(self, job_id: int, attempt: int) -> Path:
        """Where the segments of an attempt lie."""
        return self._folder / str(job_id // 1000) / str(job_id) / str(attempt)

    def open(
        self, job_id: int, attempt: int, offset: int, cap: int, on_durable: Callable[[int], None]
    ) -> AttemptLog:
        """Begin (or go on with) the output of an attempt; bytes below `offset` are durable."""
        return AttemptLog(self, job_id, attempt, offset, cap, on_durable)

    def mark_dirty(self, log: AttemptLog) -> None:
        """This log has records that belong on disk."""
        self._dirty[id(log)] = log
        self._work.unpark()

    async def run(self) -> None:
        """Write and sync for ever, all dirty logs in one go. A full disk is tried again.

        Raises:
            StoreBroken: the disk failed; nothing of that batch was acknowledged.
        """
        while True:
            if not self._dirty:
                await self._work.park()
                continue
            batch = [(log, list(log.pending)) for log in self._dirty.values()]
            self._dirty.clear()
            with trio.CancelScope(shield=True):
                done, full = await self._run_sync(partial(self._write, batch))
            for log, records in batch[:done]:
                self.written += sum(len(record.data) for record in records)
                log.synced(len(records))
            if full is None:
                await trio.sleep(SYNC_PAUSE)
                continue
            self._on_full.warning(why=str(full))
            for log, _ in batch[done:]:
                self._dirty[id(log)] = log
            await trio.sleep(FULL_PAUSE)

    def _write(self, batch: list[tuple[AttemptLog, list[Record]]]) -> tuple[int, NoRoom | None]:
        """How many of the logs are on disk, in order, and what kept the next one from it."""
        done = 0
        try:
            for log, records in batch:
                if records:
                    self._require_room()
                    _append(log, records)
                done += 1
        except NoRoom as full:
            return done, full
        except OSError as error:
            raise StoreBroken(
                f"output cannot be written: {error}; check the disk, then start again"
            ) from error
        return done, None

    # --- reading ---

    async def recover(self, job_id: int, attempt: int) -> int:
        """The bytes of an attempt that an earlier server left, now durable; cuts a torn tail off.

        Raises:
            StoreBroken: the disk failed.
        """
        folder = self.folder_of(job_id, attempt)
        try:
            offset: int = await self._run_sync(lambda: _recover(folder))
        except OSError as error:
            raise StoreBroken(
                f"output cannot be read: {error}; check the disk, then start again"
            ) from error
        return offset

    async def count(self, job_id: int, attempt: int) -> dict[StreamName, int]:
        """How many pieces of each stream lie in the files of an attempt: as many as came.

        Raises:
            StoreBroken: the disk failed.
        """
        folder = self.folder_of(job_id, attempt)
        try:
            counts: dict[StreamName, int] = await self._run_sync(lambda: _count(folder))
        except OSError as error:
            raise StoreBroken(
                f"output cannot be read: {error}; check the disk, then start again"
            ) from error
        return counts

    async def read(
        self, job_id: int, attempt: int, inline: bytes | None, offset: int
    ) -> AsyncIterator[Record]:
        """The output at rest of an attempt, from `offset` on."""
        if inline is not None:
            for record in decode_records(inline, 0)[0]:
                if record.offset + len(record.data) > offset:
                    yield cut(record, offset)
            return
        folder = self.folder_of(job_id, attempt)
        cursor = Cursor(offset)
        while records := await self._read_some(folder, cursor):
            for record in records:
                yield record

    async def _read_some(self, folder: Path, cursor: Cursor) -> list[Record]:
        records: list[Record] = await self._run_sync(lambda: _read(folder, cursor))
        return records

    async def follow(
        self, log: AttemptLog, offset: int, *, stays: bool = True
    ) -> AsyncIterator[Record]:
        """Replay a live attempt from `offset`; with `stays` also what comes until its end."""
        cursor = Cursor(offset)
        while True:
            grown = log.grown
            while cursor.offset < log.durable:
                records = await self._read_some(log.folder, cursor)
                if not records:
                    if log.is_closed:
                        return  # its job was deleted
                    break
                for record in records:
                    yield record
            for record in _pending_from(log, cursor.offset):
                cursor.offset = record.offset + len(record.data)
                cursor.segment = None
                yield record
            if cursor.offset >= log.stored_size:
                if log.is_closed or not stays:
                    return
                if grown is log.grown:
                    await grown.wait()

    async def remove(self, job_ids: Sequence[int]) -> None:
        """Delete every segment of these jobs.

        Raises:
            OSError: some of them are left.
        """
        folders = [self._folder / str(job_id // 1000) / str(job_id) for job_id in job_ids]
        await self._run_sync(lambda: _remove(folders))


def _pending_from(log: AttemptLog, offset: int) -> list[Record]:
    """A copy, because the log goes on while a reader is slow."""
    return [
        cut(record, offset) for record in log.pending if record.offset + len(record.data) > offset
    ]


def _append(log: AttemptLog, records: list[Record]) -> None:
    """Write and sync these records.

    Raises:
        NoRoom: there is no room; nothing of them is left behind.
        OSError: the disk failed; what is on it is not known.
    """
    is_new = log.segment is None or log.segment_size >= SEGMENT_SIZE
    segment, size = log.segment, log.segment_size
    if segment is None or is_new:
        segment, size = records[0].offset, 0
    try:
        if is_new:
            log.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(log.folder / _segment_name(segment), flags, 0o600)
    except OSError as error:
        raise _refusal(error) from error
    try:
        try:
            grown = _write_records(file, records)
        except OSError as error:
            os.ftruncate(file, size)  # half a record would hide all that is written after it
            raise _refusal(error) from error
        os.fdatasync(file)
    finally:
        os.close(file)
    if is_new:
        _sync_folders(log.folder)
    log.segment, log.segment_size = segment, size + grown


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


def _segment_name(start: int) -> str:
    return f"{start:020}.seg"


def _segments(folder: Path) -> list[int]:
    try:
        return sorted(int(entry.stem) for entry in folder.glob("*.seg"))
    except FileNotFoundError:
        return []


def _read(folder: Path, cursor: Cursor) -> list[Record]:
    """The next records at the cursor, which moves behind them; empty at the end.

    What is deleted meanwhile has its end there.
    """
    while True:
        segments = _segments(folder)
        if cursor.segment is None:
            before = [start for start in segments if start <= cursor.offset]
            if not before:
                return []
            cursor.segment, cursor.at = before[-1], 0
            position = cursor.segment
        else:
            position = cursor.offset
        try:
            found = _scan(folder, cursor, position)
        except FileNotFoundError:
            return []
        if found:
            return found
        following = [start for start in segments if start > cursor.segment]
        if not following or following[0] > cursor.offset:
            return []
        cursor.segment, cursor.at = following[0], 0


def _scan(folder: Path, cursor: Cursor, position: int) -> list[Record]:
    """Read on in one segment; `position` is the offset of the record at `cursor.at`."""
    size = READ_SIZE
    assert cursor.segment is not None
    with open(folder / _segment_name(cursor.segment), "rb") as file:
        while True:
            file.seek(cursor.at)
            data = file.read(size)
            records, used = decode_records(data, position)
            if not records:
                if len(data) < size:
                    return []
                size *= 2  # one record is larger than a read
                continue
            cursor.at += used
            position = records[-1].offset + len(records[-1].data)
            kept = [
                cut(record, cursor.offset)
                for record in records
                if record.offset + len(record.data) > cursor.offset
            ]
            if kept:
                cursor.offset = position
                return kept


def _count(folder: Path) -> dict[StreamName, int]:
    counts = dict.fromkeys(_NUMBERS, 0)
    for start in _segments(folder):
        with open(folder / _segment_name(start), "rb") as file:
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                number, _, size = _HEADER.unpack(header)
                stream = _STREAMS.get(number)
                if stream is None:
                    break
                counts[stream] += 1
                file.seek(size, os.SEEK_CUR)
    return counts


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # most jobs have no files


def _recover(folder: Path) -> int:
    segments = _segments(folder)
    if not segments:
        return 0
    cursor = Cursor(segments[-1], segments[-1], 0)
    position = segments[-1]
    while _scan(folder, cursor, position):
        position = cursor.offset
    file = os.open(folder / _segment_name(segments[-1]), os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(file, cursor.at)
        # It may have been read from memory only: its worker is about to forget it.
        os.fsync(file)
    finally:
        os.close(file)
    _sync_folders(folder)
    return position
