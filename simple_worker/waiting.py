"""The spawns that have not begun: each waits for its input, for a slot, or for both.

Owns their order, what has come of their input, and how long ago the runner last spoke of each;
starts nothing and says nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import trio

from remote_runner.protocol.messages import Spawn

MAX_STDIN: Final = 8 * 1024 * 1024
"""Bytes of the input of one."""


class Due(NamedTuple):
    """One that has its input.

    `age`: seconds since something of the runner about it was read. `late`: those that it may have
    waited before that.
    """

    spawn: Spawn
    stdin: bytes | None
    age: float
    late: float


@dataclass(slots=True)
class _Waiting:
    spawn: Spawn
    stdin: bytearray | None
    is_whole: bool
    late: float
    heard: tuple[float, float]
    """When something about it was last read, on trio's clock and on the wall's."""


class WaitingSpawns:
    """They have the slots in the order in which they came.

    Args:
        room: bytes of input of all of them.
        now: wall clock, UNIX seconds. Unlike trio's it goes on while the machine sleeps, and unlike
            that it may be set: the longer time counts.
        lateness: seconds that what is told here now may have waited before.
    """

    def __init__(self, room: int, now: Callable[[], float], lateness: Callable[[], float]) -> None:
        self._room = room
        self._now = now
        self._lateness = lateness
        self._spawns: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._spawns)

    def __contains__(self, attempt_id: str) -> bool:
        return attempt_id in self._spawns

    def __iter__(self) -> Iterator[str]:
        """The ids of those that wait now; who takes some of them out may go on."""
        return iter(tuple(self._spawns))

    def add(self, attempt_id: str, spawn: Spawn) -> None:
        """It waits from now on."""
        has_input = spawn.options.stdin == "pipe"
        stdin = bytearray() if has_input else None
        self._spawns[attempt_id] = _Waiting(
            spawn, stdin, not has_input, self._lateness(), self._times()
        )

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
        self._hear(waiting)
        return None

    def complete(self, attempt_id: str) -> None:
        """There is no more input."""
        if waiting := self._spawns.get(attempt_id):
            waiting.is_whole = True
            self._hear(waiting)

    def remove(self, attempt_id: str) -> bool:
        """It does not wait any more; False: it did not."""
        return self._spawns.pop(attempt_id, None) is not None

    def clear(self) -> None:
        """None does."""
        self._spawns.clear()

    def take(self, slots: int) -> Due | None:
        """The first that has its input, which waits no more; None: none has.

        Only of the first so many: one whose input is still on its way keeps its slot. The runner
        may not know it as one that waits for another's, and would not ask for it.
        """
        for attempt_id, waiting in islice(self._spawns.items(), slots):
            if waiting.is_whole:
                del self._spawns[attempt_id]
                stdin = None if waiting.stdin is None else bytes(waiting.stdin)
                here, on_the_wall = self._times()
                age = max(0.0, here - waiting.heard[0], on_the_wall - waiting.heard[1])
                return Due(waiting.spawn, stdin, age, waiting.late)
        return None

    def _hear(self, waiting: _Waiting) -> None:
        waiting.late = max(waiting.late, self._lateness())
        waiting.heard = self._times()

    def _times(self) -> tuple[float, float]:
        return trio.current_time(), self._now()
