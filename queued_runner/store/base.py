"""The contract of a store, as verbs of a job's life. Pure: no engine, no clock.

Every verb is synchronous and runs inside a transaction of `commit.GroupCommit`. Every write about
an attempt is fenced: it counts only while the job runs, in this very attempt. A verb looks before
it writes: one that is refused (raises anything but `StoreBroken`, `StoreFull`, `StoreAway` and
`TryAgain`) has changed nothing, so that it may share its transaction with others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.retry import Decision
from remote_runner.errors import RunnerError
from remote_runner.results import Head
from remote_runner.types import Offer, Outcome
from remote_runner.value import value

AttemptKey = tuple[int, int]
"""A job and the number of its attempt."""

STRANDED: Final = "dependency"
"""The reason of a job that failed because of one that it came after."""


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


class BadDependency(StoreError):
    """The `after` of a new job cannot be: `index` is the job's place in its list, `place` that of
    the reference in `after`; None where it is about more than one."""

    def __init__(self, message: str, index: int | None = None, place: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.place = place


class NotEnded(StoreError):
    """What was asked can only be done with a job that has ended."""

    def __init__(self, job_id: int, state: JobState) -> None:
        super().__init__(
            f"job {job_id} is {state} and has not ended; wait for its end, or cancel it first"
        )
        self.job_id = job_id


class StillNamed(StoreError):
    """A job that did not succeed cannot go before those that failed because of it: a retry of them
    would not know of it any more."""

    def __init__(self, job_id: int, dependant: int) -> None:
        super().__init__(
            f"job {job_id} did not succeed, and job {dependant} came after it; delete that one"
            " first"
        )
        self.job_id = job_id


class StoreBroken(StoreError):
    """The store cannot be trusted any more: a disk error, corruption."""


class NoRoom(StoreError):
    """There is no room on the disk: nothing was stored, and it may be tried again later."""


class StoreFull(NoRoom):
    """The disk ended in the middle of a transaction, which is undone as a whole."""


class StoreAway(StoreError):
    """The database cannot be reached now: nothing was stored, and it may be tried again later."""


class OutputAway(StoreAway):
    """Where output and results lie cannot be reached now; it may be tried again later."""


class InDoubt(StoreAway):
    """The database went away while it committed: `was_committed` tells, when it is back."""


class TryAgain(StoreError):
    """The transaction stood in the way of another one: it is undone, and may be run again now."""


class Deposed(StoreError):
    """This server was silent for too long: the others have taken over what it had."""


class ResultNotFound(StoreError):
    """The attempt left no file of this name."""


class ResultGone(StoreError):
    """The attempt left this file, and the disk does not have it any more."""


class SchemaTooNew(StoreError):
    """The store was written by a newer release."""


@value
class StoredOutput:
    """Output of an attempt that has ended: its size, and its records if they are small."""

    size: int
    dropped: int
    inline: bytes | None


@dataclass(frozen=True, slots=True)
class StoredResults:
    """The files that an attempt left: which, and all their bytes if they are few.

    Else these are in a file of the attempt, from the byte `start` on: that of its owner `epoch`.
    """

    head: Head
    start: int
    inline: bytes | None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One life of a server of this queue; it was alive at `beat_at`."""

    id: str
    name: str
    beat_at: float


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker, and the server that it is connected to; "" before that is stored.

    Of two connections of one `boot` the one with the higher number is newer.
    """

    worker_id: str
    boot: str
    connection: int
    facts: str = "{}"
    server: str = ""


class PlacedAttempt(NamedTuple):
    """An attempt that runs: at the worker with this id and name, by this server; None: nobody's.
    It takes so many slots there."""

    worker_id: str
    worker: str
    server: str | None
    key: AttemptKey
    slots: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Attempts that are this server's from now on, and those, as job and number, that it believed
    to have and does not."""

    jobs: tuple[Job, ...]
    lost: frozenset[AttemptKey]


@dataclass(frozen=True, slots=True)
class Rescued:
    """Attempts that nobody had and nobody came for; `next_due`: when there are more of them."""

    jobs: tuple[Job, ...]
    next_due: float | None


class Added(NamedTuple):
    """The ids of jobs in the order given, and which of them are new."""

    ids: list[int]
    new: frozenset[int]


@dataclass(frozen=True, slots=True)
class Stranded:
    """A job that has failed without a start, because one that it came after did not succeed."""

    id: int
    name: str | None
    group: str | None
    attempt: int
    mask: tuple[str, ...] = field(default=(), repr=False)


@value
class Settled:
    """Jobs that ends of others have moved: some failed, some need not wait any more."""

    stranded: tuple[Stranded, ...] = ()
    released: tuple[int, ...] = ()
    is_all: bool = True
    """Whether there is nothing left to settle."""

    @property
    def failed(self) -> tuple[int, ...]:
        """The ids of those that failed."""
        return tuple(job.id for job in self.stranded)


@dataclass(frozen=True, slots=True)
class Expired:
    """Jobs among those up to the id `looked_to` that may be deleted; None: there are no more."""

    ids: tuple[int, ...]
    looked_to: int | None


class Reader(Protocol):
    """What an engine tells. Times are UNIX seconds."""

    def identity(self) -> str:
        """What this queue is known by, from its first opening on; its copies have it too."""
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

    def stored_output(self, job_id: int, attempt: int) -> StoredOutput | None:
        """The output of an attempt that has ended; its records where it is small, else they are in
        files, or nowhere. None: it has not ended, or there is none."""
        ...

    def next_run_after(self, now: float) -> float | None:
        """When the next delayed job becomes due."""
        ...

    def results(self, job_id: int, attempt: int) -> StoredResults | None:
        """What an attempt left; None: nothing, or it has not ended."""
        ...

    def result_files(self) -> list[tuple[int, int, int]]:
        """The attempts whose results are in a file: job, number, and the epoch in its name."""
        ...

    def dependencies(self, job_id: int) -> list[tuple[int, JobState, bool]]:
        """The jobs that one comes after: their states, and whether they are still waited for."""
        ...

    def expired(
        self, ended_before: Mapping[JobState, float], looked_to: int, limit: int
    ) -> Expired:
        """Look at `limit` jobs above the id `looked_to` for those that ended before a time."""
        ...

    def dependant_of(self, job_id: int) -> int | None:
        """One of the jobs that came after this one, if there are any."""
        ...

    def deleted(self, limit: int) -> list[int]: ...

    def servers(self) -> list[ServerRecord]: ...

    def workers(self, worker_id: str | None = None) -> list[WorkerRecord]:
        """All that are connected, to whichever server; or this one, if it is."""
        ...

    def placed(self, worker_id: str | None = None) -> list[PlacedAttempt]:
        """Where attempts run, the oldest jobs first; or those that run at this worker."""
        ...

    def running(self) -> list[Job]: ...

    def counts(self, group: str | None = None) -> dict[JobState, int]: ...

    def drained_workers(self) -> dict[str, str]:
        """The names of the drained workers by their ids, in the order of their draining."""
        ...


class Store(Reader, Protocol):
    """What an engine does. `now` and every time are UNIX seconds."""

    def add(self, specs: Sequence[JobSpec], now: float) -> Added:
        """Store new jobs; a key that is known with the same body gives the known id.

        Raises:
            KeyConflict: a key is known with another body; nothing was added.
            BadDependency: a job cannot come after what it names; nothing was added.
        """
        ...

    kept: Mapping[str, int]
    """For which job, by the last claim, the free slots of which worker, by its id, are kept."""

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        """Move queued jobs to running, each with a new attempt at the worker who has its slot.

        None at a worker that is connected to another server by now.
        """
        ...

    def finish(
        self,
        job_id: int,
        attempt: int,
        decide: Callable[[Job], Decision],
        outcome: Outcome,
        output: StoredOutput,
        now: float,
        handovers: int = 0,
    ) -> Job | None:
        """End an attempt and move its job as `decide` says; None if the attempt is stale, which it
        is too if it has changed hands since it was this server's after so many `handovers`."""
        ...

    def add_results(self, job_id: int, attempt: int, results: StoredResults) -> None:
        """Keep what an attempt left; in the transaction of its `finish`, once it was not stale."""
        ...

    def cancel(
        self, job_id: int, now: float, signal: str | None = None, grace: float | None = None
    ) -> Job:
        """Cancel a queued job, ask for the end of a running one, by this signal and with so many
        seconds of grace. Raises JobNotFound."""
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

    def settle(self, now: float) -> Settled:
        """Tell those that wait for jobs which have ended; a bounded number in one transaction.

        A success is counted, anything else fails them: and so on with those that wait for them.
        """
        ...

    def revive(self, job_id: int, now: float) -> Job:
        """Queue a job that has ended, as a person asks: it may fail and be lost as often again.

        It waits for what it comes after, as far as that has not succeeded; it fails at once where
        one of them has failed.

        Raises:
            JobNotFound, NotEnded: nothing was changed.
        """
        ...

    def delete(self, job_ids: Sequence[int]) -> list[int]:
        """Delete jobs that have ended, and say which of them: never one that others still learn of,
        and none that did not succeed before those that came after it.

        Their ids stay in `deleted` until `forget_deleted`: whoever keeps files of jobs looks there.
        """
        ...

    def forget_deleted(self, job_ids: Sequence[int]) -> None:
        """The files of these deleted jobs are gone too."""
        ...

    # Servers of one queue. Each attempt that runs is one server's, or nobody's: what another one
    # writes about it is stale. `now` and `at` are on a clock that all of them share.

    def time(self, now: float) -> float:
        """What the clock says that all servers share, where this one's says `now`."""
        ...

    def enlist(self, server: str, name: str, now: float) -> None:
        """Write as this server from here on: each commit of it can be found again."""
        ...

    def beat(self, now: float) -> None:
        """This server is alive.

        Raises:
            Deposed: the others have buried it.
        """
        ...

    def bury(self, server: str, at: float, detach: float) -> None:
        """A server is dead since `at`: what it had is nobody's. Each such attempt is given up after
        its own `detach`, in seconds, or this one."""
        ...

    def bury_others(self, at: float, detach: float) -> None:
        """There is no other server: whatever runs and is not this one's is nobody's since `at`."""
        ...

    def take_over(self, worker: WorkerRecord, held: Sequence[AttemptKey]) -> Taken | None:
        """A worker has connected to this server, which believes to have the attempts `held` of it:
        all that run there are this one's from here on. None: it has a newer connection."""
        ...

    def moved(self, attempts: Sequence[AttemptKey]) -> frozenset[AttemptKey]:
        """Those of these attempts that are not this server's any more, or run no more."""
        ...

    def keep_output_at(self, place: str) -> str:
        """Where the output of this queue lies: here, if nobody has said so before."""
        ...

    def see_worker(self, worker: WorkerRecord) -> None:
        """A worker of this server, as it is now; of no effect where it is another's by now."""
        ...

    def lose_worker(self, worker: WorkerRecord) -> None:
        """This connection has ended."""
        ...

    def rescue(self, now: float, limit: int) -> Rescued:
        """Take what is to be given up by now: it is this server's, who ends it as lost."""
        ...

    def recall(self, prefix: str, servers: Sequence[str] | None) -> list[Job]:
        """Take what these servers have of workers whose ids begin so; None: what is nobody's."""
        ...

    def recall_job(self, prefix: str, job_id: int) -> Job | None:
        """Take this job if it runs, is nobody's, and its worker's id begins so."""
        ...

    def cancels(self) -> list[Job]:
        """What this server has and somebody wants to end."""
        ...

    def drain_worker(self, worker_id: str, name: str, now: float) -> None:
        """Keep that a worker is drained; once more changes nothing."""
        ...

    def resume_worker(self, worker_id: str) -> None:
        """Forget that a worker is drained."""
        ...

    def begin(self) -> None: ...
    def commit(self) -> None:
        """Make it durable.

        Raises:
            InDoubt: nobody knows whether it is.
            Deposed: it is not, for this server has been buried meanwhile.
        """
        ...

    def was_committed(self) -> bool:
        """Whether the last commit, which is in doubt, came to its end. Raises StoreAway."""
        ...

    def rollback(self) -> None: ...
    def close(self) -> None: ...
