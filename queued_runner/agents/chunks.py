"""The chunks of one attempt's output, put in order. Pure: no clock, no store, no connection.

Owns the index that each stream waits for, what came before its turn, within bounds, and what stands
in the place of what never came. An agent sends chunks on connections of their own: they may arrive
in any order, and more than once.
"""

from collections.abc import Mapping
from typing import Final

from remote_runner.errors import RunnerError
from remote_runner.types import StreamName

MAX_AHEAD: Final = 64
"""How far a chunk may be before its turn: so many of one stream wait at most."""
MAX_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of both streams that may."""


class TooEarly(RunnerError):
    """Its turn has not come, because a chunk before it has not: to be sent again."""


class TooLate(RunnerError):
    """It was given up before it came: a line that says so stands in its place."""

    def __init__(self, stream: StreamName, index: int) -> None:
        super().__init__(
            f"chunk {index} of {stream} comes too late: what came after it was kept without it, and"
            " the output says so"
        )


def given_up_line(stream: StreamName, index: int) -> bytes:
    """What stands in the output in the place of a chunk that never came.

    One for each: how many pieces of a stream lie on the disk is the next index after a restart.
    """
    return f"duplex-runner: chunk {index} of {stream} never came from the agent\n".encode()


class Chunks:
    """Takes chunks in any order and gives their bytes out in order, each once.

    Args:
        following: the next index of each stream, where an earlier server has taken some.
    """

    def __init__(self, following: Mapping[StreamName, int] | None = None) -> None:
        self._next: dict[StreamName, int] = {"stdout": 0, "stderr": 0, **(following or {})}
        self._first = dict(self._next)
        self._given_up: dict[StreamName, set[int]] = {"stdout": set(), "stderr": set()}
        self._ahead: dict[StreamName, dict[int, bytes]] = {"stdout": {}, "stderr": {}}
        self._ahead_bytes = 0

    def add(self, stream: StreamName, index: int, data: bytes) -> list[bytes]:
        """What can be given out now: nothing for a repeat, or while an earlier chunk is missing.

        Raises:
            TooEarly: it cannot be kept until its turn; nothing has changed.
        """
        ahead = self._ahead[stream]
        if index < self._next[stream] or index in ahead:
            return []
        if index > self._next[stream]:
            is_far = index - self._next[stream] > MAX_AHEAD
            if is_far or self._ahead_bytes + len(data) > MAX_AHEAD_BYTES:
                raise TooEarly(
                    f"chunk {index} of {stream} is too far ahead: send chunk"
                    f" {self._next[stream]} first, then this one again"
                )
            ahead[index] = data
            self._ahead_bytes += len(data)
            return []
        self._next[stream] += 1
        return [data, *self._run_on(stream)]

    def is_past(self, stream: StreamName, index: int) -> bool:
        """Whether this chunk has been given out, or given up."""
        return index < self._next[stream]

    def was_given_up(self, stream: StreamName, index: int) -> bool | None:
        """Whether this chunk, which is past, was given up; None: an earlier server had its turn."""
        return None if index < self._first[stream] else index in self._given_up[stream]

    def is_ahead(self, stream: StreamName, index: int) -> bool:
        """Whether this chunk waits for an earlier one."""
        return index in self._ahead[stream]

    def missing(self, stream: StreamName) -> int | None:
        """The chunk that others wait for; None: nothing waits."""
        return self._next[stream] if self._ahead[stream] else None

    def give_up(self, stream: StreamName) -> list[bytes]:
        """What can be given out where what is missing before the first chunk that waits is not
        waited for: a line for each, and then what waited for them alone."""
        if not self._ahead[stream]:
            return []
        first = min(self._ahead[stream])
        missing = range(self._next[stream], first)
        self._given_up[stream].update(missing)
        self._next[stream] = first
        return [*(given_up_line(stream, index) for index in missing), *self._run_on(stream)]

    def pass_over(self, stream: StreamName, index: int) -> list[bytes]:
        """The chunks that wait, where nothing is kept any more: whatever is missing, this one and
        those after it do not wait."""
        ahead = self._ahead[stream]
        found = [ahead[number] for number in sorted(ahead)]
        self._next[stream] = max(self._next[stream], index, *(number + 1 for number in ahead))
        self._ahead_bytes -= sum(map(len, found))
        ahead.clear()
        return found

    def _run_on(self, stream: StreamName) -> list[bytes]:
        found = []
        while (data := self._ahead[stream].pop(self._next[stream], None)) is not None:
            self._ahead_bytes -= len(data)
            self._next[stream] += 1
            found.append(data)
        return found
