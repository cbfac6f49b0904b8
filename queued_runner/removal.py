"""Deleting jobs that have ended: because somebody asks, or because they are old.

It owns the order: first the rows, in small commits, then the files. What a crash leaves in between
is known to the store and cleared away by the next server. It decides about no job that has not
ended.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
import trio

from queued_runner.jobs import JobState
from queued_runner.store.base import (
    Deposed,
    Expired,
    NoRoom,
    NotEnded,
    OutputAway,
    Reader,
    StillNamed,
    Store,
    StoreAway,
)
from queued_runner.store.commit import GroupCommit

log = structlog.get_logger("queued_runner")

LOOK: Final = 1000
"""Jobs that one look takes in."""
BATCH: Final = 100
"""Jobs that one commit deletes: bounds its time."""
PERIOD: Final = 3600.0
"""Seconds between two passes."""

Read = Callable[[Callable[[Reader], Any]], Awaitable[Any]]


class Files(Protocol):
    """Who keeps files of jobs."""

    async def remove(self, job_ids: Sequence[int]) -> None:
        """Delete what there is of these jobs.

        Raises:
            OSError, OutputAway: some of it is left.
        """
        ...


class Removal:
    """Deletes jobs.

    Args:
        commits: the one writer of the store.
        read: runs a query on a reading store.
        files: all that keeps files of jobs.
        now: wall clock, UNIX seconds.
    """

    def __init__(
        self, commits: GroupCommit, read: Read, files: Sequence[Files], *, now: Callable[[], float]
    ) -> None:
        self._commits = commits
        self._read = read
        self._files = files
        self._now = now

    async def delete(self, job_id: int) -> None:
        """Delete one job. Raises JobNotFound, NotEnded, StillNamed, NoRoom."""

        def delete(store: Store) -> list[int]:
            job = store.get(job_id)
            if not job.state.is_terminal:
                raise NotEnded(job_id, job.state)
            dependant = None if job.state is JobState.SUCCEEDED else store.dependant_of(job_id)
            if dependant is not None:
                raise StillNamed(job_id, dependant)
            return store.delete([job_id])

        gone: list[int] = []
        while not gone:  # while those that waited for it are being told: in every commit some
            gone = await self._commits.call(delete)
        await self._remove_files(gone)

    async def prune(
        self, older_than: Mapping[JobState, float], *, deadline: float = float("inf")
    ) -> int:
        """Delete jobs that ended more than so many seconds ago, by state, and say how many.

        States that are not named are kept. At `deadline`, by trio's clock, it leaves the rest.
        Raises NoRoom.
        """
        now = self._now()
        ended_before = {state: now - seconds for state, seconds in older_than.items()}
        count = 0
        looked_to: int | None = 0
        while looked_to is not None and trio.current_time() < deadline:
            found = await self._find(ended_before, looked_to)
            looked_to = found.looked_to
            # From the end: those that came after others are newer, and go first.
            for start in reversed(range(0, len(found.ids), BATCH)):
                first = found.ids[start]

                def delete(store: Store, above: int = first - 1) -> list[int]:
                    # Looked at once more: somebody may have revived one of them.
                    return store.delete(store.expired(ended_before, above, LOOK).ids[:BATCH])

                gone = await self._commits.call(delete)
                if gone:  # not all of them may go before those that came after them
                    await self._remove_files(gone)
                count += len(gone)
        return count

    async def _find(self, ended_before: Mapping[JobState, float], looked_to: int) -> Expired:
        found: Expired = await self._read(
            lambda store: store.expired(ended_before, looked_to, LOOK)
        )
        return found

    async def _remove_files(self, job_ids: Sequence[int]) -> bool:
        """Whether all of them are gone; what is left is tried again in the next pass."""
        try:
            for files in self._files:
                await files.remove(job_ids)
        except (OSError, OutputAway) as error:
            log.warning("files of deleted jobs could not be removed", why=str(error))
            return False
        await self._commits.call(lambda store: store.forget_deleted(job_ids))
        return True

    async def _sweep(self) -> None:
        """Remove the files of jobs whose rows are gone already."""
        while True:
            left: list[int] = await self._read(lambda store: store.deleted(BATCH))
            if not left or not await self._remove_files(left):
                return

    async def run(self, older_than: Mapping[JobState, float]) -> None:
        """Keep tidy for ever: what an earlier server left, and jobs that ended long ago."""
        while True:
            try:
                await self._sweep()
                count = await self.prune(older_than) if older_than else 0
            except (NoRoom, StoreAway, Deposed) as error:
                log.warning("old jobs could not be deleted", why=str(error))
            else:
                if count:
                    log.info("deleted old jobs", count=count)
            await trio.sleep(PERIOD)
