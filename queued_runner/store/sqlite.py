"""The SQLite engine, on apsw: durable at every commit (WAL, `synchronous=FULL`)."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import apsw

from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.retry import Decision
from queued_runner.store.base import (
    JobNotFound,
    KeyConflict,
    Placement,
    SchemaTooNew,
    StoreBroken,
    StoredOutput,
)
from remote_runner.types import Offer, Outcome, satisfies

MEMORY: Final = ":memory:"
_JOB: Final = (
    "id, spec, state, reason, exit_code, signal, attempt, worker, worker_id, created_at, run_after,"
    " started_at, finished_at, cancel_requested, failures, losses, log_bytes, log_dropped"
)
_ATTEMPT: Final = (
    "job_id, number, worker, started_at, finished_at, reason, exit_code, signal, duration,"
    " max_rss, cpu_time, log_bytes, log_dropped"
)
_BROKEN: Final = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FullError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
)


@contextmanager
def _guarded(path: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise StoreBroken(
            f"the queue at {path} cannot be used: {error}; check the disk, then start again"
        ) from error


def _job(row: Any) -> Job:
    values = list(row)
    values[1] = JobSpec.model_validate_json(row[1])
    values[2] = JobState(row[2])
    values[13] = bool(row[13])
    return Job(*values)


class SQLiteStore:
    """One connection; see `base.Store` for the verbs.

    Args:
        path: of the database file, or `":memory:"`.
        synchronous: `"FULL"` keeps every commit through a power cut.
        is_reader: open read-only, without touching the schema.
    """

    def __init__(
        self, path: Path | str, *, synchronous: str = "FULL", is_reader: bool = False
    ) -> None:
        self._path = str(path)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        if is_reader:
            flags = apsw.SQLITE_OPEN_READONLY
        with _guarded(self._path):
            self._db = apsw.Connection(self._path, flags=flags, statementcachesize=100)
            self._db.set_busy_timeout(5000)
            self._db.execute("PRAGMA foreign_keys = ON")
            if not is_reader:
                if self._path != MEMORY:
                    Path(self._path).chmod(0o600)
                    self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute(f"PRAGMA synchronous = {synchronous}")
                self._migrate()

    def _migrate(self) -> None:
        steps = sorted(
            (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
            for entry in resources.files("queued_runner.store.migrations.sqlite").iterdir()
            if entry.name.endswith(".sql")
        )
        version = self._value("PRAGMA user_version")
        if version > steps[-1][0]:
            raise SchemaTooNew(
                f"the queue at {self._path} was written by a newer release (schema {version},"
                f" this one knows {steps[-1][0]}); install that release again"
            )
        for number, script in steps:
            if number > version:
                with self._db:
                    self._db.execute(script)
                    self._db.execute(f"PRAGMA user_version = {number}")

    def _value(self, sql: str, *bindings: Any) -> Any:
        row = self._db.execute(sql, bindings).fetchone()
        return None if row is None else row[0]

    # --- transactions ---

    def begin(self) -> None:
        with _guarded(self._path):
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with _guarded(self._path):
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def savepoint(self) -> None:
        self._db.execute("SAVEPOINT op")

    def release_savepoint(self) -> None:
        self._db.execute("RELEASE op")

    def rollback_savepoint(self) -> None:
        self._db.execute("ROLLBACK TO op")
        self._db.execute("RELEASE op")

    def close(self) -> None:
        self._db.close()

    # --- submitting and looking ---

    def add(self, specs: Sequence[JobSpec], now: float) -> list[int]:
        with _guarded(self._path):
            known: dict[int, int] = {}
            fresh: list[tuple[Any, ...]] = []
            keys: dict[str, int] = {}
            for index, spec in enumerate(specs):
                body = spec.model_dump_json(exclude_defaults=True)
                if spec.key is not None:
                    earlier = self._earlier(spec.key, body)
                    if earlier is not None:
                        known[index] = earlier
                        continue
                    if spec.key in keys:
                        if fresh[keys[spec.key]][0] != body:
                            raise KeyConflict(0)
                        known[index] = -1 - keys[spec.key]
                        continue
                    keys[spec.key] = len(fresh)
                needs = json.dumps(spec.needs, sort_keys=True) if spec.needs else "{}"
                delay = spec.delay
                row = (
                    body, spec.name, spec.group, spec.key, spec.priority, needs,
                    int(delay > 0), now, now + delay,
                )  # fmt: skip
                fresh.append(row)
            if fresh:
                self._db.executemany(
                    "INSERT INTO jobs (spec, name, grp, key, priority, needs, state, is_delayed,"
                    " created_at, run_after) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                    fresh,
                )
            first = self._db.last_insert_rowid() - len(fresh) + 1
            new = iter(range(first, first + len(fresh)))
            ids = []
            for index in range(len(specs)):
                at = known.get(index)
                ids.append(next(new) if at is None else at if at > 0 else first - 1 - at)
            return ids

    def _earlier(self, key: str, body: str) -> int | None:
        row = self._db.execute("SELECT id, spec FROM jobs WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row[1] != body:
            raise KeyConflict(row[0])
        return int(row[0])

    def get(self, job_id: int) -> Job:
        with _guarded(self._path):
            row = self._db.execute(f"SELECT {_JOB} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise JobNotFound(job_id)
        return _job(row)

    def page(
        self,
        *,
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[Job]:
        wheres, bindings = ["id < ?"], [before if before is not None else 1 << 62]
        for column, value in (("state", state), ("grp", group), ("name", name)):
            if value is not None:
                wheres.append(f"{column} = ?")
                bindings.append(str(value))  # type: ignore[arg-type]
        sql = f"SELECT {_JOB} FROM jobs WHERE {' AND '.join(wheres)} ORDER BY id DESC LIMIT ?"
        with _guarded(self._path):
            return [_job(row) for row in self._db.execute(sql, (*bindings, limit))]

    def attempts(self, job_id: int) -> list[Attempt]:
        with _guarded(self._path):
            sql = f"SELECT {_ATTEMPT} FROM attempts WHERE job_id = ? ORDER BY number"
            return [Attempt(*row) for row in self._db.execute(sql, (job_id,))]

    def inline_output(self, job_id: int, attempt: int) -> bytes | None:
        with _guarded(self._path):
            sql = "SELECT output FROM attempts WHERE job_id = ? AND number = ?"
            value: bytes | None = self._value(sql, job_id, attempt)
            return value

    def counts(self, group: str | None = None) -> dict[JobState, int]:
        where, bindings = ("WHERE grp = ?", (group,)) if group is not None else ("", ())
        with _guarded(self._path):
            rows = self._db.execute(
                f"SELECT state, count(*) FROM jobs {where} GROUP BY state", bindings
            )
            return {JobState(state): number for state, number in rows}

    def running(self) -> list[Job]:
        with _guarded(self._path):
            sql = f"SELECT {_JOB} FROM jobs WHERE state = 'running' ORDER BY id"
            return [_job(row) for row in self._db.execute(sql)]

    # --- running ---

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        with _guarded(self._path):
            self._db.execute(
                "UPDATE jobs SET is_delayed = 0"
                " WHERE state = 'queued' AND is_delayed = 1 AND run_after <= ?",
                (now,),
            )
            chosen = self._choose([[offer.labels, offer.free] for offer in offers], limit)
            jobs = []
            for job_id in chosen:
                row = self._db.execute(
                    "UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = NULL,"
                    " worker_id = NULL, started_at = ?, finished_at = NULL, reason = NULL,"
                    " exit_code = NULL, signal = NULL, log_bytes = 0, log_dropped = 0"
                    f" WHERE id = ? AND state = 'queued' RETURNING {_JOB}",
                    (now, job_id),
                ).fetchone()
                job = _job(row)
                self._db.execute(
                    "INSERT INTO attempts (job_id, number, started_at) VALUES (?, ?, ?)",
                    (job.id, job.attempt, now),
                )
                jobs.append(job)
            return jobs

    def _choose(self, room: list[list[Any]], limit: int) -> list[int]:
        """Ids for the room there is: by priority, then by age; scarce labels are kept free."""
        candidates: list[tuple[int, int, dict[str, str]]] = []
        for text in self._needs():
            needs = json.loads(text)
            free = sum(free for labels, free in room if satisfies(labels, needs))
            if free:
                rows = self._db.execute(
                    "SELECT priority, id FROM jobs"
                    " WHERE state = 'queued' AND is_delayed = 0 AND needs = ?"
                    " ORDER BY priority DESC, id LIMIT ?",
                    (text, min(free, limit)),
                )
                candidates += [(-priority, job_id, needs) for priority, job_id in rows]
        candidates.sort(key=lambda item: item[:2])
        chosen = []
        for _, job_id, needs in candidates[:limit]:
            fitting = [place for place in room if place[1] and satisfies(place[0], needs)]
            if fitting:
                min(fitting, key=lambda place: len(place[0]))[1] -= 1
                chosen.append(job_id)
        return chosen

    def _needs(self) -> list[str]:
        """The distinct `needs` of ready jobs, by hopping through the index."""
        rows = self._db.execute(
            "WITH RECURSIVE hop (needs) AS ("
            " SELECT min(needs) FROM jobs WHERE state = 'queued' AND is_delayed = 0"
            " UNION ALL"
            " SELECT (SELECT min(needs) FROM jobs"
            "         WHERE state = 'queued' AND is_delayed = 0 AND needs > hop.needs)"
            " FROM hop WHERE hop.needs IS NOT NULL"
            ") SELECT needs FROM hop WHERE needs IS NOT NULL"
        )
        return [row[0] for row in rows]

    def next_run_after(self, now: float) -> float | None:
        with _guarded(self._path):
            value: float | None = self._value(
                "SELECT min(run_after) FROM jobs WHERE state = 'queued' AND is_delayed = 1"
            )
            return value

    def placed(self, placements: Sequence[Placement]) -> None:
        with _guarded(self._path):
            for place in placements:
                bindings = (place.worker, place.worker_id, place.job_id, place.attempt)
                self._db.execute(
                    "UPDATE jobs SET worker = ?, worker_id = ?"
                    " WHERE id = ? AND attempt = ? AND state = 'running'",
                    bindings,
                )
                self._db.execute(
                    "UPDATE attempts SET worker = ?, worker_id = ? WHERE job_id = ? AND number = ?",
                    bindings,
                )

    def finish(
        self,
        job_id: int,
        attempt: int,
        decide: Callable[[Job], Decision],
        outcome: Outcome,
        output: StoredOutput,
        now: float,
    ) -> Job | None:
        with _guarded(self._path):
            row = self._db.execute(
                f"SELECT {_JOB} FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'",
                (job_id, attempt),
            ).fetchone()
            if row is None:
                return None
            job = _job(row)
            decision = decide(job)
            state = move(job.state, decision.event)
            is_over = state is not JobState.QUEUED
            reason = decision.reason or outcome.reason.value
            changed = self._db.execute(
                "UPDATE jobs SET state = ?, is_delayed = ?, reason = ?, exit_code = ?, signal = ?,"
                " run_after = ?, finished_at = ?, failures = failures + ?, losses = losses + ?,"
                " log_bytes = ?, log_dropped = ?"
                f" WHERE id = ? AND attempt = ? AND state = 'running' RETURNING {_JOB}",
                (
                    state.value, int(not is_over), reason, outcome.exit_code, outcome.signal,
                    job.run_after if is_over else decision.run_after, now if is_over else None,
                    int(decision.is_failure), int(decision.is_loss), output.size, output.dropped,
                    job_id, attempt,
                ),
            ).fetchone()  # fmt: skip
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
            return _job(changed)

    def cancel(self, job_id: int, now: float) -> Job:
        job = self.get(job_id)
        with _guarded(self._path):
            if job.state is JobState.QUEUED:
                state = move(job.state, JobEvent.CANCEL)
                self._db.execute(
                    "UPDATE jobs SET state = ?, reason = 'cancelled', cancel_requested = 1,"
                    " finished_at = ? WHERE id = ?",
                    (state.value, now, job_id),
                )
            elif job.state is JobState.RUNNING:
                self._db.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
            else:
                return job
        return self.get(job_id)
