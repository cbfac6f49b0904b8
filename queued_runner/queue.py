"""What the HTTP side asks of the queue: one Protocol and the errors it may raise.

It owns the names, nothing else: no store, no clock, no I/O. `QueuedRunner` is the real one, tests
bring a small one of their own.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.events import Events
from queued_runner.explain import Explanation
from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.log_files import Record
from queued_runner.overview import ServerInfo
from queued_runner.store.base import (
    BadDependency,
    Deposed,
    JobNotFound,
    KeyConflict,
    NoRoom,
    NotEnded,
    ResultGone,
    ResultNotFound,
    StillNamed,
    StoreAway,
)
from queued_runner.tally import Figures
from remote_runner.results import Head
from remote_runner.types import WorkerInfo

__all__ = [
    "BadDependency",
    "Deposed",
    "Head",
    "JobNotFound",
    "KeyConflict",
    "NoRoom",
    "NotEnded",
    "Queue",
    "Record",
    "ResultGone",
    "ResultNotFound",
    "ServerInfo",
    "StillNamed",
    "StoreAway",
    "WorkerLeaves",
    "WorkerNotFound",
]


class Queue(Protocol):
    """A durable queue of jobs, as its users see it."""

    @property
    def is_accepting(self) -> bool:
        """Whether it takes jobs now."""
        ...

    async def check_room(self) -> None:
        """Raises NoRoom while the disk has none for new jobs, StoreAway while the queue cannot be
        reached; anything else may raise that too."""
        ...

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[int]:
        """Store jobs in one commit and give their ids, in order.

        Raises:
            KeyConflict: a key is taken by a job with another body.
            BadDependency: a job cannot come after what it names; nothing was stored.
            NoRoom: the disk is full; nothing was stored.
        """
        ...

    async def get(self, job_id: int) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: there is none with this id.
        """
        ...

    async def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        """Jobs with ids below `before`, the newest first."""
        ...

    async def attempts(self, job_id: int) -> list[Attempt]:
        """All attempts of a job, the first one first."""
        ...

    async def cancel(
        self, job_id: int, *, signal: str | None = None, grace: float | None = None
    ) -> Job:
        """Ask for the end of a job; a job that has ended is given back as it is."""
        ...

    def records(
        self, job_id: int, *, attempt: int | None = None, offset: int = 0, follow: bool = True
    ) -> AsyncIterator[Record]:
        """The output of one attempt (default: the newest) from a byte offset on.

        With `follow` it stays until that attempt has ended, and first waits for the attempt to
        begin when it has not; it ends without a record when the job ends instead. Raises
        JobNotFound, also when the job is deleted meanwhile.
        """
        ...

    async def results(self, job_id: int, *, attempt: int | None = None) -> Head:
        """The files that an attempt (default: the newest) left; empty while it has not ended."""
        ...

    async def read_result(
        self, job_id: int, name: str, *, attempt: int | None = None
    ) -> tuple[int, AsyncIterator[bytes]]:
        """The size of one of them, and its bytes in pieces.

        Raises:
            ResultNotFound: the attempt left no file of this name.
            ResultGone: the disk does not have it any more; also as the pieces are taken.
        """
        ...

    async def wait(self, job_id: int) -> Job:
        """Return the job once it has ended for good."""
        ...

    async def all_workers(self) -> Sequence[WorkerInfo]:
        """Those that are connected to any server, and those that are drained and away."""
        ...

    async def servers(self) -> Sequence[ServerInfo]:
        """All servers of the queue."""
        ...

    async def servers_of(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        """For each job the name of the server that has its running attempt."""
        ...

    async def drain_worker(self, worker_id: str) -> WorkerInfo:
        """Start nothing more at a worker.

        Raises:
            WorkerNotFound: it is connected to no server.
        """
        ...

    async def resume_worker(self, worker_id: str) -> WorkerInfo:
        """Take back a drain.

        Raises:
            WorkerNotFound: it is neither connected nor drained.
            WorkerLeaves: it drains by itself.
        """
        ...

    @property
    def events(self) -> Events:
        """What happens, as it does."""
        ...

    async def figures(self) -> Figures:
        """Everything that is counted."""
        ...

    async def pending_reasons(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        """For each job why it does not run yet, as a sentence; None if it is not queued."""
        ...

    async def explain(self, job_id: int) -> Explanation:
        """Why a job stands where it stands. Raises JobNotFound."""
        ...

    async def counts(self, group: str | None = None) -> Mapping[JobState, int]:
        """How many jobs, of a group or of all, are in each state that has any."""
        ...

    async def retry(self, job_id: int) -> Job:
        """Queue a job that has ended once more. Raises JobNotFound, NotEnded."""
        ...

    async def delete(self, job_id: int) -> None:
        """Delete a job that has ended. Raises JobNotFound, NotEnded, StillNamed."""
        ...

    async def prune(self, older_than: float, *, keep_failed: bool = False) -> int:
        """Delete jobs that ended so many seconds ago: how many were there; it may leave some."""
        ...
