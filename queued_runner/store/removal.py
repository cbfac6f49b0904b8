"""Deleting jobs from SQLite: which may go, and which of the gone may still have files.

It owns the table `deleted`. It opens no transaction, and touches no file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from queued_runner.jobs import JobState
from queued_runner.store.base import Expired


def expired(
    db: apsw.Connection, ended_before: Mapping[JobState, float], looked_to: int, limit: int
) -> Expired:
    """See `base.Store.expired`. No index leads there: each end would have to be written into it."""
    rows: list[Any] = db.execute(
        "SELECT seen.id, finished_at < limits.value FROM"
        " (SELECT id, state, finished_at FROM jobs WHERE id > ? ORDER BY id LIMIT ?) AS seen"
        " LEFT JOIN json_each(?) AS limits ON limits.key = state ORDER BY seen.id",
        (looked_to, limit, json.dumps({state.value: time for state, time in ended_before.items()})),
    ).fetchall()
    ids = tuple(job_id for job_id, is_expired in rows if is_expired)
    return Expired(ids, rows[-1][0] if len(rows) == limit else None)


def delete(db: apsw.Connection, job_ids: Sequence[int]) -> list[int]:
    """See `base.Store.delete`."""
    chosen = _ids(
        db,
        "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?1))"
        " AND state IN ('succeeded', 'failed', 'cancelled')"
        " AND id NOT IN (SELECT job_id FROM settling)",
        job_ids,
    )
    while kept := _ids(
        db,
        "SELECT DISTINCT id FROM jobs JOIN dependencies ON after_id = id"
        " WHERE id IN (SELECT value FROM json_each(?1)) AND state <> 'succeeded'"
        " AND job_id NOT IN (SELECT value FROM json_each(?1))",
        sorted(chosen),
    ):
        chosen -= kept
    gone = sorted(chosen)
    db.execute("DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(gone),))
    db.executemany("INSERT INTO deleted (job_id) VALUES (?)", [(job_id,) for job_id in gone])
    return gone


def _ids(db: apsw.Connection, sql: str, given: Sequence[int]) -> set[int]:
    return {job_id for (job_id,) in db.execute(sql, (json.dumps(list(given)),))}


def dependant_of(db: apsw.Connection, job_id: int) -> int | None:
    """See `base.Store.dependant_of`."""
    row = db.execute(
        "SELECT min(job_id) FROM dependencies WHERE after_id = ?", (job_id,)
    ).fetchone()
    return None if row is None else row[0]


def deleted(db: apsw.Connection, limit: int) -> list[int]:
    """See `base.Store.deleted`."""
    rows: Any = db.execute("SELECT job_id FROM deleted ORDER BY job_id LIMIT ?", (limit,))
    return [job_id for (job_id,) in rows]


def forget_deleted(db: apsw.Connection, job_ids: Sequence[int]) -> None:
    """See `base.Store.forget_deleted`."""
    db.execute(
        "DELETE FROM deleted WHERE job_id IN (SELECT value FROM json_each(?))",
        (json.dumps(job_ids),),
    )
