"""How fast something goes on, and when it will be done. Pure: each step brings its time along.

It owns how far it looks back: what was quick an hour ago says little of the next minute.
"""

from collections import deque
from typing import Final

MEMORY: Final = 60.0
"""Seconds that count."""


class Pace:
    """The pace since a point in time, `now`, at which `done` was done already."""

    def __init__(self, now: float, done: int) -> None:
        self._points = deque([(now, done)])

    def add(self, now: float, done: int) -> None:
        """That so much is done now."""
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] <= now - MEMORY:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """So many a second, lately; 0 while that is not known."""
        (since, before), (now, done) = self._points[0], self._points[-1]
        return (done - before) / (now - since) if now > since else 0.0

    def seconds_for(self, left: int) -> float | None:
        """How long the rest takes at this pace; None while nothing says it."""
        return left / self.rate if self.rate > 0 else None
