"""How many workers are let in at once: a bucket of tokens, and turns for those it turns away. Pure.

After a restart of the server, or of a switch, every worker dials at the same moment. Each handshake
costs the event loop about a millisecond, and the store a look: without a bound all that people ask
meanwhile would wait behind them.
"""

from math import inf
from typing import Final

RATE: Final = 250.0
"""Handshakes a second: at most a quarter of one core, and 10,000 workers are back in 40 s, long
before they stop their jobs (0.9 x `detach`, 108 s)."""
BURST: Final = 128
"""Handshakes at once, which is how long everything else waits: a machine with 64 workers, twice."""
PATIENCE: Final = 30.0
"""Seconds that anyone is told to wait, at most: as long as a worker waits by itself."""


class Door:
    """Lets workers in, `BURST` at once and `RATE` a second."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._refilled = -inf
        self._next_turn = -inf

    def knock(self, now: float) -> float | None:
        """None: come in. Else the seconds after which to come again: each has a turn of its own.

        `now` is on any clock that only goes forward.
        """
        self._tokens = min(float(BURST), self._tokens + (now - self._refilled) * RATE)
        self._refilled = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return None
        self._next_turn = max(self._next_turn, now) + 1.0 / RATE
        if self._next_turn > now + PATIENCE:
            self._next_turn = now + 1.0 / RATE  # begin again: PATIENCE is full of turns
        return self._next_turn - now
