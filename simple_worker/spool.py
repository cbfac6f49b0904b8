"""The unacknowledged output of one attempt: in memory, then on disk, then in the child's pipe.

Owns their order: what is in the window came before what is on disk, and that before what waits to
be written. Only the window is sent from, so that acknowledgements and resumed offsets concern it
alone; it is filled again from the disk as it empties. An attempt whose window has never been full
for long has no task and no file.
"""

import math
from collections.abc import Callable
from typing import Final

import trio

from remote_runner.types import Output, StreamName
from simple_worker.spool_files import (
    BATCH,
    Frames,
    Piece,
    SpoolFiles,
    SpoolFolder,
    UnreadableSpool,
    read_frames,
)
from simple_worker.window import BLOCK, Window

PATIENCE: Final = 0.25
"""Seconds without an acknowledgement after which a full window goes over to disk. A runner that is
there but slower than the job holds the job back: what is on disk must be sent before its end."""
RETRY: Final = 1.0
"""Seconds between two looks at a disk, or a limit, that has no room: nothing announces some."""


class _Overflow:
    """What is behind the window: on disk, and behind that in memory until it is written."""

    def __init__(self, folder: SpoolFolder) -> None:
        self.files = SpoolFiles(folder)
        self.tail = Frames()

    @property
    def is_full(self) -> bool:
        return len(self.tail) >= BATCH

    @property
    def is_empty(self) -> bool:
        return not self.files and not self.tail


class Spool:
    """Takes output in order, gives it out in order, and again from any unacknowledged offset.

    Args:
        name: the attempt's, for the lines of `folder`.
        folder: where it may go; None: nowhere, and the child waits when the window is full.
        start: runs an async function as a task until the worker leaves.
        on_more: called when `next` has something again that was on disk, or never will.
    """

    def __init__(
        self,
        name: str,
        folder: SpoolFolder | None,
        start: Callable[..., object],
        on_more: Callable[[], object],
    ) -> None:
        self.size = 0
        """Bytes of output so far."""
        self.is_cut = False
        """Whether all behind `size` is lost, because the disk does not give it back."""
        self._name = name
        self._folder = folder if folder is not None and folder.limit else None
        self._start = start
        self._on_more = on_more
        self._window = Window()
        self._overflow: _Overflow | None = None
        self._is_wanted = True
        self._progress = -math.inf
        """When something of a full window was acknowledged."""
        self._change = trio.lowlevel.ParkingLot()

    @property
    def has_room(self) -> bool:
        """Whether more may be read from the child."""
        if not self._is_wanted:
            return True
        if self._overflow is None:
            return not self._window.is_full
        return not self._overflow.is_full

    @property
    def is_all_given(self) -> bool:
        """Whether nothing follows what `next` has given out, unless it is added or resumed."""
        is_in_window = self.is_cut or self._overflow is None or self._overflow.is_empty
        return is_in_window and self._window.sent == self._window.size

    def add(self, stream: StreamName, data: bytes) -> None:
        """Take output. More may follow when there is room."""
        if not self._is_wanted:
            return
        self.size += len(data)
        if self._overflow is None:
            self._window.add(stream, data)
            return
        for start in range(0, len(data), BLOCK):
            self._overflow.tail.add(stream, data[start : start + BLOCK])
        self._change.unpark_all()

    async def wait_for_room(self) -> None:
        """Block until there is room: in the window, or on disk once the runner has been silent."""
        began = trio.current_time()
        while not self.has_room:
            due = math.inf
            if self._overflow is None and self._folder is not None:
                due = max(began, self._progress) + PATIENCE
                if trio.current_time() >= due:
                    self._overflow = _Overflow(self._folder)
                    self._start(self._move, self._folder, self._overflow)
                    self._change.unpark_all()
                    return
            with trio.move_on_at(due):
                await self._change.park()

    def next(self, limit: int) -> Output | None:
        """The next bytes to send, at most `limit`; None when there are none now."""
        return self._window.next(limit)

    def ack(self, offset: int) -> None:
        """Everything below `offset` is durable: forget it. Only what was in the window can be."""
        was_full, before = self._window.is_full, self._window.acked
        self._window.ack(offset)
        if was_full and self._window.acked > before:
            self._progress = trio.current_time()
            self._change.unpark_all()

    def resume(self, offset: int) -> None:
        """Everything below `offset` has arrived; what comes after it is sent again.

        It may be asked for once more: what has arrived is not durable yet.
        """
        self._window.resume(offset)

    def drop(self) -> None:
        """Nobody wants the output any more, neither what is here nor what comes."""
        self._is_wanted = False
        if self._overflow is not None:
            self._overflow.tail = Frames()
        self._window.ack(self._window.size)
        self._change.unpark_all()

    async def _move(self, folder: SpoolFolder, overflow: _Overflow) -> None:
        """Write what overflows, and bring it back, until there is room in the window again."""
        try:
            while self._is_wanted and (self._window.is_full or not overflow.is_empty):
                try:
                    await self._step(overflow)
                except UnreadableSpool as error:
                    if self._is_wanted:
                        folder.say(f"{self._name} ends: its output cannot be read back: {error}")
                        self._cut(overflow)
                except OSError as error:
                    folder.complain(f"{self._name} waits with its output: {error.strerror}")
                    with trio.move_on_after(RETRY):
                        await self._change.park()
            await overflow.files.discard()
        finally:
            overflow.files.close()
        self._overflow = None
        self._change.unpark_all()
        if self.is_cut:
            self._on_more()

    def _cut(self, overflow: _Overflow) -> None:
        """Only what is in the window can still be given."""
        self.is_cut, self._is_wanted = True, False
        self.size = self._window.size
        overflow.tail = Frames()

    async def _step(self, overflow: _Overflow) -> None:
        """Do what is next: bring something back, or write something, or wait."""
        due = self._progress + PATIENCE if overflow.tail else math.inf
        if not self._window.is_full:
            for stream, data in await self._oldest(overflow):
                self._window.add(stream, data)
            self._on_more()
        elif trio.current_time() >= due:
            frames = overflow.tail.seal()
            await overflow.files.append(frames)
            overflow.tail.drop(len(frames))
        else:
            with trio.move_on_at(due):
                await self._change.park()
        if not overflow.is_full:
            self._change.unpark_all()

    async def _oldest(self, overflow: _Overflow) -> list[Piece]:
        if overflow.files:
            return await overflow.files.take()
        frames = overflow.tail.seal()
        overflow.tail.drop(len(frames))
        return read_frames(frames)[0]
