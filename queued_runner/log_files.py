"""Output of attempts in append-only segment files, and the format of its records.

Owns what a record is, and every touch of a file: all of it blocks, and is called in a thread. Knows
no attempt, no reader and no event loop; `logs.py` says what is written when.
"""

import errno
import os
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from queued_runner.store.base import NoRoom
from remote_runner.types import StreamName

SEGMENT_SIZE: Final = 64 * 1024 * 1024
READ_SIZE: Final = 1024 * 1024
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


def cut(record: Record, offset: int) -> Record:
    """The part of a record from `offset` on."""
    skip = offset - record.offset
    return record if skip <= 0 else replace(record, offset=offset, data=record.data[skip:])


@dataclass(slots=True)
class Cursor:
    """Where a reader of segment files stands: in which file, at which byte of it."""

    offset: int
    segment: int | None = None
    at: int = 0


@dataclass(slots=True)
class Tail:
    """Where the output of an attempt is written on: the newest segment, and its size."""

    folder: Path
    segment: int | None = None
    size: int = 0


def append(tail: Tail, records: list[Record]) -> None:
    """Write and sync these records.

    Raises:
        NoRoom: there is no room; nothing of them is left behind.
        OSError: the disk failed; what is on it is not known.
    """
    is_new = tail.segment is None or tail.size >= SEGMENT_SIZE
    segment, size = tail.segment, tail.size
    if segment is None or is_new:
        segment, size = records[0].offset, 0
    try:
        if is_new:
            tail.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(tail.folder / _segment_name(segment), flags, 0o600)
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
        _sync_folders(tail.folder)
    tail.segment, tail.size = segment, size + grown


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


def read(folder: Path, cursor: Cursor) -> list[Record]:
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


def count(folder: Path) -> dict[StreamName, int]:
    """How many records of each stream there are."""
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


def remove(folders: Sequence[Path]) -> None:
    """Delete them with all that is in them. Raises OSError: some of it is left."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # most jobs have no files


def recover(folder: Path) -> int:
    """The bytes that are there, durable now; a torn tail is cut off. Raises OSError."""
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
