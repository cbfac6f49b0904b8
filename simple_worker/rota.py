"""Whose turn it is among the servers of one queue, and when. Pure: it dials nobody.

Each server has a backoff of its own. So a worker that has lost one goes to the next at once, and
waits only when it has just been turned away by all of them.
"""

import math
from collections.abc import Callable

from simple_worker.backoff import reconnect_delay


class Rota:
    """The order in which servers are dialled, by their indexes.

    Args:
        count: how many there are.
        rng: at least 0 and below 1; decides the order, and the jitter of each wait. The order is
            drawn, because the workers of a server that died must not all come to the same one.
    """

    def __init__(self, count: int, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = int(rng() * (last + 1))
            self._order[last], self._order[other] = self._order[other], self._order[last]
        self._due = [-math.inf] * count
        self._failures = [0] * count

    def next(self, now: float) -> tuple[int, float]:
        """Whom to dial next, and after how many seconds: of those that are due the one that has
        waited for its turn, else the first one to be due."""
        server = min(self._order, key=lambda server: max(now, self._due[server]))
        return server, max(0.0, self._due[server] - now)

    def on_welcome(self) -> None:
        """One has taken the worker: what failed before counts no more, anywhere."""
        self._failures = [0] * len(self._failures)

    def on_end(
        self,
        server: int,
        now: float,
        *,
        was_welcome: bool,
        retry_after: float | None = None,
        patience: float = math.inf,
    ) -> None:
        """The dial, or the connection, has come to its end; all others come before it now.

        `retry_after`, `patience`: see `reconnect_delay`.
        """
        self._failures[server] += not was_welcome
        delay = reconnect_delay(self._failures[server], self._rng, retry_after, patience)
        self._due[server] = now + delay
        self._order.remove(server)
        self._order.append(server)
