"""Starts the jobs that claims have found, and writes down how they end.

Owns what becomes of the attempts that are live in this process. Decides nothing about states
(`lifecycle.py`, `retry.py`) and stores nothing itself (`store/`, `logs.py`). Everything a run does
arrives as a synchronous call; everything durable leaves through the group commit, whose callbacks
answer.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import structlog
import trio
from outcome import Error
from outcome import Outcome as Result

from queued_runner.changes import Changes
from queued_runner.claims import Claims
from queued_runner.dependants import Dependants
from queued_runner.events import Events
from queued_runner.hints import Hint, Hints, Kind
from queued_runner.jobs import Job, JobState, Limits
from queued_runner.live_attempt import LiveAttempt
from queued_runner.live_attempts import LiveAttempts
from queued_runner.logs import AttemptLog, Logs
from queued_runner.results import AttemptResults, Results
from queued_runner.retry import decide
from queued_runner.roster import Roster
from queued_runner.store.base import (
    AttemptKey,
    Settled,
    Store,
    StoredResults,
)
from queued_runner.store.commit import GroupCommit
from queued_runner.takeovers import Takeovers
from queued_runner.tally import Tally
from remote_runner.errors import DuplicateRun, NotNow, NoWorkerAvailable
from remote_runner.types import (
    Adoption,
    Command,
    JobRunner,
    Outcome,
    Reason,
    Run,
    Waiting,
    WorkerEvent,
    WorkerInfo,
)

log = structlog.get_logger("queued_runner")


class Dispatcher:
    """The `Host` of the runners, and the only one who moves jobs while they run.

    Args:
        id: of the queue, see `Host`.
        commits: the one writer of the store.
        logs: output at rest.
        results: files that attempts left, at rest.
        runners: where attempts may run; a claim takes slots of any of them.
        limits: of jobs that name none of their own.
        events: hears what becomes true of jobs and workers.
        hints: to the other servers of the queue. is_shared: there may be any.
        now: wall clock, UNIX seconds. rng: jitter of the backoff.
    """

    def __init__(
        self,
        id: str,
        commits: GroupCommit,
        logs: Logs,
        runners: Sequence[JobRunner],
        *,
        results: Results,
        limits: Limits,
        events: Events,
        hints: Hints,
        is_shared: bool,
        now: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self.id = id
        self.is_shared = is_shared
        self.events = events
        self.tally = Tally()
        self._commits = commits
        self._logs = logs
        self._results = results
        self._runners = runners
        self.limits = limits
        self._roster = Roster(commits)
        self.now = now
        self._rng = rng
        self.live = LiveAttempts()
        self.changes = Changes(hints)
        self.claims = Claims(commits, runners, lambda: self.server, now, self._on_claimed)
        self._dependants = Dependants(commits, now, self.tally, events, self.changes, self.wake)
        self._kills: dict[int, tuple[str | None, float | None]] = {}
        self._settled = trio.lowlevel.ParkingLot()
        self.is_away = False
        """The queue is out of reach, and may believe this server dead."""
        self.asked = trio.Event()
        """Set when others may want something of that which is live here. Who looks puts a new one
        here first."""
        self.server = ""
        """The id of this life of this server."""
        self.takeovers = Takeovers(commits, logs, self._roster, self.tally, self.live, self)
        logs.on_grown = self.changes.tell_grown

    # --- starts ---

    def wake(self) -> None:
        """There may be something to claim, or room for it."""
        self.claims.wake()

    async def run(self) -> None:
        """Claim what becomes due, for ever."""
        self._dependants.tell_all()  # an earlier server may have died in the middle of it
        await self.claims.run()

    def _on_claimed(self, jobs: list[Job]) -> None:
        self._settled.unpark_all()
        self._start(jobs)

    def _start(self, jobs: list[Job]) -> None:
        for job in jobs:
            attempt = self._new_attempt(job, 0)
            command = job.spec.to_command(_job_variables(job), attempt.limits)
            run = self._place(attempt, command, job) if self.claims.is_allowed else None
            if run is None:
                self.end(attempt, Outcome(Reason.REFUSED))
                continue
            attempt.run = run
            self.changes.tell(job.id)
            kill = self._kills.pop(job.id, None)
            if kill is not None:
                run.kill(*kill)

    def _place(self, attempt: LiveAttempt, command: Command, job: Job) -> Run | None:
        for runner in self._runners:
            try:
                return runner.start(attempt.id, command, job.spec.needs, attempt, job.worker_id)
            except NoWorkerAvailable:
                continue
            except DuplicateRun:
                log.error("attempt is already running", attempt=attempt.id)
                return None
        return None

    def _new_attempt(self, job: Job, offset: int) -> LiveAttempt:
        attempt = LiveAttempt(self, job, job.spec.limits(self.limits))
        attempt.log = self._logs.open(
            job.id, job.attempt, offset, attempt.limits.max_log_size, attempt.on_durable,
            job.handovers,
        )  # fmt: skip
        self.live.add(attempt)
        return attempt

    def see_start(self, job: Job, worker: str) -> None:
        """The process of an attempt runs."""
        self.tally.dispatch.add(max(0.0, self.now() - max(job.created_at, job.run_after)))
        self.events.tell_run("job.started", job, worker)

    def open_results(self, attempt: LiveAttempt) -> AttemptResults:
        """Results of an attempt begin to arrive."""
        return self._results.open(
            attempt.job.id,
            attempt.job.attempt,
            attempt.limits.max_results_size,
            attempt.on_result_taken,
            attempt.job.handovers,
        )

    # --- ends ---

    def end(self, attempt: LiveAttempt, outcome: Outcome) -> None:
        """An attempt has ended: keep its output and results, then its outcome, then tell the
        worker."""
        if attempt.is_ending:
            return
        attempt.is_ending = True
        attempt.log.skip_dropped(outcome.output_bytes)
        attempt.log.close(lambda: self._close_results(attempt, outcome))

    def _close_results(self, attempt: LiveAttempt, outcome: Outcome) -> None:
        if attempt.results is None:
            self._finish(attempt, outcome, None)
        else:
            attempt.results.close(partial(self._finish, attempt, outcome))

    def _finish(
        self, attempt: LiveAttempt, outcome: Outcome, results: StoredResults | None
    ) -> None:
        job = attempt.job
        stored = attempt.log.stored()

        def finish(store: Store) -> tuple[Job | None, Settled]:
            ended = store.finish(
                job.id,
                job.attempt,
                lambda current: decide(current, outcome, self.now(), self._rng),
                outcome,
                stored,
                self.now(),
                job.handovers,
            )
            if ended is not None and results is not None:
                store.add_results(job.id, job.attempt, results)
            return ended, self._dependants.settle(store, ended)

        def done(result: Result[tuple[Job | None, Settled]]) -> None:
            if isinstance(result, Error):
                return  # the commit failed: its own task ends the service, nothing is acknowledged
            ended, settled = result.unwrap()
            run = attempt.run
            attempt.log.is_moved = ended is None
            self._forget(attempt)
            if ended is None:
                # Not its worker's fault, who has to tell it once more, to whoever has it now.
                if run is not None:
                    run.abandon()
                self.tally.stale += 1
                log.warning("stale outcome", attempt=attempt.id)
                if attempt.results is not None:
                    attempt.results.discard()
            else:
                if run is not None:
                    run.forget()
                self._results.remove_older(job.id, job.attempt, job.handovers)
                self._see_end(job, ended)
                if ended.state is JobState.QUEUED:
                    self.wake()
                    self.changes.tell_work()
            self.changes.tell(job.id)
            self._dependants.see(settled)

        self._commits.submit(finish, done)

    def _see_end(self, before: Job, job: Job) -> None:
        """An attempt has ended, and what it ended with is durable."""
        if job.state is not JobState.QUEUED:
            self.tally.ended[job.state] += 1
        elif (job.failures, job.losses) == (before.failures, before.losses):
            return  # it never began, or was stopped as planned: nothing that anybody tried
        else:
            self.tally.retried += 1
        self.events.tell_end(job)

    def _forget(self, attempt: LiveAttempt) -> None:
        self.live.remove(attempt)
        self._kills.pop(attempt.job.id, None)
        attempt.log.end()
        attempt.run = None  # which knows the attempt: a circle would be left to the collector
        if self._settled:
            self._settled.unpark_all()

    async def settle(self) -> None:
        """Wait until every claim and every end that has begun is durable."""
        while self.claims.is_open or any(attempt.is_ending for attempt in self.live):
            await self._settled.park()

    async def drain(self) -> None:
        """Start nothing more, and wait until nothing runs any more."""
        self.claims.is_allowed = False
        while self.claims.is_open or self.live:
            await self._settled.park()

    # --- cancelling ---

    async def cancel(self, job_id: int, signal: str | None, grace: float | None) -> Job:
        """Cancel a job: at once when it is queued, else its process tree is ended first."""

        def cancel(store: Store) -> tuple[bool, Job, Settled]:
            is_queued = store.get(job_id).state is JobState.QUEUED
            job = store.cancel(job_id, self.now(), signal, grace)
            return is_queued, job, self._dependants.settle(store, job)

        def cancelled(result: tuple[bool, Job, Settled]) -> None:
            is_new, job, settled = result
            if is_new:
                self.tally.ended[job.state] += 1
                self.events.tell_end(job)
                if job.spec.slots > 1:
                    self.wake()  # slots may have been kept for it
            self._dependants.see(settled)

        _, job, _ = await self._commits.call(cancel, cancelled)
        if job.state is JobState.RUNNING:
            attempt = self.live.get(job.id, job.attempt)
            if attempt is not None and attempt.run is not None:
                attempt.kill = signal, grace
                attempt.run.kill(signal, grace)
            elif job.server == self.server:
                self._kills[job.id] = (signal, grace)
            else:
                self.changes.tell(job_id)
        else:
            self.changes.tell(job_id)
        return job

    async def revive(self, job_id: int) -> Job:
        """Queue a job that has ended once more. Raises JobNotFound, NotEnded."""
        self.wake()  # the commit that queues it claims it too

        def revived(job: Job) -> None:
            if job.state is not JobState.QUEUED:
                self.tally.ended[job.state] += 1
            else:
                self.changes.tell_work()
            self.events.tell_end(job)
            self.changes.tell(job_id)

        return await self._commits.call(lambda store: store.revive(job_id, self.now()), revived)

    # --- other servers ---

    def hear(self, hint: Hint) -> None:
        """Another server says that something has happened."""
        match hint.kind:
            case Kind.WORK:
                self.wake()
            case Kind.JOB:
                self.changes.tell_here(hint.job)
                if self.live.of_job(hint.job) is not None:
                    self.asked.set()
            case Kind.GROWN:
                self.changes.tell_here(hint.job)
            case Kind.WANTED:
                attempt = self.live.of_job(hint.job)
                if attempt is not None:
                    attempt.log.publish()
            case Kind.DRAINS:
                self.asked.set()
            case Kind.LOST:
                self.changes.tell_all_here()
                self.asked.set()
                self.wake()

    # --- a new server's first look, and what runners tell ---

    async def prepare(self, worker: WorkerInfo, boot: str, connection: int) -> Waiting:
        if self.is_away:
            raise NotNow("this server cannot reach its queue now; it tries again")
        return await self.takeovers.prepare(worker, boot, connection)

    def hold(self, job: Job, offset: int) -> None:
        """Wait for an attempt that another server had, whose output is durable up to `offset`."""
        attempt = self._new_attempt(job, offset)
        self.live.wait_for_worker(attempt)
        attempt.is_started = True
        self.events.tell_run("job.detached", job, job.worker)
        self.changes.tell(job.id)

    def inherit(self) -> None:
        """Another server is dead: it may have died while it told those that wait for other jobs."""
        self._dependants.tell_all()

    def look_again(self, cancels: Sequence[Job]) -> None:
        """What hints of other servers may have said, and were lost: these are to end."""
        for job in cancels:
            self._kill(job)
        self._roster.look_again()
        self.wake()

    def _kill(self, job: Job) -> None:
        """Somebody wants a running job to end: who has said so once need not be told again."""
        attempt = self.live.get(job.id, job.attempt)
        kill = job.cancel_signal, job.cancel_grace
        if attempt is not None and attempt.run is not None and attempt.kill != kill:
            attempt.kill = kill
            attempt.run.kill(*kill)

    def end_all(self) -> None:
        """Whatever still runs ends now."""
        for attempt in self.live:
            if attempt.run is not None:
                attempt.run.kill(None, 0.0)

    def absent(self) -> list[AttemptKey]:
        """What is live here while its worker is not: another server may have both by now."""
        here = {worker.id for runner in self._runners for worker in runner.workers()}
        return self.live.away_from(here)

    def drop(self, attempts: Iterable[AttemptKey]) -> None:
        """These are another server's by now."""
        for key in attempts:
            self._drop(key)

    def drop_all(self) -> None:
        """The others have buried this server, and whatever it had is theirs, or nobody's."""
        self.server = ""
        self.drop(self.live.keys())

    def enter_again(self) -> None:
        """This is a new life of this server, with the workers that it has."""
        self._roster.write_all()

    def _drop(self, key: AttemptKey) -> None:
        """An attempt is another server's by now."""
        attempt = self.live.get(*key)
        if attempt is not None and not attempt.is_ending:
            self.let_go(attempt)

    def let_go(self, attempt: LiveAttempt) -> None:
        """Another server has it, or has had it: whatever is known of it here is void."""
        attempt.is_ending = True
        if attempt.run is not None:
            attempt.run.abandon()
            attempt.run = None
        attempt.log.is_moved = True
        self._forget(attempt)
        self.changes.tell(attempt.job.id)

    async def expire(self) -> None:
        """Give up what this server holds and no worker presents in time, for ever."""
        await self.live.expire(self.lose)

    def lose(self, attempt: LiveAttempt) -> None:
        """Nobody has come for it."""
        attempt.deadline = None
        self.end(attempt, Outcome(Reason.WORKER_LOST, output_bytes=attempt.log.size))

    def on_capacity(self) -> None:
        self.wake()

    def adopt(self, run: Run, size: int) -> Adoption | None:
        attempt = self.live.named(run.id)
        if attempt is None or attempt.is_ending or attempt.run is not None:
            return None
        if attempt.job.worker_id != run.worker_id:
            return None  # it was claimed for another worker, who may come with it yet
        attempt.run = run
        attempt.deadline = None
        attempt.log.skip_dropped(size)
        job = attempt.job
        kill = self._kills.pop(job.id, None)
        if kill is not None:
            run.kill(*kill)
        elif job.cancel_requested:
            self._kill(job)
        limits = attempt.limits
        return Adoption(
            attempt, attempt.log.size, limits.max_log_size, limits.detach, slots=job.spec.slots
        )

    def on_worker(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        self.events.tell_worker(event, worker)
        self._roster.see(event, worker)
        if event is WorkerEvent.LEFT:
            for run_id in worker.running:
                attempt = self.live.named(run_id)
                if attempt is not None and not attempt.is_ending:
                    self.events.tell_run("job.detached", attempt.job, worker.name)

    def on_stale(self) -> None:
        self.tally.stale += 1

    def on_protocol_error(self) -> None:
        self.tally.protocol_errors += 1

    def on_worker_ready(self, worker_id: str, boot: str, held: frozenset[str]) -> None:
        for run_id in held:
            back = self.live.named(run_id)
            if back is None or back.is_ending:
                continue
            if back.is_started:
                self.events.tell_run("job.attached", back.job, back.job.worker)
            elif back.run is not None:
                back.on_started(back.run, None)  # it said so into a cut
        for attempt in self.live:
            job = attempt.job
            if attempt.deadline is None or job.worker_id != worker_id or attempt.id in held:
                continue
            if job.worker_boot == boot and not attempt.log.size:
                attempt.deadline = None
                self.end(attempt, Outcome(Reason.REFUSED))  # the server died before it sent it
            else:
                self.lose(attempt)

    def live_log(self, job: Job, number: int) -> AttemptLog | None:
        """The log of an attempt that is live here, and this server's, as the job says."""
        attempt = self.live.get(job.id, number)
        is_own = job.attempt == number and job.server == self.server
        return attempt.log if attempt is not None and is_own else None


def _job_variables(job: Job) -> dict[str, str]:
    variables = {
        "JOB_ID": str(job.id), "JOB_ATTEMPT": str(job.attempt), "JOB_SLOTS": str(job.spec.slots)
    }  # fmt: skip
    if job.spec.name is not None:
        variables["JOB_NAME"] = job.spec.name
    if job.spec.group is not None:
        variables["JOB_GROUP"] = job.spec.group
    return variables
