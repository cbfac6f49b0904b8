"""All rows of a queue, to be taken elsewhere; and those of another one, put into an empty one.

It knows the tables by `tables.py` alone, and nothing of what rows mean. Its transactions are long:
they are for a queue at rest. Who begins one ends it with `commit` or `rollback` of the store.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from queued_runner.store.base import StoreError
from queued_runner.store.database import Database, Dialect
from queued_runner.store.tables import TABLES, Table

PAGE = 1000
"""Small rows that are in memory at once."""


class RowsRefused(StoreError):
    """Rows that cannot be in the queue together. It tells none: there may be secrets in them."""


class Whole:
    """The queue of one connection.

    Args:
        db: where statements run.
        dialect: how its engine says things.
        guard: raises the engine's errors as those of the contract.
    """

    def __init__(self, db: Database, dialect: Dialect, guard: AbstractContextManager[None]) -> None:
        self._db = db
        self._sql = dialect
        self._guard = guard

    def begin_look(self) -> None:
        """From here on all is seen as it is now."""
        with self._guard:
            self._db.execute(self._sql.begin_look)

    def begin_alone(self) -> None:
        """From here on nobody else writes, or becomes a server of this queue."""
        with self._guard:
            self._db.execute(self._sql.begin_alone)

    # --- looking ---

    def rows(self, table: Table) -> Iterator[Any]:
        """Its rows, by their keys."""
        names = ", ".join(column.name for column in table.columns)
        if table.columns[0].kind == "TEXT":
            # Few. Engines do not order each text alike, Python does for both.
            with self._guard:
                rows = self._db.execute(f"SELECT {names} FROM {table.name}").fetchall()
            yield from sorted(rows)
        else:
            yield from self._pages(table, names, "", table.page)

    def attempts_in_files(self) -> Iterator[tuple[int, int, int]]:
        """Attempts whose output may lie in files: job, number, and bytes as far as is known."""
        where = "output IS NULL AND (log_bytes > 0 OR finished_at IS NULL) AND "
        return self._pages(_named("attempts"), "job_id, number, log_bytes", where, PAGE)

    def results_in_files(self) -> Iterator[tuple[int, int, int]]:
        """Attempts whose results lie in a file: job, number, and the epoch that names it."""
        return self._pages(_named("results"), "job_id, number, epoch", "data IS NULL AND ", PAGE)

    def _pages(self, table: Table, names: str, where: str, limit: int) -> Iterator[Any]:
        keys = ", ".join(column.name for column in table.columns[: table.keys])
        marks = ", ".join("?" * table.keys)
        sql = (
            f"SELECT {names} FROM {table.name} WHERE {where}({keys}) > ({marks})"
            f" ORDER BY {keys} LIMIT ?"
        )
        after: Sequence[int] = (0,) * table.keys  # ids and numbers begin at 1
        while True:
            with self._guard:
                page = self._db.execute(sql, (*after, limit)).fetchall()
            yield from page
            if len(page) < limit:
                return
            after = page[-1][: table.keys]

    def last_id(self) -> int:
        """The highest id that a job ever had, 0 for none."""
        with self._guard:
            row = self._db.execute(self._sql.last_id).fetchone()
        return int(row[0]) if row else 0

    def is_empty(self) -> bool:
        """Whether there is no row in any table."""
        with self._guard:
            return not any(
                self._db.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone()
                for table in TABLES
            )

    # --- writing ---

    def insert(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows as they are.

        Raises:
            RowsRefused: they cannot be there, at least not with those that are.
        """
        names = ", ".join(column.name for column in table.columns)
        marks = ", ".join("?" * len(table.columns))
        with self._guard:
            try:
                self._db.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)
            except self._sql.misfits as error:
                raise RowsRefused(
                    f"rows of {table.name} are there twice, name rows that are not there, or are"
                    " more than this database can hold"
                ) from error

    def become(self, identity: str, last_id: int) -> None:
        """Be the queue that workers know by this, whose jobs have had ids up to `last_id`."""
        last_id = max(last_id, self.last_id())
        with self._guard:
            self._db.execute("UPDATE identity SET id = ?", (identity,))
            if last_id:
                self._db.execute(self._sql.set_last_id, (last_id,))


def _named(name: str) -> Table:
    return next(table for table in TABLES if table.name == name)
