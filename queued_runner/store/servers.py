"""The servers of a queue and the workers they have; and whose the running attempts are.

It owns the tables `servers` and `workers`, and the columns of jobs that say who has them. It
decides nothing about time, and opens no transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from queued_runner.store.base import AttemptKey, Deposed, WorkerRecord
from queued_runner.store.database import Database, Dialect
from remote_runner.types import Offer

LEFT: Final = ""
"""The id of a server that has left by itself: what it still writes about an attempt is stale, and
it is not missed."""


class Servers:
    """The servers in one database, one of which writes through this connection."""

    def __init__(self, db: Database, dialect: Dialect) -> None:
        self._db = db
        self._sql = dialect
        self.own: str | None = None
        """The id of this server."""

    def enlist(self, server: str, name: str, now: float) -> None:
        """See `base.Store.enlist`."""
        self.own = server
        self._db.execute(
            "INSERT INTO servers (id, name, beat_at) VALUES (?, ?, ?)", (server, name, now)
        )

    def beat(self, now: float) -> None:
        """See `base.Store.beat`."""
        rows = self._db.execute(
            "UPDATE servers SET beat_at = ? WHERE id = ? RETURNING id", (now, self.own)
        )
        if not rows.fetchall():
            raise Deposed(
                "this server was silent for so long that the others have taken over what it had"
            )

    def bury(self, server: str, at: float, detach: float) -> None:
        """See `base.Store.bury`."""
        if server == self.own:
            self.own = LEFT
        self._db.execute("DELETE FROM servers WHERE id = ?", (server,))
        self._db.execute("DELETE FROM workers WHERE server = ?", (server,))
        self._leave("server = ?", server, at, detach)

    def bury_others(self, at: float, detach: float) -> None:
        """See `base.Store.bury_others`."""
        self._db.execute("DELETE FROM servers WHERE id <> ?", (self.own,))
        self._db.execute("DELETE FROM workers WHERE server <> ?", (self.own,))
        self._leave("server IS DISTINCT FROM ?", self.own, at, detach)

    def _leave(self, whose: str, server: str | None, at: float, detach: float) -> None:
        self._db.execute(
            "UPDATE jobs SET server = NULL,"
            " give_up_at = CAST(? AS DOUBLE PRECISION) + coalesce(detach, ?)"
            f" WHERE state = 'running' AND {whose}",
            (at, detach, server),
        )

    def has_others(self) -> bool:
        """Whether there are other servers."""
        rows = self._db.execute("SELECT 1 FROM servers WHERE id <> ? LIMIT 1", (self.own,))
        return rows.fetchone() is not None

    def _is_listed(self) -> bool:
        """Whether this server is not buried; if it is from now on, its commit says so."""
        rows = self._db.execute("SELECT 1 FROM servers WHERE id = ?", (self.own,))
        return rows.fetchone() is not None

    # --- workers ---

    def admit(self, worker: WorkerRecord) -> bool:
        """Write down that a worker is here, unless it has a newer connection elsewhere.

        Of those that do not count their connections (0), the last to come is the newest. A server
        that is buried admits nobody: others may know more of a worker than it.
        """
        if not self._is_listed():
            return False
        rows = self._db.execute(
            "INSERT INTO workers (worker_id, server, boot, connection, facts)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (worker_id) DO UPDATE SET"
            " server = excluded.server, boot = excluded.boot,"
            " connection = excluded.connection, facts = excluded.facts"
            " WHERE workers.boot <> excluded.boot OR workers.connection < excluded.connection"
            " OR (workers.connection = excluded.connection"
            " AND (workers.server = excluded.server OR excluded.connection = 0))"
            " RETURNING worker_id",
            (worker.worker_id, self.own, worker.boot, worker.connection, worker.facts),
        )
        return rows.fetchone() is not None

    def lose(self, worker: WorkerRecord) -> None:
        """See `base.Store.lose_worker`."""
        self._db.execute(
            "DELETE FROM workers WHERE worker_id = ? AND server = ? AND boot = ?"
            " AND connection = ?",
            (worker.worker_id, self.own, worker.boot, worker.connection),
        )

    def without_moved(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        """These offers without the slots of workers that are another server's by now; and none of
        the others moves before this transaction ends."""
        offered = sorted({slot.worker_id for offer in offers for slot in offer.slots})
        if not offered:
            return offers
        rows: Any = self._db.execute(
            f"SELECT worker_id, server FROM workers WHERE worker_id {self._sql.among}"
            f" ORDER BY worker_id{self._sql.share}",
            (self._sql.listed(offered),),
        )
        moved = {worker_id for worker_id, server in rows if server != self.own}
        if not moved:
            return offers
        return [
            replace(offer, slots=tuple(s for s in offer.slots if s.worker_id not in moved))
            for offer in offers
        ]

    # --- attempts ---

    def not_own(self, attempts: Collection[AttemptKey]) -> frozenset[AttemptKey]:
        """Those of these attempts that do not run, or are not this server's."""
        if not attempts:
            return frozenset()
        rows: Any = self._db.execute(
            f"SELECT id, attempt FROM jobs WHERE id {self._sql.among}"
            f" AND {self._sql.state} = 'running' AND server IS NOT DISTINCT FROM ?",
            (self._sql.listed([job_id for job_id, _ in attempts]), self.own),
        )
        return frozenset(attempts) - {(job_id, number) for job_id, number in rows}

    def take(self, job_ids: Collection[int]) -> None:
        """What runs of these jobs is this server's from here on."""
        if job_ids:
            self._db.execute(
                "UPDATE jobs SET server = ?, handovers = handovers + 1, give_up_at = NULL"
                f" WHERE id {self._sql.among}",
                (self.own, self._sql.listed(job_ids)),
            )
