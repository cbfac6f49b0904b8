"""The worker: dials a server, comes back after cuts, stops its jobs in time, leaves when drained.

Owns when there is a connection and when the worker is done. A connection is `session.py`'s, what
runs is `slots.py`'s, and which of several servers is dialled is `rota.py`'s.
"""

import errno
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from simple_worker.attempts import HeldAttempt
from simple_worker.fences import BEAT
from simple_worker.processes import Processes
from simple_worker.rota import Rota
from simple_worker.session import Ending, Identity, Session
from simple_worker.slots import Slots
from simple_worker.spool_files import SpoolFolder

CONNECT: Final = 10.0
"""Seconds that a server may take to answer at all."""
FENCE: Final = 0.9
"""Share of `detach` after which a worker without contact stops an attempt by itself."""
ASK: Final = 0.25
"""Share of it after which a runner that has nothing to say is asked for a sign of life."""
FENCE_PAUSE: Final = 0.02
"""Seconds between two looks at all attempts: a thousand short jobs need no thousand looks."""
IDLE: Final = 1.0
"""Seconds without work, while connected, after which a worker with `once` leaves."""
PARTING: Final = 2.0
"""Seconds that a worker which leaves waits for the runner's last word."""
REMIND: Final = 5.0
"""Seconds at least between two lines about what a draining worker waits for."""
LOOK: Final = 2.0
"""Seconds between two looks at what the machine lacks."""
REMIND_SHORTAGE: Final = 60.0
"""Seconds at least between two lines about it."""

Connect = Callable[[], Awaitable[trio.abc.Stream]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Server:
    """Where a worker may connect: `connect` dials, and raises OSError when there is nobody.

    `name` is what the person who watches calls it.
    """

    connect: Connect
    name: str = "the runner"


class Worker:
    """Runs children for one runner, which may have several servers.

    Args:
        identity: who it is.
        servers: those of the runner, at least one; it is connected to one at a time.
        processes: starts children.
        rng: at least 0 and below 1, the order of the servers and the jitter of reconnecting.
        now: wall clock, UNIX seconds.
        say: takes one line for the person who watches.
        spool: where output goes that does not fit into memory, on a disk without which there is no
            new work; None: nowhere.
        once: leave when there is nothing to do.
    """

    def __init__(
        self,
        identity: Identity,
        servers: Sequence[Server],
        processes: Processes,
        *,
        rng: Callable[[], float],
        now: Callable[[], float],
        say: Say,
        spool: SpoolFolder | None = None,
        once: bool = False,
    ) -> None:
        self._identity = identity
        self._servers = servers
        self._rota = Rota(len(servers), rng)
        self._processes = processes
        self._now = now
        self._say = say
        self._once = once
        self._changed = trio.lowlevel.ParkingLot()
        """Waits for the next change of anything that is held or said."""
        self._draining = trio.Event()
        self._finished = trio.Event()
        self._spool = spool
        self._slots = Slots(processes, identity.slots, identity.name, now, self._on_change, spool)
        self._session: Session | None = None
        """The connection that the runner accepted last, also when it has ended."""
        self._connections = 0
        """How many there were; with its number in each, servers know which one is the newest."""
        self._last_beat = -math.inf
        """When the reaper, the second fence, was last told of the last contact."""

    async def run(self) -> None:
        """Work until drained, or, with `once`, until there is nothing to do."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._slots.run)
            nursery.start_soon(self._stay_connected)
            nursery.start_soon(self._fence)
            nursery.start_soon(self._watch_room)
            nursery.start_soon(self._say_what_is_waited_for)
            if self._once:
                nursery.start_soon(self._drain_when_idle)
            await self._finished.wait()
            session = self._session
            if session is not None and self._slots.outlet is session and self._slots.is_idle:
                # A spawn that crossed `draining` on the wire is refused, not lost.
                with trio.move_on_after(PARTING):
                    await session.round_trip()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Take no more work; `run` returns once everything held is durable at the runner."""
        if not self._slots.is_draining:
            self._slots.drain()
            self._draining.set()
            self._on_change()

    async def stop(self) -> None:
        """End all that runs; `run` returns once the runner knows of it, or soon if it does not."""
        self.drain()
        self._slots.abandon()
        if self._slots.outlet is not None:
            with trio.move_on_after(PARTING):
                await self._finished.wait()
        self._finished.set()

    def _on_change(self) -> None:
        if self._slots.is_draining and self._slots.is_idle:
            self._finished.set()
        if self._changed:
            self._changed.unpark_all()

    async def _stay_connected(self) -> None:
        index, delay = self._rota.next(trio.current_time())
        while True:
            await trio.sleep(delay)
            ending = await self._converse(self._servers[index])
            now = trio.current_time()
            self._rota.on_end(
                index,
                now,
                was_welcome=ending.was_welcome,
                retry_after=ending.retry_after,
                patience=self._patience(),
            )
            index, delay = self._rota.next(now)
            where = f" at {self._servers[index].name}" if len(self._servers) > 1 else ""
            self._say(f"next try in {delay:.1f} s{where}")

    async def _converse(self, server: Server) -> Ending:
        """One try at one server, and all that follows if it takes this worker."""

        def on_welcome(session: Session) -> None:
            self._session = session
            self._rota.on_welcome()
            self._say(f"connected to {server.name}, {self._identity.slots} slots")
            self._on_change()

        try:
            stream = await self._dial(server)
        except OSError as error:
            self._say(f"no connection to {server.name}: {error.strerror or error}")
            return Ending(str(error), was_welcome=False)
        self._connections += 1
        session = Session(
            self._identity,
            self._connections,
            self._slots,
            self._now,
            self._why_not,
            on_welcome,
            self.drain,
        )
        ending = await session.run(stream)
        what = "no runner any more" if ending.was_welcome else f"no work from {server.name}"
        self._say(f"{what}: {ending.why}")
        return ending

    async def _dial(self, server: Server) -> trio.abc.Stream:
        # A share of what is left for each, so that one that hangs does not keep it from the others.
        share = self._patience() / (len(self._servers) + 1)
        with trio.move_on_after(min(CONNECT, max(1.0, share))):
            return await server.connect()
        raise TimeoutError(errno.ETIMEDOUT, "it does not answer")

    def _patience(self) -> float:
        """Seconds until the first of what is held is stopped, or given up by the runner."""
        session, least = self._session, math.inf
        if session is not None:
            silence = session.silence
            for held in self._slots.held:
                detach = _detach(held, session)
                left = detach * (FENCE if held.is_running else 1) - silence
                # A runner that has started again waits anew.
                least = min(least, left if left > 0 else detach)
        return least

    def _why_not(self, server_id: str) -> str | None:
        """Why not to work for this server: it has no part in what is held, and would end it.

        What the other one can no longer want, because it was out of contact for too long, is
        forgotten. A server without an id remembers nothing, and none has part in what it ran.
        """
        session = self._session
        if session is None or not server_id or session.server_id in ("", server_id):
            return None
        silence = session.silence
        for held in list(self._slots.held):
            if not held.is_running and silence >= _detach(held, session):
                self._slots.forget(held.id)
        count = len(self._slots.held)
        if not count:
            return None
        return (
            f"it is another one than that of the {count} job{'s' * (count > 1)} here (another data"
            " directory?); that one is waited for as long as it may come back"
        )

    async def _fence(self) -> None:
        """Stop each attempt before the runner, out of contact for too long, gives it up."""
        while True:
            due = math.inf
            if self._session is not None:
                shortest = math.inf
                for held in self._slots.held:
                    if held.is_running and not held.is_abandoned:
                        due = min(due, self._keep_in_contact(held, self._session))
                        shortest = min(shortest, _detach(held, self._session))
                due = min(due, self._beat(BEAT * shortest, self._session))
            with trio.move_on_at(due):
                await self._changed.park()
            await trio.sleep(FENCE_PAUSE)

    def _keep_in_contact(self, held: HeldAttempt, session: Session) -> float:
        """Ask for a sign of life, or stop the attempt, if it is time; when to look again."""
        now, contact = trio.current_time(), session.last_contact
        detach = _detach(held, session)
        fence = contact + FENCE * detach
        if now >= fence:
            self._say(f"out of contact for too long: stopping {held.id}")
            held.abandon(grace=(1 - FENCE) / 2 * detach)
            return math.inf
        if now >= max(contact, session.last_ping) + ASK * detach:
            session.ping()
        return min(fence, max(contact, session.last_ping) + ASK * detach)

    def _beat(self, interval: float, session: Session) -> float:
        """Tell the reaper of the last contact, if it is time; when it is again."""
        now = trio.current_time()
        if now >= self._last_beat + interval:
            self._last_beat = now
            self._processes.tell_contact(session.silence)
        return self._last_beat + interval

    async def _watch_room(self) -> None:
        """Take no new work while the machine lacks something for it."""
        said = -math.inf
        while True:
            before = self._slots.shortage
            self._slots.see_shortage(None if self._spool is None else self._spool.shortage())
            shortage = self._slots.shortage or before
            if shortage is not None and trio.current_time() - said >= REMIND_SHORTAGE:
                self._say(f"no new jobs for now: {shortage}")
                said = trio.current_time()
            if self._spool is None and self._slots.shortage is None:
                await self._changed.park()
            await trio.sleep(LOOK)

    async def _say_what_is_waited_for(self) -> None:
        await self._draining.wait()
        said = ""
        while True:
            line = self._what_is_waited_for()
            if not line or line == said:
                await self._changed.park()
            else:
                self._say(line)
                said = line
                await trio.sleep(REMIND)

    def _what_is_waited_for(self) -> str:
        counts = (
            (self._slots.unfinished, "running job", ""),
            (self._slots.unconfirmed, "end", " that the runner has not confirmed"),
        )
        parts = [f"{n} {what}{'s' * (n > 1)}{which}" for n, what, which in counts if n]
        return f"waiting for {' and '.join(parts)}" if parts else ""

    async def _drain_when_idle(self) -> None:
        while True:
            is_connected = self._slots.outlet is not None
            if is_connected and self._slots.is_idle and self._slots.shortage is None:
                with trio.move_on_after(IDLE):
                    await self._changed.park()
                    continue
                self.drain()
                return
            await self._changed.park()


def _detach(held: HeldAttempt, session: Session) -> float:
    """Seconds that the runner waits for an attempt without contact."""
    return session.detach if held.detach is None else held.detach
