"""One attempt in the hands of an agent: what has come of it, until when it is believed in.

Owns its lease and its figures; decides nothing, `runner.py` does.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import trio

from queued_runner.agents.chunks import Chunks
from remote_runner.types import Command, Observer, Outcome, StreamName

LEASE: Final = 3600.0
"""Seconds without a sign of life after which an agent that sends no heartbeats is lost."""
HEARTBEAT_LEASE: Final = 30.0
"""The same for one that has sent one."""
SETTLE: Final = 1.0
"""Seconds that output may come after the end was told: agents do not wait for their last logs."""
GAP: Final = 10.0
"""Seconds that output waits for a chunk before it: in its request, and after the end was told."""
STREAMS: Final[tuple[StreamName, ...]] = ("stdout", "stderr")


class RunOwner(Protocol):
    """What a run hands on to its runner."""

    def forget(self, run: "AgentRun") -> None: ...


class AgentRun:
    """See `types.Run`. All times are seconds on trio's clock."""

    def __init__(
        self,
        owner: RunOwner,
        run_id: str,
        observer: Observer,
        worker: str,
        worker_id: str,
        boot: str,
        *,
        has_heartbeat: bool,
        command: Command,
    ) -> None:
        self._owner = owner
        self.id = run_id
        self.observer = observer
        self.worker = worker
        self.worker_id = worker_id
        self.boot = boot
        self.has_heartbeat = has_heartbeat
        self.command = command
        self.began = self.last_sign = trio.current_time()
        self.has_begun = False
        """Whether its agent has ever spoken of it."""
        self.chunks = Chunks()
        self._gaps: dict[StreamName, tuple[int, float]] = {}
        """The chunk that a stream waits for, and since when."""
        self.received = self.acked = 0
        self.outcome: Outcome | None = None
        """What the agent has said of its end; output may still come."""
        self.told_at = self.began
        self.kill_order: tuple[str, float] | None = None
        """The signal that is to end it, and the seconds until SIGKILL."""
        self.killed = trio.Event()
        self.is_ended = False
        self.is_forgotten = False
        """Its outcome is durable."""
        self.moved = trio.lowlevel.ParkingLot()
        """Where those wait who want output taken and durable, or the outcome."""

    @property
    def due(self) -> float:
        """When something has to be done about it: it settles, or it is lost."""
        if self.outcome is not None and self._gaps:
            return max(self.told_at, *(since for _, since in self._gaps.values())) + GAP
        if self.outcome is not None:
            return self.last_sign + SETTLE
        return self.last_sign + (HEARTBEAT_LEASE if self.has_heartbeat else LEASE)

    def go_on(self, offset: int, following: Mapping[StreamName, int]) -> None:
        """An earlier server has taken so many bytes, and of each stream the chunks before these."""
        self.received = self.acked = offset
        self.has_begun = offset > 0
        self.chunks = Chunks(following)

    def see_sign(self) -> None:
        """Its agent speaks of it: it is alive."""
        self.has_begun = True
        self.last_sign = trio.current_time()

    def see_gaps(self) -> None:
        """Chunks have come or were given up: note what is missing now, and since when."""
        for stream in STREAMS:
            missing = self.chunks.missing(stream)
            if missing is None:
                self._gaps.pop(stream, None)
            elif stream not in self._gaps or self._gaps[stream][0] != missing:
                self._gaps[stream] = missing, trio.current_time()

    def has_waited(self, stream: StreamName, seconds: float) -> bool:
        """Whether a stream has waited so long for the same chunk."""
        gap = self._gaps.get(stream)
        return gap is not None and trio.current_time() - gap[1] >= seconds

    @property
    def is_full(self) -> bool:
        """Whether more output is only counted."""
        limit = self.command.max_output
        return limit is not None and self.received >= limit

    def ack(self, offset: int) -> None:
        self.acked = max(self.acked, offset)
        self.moved.unpark_all()

    def ack_result(self, offset: int) -> None:
        pass  # agents send no results

    def forget(self) -> None:
        self.is_forgotten = True
        self.moved.unpark_all()
        self._owner.forget(self)

    def abandon(self) -> None:
        self.is_ended = self.is_forgotten = True
        self.moved.unpark_all()
        self._owner.forget(self)

    def kill(self, signal: str | None = None, grace: float | None = None) -> None:
        command = self.command
        grace = command.kill_grace if grace is None else grace
        self.kill_order = (signal or command.kill_signal, grace)
        self.killed.set()
