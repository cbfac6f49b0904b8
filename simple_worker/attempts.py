"""One attempt as the worker holds it: its child, its unacknowledged output, its outcome.

Owns what is to be sent of it and when; knows no connection.
"""

import trio

from remote_runner.protocol.messages import Close, OutputChunk
from remote_runner.types import Outcome, Reason, StreamName
from simple_worker.processes import Child
from simple_worker.window import Window


class HeldAttempt:
    """One attempt, from its spawn until the runner says `closed` or `stale`."""

    def __init__(self, attempt_id: str, detach: float | None = None) -> None:
        self.id = attempt_id
        self.detach = detach
        """Seconds that the runner waits for it without contact; None: as for all of the worker."""
        self.is_abandoned = False
        self.child: Child | None = None
        self.is_sendable = True
        """False after a reconnection, until the runner has said where to resume."""
        self._window = Window()
        self._room = trio.lowlevel.ParkingLot()
        self._close: Close | None = None
        self._is_close_sent = False
        self._is_wanted = True

    @property
    def is_running(self) -> bool:
        """Whether its process, or something of its tree, may be alive."""
        return self._close is None

    @property
    def size(self) -> int:
        """Bytes of output so far."""
        return self._window.size

    def add(self, stream: StreamName, data: bytes) -> None:
        """Take output. More may follow when `wait_for_room` returns."""
        if self._is_wanted:
            self._window.add(stream, data)

    async def wait_for_room(self) -> None:
        """Block while the window is full."""
        while self._window.is_full:
            await self._room.park()

    def end(self, outcome: Outcome) -> None:
        """The process and its tree are gone."""
        self._close = Close(
            outcome.exit_code,
            id=self.id,
            signal=outcome.signal,
            reason=outcome.reason.value,
            offset=outcome.output_bytes,  # what was dropped is in it too
            duration_ms=None if outcome.duration is None else round(outcome.duration * 1000),
            max_rss_kb=None if outcome.max_rss is None else outcome.max_rss // 1024,
            cpu_ms=None if outcome.cpu_time is None else round(outcome.cpu_time * 1000),
        )

    def kill(self, reason: Reason, signal: str | None = None, grace: float | None = None) -> None:
        """Begin the end of its tree, if anything of it may be alive."""
        if self.child is not None and self.is_running:
            self.child.kill(reason, signal, grace)

    def abandon(self, grace: float, signal: str | None = None) -> None:
        """End its tree within `grace` seconds, because the runner is about to give it up, or
        the worker to leave."""
        self.is_abandoned = True
        self.kill(Reason.ABANDONED, signal, grace)

    def ack(self, offset: int) -> None:
        """Everything below `offset` is durable at the runner."""
        self._window.ack(offset)
        if not self._window.is_full:
            self._room.unpark_all()

    def drop_output(self) -> None:
        """Nobody wants its output any more, neither what is here nor what comes."""
        self._is_wanted = False
        self.ack(self.size)

    def resume(self, offset: int) -> None:
        """The runner has everything below `offset`, durable or not: send again from there."""
        self._window.resume(offset)
        self.is_sendable = True
        self._is_close_sent = False

    def next_message(self, max_chunk: int) -> OutputChunk | Close | None:
        """What to send next, in order; None when there is nothing now."""
        if not self.is_sendable:
            return None
        output = self._window.next(max_chunk)
        if output is not None:
            return OutputChunk(output.stream, output.data, self.id, output.offset)
        if self._close is not None and not self._is_close_sent:
            self._is_close_sent = True
            return self._close
        return None
