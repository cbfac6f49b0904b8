"""`QueuedRunner`: the durable queue as its users see it. Hands work on to who owns it."""

import base64
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any, Final

import trio

from queued_runner.agents.runner import AgentRunner
from queued_runner.dispatcher import Dispatcher
from queued_runner.drains import Drains
from queued_runner.events import Events
from queued_runner.explain import Explanation, Situation, explain, pending_reasons
from queued_runner.fleet import Fleet
from queued_runner.jobs import MAX_JOB_ID, Attempt, Base64, Job, JobSpec, JobState
from queued_runner.log_files import Record
from queued_runner.logs import Logs
from queued_runner.overview import Overview, ServerInfo
from queued_runner.recount import Recount
from queued_runner.removal import Removal
from queued_runner.results import Results
from queued_runner.store.base import (
    Added,
    JobNotFound,
    Reader,
    ResultNotFound,
    Store,
    StoreAway,
    StoredResults,
)
from queued_runner.store.commit import GroupCommit, RunSync
from queued_runner.tally import Figures
from remote_runner.direct import arguments
from remote_runner.results import Head
from remote_runner.types import JobRunner, Output, WorkerInfo

LOOK_AGAIN: Final = 5.0
"""Seconds after which what another server may have changed is looked at, whether it says so or not.
"""
FOLLOW_AGAIN: Final = 1.0
"""The same of output that is followed."""
PRUNE_SECONDS: Final = 10.0
"""How long one call of `prune` takes at most, or a little more."""


class QueuedRunner:
    """Submit jobs, watch them, wait for them. Made by `open_runner`.

    `fleet` is this server among those that may change what is in the queue. `readers` may use
    `reader` at once. `run_sync` runs a blocking function, a thread in life. `require_room` raises
    NoRoom while no job is to be taken; it is called there. `agents` is that one of the runners
    which HTTP speaks for.
    """

    def __init__(
        self,
        commits: GroupCommit,
        reader: Reader,
        logs: Logs,
        results: Results,
        dispatcher: Dispatcher,
        runners: Sequence[JobRunner],
        drains: Drains,
        fleet: Fleet,
        *,
        run_sync: RunSync | None = None,
        readers: int = 1,
        now: Callable[[], float],
        require_room: Callable[[], None] = lambda: None,
        agents: AgentRunner | None = None,
    ) -> None:
        self.agents = agents
        self._commits = commits
        self._reader = reader
        limiter = trio.CapacityLimiter(readers)

        async def in_thread(function: Callable[[], Any]) -> Any:
            return await trio.to_thread.run_sync(function, limiter=limiter)

        self._run_sync = run_sync or in_thread
        self._logs = logs
        self._results = results
        self._dispatcher = dispatcher
        self._runners = runners
        self._drains = drains
        self._fleet = fleet
        self._overview = Overview(
            self._read,
            fleet,
            drains,
            own_workers=self.workers,
            own_attempts=lambda: len(dispatcher.live),
        )
        self._counts = Recount(self.counts)
        self._now = now
        self._require_room = require_room
        self.removal = Removal(commits, self._read, (logs, results), now=now)
        self.is_accepting = True

    async def _read(self, query: Callable[[Reader], Any]) -> Any:
        self._commits.require_reachable()
        return await self._run_sync(partial(query, self._reader))

    # --- submitting ---

    async def check_room(self) -> None:
        """Raises NoRoom while the disk has none for new jobs, StoreAway while the queue is out of
        reach."""
        self._commits.require_reachable()
        await self._run_sync(self._require_room)

    async def submit(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        stdin: bytes | str | None = None,
        **options: Any,
    ) -> int:
        """Add one job and return its id once it is on disk. `options` are those of `JobSpec`.

        Raises:
            TypeError: `args` is one text, whose letters would be the arguments, or holds what is
                none.
            pydantic.ValidationError: this is not a job; it names the field.
            KeyConflict: its key belongs to another job.
            BadDependency: it cannot come after what its `after` names.
            NoRoom: the disk is full, or nearly so.
        """
        if isinstance(stdin, bytes):
            options["stdin"] = Base64(base64=base64.b64encode(stdin).decode())
        elif stdin is not None:
            options["stdin"] = stdin
        spec = JobSpec(command=command, args=arguments(args), **options)
        return (await self.submit_many([spec]))[0]

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[int]:
        """Add jobs in one commit; all or none. Raises KeyConflict, BadDependency, NoRoom."""
        now = self._now()

        def add(store: Store) -> Added:
            self._require_room()
            return store.add(specs, now)

        def added(found: Added) -> None:
            fresh = set(found.new)
            for job_id, spec in zip(found.ids, specs, strict=True):
                if job_id in fresh:  # else it is known: its key was given before
                    fresh.discard(job_id)
                    self._dispatcher.tally.added += 1
                    self.events.tell_new(job_id, spec.name, spec.group, spec.mask)

        await self._commits.wait_for_room()
        self._dispatcher.wake()  # the commit that adds them claims them too
        ids = (await self._commits.call(add, added)).ids
        self._dispatcher.changes.tell_work()
        return ids

    # --- looking ---

    async def get(self, job_id: int) -> Job:
        """Raises JobNotFound; TypeError, where it is no number."""
        _require_id(job_id)
        job: Job = await self._read(lambda store: store.get(job_id))
        return job

    async def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        """Jobs below the id `before`, newest first."""
        jobs: list[Job] = await self._read(
            lambda store: store.page(
                state=state, group=group, name=name, limit=limit, before=before
            )
        )
        return jobs

    async def attempts(self, job_id: int) -> list[Attempt]:
        """Every try at a job, the first one first. Raises JobNotFound."""
        await self.get(job_id)
        attempts: list[Attempt] = await self._read(lambda store: store.attempts(job_id))
        return attempts

    async def counts(self, group: str | None = None) -> Mapping[JobState, int]:
        """How many jobs are in each state."""
        counts: Mapping[JobState, int] = await self._read(lambda store: store.counts(group))
        return counts

    def workers(self) -> Sequence[WorkerInfo]:
        """Everything that can run jobs of this server now."""
        return [worker for runner in self._runners for worker in runner.workers()]

    async def all_workers(self) -> Sequence[WorkerInfo]:
        """The workers that are connected to any server of the queue, and those that are drained and
        away."""
        connected = await self._overview.workers()
        known = {worker.id for worker in connected}
        return [*connected, *(each for each in self._drains.away() if each.id not in known)]

    async def servers(self) -> Sequence[ServerInfo]:
        """All servers of the queue, by their names."""
        return await self._overview.servers()

    async def servers_of(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        """For each job the name of the server that has its running attempt; None: nobody has."""
        return await self._overview.servers_of(jobs)

    async def drain_worker(self, worker_id: str) -> WorkerInfo:
        """Start nothing more at a worker, until it is resumed; what runs there goes on.

        Raises:
            WorkerNotFound: it is connected to no server.
        """
        return await self._drains.drain(worker_id)

    async def resume_worker(self, worker_id: str) -> WorkerInfo:
        """Take back a drain. The worker may be away.

        Raises:
            WorkerNotFound: it is neither connected nor drained.
            WorkerLeaves: it drains by itself, and cannot be told otherwise.
        """
        return await self._drains.resume(worker_id)

    @property
    def events(self) -> Events:
        """What happens, as it does."""
        return self._dispatcher.events

    async def figures(self) -> Figures:
        """Everything that is counted."""
        logs = self._dispatcher.live.logs
        workers = self.workers()
        return Figures(
            tally=self._dispatcher.tally,
            jobs=await self._jobs_counted(),
            running=len(logs),
            unacknowledged=sum(log.size - log.durable for log in logs),
            commits=self._commits.commits,
            operations=self._commits.operations,
            log_bytes=self._logs.written,
            workers=Counter(worker.state for worker in workers),
            slots=sum(worker.slots for worker in workers),
            free=sum(worker.free for worker in workers),
            server=self._fleet.name,
            server_id=self._fleet.id,
            is_shared=self._fleet.is_shared,
            servers=len(self._fleet.names),
            is_up=self._commits.is_up,
        )

    async def _jobs_counted(self) -> Mapping[JobState, int]:
        try:
            return await self._counts.get()
        except StoreAway:
            return {}  # the other figures tell why

    async def pending_reason(self, job: Job) -> str | None:
        """Why a queued job does not run yet, as a sentence; None if it is not queued."""
        return (await self.pending_reasons([job]))[0]

    async def pending_reasons(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        """The same of many jobs, at the cost of about one."""
        if all(job.state is not JobState.QUEUED for job in jobs):
            return [None] * len(jobs)
        return pending_reasons(jobs, self._situation(await self._overview.recent_workers()))

    async def explain(self, job_id: int) -> Explanation:
        """Why a job stands where it stands, whatever its state. Raises JobNotFound."""
        job = await self.get(job_id)
        dependencies = await self._read(lambda store: store.dependencies(job_id))
        return explain(job, self._situation(await self._overview.workers()), dependencies)

    def _situation(self, workers: Sequence[WorkerInfo]) -> Situation:
        claims = self._dispatcher.claims
        return Situation(
            self._now(), claims.is_allowed, workers, self._dispatcher.limits, claims.kept
        )

    # --- what has ended: once more, or away with it ---

    async def retry(self, job_id: int) -> Job:
        """Queue a job that has ended once more, with all its retries; its attempts go on counting.

        It waits for what it comes after, as far as that has not succeeded by now, and fails at once
        where one of these has failed. Raises JobNotFound, NotEnded.
        """
        await self.get(job_id)
        return await self._dispatcher.revive(job_id)

    async def delete(self, job_id: int) -> None:
        """Delete a job that has ended, its output included.

        Raises JobNotFound, NotEnded, StillNamed.
        """
        await self.get(job_id)
        await self.removal.delete(job_id)

    async def prune(self, older_than: float, *, keep_failed: bool = False) -> int:
        """Delete jobs that ended more than `older_than` seconds ago, and say how many.

        `keep_failed`: only those that succeeded. It takes some ten seconds at most: where that is
        not enough, the next call goes on.
        """
        states = [JobState.SUCCEEDED]
        if not keep_failed:
            states += [JobState.FAILED, JobState.CANCELLED]
        deadline = trio.current_time() + PRUNE_SECONDS
        return await self.removal.prune(dict.fromkeys(states, older_than), deadline=deadline)

    # --- cancelling, waiting, output ---

    async def cancel(
        self, job_id: int, *, signal: str | None = None, grace: float | None = None
    ) -> Job:
        """Cancel a job; a running one ends once its process tree is gone. Raises JobNotFound."""
        _require_id(job_id)
        return await self._dispatcher.cancel(job_id, signal, grace)

    def stop_claiming(self) -> None:
        """Start no more jobs. Those that run go on, and jobs can still be submitted."""
        self._dispatcher.claims.is_allowed = False

    async def drain(self) -> None:
        """Start no more jobs, and wait until none runs."""
        await self._dispatcher.drain()

    async def _when(self, job_id: int, is_so: Callable[[Job], bool]) -> Job:
        """The job, once this is true of it."""
        while True:
            changed = self._dispatcher.changes.of(job_id)
            job = await self.get(job_id)
            if is_so(job):
                return job
            with trio.move_on_after(LOOK_AGAIN if self._fleet.is_shared else math.inf):
                await changed.wait()

    async def wait_started(self, job_id: int) -> Job:
        """The job, once it runs or has run, or has ended without. Raises JobNotFound."""
        return await self._when(
            job_id, lambda job: job.started_at is not None or job.state.is_terminal
        )

    async def wait(self, job_id: int) -> Job:
        """The job, once it has reached a terminal state. Raises JobNotFound."""
        return await self._when(job_id, lambda job: job.state.is_terminal)

    async def records(
        self, job_id: int, *, attempt: int | None = None, offset: int = 0, follow: bool = True
    ) -> AsyncIterator[Record]:
        """The output of one attempt (the newest) from `offset`, then what is still to come.

        With `follow` it first waits for that attempt to begin, or for the job to end without it.
        Ends with the attempt. Raises JobNotFound, also when the job is deleted meanwhile.
        """

        def has_begun(job: Job) -> bool:
            number = attempt or max(job.attempt, 1)
            if job.state.is_terminal or job.attempt > number:
                return True
            if job.attempt < number:
                return False
            # Between the claim's commit and the start it runs, and nobody has its output yet.
            is_live = self._dispatcher.live_log(job, number) is not None
            is_here = job.server == self._dispatcher.server
            return is_live or job.state is not JobState.RUNNING or not is_here

        job = await (self._when(job_id, has_begun) if follow else self.get(job_id))
        number = attempt or job.attempt
        while True:
            log = self._dispatcher.live_log(job, number)
            is_over = job.attempt != number or job.state is not JobState.RUNNING
            stored = None
            if log is not None:
                source = self._logs.follow(log, offset, stays=follow)
            elif follow and not is_over:
                source = self._follow_elsewhere(job_id, number, offset)
            else:
                stored = await self._read(lambda store: store.stored_output(job_id, number))
                source = self._logs.read(job_id, number, stored, offset)
            async with aclosing(source) as records:  # type: ignore[type-var]
                async for record in records:
                    yield record
                    offset = record.offset + len(record.data)
            if stored is not None and stored.inline is not None:
                return
            job = await self.get(job_id)  # its files may have been deleted under the reader
            if is_over or not follow or (log is not None and not log.is_moved):
                return

    def _follow_elsewhere(self, job_id: int, number: int, offset: int) -> AsyncIterator[Record]:
        """The output of an attempt that another server has, or nobody for now, from its files."""

        async def is_over() -> bool:
            job = await self.get(job_id)
            if job.attempt != number or job.state is not JobState.RUNNING:
                return True
            self._dispatcher.changes.ask_for_output(job_id)
            return self._dispatcher.live_log(job, number) is not None

        return self._logs.follow_files(
            job_id, number, offset, change_of=lambda: self._dispatcher.changes.of(job_id),
            is_over=is_over, pause=FOLLOW_AGAIN,
        )  # fmt: skip

    async def output(self, job_id: int) -> AsyncIterator[Output]:
        """The output of a job, one attempt after the other: replayed from the start, then followed.

        Ends when the job has ended for good. Each attempt's offsets begin at 0.
        """
        for number in count(1):
            source = self.records(job_id, attempt=number)
            async with aclosing(source) as records:  # type: ignore[type-var]
                async for record in records:
                    yield Output(record.stream, record.data, record.offset)
            job = await self.get(job_id)
            if job.state.is_terminal and job.attempt <= number:
                return

    # --- results ---

    async def results(self, job_id: int, *, attempt: int | None = None) -> Head:
        """The files that an attempt (the newest) left, and what was left out of them.

        Empty while it has not ended. Raises JobNotFound.
        """
        stored = (await self._stored_results(job_id, attempt))[1]
        return Head() if stored is None else stored.head

    async def read_result(
        self, job_id: int, name: str, *, attempt: int | None = None
    ) -> tuple[int, AsyncIterator[bytes]]:
        """The size of one of these files, and its bytes in pieces.

        Raises:
            JobNotFound: there is no such job.
            ResultNotFound: the attempt left no file of this name.
            ResultGone: the disk does not have it any more; also as the pieces are taken.
        """
        number, stored = await self._stored_results(job_id, attempt)
        place = None if stored is None else stored.head.offset_of(name)
        if stored is None or place is None:
            raise ResultNotFound(f"attempt {number} of job {job_id} left no result {name!r}")
        return place[1], self._results.read(job_id, number, stored, *place)

    async def _stored_results(
        self, job_id: int, attempt: int | None
    ) -> tuple[int, StoredResults | None]:
        number = attempt or (await self.get(job_id)).attempt
        stored = await self._read(lambda store: store.results(job_id, number))
        if stored is None:
            await self.get(job_id)
        return number, stored


def _require_id(job_id: int) -> None:
    if not isinstance(job_id, int):
        raise TypeError(f"the id of a job is a number, as submit gives it, and not {job_id!r}")
    if not 0 < job_id <= MAX_JOB_ID:
        raise JobNotFound(job_id)
