"""The servers of a queue and the workers they have, in SQLite; and whose the running attempts are.

It owns the tables `servers` and `workers`, and the columns of jobs that say who has them. It decides
nothing about time, and opens no transaction.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import apsw

from queued_runner.store.base import AttemptKey, Deposed, ServerRecord, WorkerRecord
from remote_runner.types import Offer


class Servers:
    """The servers in one database, one of which writes through this connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self.own: str | None = None
        """The id of this server."""

    def enlist(self, server: str, name: str, now: float) -> None:
        """See `base.Store.enlist`."""
        self.own = server
        self._db.execute("INSERT INTO servers (id, name, beat_at) VALUES (?, ?, ?)",
                         (server, name, now))  # fmt: skip

    def beat(self, now: float) -> None:
        """See `base.Store.beat`."""
        rows = self._db.execute(
            "UPDATE servers SET beat_at = ? WHERE id = ? RETURNING id", (now, self.own)
        ).fetchall()
        if not rows:
            raise Deposed(
                "this server was silent for so long that the others have taken over what it had"
            )

    def all(self) -> list[ServerRecord]:
        """Every server there is."""
        rows = self._db.execute("SELECT id, name, beat_at FROM servers ORDER BY id")
        return [ServerRecord(*row) for row in rows]

    def bury(self, server: str, at: float, detach: float) -> None:
        """See `base.Store.bury`."""
        self._db.execute("DELETE FROM servers WHERE id = ?", (server,))
        self._db.execute("DELETE FROM workers WHERE server = ?", (server,))
        self._db.execute(
            "UPDATE jobs SET server = NULL, give_up_at = ? + coalesce(spec ->> '$.detach', ?)"
            " WHERE state = 'running' AND server = ?",
            (at, detach, server),
        )

    def bury_others(self, at: float, detach: float) -> None:
        """See `base.Store.bury_others`."""
        for server in self.all():
            if server.id != self.own:
                self.bury(server.id, at, detach)
        self._db.execute(
            "UPDATE jobs SET server = NULL, give_up_at = ? + coalesce(spec ->> '$.detach', ?)"
            " WHERE state = 'running' AND server IS NOT ?",
            (at, detach, self.own),
        )

    def has_others(self) -> bool:
        """Whether there are other servers."""
        row = self._db.execute("SELECT 1 FROM servers WHERE id <> ? LIMIT 1", (self.own,))
        return row.fetchone() is not None

    # --- workers ---

    def admit(self, worker: WorkerRecord) -> bool:
        """Write down that a worker is here, unless it has a newer connection elsewhere.

        Of those that do not count their connections (0), the last to come is the newest.
        """
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
        ).fetchall()
        return bool(rows)

    def lose(self, worker: WorkerRecord) -> None:
        """See `base.Store.lose_worker`."""
        self._db.execute(
            "DELETE FROM workers WHERE worker_id = ? AND server = ? AND boot = ?"
            " AND connection = ?",
            (worker.worker_id, self.own, worker.boot, worker.connection),
        )

    def workers(self) -> list[WorkerRecord]:
        """Every worker that is connected to some server."""
        rows = self._db.execute(
            "SELECT worker_id, boot, connection, facts, server FROM workers ORDER BY worker_id"
        )
        return [WorkerRecord(*row) for row in rows]

    def without_moved(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        """These offers without the slots of workers that are another server's by now."""
        moved = self._moved({slot.worker_id for offer in offers for slot in offer.slots})
        if not moved:
            return offers
        return [
            replace(offer, slots=tuple(s for s in offer.slots if s.worker_id not in moved))
            for offer in offers
        ]

    def _moved(self, worker_ids: Collection[str]) -> set[str]:
        rows: Any = self._db.execute(
            "SELECT worker_id FROM workers"
            " WHERE worker_id IN (SELECT value FROM json_each(?)) AND server <> ?",
            (json.dumps(list(worker_ids)), self.own),
        )
        return {worker_id for (worker_id,) in rows}

    # --- attempts ---

    def not_own(self, attempts: Sequence[AttemptKey]) -> frozenset[AttemptKey]:
        """Those of these attempts that do not run, or are not this server's."""
        rows: Any = self._db.execute(
            "SELECT id, attempt FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
            " AND state = 'running' AND server IS ?",
            (json.dumps([job_id for job_id, _ in attempts]), self.own),
        )
        return frozenset(attempts) - {(job_id, number) for job_id, number in rows}

    def take(self, job_ids: Sequence[int]) -> None:
        """What runs of these jobs is this server's from here on."""
        self._db.execute(
            "UPDATE jobs SET server = ?, handovers = handovers + 1, give_up_at = NULL"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (self.own, json.dumps(list(job_ids))),
        )
