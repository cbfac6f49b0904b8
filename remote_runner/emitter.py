"""`DuplexEmitter`: a trio stream as an event emitter, with one reader, one writer and two lanes.

Owns the stream and everything that is buffered for it. Knows no protocol: a `Wire` (sans-I/O)
turns events into bytes and back; the default one carries any event, `Connection` the runner's.
"""

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

import trio

from remote_runner.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from remote_runner.protocol.framing import MAX_VALUE, Codec, Decoder, decoder, detect, encode

E = TypeVar("E")
Handler = Callable[..., None]

RECEIVE_SIZE: Final = 256 * 1024
WRITE_SIZE: Final = 256 * 1024
"""Bytes of output in one write: what a control event may have to wait for."""
MAX_OUTPUT_PENDING: Final = 1024 * 1024
MAX_CONTROL_PENDING: Final = 8 * 1024 * 1024
"""A peer that lets this much control pile up is not reading any more."""
FLUSH_TIMEOUT: Final = 1.0


class Event(NamedTuple):
    """An event of any protocol: its name and its arguments."""

    name: str
    args: tuple[Any, ...] = ()


class Wire(Protocol[E]):
    """Bytes ⇄ events, sans I/O."""

    def receive_data(self, data: bytes) -> Sequence[E]: ...
    def send(self, event: E) -> bytes: ...
    def send_failed(self) -> None: ...


class EventWire:
    """Any event, in either codec: the peer's first byte decides, `codec` is spoken until then."""

    def __init__(self, codec: Codec = Codec.MSGPACK) -> None:
        self.codec = codec
        self._decoder: Decoder | None = None

    def receive_data(self, data: bytes) -> list[Event]:
        if not data:
            return []
        if self._decoder is None:
            self.codec = detect(data[0])
            self._decoder = decoder(self.codec, MAX_VALUE)
        events = []
        for value in self._decoder.feed(data):
            if not value or not isinstance(value[0], str):
                raise RemoteProtocolError("an event is an array that begins with its name")
            events.append(Event(value[0], tuple(value[1:])))
        return events

    def send(self, event: Event) -> bytes:
        data = encode(self.codec, [event.name, *event.args])
        if len(data) > MAX_VALUE:
            raise LocalProtocolError(
                f"the event {event.name!r} has {len(data)} bytes, and at most {MAX_VALUE} travel in"
                " one; send it in pieces"
            )
        return data

    def send_failed(self) -> None:
        pass


def _always() -> bool:
    return True


class DuplexEmitter(Generic[E]):
    """An event emitter at both ends of a trio stream.

    Enter it with `async with`; leaving it flushes (for at most a second) and closes the stream.
    A write that fails or is cancelled ends the connection: half an event never stays for others.

    `send` waits for room in the output lane, `send_nowait` uses the control lane, which always
    goes first. `emit` and `emit_nowait` are the same for plain events.
    """

    def __init__(self, stream: trio.abc.Stream, wire: Wire[E] | None = None) -> None:
        self.stream = stream
        self.wire: Wire[E] = wire if wire is not None else EventWire()  # type: ignore[assignment]
        self._control: list[bytes] = []
        self._control_size = 0
        self._output: deque[bytes] = deque()
        self._output_size = 0
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._flushed = trio.lowlevel.ParkingLot()
        self._writing = False
        self._lost: str | None = None
        self._unread: list[E] = []
        """Events that have arrived and were not iterated over yet, the next one last."""
        self._handlers: dict[str, list[tuple[Handler, bool]]] = {}
        self._nursery_manager: Any = None
        self._nursery: trio.Nursery | None = None
        self.may_write: Callable[[], bool] = _always
        """Asked before each write; where it may not, the connection ends instead."""
        self.last_received = trio.current_time()
        self.last_sent = self.last_received

    # --- life ---

    async def __aenter__(self) -> Self:
        self._nursery_manager = trio.open_nursery()
        self._nursery = await self._nursery_manager.__aenter__()
        self._nursery.start_soon(self._write_all, name="emitter writer")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert self._nursery is not None
        if exc is None or isinstance(exc, RemoteProtocolError):
            with trio.move_on_after(FLUSH_TIMEOUT, shield=True):
                await self.flush()
        self._end("the connection was closed here")
        self._nursery.cancel_scope.cancel()
        try:
            result: bool = await self._nursery_manager.__aexit__(exc_type, exc, traceback)
        finally:
            # Cancelled too: a stream that stays open leaves the peer waiting for us.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self.stream)
        return result

    @property
    def is_open(self) -> bool:
        """Whether events can still be sent."""
        return self._lost is None

    def close_nowait(self, why: str) -> None:
        """End the connection without flushing; the reader sees its end at once."""
        self._end(why)
        if self._nursery is not None:
            self._nursery.start_soon(trio.aclose_forcefully, self.stream)

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self.wire.send_failed()
        self._control.clear()
        self._output.clear()
        self._control_size = self._output_size = 0
        for lot in (self._work, self._room, self._flushed):
            lot.unpark_all()

    # --- sending ---

    @property
    def pending(self) -> int:
        """Bytes that wait to be written, both lanes."""
        return self._control_size + self._output_size

    def send_nowait(self, event: E) -> None:
        """Put an event in the control lane.

        Raises:
            ConnectionLost: the connection has ended, or the peer does not read.
            LocalProtocolError: the protocol does not allow this event now, or it cannot travel.
        """
        self._require_open()
        data = self.wire.send(event)
        self._control.append(data)
        self._control_size += len(data)
        if self._control_size > MAX_CONTROL_PENDING:
            self.close_nowait("the peer does not read")
            raise ConnectionLost("the peer does not read")
        if self._work:
            self._work.unpark()

    async def send(self, event: E) -> None:
        """Put an event in the output lane, once there is room. Raises as `send_nowait`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._output_size >= MAX_OUTPUT_PENDING and self._lost is None:
            await self._room.park()
        self._require_open()
        data = self.wire.send(event)
        self._output.append(data)
        self._output_size += len(data)
        if self._work:
            self._work.unpark()

    def send_last(self, data: bytes) -> None:
        """Put the last bytes of a connection that is ending in the control lane."""
        if self._lost is None:
            self._control.append(data)
            self._control_size += len(data)
            self._work.unpark()

    async def flush(self) -> None:
        """Wait until everything sent so far has been written, or the connection has ended."""
        while self._lost is None and (self._control or self._output or self._writing):
            await self._flushed.park()

    def _require_open(self) -> None:
        if self._lost is not None:
            raise ConnectionLost(self._lost)

    async def _write_all(self) -> None:
        try:
            while self._lost is None:
                if not self._control and not self._output:
                    self._flushed.unpark_all()
                    await self._work.park()
                    continue
                data = self._next_write()
                self._writing = True
                if not self.may_write():
                    raise trio.BrokenResourceError("nothing may be said here any more")
                await self.stream.send_all(data)
                self._writing = False
                self.last_sent = trio.current_time()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(f"the connection was lost while sending: {error or 'closed'}")
            await trio.aclose_forcefully(self.stream)
        finally:
            # Cancelled included: how much of the last write went out is unknown.
            self._end("the connection was closed here")

    def _next_write(self) -> bytes:
        parts = self._control
        self._control = []
        self._control_size = 0
        size = 0
        while self._output and size < WRITE_SIZE:
            part = self._output.popleft()
            size += len(part)
            parts.append(part)
        self._output_size -= size
        if self._output_size < MAX_OUTPUT_PENDING:
            self._room.unpark_all()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # --- receiving ---

    async def receive_batch(self) -> Sequence[E]:
        """The events of the next bytes that arrive; empty when the connection has ended.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        while True:
            try:
                data = await self.stream.receive_some(RECEIVE_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self._end("the peer closed the connection")
                return ()
            self.last_received = trio.current_time()
            events = self.wire.receive_data(bytes(data))
            if events:
                return events

    def __aiter__(self) -> Self:
        """Every event until the connection ends; handlers are called first.

        Who breaks off finds what follows in the next loop.
        """
        return self

    async def __anext__(self) -> E:
        if not self._unread:
            self._unread = list(reversed(await self.receive_batch()))
            if not self._unread:
                raise StopAsyncIteration
        event = self._unread.pop()
        self._call_handlers(event)
        return event

    async def listen(self) -> None:
        """Read until the connection ends, and call the handlers."""
        async for _ in self:
            pass

    # --- plain events ---

    async def emit(self: "DuplexEmitter[Event]", event: str, *args: Any) -> None:
        """Send a plain event in the output lane. Raises as `send_nowait`."""
        await self.send(Event(event, args))

    def emit_nowait(self: "DuplexEmitter[Event]", event: str, *args: Any) -> None:
        """Send a plain event in the control lane. Raises as `send_nowait`."""
        self.send_nowait(Event(event, args))

    def on(self, event: str, handler: Handler) -> None:
        """Call `handler(*args)` for every `event` that is read; it must not block."""
        self._handlers.setdefault(event, []).append((handler, False))

    def once(self, event: str, handler: Handler) -> None:
        """As `on`, for the next one only."""
        self._handlers.setdefault(event, []).append((handler, True))

    def off(self, event: str, handler: Handler) -> None:
        """Forget what `on` or `once` registered; unknown handlers are ignored."""
        kept = [entry for entry in self._handlers.get(event, ()) if entry[0] != handler]
        self._handlers[event] = kept

    def _call_handlers(self, event: Any) -> None:
        if not self._handlers:
            return
        handlers = self._handlers.get(event.name)
        if not handlers:
            return
        self._handlers[event.name] = [entry for entry in handlers if not entry[1]]
        for handler, _ in handlers:
            handler(*event.args)
