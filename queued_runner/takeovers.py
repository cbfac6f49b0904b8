"""Attempts that come to this server from others, or from its own earlier life.

Owns the way there: the store says that they are this server's, the files what there is of their
output, and then they are held until their worker, which brings them, has listed what it has. What
is live here, and what becomes of it, is the dispatcher's.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import trio

from queued_runner.jobs import Job
from queued_runner.live_attempt import LiveAttempt
from queued_runner.live_attempts import LiveAttempts
from queued_runner.logs import Logs
from queued_runner.roster import Roster
from queued_runner.sightings import worker_record
from queued_runner.store.base import AttemptKey, Store, StoreError, Taken
from queued_runner.store.commit import GroupCommit
from queued_runner.tally import Tally
from remote_runner.errors import NotNow
from remote_runner.types import Waiting, WorkerInfo


class Holder(Protocol):
    """Who holds attempts."""

    def hold(self, job: Job, offset: int) -> None: ...
    def let_go(self, attempt: LiveAttempt) -> None: ...
    def lose(self, attempt: LiveAttempt) -> None: ...
    def drop(self, attempts: Iterable[AttemptKey]) -> None: ...


class Takeovers:
    """What comes to one server.

    Args:
        commits: the one writer of the store. logs: output at rest.
        roster: knows the workers. tally: counts.
        live: what is live here already.
        holder: gets the attempts.
    """

    def __init__(
        self,
        commits: GroupCommit,
        logs: Logs,
        roster: Roster,
        tally: Tally,
        live: LiveAttempts,
        holder: Holder,
    ) -> None:
        self._commits = commits
        self._logs = logs
        self._roster = roster
        self._tally = tally
        self._live = live
        self._holder = holder
        self._turns: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._to_load: deque[tuple[Sequence[Job], Callable[[], None]]] = deque()
        self._loading = trio.lowlevel.ParkingLot()

    async def prepare(self, worker: WorkerInfo, boot: str, connection: int) -> Waiting:
        """Take what a worker that has connected has, wherever it was; see `types.Host`."""
        record = worker_record(worker, boot, connection)
        async with self._turn_of(worker.id):
            held = self._live.held_of(worker.id)
            loaded = trio.Event()

            def taken(found: Taken | None) -> None:
                if found is None:
                    loaded.set()
                    return
                self._roster.expect(record)
                self._tally.handovers += len(found.jobs)
                self._holder.drop(found.lost)
                self._load(found.jobs, loaded.set)

            last_word = self._roster.begin(worker.id)
            try:
                found = await self._commits.call(lambda s: s.take_over(record, held), taken)
            except StoreError as error:
                self._roster.fail(last_word)
                raise NotNow(str(error)) from error
            if found is None:
                raise NotNow("this worker has a newer connection to another server of this queue")
            return loaded.wait

    def _turn_of(self, worker_id: str) -> trio.Lock:
        """One connection of a worker after the other."""
        turn = self._turns.get(worker_id)
        if turn is None:
            turn = self._turns[worker_id] = trio.Lock()
        return turn

    def _load(self, jobs: Sequence[Job], then: Callable[[], None]) -> None:
        """These attempts are this server's now: look what there is of them, then hold them."""
        self._to_load.append((jobs, then))
        self._loading.unpark()

    async def load(self) -> None:
        """Do so for ever, one list after the other."""
        while True:
            if not self._to_load:
                await self._loading.park()
            jobs, then = self._to_load.popleft()
            for job in jobs:
                offset = await self._logs.recover(job.id, job.attempt, job.handovers)
                known = self._live.get(job.id, job.attempt)
                if known is not None and known.job.handovers != job.handovers:
                    # It has been another server's, and its end there is void.
                    self._holder.let_go(known)
                    known = None
                if known is None:
                    self._holder.hold(job, offset)
            then()

    async def recall(self, prefix: str, servers: Sequence[str] | None) -> None:
        """Hold what these servers, which are dead, have of workers whose ids begin so; None: what
        is nobody's."""
        await self._take(lambda store: store.recall(prefix, servers))

    async def recall_job(self, prefix: str, job_id: int) -> None:
        """Hold this job's attempt, if it is nobody's and its worker's id begins so."""

        def recall(store: Store) -> list[Job]:
            job = store.recall_job(prefix, job_id)
            return [] if job is None else [job]

        await self._take(recall)

    async def _take(self, take: Callable[[Store], list[Job]]) -> None:
        loaded = trio.Event()

        def taken(jobs: list[Job]) -> None:
            self._tally.handovers += len(jobs)
            self._load(jobs, loaded.set)

        await self._commits.call(take, taken)
        await loaded.wait()

    def give_up(self, jobs: Sequence[Job]) -> None:
        """Nobody has come for these attempts, which are this server's now."""
        keys = [(job.id, job.attempt) for job in jobs]

        def lose() -> None:
            for key in keys:
                attempt = self._live.get(*key)
                if attempt is not None and attempt.run is None:
                    self._holder.lose(attempt)

        self._load(jobs, lose)
