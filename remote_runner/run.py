"""One run on a worker, as the runner knows it: how much of its output came, what was ordered.

Owns no connection and decides nothing; `runner.py` does.
"""

from typing import Protocol

import trio

from remote_runner.protocol.messages import Ack, Kill
from remote_runner.session import Session
from remote_runner.types import (
    Adoption,
    Command,
    Observer,
    Outcome,
    Output,
    Reason,
    Run,
    Waiting,
    WorkerEvent,
    WorkerInfo,
)


class RunOwner(Protocol):
    """What a run hands on to its runner."""

    def kill(
        self, run: "RemoteRun", reason: Reason, signal: str | None, grace: float | None
    ) -> None: ...
    def forget(self, run: "RemoteRun") -> None: ...
    def abandon(self, run: "RemoteRun") -> None: ...


class RemoteRun:
    """One run on a worker; see `types.Run`. `session` is None while its worker is away."""

    __slots__ = (
        "_owner", "acked", "boot", "command", "detach", "detached_until", "gaps", "has_begun",
        "has_started", "id", "is_ended", "is_lost", "kill_order", "kill_reason", "max_output",
        "observer", "received", "results_acked", "results_received", "sent", "session", "slots",
        "timers", "was_ahead", "worker", "worker_id",
    )  # fmt: skip

    def __init__(
        self,
        owner: RunOwner,
        run_id: str,
        command: Command | None,
        observer: Observer,
        session: Session,
    ) -> None:
        self._owner = owner
        self.id = run_id
        self.command = command
        self.observer = observer
        self.session: Session | None = session
        self.worker = session.worker.name
        self.worker_id = session.worker.id
        self.boot = session.worker.boot
        self.max_output = None if command is None else command.max_output
        self.detach = None if command is None else command.detach
        self.slots = 1 if command is None else command.slots
        self.sent = trio.current_time()
        """When its worker was told to run it, if it was from here."""
        self.has_started = False
        self.received = 0
        self.acked = 0
        self.results_received = 0
        self.results_acked = 0
        self.gaps = 0
        """How often what came did not follow what is known."""
        self.kill_reason: Reason | None = None
        self.kill_order: Kill | None = None
        """What its worker is told, again after every reconnection: it may have been missed."""
        self.timers: list[trio.CancelScope] = []
        """Cancelled when it ends: what waits for a limit of its time."""
        self.detached_until: float | None = None
        self.is_ended = False
        """Its outcome was told to the observer, who has not called `forget` yet."""
        self.is_lost = False
        self.was_ahead = False
        """It was sent ahead of a slot."""
        self.has_begun = False
        """Its worker has said that it runs, or sent output: it cannot say now that it never did."""

    @property
    def unacked(self) -> int:
        """Bytes of it that are in memory here."""
        return self.received - self.acked + self.results_received - self.results_acked

    @property
    def is_full(self) -> bool:
        """Whether all that may come of its output has come: its worker drops what is above."""
        return self.max_output is not None and self.received >= self.max_output

    def ack(self, offset: int) -> None:
        grown = offset - self.acked
        if grown <= 0:
            return
        self.acked = offset
        if self.session is not None:
            self.session.on_acked(grown)
            if not self.session.worker.is_baseline:
                self.session.send(Ack(self.id, offset))

    def ack_result(self, offset: int) -> None:
        grown = offset - self.results_acked
        if grown > 0:
            self.results_acked = offset
            if self.session is not None:
                self.session.on_acked(grown)

    def forget(self) -> None:
        self._owner.forget(self)

    def abandon(self) -> None:
        self._owner.abandon(self)

    def kill(self, signal: str | None = None, grace: float | None = None) -> None:
        self._owner.kill(self, Reason.KILLED, signal, grace)


class Nobody:
    """The observer of a run between its presentation and its adoption."""

    def on_started(self, run: Run, pid: int | None) -> None:
        pass

    def on_output(self, run: Run, output: Output) -> None:
        pass

    def on_result(self, run: Run, data: bytes, offset: int) -> None:
        pass

    def on_closed(self, run: Run, outcome: Outcome) -> None:
        pass

    def is_repeat(self, run: Run, output: Output) -> bool:
        return True


class NoHost:
    """The host of a runner that is used alone: it knows no earlier runs."""

    id = ""
    is_shared = False

    def on_capacity(self) -> None:
        pass

    async def prepare(self, worker: WorkerInfo, boot: str, connection: int) -> Waiting:
        return trio.lowlevel.checkpoint

    def adopt(self, run: Run, size: int) -> Adoption | None:
        return None

    def on_worker_ready(self, worker_id: str, boot: str, held: frozenset[str]) -> None:
        pass

    def on_worker(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        pass

    def on_stale(self) -> None:
        pass

    def on_protocol_error(self) -> None:
        pass
