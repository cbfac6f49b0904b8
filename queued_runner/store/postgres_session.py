"""Connections to PostgreSQL: how they are made, and what their errors mean to the store.

It knows no table. A `Session` is the one connection that writes, a `Pool` those that look.
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from queued_runner.store.base import StoreAway, StoreBroken, StoreError, StoreFull, TryAgain
from queued_runner.store.postgres_text import EscapingDumper, UnescapingLoader
from remote_runner.errors import UnusableSettings

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

_CONNECT: Final[dict[str, Any]] = {
    "application_name": "queued-runner",
    # Who is cut off notices before its lease ends; and it would hold its locks for two hours.
    "connect_timeout": 5,
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8_000,
}
"""What the address may say otherwise."""
_SETTINGS: Final = {
    "statement_timeout": "30s",
    # A server that stands still in the middle of a transaction holds up all others.
    "idle_in_transaction_session_timeout": "15s",
    # Every statement has an index to walk. A plan that is made, and kept, while a table is short
    # would walk all of it, and sort: the next minute there may be a million jobs.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "jit": "off",  # it would take longer than any of our statements
}
READERS: Final = 4
"""Threads that look, at most: each has a connection."""

_AGAIN: Final = ("40001", "40P01")
_AWAY: Final = ("08", "53", "57", "25006", "25P03", "55P03")
"""The connection, too few resources, a shutdown or a timeout, a standby, an idle transaction, a
lock; codes or their beginnings."""
_BROKEN: Final = ("0A", "26", "28", "3D", "3F", "42", "58", "F0", "XX")
"""What the server cannot do, who may do it, what is missing; errors of its disk and its own."""


def place_of(address: str) -> str:
    """What a database is called in messages: without user and password."""
    try:
        parts = conninfo_to_dict(address)
    except psycopg.Error:
        return "the given address"
    host, port = parts.get("host", "localhost"), parts.get("port")
    return f"{host}{f':{port}' if port else ''}/{parts.get('dbname', '')}"


class Guard:
    """Raises what the database raises as errors of the contract."""

    def __init__(self, address: str) -> None:
        self.place = place_of(address)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error):
            meant = self._meaning(error)
            if meant is not None:
                raise meant from error

    def _meaning(self, error: psycopg.Error) -> StoreError | None:
        """None: it is an error of this program."""
        code, where = error.sqlstate or "", f"the database at {self.place}"
        said = " ".join(str(error).split())
        if code in _AGAIN or _is_taken_key(error):
            return TryAgain(f"others were in the way at {self.place}: {said}; it can be run again")
        if code == "53100":
            return StoreFull(
                f"{where} has no room on its disk; nothing was stored: free some space there, then"
                " try again"
            )
        if code.startswith(_AWAY) or (
            not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        ):
            return StoreAway(
                f"{where} does not answer: {said}; see that it runs and can be reached"
            )
        if code.startswith(_BROKEN):
            return StoreBroken(f"{where} cannot be used: {said}; check it, then start again")
        return None


def _is_taken_key(error: psycopg.Error) -> bool:
    """Whether somebody else has just added a job with the same key: who looks again finds it."""
    return error.sqlstate == "23505" and error.diag.constraint_name == "jobs_key_key"


@lru_cache(maxsize=256)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


def _run(connection: Connection, sql: str, bindings: Any) -> Cursor:
    if bindings is None:  # a script, perhaps: it goes as it is
        return connection.execute(sql)
    return connection.execute(_translated(sql), bindings)


def _prepare(connection: Connection) -> None:
    """A new connection, made fit for the store."""
    adapters = connection.adapters
    adapters.register_dumper(str, EscapingDumper)
    adapters.register_loader("text", UnescapingLoader)
    adapters.register_dumper(int, Int8Dumper)  # one type: a statement is prepared but once
    # Not in the address: a pooler between would refuse it there.
    calls = ", ".join("set_config(%s, %s, false)" for _ in _SETTINGS)
    connection.execute(
        f"SELECT {calls}", [part for setting in _SETTINGS.items() for part in setting]
    )


def connection_info(address: str, **others: Any) -> str:
    """What a connection is made with; `others` stand above what is usual, below the address.

    Raises:
        UnusableSettings: this is no address; what is wrong is not shown, it may be the password.
    """
    try:
        return make_conninfo("", **{**_CONNECT, **others, **conninfo_to_dict(address)})
    except psycopg.ProgrammingError as error:
        raise UnusableSettings(
            "the store is no address that libpq understands: look at its parameters behind '?', and"
            " at each '%' in it"
        ) from error


def _connect(info: str, prepare: Callable[[Connection], None]) -> Connection:
    connection = psycopg.connect(info, autocommit=True)
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class Session:
    """One connection, which is made anew for the next transaction after it was lost.

    A transaction begins at `begin`; outside of one each statement is one. In a transaction only a
    statement whose rows are looked at is waited for: the others go ahead of it, and their errors
    may come with a later one. That undoes all of them in any case.
    """

    def __init__(self, address: str) -> None:
        self._info = connection_info(address)
        self._connection = _connect(self._info, _prepare)
        self._ahead = ExitStack()
        """Ends the sending ahead: waits for all that was sent."""

    def execute(self, sql: str, bindings: Any = None, /) -> Cursor:
        return _run(self._connection, sql, bindings)

    def executemany(self, sql: str, bindings: Any, /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql), bindings)

    def begin(self) -> None:
        if self._connection.closed:
            self._connection = _connect(self._info, _prepare)
        self._ahead.enter_context(self._connection.pipeline())
        # Whatever the database says: the verbs lock what they look at.
        self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    def wait(self) -> None:
        """For all that was sent ahead: from here on it can only be committed or not."""
        self._ahead.close()

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """End a transaction, if there is one; a connection that cannot do so any more is closed."""
        with suppress(psycopg.Error):  # it is known, or it does not matter any more
            self._ahead.close()
        if self._connection.info.transaction_status is TransactionStatus.IDLE:
            return
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.Error:
            self._connection.close()

    def close(self) -> None:
        self._connection.close()


class Pool:
    """Connections that look, for several threads at once: as many as ever looked at the same time.

    Each statement is its own transaction. Nothing waits for a connection, and none is made before
    it is needed: while the database is away that is known at once, and so it is that it is back.
    """

    def __init__(self, address: str) -> None:
        self._info = connection_info(address)
        self._idle: deque[Connection] = deque()

    def execute(self, sql: str, bindings: Any = None, /) -> Cursor:
        while True:
            try:
                connection, is_new = self._idle.pop(), False
            except IndexError:
                connection, is_new = _connect(self._info, _prepare_to_look), True
            try:
                cursor = _run(connection, sql, bindings)  # it holds all rows
            except BaseException:
                if is_new or not connection.closed:
                    connection.close()
                    raise
                continue  # it was lost while nobody used it
            self._idle.append(connection)
            return cursor

    def executemany(self, sql: str, bindings: Any, /) -> None:
        raise NotImplementedError("a reader writes nothing")

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _prepare_to_look(connection: Connection) -> None:
    _prepare(connection)
    connection.execute("SET default_transaction_read_only = on")
