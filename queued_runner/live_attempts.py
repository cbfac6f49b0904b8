"""The attempts that are live in this server: which there are, and who has waited for too long.

Owns the registry alone; what becomes of them is the dispatcher's.
"""

import math
from collections.abc import Callable, Collection, Iterator

import trio

from queued_runner.jobs import attempt_id
from queued_runner.live_attempt import LiveAttempt
from queued_runner.logs import AttemptLog
from queued_runner.store.base import AttemptKey


class LiveAttempts:
    """All of them, by their ids and by their jobs."""

    def __init__(self) -> None:
        self._by_id: dict[str, LiveAttempt] = {}
        self._by_job: dict[int, LiveAttempt] = {}
        self._deadlines = trio.lowlevel.ParkingLot()

    def __iter__(self) -> Iterator[LiveAttempt]:
        """Those that are live now; who ends some of them may go on."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, attempt: LiveAttempt) -> None:
        """It is live from now on; of its job, the newest."""
        self._by_id[attempt.id] = self._by_job[attempt.job.id] = attempt

    def remove(self, attempt: LiveAttempt) -> None:
        """It is not any more. Another one may have its place by now, which keeps it."""
        if self._by_id.get(attempt.id) is attempt:
            del self._by_id[attempt.id]
        if self._by_job.get(attempt.job.id) is attempt:
            del self._by_job[attempt.job.id]

    def named(self, id: str) -> LiveAttempt | None:
        """The one with this id, as runners know it."""
        return self._by_id.get(id)

    def get(self, job_id: int, number: int) -> LiveAttempt | None:
        """This attempt of a job."""
        return self._by_id.get(attempt_id(job_id, number))

    def of_job(self, job_id: int) -> LiveAttempt | None:
        """The newest one of a job."""
        return self._by_job.get(job_id)

    def held_of(self, worker_id: str) -> list[AttemptKey]:
        """Those of a worker, but for what is ending."""
        return [
            _key(attempt)
            for attempt in self._by_id.values()
            if attempt.job.worker_id == worker_id and not attempt.is_ending
        ]

    def away_from(self, worker_ids: Collection[str]) -> list[AttemptKey]:
        """Those of all other workers."""
        return [
            _key(attempt)
            for attempt in self._by_id.values()
            if attempt.job.worker_id not in worker_ids
        ]

    def keys(self) -> list[AttemptKey]:
        """Of all."""
        return [_key(attempt) for attempt in self._by_id.values()]

    @property
    def logs(self) -> list[AttemptLog]:
        """The logs of all."""
        return [attempt.log for attempt in self._by_id.values()]

    def wait_for_worker(self, attempt: LiveAttempt) -> None:
        """Its worker has its `detach` from now on to come with it."""
        attempt.deadline = trio.current_time() + attempt.limits.detach
        self._deadlines.unpark_all()

    async def expire(self, lose: Callable[[LiveAttempt], None]) -> None:
        """Give those to `lose` whose worker has not come in time, for ever."""
        while True:
            due = [each.deadline for each in self._by_id.values() if each.deadline is not None]
            with trio.move_on_at(min(due, default=math.inf)):
                await self._deadlines.park()
            now = trio.current_time()
            for attempt in self:
                if attempt.deadline is not None and attempt.deadline <= now:
                    lose(attempt)


def _key(attempt: LiveAttempt) -> AttemptKey:
    return attempt.job.id, attempt.job.attempt
