"""The spawns that have not begun: each waits for its input, for a slot, or for both.

Owns their order and what has come of their input; starts nothing and says nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from remote_runner.protocol.messages import Spawn

MAX_STDIN: Final = 8 * 1024 * 1024
"""Bytes of the input of one."""


@dataclass(slots=True)
class WaitingSpawn:
    """One of them, and what has come of its input.

    `asked`: when the runner was asked whether it still wants it, on trio's clock.
    """

    id: str
    spawn: Spawn
    stdin: bytearray | None
    is_whole: bool
    asked: float | None = None


class WaitingSpawns:
    """They have the slots in the order in which they came.

    Args:
        room: bytes of input of all of them.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._spawns: dict[str, WaitingSpawn] = {}

    def __len__(self) -> int:
        return len(self._spawns)

    def __contains__(self, attempt_id: str) -> bool:
        return attempt_id in self._spawns

    def __iter__(self) -> Iterator[WaitingSpawn]:
        """Those that wait now, in their order; who takes some of them out may go on."""
        return iter(tuple(self._spawns.values()))

    def add(self, attempt_id: str, spawn: Spawn) -> None:
        """It waits from now on."""
        has_input = spawn.options.stdin == "pipe"
        stdin = bytearray() if has_input else None
        self._spawns[attempt_id] = WaitingSpawn(attempt_id, spawn, stdin, not has_input)

    def feed(self, attempt_id: str, data: bytes) -> str | None:
        """More of an input has come, of what no longer waits too. Why it is too much, if it is."""
        waiting = self._spawns.get(attempt_id)
        if waiting is None or waiting.stdin is None or waiting.is_whole:
            return None
        if len(waiting.stdin) + len(data) > MAX_STDIN:
            return f"stdin is larger than {MAX_STDIN} bytes"
        if len(data) + sum(len(each.stdin or b"") for each in self._spawns.values()) > self._room:
            return f"the jobs that wait here have {self._room} bytes of stdin already"
        waiting.stdin += data
        return None

    def complete(self, attempt_id: str) -> None:
        """There is no more input."""
        if waiting := self._spawns.get(attempt_id):
            waiting.is_whole = True

    def remove(self, attempt_id: str) -> bool:
        """It does not wait any more; False: it did not."""
        return self._spawns.pop(attempt_id, None) is not None

    def clear(self) -> None:
        """None does."""
        self._spawns.clear()
