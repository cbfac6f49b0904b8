"""The TCP server of the remote runner: listeners, handshake, heartbeats, the end of connections.

Owns connections and what a worker may say on them. What is known of one is `session.py`'s, what the
events of a run mean to the one who asked for it `runner.py`'s, which worker gets a run `pool.py`'s.
"""

import hmac
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
import trio

from remote_runner.door import Door
from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost, NotNow, RemoteProtocolError, UnusableSettings
from remote_runner.pool import PooledWorker
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.framing import Codec
from remote_runner.protocol.messages import (
    AHEAD,
    MASK,
    PROTOCOL_VERSION,
    Attempts,
    AttemptState,
    Close,
    Draining,
    Goodbye,
    Hello,
    Message,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    ResultChunk,
    Started,
    Welcome,
)
from remote_runner.protocol.states import ConnectionState, Role
from remote_runner.session import Session
from remote_runner.sparing_log import SparingLog
from remote_runner.types import CAN_MASK, Waiting

log = structlog.get_logger("remote_runner")

MAX_SLOTS: Final = 10_000
MIN_HEARTBEAT: Final = 0.1
PARTING: Final = 1.0
"""Seconds that the last words of all connections have to be written."""
SILENT_BEATS: Final = 3
"""Heartbeats without a word, after which a connection is dead."""
TAKING: Final = 1.0
"""Seconds for which a server that is alone waits for its disk before it welcomes a worker: a commit
takes milliseconds."""
SWAPS_PER_MINUTE: Final = 3
DUPLICATE_RETRY_MS: Final = 10_000
"""When a worker is to come back whose id another one has."""
RETRY_AFTER_MS: Final = 1000
"""When a worker is to come back that cannot be heard now."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything the server can be told. Durations are seconds.

    `token` is what full workers must present; with one set there are no baseline workers.
    `detach` is how long a worker may be away; that it is away shows after `SILENT_BEATS`.

    Raises:
        UnusableSettings: with this heartbeat and detach no worker can be kept.
    """

    token: str | None = None
    allow_baseline: bool = True
    heartbeat: float = 10.0
    detach: float = 120.0
    hello_timeout: float = 10.0
    baseline_grace: float = 1.0
    max_chunk: int = 64 * 1024

    def __post_init__(self) -> None:
        if not MIN_HEARTBEAT <= self.heartbeat < math.inf:
            raise UnusableSettings(
                f"heartbeat must be at least {MIN_HEARTBEAT:g} s, and not {self.heartbeat:g} s"
            )
        least = SILENT_BEATS * self.heartbeat
        if not least <= self.detach < math.inf:
            raise UnusableSettings(
                f"detach must be at least {least:g} s, and not {self.detach:g} s: with a heartbeat"
                f" of {self.heartbeat:g} s that is how long a lost connection goes unnoticed;"
                " choose a longer detach or a shorter heartbeat"
            )


class SessionOwner(Protocol):
    """What a session tells to `runner.py`: synchronous, one call an event."""

    def on_joined(self, session: Session) -> None: ...
    async def prepare(self, session: Session) -> Waiting: ...
    def on_ready(self, session: Session, listed: dict[str, tuple[AttemptState, int]]) -> None: ...
    def on_slots(self, session: Session) -> None: ...
    def on_leaving(self, session: Session) -> None: ...
    def on_started(self, session: Session, message: Started) -> None: ...
    def on_refused(self, session: Session, message: Refused) -> None: ...
    def on_output(self, session: Session, message: OutputChunk) -> None: ...
    def on_result(self, session: Session, message: ResultChunk) -> None: ...
    def on_close(self, session: Session, message: Close) -> None: ...
    def on_left(self, session: Session) -> None: ...
    def on_protocol_error(self) -> None: ...


class Server:
    """Accepts workers and keeps their connections alive.

    Args:
        settings: see `ServerSettings`.
        owner: hears what workers say.
        find: the live session of a worker id, if it has one.
    """

    def __init__(
        self,
        settings: ServerSettings,
        owner: SessionOwner,
        find: Callable[[str], Session | None],
    ) -> None:
        self.settings = settings
        self._owner = owner
        self._find = find
        self._sessions: dict[int, Session] = {}
        self._next_session = 1
        self.server_id = ""
        """What workers know this server by, over its restarts; empty: it remembers no runs."""
        self.is_shared = False
        """Whether another server may be waiting for a worker that comes here."""
        self.silent_from = math.inf
        """From when on nothing may be said to workers, on trio's clock."""
        self._swaps: dict[str, deque[float]] = {}
        self._door = Door()
        self._on_rubbish = SparingLog("remote_runner", "connection refused")
        self._on_refusal = SparingLog("remote_runner", "worker refused")

    async def serve(self, listeners: Sequence[trio.SocketListener], codec: Codec) -> None:
        """Accept connections for ever."""

        async def handle(stream: trio.SocketStream) -> None:
            try:
                host, port, *_ = stream.socket.getpeername()
            except OSError:
                return  # reset before it was accepted; `serve_listeners` closes it
            try:
                await self.handle(stream, codec, f"{host}:{port}")
            except* Exception as errors:
                # A fault of ours in one conversation; the listener and the others live on.
                log.error("connection failed", peer=f"{host}:{port}", exc_info=errors)

        await trio.serve_listeners(handle, list(listeners))

    async def handle(self, stream: trio.abc.Stream, codec: Codec, address: str) -> None:
        """One connection, from its first byte to its end. Nothing a peer does raises here."""
        connection = Connection(Role.RUNNER, codec)
        async with DuplexEmitter[Message](stream, connection) as emitter:
            try:
                await self._converse(emitter, connection, address)
            except RemoteProtocolError as error:
                self._on_rubbish.warning(peer=address, why=str(error))
                self._owner.on_protocol_error()
                goodbye = Goodbye("protocol-error", str(error))
                emitter.send_last(connection.farewell(goodbye, error.reply))
            except ConnectionLost:
                pass

    def _may_write(self) -> bool:
        return trio.current_time() < self.silent_from

    async def _converse(
        self, emitter: DuplexEmitter[Message], connection: Connection, address: str
    ) -> None:
        settings = self.settings
        batch = []
        grace = trio.CancelScope(deadline=trio.current_time() + settings.baseline_grace)
        is_baseline_allowed = settings.allow_baseline and settings.token is None
        if is_baseline_allowed:
            with grace:
                batch = list(await emitter.receive_batch())
        if grace.cancelled_caught and connection.is_silent:
            worker = PooledWorker(
                session=self._new_session(),
                id=f"baseline-{address}",
                name=address,
                labels={},
                slots=1,
                address=address,
                is_baseline=True,
                is_ready=True,
            )
            connection.assume_baseline()
            emitter.may_write = self._may_write
            batch = await self._work(Session(emitter, worker), connection, [])
            if not batch:
                return
        with trio.move_on_after(settings.hello_timeout):
            while not batch and emitter.is_open:
                batch = list(await emitter.receive_batch())
        if not emitter.is_open:
            return
        if not batch or not isinstance(batch[0], Hello):
            raise RemoteProtocolError(
                f"no hello within {settings.hello_timeout:g} s; a worker says hello first"
            )
        refusal = self._refusal(batch[0]) or await self._clash(batch[0])
        if refusal is not None:
            self._on_refusal.warning(peer=address, why=refusal.message)
            emitter.send_nowait(refusal)
            return
        session = self._admit(emitter, batch[0], address)
        await self._work(session, connection, batch[1:])

    def _refusal(self, hello: Hello) -> Goodbye | None:
        lowest, highest = hello.protocol
        if not lowest <= PROTOCOL_VERSION <= highest:
            return Goodbye(
                "version",
                f"this server speaks protocol {PROTOCOL_VERSION}, the worker {lowest} to {highest};"
                " install the same release on both",
            )
        token = self.settings.token
        if token is not None and not hmac.compare_digest(
            (hello.token or "").encode("utf-8", "replace"), token.encode()
        ):
            return Goodbye(
                "unauthorized",
                "the worker's token is missing or wrong; start it with --token-file and the"
                " server's worker token",
            )
        if not self._may_write():
            words = "this server cannot reach its queue now; it tries again"
            return Goodbye("away", words, retry_after_ms=RETRY_AFTER_MS)
        if not 1 <= hello.slots <= MAX_SLOTS:
            return Goodbye("slots", f"a worker has 1 to {MAX_SLOTS} slots, not {hello.slots}")
        wait = self._door.knock(trio.current_time())
        if wait is not None:
            return Goodbye(
                "busy",
                f"very many workers connect at this moment; this one has its turn in {wait:.1f} s",
                retry_after_ms=math.ceil(wait * 1000),
            )
        return None

    async def _clash(self, hello: Hello) -> Goodbye | None:
        """Whether the id of this worker is another live one's: then what that one runs is not lost,
        as it is where a worker was started again."""
        previous = self._find(hello.worker_id)
        if previous is None or previous.worker.boot == hello.boot:
            return None
        if not await previous.is_alive():
            if not self._swaps_too_often(hello):
                return None
            self._end_previous(hello.worker_id, "two workers share one id")
        return Goodbye(
            "duplicate",
            "two live workers present the same id: their state folders are copies of"
            " each other; remove the folder on one of them",
            retry_after_ms=DUPLICATE_RETRY_MS,
        )

    def _swaps_too_often(self, hello: Hello) -> bool:
        now = trio.current_time()
        for worker_id, times in list(self._swaps.items()):
            if now - times[-1] > 60:
                del self._swaps[worker_id]
        swaps = self._swaps.setdefault(hello.worker_id, deque(maxlen=SWAPS_PER_MINUTE))
        swaps.append(now)
        return len(swaps) == SWAPS_PER_MINUTE and now - swaps[0] < 60

    def _admit(self, emitter: DuplexEmitter[Message], hello: Hello, address: str) -> Session:
        self._end_previous(hello.worker_id, "the worker has a newer connection")
        own_labels = {key: value for key, value in hello.labels.items() if key != CAN_MASK}
        worker = PooledWorker(
            session=self._new_session(),
            id=hello.worker_id,
            name=hello.name,
            labels={**own_labels, CAN_MASK: ""} if MASK in hello.features else own_labels,
            own_labels=own_labels,
            slots=hello.slots,
            boot=hello.boot,
            connection=hello.connection,
            takes_ahead=AHEAD in hello.features,
            version=hello.version,
            address=address,
        )
        return Session(emitter, worker)

    async def _welcome(self, session: Session) -> None:
        """From here on the worker runs on for as long as this server speaks to it.

        So what runs there is this server's first, and not given up by one, be it this one, that has
        waited for the worker for a while. One that is alone can give up by itself only: a disk that
        is full, or slow, is then no reason to let the worker stop its runs.
        """
        try:
            with trio.move_on_after(math.inf if self.is_shared else TAKING):
                session.wait_until_adoptable = await self._owner.prepare(session)
        except NotNow:
            if self.is_shared:
                raise
        settings = self.settings
        session.is_welcome = True
        session.emitter.may_write = self._may_write  # what was said before makes nobody run on
        session.send(
            Welcome(
                protocol=PROTOCOL_VERSION,
                server_id=self.server_id,
                session=session.worker.session,
                heartbeat_ms=round(settings.heartbeat * 1000),
                detach_ms=round(settings.detach * 1000),
                max_chunk=settings.max_chunk,
            )
        )

    async def _wait_until_adoptable(self, session: Session) -> None:
        session.is_paused = True
        if session.wait_until_adoptable is None:
            session.wait_until_adoptable = await self._owner.prepare(session)
        await session.wait_until_adoptable()
        session.go_on()

    def _new_session(self) -> int:
        self._next_session += 1
        return self._next_session

    def _end_previous(self, worker_id: str, why: str) -> None:
        previous = self._find(worker_id)
        if previous is not None:
            self._leave(previous)
            previous.emitter.close_nowait(why)

    async def _work(
        self, session: Session, connection: Connection, batch: list[Message]
    ) -> list[Message]:
        """Until the connection ends; or, of a silent worker, until a late hello, which this gives.

        A machine or a server that is busy may need longer for a hello than `baseline_grace`.
        """
        self._sessions[session.worker.session] = session
        self._owner.on_joined(session)
        try:
            if not session.worker.is_baseline:
                await self._welcome(session)
            while True:
                if connection.state is ConnectionState.GREETED:
                    if not isinstance(batch[0], Hello):
                        raise RemoteProtocolError("a worker says hello before all else")
                    session.was_mistaken = True
                    if session.worker.runs:
                        raise RemoteProtocolError("the hello came too late; connect again")
                    return batch
                for message in batch:
                    if isinstance(message, Ready) and not session.worker.is_ready:
                        await self._wait_until_adoptable(session)
                    self._receive(session, message)
                if connection.state is ConnectionState.CLOSED:
                    return []  # it has said goodbye
                await session.wait_below_mark()
                batch = list(await session.emitter.receive_batch())
                if not batch:
                    return []
        except NotNow as error:
            session.send(Goodbye("away", str(error), retry_after_ms=RETRY_AFTER_MS))
            return []
        finally:
            self._leave(session)

    def _leave(self, session: Session) -> None:
        if self._sessions.pop(session.worker.session, None) is not None:
            session.leave()
            self._owner.on_left(session)

    def _receive(self, session: Session, message: Message) -> None:
        if session.worker.session not in self._sessions:
            return  # replaced by a newer connection: nothing it says counts any more
        match message:
            case OutputChunk():
                self._owner.on_output(session, message)
            case Close():
                self._owner.on_close(session, message)
            case ResultChunk():
                self._owner.on_result(session, message)
            case Started():
                self._owner.on_started(session, message)
            case Refused():
                self._owner.on_refused(session, message)
            case Ping():
                session.send(Pong(message.n))
            case Pong():
                session.on_pong()
            case Attempts():
                session.list_attempts(message)
            case Ready():
                if session.worker.is_ready:
                    # Later `ready`s say how many slots are free now; some are taken by our runs.
                    worker = session.worker
                    taken = len(worker.runs) - len(worker.ahead)
                    worker.slots = min(MAX_SLOTS, message.free_slots + taken)
                    self._owner.on_slots(session)
                else:
                    session.worker.is_ready = True
                    self._owner.on_ready(session, session.take_list())
            case Draining():
                if not session.worker.is_draining:
                    session.worker.is_draining = True
                    self._owner.on_leaving(session)
            case _:
                pass

    async def keep_alive(self) -> None:
        """Ping silent workers, end connections that stay silent. One task for all of them."""
        interval = self.settings.heartbeat
        number = 0
        while True:
            await trio.sleep(interval / 4)
            now = trio.current_time()
            for session in list(self._sessions.values()):
                if not session.is_welcome:
                    continue
                if session.is_paused:
                    number += 1  # what it asks is not read: it must hear from us all the same
                    session.send(Ping(number))
                    continue
                silence = now - session.emitter.last_received
                if silence > SILENT_BEATS * interval:
                    log.warning("worker silent", worker=session.worker.name, seconds=silence)
                    self._leave(session)
                    session.emitter.close_nowait("no sign of life")
                elif max(silence, now - session.emitter.last_sent) >= interval:
                    number += 1
                    session.send(Ping(number))

    def part(self, goodbye: Goodbye) -> Sequence[Session]:
        """Nothing that is said on any connection counts from now on; `see_off` them."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.send(goodbye)
            self._leave(session)
        return sessions

    async def see_off(self, sessions: Sequence[Session], why: str) -> None:
        """End these connections; for the last words each peer has a moment."""
        with trio.move_on_after(PARTING, shield=True):
            for session in sessions:
                await session.emitter.flush()
        for session in sessions:
            if session.emitter.is_open:
                session.emitter.close_nowait(why)
