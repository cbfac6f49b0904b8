"""Hints over PostgreSQL: NOTIFY sends them, LISTEN hears them.

It owns one connection for each, and their coming back. It knows no table; what hints say is
`hints.py`'s.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import psycopg
import trio

from queued_runner.hints import Heard, Hint, Kind, Waiting, read_message
from queued_runner.store.postgres_session import connection_info
from remote_runner.sparing_log import SparingLog

CHANNEL: Final = "queued_runner"
PAUSE: Final = 0.005
"""Seconds between two messages at least: what happens meanwhile goes with the next."""
RETRY: Final = 1.0
"""Seconds until a lost connection is made anew."""

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresHints:
    """See `hints.Hints`.

    Args:
        address: of the database, as libpq takes it.
    """

    def __init__(self, address: str) -> None:
        self._info = connection_info(address, connect_timeout=3)
        self._sender = secrets.token_hex(4)
        self._waiting = Waiting()
        self._to_send = trio.lowlevel.ParkingLot()
        self._on_lost = SparingLog("queued_runner", "the other servers cannot be heard")

    def send(self, hint: Hint) -> None:
        self._waiting.add(hint)
        self._to_send.unpark()

    async def run(self, heard: Heard) -> None:
        while True:
            try:
                async with self._connection() as ours, self._connection() as theirs:
                    await trio.to_thread.run_sync(theirs.execute, f"LISTEN {CHANNEL}")
                    heard(Hint(Kind.LOST))
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._send_all, ours)
                        nursery.start_soon(self._listen, theirs, heard)
            except* (psycopg.Error, OSError) as errors:
                self._on_lost.warning(why=" ".join(str(errors.exceptions[0]).split()))
            await trio.sleep(RETRY)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connect = partial(psycopg.connect, self._info, autocommit=True)
        connection: Connection = await trio.to_thread.run_sync(connect)
        try:
            yield connection
        finally:
            connection.close()

    async def _send_all(self, connection: Connection) -> None:
        while True:
            if not self._waiting:
                await self._to_send.park()
            messages = self._waiting.take(self._sender)
            await trio.to_thread.run_sync(partial(_notify, connection, messages))
            await trio.sleep(PAUSE)

    async def _listen(self, connection: Connection, heard: Heard) -> None:
        """On the event loop: nothing here waits for the database."""
        while True:
            await trio.lowlevel.wait_readable(connection.fileno())
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                sender, hints = read_message(notify.extra.decode("ascii", "replace"))
                if sender != self._sender:
                    for hint in hints:
                        heard(hint)


def _notify(connection: Connection, messages: list[str]) -> None:
    for message in messages:
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, message))
