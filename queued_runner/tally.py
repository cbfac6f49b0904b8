"""What is counted as it happens, since this server began. Plain numbers, read when somebody asks.

It owns what is counted and in which steps a time is; who counts is who knows. Pure. How it is shown
is `http/metrics.py`'s.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from queued_runner.jobs import JobState

DISPATCH_STEPS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
    300.0,
)
"""Seconds between the moment a job may start and its start."""


class Times:
    """How often something took how long: for each step the times up to it and above the last."""

    __slots__ = ("counts", "steps", "sum")

    def __init__(self, steps: tuple[float, ...]) -> None:
        self.steps = steps
        self.counts = [0] * (len(steps) + 1)
        """The last one counts what is above all steps."""
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.steps, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Tally:
    """What the dispatcher and the queue count."""

    added: int = 0
    """Jobs; a repeat of one that is known adds none."""
    ended: Counter[JobState] = field(default_factory=Counter)
    """Jobs that reached a final state."""
    retried: int = 0
    """Attempts that failed or were lost, after which their job was queued again."""
    dispatch: Times = field(default_factory=lambda: Times(DISPATCH_STEPS))
    output_bytes: int = 0
    """Bytes of both streams that came from workers, those above a limit included."""
    stale: int = 0
    """What workers said of attempts that are not theirs any more, and outcomes without effect."""
    handovers: int = 0
    """Attempts that another server had, or an earlier life of this one, and that go on here."""
    protocol_errors: int = 0
    """Connections of workers that were ended for what came on them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A look at everything that can be counted. `jobs` may be some seconds old."""

    tally: Tally
    jobs: Mapping[JobState, int]
    running: int
    """Attempts that are live, those whose worker is away included."""
    unacknowledged: int
    """Bytes of output that came and are not on disk."""
    commits: int
    operations: int
    """What these commits were made of."""
    log_bytes: int
    """Bytes written into files of output."""
    workers: dict[str, int]
    """How many are in each state."""
    slots: int
    free: int
    server: str
    """The name of this server, and `server_id` the id of this life of it."""
    server_id: str
    is_shared: bool
    servers: int
    """How many servers of the queue were alive when this one last looked."""
    is_up: bool
    """Whether the database could be reached at the last try."""
