"""What the verbs need of a database, and the words in which engines differ. Pure.

The verbs (`reads.py`, `verbs.py`, `dependencies.py`, `removal.py`) are written once, in the SQL
that SQLite and PostgreSQL share; placeholders are `?`. A connection of apsw is a `Database` as it
is, so that SQLite pays nothing for this.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement gave: tuples."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """Where statements run, in the transaction that is open there."""

    def execute(self, sql: str, bindings: Any = None, /) -> Rows: ...

    def executemany(self, sql: str, bindings: Any, /) -> object:
        """Run a statement that gives no rows once for each of some bindings."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """Parts of statements that an engine words in its own way; `""` where it needs none."""

    among: str
    """Behind a column: it is one of a list, whose binding is made by `listed`. Not for an empty
    one: PostgreSQL may find out that nothing is in it by a walk over any partial index."""
    listed: Callable[[Collection[int] | Collection[str]], Any]
    lock: str
    """At the end of a query: nobody else changes these rows in this transaction's time. What a
    verb decides by must be read so."""
    share: str
    """The same, for rows that others may only look at too."""
    pass_by: str
    """As `lock`, without the rows that somebody else has locked."""
    ready: str
    """The table of jobs, by the index that a claim walks."""
    delayed: str
    """The table of jobs, by the index of the delayed."""
    within: str
    """Behind a column: it is one of what a query gives, which stands for `{}`."""
    state: str
    """The column `state`, where no index is to be walked for it: of a million jobs, nearly all may
    have the same."""
    begin_look: str
    """A transaction begins that sees all as it is now, for as long as it takes."""
    begin_alone: str
    """One begins in which nobody else writes, or becomes a server, for as long as it takes."""
    last_id: str
    """The highest id that a job ever had; no row: there was none."""
    set_last_id: str
    misfits: tuple[type[Exception], ...]
    """What is raised for rows that cannot be."""
