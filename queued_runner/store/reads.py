"""The verbs that only look, for every engine. A reader has these alone."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.store import removal
from queued_runner.store.base import (
    Expired,
    JobNotFound,
    PlacedAttempt,
    ServerRecord,
    StoredOutput,
    StoredResults,
    WorkerRecord,
)
from queued_runner.store.database import Database, Dialect
from queued_runner.store.needs import slots_of
from remote_runner.results import parse_head

JOB: Final = (
    "id, spec, state, reason, exit_code, signal, attempt, worker, worker_id, worker_boot,"
    " created_at, run_after, started_at, finished_at, cancel_requested, failures, losses,"
    " log_bytes, log_dropped, after_ids, waits_for, is_awaited, server, handovers, cancel_signal,"
    " cancel_grace"
)
"""The columns that `job_of` takes."""
_ATTEMPT: Final = (
    "job_id, number, worker, started_at, finished_at, reason, exit_code, signal, duration,"
    " max_rss, cpu_time, log_bytes, log_dropped"
)


def job_of(row: Any) -> Job:
    """The job of a row."""
    job_id, text, state, *facts = row
    facts[11] = bool(facts[11])
    facts[16] = tuple(json.loads(facts[16])) if facts[16] else ()
    facts[18] = bool(facts[18])
    return Job(job_id, JobSpec.model_validate_json(text), JobState(state), *facts)


class Reads:
    """See `base.Store` for the verbs.

    Args:
        db: where they look.
        dialect: how its engine says things.
        guard: raises the engine's errors as those of the contract.
    """

    def __init__(self, db: Database, dialect: Dialect, guard: AbstractContextManager[None]) -> None:
        self._db = db
        self._sql = dialect
        self._guard = guard

    def _value(self, sql: str, *bindings: Any) -> Any:
        row = self._db.execute(sql, bindings).fetchone()
        return None if row is None else row[0]

    def identity(self) -> str:
        with self._guard:
            return str(self._value("SELECT id FROM identity"))

    def get(self, job_id: int) -> Job:
        return self._find(job_id)

    def _find(self, job_id: int, lock: str = "") -> Job:
        with self._guard:
            sql = f"SELECT {JOB} FROM jobs WHERE id = ?{lock}"
            row = self._db.execute(sql, (job_id,)).fetchone()
        if row is None:
            raise JobNotFound(job_id)
        return job_of(row)

    def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        narrow = group is not None or name is not None
        given = {
            "id < ?": before,
            f"{self._sql.state if narrow else 'state'} = ?": state and state.value,
            "grp = ?": group,
            "name = ?": name,
        }
        filters = {sql: value for sql, value in given.items() if value is not None}
        where = f"WHERE {' AND '.join(filters)}" if filters else ""
        sql = f"SELECT {JOB} FROM jobs {where} ORDER BY id DESC LIMIT ?"
        with self._guard:
            return [job_of(row) for row in self._db.execute(sql, (*filters.values(), limit))]

    def attempts(self, job_id: int) -> list[Attempt]:
        with self._guard:
            sql = f"SELECT {_ATTEMPT} FROM attempts WHERE job_id = ? ORDER BY number"
            return [Attempt(*row) for row in self._db.execute(sql, (job_id,))]

    def stored_output(self, job_id: int, attempt: int) -> StoredOutput | None:
        with self._guard:
            row = self._db.execute(
                "SELECT log_bytes, log_dropped, output FROM attempts"
                " WHERE job_id = ? AND number = ? AND finished_at IS NOT NULL",
                (job_id, attempt),
            ).fetchone()
            return None if row is None else StoredOutput(*row)

    def counts(self, group: str | None = None) -> dict[JobState, int]:
        where, bindings = ("WHERE grp = ?", (group,)) if group is not None else ("", ())
        with self._guard:
            rows = self._db.execute(
                f"SELECT state, count(*) FROM jobs {where} GROUP BY state", bindings
            )
            return {JobState(state): number for state, number in rows}

    def running(self) -> list[Job]:
        with self._guard:
            sql = f"SELECT {JOB} FROM jobs WHERE state = 'running' ORDER BY id"
            return [job_of(row) for row in self._db.execute(sql)]

    def next_run_after(self, now: float) -> float | None:
        with self._guard:
            value: float | None = self._value(
                f"SELECT run_after FROM {self._sql.delayed}"
                " WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0"
                " ORDER BY run_after LIMIT 1"
            )
            return value

    def results(self, job_id: int, attempt: int) -> StoredResults | None:
        with self._guard:
            row = self._db.execute(
                "SELECT head, start, data, epoch FROM results WHERE job_id = ? AND number = ?",
                (job_id, attempt),
            ).fetchone()
        return None if row is None else StoredResults(parse_head(row[0]), *row[1:])

    def result_files(self) -> list[tuple[int, int, int]]:
        with self._guard:
            rows = self._db.execute("SELECT job_id, number, epoch FROM results WHERE data IS NULL")
            return [(job_id, number, epoch) for job_id, number, epoch in rows]

    def dependencies(self, job_id: int) -> list[tuple[int, JobState, bool]]:
        with self._guard:
            rows = self._db.execute(
                "SELECT id, state, is_open FROM dependencies JOIN jobs ON id = after_id"
                " WHERE job_id = ? ORDER BY id",
                (job_id,),
            )
            return [(other, JobState(state), bool(is_open)) for other, state, is_open in rows]

    def dependant_of(self, job_id: int) -> int | None:
        with self._guard:
            value: int | None = self._value(
                "SELECT min(job_id) FROM dependencies WHERE after_id = ?", job_id
            )
            return value

    def expired(
        self, ended_before: Mapping[JobState, float], looked_to: int, limit: int
    ) -> Expired:
        with self._guard:
            return removal.expired(self._db, ended_before, looked_to, limit)

    def deleted(self, limit: int) -> list[int]:
        with self._guard:
            return removal.deleted(self._db, limit)

    def servers(self) -> list[ServerRecord]:
        with self._guard:
            rows = self._db.execute("SELECT id, name, beat_at FROM servers ORDER BY id")
            return [ServerRecord(*row) for row in rows]

    def workers(self, worker_id: str | None = None) -> list[WorkerRecord]:
        where, bindings = ("", ()) if worker_id is None else ("WHERE worker_id = ?", (worker_id,))
        with self._guard:
            rows = self._db.execute(
                f"SELECT worker_id, boot, connection, facts, server FROM workers {where}"
                " ORDER BY worker_id",
                bindings,
            )
            return [WorkerRecord(*row) for row in rows]

    def placed(self, worker_id: str | None = None) -> list[PlacedAttempt]:
        where, bindings = ("", ()) if worker_id is None else (" AND worker_id = ?", (worker_id,))
        with self._guard:
            rows = self._db.execute(
                "SELECT worker_id, worker, server, id, attempt, needs FROM jobs"
                f" WHERE state = 'running'{where} ORDER BY id",
                bindings,
            )
            return [
                PlacedAttempt(at or "", worker or "", server, (job_id, number), slots_of(needs))
                for at, worker, server, job_id, number, needs in rows
            ]

    def drained_workers(self) -> dict[str, str]:
        with self._guard:
            rows = self._db.execute("SELECT worker_id, name FROM drained_workers ORDER BY at")
            return dict(rows)
