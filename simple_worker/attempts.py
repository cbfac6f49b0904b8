"""What the worker holds of its attempts: the child, output nobody has acknowledged, the outcome.

Owns the memory window of each attempt; knows no connection.
"""

from collections import deque
from typing import Final

import trio

from remote_runner.protocol.messages import Close, OutputChunk
from remote_runner.types import Outcome, StreamName
from simple_worker.process import Child

WINDOW: Final = 4 * 1024 * 1024
"""Unacknowledged bytes of one attempt in memory; then its child's pipe is not read any more."""


class HeldAttempt:
    """One attempt, from its spawn until the runner says `closed` or `stale`."""

    def __init__(self, attempt_id: str) -> None:
        self.id = attempt_id
        self.child: Child | None = None
        self.size = 0
        self.acked = 0
        self.sent = 0
        self.is_sendable = True
        """False after a reconnection, until the runner has said where to resume."""
        self.is_close_sent = False
        self.close: Close | None = None
        self._window: deque[OutputChunk] = deque()
        self._room = trio.lowlevel.ParkingLot()

    @property
    def is_running(self) -> bool:
        return self.close is None

    async def keep(self, stream: StreamName, data: bytes) -> None:
        """Take output; blocks while the window is full."""
        self._window.append(OutputChunk(stream, data, self.id, self.size))
        self.size += len(data)
        while self.size - self.acked > WINDOW:
            await self._room.park()

    def end(self, outcome: Outcome) -> None:
        """The process and its tree are gone."""
        self.close = Close(
            outcome.exit_code,
            id=self.id,
            signal=outcome.signal,
            reason=outcome.reason.value,
            offset=self.size,
            duration_ms=None if outcome.duration is None else round(outcome.duration * 1000),
            max_rss_kb=None if outcome.max_rss is None else outcome.max_rss // 1024,
            cpu_ms=None if outcome.cpu_time is None else round(outcome.cpu_time * 1000),
        )

    def ack(self, offset: int) -> None:
        """Everything below `offset` is durable at the runner: forget it."""
        self.acked = max(self.acked, min(offset, self.size))
        while self._window and _end(self._window[0]) <= self.acked:
            self._window.popleft()
        self._room.unpark_all()

    def drop_output(self) -> None:
        """Nobody wants it any more."""
        self.ack(self.size)
        self.acked = 1 << 62
        self._room.unpark_all()

    def resume(self, offset: int) -> None:
        """Send again from `offset`."""
        self.ack(offset)
        self.sent = max(offset, self.acked)
        self.is_sendable = True
        self.is_close_sent = False

    def next_message(self) -> OutputChunk | Close | None:
        """What to send next, in order; None when there is nothing now."""
        if not self.is_sendable:
            return None
        if self.sent < self.size:
            for chunk in self._window:
                if _end(chunk) > self.sent:
                    self.sent = _end(chunk)
                    return chunk
        if self.close is not None and not self.is_close_sent:
            self.is_close_sent = True
            return self.close
        return None


def _end(chunk: OutputChunk) -> int:
    assert chunk.offset is not None
    return chunk.offset + len(chunk.data)
