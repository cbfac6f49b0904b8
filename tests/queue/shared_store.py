"""Several servers on one store in memory, each with a connection and with hints of its own.

A store knows which server writes through it: here each connection says so as its transaction
begins. Transactions are run inline, so none is in the middle of another one.
"""

from typing import Any

import trio

from queued_runner.hints import Heard, Hint
from queued_runner.store.base import StoreAway


class Connection:
    """The connection of one server to a store of several."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._own = None
        self.is_away = False
        """Whether the database cannot be reached from this server."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def begin(self) -> None:
        if self.is_away:
            raise StoreAway("no route to the database")
        self._store.begin()
        self._store._servers.own = self._own

    def rollback(self) -> None:
        if not self.is_away:
            self._store.rollback()

    def counts(self, *args: Any) -> Any:
        if self.is_away:
            raise StoreAway("no route to the database")
        return self._store.counts(*args)

    def commit(self) -> None:
        self._own = self._store._servers.own
        self._store.commit()


class Bus:
    """Where servers hear each other at once; or nothing, while it `is_mute`."""

    def __init__(self) -> None:
        self.is_mute = False
        self.heard: dict[object, Heard] = {}

    def send(self, sender: object, hint: Hint) -> None:
        """To all others."""
        for end, heard in list(self.heard.items()):
            if end is not sender and not self.is_mute:
                heard(hint)


class BusHints:
    """The hints of one server on a bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def send(self, hint: Hint) -> None:
        self._bus.send(self, hint)

    async def run(self, heard: Heard) -> None:
        self._bus.heard[self] = heard
        try:
            await trio.sleep_forever()
        finally:
            del self._bus.heard[self]
