"""The PostgreSQL engine, on psycopg: several servers may write to one queue.

It owns the schema's version there, its transactions, ids and claims; the verbs stand in `verbs.py`.
A transaction is READ COMMITTED and locks the rows that it decides by. A commit is as durable as the
database says (`synchronous_commit`): `off` there would lose what was acknowledged.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import psycopg

from queued_runner.jobs import Job
from queued_runner.store.base import Deposed, InDoubt, StoreAway, StoreBroken
from queued_runner.store.database import Dialect
from queued_runner.store.postgres_session import Guard, Pool, Session
from queued_runner.store.reads import JOB, Reads, job_of
from queued_runner.store.schema import steps_after
from queued_runner.store.servers import LEFT
from queued_runner.store.verbs import Verbs
from remote_runner.types import Offer, Slot

DIALECT: Final = Dialect(
    among="= ANY(?)",
    listed=list,
    lock=" FOR NO KEY UPDATE",
    share=" FOR SHARE",
    pass_by=" FOR NO KEY UPDATE SKIP LOCKED",
    ready="jobs",
    delayed="jobs",
    within="= ANY (ARRAY({}))",  # once, before all else
    state="(state || '')",
    begin_look="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SET LOCAL idle_in_transaction_session_timeout = 0",
    begin_alone="BEGIN ISOLATION LEVEL READ COMMITTED;"
    " SET LOCAL idle_in_transaction_session_timeout = 0;"
    " LOCK TABLE servers, jobs IN SHARE ROW EXCLUSIVE MODE",
    last_id="SELECT last_value FROM jobs_id_seq WHERE is_called",
    set_last_id="SELECT setval('jobs_id_seq', ?)",
    misfits=(psycopg.IntegrityError, psycopg.DataError),
)
_MIGRATING: Final = 0x71_75_65_75_65
"""The advisory lock of whoever changes the schema: "queue"."""


class PostgresReader(Reads):
    """The verbs that look; several threads may use it at once.

    Args:
        address: of the database, as libpq takes it: a URL, or `key=value` pairs.
    """

    def __init__(self, address: str) -> None:
        guard = Guard(address)
        with guard:
            self._pool = Pool(address)
        super().__init__(self._pool, DIALECT, guard)

    def close(self) -> None:
        self._pool.close()


class PostgresStore(Verbs):
    """One connection; see `base.Store` for the verbs.

    Args:
        address: of the database, as libpq takes it: a URL, or `key=value` pairs.

    Attributes:
        steps: the newest step of the schema before it was opened, 0 for none, and since.

    Raises:
        StoreAway: it does not answer, or does not let us in.
        StoreBroken: it is not fit for a queue.
        SchemaTooNew: a newer release wrote it.
    """

    _db: Session

    def __init__(self, address: str) -> None:
        guard = Guard(address)
        with guard:
            session = Session(address)
            try:
                self.steps = _migrate(session, guard)
            except BaseException:
                session.close()
                raise
        super().__init__(session, DIALECT, guard)
        self._commits = 0
        """The number of the last one that was tried."""

    # --- transactions ---

    def begin(self) -> None:
        self._dependencies.begin()
        with self._guard:
            self._db.begin()

    def commit(self) -> None:
        with self._guard:
            self._mark()
            self._db.wait()
        try:
            with self._guard:
                self._db.commit()
        except StoreAway as error:
            raise InDoubt(str(error)) from error

    def _mark(self) -> None:
        """Number this transaction, so that it can be looked for if its end is not heard."""
        if self._servers.own in (None, LEFT):
            return
        self._commits += 1
        marked = self._db.execute(
            "UPDATE servers SET commits = ? WHERE id = ? RETURNING id",
            (self._commits, self._servers.own),
        )
        if marked.fetchone() is None:
            raise Deposed("the other servers have buried this one")

    def was_committed(self) -> bool:
        with self._guard:
            self._db.begin()
            # It waits for a transaction that has not come to its end there.
            rows = self._db.execute(
                "SELECT commits FROM servers WHERE id = ? FOR UPDATE", (self._servers.own,)
            ).fetchall()
            self._db.wait()
            self._db.rollback()
        return rows == [(self._commits,)]

    def rollback(self) -> None:
        with self._guard:
            self._db.rollback()

    def close(self) -> None:
        self._db.close()

    # --- what the verbs leave to an engine ---

    def time(self, now: float) -> float:
        with self._guard:
            return float(self._value("SELECT extract(epoch FROM clock_timestamp())"))

    def _of_others(self, worker_id: str) -> tuple[str, tuple[str | None, ...]]:
        return "worker_id = ? AND server IS DISTINCT FROM ?", (worker_id, self._servers.own)

    def _new_ids(self, number: int) -> Iterator[int]:
        rows = self._db.execute(
            "SELECT nextval('jobs_id_seq') FROM generate_series(1, ?)", (number,)
        )
        return iter(sorted(job_id for (job_id,) in rows))

    def claim(self, offers: Sequence[Offer], now: float, limit: int) -> list[Job]:
        with self._guard:
            self._make_ready(now)
            offers = self._servers.without_moved(offers)
            jobs: list[Job] = []
            lost: set[int] = set()
            # Looks without locks, and locks only what it takes: what it left locked would look
            # like none to a server that has room for it. What another has taken in between is
            # looked for once more, further on.
            while chosen := self._choose(offers, limit - len(jobs), lost):
                started = self._start(chosen, now)
                jobs += (started[job_id] for job_id in chosen if job_id in started)
                if len(started) == len(chosen):
                    break
                lost |= chosen.keys() - started.keys()
                taken: Counter[Slot] = Counter()
                for job_id, job in started.items():
                    taken[chosen[job_id]] += job.spec.slots
                offers = _without(offers, taken)
            self._claimed |= {job.id: job for job in jobs}
            return sorted(jobs, key=lambda job: (-job.spec.priority, job.id))

    def _start(self, chosen: Mapping[int, Slot], now: float) -> dict[int, Job]:
        """Begin attempts of those jobs that are still ready and that nobody else holds."""
        names, ids, boots, _, _ = zip(*chosen.values(), strict=True)
        rows = self._db.execute(
            "WITH place AS MATERIALIZED ("
            " SELECT id AS place_id, name AS place_name, worker_id AS place_worker, boot AS"
            " place_boot FROM unnest(?::bigint[], ?::text[], ?::text[], ?::text[])"
            " AS given (id, name, worker_id, boot)"
            "), free AS MATERIALIZED ("
            " SELECT id AS free_id FROM jobs WHERE id = ANY(?)"
            f" AND {DIALECT.state} = 'queued' AND is_delayed = 0 AND waits_for = 0"
            f"{DIALECT.pass_by}"
            "), begun AS ("
            " UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = place_name,"
            " worker_id = place_worker, worker_boot = place_boot, started_at = ?,"
            " finished_at = NULL, reason = NULL, exit_code = NULL, signal = NULL, log_bytes = 0,"
            " log_dropped = 0, server = ?, handovers = 0 FROM place"
            " WHERE id = ANY (ARRAY(SELECT free_id FROM free)) AND place_id = id"
            f" RETURNING {JOB}"
            "), noted AS ("
            " INSERT INTO attempts (job_id, number, worker, worker_id, started_at)"
            " SELECT id, attempt, worker, worker_id, started_at FROM begun"
            f") SELECT {JOB} FROM begun",
            ([*chosen], [*names], [*ids], [*boots], [*chosen], now, self._servers.own),
        )
        return {row[0]: job_of(row) for row in rows}


def _without(offers: Iterable[Offer], taken: Counter[Slot]) -> list[Offer]:
    """What is left of some offers."""
    passed: Counter[Slot] = Counter()
    remaining = []
    for offer in offers:
        slots = []
        for slot in offer.slots:
            passed[slot] += 1
            if passed[slot] > taken[slot]:
                slots.append(slot._replace(free=max(0, slot.free - taken[slot])))
        remaining.append(replace(offer, slots=tuple(slots)))
    return remaining


def _migrate(session: Session, guard: Guard) -> tuple[int, int]:
    """Bring the schema to the newest step; of several servers that start, one does it."""
    ((encoding, version),) = session.execute(
        "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int"
    )
    if encoding != "UTF8" or version < 13_00_00:
        raise StoreBroken(
            f"the database at {guard.place} cannot keep a queue: it is PostgreSQL"
            f" {version // 10_000} with the encoding {encoding}, and must be 13 or newer with UTF8"
        )
    session.execute("BEGIN")
    try:
        session.execute("SET LOCAL statement_timeout = 0")
        session.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATING,))
        ((is_new,),) = session.execute("SELECT to_regclass('schema_version') IS NULL")
        if is_new:
            session.execute("CREATE TABLE schema_version (number BIGINT NOT NULL)")
            session.execute("INSERT INTO schema_version VALUES (0)")
        ((seen,),) = session.execute("SELECT number FROM schema_version")
        newest = seen
        for newest, script in steps_after(seen, "postgres", guard.place):
            session.execute(script)
            session.execute("UPDATE schema_version SET number = ?", (newest,))
        session.execute("COMMIT")
        return int(seen), int(newest)
    except BaseException:
        session.rollback()
        raise
