"""Results at rest: few bytes beside the row of the attempt, many in one file an attempt.

Owns when what has arrived is whole and durable. A file counts only once the row of its attempt says
so. Each owner of an attempt has a file of its own, named after its epoch too, and begins it afresh:
workers keep results until the end is confirmed. Files (`result_files.py`), or what they are
elsewhere (`result_objects.py`), are touched in threads, never on the event loop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from queued_runner.result_files import ResultFile, ResultFiles, ResultFolder
from queued_runner.store.base import (
    NoRoom,
    OutputAway,
    ResultGone,
    StoreBroken,
    StoredResults,
)
from remote_runner.results import FOLDER, MAX_HEAD, BadHead, Head, LeftOut, parse_head
from remote_runner.sparing_log import SparingLog

INLINE_LIMIT: Final = 64 * 1024
"""Bytes, the head included, up to which results ride the commit of their attempt's outcome."""
FULL_PAUSE: Final = 1.0
"""Seconds between two tries while the disk has no room, or cannot be reached."""
READ_SIZE: Final = 256 * 1024

RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]


class AttemptResults:
    """The results of an attempt while they arrive: in memory while they are few, else in a file."""

    def __init__(
        self, owner: "Results", file: ResultFile, cap: int, on_taken: Callable[[int], None]
    ) -> None:
        self._owner = owner
        self._file = file
        self._cap = cap
        self._on_taken = on_taken
        self._on_closed: Callable[[StoredResults], None] | None = None
        self.received = 0
        """Bytes of the stream that have come."""
        self._written = 0
        self._pending = bytearray()
        self._in_work = b""
        self._is_spilled = False
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
            self._owner.files.append(self._file, data, size)
            size += len(data)
        if not is_last:
            return None
        stored = self._checked(self._owner.files.read_head(self._file), size, inline=False)
        if not stored.head.files:
            return self._kept_none(stored)
        self._owner.files.keep(self._file)
        return stored

    def _remove(self) -> StoredResults:
        return self._kept_none(_none(self._refusal or ""))

    def _kept_none(self, stored: StoredResults) -> StoredResults:
        self._owner.files.discard(self._file)
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
        return StoredResults(head, start, begin[start:] if inline else None, self._file.epoch)


class Results:
    """All results of one service.

    Args:
        place: where the files lie: a folder, or what is like one.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
        require_room: raises NoRoom while nothing is to be written; called in the thread.

    Attributes:
        files: that place.
    """

    def __init__(
        self,
        place: Path | ResultFiles,
        *,
        run_sync: RunSync | None = None,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.files: ResultFiles = ResultFolder(place) if isinstance(place, Path) else place
        self.require_room = require_room
        self._run_sync: RunSync = run_sync or trio.to_thread.run_sync
        self._dirty: dict[int, _Work] = {}
        self._work = trio.lowlevel.ParkingLot()
        self._on_full = SparingLog("queued_runner", "results wait for room on the disk")
        self._on_away = SparingLog("queued_runner", "results wait for their storage")

    # --- arriving ---

    def open(
        self, job_id: int, attempt: int, cap: int, on_taken: Callable[[int], None], epoch: int = 0
    ) -> AttemptResults:
        """Begin with the results of an attempt: `cap` bytes at most; `on_taken` gets an offset
        below which they are out of memory. Each owner of it has an `epoch` of its own."""
        return AttemptResults(self, ResultFile(job_id, attempt, epoch), cap, on_taken)

    def mark_dirty(self, work: "_Work") -> None:
        """There is something to do for this on the disk."""
        self._dirty[id(work)] = work
        self._work.unpark()

    def remove_older(self, job_id: int, attempt: int, epoch: int) -> None:
        """Remove, soon, what owners of an attempt before this epoch have left of its results: it
        has ended."""
        if epoch:
            self.mark_dirty(_Older(self.files, ResultFile(job_id, attempt, epoch)))

    async def run(self) -> None:
        """Write for ever. A full disk is tried again, and so is one that cannot be reached.

        Raises:
            StoreBroken: the disk failed; nothing of what was written last was acknowledged.
        """
        while True:
            if not self._dirty:
                await self._work.park()
                continue
            work = self._dirty.pop(next(iter(self._dirty)))
            try:
                with trio.CancelScope(shield=True):
                    done = await self._run_sync(work.next_work())
            except (NoRoom, OutputAway) as wait:
                sparing = self._on_full if isinstance(wait, NoRoom) else self._on_away
                sparing.warning(why=str(wait))
                self.mark_dirty(work)
                await trio.sleep(FULL_PAUSE)
            except OSError as error:
                raise StoreBroken(
                    f"results cannot be written: {error}; check the disk, then start again"
                ) from error
            else:
                work.worked(done)

    async def tidy(self, kept: Collection[tuple[int, int, int]]) -> None:
        """Remove what earlier servers left, but for what is kept. Nobody else may use the folder,
        and nothing may have arrived yet.

        Raises:
            StoreBroken: the disk failed.
            OutputAway: they cannot be reached.
        """
        files = frozenset(ResultFile(*file) for file in kept)
        try:
            await self._run_sync(partial(self.files.tidy, files))
        except OSError as error:
            raise StoreBroken(
                f"results cannot be removed: {error}; check the disk, then start again"
            ) from error

    # --- reading, removing ---

    async def read(
        self, job_id: int, attempt: int, stored: StoredResults, offset: int, size: int
    ) -> AsyncIterator[bytes]:
        """The bytes of one file, which begins at `offset` behind the head; in bounded pieces.

        Raises:
            ResultGone: the disk does not have it.
            OutputAway: it cannot be reached.
        """
        if stored.inline is not None:
            yield stored.inline[offset : offset + size]
            return
        name = ResultFile(job_id, attempt, stored.epoch)
        file = await self._take(partial(self.files.open, name))
        try:
            offset += stored.start
            while size:
                data = await self._take(partial(file.read, min(size, READ_SIZE), offset))
                if not data:
                    raise ResultGone("its file has become shorter")
                yield data
                offset, size = offset + len(data), size - len(data)
        finally:
            file.close()

    async def _take(self, take: Callable[[], Any]) -> Any:
        try:
            return await self._run_sync(take)
        except OSError as error:
            raise ResultGone(f"it cannot be read any more: {error.strerror}") from error

    async def remove(self, job_ids: Sequence[int]) -> None:
        """Delete the files of every attempt of jobs; their rows go with those of the attempts.

        Raises:
            OSError, OutputAway: some of it is left.
        """
        await self._run_sync(partial(self.files.remove, job_ids))


class _Work(Protocol):
    """Something to do on the disk: tried again while that is full, and told when it is done."""

    def next_work(self) -> Callable[[], Any]: ...
    def worked(self, done: Any) -> None: ...


class _Older:
    """The files of the earlier owners of an attempt, to be removed."""

    def __init__(self, files: ResultFiles, file: ResultFile) -> None:
        self._files = files
        self._file = file

    def next_work(self) -> Callable[[], None]:
        return partial(self._files.remove_older, self._file)

    def worked(self, done: None) -> None:
        pass


def _none(why: str) -> StoredResults:
    """What is kept of results that are not: that they were there, and why."""
    return StoredResults(Head((), (LeftOut(FOLDER, why),), 1), 0, b"")
