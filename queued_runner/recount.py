"""Counts of the jobs in each state that are asked for often: counted again now and then.

It owns how old they may be. To count a million jobs takes a while: it is then done less often, so
that however often somebody asks, little of the time goes into it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from queued_runner.jobs import JobState

FRESH: Final = 5.0
"""Seconds for which counts hold."""
SHARE: Final = 100
"""They hold for so many times as long as it took to count, at least: one percent of the time."""


class Recount:
    """`count` gives the counts of this moment."""

    def __init__(self, count: Callable[[], Awaitable[Mapping[JobState, int]]]) -> None:
        self._count = count
        self._counting = trio.Lock()
        self._counts: dict[JobState, int] = {}
        self._holds_until = -1.0

    async def get(self) -> dict[JobState, int]:
        """How many jobs are in each state, all states named; at most some seconds old."""
        async with self._counting:
            begun = trio.current_time()
            if begun > self._holds_until:
                found = await self._count()
                self._counts = {state: found.get(state, 0) for state in JobState}
                now = trio.current_time()
                self._holds_until = now + max(FRESH, SHARE * (now - begun))
        return self._counts
