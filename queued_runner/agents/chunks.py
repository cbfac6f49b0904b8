"""The chunks of one attempt's output, put in order. Pure: no clock, no store, no connection.

Owns the index that each stream waits for, and what came before its turn, within bounds. An agent
sends chunks on connections of their own: they may arrive in any order, and more than once.
"""

from collections.abc import Mapping
from typing import Final

from remote_runner.errors import RunnerError
from remote_runner.types import StreamName

MAX_AHEAD: Final = 64
"""Chunks of one stream that may wait for an earlier one."""
MAX_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of both streams that may."""


class TooFarAhead(RunnerError):
    """Too much waits for a chunk that has not come."""


class Chunks:
    """Takes chunks in any order and gives their bytes out in order, each once.

    Args:
        following: the next index of each stream, where an earlier server has taken some.
    """

    def __init__(self, following: Mapping[StreamName, int] | None = None) -> None:
        self._next: dict[StreamName, int] = {"stdout": 0, "stderr": 0, **(following or {})}
        self._ahead: dict[StreamName, dict[int, bytes]] = {"stdout": {}, "stderr": {}}
        self._ahead_bytes = 0

    def add(self, stream: StreamName, index: int, data: bytes) -> list[bytes]:
        """What can be given out now: nothing for a repeat, or while an earlier chunk is missing.

        Raises:
            TooFarAhead: it cannot be kept until its turn; nothing has changed.
        """
        ahead = self._ahead[stream]
        if index < self._next[stream] or index in ahead:
            return []
        if index > self._next[stream]:
            if len(ahead) >= MAX_AHEAD or self._ahead_bytes + len(data) > MAX_AHEAD_BYTES:
                raise TooFarAhead(
                    f"chunk {index} of {stream} is too far ahead: send chunk"
                    f" {self._next[stream]} first"
                )
            ahead[index] = data
            self._ahead_bytes += len(data)
            return []
        self._next[stream] += 1
        return [data, *self._run_on(stream)]

    def is_ahead(self, stream: StreamName, index: int) -> bool:
        """Whether this chunk waits for an earlier one."""
        return index in self._ahead[stream]

    def skip(self, stream: StreamName) -> list[bytes]:
        """Give up what is missing before the first chunk that waits: what can be given out now."""
        if not self._ahead[stream]:
            return []
        self._next[stream] = min(self._ahead[stream])
        return self._run_on(stream)

    def _run_on(self, stream: StreamName) -> list[bytes]:
        found = []
        while (data := self._ahead[stream].pop(self._next[stream], None)) is not None:
            self._ahead_bytes -= len(data)
            self._next[stream] += 1
            found.append(data)
        return found
