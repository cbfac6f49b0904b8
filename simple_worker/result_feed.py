"""The results of one attempt on their way: what was sent of them, and the next bytes, read ahead.

Owns the place in the stream. What is large is read in threads, a piece ahead, while it is sent; it
can be sent again from anywhere until it is dropped, so nothing of it is ever acknowledged in parts.
"""

from collections.abc import Callable
from typing import Final

import trio

from simple_worker.results import Archive

READ: Final = 512 * 1024
"""Bytes that are held in memory, at most."""


class ResultFeed:
    """Gives out the bytes of an archive in order, and again from any offset.

    Args:
        threads: how many may read at once.
        start: runs an async function as a task until the worker leaves.
        on_more: called when `next` may have something again.
    """

    def __init__(
        self, archive: Archive, threads: trio.CapacityLimiter, start: Callable[..., object],
        on_more: Callable[[], object],
    ) -> None:  # fmt: skip
        self.size: int | None = archive.size
        """Bytes in all; None once the disk has failed: nothing more comes."""
        self._archive = archive
        self._threads = threads
        self._start = start
        self._on_more = on_more
        self._sent = 0
        self._ahead = b""
        """What follows what was sent."""
        self._is_reading = False
        self._is_wanted = True

    @property
    def is_all_given(self) -> bool:
        """Whether nothing follows what `next` has given out, unless it is resumed."""
        return self.size is None or self._sent >= self.size

    def next(self, limit: int) -> tuple[bytes, int] | None:
        """The next bytes and their offset; None when there are none now."""
        if not self._ahead and not self.is_all_given:
            if self._archive.is_in_memory:
                self._ahead = self._archive.read(self._sent, READ)
            elif not self._is_reading:
                self._is_reading = True
                self._start(self._read)
        if not self._ahead:
            return None
        data, offset = self._ahead[:limit], self._sent
        self._ahead = self._ahead[limit:]
        self._sent += len(data)
        return data, offset

    def resume(self, offset: int) -> None:
        """Everything below `offset` has arrived; what comes after it is sent again."""
        self._sent = offset
        self._ahead = b""

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._is_wanted = False
        self._ahead = b""
        if not self._is_reading:
            self._archive.close()

    async def _read(self) -> None:
        try:
            while self._is_wanted and not self._ahead and not self.is_all_given:
                at = self._sent
                try:
                    data = await trio.to_thread.run_sync(
                        self._archive.read, at, READ, limiter=self._threads
                    )
                except OSError:
                    data = b""
                if at != self._sent or not self._is_wanted:
                    continue  # it was resumed elsewhere meanwhile
                if not data:
                    self.size = None
                self._ahead = data
        finally:
            self._is_reading = False
            if not self._is_wanted:
                self._archive.close()
        self._on_more()
