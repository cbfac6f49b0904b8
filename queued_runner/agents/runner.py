"""`AgentRunner`: runs jobs at agents that pull them over HTTP. A plug of the queue like any other.

Owns who waits for a job, which attempts agents have, and their ends. It has no queue of its own:
an agent that pulls is room for one job, which the next claim may fill. It speaks no HTTP, and what
it answers to output or an end is durable by then.
"""

import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog
import trio

from queued_runner.agents.agent import ANONYMOUS, PREFIX, Agent, shown
from queued_runner.agents.bash import MAX_TEXT, bash_text
from queued_runner.agents.chunks import TooEarly, TooLate
from queued_runner.agents.ended_tasks import EndedTasks
from queued_runner.agents.run import GAP, STREAMS, AgentRun
from queued_runner.agents.tasks import (
    Report,
    Task,
    TaskOver,
    UnknownTask,
    attempt_of,
    run_id_of,
    task_id,
)
from queued_runner.jobs import Attempt, Job, JobState, Limits, attempt_id
from queued_runner.logs import Logs
from queued_runner.store.base import JobNotFound, Store
from queued_runner.store.commit import GroupCommit
from remote_runner.errors import DuplicateRun, NoWorkerAvailable
from remote_runner.run import Nobody
from remote_runner.types import (
    Command,
    Host,
    JobRunner,
    Observer,
    Offer,
    Outcome,
    Output,
    Reason,
    Slot,
    StreamName,
    WorkerInfo,
    satisfies,
)

log = structlog.get_logger("queued_runner")

LONG_GAP: Final = 60.0
"""Seconds after which a missing chunk is given up while its attempt runs, if there is no room left
for what waits for it: who has not sent it by then, and sends on, does not send it again."""
SEEN: Final = 60.0
"""Seconds for which an agent that has pulled, and runs nothing, is shown as a worker."""
MAX_SEEN: Final = 10_000


class _Pull:
    """An agent that waits for a job; `task` is the one it got."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.run: AgentRun | None = None
        self.task: Task | None = None
        self.is_open = True
        """Whether a claim that is made now may still fill it."""

    def close(self, _: object = None) -> None:
        """Its answer is on its way."""
        self.is_open = False


class AgentRunner(JobRunner):
    """The runner behind `POST /tasks/pull`. One `open` a life.

    Args:
        commits: the one writer of the store. logs: output at rest.
        limits: of jobs that name none of their own.
        recall: has the host hold the attempt of a job that is nobody's; None: there is no other
            server that could have had it.
    """

    def __init__(
        self,
        commits: GroupCommit,
        logs: Logs,
        limits: Limits,
        *,
        recall: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._commits = commits
        self._recall_job = recall
        self._logs = logs
        self._limits = limits
        self._host: Host | None = None
        self._pulls: list[_Pull] = []
        self._runs: dict[str, AgentRun] = {}
        self._seen: OrderedDict[str, tuple[Agent, float]] = OrderedDict()
        self._drained: set[str] = set()
        self._changed = trio.Event()
        self._ended = EndedTasks(commits, logs, limits)
        self._recalling = trio.Lock()

    @asynccontextmanager
    async def open(self, host: Host | None = None) -> AsyncIterator[None]:
        """Give out jobs while entered; what agents have, they keep beyond it."""
        async with trio.open_nursery() as nursery:
            self._host = host
            await self._recall()
            nursery.start_soon(self._watch)
            try:
                yield
            finally:
                self._host = None
                nursery.cancel_scope.cancel()

    async def _recall(self) -> None:
        """Take on what agents have from an earlier server: their leases begin afresh."""
        for job, attempt in await self._commits.call(_running):
            await self._take_on(job, attempt)

    async def _take_on(self, job: Job, attempt: Attempt) -> None:
        """Take on an attempt that the host holds; any other is let be."""
        if self._host is None:
            return
        run_id = attempt_id(job.id, job.attempt)
        worker_id = job.worker_id or PREFIX
        run = AgentRun(
            self, run_id, Nobody(), job.worker or ANONYMOUS, worker_id, job.worker_boot or "",
            has_heartbeat=worker_id != PREFIX,
            command=job.spec.to_command({}, job.spec.limits(self._limits)),
        )  # fmt: skip
        adoption = self._host.adopt(run, 0)
        if adoption is None:
            return
        run.observer = adoption.observer
        offset = adoption.offset
        run.go_on(offset, await self._logs.count(job.id, job.attempt, offset))
        if attempt.reason is not None:
            run.outcome = Outcome(
                Reason(attempt.reason), attempt.exit_code, attempt.signal, run.received
            )
        self._runs[run_id] = run

    async def recall(self, task: int) -> None:
        """An agent speaks of a task: if that was given by a server which is dead, and nobody has it
        by now, it is this one's from here on. What a server has that lives is never taken."""
        run_id = run_id_of(task)
        if self._recall_job is None or run_id in self._runs:
            return
        job_id, number = attempt_of(task)
        async with self._recalling:
            if run_id in self._runs:
                return
            await self._recall_job(job_id)
            found = await self._commits.call(lambda store: _running(store, job_id))
            for job, attempt in found:
                if job.attempt == number:
                    await self._take_on(job, attempt)
                    self._changed.set()

    # --- the plug ---

    def offers(self, limit: int) -> Sequence[Offer]:
        waiting: dict[tuple[tuple[str, str], ...], list[Slot]] = {}
        for pull in self._pulls:
            slots = waiting.setdefault(tuple(sorted(pull.agent.labels.items())), [])
            if pull.is_open and pull.run is None and len(slots) < limit:
                slots.append(Slot(pull.agent.name, pull.agent.worker_id, pull.agent.boot))
        return [Offer(dict(labels), tuple(slots)) for labels, slots in waiting.items() if slots]

    def start(
        self,
        run_id: str,
        command: Command,
        needs: Mapping[str, str],
        observer: Observer,
        worker_id: str | None = None,
    ) -> AgentRun:
        if run_id in self._runs:
            raise DuplicateRun(f"the run {run_id} is already known here")
        pull = self._choose(needs, worker_id)
        number = task_id(run_id)
        if pull is None or number is None:
            raise NoWorkerAvailable("no agent with the labels needed is waiting for a job")
        agent = pull.agent
        run = AgentRun(
            self, run_id, observer, agent.name, agent.worker_id, agent.boot,
            has_heartbeat=agent.id is not None, command=command,
        )  # fmt: skip
        self._runs[run_id] = run
        text = bash_text(replace(command, env={**command.env, "JOB_WORKER": agent.name}))
        if len(text.encode()) > MAX_TEXT:
            self._refuse(run)
            return run
        pull.run, pull.task = run, Task(number, text)
        self._changed.set()
        observer.on_started(run, None)
        return run

    def _choose(self, needs: Mapping[str, str], worker_id: str | None) -> _Pull | None:
        for pull in self._pulls:
            is_meant = worker_id is None or worker_id == pull.agent.worker_id
            if pull.run is None and is_meant and satisfies(pull.agent.labels, needs):
                return pull
        return None

    def _refuse(self, run: AgentRun) -> None:
        """It can be run by no agent: it ends as where it cannot be started."""
        line = (
            f"duplex-runner: the command and its input have more than {MAX_TEXT:,} bytes, which no"
            " agent can run; put them into a file, or give the job `needs` that agents lack\n"
        )
        self._emit(run, "stderr", line.encode())
        self._end(run, Outcome(Reason.SPAWN_ERROR, exit_code=126, output_bytes=run.received))

    def workers(self) -> Sequence[WorkerInfo]:
        running: dict[str, list[AgentRun]] = {}
        for run in self._runs.values():
            running.setdefault(run.worker_id, []).append(run)
        self._forget_unseen(running)
        found = {worker_id: agent for worker_id, (agent, _) in self._seen.items()}
        for worker_id, runs in running.items():
            if worker_id not in found:  # from an earlier server
                name = runs[0].worker
                agent_id = worker_id.removeprefix(PREFIX) or None
                found[worker_id] = Agent(agent_id, name=name, slots=len(runs))
        return [
            shown(agent, running.get(worker_id, []), is_drained=worker_id in self._drained)
            for worker_id, agent in found.items()
        ]

    def speak_until(self, deadline: float) -> None:
        pass

    def hang_up(self) -> None:
        pass  # each request is a connection of its own

    def drain(self, worker_id: str) -> None:
        if worker_id.startswith(PREFIX):
            self._drained.add(worker_id)

    def resume(self, worker_id: str) -> None:
        self._drained.discard(worker_id)

    def _forget_unseen(self, running: Mapping[str, object]) -> None:
        now = trio.current_time()
        for worker_id, (_, at) in list(self._seen.items()):
            if now - at > SEEN and worker_id not in running:
                del self._seen[worker_id]

    # --- what agents say ---

    async def pull(self, agent: Agent) -> Task | None:
        """A job for this agent, if there is one. What it gets is its own unless it is given back.

        Raises:
            StoreError: there was no room on the disk to claim one.
        """
        self._seen[agent.worker_id] = (agent, trio.current_time())
        self._seen.move_to_end(agent.worker_id)
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        if self._host is None or agent.worker_id in self._drained:
            return None
        if agent.id is not None:
            self._end_missing(agent)
        pull = _Pull(agent)
        self._pulls.append(pull)
        try:
            self._host.on_capacity()
            # With this commit goes the claim that was asked for. The next one comes too late.
            await self._commits.call(_nothing, pull.close)
        except BaseException:
            if pull.task is not None:
                self.give_back(pull.task)
            raise
        finally:
            self._pulls.remove(pull)
        return pull.task

    def _end_missing(self, agent: Agent) -> None:
        """What this agent was given and does not have: it is lost, or never arrived there."""
        for run in list(self._runs.values()):
            is_settled = run.is_ended or run.outcome is not None
            if run.worker_id != agent.worker_id or is_settled or task_id(run.id) in agent.held:
                continue
            if run.boot == agent.boot and not run.has_begun:
                self._end(run, Outcome(Reason.GIVEN_BACK))
            else:
                self._lose(run)

    def give_back(self, task: Task) -> None:
        """The agent did not get it: it has never begun, and others may have it."""
        run = self._runs.get(run_id_of(task.id))
        if run is not None and not run.is_ended:
            self._end(run, Outcome(Reason.GIVEN_BACK))

    async def take(self, task: int, stream: StreamName, index: int, data: bytes) -> None:
        """A chunk of output; returns once it is durable. A repeat is taken once.

        Raises:
            UnknownTask: there is no such task.
            TaskOver: another attempt of the job has begun.
            TooEarly: a chunk before it does not come; it is to be sent again.
            TooLate: it was given up, and others were kept after it.
        """
        await self.recall(task)
        run = self._runs.get(run_id_of(task))
        if run is not None and not run.is_ended:
            run.see_sign()
            is_repeat = run.chunks.is_past(stream, index)
            self._add(run, stream, index, data)
            await self._wait_for_turn(run, stream, index)
            size = run.received
            while run.acked < size and not run.is_forgotten:
                await run.moved.park()
            if is_repeat:
                was_given_up = run.chunks.was_given_up(stream, index)
                if was_given_up:
                    raise TooLate(stream, index)
                if was_given_up is None:
                    await self._ended.require_kept(*attempt_of(task), stream, index)
            return
        while run is not None and not run.is_forgotten:
            await run.moved.park()
        await self._ended.take(*attempt_of(task), stream, index, data)

    def _emit(self, run: AgentRun, stream: StreamName, data: bytes) -> None:
        output = Output(stream, data, run.received, is_awaited=True)
        run.received += len(data)
        run.observer.on_output(run, output)
        run.moved.unpark_all()

    def _add(self, run: AgentRun, stream: StreamName, index: int, data: bytes) -> None:
        """Give out what can be; where there is no room for this chunk, old gaps are given up."""
        if run.is_full:
            self._pass_over(run, stream, index)
        try:
            pieces = run.chunks.add(stream, index, data)
        except TooEarly:
            old = [each for each in STREAMS if run.has_waited(each, LONG_GAP)]
            if not old:
                raise
            for each in old:
                self._give_up(run, each)
            pieces = run.chunks.add(stream, index, data)
        for piece in pieces:
            self._emit(run, stream, piece)
        if run.is_full:
            self._pass_over(run, stream, index)
        run.see_gaps()
        if run.outcome is not None:
            self._changed.set()  # it may be due sooner

    def _pass_over(self, run: AgentRun, stream: StreamName, index: int) -> None:
        """Its output has all the bytes that it may have: what is missing would not be kept."""
        for piece in run.chunks.pass_over(stream, index):
            self._emit(run, stream, piece)

    async def _wait_for_turn(self, run: AgentRun, stream: StreamName, index: int) -> None:
        """Wait for the chunks before it. It is held on where they do not come: it may be sent
        again, and is taken once.

        Raises:
            TooEarly: they did not come.
        """
        with trio.move_on_after(GAP):
            while run.chunks.is_ahead(stream, index):
                await run.moved.park()
        if run.chunks.is_ahead(stream, index):
            raise TooEarly(
                f"chunk {index} of {stream} waits for chunk {run.chunks.missing(stream)}: send that"
                " one, then this one again"
            )

    def _give_up(self, run: AgentRun, stream: StreamName) -> None:
        """Wait no more for what the first chunk that waits needs: a line of the output says so."""
        missing = run.chunks.missing(stream)
        log.warning("output never came", attempt=run.id, stream=stream, chunk=missing)
        for piece in run.chunks.give_up(stream):
            self._emit(run, stream, piece)
        run.see_gaps()

    def _give_up_all(self, run: AgentRun) -> None:
        """Its end has come: wait for nothing more."""
        for stream in STREAMS:
            while run.chunks.missing(stream) is not None:
                self._give_up(run, stream)

    async def report(self, task: int, report: Report) -> None:
        """The end of a task; returns once it is durable. Output may come for a moment after it.

        Raises:
            UnknownTask: there is no such task.
            TaskOver: it has ended already, and otherwise.
        """
        await self.recall(task)
        run = self._runs.get(run_id_of(task))
        if run is None:
            await self._ended.report(*attempt_of(task), report)
            return
        if run.outcome is None and not run.is_ended:
            now = trio.current_time()
            timeout = run.command.timeout
            is_late = timeout is not None and now - run.began >= timeout
            run.outcome = report.outcome(run.received, is_late)
            run.told_at = run.last_sign = now
            self._changed.set()
        if run.outcome is None or run.outcome.is_success != (report.status == "succeeded"):
            raise TaskOver(f"task {task} has ended otherwise before")
        if report.is_complete:
            self._settle(run)
        if run.is_ended:
            while not run.is_forgotten:
                await run.moved.park()
            return
        outcome, (job_id, number) = run.outcome, attempt_of(task)
        await self._commits.call(lambda store: store.report(job_id, number, outcome))

    def heartbeat(self, task: int) -> AgentRun:
        """Renew the lease of a task.

        Raises:
            UnknownTask: there is no such task, or it is over.
        """
        run = self._runs.get(run_id_of(task))
        if run is None or run.is_ended:
            raise UnknownTask(f"there is no task {task} that runs")
        run.see_sign()
        if not run.has_heartbeat:
            run.has_heartbeat = True
            self._changed.set()
        return run

    # --- ends ---

    async def _watch(self) -> None:
        """End what has settled, and what has given no sign of life for its lease."""
        while True:
            self._changed = trio.Event()
            now, due = trio.current_time(), math.inf
            for run in list(self._runs.values()):
                if run.is_ended:
                    continue
                if run.due > now:
                    due = min(due, run.due)
                elif run.outcome is not None:
                    self._settle(run)
                else:
                    self._lose(run)
            with trio.move_on_at(due):
                await self._changed.wait()

    def _lose(self, run: AgentRun) -> None:
        log.warning("agent lost", attempt=run.id, worker=run.worker)
        self._give_up_all(run)
        self._end(run, Outcome(Reason.WORKER_LOST, output_bytes=run.received))

    def _settle(self, run: AgentRun) -> None:
        """Nothing more is expected of it."""
        if run.is_ended or run.outcome is None:
            return
        self._give_up_all(run)
        self._end(run, run.outcome)

    def _end(self, run: AgentRun, outcome: Outcome) -> None:
        run.is_ended = True
        run.moved.unpark_all()
        run.observer.on_closed(run, outcome)

    def forget(self, run: AgentRun) -> None:
        """The run's outcome is durable."""
        self._runs.pop(run.id, None)


def _nothing(store: Store) -> None:
    pass


def _running(store: Store, job_id: int | None = None) -> list[tuple[Job, Attempt]]:
    """What agents have now, each with its attempt; or this job, if one has it."""
    try:
        jobs = store.running() if job_id is None else [store.get(job_id)]
    except JobNotFound:
        return []
    return [
        (job, store.attempts(job.id)[-1])
        for job in jobs
        if job.state is JobState.RUNNING and (job.worker_id or "").startswith(PREFIX)
    ]
