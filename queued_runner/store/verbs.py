"""The verbs that write, for every engine: what a verb decides by is read with a lock, then written.

It leaves to an engine how transactions go, how ids are given out and how a claim takes jobs.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from queued_runner.jobs import Job, JobSpec, JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.retry import Decision
from queued_runner.store import removal
from queued_runner.store.base import (
    Added,
    AttemptKey,
    KeyConflict,
    NotEnded,
    Rescued,
    Settled,
    StoredOutput,
    StoredResults,
    Taken,
    WorkerRecord,
)
from queued_runner.store.database import Database, Dialect
from queued_runner.store.dependencies import Dependencies
from queued_runner.store.graph import NewJob
from queued_runner.store.needs import needs_text
from queued_runner.store.reads import JOB, Reads, job_of
from queued_runner.store.room import Room
from queued_runner.store.servers import Servers
from queued_runner.store.whole import Whole
from remote_runner.results import encode_head
from remote_runner.types import Offer, Outcome, Slot

_MAY_CHANGE: Final = "cancel_requested, cancel_signal, cancel_grace, is_awaited"
"""What may become different of a job while one attempt of it runs and one server has it."""
MAX_DUE: Final = 10_000
"""Delayed jobs that one claim makes ready: bounds the time that its transaction takes."""


class Verbs(Reads, ABC):
    """One connection that writes; see `base.Store` for the verbs, `Reads` for the arguments."""

    def __init__(self, db: Database, dialect: Dialect, guard: AbstractContextManager[None]) -> None:
        super().__init__(db, dialect, guard)
        self._dependencies = Dependencies(db, dialect)
        self._servers = Servers(db, dialect)
        self.whole = Whole(db, dialect, guard)
        self._claimed: dict[int, Job] = {}
        """The jobs that this connection has claimed, or taken over, and not finished."""
        self.kept: Mapping[str, int] = {}

    # --- submitting ---

    @abstractmethod
    def _new_ids(self, number: int) -> Iterator[int]:
        """So many ids that no job has ever had, in their order; not all need be used."""

    def add(self, specs: Sequence[JobSpec], now: float) -> Added:
        with self._guard:
            new_ids = self._new_ids(len(specs))
            known = self._keyed({spec.key for spec in specs if spec.key is not None})
            ids: list[int] = []
            rows: list[tuple[Any, ...]] = []
            fresh: dict[str, tuple[int, JobSpec]] = {}
            added: set[int] = set()
            later: dict[int, NewJob] = {}
            later_rows: list[tuple[Any, ...]] = []
            for index, spec in enumerate(specs):
                if spec.key is not None:
                    if spec.key in fresh:
                        job_id, earlier = fresh[spec.key]
                        if spec != earlier:
                            raise KeyConflict(None)
                        ids.append(job_id)
                        continue
                    if spec.key in known:
                        job_id, text = known[spec.key]
                        if JobSpec.model_validate_json(text) != spec:
                            raise KeyConflict(job_id)
                        ids.append(job_id)
                        continue
                job_id = next(new_ids)
                added.add(job_id)
                if spec.key is not None:
                    fresh[spec.key] = (job_id, spec)
                row = (
                    job_id, spec.model_dump_json(exclude_defaults=True), spec.name, spec.group,
                    spec.key, spec.priority, needs_text(spec.all_needs, spec.slots),
                    int(spec.delay > 0), now, now + spec.delay, spec.detach,
                )  # fmt: skip
                if spec.after:
                    later[job_id] = NewJob(index, spec)
                    later_rows.append(row)
                else:
                    rows.append(row)
                ids.append(job_id)
            waits = None
            if later:
                keys = {
                    spec.key: job_id for spec, job_id in zip(specs, ids, strict=True) if spec.key
                }
                waits = self._dependencies.waits(later, keys)
            self._db.executemany(
                "INSERT INTO jobs (id, spec, name, grp, key, priority, needs, is_delayed,"
                " created_at, run_after, detach, state)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')",
                rows,
            )
            if waits is not None:
                self._dependencies.insert(later_rows, waits, now)
            return Added(ids, frozenset(added))

    def _keyed(self, keys: Collection[str]) -> dict[str, tuple[int, str]]:
        """The ids and specs of the jobs that were added with these keys."""
        if not keys:
            return {}
        rows = self._db.execute(
            f"SELECT key, id, spec FROM jobs WHERE key {self._sql.among}",
            (self._sql.listed(keys),),
        )
        return {key: (job_id, text) for key, job_id, text in rows}

    # --- running ---

    @abstractmethod
    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]: ...

    def _make_ready(self, now: float) -> None:
        """Delayed jobs that are due can be claimed."""
        # An update that finds nothing, as nearly all would, takes three times as long as a look.
        due = [
            job_id
            for (job_id,) in self._db.execute(
                f"SELECT id FROM {self._sql.delayed}"
                " WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0 AND run_after <= ?"
                f" ORDER BY run_after LIMIT ?{self._sql.pass_by}",
                (now, MAX_DUE),
            )
        ]
        if due:
            self._db.execute(
                f"UPDATE jobs SET is_delayed = 0 WHERE id {self._sql.among}",
                (self._sql.listed(due),),
            )

    def _choose(
        self, offers: Sequence[Offer], limit: int, lost: Collection[int] = ()
    ) -> dict[int, Slot]:
        """The ready jobs that get slots, by priority, then by age; and which. None of `lost`."""
        room = Room(offers, self._next_needs)
        but, others = (
            (f" AND NOT id {self._sql.among}", (self._sql.listed(lost),)) if lost else ("", ())
        )
        candidates: list[tuple[int, int, str]] = []
        for needs, size in room.sizes():
            candidates += self._db.execute(
                f"SELECT -priority, id, needs FROM {self._sql.ready}"
                f" WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0 AND needs = ?{but}"
                " ORDER BY priority DESC, id LIMIT ?",
                (needs, *others, min(size, limit)),
            )
        candidates.sort()
        taken = ((job_id, room.take(needs, job_id)) for _, job_id, needs in candidates)
        chosen = dict(islice(((job_id, slot) for job_id, slot in taken if slot), limit))
        self.kept = room.kept
        return chosen

    def _next_needs(self, after: str) -> str | None:
        value: str | None = self._value(
            f"SELECT needs FROM {self._sql.ready}"
            " WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0 AND needs > ?"
            " ORDER BY needs LIMIT 1",
            after,
        )
        return value

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
        with self._guard:
            known = self._claimed.get(job_id)
            if known is not None and (known.attempt, known.handovers) != (attempt, handovers):
                known = None
            row = self._db.execute(
                f"SELECT {JOB if known is None else _MAY_CHANGE} FROM jobs"
                " WHERE id = ? AND attempt = ? AND state = 'running'"
                f" AND handovers = ? AND server IS NOT DISTINCT FROM ?{self._sql.lock}",
                (job_id, attempt, handovers, self._servers.own),
            ).fetchone()
            if row is None:
                return None
            self._claimed.pop(job_id, None)
            job = job_of(row) if known is None else _changed(known, *row)
            decision = decide(job)
            state = move(job.state, decision.event)
            is_over = state is not JobState.QUEUED
            # Nothing is read back, so that PostgreSQL need not be waited for.
            ended = replace(
                job,
                state=state,
                reason=decision.reason or outcome.reason.value,
                exit_code=outcome.exit_code,
                signal=outcome.signal,
                run_after=job.run_after if is_over else decision.run_after,
                finished_at=now if is_over else None,
                failures=job.failures + decision.is_failure,
                losses=job.losses + decision.is_loss,
                log_bytes=output.size,
                log_dropped=output.dropped,
            )
            self._db.execute(
                "UPDATE jobs SET state = ?, is_delayed = ?, reason = ?, exit_code = ?, signal = ?,"
                " run_after = ?, finished_at = ?, failures = ?, losses = ?, log_bytes = ?,"
                " log_dropped = ? WHERE id = ?",
                (
                    state.value, int(not is_over), ended.reason, ended.exit_code, ended.signal,
                    ended.run_after, ended.finished_at, ended.failures, ended.losses,
                    ended.log_bytes, ended.log_dropped, job_id,
                ),
            )  # fmt: skip
            self._db.execute(
                "UPDATE attempts SET finished_at = ?, reason = ?, exit_code = ?, signal = ?,"
                " duration = ?, max_rss = ?, cpu_time = ?, log_bytes = ?, log_dropped = ?,"
                " output = ? WHERE job_id = ? AND number = ?",
                (
                    now, outcome.reason.value, outcome.exit_code, outcome.signal,
                    outcome.duration, outcome.max_rss, outcome.cpu_time, output.size,
                    output.dropped, output.inline, job_id, attempt,
                ),
            )  # fmt: skip
            if is_over and job.is_awaited:
                self._dependencies.owe([job_id])
            return ended

    def report(self, job_id: int, attempt: int, outcome: Outcome) -> bool:
        with self._guard:
            row = self._db.execute(
                "UPDATE attempts SET reason = ?, exit_code = ?, signal = ?"
                " WHERE number = ? AND job_id "
                + self._sql.within.format(
                    "SELECT id FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'"
                    f" AND server IS NOT DISTINCT FROM ?{self._sql.lock}"
                )
                + " RETURNING number",
                (
                    outcome.reason.value, outcome.exit_code, outcome.signal, attempt, job_id,
                    attempt, self._servers.own,
                ),
            ).fetchone()  # fmt: skip
        return row is not None

    def lengthen(self, job_id: int, attempt: int, size: int, dropped: int) -> None:
        with self._guard:
            for table, number in (("attempts", "number"), ("jobs", "attempt")):
                key = "job_id" if table == "attempts" else "id"
                self._db.execute(
                    f"UPDATE {table} SET log_bytes = ?, log_dropped = log_dropped + ?"
                    f" WHERE {key} = ? AND {number} = ? AND finished_at IS NOT NULL",
                    (size, dropped, job_id, attempt),
                )

    def add_results(self, job_id: int, attempt: int, results: StoredResults) -> None:
        with self._guard:
            self._db.execute(
                "INSERT INTO results (job_id, number, head, start, data, epoch)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    job_id, attempt, encode_head(results.head), results.start, results.inline,
                    results.epoch,
                ),
            )  # fmt: skip

    # --- cancelling ---

    def cancel(
        self, job_id: int, now: float, signal: str | None = None, grace: float | None = None
    ) -> Job:
        job = self._find(job_id, self._sql.lock)
        if job.state.is_terminal:
            return job
        with self._guard:
            if job.state is JobState.RUNNING:
                self._db.execute(
                    "UPDATE jobs SET cancel_requested = 1, cancel_signal = ?, cancel_grace = ?"
                    " WHERE id = ?",
                    (signal, grace, job_id),
                )
            else:
                state = move(job.state, JobEvent.CANCEL)
                self._db.execute(
                    "UPDATE jobs SET state = ?, reason = 'cancelled', cancel_requested = 1,"
                    " finished_at = ? WHERE id = ?",
                    (state.value, now, job_id),
                )
                if job.is_awaited:
                    self._dependencies.owe([job_id])
        return self.get(job_id)

    # --- jobs that come after others ---

    def settle(self, now: float) -> Settled:
        with self._guard:
            return self._dependencies.settle(now)

    def revive(self, job_id: int, now: float) -> Job:
        job = self._find(job_id, self._sql.lock)
        if not job.state.is_terminal:
            raise NotEnded(job_id, job.state)
        state = move(job.state, JobEvent.REVIVE)
        with self._guard:
            self._db.execute(
                "UPDATE jobs SET state = ?, is_delayed = 0, run_after = ?, reason = NULL,"
                " exit_code = NULL, signal = NULL, worker = NULL, worker_id = NULL,"
                " worker_boot = NULL, started_at = NULL, finished_at = NULL, failures = 0,"
                " losses = 0, cancel_requested = 0, cancel_signal = NULL, cancel_grace = NULL,"
                " waits_for = 0 WHERE id = ?",
                (state.value, now, job_id),
            )
            self._dependencies.look_again(job_id, job.after, now)
        return self.get(job_id)

    # --- servers ---

    @abstractmethod
    def time(self, now: float) -> float: ...

    @abstractmethod
    def _of_others(self, worker_id: str) -> tuple[str, tuple[str | None, ...]]:
        """What is true, with these bindings, of a worker's running jobs that are not this
        server's."""

    def enlist(self, server: str, name: str, now: float) -> None:
        with self._guard:
            self._servers.enlist(server, name, now)

    def beat(self, now: float) -> None:
        with self._guard:
            self._servers.beat(now)

    def bury(self, server: str, at: float, detach: float) -> None:
        with self._guard:
            self._servers.bury(server, at, detach)

    def bury_others(self, at: float, detach: float) -> None:
        with self._guard:
            self._servers.bury_others(at, detach)

    def take_over(self, worker: WorkerRecord, held: Sequence[AttemptKey]) -> Taken | None:
        with self._guard:
            if not self._servers.admit(worker):
                return None
            lost = self.moved(held)
            where, bindings = self._of_others(worker.worker_id)
            return Taken(self._take(where, bindings, self._sql.lock), lost)

    def _take(self, where: str, bindings: tuple[Any, ...], rest: str) -> tuple[Job, ...]:
        """The running jobs of which this is true, which are this server's now."""
        rows = self._db.execute(
            f"SELECT {JOB} FROM jobs WHERE state = 'running' AND {where}{rest}", bindings
        )
        jobs = sorted((job_of(row) for row in rows), key=lambda job: job.id)
        self._servers.take([job.id for job in jobs])
        taken = tuple(
            replace(job, server=self._servers.own, handovers=job.handovers + 1) for job in jobs
        )
        self._claimed |= {job.id: job for job in taken}
        return taken

    def moved(self, attempts: Sequence[AttemptKey]) -> frozenset[AttemptKey]:
        with self._guard:
            lost = self._servers.not_own(attempts)
            for job_id, _ in lost:
                self._claimed.pop(job_id, None)
            return lost

    def keep_output_at(self, place: str) -> str:
        with self._guard:
            self._db.execute("UPDATE identity SET output = ? WHERE output IS NULL", (place,))
            return str(self._value("SELECT output FROM identity"))

    def see_worker(self, worker: WorkerRecord) -> None:
        with self._guard:
            self._servers.admit(worker)

    def lose_worker(self, worker: WorkerRecord) -> None:
        with self._guard:
            self._servers.lose(worker)

    def rescue(self, now: float, limit: int) -> Rescued:
        with self._guard:
            rest = f" ORDER BY give_up_at LIMIT ?{self._sql.pass_by}"
            jobs = self._take("give_up_at <= ?", (now, limit), rest)
            due = self._value("SELECT min(give_up_at) FROM jobs WHERE give_up_at IS NOT NULL")
            return Rescued(jobs, due)

    def recall(self, prefix: str, servers: Sequence[str] | None) -> list[Job]:
        with self._guard:
            where, bindings = _begins_so(prefix)
            if servers is None:
                where = f"give_up_at IS NOT NULL AND {where}"
            else:
                where += f" AND server {self._sql.among}"
                bindings = (*bindings, self._sql.listed(servers))
            return list(self._take(where, bindings, self._sql.pass_by))

    def recall_job(self, prefix: str, job_id: int) -> Job | None:
        with self._guard:
            where, bindings = _begins_so(prefix)
            where = f"id = ? AND give_up_at IS NOT NULL AND {where}"
            taken = self._take(where, (job_id, *bindings), self._sql.lock)
            return taken[0] if taken else None

    def cancels(self) -> list[Job]:
        with self._guard:
            sql = (
                f"SELECT {JOB} FROM jobs WHERE state = 'running' AND cancel_requested = 1"
                " AND server = ? ORDER BY id"
            )
            return [job_of(row) for row in self._db.execute(sql, (self._servers.own,))]

    # --- deleting ---

    def delete(self, job_ids: Sequence[int]) -> list[int]:
        with self._guard:
            return removal.delete(self._db, self._sql, job_ids)

    def forget_deleted(self, job_ids: Sequence[int]) -> None:
        with self._guard:
            removal.forget_deleted(self._db, self._sql, job_ids)

    # --- workers ---

    def drain_worker(self, worker_id: str, name: str, now: float) -> None:
        with self._guard:
            self._db.execute(
                "INSERT INTO drained_workers (worker_id, name, at) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (worker_id, name, now),
            )

    def resume_worker(self, worker_id: str) -> None:
        with self._guard:
            self._db.execute("DELETE FROM drained_workers WHERE worker_id = ?", (worker_id,))


def _changed(
    job: Job, is_cancelled: int, signal: str | None, grace: float | None, is_awaited: int
) -> Job:
    """A running job as it is now."""
    if not is_cancelled and not is_awaited:
        return job  # neither is ever taken back
    return replace(
        job,
        cancel_requested=bool(is_cancelled),
        cancel_signal=signal,
        cancel_grace=grace,
        is_awaited=bool(is_awaited),
    )


def _begins_so(prefix: str) -> tuple[str, tuple[Any, ...]]:
    """What is true, with these bindings, of jobs whose worker's id begins so."""
    return "worker_id >= ? AND worker_id < ?", (prefix, prefix + chr(sys.maxunicode))
