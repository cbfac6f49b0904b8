"""A log line for what strangers can cause as often as they like: said now and then, and counted."""

from math import inf
from typing import Any, Final

import structlog
import trio

EVERY: Final = 10.0
"""Seconds between two lines of one kind."""


class SparingLog:
    """A warning that is said at most every `EVERY` seconds.

    What came in between is counted, and told as `unsaid` with the next one that is said.
    """

    def __init__(self, logger: str, event: str) -> None:
        self._log = structlog.get_logger(logger)
        self._event = event
        self._next = -inf
        self._unsaid = 0

    def warning(self, **facts: Any) -> None:
        """It happened again. Needs the clock of a running event loop."""
        now = trio.current_time()
        if now < self._next:
            self._unsaid += 1
            return
        if self._unsaid:
            facts["unsaid"] = self._unsaid
        self._log.warning(self._event, **facts)
        self._next = now + EVERY
        self._unsaid = 0
