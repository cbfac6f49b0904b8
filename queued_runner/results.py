"""Results at rest: few bytes beside the row of the attempt, many in one file an attempt.

Owns these files, and when what has arrived is whole and durable. A file is named after job and
attempt, never after anything in it; it counts only once the row of its attempt says so, and what
has no row when a server starts is removed. Files are touched in threads, never on the event loop.
"""

import errno
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from queued_runner.store.base import (
    NoRoom,
    ResultGone,
    StoreBroken,
    StoredResults,
)
from remote_runner.results import FOLDER, MAX_HEAD, BadHead, Head, LeftOut, parse_head
from remote_runner.sparing_log import SparingLog

INLINE_LIMIT: Final = 64 * 1024
"""Bytes, the head included, up to which results ride the commit of their attempt's outcome."""
FULL_PAUSE: Final = 1.0
"""Seconds between two tries while the disk has no room."""
READ_SIZE: Final = 256 * 1024
FOLDER_DEPTH: Final = 3
"""Folders above a file that may be new with it, up to the one that holds `results`."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]
Key = tuple[int, int]
"""A job and the number of its attempt."""


class AttemptResults:
    """The results of an attempt while they arrive: in memory while they are few, else in a file."""

    def __init__(
        self, owner: "Results", key: Key, cap: int, offset: int, on_taken: Callable[[int], None]
    ) -> None:
        self._owner = owner
        self._path = owner.path_of(*key)
        self._cap = cap
        self._on_taken = on_taken
        self._on_closed: Callable[[StoredResults], None] | None = None
        self.received = offset
        """Bytes of the stream that have come."""
        self._written = offset
        self._pending = bytearray()
        self._in_work = b""
        self._is_spilled = offset > 0
        self._refusal: str | None = None
        """Why nothing of it is kept."""

    def append(self, data: bytes) -> None:
        """Take the next bytes. Where there are more than there may be, nothing is kept at all."""
        self.received += len(data)
        if self.received > self._cap + MAX_HEAD:
            self._refuse(f"they have more than {self._cap:,} bytes")
        if self._refusal is not None:
            self._on_taken(self.received)
            return
        self._pending += data
        if self.received > INLINE_LIMIT:
            self._is_spilled = True
        if self._is_spilled:
            self._owner.mark_dirty(self)
        else:
            self._on_taken(self.received)

    def close(self, on_closed: Callable[[StoredResults], None]) -> None:
        """No more will come; `on_closed` is called once they can be written down."""
        if self._is_spilled:
            self._on_closed = on_closed
            self._owner.mark_dirty(self)
        else:
            on_closed(self._checked(bytes(self._pending), self.received, inline=True))

    def discard(self) -> None:
        """Nobody wants them: the attempt is stale."""
        self._refuse("nobody wants them")
        if self._is_spilled:
            self._owner.mark_dirty(self)

    def _refuse(self, why: str) -> None:
        self._refusal = self._refusal or why
        self._pending.clear()

    # --- one piece of work after the other, in a thread ---

    def next_work(self) -> Callable[[], StoredResults | None]:
        """What is to be done on the disk now; it may be tried again."""
        if self._refusal is not None:
            return self._remove
        self._in_work += bytes(self._pending)
        self._pending.clear()
        return partial(self._work, self._in_work, self._written, self._on_closed is not None)

    def worked(self, stored: StoredResults | None) -> None:
        """That is done; it gave what can be written down, if nothing more will come."""
        self._written += len(self._in_work)
        self._in_work = b""
        self._on_taken(self.received if self._refusal is not None else self._written)
        if self._on_closed is not None:
            if stored is None:
                self._owner.mark_dirty(self)  # it was closed meanwhile
            else:
                on_closed, self._on_closed = self._on_closed, None
                on_closed(stored)

    def _work(self, data: bytes, size: int, is_last: bool) -> StoredResults | None:
        if data:
            self._owner.require_room()
            _append(self._path, data, size)
            size += len(data)
        if not is_last:
            return None
        stored = self._checked(_read_head(self._path), size, inline=False)
        if not stored.head.files:
            return self._kept_none(stored)
        _sync(self._path)
        return stored

    def _remove(self) -> StoredResults:
        return self._kept_none(_none(self._refusal or ""))

    def _kept_none(self, stored: StoredResults) -> StoredResults:
        self._path.unlink(missing_ok=True)
        return stored

    def _checked(self, begin: bytes, size: int, *, inline: bool) -> StoredResults:
        """What a stream of `size` bytes is that begins so. It is whole, or nothing of it is."""
        if self._refusal is not None:
            return _none(self._refusal)
        start = begin.find(b"\n") + 1
        try:
            head = parse_head(begin[:start]) if start else None
        except BadHead as error:
            return _none(f"their worker sent what is none: {error}")
        if head is None:
            return _none(f"only {size:,} bytes of them came")
        if size != start + head.size:
            return _none(f"only {size:,} of {start + head.size:,} bytes of them came")
        if head.size > self._cap:
            return _none(f"they have more than {self._cap:,} bytes")
        return StoredResults(head, start, begin[start:] if inline else None)


class Results:
    """All results of one service.

    Args:
        folder: where the files lie.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
        require_room: raises NoRoom while nothing is to be written; called in the thread.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run_sync: RunSync | None = None,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self.require_room = require_room
        self._run_sync: RunSync = run_sync or trio.to_thread.run_sync
        self._dirty: dict[int, AttemptResults] = {}
        self._left: dict[Key, int] = {}
        self._work = trio.lowlevel.ParkingLot()
        self._on_full = SparingLog("queued_runner", "results wait for room on the disk")

    def path_of(self, job_id: int, attempt: int) -> Path:
        """The file of an attempt, if it has one."""
        return self._folder / str(job_id // 1000) / str(job_id) / str(attempt)

    # --- arriving ---

    def open(
        self, job_id: int, attempt: int, cap: int, on_taken: Callable[[int], None]
    ) -> AttemptResults:
        """Begin with the results of an attempt: `cap` bytes at most; `on_taken` gets an offset
        below which they are out of memory."""
        return AttemptResults(self, (job_id, attempt), cap, 0, on_taken)

    def reopen(
        self, job_id: int, attempt: int, cap: int, on_taken: Callable[[int], None]
    ) -> AttemptResults | None:
        """Go on with those that an earlier server left unfinished; None: there are none."""
        offset = self._left.pop((job_id, attempt), 0)
        return AttemptResults(self, (job_id, attempt), cap, offset, on_taken) if offset else None

    def mark_dirty(self, results: AttemptResults) -> None:
        """There is something to do for these on the disk."""
        self._dirty[id(results)] = results
        self._work.unpark()

    async def run(self) -> None:
        """Write for ever. A full disk is tried again.

        Raises:
            StoreBroken: the disk failed; nothing of what was written last was acknowledged.
        """
        while True:
            if not self._dirty:
                await self._work.park()
                continue
            results = self._dirty.pop(next(iter(self._dirty)))
            try:
                with trio.CancelScope(shield=True):
                    stored = await self._run_sync(results.next_work())
            except NoRoom as full:
                self._on_full.warning(why=str(full))
                self.mark_dirty(results)
                await trio.sleep(FULL_PAUSE)
            except OSError as error:
                raise StoreBroken(
                    f"results cannot be written: {error}; check the disk, then start again"
                ) from error
            else:
                results.worked(stored)

    async def recover(self, running: Collection[Key], kept: Collection[Key]) -> None:
        """Look what an earlier server left: go on with what runs, remove what nobody has kept.

        Raises:
            StoreBroken: the disk failed.
        """
        try:
            self._left = await self._run_sync(
                partial(_recover, self._folder, frozenset(running), frozenset(kept))
            )
        except OSError as error:
            raise StoreBroken(
                f"results cannot be read: {error}; check the disk, then start again"
            ) from error

    # --- reading, removing ---

    async def read(
        self, job_id: int, attempt: int, stored: StoredResults, offset: int, size: int
    ) -> AsyncIterator[bytes]:
        """The bytes of one file, which begins at `offset` behind the head; in bounded pieces.

        Raises:
            ResultGone: the disk does not have it.
        """
        if stored.inline is not None:
            yield stored.inline[offset : offset + size]
            return
        try:
            file = await self._run_sync(partial(_open, self.path_of(job_id, attempt)))
        except OSError as error:
            raise ResultGone(f"it cannot be read any more: {error.strerror}") from error
        try:
            offset += stored.start
            while size:
                data = await self._run_sync(partial(os.pread, file, min(size, READ_SIZE), offset))
                if not data:
                    raise ResultGone("its file has become shorter")
                yield data
                offset, size = offset + len(data), size - len(data)
        finally:
            os.close(file)

    async def remove(self, job_ids: Sequence[int]) -> None:
        """Delete the files of every attempt of jobs; their rows go with those of the attempts.

        Raises:
            OSError: some of it is left.
        """
        await self._run_sync(
            partial(_remove, [self.path_of(job_id, 1).parent for job_id in job_ids])
        )


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(FileNotFoundError):  # most jobs leave nothing
            shutil.rmtree(folder)


def _none(why: str) -> StoredResults:
    """What is kept of results that are not: that they were there, and why."""
    return StoredResults(Head((), (LeftOut(FOLDER, why),), 1), 0, b"")


def _append(path: Path, data: bytes, size: int) -> None:
    """Write behind the first `size` bytes.

    Raises:
        NoRoom: there is no room; nothing of them is left behind.
        OSError: the disk failed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = _open(path, os.O_WRONLY | os.O_CREAT)
    except OSError as error:
        raise _refusal(error) from error
    try:
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(file, data[done:], size + done)
        except OSError as error:
            os.ftruncate(file, size)
            raise _refusal(error) from error
    finally:
        os.close(file)


def _open(path: Path, flags: int = os.O_RDONLY) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _refusal(error: OSError) -> OSError | NoRoom:
    if error.errno not in _NO_ROOM:
        return error
    return NoRoom(f"results cannot be written: {error.strerror}")


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.readline(MAX_HEAD + 1)
    except FileNotFoundError:
        return b""


def _sync(path: Path) -> None:
    """Make a file durable, and the names that lead to it from the data directory on."""
    file = _open(path)
    try:
        os.fdatasync(file)
    finally:
        os.close(file)
    for folder in (path.parent, *path.parent.parents[:FOLDER_DEPTH]):
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _recover(folder: Path, running: frozenset[Key], kept: frozenset[Key]) -> dict[Key, int]:
    left: dict[Key, int] = {}
    for path in folder.glob("*/*/*"):
        key = _key_of(path)
        if key in running and key not in kept:
            _sync(path)  # it may have been read from memory only
            left[key] = path.stat().st_size
        elif key is not None and key not in kept:
            path.unlink()
            for parent in path.parents[:2]:
                with suppress(OSError):  # something else is in it
                    parent.rmdir()
    return left


def _key_of(path: Path) -> Key | None:
    """Whose file it is; None: none of ours, which is left alone."""
    job_id, attempt = path.parent.name, path.name
    if not (job_id.isdecimal() and attempt.isdecimal()):
        return None
    return int(job_id), int(attempt)
