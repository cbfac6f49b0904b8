"""`LocalRunner`: runs commands in slots of this very program. The plug for work without a worker.

Owns its runs; nothing of them survives the program, so there is nothing to resume.
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from remote_runner.direct import DirectRuns
from remote_runner.errors import DuplicateRun, NoWorkerAvailable, UnusableSettings
from remote_runner.lone_error import lone_error
from remote_runner.types import (
    CAN_MASK,
    Command,
    Host,
    Observer,
    Offer,
    Outcome,
    Output,
    Reason,
    Slot,
    StreamName,
    WorkerEvent,
    WorkerInfo,
)
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.machine import opened_machine, opened_own_machine
from simple_worker.processes import Child, Processes
from simple_worker.results import Archive
from simple_worker.slots import READ
from simple_worker.window import WINDOW

LOCAL: Final = "local"
"""Name of the one worker that this runner is."""


class LocalRun:
    """One run in this program; see `types.Run`."""

    worker = LOCAL

    def __init__(
        self, runner: "LocalRunner", run_id: str, child: Child | SpawnFailure, observer: Observer
    ) -> None:
        self.id = run_id
        self.worker_id = runner.worker_id
        self._runner = runner
        self._child = child
        self._observer = observer
        self._size = 0
        self._acked = 0
        self._results_acked = 0
        self._room = trio.lowlevel.ParkingLot()

    def ack(self, offset: int) -> None:
        self._acked = max(self._acked, offset)
        self._room.unpark_all()

    def ack_result(self, offset: int) -> None:
        self._results_acked = max(self._results_acked, offset)
        self._room.unpark_all()

    def forget(self) -> None:
        self._runner.forget(self)

    def abandon(self) -> None:
        self.kill(None, 0)
        self._runner.forget(self)

    def kill(self, signal: str | None = None, grace: float | None = None) -> None:
        if not isinstance(self._child, SpawnFailure):
            self._child.kill(Reason.KILLED, signal, grace)

    async def run(self) -> Outcome:
        """From start to outcome. Cancelled: the tree is gone."""
        if isinstance(self._child, SpawnFailure):
            if not self._child.is_refusal:
                await self._keep("stderr", self._child.output)
            return self._child.outcome
        self._observer.on_started(self, self._child.pid)
        outcome = await self._child.run(self._keep, READ)
        if self._child.results is not None:
            with self._child.results as results:
                await self._hand_on(results)
        return outcome

    async def _keep(self, stream: StreamName, data: bytes) -> None:
        output = Output(stream, data, self._size)
        self._size += len(data)
        self._observer.on_output(self, output)
        while self._size - self._acked > WINDOW:
            await self._room.park()

    async def _hand_on(self, results: Archive) -> None:
        offset = 0
        while offset < results.size:
            try:
                if results.is_in_memory:
                    data = results.read(offset, READ)
                else:
                    data = await trio.to_thread.run_sync(results.read, offset, READ)
            except OSError:
                data = b""
            if not data:
                return  # who gets them sees that they are not whole
            self._observer.on_result(self, data, offset)
            offset += len(data)
            while offset - self._results_acked > WINDOW:
                await self._room.park()

    def close(self, outcome: Outcome | None) -> None:
        """Tell the end; None: the program leaves, and the run with it."""
        self._observer.on_closed(self, outcome or Outcome(Reason.STOPPED, output_bytes=self._size))


class LocalRunner(DirectRuns):
    """A `JobRunner` with `slots` commands at once in this program, whose children it leaves alone.

    Args:
        slots: commands at once; None: as many as there are processors.
        worker_id: the stable id of that worker, which no other one of the queue has.
        processes: starts the children; None: this machine.
        owns_process: this program has no children but the runner's, and trio runs in its main
            thread. The program becomes a subreaper then, and what a job leaves costs less to find.

    Raises:
        UnusableSettings: there cannot be so many slots.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        worker_id: str = LOCAL,
        processes: Processes | None = None,
        owns_process: bool = False,
    ) -> None:
        super().__init__()
        if slots is not None and slots < 1:
            raise UnusableSettings(f"the slots of this program are 1 or more, and not {slots}")
        self.worker_id = worker_id
        self._boot = secrets.token_hex(8)
        self._slots = slots if slots is not None else os.cpu_count() or 1
        self._given_processes = processes
        self._owns_process = owns_process
        self._processes: Processes | None = None
        self._nursery: trio.Nursery | None = None
        self._host: Host | None = None
        self._runs: dict[str, LocalRun] = {}
        self._running: dict[str, int] = {}
        """How many slots each takes."""
        self._is_drained = False

    @asynccontextmanager
    async def open(self, host: Host | None = None) -> AsyncIterator[None]:
        """Take runs while entered. Leaving ends every tree.

        Raises:
            OSError: there is no room for scratch directories, or the reaper cannot be started.
        """
        with lone_error():
            if self._given_processes is not None:
                async with self._opened(self._given_processes, host):
                    yield
            else:
                opened = opened_own_machine if self._owns_process else opened_machine
                async with opened() as machine, self._opened(machine, host):
                    yield

    @asynccontextmanager
    async def _opened(self, processes: Processes, host: Host | None) -> AsyncIterator[None]:
        async with trio.open_nursery() as self._nursery:
            self._processes, self._host = processes, host
            if host is not None:
                # What an earlier program ran is dead.
                is_adoptable = await host.prepare(self.workers()[0], self._boot, 1)
                await is_adoptable()
                host.on_worker_ready(self.worker_id, self._boot, frozenset())
            self._tell(WorkerEvent.JOINED)
            self._tell_drain()
            self._on_capacity()
            try:
                yield
            finally:
                self._processes = self._host = None
                self._nursery.cancel_scope.cancel()

    @property
    def _free(self) -> int:
        if self._processes is None or self._is_drained:
            return 0
        return self._slots - sum(self._running.values())

    def offers(self, limit: int) -> Sequence[Offer]:
        free = self._free
        slots = (Slot(LOCAL, self.worker_id, self._boot, self._slots, free),) * min(limit, free)
        return [Offer({CAN_MASK: ""}, slots)] if slots else []

    def start(
        self,
        run_id: str,
        command: Command,
        needs: Mapping[str, str],
        observer: Observer,
        worker_id: str | None = None,
    ) -> LocalRun:
        if run_id in self._runs:
            raise DuplicateRun(f"the run {run_id} is already known here")
        suits = worker_id in (None, self.worker_id) and not needs and self._free >= command.slots
        if not suits or self._processes is None or self._nursery is None:
            raise NoWorkerAvailable("this program has no room for it, or not the labels needed")
        child = self._processes.start(Launch(command, extra_env={"JOB_WORKER": LOCAL}))
        run = self._runs[run_id] = LocalRun(self, run_id, child, observer)
        self._running[run_id] = command.slots
        self._nursery.start_soon(self._run, run)
        return run

    async def _run(self, run: LocalRun) -> None:
        outcome = None
        try:
            outcome = await run.run()
        finally:
            del self._running[run.id]
            run.close(outcome)
        if not self._running:
            self._tell_drain()
        self._on_capacity()

    def _on_capacity(self) -> None:
        self._may_have_room()
        if self._host is not None:
            self._host.on_capacity()

    def forget(self, run: LocalRun) -> None:
        """The run's outcome is durable."""
        self._runs.pop(run.id, None)

    def speak_until(self, deadline: float) -> None:
        pass

    def hang_up(self) -> None:
        pass

    def drain(self, worker_id: str) -> None:
        if worker_id == self.worker_id and not self._is_drained:
            self._is_drained = True
            self._tell_drain()

    def resume(self, worker_id: str) -> None:
        if worker_id == self.worker_id and self._is_drained:
            self._is_drained = False
            self._tell(WorkerEvent.RESUMED)
            self._on_capacity()

    def _tell_drain(self) -> None:
        if self._is_drained:
            self._tell(WorkerEvent.DRAINING if self._running else WorkerEvent.DRAINED)

    def _tell(self, event: WorkerEvent) -> None:
        if self._host is not None:
            self._host.on_worker(event, self.workers()[0])

    def workers(self) -> Sequence[WorkerInfo]:
        state = "ready"
        if self._is_drained:
            state = "draining" if self._running else "drained"
        return [
            WorkerInfo(
                id=self.worker_id,
                name=LOCAL,
                state=state,
                slots=self._slots,
                free=self._free,
                labels={},
                version="",
                address="in-process",
                running=tuple(sorted(self._running)),
                can_mask=True,
                taken=sum(self._running.values()),
            )
        ]
