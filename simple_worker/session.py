"""One connection of a worker to its runner, from hello to its end.

Owns what is said in which order and turn, the heartbeat, how old what it reads may be, and whether
this process stood still meanwhile. What attempts are told is
`slots.py`'s; whether there is another connection afterwards is `worker.py`'s.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost, RemoteProtocolError
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    AHEAD,
    MASK,
    MAX_ATTEMPTS_PER_EVENT,
    PROTOCOL_VERSION,
    Attempts,
    AttemptState,
    Close,
    Drain,
    Draining,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Welcome,
)
from remote_runner.protocol.states import Role
from simple_worker.attempts import HeldAttempt
from simple_worker.slots import Slots

_Times = tuple[float, float]
"""Seconds on trio's clock, and on the wall's."""

VERSION: Final = "0.1.0"
WELCOME_TIMEOUT: Final = 10.0
SILENT_BEATS: Final = 3
LOOK: Final = 0.25
"""Seconds between two looks whether this process has stood still, stopped say, or starved."""
STILL: Final = 0.5
"""Seconds between two looks after which it has: half of the least `detach` that a job may have."""
MAX_PINGS: Final = 64
"""Pings whose answers are waited for; of older ones an answer proves nothing."""
MAX_CHUNK: Final = 512 * 1024
"""Whatever the runner allows: an event is at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the worker is. `worker_id` is stable on disk, `boot` new with every process."""

    worker_id: str
    boot: str
    name: str
    slots: int
    labels: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None

    def hello(self, connection: int) -> Hello:
        """What it says on its connection of this number; the first one of a process is 1."""
        return Hello(
            (PROTOCOL_VERSION, PROTOCOL_VERSION),
            self.worker_id,
            self.boot,
            self.name,
            self.slots,
            self.labels,
            VERSION,
            self.token,
            (MASK, AHEAD),
            connection,
        )


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended: a sentence, and when the runner wants the worker back (seconds)."""

    why: str
    was_welcome: bool
    retry_after: float | None = None


class Session:
    """One connection. `last_contact` and `detach` tell how long the worker may run on without it.

    Args:
        identity: see there.
        number: of the connections of this process, counted from 1.
        slots: gets all that concerns attempts.
        now: wall clock, UNIX seconds.
        why_not: asked before the work begins, with the server's id: a sentence ends it.
        on_welcome: called once the runner has accepted this worker.
        on_drain: the runner asks the worker to leave.
    """

    def __init__(
        self,
        identity: Identity,
        number: int,
        slots: Slots,
        now: Callable[[], float],
        why_not: Callable[[str], str | None],
        on_welcome: Callable[["Session"], None],
        on_drain: Callable[[], None],
    ) -> None:
        self._hello = identity.hello(number)
        self._slots = slots
        self._now = now
        self._why_not = why_not
        self._on_welcome = on_welcome
        self._on_drain = on_drain
        self._connection = Connection(Role.WORKER)
        self._emitter: DuplexEmitter[Message]
        self._turns: OrderedDict[str, HeldAttempt] = OrderedDict()
        self._must_tell_free = False
        self._to_send = trio.lowlevel.ParkingLot()
        self._welcome: Welcome | None = None
        self._goodbye: Goodbye | None = None
        self._why = "the connection was lost"
        self._pings = 0
        self._unanswered: deque[tuple[int, _Times]] = deque(maxlen=MAX_PINGS)
        self._answered_from: _Times = (-math.inf, -math.inf)
        """When the newest question was asked that the runner has answered."""
        self._awake = math.inf
        """When this process was last seen not to stand still."""
        self._still_since = math.inf
        """When it began to stand still, until the runner has answered what it was asked then."""
        self._asked = 0
        """The number of the ping that asked."""
        self._stood_still = False
        """Whether it did so for too long."""
        self.last_ping = -math.inf
        """When the runner was last asked for a sign of life, on trio's clock."""
        self._answered = trio.Event()

    async def run(self, stream: trio.abc.Stream) -> Ending:
        """Converse until the connection ends, and close it. Nothing the runner says raises here."""
        async with stream, DuplexEmitter[Message](stream, self._connection) as self._emitter:
            try:
                batch = await self._greet()
                if self._welcome is not None:
                    await self._work(self._welcome, batch)
            finally:
                self._slots.disconnect()
        if self._goodbye is not None:
            if self._goodbye.reason == "duplicate":
                self._slots.abandon()  # it has been given up, for another process's sake
            retry_after = _seconds(self._goodbye.retry_after_ms)
            return Ending(self._goodbye.message, self._welcome is not None, retry_after)
        return Ending(self._why, self._welcome is not None)

    @property
    def last_contact(self) -> float:
        """When something of the runner last arrived, on trio's clock."""
        # What was read after a standstill may have arrived at its beginning.
        return min(self._emitter.last_received, self._still_since)

    @property
    def silence(self) -> float:
        """Seconds since something of the runner last arrived."""
        return trio.current_time() - self.last_contact

    @property
    def lateness(self) -> float:
        """Seconds since the runner was asked what it answered last: all that it had to say until
        then is here, and what has come since may have been on its way for so long.

        On the wall's clock too, which may be set, but goes on while the machine sleeps.
        """
        here, on_the_wall = self._times()
        return max(here - self._answered_from[0], on_the_wall - self._answered_from[1])

    @property
    def server_id(self) -> str:
        """The server's, which it keeps over restarts; empty: it remembers nothing."""
        return self._welcome.server_id if self._welcome is not None else ""

    @property
    def detach(self) -> float:
        """Seconds after which the runner gives up a worker without a connection."""
        return self._welcome.detach_ms / 1000 if self._welcome is not None else 0.0

    # --- what there is to say ---

    def send(self, message: Message) -> None:
        """Say it ahead of all output; a connection that has ended swallows it."""
        try:
            self._emitter.send_nowait(message)
        except ConnectionLost:
            pass

    def offer(self, held: HeldAttempt) -> None:
        """Give an attempt a turn to send."""
        self._turns[held.id] = held
        if self._to_send:
            self._to_send.unpark()

    def tell_free(self) -> None:
        """Say how many slots are free, after the ends that are on their way."""
        self._must_tell_free = True
        if self._to_send:
            self._to_send.unpark()

    async def _send_turns(self, max_chunk: int) -> None:
        """Send what attempts hold, a chunk each in turn: one flood does not starve the others."""
        while True:
            message = self._next_in_turn(max_chunk)
            if message is None:
                await self._to_send.park()
                continue
            try:
                await self._emitter.send(message)
            except ConnectionLost:
                return  # also where the runner said goodbye while this waited

    def _next_in_turn(self, max_chunk: int) -> Message | None:
        if self._must_tell_free:
            self._must_tell_free = False
            return Ready(self._slots.free_as_told)
        while self._turns:
            attempt_id, held = self._turns.popitem(last=False)
            message = held.next_message(max_chunk)
            if isinstance(message, Close):
                # Its slot is free now, and yet there may be none for new work.
                self._must_tell_free = self._slots.shortage is not None
            elif message is not None:
                self._turns[attempt_id] = held
            if message is not None:
                return message
        return None

    def ask(self, pause: float) -> None:
        """Ping, unless that was done in the last `pause` seconds."""
        if trio.current_time() - self.last_ping >= pause:
            self.ping()

    def ask_again(self) -> None:
        """Ping, unless an answer is on its way."""
        if not self._unanswered:
            self.ping()

    def ping(self) -> None:
        """Ask the runner for a sign of life."""
        self._pings += 1
        times = self._times()
        self._unanswered.append((self._pings, times))
        self.last_ping = times[0]
        self.send(Ping(self._pings))

    def _times(self) -> _Times:
        return trio.current_time(), self._now()

    async def round_trip(self) -> None:
        """Return once the runner has answered all that was sent so far, and has our answers."""
        self._answered = trio.Event()
        self.ping()
        await self._answered.wait()
        await self._emitter.flush()

    # --- the conversation ---

    async def _receive_batch(self) -> Sequence[Message]:
        try:
            return await self._emitter.receive_batch()
        except RemoteProtocolError as error:
            self._why = f"the peer is no runner that this worker understands: {error}"
            return ()

    async def _greet(self) -> Sequence[Message]:
        self._answered_from = self._times()  # by the welcome
        self.send(self._hello)
        batch: Sequence[Message] = ()
        self._why = "nobody there who welcomes a worker; is it the HTTP port, perhaps?"
        with trio.move_on_after(WELCOME_TIMEOUT):
            batch = await self._receive_batch()
        match batch:
            case [Welcome() as welcome, *rest]:
                why_not = self._why_not(welcome.server_id)
                if why_not is None:
                    self._welcome = welcome
                    return rest
                self._why = why_not
            case [Goodbye() as goodbye, *_]:
                self._goodbye = goodbye
        return ()

    async def _work(self, welcome: Welcome, batch: Sequence[Message]) -> None:
        self._why = "the connection was lost"
        self._slots.outlet = self
        self._introduce()
        self._on_welcome(self)
        max_chunk = min(max(1, welcome.max_chunk), MAX_CHUNK)
        heartbeat = max(0.1, welcome.heartbeat_ms / 1000)
        self._awake = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_turns, max_chunk)
            nursery.start_soon(self._keep_alive, heartbeat)
            while True:
                for message in batch:
                    self._receive(message)
                if self._goodbye is not None:
                    break
                batch = await self._receive_batch()
                self._see_standstill(heartbeat)
                if not batch or self._stood_still:
                    break
            nursery.cancel_scope.cancel()

    def _introduce(self) -> None:
        """All that is held, then `ready`. Nothing of it is sent again before its `resume`."""
        items: list[tuple[str, AttemptState, int]] = []
        for held in self._slots.held:
            held.is_sendable = False
            items.append((held.id, "running" if held.is_running else "ended", held.output.size))
        for start in range(0, len(items), MAX_ATTEMPTS_PER_EVENT):
            self.send(Attempts(tuple(items[start : start + MAX_ATTEMPTS_PER_EVENT])))
        self.send(Ready(self._slots.free))
        if self._slots.shortage is not None:
            self.send(Ready(0))  # the first one only says that the list is complete
        if self._slots.is_draining:
            self.send(Draining())

    def _receive(self, message: Message) -> None:
        match message:
            case Ping():
                self.send(Pong(message.n))
            case Pong():
                self._receive_answer(message.n)
            case Drain():
                self._on_drain()
            case Goodbye():
                self._goodbye = message
            case _:
                self._slots.receive(message)

    def _receive_answer(self, n: int) -> None:
        if n == self._pings:
            self._answered.set()
        if n >= self._asked:
            self._still_since = math.inf
        while self._unanswered and self._unanswered[0][0] <= n:
            _, self._answered_from = self._unanswered.popleft()
        self._slots.begin_waiting()

    async def _keep_alive(self, heartbeat: float) -> None:
        """Ping after a silence, leave after a long one."""
        while True:
            await trio.sleep(min(LOOK, heartbeat / 4))
            self._see_standstill(heartbeat)
            if self._stood_still:
                self._emitter.close_nowait(self._why)
                return
            now = trio.current_time()
            if now - self._emitter.last_received > SILENT_BEATS * heartbeat:
                self._emitter.close_nowait("the runner is silent")
                return
            if now - min(self._emitter.last_received, self._emitter.last_sent) >= heartbeat:
                self.ping()

    def _see_standstill(self, heartbeat: float) -> None:
        """Look whether this process has stood still, and, if so, ask the runner for an answer. It
        may be so long that the runner has given up this connection."""
        now = trio.current_time()
        pause, before, self._awake = now - self._awake, self._awake, now
        if pause <= STILL:
            return
        self._still_since = min(self._still_since, before)
        self.ping()
        self._asked = self._pings
        if pause > SILENT_BEATS * heartbeat:
            self._stood_still = True
            self._why = "this worker stood still for too long"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
