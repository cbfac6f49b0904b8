"""One child: what is its from its start on, how its output is read, how its whole tree is ended.

Its end is seen through a pidfd and reaped exactly once, here. With which system calls it is started
is `main_process.py`'s.
"""

import math
import os
import resource
import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Final

import trio

from remote_runner.mask import READ, Mask, MaskedStream
from remote_runner.signals import signal_name
from remote_runner.types import Outcome, Reason, StreamName
from simple_worker.fences import clock
from simple_worker.kill_ladder import KillLadder
from simple_worker.launch import (
    NOT_EXECUTABLE,
    Launch,
    SpawnFailure,
    base_environment,
    explain,
)
from simple_worker.leftovers import Leftovers
from simple_worker.main_process import MainProcess, begin, close
from simple_worker.pipe import OutputPipe, feed
from simple_worker.processes import OnOutput
from simple_worker.reaper_link import ReaperLink, Say, log
from simple_worker.results import Archive, collect
from simple_worker.scratch import NoScratch, Scratches, ScratchRoot, remove_folder
from simple_worker.silence import Silence, Silences
from simple_worker.tree import COOKIE, SCRATCH, signal_group

STREAMS: Final[tuple[StreamName, ...]] = ("stdout", "stderr")
PIPE_HELD: Final = 5.0
"""Seconds that a process which outlives the main one may go on writing."""
UNKILLABLE: Final = 3.0
"""Seconds after which a cancelled `run` gives up on what SIGKILL does not end."""


class Process:
    """A running command; see `processes.Child`."""

    def __init__(
        self, host: "ProcessHost", launch: Launch, main: MainProcess, stdin: int | None,
        silence: Silence, cookie: str, scratch: str,
    ) -> None:  # fmt: skip
        self.pid = main.pid
        self._host = host
        self._stdin = stdin
        self._input = launch.command.stdin
        limit = launch.command.max_output
        self._max_output = sys.maxsize if limit is None else limit
        self._max_results = launch.command.max_results
        self._owner = launch.uid
        self.results: Archive | None = None
        self._mask = Mask(launch.command.mask) if launch.command.mask else None
        self._main = main
        self._pipes = main.pipes
        self._silence = silence
        self._pidfd = main.pidfd
        self._cookie = cookie
        self._scratch = scratch
        self._began = trio.current_time()
        self._ladder = KillLadder(launch.command, self._signal, self._began)
        self._rung: trio.CancelScope | None = None
        """What ends the wait for its end when a signal is due."""
        self._duration: float | None = None
        self._code = 0
        self._usage: resource.struct_rusage | None = None
        self._was_out_of_contact = False
        self._total = 0
        self._reading = 2
        self._drained = trio.Event()
        self._then: Callable[[Outcome | None], object] | None = None
        """Waits for its end while it is watched."""

    def confirm(self) -> None:
        """Wait until it executes its command. If it cannot, nothing of it is left.

        Raises:
            OSError: it cannot.
        """
        try:
            self._main.confirm()
        except OSError:
            self._silence.end()
            self._host.undo(self._main, self._stdin)
            self._host.scratches.give_back(self._scratch)
            self._forget()
            raise

    def kill(self, reason: Reason, signal: str | None = None, grace: float | None = None) -> None:
        if not self._ladder.is_over and self._has_ended():
            self._ladder.stop()  # by itself, just before
        self._ladder.begin(reason, signal, grace, trio.current_time())
        if self._rung is not None:
            self._rung.deadline = self._ladder.due
        if self._ladder.is_over:
            self._drained.set()  # only something that holds its pipe is left: do not wait for it
        self._tell(None)

    def watch(self, then: Callable[[Outcome | None], object]) -> None:
        self._then, self._silence.then = then, self._leave_silence
        if self._silence.is_over or self._ladder.due < math.inf:
            self._tell(None)  # it is fed, or its time is limited: that needs a task

    def _tell(self, outcome: Outcome | None) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(outcome)

    def _leave_silence(self) -> None:
        if self._then is not None:
            self._tell(self._outcome() if self._end_at_once() else None)

    def _end_at_once(self) -> bool:
        """Do all that is left to do, if it has ended in silence and left nothing behind. False: it
        takes longer, and `run` goes on from here."""
        if not self._silence.has_ended or self._silence.open_pipes:
            return False
        self._see_end()
        self._signal(signal.SIGKILL)
        self._reap()
        if not self._host.leftovers.is_clear(self.pid):
            return False
        self._forget()
        if not self._host.scratches.give_back(self._scratch):
            return False
        close((self._pidfd, *self._pipes))
        return True

    async def run(self, on_output: OnOutput, max_chunk: int) -> Outcome:
        self._then = None
        try:
            if not await self._stays_silent():
                if self._mask is not None:
                    max_chunk = min(max_chunk, READ)
                streams = zip(STREAMS, self._pipes, strict=True)
                pipes = [OutputPipe(stream, pipe, max_chunk) for stream, pipe in streams]
                await self._converse(pipes, on_output)
            await self._end_tree()
        finally:
            self._silence.end()
            if self._cookie:
                with trio.move_on_after(UNKILLABLE, shield=True):
                    await self._end_tree()
            self._ladder.stop()
            close((self._pidfd, *self._pipes, self._stdin))
        if not self._host.scratches.give_back(self._scratch):
            await trio.to_thread.run_sync(self._clear_scratch)
        return self._outcome()

    def _clear_scratch(self) -> None:
        """Keep the results that are in it, and remove it. It blocks, and ends if `run` does."""
        if self._max_results:
            self.results = collect(
                self._scratch, self._max_results, str(self._host.folder.path), self._owner,
                trio.from_thread.check_cancelled,
            )  # fmt: skip
        remove_folder(self._scratch)

    async def _stays_silent(self) -> bool:
        """Wait for its end or its first output. True: it has ended, and its pipes with it."""
        if not self._silence.is_over:
            over = trio.Event()
            self._silence.then = over.set
            await self._climb_until(over.wait)
        if not self._silence.has_ended:
            return False
        self._see_end()
        return not self._silence.open_pipes

    async def _converse(self, pipes: Sequence[OutputPipe], on_output: OnOutput) -> None:
        """Write its input and read its output until its tree has ended."""
        feeding = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            if self._stdin is not None:
                nursery.start_soon(feed, self._stdin, self._input or b"", feeding)
                self._stdin = None
            for pipe in pipes:
                nursery.start_soon(self._pump, pipe, on_output)
            await self._wait_for_end()
            if self._reading:
                held = trio.current_time() + self._host.pipe_held
                with trio.move_on_at(min(held, self._ladder.last_rung)):
                    await self._drained.wait()
            await self._end_tree()
            feeding.cancel()
            for pipe in pipes:
                pipe.finish()

    async def _pump(self, pipe: OutputPipe, on_output: OnOutput) -> None:
        """Hand its output on. All that is known of it, sizes too, is of what `mask` has left."""
        masked = None if self._mask is None else MaskedStream(self._mask)
        is_open = True
        while is_open:
            data = await pipe.read()
            is_open = bool(data)
            if masked is not None:
                data = masked.feed(data) if is_open else masked.flush()
            kept = data[: max(0, self._max_output - self._total)]
            self._total += len(data)
            if kept:
                await on_output(pipe.stream, kept)
            if is_open:
                await trio.lowlevel.checkpoint()  # a flood must not keep others from running
        self._reading -= 1
        if not self._reading:
            self._drained.set()

    def _signal(self, number: int) -> None:
        signal_group(self.pid, number)

    def _has_ended(self) -> bool:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PIDFD, self._pidfd, flags) is not None

    async def _wait_for_end(self) -> None:
        """Wait for the end of the main process."""
        if self._duration is None:
            await self._climb_until(partial(trio.lowlevel.wait_readable, self._pidfd))
            self._see_end()

    async def _climb_until(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, and climb the ladder meanwhile."""
        while True:
            with trio.CancelScope(deadline=self._ladder.due) as rung:
                self._rung = rung
                await wait()
            if not rung.cancelled_caught:
                return
            if self._duration is None and self._has_ended():
                self._ladder.stop()  # by itself, while this process stood still
            else:
                self._ladder.climb(trio.current_time())

    def _see_end(self) -> None:
        if self._duration is None:
            self._duration = trio.current_time() - self._began
        self._ladder.stop()

    async def _end_tree(self) -> None:
        """Nothing of it is left afterwards. May be called again after a cancellation."""
        if self._usage is None:
            self._signal(signal.SIGKILL)
            await self._wait_for_end()
            self._reap()
        if self._cookie:
            await self._host.leftovers.end(self.pid, self._cookie)
            self._forget()

    def _reap(self) -> None:
        """It has ended, and from now on its number may be another's."""
        self._code, self._usage = self._main.reap()

    def _forget(self) -> None:
        """Nothing of its tree is left."""
        self._was_out_of_contact = self._host.forget(self._cookie)
        self._cookie = ""

    def _outcome(self) -> Outcome:
        code, usage = self._code, self._usage
        assert usage is not None
        reason = self._ladder.reason
        if reason is None and self._was_out_of_contact and code == -signal.SIGKILL:
            reason = Reason.ABANDONED  # by the reaper, while this process stood still
        if reason is Reason.ABANDONED and self._was_out_of_contact:
            self._host.say(f"stood still for too long: process {self.pid} had to end")
        if reason is None or (reason is Reason.KILLED and code == 0):
            reason = Reason.EXIT if code >= 0 else Reason.SIGNAL
        return Outcome(
            reason=reason,
            exit_code=code if code >= 0 else None,
            signal=None if code >= 0 else signal_name(-code),
            output_bytes=self._total,
            duration=self._duration,
            max_rss=usage.ru_maxrss * 1024,
            cpu_time=usage.ru_utime + usage.ru_stime,
        )


_Begun = tuple[Launch, Process | SpawnFailure, Callable[[Process | SpawnFailure], object]]
"""What was begun, and who is to be told of it."""


class ProcessHost:
    """Starts the processes of this machine; see `processes.Processes`.

    Args:
        scratch: the folder for scratch directories, and for what else goes when this process does.
        reaper: ends the trees should this process die.
        leftovers: ends what a job leaves.
        nothing: `/dev/null`, open: the input of jobs that have none.
        silences: waits for those that have written nothing yet.
        say: takes a line when the process has stood still, and jobs had to end for it.
        pipe_held: seconds that something may hold the pipe of a process that has ended.
    """

    def __init__(
        self, scratch: ScratchRoot, reaper: ReaperLink, leftovers: Leftovers, nothing: IO[bytes],
        silences: Silences, *, say: Say = log.warning, pipe_held: float = PIPE_HELD,
    ) -> None:  # fmt: skip
        self.folder = scratch
        self.reaper = reaper
        self.leftovers = leftovers
        self.say = say
        self.pipe_held = pipe_held
        self._nothing = nothing
        self._base = base_environment()
        self._silences = silences
        self._running: dict[str, Process] = {}
        self._begun: deque[_Begun] = deque()
        silences.then = self.settle
        self.scratches = Scratches(scratch)

    def start(self, launch: Launch) -> Process | SpawnFailure:
        results: list[Process | SpawnFailure] = []
        self.begin(launch, results.append)
        self.settle()
        return results[0]

    def begin(self, launch: Launch, then: Callable[[Process | SpawnFailure], object]) -> bool:
        result = self._begin(launch)
        self._begun.append((launch, result, then))
        return isinstance(result, Process) or not result.is_refusal

    def settle(self) -> None:
        while self._begun:
            launch, result, then = self._begun.popleft()
            if isinstance(result, Process):
                try:
                    result.confirm()
                except OSError as error:
                    result = self._explain(launch, error)
            then(result)

    def _begin(self, launch: Launch) -> Process | SpawnFailure:
        cookie = secrets.token_hex(8)
        scratch = stdin = main = None
        # Before it runs, so that no moment is left in which nobody would find it.
        self.reaper.expect(cookie, launch.detach, launch.silence)
        try:
            scratch = self.scratches.take(launch.uid, launch.gid)
            self.leftovers.expect()
            main, stdin = self._main_process(launch, {COOKIE: cookie, SCRATCH: scratch})
            self.leftovers.begin(main.pid, cookie)
            silence = self._silences.begin(main.pidfd, main.pipes, is_fed=stdin is not None)
        except NoScratch as error:
            self.reaper.unwatch(cookie)
            return SpawnFailure(NOT_EXECUTABLE, str(error), is_refusal=True)
        except (OSError, ValueError, OverflowError, subprocess.SubprocessError) as error:
            if main is not None:
                with suppress(OSError):
                    main.confirm()
                signal_group(main.pid, signal.SIGKILL)
                self.undo(main, stdin)
            if scratch is not None:
                self.scratches.give_back(scratch)
            self.reaper.unwatch(cookie)
            return self._explain(launch, error)
        self.reaper.watch(cookie, main.pid)
        process = self._running[cookie] = Process(
            self, launch, main, stdin, silence, cookie, scratch
        )
        return process

    def undo(self, main: MainProcess, stdin: int | None) -> None:
        """It ends, and has executed nothing, or not for long enough to leave something."""
        main.reap()
        self.leftovers.forget(main.pid)
        close((main.pidfd, *main.pipes, stdin))

    def _explain(self, launch: Launch, error: Exception) -> SpawnFailure:
        return explain(launch, launch.environment(self._base), error)

    def tell_contact(self, ago: float) -> None:
        for cookie in self.reaper.tell_contact(clock() - ago):
            self._running[cookie].kill(Reason.ABANDONED, "SIGKILL", 0.0)

    def forget(self, cookie: str) -> bool:
        """Nothing of a process is left. Whether it was without contact for too long."""
        del self._running[cookie]
        return self.reaper.unwatch(cookie)

    def _main_process(self, launch: Launch, own: dict[str, str]) -> tuple[MainProcess, int | None]:
        """The process, and where its input is to be written."""
        argv, executable = launch.argv()
        env = launch.environment(self._base) | own
        cwd, owner = launch.command.cwd, (launch.uid, launch.gid)
        if launch.command.stdin is None:
            return begin(argv, executable, env, cwd, self._nothing.fileno(), *owner), None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            return begin(argv, executable, env, cwd, reading, *owner), writing
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
