"""What happens, as numbered events in a ring: told once, read by any number of followers.

It owns the numbering and the memory of the last `SIZE` events. It writes nothing to disk and waits
for nobody: followers keep their own place and read when they can, and one that is too slow finds a
gap. An event is told after the commit that makes it true, so nothing here is ever taken back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import trio

from queued_runner.hiding import hide
from queued_runner.jobs import Job, JobState
from queued_runner.store.base import STRANDED, Stranded
from remote_runner.types import WorkerEvent, WorkerInfo

SIZE: Final = 10_000
"""Events that are remembered: a few MiB at most, for they hold names and numbers only."""
MAX_TEXT: Final = 256
"""Characters of a name that is remembered; names of jobs have no more."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a follower stands: it has seen all events up to `number` of the server `boot`."""

    boot: str
    number: int

    def __str__(self) -> str:
        return f"{self.boot}-{self.number}"


def parse_place(text: str) -> Place | None:
    """The place that an id names, or None when it is not one of ours."""
    boot, dash, number = text.partition("-")
    if not (dash and text.isascii() and boot.isalnum() and number.isdigit()):
        return None
    if len(boot) > 32 or len(number) > 15:
        return None
    return Place(boot, int(number))


_NEW: Final = ("name",)
_RUN: Final = ("name", "attempt", "worker")
_END: Final = ("name", "attempt", "worker", "state", "reason", "exit_code", "signal")
_WORKER: Final = ("worker", "worker_id", "slots")

Fact = str | int | None


class Event(NamedTuple):
    """Something that is so since `at` (UNIX seconds). `job` and `group` are of the job it is about.

    `group` is to choose by. What is shown of it is the same, unless the facts have one of their
    own: that of a job with secrets, without them.

    What else is known are `facts`; they are kept as a plain tuple, which costs the least to make,
    and which the garbage collector does not have to look at again.
    """

    number: int
    at: float
    kind: str
    job: int | None
    group: str | None
    names: tuple[str, ...]
    values: tuple[Fact, ...]

    @property
    def facts(self) -> dict[str, Fact]:
        """What else is known, ready to be shown."""
        return dict(zip(self.names, self.values, strict=True))


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that are no longer there; `missed` is how many, None where nobody knows."""

    missed: int | None


class Events:
    """The events of one server's life.

    Args:
        boot: what no other life of a server has; stands in every id.
        now: wall clock, UNIX seconds.
        size: how many are remembered.
        server: the name of that server.
    """

    def __init__(
        self, boot: str, now: Callable[[], float], size: int = SIZE, server: str = ""
    ) -> None:
        self.boot = boot
        self.server = server
        self._now = now
        self._size = size
        self._ring: list[tuple[Any, ...]] = []
        self._shown: list[bytes | None] = []
        """What followers are sent of each event, once one has asked."""
        self.last = 0
        """The number of the newest event."""
        self._more = trio.lowlevel.ParkingLot()
        self._waiting = 0

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is there; one more than the last if there is none."""
        return self.last - len(self._ring) + 1

    def tell(
        self,
        kind: str,
        job: int | None,
        group: str | None,
        names: tuple[str, ...],
        values: tuple[Fact, ...],
        mask: tuple[str, ...] = (),
    ) -> None:
        """Something has happened; see `Event`. `mask` are the secrets of its job, whose name, if
        it has one, is the first of `values`."""
        if mask and (group is not None or values[0] is not None):
            names = *names, "group"
            values = hide(values[0], mask), *values[1:], hide(group, mask)
        self.last = number = self.last + 1
        event = (number, self._now(), kind, job, group, names, values)
        if number <= self._size:
            self._ring.append(event)
            self._shown.append(None)
        else:
            place = (number - 1) % self._size
            self._ring[place] = event
            self._shown[place] = None
        if self._waiting:
            self._more.unpark_all()

    def tell_new(
        self, job_id: int, name: str | None, group: str | None, mask: tuple[str, ...] = ()
    ) -> None:
        """A job was added."""
        self.tell("job.new", job_id, group, _NEW, (name,), mask)

    def tell_run(self, kind: str, job: Job, worker: str | None) -> None:
        """An attempt of a job has begun, or its worker has gone or come back."""
        spec = job.spec
        values = (spec.name, job.attempt, _short(worker))
        self.tell(kind, job.id, spec.group, _RUN, values, spec.mask)

    def tell_end(self, job: Job) -> None:
        """An attempt has ended, or a queued job was cancelled: the job as it is after that."""
        spec, state = job.spec, job.state
        if state is JobState.QUEUED:
            kind = "job.retry"
        else:
            kind = "job.cancelled" if state is JobState.CANCELLED else "job.done"
        values = (
            spec.name, job.attempt, _short(job.worker), state.value, job.reason, job.exit_code,
            _short(job.signal),
        )  # fmt: skip
        self.tell(kind, job.id, spec.group, _END, values, spec.mask)

    def tell_stranded(self, job: Stranded) -> None:
        """A job has failed without a start, because of one that it came after."""
        state = JobState.FAILED.value
        values = (job.name, job.attempt, None, state, STRANDED, None, None)
        self.tell("job.done", job.id, job.group, _END, values, job.mask)

    def tell_worker(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        """Something about a worker."""
        values = (_short(worker.name), worker.id, worker.slots)
        self.tell(f"worker.{event.value}", None, None, _WORKER, values)

    def begin(self, place: Place | None) -> tuple[Place, Gap | None]:
        """Where a follower begins who has seen everything up to `place`, and what it has missed.

        None has seen nothing and misses nothing: it begins with the oldest event there is.
        """
        if place is None:
            return Place(self.boot, self.oldest - 1), None
        if place.boot != self.boot or place.number > self.last:
            return Place(self.boot, self.oldest - 1), Gap(None)
        return self._caught_up(place)

    def _caught_up(self, place: Place) -> tuple[Place, Gap | None]:
        missed = self.oldest - 1 - place.number
        if missed <= 0:
            return place, None
        return Place(self.boot, self.oldest - 1), Gap(missed)

    def read(self, place: Place, limit: int) -> tuple[Place, Gap | None, list[Event]]:
        """The next events after a place of this life, how many went by unseen before them, and the
        place after them."""
        place, gap = self._caught_up(place)
        last = min(self.last, place.number + limit)
        events = [
            Event(*self._ring[(number - 1) % self._size])
            for number in range(place.number + 1, last + 1)
        ]
        return Place(self.boot, last), gap, events

    def shown(self, event: Event, show: Callable[[Event], bytes]) -> bytes:
        """An event as `show` shows it: asked once, however many follow. All show it alike."""
        place = (event.number - 1) % self._size
        is_there = event.number >= self.oldest
        known = self._shown[place] if is_there else None
        if known is None:
            known = show(event)
            if is_there:
                self._shown[place] = known
        return known

    async def wait_after(self, place: Place) -> None:
        """Return once something has happened after this place of this life."""
        self._waiting += 1
        try:
            while self.last <= place.number:
                await self._more.park()
        finally:
            self._waiting -= 1


def _short(text: str | None) -> str | None:
    """What a worker chose, which may be long, as far as it is remembered here."""
    return text if text is None else text[:MAX_TEXT]
