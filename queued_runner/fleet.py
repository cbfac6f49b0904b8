"""This server among those of its queue: alive to the others, and heir to those that are not.

Owns the beat, the burial of dead servers, the rescue of attempts for which nobody has come, and the
fence: a server that cannot beat gives up its workers before the others take over what it has. It
knows no database and no connection; the numbers stand in the design of several servers
(docs/decisions/0035-several-servers-on-one-queue.md).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from queued_runner.dispatcher import Dispatcher
from queued_runner.drains import Drains
from queued_runner.jobs import Job
from queued_runner.store.base import (
    AttemptKey,
    Deposed,
    NoRoom,
    Rescued,
    ServerRecord,
    Store,
    StoreAway,
)
from queued_runner.store.commit import GroupCommit
from remote_runner.types import JobRunner

log = structlog.get_logger("queued_runner")

LEASE: Final = 15.0
"""Seconds after which a server that has not beaten is dead to the others."""
BEAT: Final = 0.2
"""Share of that between two beats."""
PAUSE: Final = 0.05
"""Seconds between two beats at least."""
RETRY: Final = 0.5
"""Seconds between two while the queue is out of reach: it may be back before the fence falls."""
FENCE: Final = 0.8
"""Share of that after which one that cannot beat gives up its workers."""
SILENT: Final = 0.9
"""Share of that after which it says nothing to workers any more, also where it has stood still
until then: each word would tell them to run on."""
STOP: Final = 0.9
"""Share of `detach` after which whatever still runs without a beat is ended: workers have done so
by themselves, what runs in this process has not."""
MAX_RESCUED: Final = 256
"""Attempts that one commit rescues: bounds its time."""
FULL_PAUSE: Final = 1.0
"""Seconds until the next try while the disk has no room."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a beat has seen."""

    time: float
    known: Sequence[ServerRecord]
    drained: Mapping[str, str]
    dead: Sequence[ServerRecord]
    rescued: Rescued
    cancels: Sequence[Job]
    moved: Collection[AttemptKey]


class Fleet:
    """One life of a server.

    Args:
        commits: the one writer of the store.
        dispatcher: has what runs here.
        runners: whose workers are given up when the queue is out of reach.
        name: of the server, for people; the same in each of its lives.
        new_id: an id that no other life of a server has.
        place: how ids of its lives begin, of which there is one at a time: an earlier one is dead.
        drains: hears which workers others have drained.
        is_shared: there may be other servers; else whatever an earlier life left is taken at once.
        detach: seconds after which attempts are given up that name no time of their own.
        silence: seconds that a word may be on its way to a worker that still hears it.
    """

    def __init__(
        self,
        commits: GroupCommit,
        dispatcher: Dispatcher,
        runners: Sequence[JobRunner],
        *,
        name: str,
        new_id: Callable[[], str],
        is_shared: bool,
        detach: float,
        silence: float,
        place: str = "",
        drains: Drains | None = None,
    ) -> None:
        self._commits = commits
        self._dispatcher = dispatcher
        self._runners = runners
        self.name = name
        self.is_shared = is_shared
        self.names: Mapping[str, str] = {}
        """Those of the servers that were alive at the last look, by their ids."""
        self.earlier: tuple[str, ...] = ()
        """The ids of lives of this server before this one, which nobody had found dead by then."""
        self._new_id = new_id
        self._place = place
        self._drains = drains
        self._detach = detach
        self._silence = silence
        self._ahead = 0.0
        """How far the clock of all servers is ahead of trio's."""
        self._beaten = -math.inf
        """When the last beat began that has succeeded, on trio's clock."""
        self._steady = math.inf
        """Since when every beat has."""
        self._has_beaten = trio.lowlevel.ParkingLot()

    async def enter(self) -> None:
        """Become one of the servers. Raises StoreError."""
        known = await self._enlist()
        self.earlier = tuple(
            server.id
            for server in known
            if self._place and server.id.startswith(self._place) and server.id != self.id
        )

    async def _enlist(self) -> Sequence[ServerRecord]:
        began = trio.current_time()
        server = self._place + self._new_id()

        def enlist(store: Store) -> tuple[float, list[ServerRecord]]:
            time = store.time(began)
            store.enlist(server, self.name, time)
            if not self.is_shared:
                store.bury_others(time, self._detach)
            return time, store.servers()

        time, known = await self._commits.call(enlist)
        self._dispatcher.server = server
        self._steady = began
        self._see_beat(began, time, known)
        return known

    def _see_beat(self, began: float, time: float, known: Sequence[ServerRecord]) -> None:
        """The others know that this server was alive when it began to tell them, at that `time` on
        the clock of all."""
        self._beaten = began
        self._ahead = time - began
        self.names = {
            server.id: server.name
            for server in known
            if (server.beat_at + LEASE >= time or not self.is_shared)
            and server.id not in self.earlier
        }
        if self.is_shared:
            for runner in self._runners:
                runner.speak_until(began + SILENT * LEASE)

    @property
    def id(self) -> str:
        """Of this life."""
        return self._dispatcher.server

    def now(self) -> float:
        """What the clock shows that all servers share."""
        return trio.current_time() + self._ahead

    async def leave(self) -> None:
        """Whatever this server has is nobody's: another one, or its next life, may have it."""
        now, server = trio.current_time(), self.id
        if self.is_shared and server:  # else the others have buried it
            # Else the others see by themselves that it is not there any more.
            with suppress(NoRoom, StoreAway, Deposed):
                await self._commits.call(
                    lambda store: store.bury(server, store.time(now) + self._silence, self._detach)
                )

    async def run(self) -> None:
        """Stay one of them, for ever."""
        if not self.is_shared:
            await self._rescue()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fence)
            while True:
                asked = self._dispatcher.asked = trio.Event()
                await self._beat()
                await trio.sleep(PAUSE)
                with trio.move_on_after(BEAT * LEASE - PAUSE if self._steady < math.inf else RETRY):
                    await asked.wait()

    async def _rescue(self) -> None:
        """Give up what an earlier life left, and no worker presents in time."""
        due: float | None = trio.current_time()
        while due is not None:
            now = trio.current_time()
            await trio.sleep(max(0.0, due - now))
            now = trio.current_time()
            try:
                found = await self._commits.call(
                    lambda store, now=now: store.rescue(now, MAX_RESCUED)  # type: ignore[misc]
                )
            except NoRoom:
                await trio.sleep(FULL_PAUSE)
                continue
            self._dispatcher.takeovers.give_up(found.jobs)
            due = found.next_due

    # --- one of several ---

    async def _beat(self) -> None:
        began = trio.current_time()
        is_steady = began - self._steady >= LEASE

        def look(store: Store) -> _Look:
            time = store.time(began)
            store.beat(time)
            for server_id in self.earlier:
                store.bury(server_id, time + self._silence, self._detach)
            known = store.servers()
            # Who was away itself cannot tell who else was.
            dead = [each for each in known if is_steady and each.beat_at + LEASE < time]
            for server in dead:
                store.bury(server.id, server.beat_at + LEASE + self._silence, self._detach)
            rescued = store.rescue(time, MAX_RESCUED if is_steady else 0)
            return _Look(
                time, known, store.drained_workers(), dead, rescued, store.cancels(),
                store.moved(absent),
            )  # fmt: skip

        def seen(found: _Look) -> None:
            self._dispatcher.drop(found.moved)
            if self._drains is not None:
                self._drains.learn(found.drained)

        absent = self._dispatcher.absent()
        try:
            found = await self._commits.call(look, seen)
        except (NoRoom, StoreAway) as error:
            if self._steady < math.inf:
                log.warning("the queue cannot be reached", why=str(error))
            self._steady = math.inf
            return
        except Deposed as error:
            log.warning("this server begins anew", why=str(error))
            # Else it would call the attempts of those that are still here stale. They come back.
            self._hang_up()
            self._dispatcher.drop_all()
            await self._enter_again()
            return
        if self._steady == math.inf:
            log.info("the queue is there again")
            self._steady = began
        for server in found.dead:
            log.warning("server is dead", name=server.name, id=server.id)
            self._dispatcher.inherit()
        self.earlier = ()  # by now they are dead to all
        self._see_beat(began, found.time, found.known)
        self._has_beaten.unpark_all()
        self._dispatcher.look_again(found.cancels)
        self._dispatcher.takeovers.give_up(found.rescued.jobs)

    async def _enter_again(self) -> None:
        try:
            # None is buried: with a copied data directory two would do it to each other for ever.
            await self._enlist()
        except (NoRoom, StoreAway):
            return  # the next beat finds this server deposed again
        self._dispatcher.enter_again()
        self._has_beaten.unpark_all()
        self._dispatcher.wake()

    def _hang_up(self) -> None:
        for runner in self._runners:
            runner.hang_up()

    async def _fence(self) -> None:
        """Give up the workers before the others may take over what they run."""
        while True:
            beaten = self._beaten
            with trio.move_on_at(beaten + FENCE * LEASE) as waiting:
                await self._has_beaten.park()
            if not waiting.cancelled_caught:
                continue
            log.warning("the queue is out of reach: workers are sent to other servers")
            self._dispatcher.is_away = True
            self._hang_up()
            with trio.move_on_after(STOP * self._detach) as waiting:
                await self._has_beaten.park()
            if waiting.cancelled_caught:
                self._dispatcher.end_all()
                await self._has_beaten.park()
            self._dispatcher.is_away = False
            self._dispatcher.wake()
