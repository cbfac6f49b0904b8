"""The files of the spool: output of attempts on disk, oldest first, and how much there may be.

Owns their format and the bytes they take. A file has no name: when this process dies, by SIGKILL
or with the machine, nothing of it is left. Nothing here is synced: the attempts whose output it is
would not survive that death either. Disks are only touched in threads.
"""

import errno
import os
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

import trio

from remote_runner.types import StreamName
from simple_worker.window import BLOCK

BATCH: Final = 4 * BLOCK
"""About as many bytes are written, or read, in one go; at least one whole frame."""
SEGMENT: Final = 64 * BATCH
"""Bytes of one file. What was read of it is free on the disk once all of it was read."""
THREADS: Final = 4
"""Reads and writes at once. A disk that hangs takes no thread from whatever else needs some."""
MIN_FREE: Final = 1024**3
MIN_SHARE: Final = 0.05
"""Of a small disk this share is enough, whatever else should be free."""
REMIND: Final = 60.0
"""Seconds at least between two lines about what is wrong."""

_HEAD: Final = struct.Struct("!BII")
_STREAMS: Final[tuple[StreamName, ...]] = ("stdout", "stderr")

T = TypeVar("T")
Piece = tuple[StreamName, bytes]


class UnreadableSpool(Exception):
    """What was written does not come back, and never will."""


class Frames:
    """Output as it stands in a file: of each piece its stream, its length, a check sum, its bytes.
    Pure."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._last: tuple[StreamName, int] | None = None
        """Stream and place of the last piece, while what follows may be joined to it."""
        self._sum = 0

    def __len__(self) -> int:
        return len(self._data)

    def add(self, stream: StreamName, data: bytes) -> None:
        """Append a piece of at most `BLOCK` bytes; small ones of one stream become one."""
        if self._last is not None and self._last[0] == stream:
            start = self._last[1]
            length = len(self._data) - start - _HEAD.size + len(data)
            if length <= BLOCK:
                self._sum = zlib.crc32(data, self._sum)
                _HEAD.pack_into(self._data, start, _STREAMS.index(stream), length, self._sum)
                self._data += data
                return
        self._last = stream, len(self._data)
        self._sum = zlib.crc32(data)
        self._data += _HEAD.pack(_STREAMS.index(stream), len(data), self._sum) + data

    def seal(self) -> bytes:
        """All that is there. What is added from now on stands behind it."""
        self._last = None
        return bytes(self._data)

    def drop(self, size: int) -> None:
        """Forget the first bytes, which `seal` gave out."""
        del self._data[:size]
        if self._last is not None:
            self._last = self._last[0], self._last[1] - size


def read_frames(data: bytes) -> tuple[list[Piece], int]:
    """The whole pieces at the beginning of `data`, and how many bytes they take there. What no
    `Frames` has made is none."""
    pieces: list[Piece] = []
    start = 0
    while start + _HEAD.size <= len(data):
        stream, length, check = _HEAD.unpack_from(data, start)
        end = start + _HEAD.size + length
        if end > len(data) or stream >= len(_STREAMS) or not 0 < length <= BLOCK:
            break
        piece = data[start + _HEAD.size : end]
        if zlib.crc32(piece) != check:
            break
        pieces.append((_STREAMS[stream], piece))
        start = end
    return pieces, start


class SpoolFolder:
    """Where a worker's spool lies, and how many bytes it has there and may have.

    Args:
        path: a folder; on its disk jobs have their scratch directories, too.
        limit: bytes of all attempts together; 0: nothing is written at all.
        say: takes a line when output cannot be written or read.
        restore: makes the folder again where somebody has removed it, or raises OSError.
        min_free: free bytes of that disk below which no new work should be begun.
    """

    def __init__(
        self, path: Path, limit: int, say: Callable[[str], None],
        restore: Callable[[], object] = lambda: None, min_free: int = MIN_FREE,
    ) -> None:  # fmt: skip
        self.path = path
        self.limit = limit
        self.used = 0
        self.say = say
        self._restore = restore
        self._min_free = min_free
        self._said = -REMIND
        self._threads = trio.CapacityLimiter(THREADS)

    async def in_thread(self, act: Callable[..., T], *args: object) -> T:
        """Touch the disk. Once begun it is not cancelled, so that what was done is known."""
        return await trio.to_thread.run_sync(act, *args, limiter=self._threads)

    def reserve(self, size: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            OSError: they would be too many.
        """
        if self.used + size > self.limit:
            raise OSError(errno.EDQUOT, f"--spool-limit, {self.limit} bytes, is reached")
        self.used += size

    def release(self, size: int) -> None:
        """These bytes are not there, or not any more."""
        self.used -= size

    def complain(self, line: str) -> None:
        """Say what is wrong, now and then: it is tried again and again."""
        now = trio.current_time()
        if now - self._said >= REMIND:
            self._said = now
            self.say(line)

    def shortage(self) -> str | None:
        """Why no new work should be begun here; None: it may."""
        try:
            self._restore()
            disk = os.statvfs(self.path)
        except OSError as error:
            return f"the disk of {self.path} cannot be used: {error.strerror}"
        free = disk.f_bavail * disk.f_frsize
        if free < min(self._min_free, MIN_SHARE * disk.f_blocks * disk.f_frsize):
            return (
                f"the disk of {self.path} is nearly full: {free // 1024**2} MiB are free"
                " (--min-free-disk)"
            )
        return None


@dataclass(slots=True)
class _Segment:
    file: IO[bytes]
    size: int = 0
    taken: int = 0


class SpoolFiles:
    """The pieces of one attempt that are on disk. One task at a time appends or takes.

    Cancelled, or with an error, either has changed nothing.
    """

    def __init__(self, folder: SpoolFolder) -> None:
        self._folder = folder
        self._segments: deque[_Segment] = deque()

    def __bool__(self) -> bool:
        return bool(self._segments)

    async def append(self, frames: bytes) -> None:
        """Write whole frames behind the others.

        Raises:
            OSError: the limit is reached, or the disk is full, or broken.
        """
        last = self._segments[-1] if self._segments else None
        if last is not None and last.size + len(frames) > SEGMENT:
            last = None
        self._folder.reserve(len(frames))
        try:
            segment = await self._folder.in_thread(_append, self._folder.path, last, frames)
        except BaseException:
            self._folder.release(len(frames))
            raise
        if last is None:
            self._segments.append(segment)
        segment.size += len(frames)

    async def take(self) -> list[Piece]:
        """The oldest pieces, which are forgotten here.

        Raises:
            UnreadableSpool: the disk does not give them back.
        """
        first = self._segments[0]
        try:
            pieces, size = read_frames(await self._folder.in_thread(_read, first))
        except OSError as error:
            raise UnreadableSpool(error.strerror or str(error)) from error
        if not pieces:
            raise UnreadableSpool("it is not what was written")
        first.taken += size
        if first.taken == first.size:
            self._segments.popleft()
            self._folder.release(first.size)
        return pieces

    async def discard(self) -> None:
        """Forget all of it."""
        while self._segments:
            await self._folder.in_thread(_close, self._segments[0])
            self._folder.release(self._segments.popleft().size)

    def close(self) -> None:
        """As `discard`, of what is left when there is no time to wait."""
        while self._segments:
            _close(self._segments[0])
            self._folder.release(self._segments.popleft().size)


def _close(segment: _Segment) -> None:
    with suppress(OSError):  # a disk that fails: it is closed all the same
        segment.file.close()


def _append(folder: Path, segment: _Segment | None, frames: bytes) -> _Segment:
    if segment is not None:
        _write(segment, frames)
        return segment
    fresh = _Segment(tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115 it stays open
    try:
        _write(fresh, frames)
    except BaseException:
        fresh.file.close()
        raise
    return fresh


def _write(segment: _Segment, frames: bytes) -> None:
    done = 0
    while done < len(frames):
        done += os.pwrite(segment.file.fileno(), frames[done:], segment.size + done)


def _read(segment: _Segment) -> bytes:
    """What comes next; the file is closed, and gone, when that is the rest of it."""
    size = min(BATCH + BLOCK, segment.size - segment.taken)
    data = os.pread(segment.file.fileno(), size, segment.taken)
    if len(data) < size:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    if segment.taken + size == segment.size:
        segment.file.close()
    return data
