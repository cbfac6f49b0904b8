"""The output of one attempt that nobody has acknowledged yet, by offset. Pure.

Owns the bytes and the three offsets (`acked` ≤ `sent` ≤ `size`); knows no connection and no clock.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from remote_runner.types import Output, StreamName

WINDOW: Final = 4 * 1024 * 1024
"""Unacknowledged bytes of one attempt in memory; then its child's pipe is not read any more."""
BLOCK: Final = 64 * 1024
BLOCK_COST: Final = 256
"""What a block takes beside its bytes: a job that alternates its streams byte by byte pays it."""


@dataclass(slots=True)
class _Block:
    stream: StreamName
    offset: int
    data: bytearray

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Window:
    """Takes output in order, gives it out in order, and again from any unacknowledged offset."""

    def __init__(self) -> None:
        self.size = 0
        self.sent = 0
        self.acked = 0
        self._sent: deque[_Block] = deque()
        self._unsent: deque[_Block] = deque()

    @property
    def is_full(self) -> bool:
        """Whether the child must wait before more is read from it."""
        blocks = len(self._sent) + len(self._unsent)
        return self.size - self.acked + BLOCK_COST * blocks > WINDOW

    def add(self, stream: StreamName, data: bytes) -> None:
        """Take output; small pieces of one stream that wait together become one block."""
        last = self._unsent[-1] if self._unsent else None
        if last is None or last.stream != stream or len(last.data) + len(data) > BLOCK:
            self._unsent.append(_Block(stream, self.size, bytearray(data)))
        else:
            last.data += data
        self.size += len(data)

    def next(self, limit: int) -> Output | None:
        """The next bytes to send, at most `limit`; None when all are sent."""
        if not self._unsent:
            return None
        block = self._unsent[0]
        skip = self.sent - block.offset
        output = Output(block.stream, bytes(block.data[skip : skip + limit]), self.sent)
        self.sent += len(output.data)
        if self.sent == block.end:
            self._sent.append(self._unsent.popleft())
        return output

    def ack(self, offset: int) -> None:
        """Everything below `offset` is durable: forget it, sent or not."""
        self.acked = max(self.acked, min(offset, self.size))
        self.sent = max(self.sent, self.acked)
        while self._unsent and self._unsent[0].end <= self.sent:
            self._sent.append(self._unsent.popleft())
        while self._sent and self._sent[0].end <= self.acked:
            self._sent.popleft()

    def resume(self, offset: int) -> None:
        """Everything below `offset` has arrived; what comes after it is sent again.

        It may be asked for once more: what has arrived is not durable yet.
        """
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self.sent = max(self.acked, min(offset, self.size))
        while self._unsent and self._unsent[0].end <= self.sent:
            self._sent.append(self._unsent.popleft())
