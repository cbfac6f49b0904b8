"""Output at rest: small output beside the job's row, large output in append-only segment files.

Owns what is written when, what is durable, and who reads along. Addressed by the attempt's byte
offset. Never decides what output means, and never blocks the event loop: files (`log_files.py`), or
what they are elsewhere (`log_objects.py`), are touched in threads.
"""

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio

from queued_runner import log_files
from queued_runner.log_files import (
    FLOOD,
    LogFiles,
    LogFolder,
    LogReader,
    LogWriter,
    Record,
    cut,
    decode_records,
    encode_record,
)
from queued_runner.store.base import NoRoom, OutputAway, StoreBroken, StoredOutput
from remote_runner.sparing_log import SparingLog
from remote_runner.types import Output, StreamName

INLINE_LIMIT: Final = 64 * 1024
INLINE_RECORDS: Final = 1024
"""Its worker counts what a piece costs beside its bytes, and stops at many: so do we, earlier."""
LARGE: Final = FLOOD // 4
"""Bytes of one log that wait: what is less has no part in a flood, and is not written with it. In
object storage each write of a log is an object."""
FULL_PAUSE: Final = 1.0
"""Seconds between two tries while the disk has no room, or cannot be reached."""
MAX_COMPARED: Final = 256
"""Pieces of output that a repeated one is compared with: bounds what a worker can cost with it."""

RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]


class AttemptLog:
    """The output of one attempt while it is live here.

    Bytes stay in memory until the outcome is stored with them (small output), or until they are
    synced to a segment (large output, or output in many pieces).
    """

    def __init__(
        self, logs: "Logs", job_id: int, attempt: int, offset: int, cap: int,
        on_durable: Callable[[int], None], epoch: int,
    ) -> None:  # fmt: skip
        self._logs = logs
        self._epoch = epoch
        self.key = (job_id, attempt)
        self._cap = cap
        self._on_durable = on_durable
        self._on_closed: Callable[[], None] | None = None
        self.size = offset
        """Bytes the process wrote that arrived here, dropped ones included."""
        self.stored_size = offset
        self.durable = offset
        self.taken = offset
        """As far as the newest write goes, done or not."""
        self.dropped = 0
        self.is_spilled = offset > 0
        self.is_published = False
        """Whether somebody else reads its files while they grow."""
        self.is_closed = False
        self.is_moved = False
        """Another server has the attempt by now: whoever follows it goes on elsewhere."""
        self.pending: deque[Record] = deque()
        self._grown: trio.Event | None = None
        self._writer: LogWriter | None = None

    @property
    def writer(self) -> LogWriter:
        """Writes it on; owned by the writing thread. Most jobs never need it."""
        if self._writer is None:
            self._writer = self._logs.files.writer(*self.key, self._epoch)
        return self._writer

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

    def publish(self) -> None:
        """Put what there is, and what comes, into files soon: another server reads along there.

        `Logs.on_grown` is called once that is so, and whenever there is more.
        """
        self.is_published = True
        self.spill()

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

    @property
    def grown(self) -> trio.Event:
        """Set when there is more, or nothing more will come. Take it before reading."""
        if self._grown is None:
            self._grown = trio.Event()
        return self._grown

    def _wake_readers(self) -> None:
        if self._grown is not None:
            self._grown.set()
            self._grown = None

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
        self._on_durable = _nobody  # who knows the log: see `Dispatcher._forget`
        self._wake_readers()


class Logs:
    """All output of one service.

    Args:
        place: where segments lie: a folder, or what is like one.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
        now: wall clock, UNIX seconds.
        require_room: raises NoRoom while nothing is to be written; called in the thread.

    Attributes:
        files: that place.
        on_grown: called with job and attempt when a published log has been synced.
    """

    def __init__(
        self,
        place: Path | LogFiles,
        *,
        run_sync: RunSync | None = None,
        now: Callable[[], float] = time.time,
        require_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_grown: Callable[[int, int], None] = lambda job_id, attempt: None
        self.files: LogFiles = LogFolder(place) if isinstance(place, Path) else place
        self._require_room = require_room
        self._run_sync: RunSync = run_sync or trio.to_thread.run_sync
        self._now = now
        self._dirty: dict[int, AttemptLog] = {}
        self._large: dict[int, AttemptLog] = {}
        """Those of which enough waits to be part of a flood."""
        self.written = 0
        """Bytes of output written into files."""
        self._work = trio.lowlevel.ParkingLot()
        self._on_full = SparingLog("queued_runner", "output waits for room on the disk")
        self._on_away = SparingLog("queued_runner", "output waits for its storage")

    def now_ms(self) -> int:
        """The wall clock in ms, as records carry it."""
        return int(self._now() * 1000)

    def open(
        self, job_id: int, attempt: int, offset: int, cap: int, on_durable: Callable[[int], None],
        epoch: int = 0,
    ) -> AttemptLog:  # fmt: skip
        """Begin the output of an attempt, or go on with it as its next owner; bytes below `offset`
        are durable. Each owner has an `epoch` of its own, higher than those before."""
        return AttemptLog(self, job_id, attempt, offset, cap, on_durable, epoch)

    def mark_dirty(self, log: AttemptLog) -> None:
        """This log has records that belong on disk."""
        self._dirty[id(log)] = log
        if log.stored_size - log.taken >= LARGE:
            self._large[id(log)] = log
        self._work.unpark()

    async def run(self) -> None:
        """Write and sync for ever, all dirty logs in one go, and then let more arrive for the next
        time; only floods, of one log or of several, are written meanwhile. A full disk is tried
        again, and so is one that cannot be reached.

        Raises:
            StoreBroken: the disk failed; nothing of that batch was acknowledged.
        """
        due = -math.inf
        while True:
            if not self._dirty:
                await self._work.park()
                continue
            with trio.move_on_at(due):
                while sum(log.stored_size - log.taken for log in self._large.values()) < FLOOD:
                    await self._work.park()
            is_due = trio.current_time() >= due
            batch = self._take(self._dirty if is_due else self._large)
            with trio.CancelScope(shield=True):
                done, wait = await self._run_sync(partial(self._write, batch))
            for log, records in batch[:done]:
                self.written += sum(len(record.data) for record in records)
                log.synced(len(records))
                if log.is_published:
                    self.on_grown(*log.key)
            if wait is None:
                if is_due:
                    due = trio.current_time() + self.files.pause
                continue
            self._warn(wait)
            for log, _ in batch[done:]:
                self._dirty[id(log)] = log
            await trio.sleep(FULL_PAUSE)

    def _take(self, logs: dict[int, AttemptLog]) -> list[tuple[AttemptLog, list[Record]]]:
        """What waits of these, to be written now."""
        batch = [(log, list(log.pending)) for log in logs.values()]
        for log, _ in batch:
            log.taken = log.stored_size
            del self._dirty[id(log)]
        self._large.clear()
        return batch

    def _warn(self, wait: NoRoom | OutputAway) -> None:
        sparing = self._on_full if isinstance(wait, NoRoom) else self._on_away
        sparing.warning(why=str(wait))

    def _write(
        self, batch: list[tuple[AttemptLog, list[Record]]]
    ) -> tuple[int, NoRoom | OutputAway | None]:
        """How many of the logs are on disk, in order, and what kept the next one from it."""
        done = 0
        try:
            for _ in self.files.each(self._write_one, batch):
                done += 1
        except (NoRoom, OutputAway) as wait:
            return done, wait
        except OSError as error:
            raise StoreBroken(
                f"output cannot be written: {error}; check the disk, then start again"
            ) from error
        return done, None

    def _write_one(self, piece: tuple[AttemptLog, list[Record]]) -> None:
        log, records = piece
        if records:
            self._require_room()
            log.writer.append(records)

    # --- reading ---

    async def recover(self, job_id: int, attempt: int, epoch: int) -> int:
        """The bytes of an attempt that its earlier owners left, now durable: its next one, which is
        that of this epoch, goes on from there. Waits where they cannot be reached.

        Raises:
            StoreBroken: the disk failed.
        """
        size: int = await self._look(partial(self.files.recover, job_id, attempt, epoch))
        return size

    async def count(self, job_id: int, attempt: int, size: int) -> dict[StreamName, int]:
        """How many pieces of each stream lie in the first `size` bytes of an attempt's files: as
        many as came.

        Raises:
            StoreBroken: the disk failed.
        """
        counts: dict[StreamName, int] = await self._look(
            lambda: log_files.count(self.files.reader(job_id, attempt, 0), size)
        )
        return counts

    async def free_epoch(self, job_id: int, attempt: int) -> int:
        """An epoch after all that have written. Raises StoreBroken: the disk failed."""
        newest: int | None = await self._look(partial(self.files.newest_epoch, job_id, attempt))
        return 0 if newest is None else newest + 1

    async def _look(self, look: Callable[[], Any]) -> Any:
        while True:
            try:
                return await self._run_sync(look)
            except OutputAway as away:
                self._warn(away)
                await trio.sleep(FULL_PAUSE)
            except OSError as error:
                raise StoreBroken(
                    f"output cannot be read: {error}; check the disk, then start again"
                ) from error

    async def read(
        self, job_id: int, attempt: int, stored: StoredOutput | None, offset: int
    ) -> AsyncIterator[Record]:
        """The output at rest of an attempt, from `offset` on; `stored` is what its row says, None
        while it has not ended.

        Raises:
            OutputAway: it cannot be reached; also as the records are taken.
        """
        if stored is not None and stored.inline is not None:
            for record in decode_records(stored.inline, 0)[0]:
                if record.offset + len(record.data) > offset:
                    yield cut(record, offset)
            return
        # An earlier owner may write even after the end, where a later one has not written at all.
        size = None if stored is None else stored.size
        reader = self.files.reader(job_id, attempt, offset)
        while (size is None or reader.offset < size) and (records := await self._read_some(reader)):
            for record in records:
                part = cut(record, record.offset, size)
                if part.data:
                    yield part

    async def _read_some(self, reader: LogReader) -> list[Record]:
        records: list[Record] = await self._run_sync(reader.read)
        return records

    async def follow(
        self, log: AttemptLog, offset: int, *, stays: bool = True
    ) -> AsyncIterator[Record]:
        """Replay a live attempt from `offset`; with `stays` also what comes until its end.

        Raises as `read`.
        """
        reader = self.files.reader(*log.key, offset)
        while True:
            grown = log.grown
            while reader.offset < log.durable:
                records = await self._read_some(reader)
                if not records:
                    if log.is_closed:
                        return  # its job was deleted
                    break
                for record in records:
                    yield record
            for record in _pending_from(log, reader.offset):
                reader.offset = record.offset + len(record.data)
                yield record
            if reader.offset >= log.stored_size:
                if log.is_closed or not stays:
                    return
                if grown is log.grown:
                    await grown.wait()

    async def follow_files(
        self,
        job_id: int,
        attempt: int,
        offset: int,
        *,
        change_of: Callable[[], trio.Event],
        is_over: Callable[[], Awaitable[bool]],
        pause: float,
    ) -> AsyncIterator[Record]:
        """The output of an attempt that another server owns, from `offset`, as far as its files go
        and as they grow, until it is over. What its owner never put into files is in its row then.

        Args:
            change_of: the event that is set when there may be more, or the attempt may be over. It
                is taken before the files are read.
            is_over: whether nothing more comes into files. Asked before each look at them.
            pause: seconds after which they are looked at again, whatever was told.

        Raises as `read`.
        """
        reader = self.files.reader(job_id, attempt, offset)
        is_last = False
        while not is_last:
            changed = change_of()
            is_last = await is_over()
            while records := await self._read_some(reader):
                for record in records:
                    yield record
            if not is_last:
                with trio.move_on_after(pause):
                    await changed.wait()

    async def remove(self, job_ids: Sequence[int]) -> None:
        """Delete every segment of these jobs.

        Raises:
            OSError, OutputAway: some of them are left.
        """
        await self._run_sync(partial(self.files.remove, job_ids))


def _pending_from(log: AttemptLog, offset: int) -> list[Record]:
    """A copy, because the log goes on while a reader is slow."""
    return [
        cut(record, offset) for record in log.pending if record.offset + len(record.data) > offset
    ]


def _nobody(offset: int) -> None:
    """Who hears of an attempt that has ended."""
