"""How long to go on trying, and at which pace. It reads the clock, and waits for nothing itself."""

import time
from collections.abc import Callable
from typing import Final

FIRST_PAUSE: Final = 0.15
LONGEST_PAUSE: Final = 2.0


class Patience:
    """Pauses that grow, for `seconds` from the first one on; `reset` after each success."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self.reset()

    def reset(self) -> None:
        """All is well again."""
        self._until: float | None = None
        self._pause = FIRST_PAUSE

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has gone wrong since the last success."""
        return self._until is None

    def next_pause(self) -> float | None:
        """Seconds to wait before the next try; None when it is time to give up."""
        now = self._now()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return None
        pause = min(self._pause, self._until - now)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        return pause
