"""The SQLite engine, on apsw: durable at every commit (WAL, `synchronous=FULL`)."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw

from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.retry import Decision
from queued_runner.store import removal
from queued_runner.store.base import (
    Added,
    AttemptKey,
    Expired,
    JobNotFound,
    KeyConflict,
    NotEnded,
    Rescued,
    ServerRecord,
    Settled,
    StoreBroken,
    StoredOutput,
    StoredResults,
    StoreFull,
    Taken,
    WorkerRecord,
)
from queued_runner.store.dependencies import Dependencies
from queued_runner.store.graph import NewJob
from queued_runner.store.needs import needs_text
from queued_runner.store.room import Room
from queued_runner.store.schema import migrate
from queued_runner.store.servers import Servers
from remote_runner.results import encode_head, parse_head
from remote_runner.types import Offer, Outcome, Slot

MEMORY: Final = ":memory:"
CHECKPOINT: Final = 1000
"""Pages in the write-ahead log, from which on they are moved into the database."""
MAX_DUE: Final = 10_000
"""Delayed jobs that one claim makes ready: bounds the time that its transaction takes."""

_JOB: Final = (
    "id, spec, state, reason, exit_code, signal, attempt, worker, worker_id, worker_boot,"
    " created_at, run_after, started_at, finished_at, cancel_requested, failures, losses,"
    " log_bytes, log_dropped, after_ids, waits_for, is_awaited, server, handovers, cancel_signal,"
    " cancel_grace"
)
_ATTEMPT: Final = (
    "job_id, number, worker, started_at, finished_at, reason, exit_code, signal, duration,"
    " max_rss, cpu_time, log_bytes, log_dropped"
)
_BROKEN: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ReadOnlyError,
    OSError,
)


def _is_full(error: Exception) -> bool:
    # The memory that connections share is a file too, for which there may be no room.
    code = getattr(error, "extendedresult", None)
    return isinstance(error, apsw.FullError) or code == apsw.SQLITE_IOERR_SHMSIZE


@contextmanager
def _guarded(path: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        if _is_full(error):
            raise StoreFull(
                f"the disk has no room for the queue at {path}; nothing was stored: free some"
                " space, then try again"
            ) from error
        raise StoreBroken(
            f"the queue at {path} cannot be used: {error}; check the disk and the file, then start"
            " again"
        ) from error


def _job(row: Any, spec: JobSpec | None = None) -> Job:
    """The job of a row; `spec` where it is known already: to read it costs the most."""
    job_id, text, state, *facts = row
    facts[11] = bool(facts[11])
    facts[16] = tuple(json.loads(facts[16])) if facts[16] else ()
    facts[18] = bool(facts[18])
    return Job(job_id, spec or JobSpec.model_validate_json(text), JobState(state), *facts)


class SQLiteStore:
    """One connection; see `base.Store` for the verbs.

    Args:
        path: of the database file, or `":memory:"`.
        is_reader: open read-only, without touching the schema.

    Raises:
        StoreBroken: the file cannot be opened, or is not a database.
        StoreFull: the disk has no room for it.
        SchemaTooNew: a newer release wrote it.
    """

    def __init__(self, path: Path | str, *, is_reader: bool = False) -> None:
        self._path = str(path)
        self._claimed: dict[int, JobSpec] = {}
        """The specs of jobs that this connection has claimed and not finished."""
        self._wal_pages = 0
        with _guarded(self._path):
            if not is_reader and self._path != MEMORY:
                # Before SQLite does, which would let everybody read it.
                Path(self._path).touch(mode=0o600)
                Path(self._path).chmod(0o600)
            flags = apsw.SQLITE_OPEN_READONLY if is_reader else apsw.SQLITE_OPEN_READWRITE
            self._db = apsw.Connection(self._path, flags=flags)
            self._dependencies = Dependencies(self._db)
            self._servers = Servers(self._db)
            try:
                self._db.set_busy_timeout(5000)
                self._db.pragma("foreign_keys", True)
                if not is_reader:
                    self._db.pragma("journal_mode", "WAL")
                    self._db.pragma("synchronous", "FULL")
                    self._db.set_wal_hook(self._on_wal)
                    migrate(self._db)
            except BaseException:
                self._db.close()
                raise

    # --- transactions ---

    def begin(self) -> None:
        self._dependencies.begin()
        with _guarded(self._path):
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with _guarded(self._path):
            self._db.execute("COMMIT")
            if self._wal_pages >= CHECKPOINT:
                self._checkpoint()

    def _checkpoint(self) -> None:
        """Move what is committed into the database file, as SQLite does by itself; but it would go
        on after an error of the disk, and count as written what that error has lost."""
        self._wal_pages = 0
        with suppress(apsw.FullError, apsw.BusyError):  # all of it is safe where it is
            self._db.wal_checkpoint()

    def _on_wal(self, db: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def rollback(self) -> None:
        with _guarded(self._path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()

    # --- submitting and looking ---

    def identity(self) -> str:
        with _guarded(self._path):
            return str(self._value("SELECT id FROM identity"))

    def add(self, specs: Sequence[JobSpec], now: float) -> Added:
        with _guarded(self._path):
            following = first = (
                self._value("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'") or 0
            ) + 1
            ids: list[int] = []
            rows: list[tuple[Any, ...]] = []
            fresh: dict[str, tuple[int, JobSpec]] = {}
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
                    known = self._keyed(spec)
                    if known is not None:
                        ids.append(known)
                        continue
                    fresh[spec.key] = (following, spec)
                row = (
                    following, spec.model_dump_json(exclude_defaults=True), spec.name, spec.group,
                    spec.key, spec.priority, needs_text(spec.all_needs), int(spec.delay > 0), now,
                    now + spec.delay,
                )  # fmt: skip
                if spec.after:
                    later[following] = NewJob(index, spec)
                    later_rows.append(row)
                else:
                    rows.append(row)
                ids.append(following)
                following += 1
            waits = None
            if later:
                keys = {
                    spec.key: job_id for spec, job_id in zip(specs, ids, strict=True) if spec.key
                }
                waits = self._dependencies.waits(later, keys)
            self._db.executemany(
                "INSERT INTO jobs (id, spec, name, grp, key, priority, needs, is_delayed,"
                " created_at, run_after, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued')",
                rows,
            )
            if waits is not None:
                self._dependencies.insert(later_rows, waits, now)
            return Added(ids, frozenset(range(first, following)))

    def _keyed(self, spec: JobSpec) -> int | None:
        """The job that was added with the key of `spec`, if there is one."""
        row = self._db.execute("SELECT id, spec FROM jobs WHERE key = ?", (spec.key,)).fetchone()
        if row is None:
            return None
        if JobSpec.model_validate_json(row[1]) != spec:
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
        # A plus keeps the planner off a column: of a million rows, nearly all share a state.
        narrow = group is not None or name is not None
        given = {
            "id < ?": before,
            "+state = ?" if narrow else "state = ?": state,
            "grp = ?": group,
            "name = ?": name,
        }
        filters = {sql: value for sql, value in given.items() if value is not None}
        where = f"WHERE {' AND '.join(filters)}" if filters else ""
        sql = f"SELECT {_JOB} FROM jobs {where} ORDER BY id DESC LIMIT ?"
        with _guarded(self._path):
            return [_job(row) for row in self._db.execute(sql, (*filters.values(), limit))]

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

    def drain_worker(self, worker_id: str, name: str, now: float) -> None:
        with _guarded(self._path):
            self._db.execute(
                "INSERT INTO drained_workers VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (worker_id, name, now),
            )

    def resume_worker(self, worker_id: str) -> None:
        with _guarded(self._path):
            self._db.execute("DELETE FROM drained_workers WHERE worker_id = ?", (worker_id,))

    def drained_workers(self) -> dict[str, str]:
        with _guarded(self._path):
            return dict(self._db.execute("SELECT worker_id, name FROM drained_workers ORDER BY at"))

    def running(self) -> list[Job]:
        with _guarded(self._path):
            sql = f"SELECT {_JOB} FROM jobs WHERE state = 'running' ORDER BY id"
            return [_job(row) for row in self._db.execute(sql)]

    def _value(self, sql: str, *bindings: Any) -> Any:
        row = self._db.execute(sql, bindings).fetchone()
        return None if row is None else row[0]

    # --- running ---

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        with _guarded(self._path):
            self._db.execute(
                "UPDATE jobs SET is_delayed = 0 WHERE id IN ("
                "SELECT id FROM jobs INDEXED BY jobs_delayed"
                " WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0 AND run_after <= ?"
                " ORDER BY run_after LIMIT ?)",
                (now, MAX_DUE),
            )
            offers = self._servers.without_moved(offers)
            chosen = self._choose(Room(offers, self._next_needs), limit)
            if not chosen:
                return []
            places = json.dumps([(job_id, *slot) for job_id, slot in chosen.items()])
            rows = self._db.execute(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1,"
                " worker = place.value ->> 1, worker_id = place.value ->> 2,"
                " worker_boot = place.value ->> 3, started_at = ?, finished_at = NULL,"
                " reason = NULL, exit_code = NULL, signal = NULL, log_bytes = 0, log_dropped = 0,"
                " server = ?, handovers = 0 FROM json_each(?) AS place"
                f" WHERE jobs.id = place.value ->> 0 RETURNING {_JOB}",
                (now, self._servers.own, places),
            )
            jobs = {row[0]: _job(row) for row in rows}
            self._claimed |= {job.id: job.spec for job in jobs.values()}
            self._db.executemany(
                "INSERT INTO attempts (job_id, number, worker, worker_id, started_at)"
                " VALUES (?, ?, ?, ?, ?)",
                [(job.id, job.attempt, job.worker, job.worker_id, now) for job in jobs.values()],
            )
            return [jobs[job_id] for job_id in chosen]

    def _choose(self, room: Room, limit: int) -> dict[int, Slot]:
        """The ready jobs that get slots, by priority, then by age; and which."""
        candidates: list[tuple[int, int, str]] = []
        for needs, size in room.sizes():
            candidates += self._db.execute(
                "SELECT -priority, id, needs FROM jobs INDEXED BY jobs_ready"
                " WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0 AND needs = ?"
                " ORDER BY priority DESC, id LIMIT ?",
                (needs, min(size, limit)),
            )
        candidates.sort()
        taken = ((job_id, room.take(needs)) for _, job_id, needs in candidates)
        return dict(islice(((job_id, slot) for job_id, slot in taken if slot), limit))

    def _next_needs(self, after: str) -> str | None:
        value: str | None = self._value(
            "SELECT min(needs) FROM jobs INDEXED BY jobs_ready"
            " WHERE state = 'queued' AND is_delayed = 0 AND waits_for = 0 AND needs > ?",
            after,
        )
        return value

    def next_run_after(self, now: float) -> float | None:
        with _guarded(self._path):
            value: float | None = self._value(
                "SELECT min(run_after) FROM jobs INDEXED BY jobs_delayed"
                " WHERE state = 'queued' AND is_delayed = 1 AND waits_for = 0"
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
    ) -> Job | None:
        with _guarded(self._path):
            row = self._db.execute(
                f"SELECT {_JOB} FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'"
                " AND server IS ?",
                (job_id, attempt, self._servers.own),
            ).fetchone()
            if row is None:
                return None
            job = _job(row, self._claimed.pop(job_id, None))
            decision = decide(job)
            state = move(job.state, decision.event)
            is_over = state is not JobState.QUEUED
            changed = self._db.execute(
                "UPDATE jobs SET state = ?, is_delayed = ?, reason = ?, exit_code = ?, signal = ?,"
                " run_after = ?, finished_at = ?, failures = failures + ?, losses = losses + ?,"
                f" log_bytes = ?, log_dropped = ? WHERE id = ? RETURNING {_JOB}",
                (
                    state.value, int(not is_over), decision.reason or outcome.reason.value,
                    outcome.exit_code, outcome.signal,
                    job.run_after if is_over else decision.run_after, now if is_over else None,
                    int(decision.is_failure), int(decision.is_loss), output.size, output.dropped,
                    job_id,
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
            if is_over and job.is_awaited:
                self._dependencies.owe([job_id])
            return _job(changed, job.spec)

    def report(self, job_id: int, attempt: int, outcome: Outcome) -> bool:
        with _guarded(self._path):
            row = self._db.execute(
                "UPDATE attempts SET reason = ?, exit_code = ?, signal = ?"
                " WHERE job_id = ? AND number = ? AND EXISTS (SELECT 1 FROM jobs"
                " WHERE id = attempts.job_id AND attempt = attempts.number AND state = 'running'"
                " AND server IS ?) RETURNING number",
                (
                    outcome.reason.value, outcome.exit_code, outcome.signal, job_id, attempt,
                    self._servers.own,
                ),
            ).fetchone()  # fmt: skip
        return row is not None

    def lengthen(self, job_id: int, attempt: int, size: int, dropped: int) -> None:
        with _guarded(self._path):
            for table, number in (("attempts", "number"), ("jobs", "attempt")):
                key = "job_id" if table == "attempts" else "id"
                self._db.execute(
                    f"UPDATE {table} SET log_bytes = ?, log_dropped = log_dropped + ?"
                    f" WHERE {key} = ? AND {number} = ? AND finished_at IS NOT NULL",
                    (size, dropped, job_id, attempt),
                )

    # --- results ---

    def add_results(self, job_id: int, attempt: int, results: StoredResults) -> None:
        with _guarded(self._path):
            self._db.execute(
                "INSERT INTO results (job_id, number, head, start, data, epoch)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    job_id, attempt, encode_head(results.head), results.start, results.inline,
                    results.epoch,
                ),
            )  # fmt: skip

    def results(self, job_id: int, attempt: int) -> StoredResults | None:
        with _guarded(self._path):
            row = self._db.execute(
                "SELECT head, start, data, epoch FROM results WHERE job_id = ? AND number = ?",
                (job_id, attempt),
            ).fetchone()
        return None if row is None else StoredResults(parse_head(row[0]), *row[1:])

    def result_files(self) -> list[tuple[int, int, int]]:
        with _guarded(self._path):
            rows = self._db.execute("SELECT job_id, number, epoch FROM results WHERE data IS NULL")
            return [(job_id, number, epoch) for job_id, number, epoch in rows]

    # --- cancelling ---

    def cancel(
        self, job_id: int, now: float, signal: str | None = None, grace: float | None = None
    ) -> Job:
        job = self.get(job_id)
        if job.state.is_terminal:
            return job
        with _guarded(self._path):
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

    def settle(self, now: float) -> Settled:
        with _guarded(self._path):
            return self._dependencies.settle(now)

    def dependencies(self, job_id: int) -> list[tuple[int, JobState, bool]]:
        with _guarded(self._path):
            return self._dependencies.of(job_id)

    def revive(self, job_id: int, now: float) -> Job:
        job = self.get(job_id)
        if not job.state.is_terminal:
            raise NotEnded(job_id, job.state)
        state = move(job.state, JobEvent.REVIVE)
        with _guarded(self._path):
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

    def time(self, now: float) -> float:
        return now

    def enlist(self, server: str, name: str, now: float) -> None:
        with _guarded(self._path):
            self._servers.enlist(server, name, now)

    def beat(self, now: float) -> None:
        with _guarded(self._path):
            self._servers.beat(now)

    def servers(self) -> list[ServerRecord]:
        with _guarded(self._path):
            return self._servers.all()

    def bury(self, server: str, at: float, detach: float) -> None:
        with _guarded(self._path):
            self._servers.bury(server, at, detach)

    def bury_others(self, at: float, detach: float) -> None:
        with _guarded(self._path):
            self._servers.bury_others(at, detach)

    def take_over(self, worker: WorkerRecord, held: Sequence[AttemptKey]) -> Taken | None:
        with _guarded(self._path):
            if not self._servers.admit(worker):
                return None
            lost = self._servers.not_own(held)
            # Alone, what is not this one's is nobody's, which an index finds.
            whose = "server IS NOT ?2" if self._servers.has_others() else "give_up_at NOTNULL"
            rows = self._db.execute(
                f"SELECT {_JOB} FROM jobs WHERE state = 'running' AND worker_id = ?1 AND {whose}"
                " ORDER BY id",
                {"1": worker.worker_id, "2": self._servers.own},
            )
            return Taken(self._taken([_job(row) for row in rows]), lost)

    def _taken(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        """These jobs, which are this server's now."""
        self._servers.take([job.id for job in jobs])
        self._claimed |= {job.id: job.spec for job in jobs}
        return tuple(
            replace(job, server=self._servers.own, handovers=job.handovers + 1) for job in jobs
        )

    def see_worker(self, worker: WorkerRecord) -> None:
        with _guarded(self._path):
            self._servers.admit(worker)

    def lose_worker(self, worker: WorkerRecord) -> None:
        with _guarded(self._path):
            self._servers.lose(worker)

    def workers(self) -> list[WorkerRecord]:
        with _guarded(self._path):
            return self._servers.workers()

    def rescue(self, now: float, limit: int) -> Rescued:
        with _guarded(self._path):
            rows = self._db.execute(
                f"SELECT {_JOB} FROM jobs WHERE give_up_at <= ? ORDER BY give_up_at LIMIT ?",
                (now, limit),
            )
            jobs = self._taken([_job(row) for row in rows])
            due = self._value("SELECT min(give_up_at) FROM jobs WHERE give_up_at IS NOT NULL")
            return Rescued(jobs, due)

    def recall(self, prefix: str) -> list[Job]:
        with _guarded(self._path):
            rows = self._db.execute(
                f"SELECT {_JOB} FROM jobs WHERE give_up_at NOTNULL"
                " AND substr(worker_id, 1, ?) = ? ORDER BY id",
                (len(prefix), prefix),
            )
            return list(self._taken([_job(row) for row in rows]))

    def cancels(self) -> list[Job]:
        with _guarded(self._path):
            sql = (
                f"SELECT {_JOB} FROM jobs WHERE state = 'running' AND cancel_requested = 1"
                " AND server IS ? ORDER BY id"
            )
            return [_job(row) for row in self._db.execute(sql, (self._servers.own,))]

    # --- deleting ---

    def expired(
        self, ended_before: Mapping[JobState, float], looked_to: int, limit: int
    ) -> Expired:
        with _guarded(self._path):
            return removal.expired(self._db, ended_before, looked_to, limit)

    def delete(self, job_ids: Sequence[int]) -> list[int]:
        with _guarded(self._path):
            return removal.delete(self._db, job_ids)

    def dependant_of(self, job_id: int) -> int | None:
        with _guarded(self._path):
            return removal.dependant_of(self._db, job_id)

    def deleted(self, limit: int) -> list[int]:
        with _guarded(self._path):
            return removal.deleted(self._db, limit)

    def forget_deleted(self, job_ids: Sequence[int]) -> None:
        with _guarded(self._path):
            removal.forget_deleted(self._db, job_ids)
