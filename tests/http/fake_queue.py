"""A small queue in memory that keeps what it is given: jobs, attempts, output, cancellations.

It owns no policy. Tests play the worker: `start`, `write`, `finish`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import trio

from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.events import Events
from queued_runner.explain import Explanation, Situation, explain
from queued_runner.jobs import Attempt, Job, JobSpec, JobState, Limits
from queued_runner.queue import (
    BadDependency,
    Head,
    JobNotFound,
    KeyConflict,
    NoRoom,
    NotEnded,
    Record,
    ResultGone,
    ResultNotFound,
    ServerInfo,
)
from queued_runner.tally import Figures, Tally
from remote_runner.results import LeftOut, ResultFile
from remote_runner.types import WorkerInfo

NOW = 1_700_000_000.0


def blank(record: type, **known: Any) -> Any:
    """A record whose other fields are None."""
    return record(**{item.name: known.get(item.name) for item in fields(record)})


@dataclass
class FakeQueue:
    is_accepting: bool = True
    is_full: bool = False
    jobs: dict[int, Job] = field(default_factory=dict)
    tries: dict[int, list[Attempt]] = field(default_factory=dict)
    output: dict[tuple[int, int], list[Record]] = field(default_factory=dict)
    left: dict[tuple[int, int], dict[str, bytes]] = field(default_factory=dict)
    """The files that attempts left."""
    left_out: dict[tuple[int, int], list[LeftOut]] = field(default_factory=dict)
    has_lost_results: bool = False
    cancels: list[tuple[int, str | None, float | None]] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    prunes: list[tuple[float, bool]] = field(default_factory=list)
    waiters: int = 0
    """How many have asked to wait for the end of a job."""
    followers: int = 0
    """How many have asked to follow an output."""
    looks: int = 0
    """How many have asked for the workers."""
    obeys: bool = True
    """Whether a cancelled job ends."""
    has_worker: bool = True
    broken: bool = False
    drained: set[str] = field(default_factory=set)
    """Ids of workers: of the one that is here, and of others that are away."""
    leaves: bool = False
    """Whether the worker leaves by itself."""
    events: Events = field(default_factory=lambda: Events("b", lambda: NOW))

    def __post_init__(self) -> None:
        self.changed = trio.Event()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    # What tests do in place of a worker.

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that changes here is so."""
        while not condition():
            await self.changed.wait()

    def add(self, *specs: JobSpec) -> list[int]:
        """Queue jobs and give their ids."""
        ids = []
        for spec in specs:
            known = [job for job in self.jobs.values() if spec.key and job.spec.key == spec.key]
            if known:
                if known[0].spec != spec:
                    raise KeyConflict(known[0].id)
                ids.append(known[0].id)
                continue
            known = {*self.jobs, *(job.spec.key for job in self.jobs.values())}
            unknown = [other for other in spec.after if other not in known]
            if unknown:
                raise BadDependency(f"there is no job {unknown[0]}", len(ids), 0)
            job_id = max(self.jobs, default=0) + 1
            self.jobs[job_id] = blank(
                Job,
                id=job_id,
                spec=spec,
                state=JobState.QUEUED,
                attempt=0,
                created_at=NOW,
                run_after=NOW,
                cancel_requested=False,
                failures=0,
                losses=0,
                log_bytes=0,
                log_dropped=0,
                after=tuple(other for other in spec.after if isinstance(other, int)),
                waits_for=0,
                is_awaited=False,
            )
            ids.append(job_id)
        self._change()
        return ids

    def start(self, job_id: int, worker: str = "w1") -> None:
        job = self.jobs[job_id]
        number = job.attempt + 1
        self.jobs[job_id] = replace(
            job, state=JobState.RUNNING, attempt=number, worker=worker, started_at=NOW + 1
        )
        self.tries.setdefault(job_id, []).append(
            blank(
                Attempt,
                job_id=job_id,
                number=number,
                worker=worker,
                started_at=NOW + 1,
                log_bytes=0,
                log_dropped=0,
            )
        )
        self.output[job_id, number] = []
        self._change()

    def write(self, job_id: int, stream: str, data: bytes) -> None:
        key = (job_id, self.jobs[job_id].attempt)
        records = self.output[key]
        offset = records[-1].offset + len(records[-1].data) if records else 0
        records.append(Record(offset, 5, stream, data))
        self._change()

    def finish(
        self,
        job_id: int,
        exit_code: int | None = 0,
        *,
        reason: str = "exit",
        signal: str | None = None,
        state: JobState | None = None,
        retry: bool = False,
        dropped: int = 0,
    ) -> None:
        job = self.jobs[job_id]
        if self.tries.get(job_id):
            last = self.tries[job_id][-1]
            size = sum(len(item.data) for item in self.output[job_id, last.number])
            self.tries[job_id][-1] = replace(
                last,
                finished_at=NOW + 3,
                reason=reason,
                exit_code=exit_code,
                signal=signal,
                log_bytes=size,
                log_dropped=dropped,
            )
        good = reason == "exit" and exit_code == 0
        if state is None:
            state = JobState.SUCCEEDED if good else JobState.FAILED
        if retry:
            state = JobState.QUEUED
        self.jobs[job_id] = replace(
            job,
            state=state,
            reason=reason,
            exit_code=exit_code,
            signal=signal,
            finished_at=None if retry else NOW + 3,
        )
        self._change()

    def end_and_delete(self, job_id: int) -> None:
        """Both before anybody looks."""
        self.finish(job_id)
        del self.jobs[job_id]
        self._change()

    # The protocol.

    async def check_room(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise NoRoom("the disk is full; free some space")

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[int]:
        if self.broken:
            raise RuntimeError("secret detail of the store")
        await self.check_room()
        return self.add(*specs)

    async def get(self, job_id: int) -> Job:
        await trio.lowlevel.checkpoint()
        if job_id not in self.jobs:
            raise JobNotFound(job_id)
        return self.jobs[job_id]

    async def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        found = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: -job.id)
            if state in (None, job.state)
            and group in (None, job.spec.group)
            and name in (None, job.spec.name)
            and (before is None or job.id < before)
        ]
        return found[:limit]

    async def attempts(self, job_id: int) -> list[Attempt]:
        return self.tries.get(job_id, [])

    async def cancel(
        self, job_id: int, *, signal: str | None = None, grace: float | None = None
    ) -> Job:
        job = await self.get(job_id)
        self.cancels.append((job_id, signal, grace))
        self._change()
        if self.obeys and not job.state.is_terminal:
            self.finish(job_id, None, reason="killed", signal="SIGTERM", state=JobState.CANCELLED)
        return self.jobs[job_id]

    async def records(
        self, job_id: int, *, attempt: int | None = None, offset: int = 0, follow: bool = True
    ) -> AsyncIterator[Record]:
        number = attempt or max(self.jobs[job_id].attempt, 1)
        self.followers += follow
        self._change()
        index = 0
        while True:
            changed = self.changed
            records = self.output.get((job_id, number), [])
            while index < len(records):
                record = records[index]
                index += 1
                skip = max(0, offset - record.offset)
                if skip < len(record.data):
                    yield replace(record, offset=record.offset + skip, data=record.data[skip:])
            if job_id not in self.jobs:
                raise JobNotFound(job_id)
            job = self.jobs[job_id]
            tries = self.tries.get(job_id, [])
            ended = len(tries) >= number and tries[number - 1].finished_at is not None
            if not follow or ended or job.state.is_terminal:
                return
            await changed.wait()

    async def results(self, job_id: int, *, attempt: int | None = None) -> Head:
        key = (job_id, attempt or self.jobs[job_id].attempt)
        files = tuple(ResultFile(name, len(data)) for name, data in self.left.get(key, {}).items())
        left_out = tuple(self.left_out.get(key, ()))
        return Head(files, left_out, len(left_out))

    async def read_result(
        self, job_id: int, name: str, *, attempt: int | None = None
    ) -> tuple[int, AsyncIterator[bytes]]:
        data = self.left.get((job_id, attempt or self.jobs[job_id].attempt), {}).get(name)
        if data is None:
            raise ResultNotFound(name)
        return len(data), self._pieces(data)

    async def _pieces(self, data: bytes) -> AsyncIterator[bytes]:
        if self.has_lost_results:
            raise ResultGone("it cannot be read any more")
        for start in range(0, len(data), 1000):
            await trio.lowlevel.checkpoint()
            yield data[start : start + 1000]

    async def wait(self, job_id: int) -> Job:
        self.waiters += 1
        self._change()
        while not (await self.get(job_id)).state.is_terminal:
            await self.changed.wait()
        return self.jobs[job_id]

    def workers(self) -> Sequence[WorkerInfo]:
        self.looks += 1
        self._change()
        state = "draining" if "1" in self.drained else "ready"
        worker = WorkerInfo("1", "w1", state, 4, 3, {"gpu": "1"}, "0.1", "127.0.0.1:9", ("1.1",))
        return [worker] if self.has_worker else []

    async def all_workers(self) -> Sequence[WorkerInfo]:
        return [*self.workers(), *self.drained_away()]

    async def servers(self) -> Sequence[ServerInfo]:
        return [ServerInfo("fake", "f1", 0.0, 1, 0)]

    async def servers_of(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        return ["fake" if job.state is JobState.RUNNING else None for job in jobs]

    def drained_away(self) -> Sequence[WorkerInfo]:
        here = {worker.id for worker in self.workers()}
        return [
            WorkerInfo(worker_id, f"name-{worker_id}", "away", 0, 0, {}, "", "")
            for worker_id in sorted(self.drained - here)
        ]

    def _worker(self, worker_id: str) -> WorkerInfo:
        for worker in (*self.workers(), *self.drained_away()):
            if worker.id == worker_id:
                return worker
        raise WorkerNotFound(worker_id)

    async def drain_worker(self, worker_id: str) -> WorkerInfo:
        self._worker(worker_id)
        self.drained.add(worker_id)
        self._change()
        return self._worker(worker_id)

    async def resume_worker(self, worker_id: str) -> WorkerInfo:
        worker = self._worker(worker_id)
        self.drained.discard(worker_id)
        self._change()
        if self.leaves:
            raise WorkerLeaves(worker.name)
        return worker if worker.state == "away" else self._worker(worker_id)

    async def figures(self) -> Figures:
        return Figures(
            tally=Tally(added=len(self.jobs)),
            jobs=dict.fromkeys(JobState, 0),
            running=0,
            unacknowledged=0,
            commits=0,
            operations=0,
            log_bytes=0,
            workers={"ready": 1},
            slots=4,
            free=3,
            server="fake",
            server_id="f1",
            is_shared=False,
            servers=1,
            is_up=True,
        )

    async def explain(self, job_id: int) -> Explanation:
        job = await self.get(job_id)
        situation = Situation(NOW, True, self.workers(), Limits())
        return explain(
            job, situation, [(other, self.jobs[other].state, True) for other in job.after]
        )

    async def counts(self, group: str | None = None) -> Mapping[JobState, int]:
        return Counter(job.state for job in self.jobs.values() if group in (None, job.spec.group))

    async def retry(self, job_id: int) -> Job:
        job = await self.get(job_id)
        if not job.state.is_terminal:
            raise NotEnded(job_id, job.state)
        self.retries.append(job_id)
        self.jobs[job_id] = replace(
            job, state=JobState.QUEUED, reason=None, exit_code=None, signal=None, finished_at=None
        )
        self._change()
        return self.jobs[job_id]

    async def delete(self, job_id: int) -> None:
        job = await self.get(job_id)
        if not job.state.is_terminal:
            raise NotEnded(job_id, job.state)
        del self.jobs[job_id]
        self._change()

    async def prune(self, older_than: float, *, keep_failed: bool = False) -> int:
        self.prunes.append((older_than, keep_failed))
        kept = (JobState.FAILED, JobState.CANCELLED) if keep_failed else ()
        old = [i for i, job in self.jobs.items() if job.state.is_terminal and job.state not in kept]
        for job_id in old[:2]:  # little by little, as a large queue
            await self.delete(job_id)
        return len(old[:2])

    async def pending_reasons(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        return [self.pending_reason(job) for job in jobs]

    def pending_reason(self, job: Job) -> str | None:
        return "no worker is connected" if job.state is JobState.QUEUED else None
