"""The simulated machines: every process that was ever started, what it wrote, and when it lived.

This table is the witness that the checks believe, never what server and worker say.
"""

import math
import signal
from dataclasses import dataclass

import trio

from remote_runner.results import Head, ResultFile, encode_head
from remote_runner.signals import signal_name
from remote_runner.types import Outcome, Reason
from simple_worker.fences import REAPED
from simple_worker.kill_ladder import KillLadder
from simple_worker.launch import SpawnFailure
from simple_worker.results import Archive
from tests.sim import actors
from tests.worker.simulation import AtOnce

RESULT = "a/file"
"""The name of what programs leave."""

LOOK = 0.02
"""Seconds between two looks of a reaper."""


@dataclass(frozen=True)
class Program:
    """What a job does. Each step is a pause, then so many bytes of a stream, `chunk` at a time.

    At its end it leaves a file of so many bytes as `results`. `codes` are the exit codes of its
    attempts, the last one of all that follow. `refusals` machines have no room for it,
    `is_missing`: it cannot be executed.
    """

    steps: tuple = ()
    codes: tuple = (0,)
    results: int = 0
    ignores_term: bool = False
    refusals: int = 0
    is_missing: bool = False


class Process:
    """One process, from its start to its end, and all it wrote."""

    def __init__(self, table, launch, program, job_id, attempt):
        self.table = table
        self.job_id = job_id
        self.attempt = attempt
        self.worker = actors.current.get()
        self.pid = 100 + table.world.next_pid()
        self.began = trio.current_time()
        self.ended = None
        self.exit_code = None
        self.signal = None
        self.results = None
        self.left = None
        """The bytes of the file that it left."""
        self.written = bytearray()
        self.streams = bytearray()
        """For each byte written, the first letter of "out" or "err"."""
        self._program = program
        self._limit = launch.command.max_output
        self.fence = launch.detach
        """Seconds without contact, on its worker's clock, after which its reaper ends it."""
        self.is_reaped = False
        self._death = trio.Event()
        self._then = None
        """Who watches it."""
        self._rung = trio.CancelScope()
        self._ladder = KillLadder(launch.command, self._on_signal, self._now())

    @property
    def name(self):
        return f"{self.job_id}.{self.attempt}"

    @property
    def is_alive(self):
        return self.ended is None

    def _now(self):
        return trio.current_time() * self.worker.rate

    def _on_signal(self, number):
        if number != signal.SIGKILL and self._program.ignores_term:
            return
        self.die(None, signal_name(number))

    def die(self, exit_code, name):
        """The moment of its end."""
        if self.is_alive:
            self.ended = trio.current_time()
            self.exit_code, self.signal = exit_code, name
            self._death.set()
            self.table.world.on_process_end(self)

    def kill(self, reason, signal=None, grace=None):
        if reason is Reason.ABANDONED and self.is_alive:
            self.table.world.checks.on_abandon(self)
        if not self.is_alive:
            self._ladder.stop()
        self._ladder.begin(reason, signal, grace, self._now())
        self._rung.deadline = self._ladder.due / self.worker.rate
        self._tell(None)

    def watch(self, then):
        self._then = then
        is_silent = not any(size for _, size, _ in self._program.steps)
        if is_silent and not self._program.results and self._ladder.due == math.inf:
            self.table.world.start(self._stay_silent)
        else:
            self._tell(None)

    async def _stay_silent(self):
        await self._play(None, 0)
        if self.worker.is_on:  # else it was killed with its worker
            self._tell(self._outcome())

    def _tell(self, outcome):
        then, self._then = self._then, None
        if then is not None:
            then(outcome)

    async def run(self, on_output, max_chunk):
        self._then = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._climb)
                await self._play(on_output, max_chunk)
                nursery.cancel_scope.cancel()
        finally:
            self.die(None, "SIGKILL")
            self._ladder.stop()
        if self._program.results:
            self.left = (b"%s " % self.name.encode() * self._program.results)[
                : self._program.results
            ]
            head = encode_head(Head((ResultFile(RESULT, len(self.left)),)))
            self.results = Archive(head, self.left, len(self.left))
        return self._outcome()

    def _outcome(self):
        reason = Reason.ABANDONED if self.is_reaped else self._ladder.reason
        if reason is None or (reason is Reason.KILLED and self.exit_code == 0):
            reason = Reason.EXIT if self.exit_code is not None else Reason.SIGNAL
        duration = (self.ended - self.began) * self.worker.rate
        return Outcome(reason, self.exit_code, self.signal, len(self.written), duration=duration)

    async def _climb(self):
        while self.is_alive:
            with trio.CancelScope(deadline=self._ladder.due / self.worker.rate) as self._rung:
                await self._death.wait()
            if self._rung.cancelled_caught:
                self._ladder.climb(self._ladder.due)

    async def _play(self, on_output, max_chunk):
        for pause, size, stream in self._program.steps:
            with trio.move_on_after(pause):
                await self._death.wait()
            while size and self.is_alive:
                self.table.world.checks.on_write(self, self._limit)
                data = self.write(min(size, max_chunk), stream)
                size -= len(data)
                kept = data
                if self._limit is not None:
                    kept = data[: max(0, self._limit - len(self.written) + len(data))]
                if kept:
                    await on_output(stream, kept)
        codes = self._program.codes
        self.die(codes[min(self.attempt, len(codes)) - 1], None)

    def write(self, size, stream):
        """The next bytes: never the same in two attempts, or at two offsets."""
        begin = len(self.written)
        while len(self.written) < begin + size:
            self.written += b"%s:%d " % (self.name.encode(), len(self.written))
        del self.written[begin + size :]
        self.streams += (b"o" if stream == "stdout" else b"e") * size
        return bytes(self.written[begin:])


class FailedStart:
    """What stands for a process where the start failed: only the line that says so."""

    is_alive = False
    left = None

    def __init__(self, job_id, attempt, failure):
        self.job_id = job_id
        self.attempt = attempt
        self.exit_code = failure.status
        self.began = self.ended = trio.current_time()
        self.written = failure.output
        self.streams = b"e" * len(self.written)

    @property
    def name(self):
        return f"{self.job_id}.{self.attempt}"


class Machine(AtOnce):
    """Starts the processes of one worker's process, in place of the real `ProcessHost`."""

    def __init__(self, world):
        self.world = world
        self.processes = []
        self._contact = -math.inf
        """When the worker last said that it was in contact."""

    def start(self, launch):
        job_id = int(launch.command.env["JOB_ID"])
        attempt = int(launch.command.env["JOB_ATTEMPT"])
        program = self.world.program(launch.command.args[0])
        if attempt <= program.refusals:
            return SpawnFailure(1, "no room on this machine", is_refusal=True)
        if program.is_missing:
            failure = SpawnFailure(127, f"{launch.command.command}: command not found")
            self.world.on_process_start(FailedStart(job_id, attempt, failure))
            return failure
        process = Process(self, launch, program, job_id, attempt)
        self.processes.append(process)
        self.world.on_process_start(process)
        return process

    def tell_contact(self, ago):
        self._contact = trio.current_time() - ago / actors.current.get().rate

    async def reap(self, worker):
        """What the reaper does for a worker that stands still: its fence is the one that acts."""
        while worker.is_still:
            for process in self.processes:
                since = max(self._contact, process.began)
                fence = math.inf if process.fence is None else REAPED * process.fence / worker.rate
                if process.is_alive and trio.current_time() >= since + fence:
                    process.is_reaped = True
                    process.die(None, "SIGKILL")
            await trio.sleep(LOOK)

    def crash(self):
        """The worker's process is dead, and its reaper has ended every tree."""
        for process in self.processes:
            process.die(None, "SIGKILL")
