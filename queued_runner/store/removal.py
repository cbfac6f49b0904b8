"""Deleting jobs: which may go, and which of the gone may still have files.

It owns the table `deleted`. It opens no transaction, and touches no file.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from queued_runner.jobs import JobState
from queued_runner.store.base import Expired
from queued_runner.store.database import Database, Dialect

_ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def expired(
    db: Database, ended_before: Mapping[JobState, float], looked_to: int, limit: int
) -> Expired:
    """See `base.Store.expired`. No index leads there: each end would have to be written into it."""
    limits = " ".join(f"WHEN '{state.value}' THEN CAST(? AS DOUBLE PRECISION)" for state in _ENDED)
    rows: list[Any] = db.execute(
        f"SELECT id, finished_at < CASE state {limits} END FROM jobs WHERE id > ?"
        " ORDER BY id LIMIT ?",
        (*(ended_before.get(state) for state in _ENDED), looked_to, limit),
    ).fetchall()
    ids = tuple(job_id for job_id, is_expired in rows if is_expired)
    return Expired(ids, rows[-1][0] if len(rows) == limit else None)


def delete(db: Database, sql: Dialect, job_ids: Sequence[int]) -> list[int]:
    """See `base.Store.delete`. Once they are locked nobody can begin to come after them."""
    chosen = _ids(
        db,
        f"SELECT id FROM jobs WHERE id {sql.among}"
        f" AND {sql.state} IN ('succeeded', 'failed', 'cancelled') ORDER BY id{sql.lock}",
        sql.listed,
        job_ids,
    )
    chosen -= _ids(db, f"SELECT job_id FROM settling WHERE job_id {sql.among}", sql.listed, chosen)
    named = (
        "SELECT DISTINCT id FROM jobs JOIN dependencies ON after_id = id"
        f" WHERE id {sql.among} AND {sql.state} <> 'succeeded' AND NOT job_id {sql.among}"
    )
    while kept := _ids(db, named, sql.listed, chosen, chosen):
        chosen -= kept
    gone = sorted(chosen)
    if gone:
        db.execute(f"DELETE FROM jobs WHERE id {sql.among}", (sql.listed(gone),))
        db.executemany("INSERT INTO deleted (job_id) VALUES (?)", [(job_id,) for job_id in gone])
    return gone


def _ids(
    db: Database,
    query: str,
    listed: Callable[[Collection[int]], Any],
    *lists: Collection[int],
) -> set[int]:
    """What a query says of some lists; nothing of empty ones."""
    if not all(lists):
        return set()
    return {job_id for (job_id,) in db.execute(query, [listed(ids) for ids in lists])}


def deleted(db: Database, limit: int) -> list[int]:
    """See `base.Store.deleted`."""
    rows = db.execute("SELECT job_id FROM deleted ORDER BY job_id LIMIT ?", (limit,))
    return [job_id for (job_id,) in rows]


def forget_deleted(db: Database, sql: Dialect, job_ids: Sequence[int]) -> None:
    """See `base.Store.forget_deleted`."""
    db.execute(f"DELETE FROM deleted WHERE job_id {sql.among}", (sql.listed(job_ids),))
