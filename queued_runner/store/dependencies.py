"""Who waits for whom, in SQLite: written with new jobs, told when a job has ended.

It owns the tables `dependencies` and `settling`. It decides nothing about `after` (`graph.py`), and
opens no transaction. A job without `after` costs nothing here.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import apsw

from queued_runner.jobs import JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.store.base import STRANDED, Settled, Stranded
from queued_runner.store.graph import NewJob, Wait, wait_of, waits_of
from queued_runner.store.needs import needs_text
from remote_runner.types import CAN_MASK

BUDGET: Final = 1000
"""Dependants that are told in one transaction: some ten milliseconds."""
JOB_COST: Final = 5
"""What an ended job takes of the budget, beside its dependants."""
_HAS_SECRETS: Final = needs_text({CAN_MASK: ""})
"""Stands in the needs of a job with a `mask`: those of others are not worth a look into the spec,
which may be megabytes."""


class Dependencies:
    """The dependencies in one database. Call `begin` with each transaction."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._budget = BUDGET

    def begin(self) -> None:
        """A transaction has begun: there is time for more."""
        self._budget = BUDGET

    # --- new jobs ---

    def waits(self, jobs: Mapping[int, NewJob], keys: Mapping[str, int]) -> dict[int, Wait]:
        """What the `after` of new jobs comes to; `keys` are those of their list.

        Raises:
            BadDependency: see `graph.waits_of`.
        """
        given = {reference for job in jobs.values() for reference in job.spec.after}
        names = {item for item in given if isinstance(item, str)}
        rows: Any = self._db.execute(
            "SELECT key, id FROM jobs WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(names - keys.keys())),),
        )
        ids_by_key = {**{name: keys[name] for name in names & keys.keys()}, **dict(rows)}
        ids = {item for item in given if isinstance(item, int)}
        return waits_of(jobs, ids_by_key, self._states(ids.union(ids_by_key.values())))

    def _states(self, ids: Collection[int]) -> dict[int, JobState]:
        rows = self._db.execute(
            "SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        return {job_id: JobState(state) for job_id, state in rows}

    def insert(
        self, rows: Sequence[tuple[Any, ...]], waits: Mapping[int, Wait], now: float
    ) -> None:
        """Store new jobs that come after others; `rows` are as for those that do not.

        Those without `after` of the same list are stored by now.
        """
        self._db.executemany(
            "INSERT INTO jobs (id, spec, name, grp, key, priority, needs, is_delayed, created_at,"
            " run_after, state, after_ids, waits_for, reason, finished_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*row, *_standing(waits[row[0]], now)) for row in rows],
        )
        self._db.executemany(
            "INSERT INTO dependencies (after_id, job_id, is_open) VALUES (?, ?, ?)",
            [
                (other, job_id, is_open)
                for job_id, wait in waits.items()
                for is_open, others in ((1, wait.open), (0, set(wait.after) - set(wait.open)))
                for other in others
            ],
        )
        self._mark_awaited({other for wait in waits.values() for other in wait.open})

    def _mark_awaited(self, job_ids: Iterable[int]) -> None:
        self._db.execute(
            "UPDATE jobs SET is_awaited = 1"
            " WHERE id IN (SELECT value FROM json_each(?)) AND is_awaited = 0",
            (json.dumps(sorted(job_ids)),),
        )

    # --- ends ---

    def owe(self, job_ids: Sequence[int]) -> None:
        """These jobs have ended, and others wait for them."""
        self._db.executemany(
            "INSERT OR REPLACE INTO settling (job_id) VALUES (?)", [(job_id,) for job_id in job_ids]
        )

    def settle(self, now: float) -> Settled:
        """Tell dependants, as many as this transaction has time for."""
        stranded: list[Stranded] = []
        released: list[int] = []
        while self._budget > 0:
            row = self._db.execute(
                "SELECT job_id, told_to, state FROM settling JOIN jobs ON id = job_id"
                " ORDER BY job_id LIMIT 1"
            ).fetchone()
            if row is None:
                return Settled(tuple(stranded), tuple(released))
            job_id, told_to, state = row
            limit = self._budget
            dependants = [
                found
                for (found,) in self._db.execute(
                    "SELECT job_id FROM dependencies WHERE after_id = ? AND job_id > ?"
                    " ORDER BY job_id LIMIT ?",
                    (job_id, told_to, limit),
                )
            ]
            waiting = self._close(job_id, dependants)
            if state == JobState.SUCCEEDED:
                released += self._release(waiting)
            else:
                stranded += self._strand(waiting, now)
            if len(dependants) == limit:
                sql = "UPDATE settling SET told_to = ? WHERE job_id = ?"
                self._db.execute(sql, (dependants[-1], job_id))
            else:
                self._db.execute("DELETE FROM settling WHERE job_id = ?", (job_id,))
            self._budget -= len(dependants) + JOB_COST
        return Settled(tuple(stranded), tuple(released), is_all=False)

    def _close(self, job_id: int, dependants: Sequence[int]) -> str:
        """Those of them that still waited for the job, as JSON; they do no longer."""
        rows: Any = self._db.execute(
            "UPDATE dependencies SET is_open = 0 WHERE after_id = ? AND is_open = 1"
            " AND job_id IN (SELECT value FROM json_each(?)) RETURNING job_id",
            (job_id, json.dumps(dependants)),
        )
        return json.dumps([found for (found,) in rows])

    def _release(self, waiting: str) -> list[int]:
        rows: list[Any] = self._db.execute(
            "UPDATE jobs SET waits_for = waits_for - 1"
            " WHERE id IN (SELECT value FROM json_each(?)) AND state = 'queued' AND waits_for > 0"
            " RETURNING id, waits_for",
            (waiting,),
        ).fetchall()
        return [job_id for job_id, waits_for in rows if not waits_for]

    def _strand(self, waiting: str, now: float) -> list[Stranded]:
        state = move(JobState.QUEUED, JobEvent.STRAND)
        rows: list[Any] = self._db.execute(
            "UPDATE jobs SET state = ?, reason = ?, finished_at = ?, waits_for = 0"
            " WHERE id IN (SELECT value FROM json_each(?)) AND state = 'queued' AND waits_for > 0"
            " RETURNING id, name, grp, attempt,"
            " CASE WHEN instr(needs, ?) THEN spec -> '$.mask' END, is_awaited",
            (state.value, STRANDED, now, waiting, _HAS_SECRETS),
        ).fetchall()
        self.owe([job_id for job_id, *_, is_awaited in rows if is_awaited])
        return [
            Stranded(job_id, name, group, attempt, tuple(json.loads(mask)) if mask else ())
            for job_id, name, group, attempt, mask, _ in rows
        ]

    # --- a person's retry ---

    def look_again(self, job_id: int, after: Sequence[int], now: float) -> None:
        """A job was queued again: what does it wait for now?"""
        self._db.execute("DELETE FROM settling WHERE job_id = ?", (job_id,))
        if not after:
            return
        wait = wait_of(after, self._states(after))
        self._db.execute(
            "UPDATE dependencies SET is_open = after_id IN (SELECT value FROM json_each(?))"
            " WHERE job_id = ?",
            (json.dumps(wait.open), job_id),
        )
        # One that has failed is waited for, for a moment: who waits can be stranded.
        waits_for = 1 if wait.is_stranded else len(wait.open)
        self._db.execute("UPDATE jobs SET waits_for = ? WHERE id = ?", (waits_for, job_id))
        if wait.is_stranded:
            self._strand(json.dumps([job_id]), now)
        else:
            self._mark_awaited(wait.open)

    # --- looking ---

    def of(self, job_id: int) -> list[tuple[int, JobState, bool]]:
        """What a job comes after: each with its state, and whether it is still waited for."""
        rows = self._db.execute(
            "SELECT id, state, is_open FROM dependencies JOIN jobs ON id = after_id"
            " WHERE job_id = ? ORDER BY id",
            (job_id,),
        )
        return [(other, JobState(state), bool(is_open)) for other, state, is_open in rows]


def _standing(wait: Wait, now: float) -> tuple[Any, ...]:
    after = json.dumps(wait.after)
    if wait.is_stranded:
        return move(JobState.QUEUED, JobEvent.STRAND).value, after, 0, STRANDED, now
    return JobState.QUEUED.value, after, len(wait.open), None, None
