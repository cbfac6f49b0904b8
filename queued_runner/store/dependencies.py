"""Who waits for whom: written with new jobs, told when a job has ended.

It owns the tables `dependencies` and `settling`. It decides nothing about `after` (`graph.py`), and
opens no transaction. A job without `after` costs nothing here.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from queued_runner.jobs import JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.store.base import STRANDED, Settled, Stranded
from queued_runner.store.database import Database, Dialect
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

    def __init__(self, db: Database, dialect: Dialect) -> None:
        self._db = db
        self._sql = dialect
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
        stored = self._ids_by_key(names - keys.keys())
        of_list = {name: keys[name] for name in names & keys.keys()}
        ids = {item for item in given if isinstance(item, int)}
        states = self._states(ids.union(stored.values(), of_list.values()))
        # One of them may have been deleted by somebody else between the two looks.
        stored = {key: job_id for key, job_id in stored.items() if job_id in states}
        return waits_of(jobs, of_list | stored, states)

    def _ids_by_key(self, keys: Collection[str]) -> dict[str, int]:
        if not keys:
            return {}
        sql = f"SELECT key, id FROM jobs WHERE key {self._sql.among}"
        return dict(self._db.execute(sql, (self._sql.listed(keys),)))

    def _states(self, ids: Collection[int]) -> dict[int, JobState]:
        """Of those that there are; they stay so until the transaction ends."""
        if not ids:
            return {}
        rows = self._db.execute(
            f"SELECT id, state FROM jobs WHERE id {self._sql.among} ORDER BY id{self._sql.lock}",
            (self._sql.listed(ids),),
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
            " run_after, detach, state, after_ids, waits_for, reason, finished_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

    def _mark_awaited(self, job_ids: Collection[int]) -> None:
        if not job_ids:
            return
        self._db.execute(
            f"UPDATE jobs SET is_awaited = 1 WHERE id {self._sql.among} AND is_awaited = 0",
            (self._sql.listed(job_ids),),
        )

    # --- ends ---

    def owe(self, job_ids: Sequence[int]) -> None:
        """These jobs have ended, and others wait for them."""
        self._db.executemany(
            "INSERT INTO settling (job_id) VALUES (?)"
            " ON CONFLICT (job_id) DO UPDATE SET told_to = 0",
            [(job_id,) for job_id in job_ids],
        )

    def settle(self, now: float) -> Settled:
        """Tell dependants, as many as this transaction has time for; what somebody else tells just
        now is left to them."""
        stranded: list[Stranded] = []
        released: list[int] = []
        while self._budget > 0:
            row = self._db.execute(
                f"SELECT job_id, told_to FROM settling ORDER BY job_id LIMIT 1{self._sql.pass_by}"
            ).fetchone()
            if row is None:
                return Settled(tuple(stranded), tuple(released))
            job_id, told_to = row
            (state,) = self._db.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
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

    def _close(self, job_id: int, dependants: Collection[int]) -> list[int]:
        """Those of them that still waited for the job; they do no longer."""
        if not dependants:
            return []
        rows = self._db.execute(
            "UPDATE dependencies SET is_open = 0 WHERE after_id = ? AND is_open = 1"
            f" AND job_id {self._sql.among} RETURNING job_id",
            (job_id, self._sql.listed(dependants)),
        )
        return [found for (found,) in rows]

    def _release(self, waiting: Collection[int]) -> list[int]:
        if not waiting:
            return []
        rows = self._db.execute(
            "UPDATE jobs SET waits_for = waits_for - 1"
            f" WHERE id {self._sql.among} AND {self._sql.state} = 'queued' AND waits_for > 0"
            " RETURNING id, waits_for",
            (self._sql.listed(waiting),),
        )
        return sorted(job_id for job_id, waits_for in rows if not waits_for)

    def _strand(self, waiting: Collection[int], now: float) -> list[Stranded]:
        if not waiting:
            return []
        state = move(JobState.QUEUED, JobEvent.STRAND)
        rows = self._db.execute(
            "UPDATE jobs SET state = ?, reason = ?, finished_at = ?, waits_for = 0"
            f" WHERE id {self._sql.among} AND {self._sql.state} = 'queued' AND waits_for > 0"
            " RETURNING id, name, grp, attempt, needs, is_awaited",
            (state.value, STRANDED, now, self._sql.listed(waiting)),
        )
        found = sorted(rows.fetchall())
        self.owe([job_id for job_id, *_, is_awaited in found if is_awaited])
        return [
            Stranded(job_id, name, group, attempt, self._mask(job_id, needs))
            for job_id, name, group, attempt, needs, _ in found
        ]

    def _mask(self, job_id: int, needs: str) -> tuple[str, ...]:
        """The secrets of a job. Read in Python: SQL would not read a NUL of its `stdin`."""
        if _HAS_SECRETS not in needs:
            return ()
        (text,) = self._db.execute("SELECT spec FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return tuple(json.loads(text).get("mask", ()))

    # --- a person's retry ---

    def look_again(self, job_id: int, after: Sequence[int], now: float) -> None:
        """A job was queued again: what does it wait for now?"""
        self._db.execute("DELETE FROM settling WHERE job_id = ?", (job_id,))
        if not after:
            return
        wait = wait_of(after, self._states(after))
        self._db.execute(
            "UPDATE dependencies"
            f" SET is_open = CASE WHEN after_id {self._sql.among} THEN 1 ELSE 0 END"
            " WHERE job_id = ?",
            (self._sql.listed(wait.open), job_id),
        )
        # One that has failed is waited for, for a moment: who waits can be stranded.
        waits_for = 1 if wait.is_stranded else len(wait.open)
        self._db.execute("UPDATE jobs SET waits_for = ? WHERE id = ?", (waits_for, job_id))
        if wait.is_stranded:
            self._strand([job_id], now)
        else:
            self._mark_awaited(wait.open)


def _standing(wait: Wait, now: float) -> tuple[Any, ...]:
    after = json.dumps(wait.after)
    if wait.is_stranded:
        return move(JobState.QUEUED, JobEvent.STRAND).value, after, 0, STRANDED, now
    return JobState.QUEUED.value, after, len(wait.open), None, None
