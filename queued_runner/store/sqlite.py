"""The SQLite engine, on apsw: durable at every commit (WAL, `synchronous=FULL`).

It owns the file, its transactions and its errors; the verbs stand in `verbs.py`.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import apsw

from queued_runner.jobs import Job
from queued_runner.store.base import StoreBroken, StoreFull
from queued_runner.store.database import Dialect
from queued_runner.store.reads import JOB, job_of
from queued_runner.store.schema import steps_after
from queued_runner.store.verbs import Verbs
from remote_runner.types import Offer

MEMORY: Final = ":memory:"
CHECKPOINT: Final = 1000
"""Pages in the write-ahead log, from which on they are moved into the database."""

DIALECT: Final = Dialect(
    among="IN (SELECT value FROM json_each(?))",
    listed=lambda values: json.dumps(list(values)),
    lock="",  # there is one who writes
    share="",
    pass_by="",
    ready="jobs INDEXED BY jobs_ready",
    delayed="jobs INDEXED BY jobs_delayed",
    within="IN ({})",
    state="+state",
    begin_look="BEGIN",
    begin_alone="BEGIN IMMEDIATE",
    last_id="SELECT seq FROM sqlite_sequence WHERE name = 'jobs'",
    set_last_id="DELETE FROM sqlite_sequence WHERE name = 'jobs';"
    " INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)",
    misfits=(apsw.ConstraintError, apsw.TooBigError, UnicodeEncodeError),
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


class _Guard:
    """Raises what the database raises as errors of the contract."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, _BROKEN):
            return
        if _is_full(error):
            raise StoreFull(
                f"the disk has no room for the queue at {self._path}; nothing was stored: free"
                " some space, then try again"
            ) from error
        raise StoreBroken(
            f"the queue at {self._path} cannot be used: {error}; check the disk and the file, then"
            " start again"
        ) from error


class SQLiteStore(Verbs):
    """One connection; see `base.Store` for the verbs.

    Args:
        path: of the database file, or `":memory:"`.
        is_reader: open read-only, without touching the schema.

    Attributes:
        steps: the newest step of the schema before it was opened, 0 for none, and since.

    Raises:
        StoreBroken: the file cannot be opened, or is not a database.
        StoreFull: the disk has no room for it.
        SchemaTooNew: a newer release wrote it.
    """

    _db: apsw.Connection

    def __init__(self, path: Path | str, *, is_reader: bool = False) -> None:
        self._wal_pages = 0
        self.steps = 0, 0
        guard = _Guard(str(path))
        with guard:
            if not is_reader and path != MEMORY:
                # Before SQLite does, which would let everybody read it.
                Path(path).touch(mode=0o600)
                Path(path).chmod(0o600)
            flags = apsw.SQLITE_OPEN_READONLY if is_reader else apsw.SQLITE_OPEN_READWRITE
            db = apsw.Connection(str(path), flags=flags)
            try:
                db.set_busy_timeout(5000)
                db.pragma("foreign_keys", True)
                if not is_reader:
                    db.pragma("journal_mode", "WAL")
                    db.pragma("synchronous", "FULL")
                    db.set_wal_hook(self._on_wal)
                    self.steps = _migrate(db)
            except BaseException:
                db.close()
                raise
        super().__init__(db, DIALECT, guard)

    # --- transactions ---

    def begin(self) -> None:
        self._dependencies.begin()
        with self._guard:
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with self._guard:
            self._db.execute("COMMIT")
            if self._wal_pages >= CHECKPOINT:
                self._checkpoint()

    def was_committed(self) -> bool:
        raise AssertionError("what SQLite commits is never in doubt")

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
        with self._guard:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()

    # --- what the verbs leave to an engine ---

    def time(self, now: float) -> float:
        return now

    def _of_others(self, worker_id: str) -> tuple[str, tuple[str | None, ...]]:
        # Alone, what is not this one's is nobody's, which an index finds.
        if self._servers.has_others():
            return "worker_id = ? AND server IS DISTINCT FROM ?", (worker_id, self._servers.own)
        return "worker_id = ? AND give_up_at IS NOT NULL", (worker_id,)

    def _new_ids(self, number: int) -> Iterator[int]:
        newest = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        return count((newest or 0) + 1)

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        with self._guard:
            self._make_ready(now)
            chosen = self._choose(self._servers.without_moved(offers), limit)
            if not chosen:
                return []
            places = json.dumps([(job_id, *slot) for job_id, slot in chosen.items()])
            rows = self._db.execute(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1,"
                " worker = place.value ->> 1, worker_id = place.value ->> 2,"
                " worker_boot = place.value ->> 3, started_at = ?, finished_at = NULL,"
                " reason = NULL, exit_code = NULL, signal = NULL, log_bytes = 0, log_dropped = 0,"
                " server = ?, handovers = 0 FROM json_each(?) AS place"
                f" WHERE jobs.id = place.value ->> 0 RETURNING {JOB}",
                (now, self._servers.own, places),
            )
            jobs = {row[0]: job_of(row) for row in rows}
            self._claimed |= jobs
            self._db.executemany(
                "INSERT INTO attempts (job_id, number, worker, worker_id, started_at)"
                " VALUES (?, ?, ?, ?, ?)",
                [(job.id, job.attempt, job.worker, job.worker_id, now) for job in jobs.values()],
            )
            return [jobs[job_id] for job_id in chosen]


def _migrate(db: apsw.Connection) -> tuple[int, int]:
    before = newest = int(db.pragma("user_version"))
    for number, script in steps_after(before, "sqlite", db.filename):
        with db:
            db.execute(script)
            db.pragma("user_version", number)
        newest = number
    return before, newest
