"""The tables that are the queue itself, as both engines have them: for who takes it along. Pure.

Owns which columns go along, in which order, and what may be in them. Not those that say who has
what at this moment: `servers`, `workers`, and of jobs `server` and `give_up_at`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """`kind`: INTEGER, REAL, TEXT or BLOB, as SQLite says it."""

    name: str
    kind: str
    may_be_null: bool


@dataclass(frozen=True, slots=True)
class Table:
    """`keys`: how many of its columns, from the first, tell its rows apart and order them.

    `page` rows are in memory at once: they may be large.
    """

    name: str
    columns: tuple[Column, ...]
    keys: int
    page: int


def table(name: str, columns: str, *, keys: int = 1, page: int = 1000) -> Table:
    """A table whose columns are written as in SQL, in these words alone."""
    found = []
    for text in columns.split(","):
        column, kind, *constraint = text.split()
        found.append(Column(column, kind, not constraint))
    return Table(name, tuple(found), keys, page)


TABLES: Final = (
    table(
        "jobs",
        "id INTEGER NOT NULL, spec TEXT NOT NULL, name TEXT, grp TEXT, key TEXT,"
        " priority INTEGER NOT NULL, needs TEXT NOT NULL, state TEXT NOT NULL,"
        " is_delayed INTEGER NOT NULL, reason TEXT, exit_code INTEGER, signal TEXT,"
        " attempt INTEGER NOT NULL, worker TEXT, worker_id TEXT, worker_boot TEXT,"
        " created_at REAL NOT NULL, run_after REAL NOT NULL, started_at REAL, finished_at REAL,"
        " cancel_requested INTEGER NOT NULL, failures INTEGER NOT NULL, losses INTEGER NOT NULL,"
        " log_bytes INTEGER NOT NULL, log_dropped INTEGER NOT NULL, after_ids TEXT,"
        " waits_for INTEGER NOT NULL, is_awaited INTEGER NOT NULL, handovers INTEGER NOT NULL,"
        " detach REAL, cancel_signal TEXT, cancel_grace REAL",
        page=16,
    ),
    table(
        "attempts",
        "job_id INTEGER NOT NULL, number INTEGER NOT NULL, worker TEXT, worker_id TEXT,"
        " started_at REAL NOT NULL, finished_at REAL, reason TEXT, exit_code INTEGER, signal TEXT,"
        " duration REAL, max_rss INTEGER, cpu_time REAL, log_bytes INTEGER NOT NULL,"
        " log_dropped INTEGER NOT NULL, output BLOB",
        keys=2,
        page=64,
    ),
    table(
        "results",
        "job_id INTEGER NOT NULL, number INTEGER NOT NULL, head BLOB NOT NULL,"
        " start INTEGER NOT NULL, data BLOB, epoch INTEGER NOT NULL",
        keys=2,
        page=4,
    ),
    table(
        "dependencies",
        "after_id INTEGER NOT NULL, job_id INTEGER NOT NULL, is_open INTEGER NOT NULL",
        keys=2,
    ),
    table("settling", "job_id INTEGER NOT NULL, told_to INTEGER NOT NULL"),
    table("deleted", "job_id INTEGER NOT NULL"),
    table("drained_workers", "worker_id TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL"),
)
"""In an order in which rows name only what is there."""
