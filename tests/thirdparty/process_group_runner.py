"""A `JobRunner` of somebody else: each run is a process group of this machine.

Written from docs/plugs.md, with trio's processes and nothing of the project but its types.
"""

import os
import secrets
import signal
import subprocess
from contextlib import asynccontextmanager

import trio

from remote_runner.errors import DuplicateRun, NoWorkerAvailable, UnusableSettings
from remote_runner.types import JobRunner, Offer, Outcome, Output, Reason, Slot, WorkerInfo

NAME = "process-group"
WINDOW = 1024 * 1024
"""Bytes that may be unacknowledged before a command has to wait with its output."""


class GroupRun:
    worker = worker_id = NAME

    def __init__(self, runner, run_id, command, observer):
        self.id = run_id
        self._runner = runner
        self._command = command
        self._observer = observer
        self._process = None
        self._reason = None
        self._order = trio.Event()
        self._size = self._sent = self._acked = 0
        self._room = trio.Event()
        self.is_ended = False

    def ack(self, offset):
        self._acked = max(self._acked, offset)
        self._room.set()

    def ack_result(self, offset):
        pass  # there are no results

    def forget(self):
        self._runner.runs.pop(self.id, None)

    def kill(self, signal=None, grace=None):
        if not self.is_ended:
            self._stop(Reason.KILLED, signal, grace)

    def _stop(self, reason, name=None, grace=None):
        if self._reason is None:
            self._reason = reason
        command = self._command
        self._ladder = (
            command.kill_signal if name is None else name,
            command.kill_grace if grace is None else grace,
        )
        self._order.set()

    async def run(self):
        outcome = Outcome(Reason.STOPPED)
        try:
            outcome = await self._run()
        finally:
            self.is_ended = True
            self._runner.running.discard(self.id)
            self._observer.on_closed(self, outcome)

    async def _run(self):
        command = self._command
        argv = [command.command, *command.args]
        if command.shell:
            shell = "/bin/sh" if command.shell is True else command.shell
            argv = [shell, "-c", " ".join(argv)]
        try:
            process = await trio.lowlevel.open_process(
                argv,
                cwd=command.cwd or "/",
                env={"PATH": os.defpath, **command.env},
                stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError) and error.filename == argv[0]
            await self._keep("stderr", f"{argv[0]}: {error.strerror}\n".encode())
            return Outcome(Reason.SPAWN_ERROR, 127 if is_missing else 126, output_bytes=self._size)
        try:
            self._observer.on_started(self, process.pid)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_when_told, process)
                if command.timeout is not None:
                    nursery.start_soon(self._time_out, command.timeout)
                async with trio.open_nursery() as pumps:
                    if command.stdin is not None:
                        pumps.start_soon(self._feed, process.stdin)
                    pumps.start_soon(self._pump, "stdout", process.stdout)
                    pumps.start_soon(self._pump, "stderr", process.stderr)
                    await process.wait()
                    self._signal(process, signal.SIGKILL)  # what it left behind
                nursery.cancel_scope.cancel()
        finally:
            self._signal(process, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
        code = process.returncode
        name = signal.Signals(-code).name if code < 0 else None
        reason = self._reason or (Reason.SIGNAL if name else Reason.EXIT)
        return Outcome(reason, None if name else code, name, self._size)

    async def _end_when_told(self, process):
        await self._order.wait()
        while self._order.is_set():
            self._order = trio.Event()
            name, grace = self._ladder
            self._signal(process, signal.Signals[name])
            with trio.move_on_after(grace):
                await self._order.wait()
        self._signal(process, signal.SIGKILL)

    async def _time_out(self, seconds):
        await trio.sleep(seconds)
        self._stop(Reason.TIMEOUT)

    def _signal(self, process, number):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    async def _feed(self, pipe):
        try:
            async with pipe:
                await pipe.send_all(self._command.stdin)
        except (trio.BrokenResourceError, BrokenPipeError):
            pass  # it does not want all of it

    async def _pump(self, stream, pipe):
        async with pipe:
            while data := await pipe.receive_some(65536):
                await self._keep(stream, data)

    async def _keep(self, stream, data):
        limit = self._command.max_output
        kept = data if limit is None else data[: max(0, limit - self._size)]
        self._size += len(data)
        if kept:
            offset = self._sent
            self._sent += len(kept)
            self._observer.on_output(self, Output(stream, bytes(kept), offset))
        while self._sent - self._acked > WINDOW:
            self._room = trio.Event()
            await self._room.wait()


class ProcessGroupRunner(JobRunner):
    def __init__(self, slots=2):
        if not isinstance(slots, int) or slots < 1:
            raise UnusableSettings(f"the runner {NAME!r} needs a whole number of slots above 0")
        self._slots = slots
        self._boot = secrets.token_hex(8)
        self._nursery = None
        self._host = None
        self._is_drained = False
        self.runs = {}
        self.running = set()

    @asynccontextmanager
    async def open(self, host=None):
        async with trio.open_nursery() as nursery:
            self._nursery, self._host = nursery, host
            if host is not None:
                host.on_worker_ready(NAME, self._boot, frozenset())
            self._has_room()
            try:
                yield
            finally:
                self._nursery = self._host = None
                nursery.cancel_scope.cancel()

    def _has_room(self):
        if self._host is not None:
            self._host.on_capacity()

    @property
    def _free(self):
        if self._nursery is None or self._is_drained:
            return 0
        return self._slots - len(self.running)

    def offers(self, limit):
        slots = (Slot(NAME, NAME, self._boot),) * min(limit, self._free)
        return [Offer({}, slots)] if slots else []

    def start(self, run_id, command, needs, observer, worker_id=None):
        if run_id in self.runs:
            raise DuplicateRun(f"the run {run_id} is already known here")
        if needs or worker_id not in (None, NAME) or not self._free:
            raise NoWorkerAvailable("there is no free slot, or not the labels needed")
        run = self.runs[run_id] = GroupRun(self, run_id, command, observer)
        self.running.add(run_id)
        self._nursery.start_soon(self._run, run)
        return run

    async def _run(self, run):
        await run.run()
        self._has_room()

    def drain(self, worker_id):
        if worker_id == NAME:
            self._is_drained = True

    def resume(self, worker_id):
        if worker_id == NAME:
            self._is_drained = False
            self._has_room()

    def workers(self):
        state = "ready"
        if self._is_drained:
            state = "draining" if self.running else "drained"
        return [
            WorkerInfo(
                id=NAME,
                name=NAME,
                state=state,
                slots=self._slots,
                free=self._free,
                labels={},
                version="1.0",
                address="in-process",
                running=tuple(sorted(self.running)),
            )
        ]
