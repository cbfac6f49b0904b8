"""The contract of a store, as verbs of a job's life. Pure: no engine, no clock.

Every verb is synchronous and runs inside a transaction of `commit.GroupCommit`. Every write about
an attempt is fenced: it counts only while the job runs, in this very attempt. A verb looks before
it writes: one that is refused (raises anything but `StoreBroken` and `StoreFull`) has changed
nothing, so that it may share its transaction with others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.retry import Decision
from remote_runner.errors import RunnerError
from remote_runner.results import Head
from remote_runner.types import Offer, Outcome


class StoreError(RunnerError):
    """The store could not do what was asked."""


class JobNotFound(StoreError):
    """There is no job with this id."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}; `queued-runner ps` lists those there are")
        self.job_id = job_id


class KeyConflict(StoreError):
    """The key belongs to an earlier job with another body; `job_id` is None if it is new too."""

    def __init__(self, job_id: int | None) -> None:
        holder = "another job of this list" if job_id is None else f"job {job_id}"
        super().__init__(
            f"this key was used for {holder}, which is not the same job; choose another key"
        )
        self.job_id = job_id


class StoreBroken(StoreError):
    """The store cannot be trusted any more: a disk error, corruption."""


class NoRoom(StoreError):
    """There is no room on the disk: nothing was stored, and it may be tried again later."""


class StoreFull(NoRoom):
    """The disk ended in the middle of a transaction, which is undone as a whole."""


class ResultNotFound(StoreError):
    """The attempt left no file of this name."""


class ResultGone(StoreError):
    """The attempt left this file, and the disk does not have it any more."""


class SchemaTooNew(StoreError):
    """The store was written by a newer release."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """Output of an attempt that has ended: its size, and its records if they are small."""

    size: int
    dropped: int
    inline: bytes | None


@dataclass(frozen=True, slots=True)
class StoredResults:
    """The files that an attempt left: which, and all their bytes if they are few.

    Else these are in a file of the attempt, from the byte `start` on.
    """

    head: Head
    start: int
    inline: bytes | None


class Store(Protocol):
    """What an engine does. `now` and every time are UNIX seconds."""

    def identity(self) -> str:
        """What this queue is known by, from its first opening on; its copies have it too."""
        ...

    def add(self, specs: Sequence[JobSpec], now: float) -> list[int]:
        """New jobs' ids, in order; a key that is known with the same body gives the known id.

        Raises:
            KeyConflict: a key is known with another body; nothing was added.
        """
        ...

    def get(self, job_id: int) -> Job:
        """Raises JobNotFound."""
        ...

    def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        """Jobs below the id `before`, newest first."""
        ...

    def attempts(self, job_id: int) -> list[Attempt]: ...

    def inline_output(self, job_id: int, attempt: int) -> bytes | None:
        """The records of a small finished output; None when they are in files, or nowhere."""
        ...

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        """Move queued jobs to running, each with a new attempt at the worker who has its slot."""
        ...

    def next_run_after(self, now: float) -> float | None:
        """When the next delayed job becomes due."""
        ...

    def finish(
        self,
        job_id: int,
        attempt: int,
        decide: Callable[[Job], Decision],
        outcome: Outcome,
        output: StoredOutput,
        now: float,
    ) -> Job | None:
        """End an attempt and move its job as `decide` says; None if the attempt is stale."""
        ...

    def add_results(self, job_id: int, attempt: int, results: StoredResults) -> None:
        """Keep what an attempt left; in the transaction of its `finish`, once it was not stale."""
        ...

    def results(self, job_id: int, attempt: int) -> StoredResults | None:
        """What an attempt left; None: nothing, or it has not ended."""
        ...

    def result_files(self) -> list[tuple[int, int]]:
        """The attempts whose results are in a file."""
        ...

    def cancel(self, job_id: int, now: float) -> Job:
        """Cancel a queued job, ask for the end of a running one. Raises JobNotFound."""
        ...

    def report(self, job_id: int, attempt: int, outcome: Outcome) -> bool:
        """Keep what was said about the end of a running attempt, which ends a little later.

        It stands in the attempt's `reason`, `exit_code` and `signal`. False: the attempt is stale.
        """
        ...

    def lengthen(self, job_id: int, attempt: int, size: int, dropped: int) -> None:
        """Output of an attempt has arrived after its end: it is `size` bytes now, and `dropped`
        more are not kept."""
        ...

    def running(self) -> list[Job]: ...

    def counts(self, group: str | None = None) -> dict[JobState, int]: ...

    def drain_worker(self, worker_id: str, name: str, now: float) -> None:
        """Keep that a worker is drained; once more changes nothing."""
        ...

    def resume_worker(self, worker_id: str) -> None:
        """Forget that a worker is drained."""
        ...

    def drained_workers(self) -> dict[str, str]:
        """The names of the drained workers by their ids, in the order of their draining."""
        ...

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...
