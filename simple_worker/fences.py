"""Until when each job may run on without contact to the runner: what worker and reaper agree on.

Pure but for `clock`. Owns the one rule by which the reaper ends a job and the worker knows that it
may have done so. Each keeps its own copy, and all times are seconds on `clock`. The standard
library alone, because the reaper uses it.
"""

import math
import time
from typing import Final

REAPED: Final = 0.95
"""Share of `detach` after which the reaper ends a job whose worker has not: above the worker's own
share, and below the runner's, which is 1."""
BEAT: Final = 0.05
"""Share of it after which the reaper is told of the last contact again."""


def clock() -> float:
    """The clock of fences: it is the same in every process, nobody sets it, and it goes on while
    the machine sleeps, as the runner's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fences:
    """The fences of jobs by name: seconds that each may run on after the last contact."""

    def __init__(self) -> None:
        self.contact = math.inf
        """When the runner was last heard of; infinity: nobody has said anything of one."""
        self._fences: dict[str, float] = {}
        self._least = math.inf

    @property
    def due(self) -> float:
        """No fence passes before this moment."""
        return self.contact + self._least

    def add(self, name: str, fence: float) -> None:
        """A job begins."""
        self._fences[name] = fence
        self._least = min(self._least, fence)

    def remove(self, name: str) -> None:
        """It has ended; one that has no fence is fine."""
        self._fences.pop(name, None)
        if not self._fences:
            self._least = math.inf

    def has(self, name: str) -> bool:
        """Whether a job has a fence."""
        return name in self._fences

    def extend(self, contact: float) -> None:
        """The runner was heard of at this moment."""
        self.contact = contact if self.contact == math.inf else max(self.contact, contact)

    def has_passed(self, name: str, now: float) -> bool:
        """Whether a job must not run any more."""
        return now >= self.contact + self._fences.get(name, math.inf)

    def passed(self, now: float) -> list[str]:
        """The jobs that must not run any more."""
        if now < self.due:
            return []
        self._least = min(self._fences.values(), default=math.inf)
        return [name for name in self._fences if self.has_passed(name, now)]
