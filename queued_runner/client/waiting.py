"""Waiting for the ends of very many jobs, in few requests.

It owns which jobs are looked at, and when. A thousand jobs are one request; where none of them has
begun, those behind them are left for later, for jobs mostly run in the order of their ids.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from queued_runner.client.api import PAGE, Client, Json, is_terminal
from queued_runner.client.errors import Refused

ONE_BY_ONE: Final = 10
"""So few jobs of a page are looked at by themselves: a page costs the server more."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 5.0
LONGEST_ALONE: Final = 20.0
"""Seconds between two looks, at most; at a single job, whose end is told at once. It grows while
nothing ends."""


class Waiting:
    """Jobs that are waited for. `group`: all of them belong to it, whoever lies between."""

    def __init__(
        self, client: Client, job_ids: Collection[int], *, group: str | None = None
    ) -> None:
        self._client = client
        self._pending = sorted(set(job_ids))
        self._running: set[int] = set()
        self._group = group
        self._pause = 0.0
        self._turn = 0

    @property
    def left(self) -> int:
        """How many have not ended."""
        return len(self._pending)

    @property
    def running(self) -> int:
        """How many were running when they were looked at."""
        return len(self._running)

    def rounds(self) -> Iterator[list[Json]]:
        """The jobs that have ended since the last round, until all have; some rounds are empty.

        A server that restarts meanwhile is waited for.

        Raises:
            Unreachable: it stayed away for longer than the client waits.
            Refused: there is no such job.
        """
        if self._pending:
            self._client.job(self._pending[-1])  # an id that nobody has yet is found at once
        while self._pending:
            ended = self._look()
            self._pause = FIRST_PAUSE if ended else max(FIRST_PAUSE, 1.5 * self._pause)
            yield ended
            if len(self._pending) > 1:
                # The youngest of those that come next: often all before it have then ended too.
                youngest = self._pending[self._end_of_page(0) - 1]
                self._client.job(youngest, wait=min(self._pause, LONGEST_PAUSE))

    def _look(self) -> list[Json]:
        pages = list(self._pages())
        ended: dict[int, Json] = {}
        for index, page in enumerate(pages):
            jobs = self._look_at(page, ended)
            if len(page) > ONE_BY_ONE and all(job["state"] == "queued" for job in jobs):
                behind = pages[index + 1 :]
                if behind:  # one of them, in turn: some may have been quicker
                    self._turn += 1
                    self._look_at(behind[self._turn % len(behind)], ended)
                break
        self._running.difference_update(ended)
        self._pending = [job_id for job_id in self._pending if job_id not in ended]
        return list(ended.values())

    def _pages(self) -> Iterator[Sequence[int]]:
        begin = 0
        while begin < len(self._pending):
            end = self._end_of_page(begin)
            yield self._pending[begin:end]
            begin = end

    def _end_of_page(self, begin: int) -> int:
        if self._group is not None:
            return min(begin + PAGE, len(self._pending))
        return bisect_left(self._pending, self._pending[begin] + PAGE, begin)

    def _look_at(self, page: Sequence[int], ended: dict[int, Json]) -> list[Json]:
        """These jobs as they are now; those that have ended go to `ended`."""
        jobs = self._jobs(page)
        for job in jobs:
            if is_terminal(job):
                ended[job["id"]] = job
            elif job["state"] == "running":
                self._running.add(job["id"])
            else:
                self._running.discard(job["id"])
        return jobs

    def _jobs(self, page: Sequence[int]) -> list[Json]:
        if len(self._pending) == 1:
            return [self._client.job(page[0], wait=min(self._pause, LONGEST_ALONE))]
        if len(page) <= ONE_BY_ONE:
            return [self._client.job(job_id) for job_id in page]
        wanted = set(page)
        jobs = []
        limit = None if self._group is not None else page[-1] - page[0] + 1
        for job in self._client.jobs(group=self._group, before=page[-1] + 1, limit=limit):
            if job["id"] in wanted:
                jobs.append(job)
                wanted.remove(job["id"])
            if not wanted:
                break
        if wanted:
            raise Refused(404, f"There is no job {min(wanted)}; 'queued-runner ps' lists them.")
        return jobs
