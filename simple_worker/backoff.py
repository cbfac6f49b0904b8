"""When to dial again: full jitter below a doubling ceiling. Pure."""

import math
from collections.abc import Callable
from typing import Final

FIRST: Final = 0.5
CEILING: Final = 30.0
TRIES: Final = 4
"""Tries at least, before what a worker holds is given up: one may meet a server that starts."""
SHORTEST: Final = 0.1


def reconnect_delay(
    failures: int,
    rng: Callable[[], float],
    retry_after: float | None = None,
    patience: float = math.inf,
) -> float:
    """Seconds before the next try, after `failures` in a row; the server's word comes first.

    `patience`: seconds that are left until something is lost for want of a connection.

    Full jitter, because workers that lost one server must not come back in step
    (AWS, "Exponential backoff and jitter").
    """
    if retry_after is not None:
        jitter = rng()
        return max(retry_after * (1 + jitter / 4), jitter * FIRST)  # also where it says 0
    in_time = max(SHORTEST, patience / TRIES)
    return rng() * min(CEILING, FIRST * 2.0 ** min(failures, 16), in_time)
