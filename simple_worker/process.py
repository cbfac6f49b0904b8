"""One child: how it is started, how its output is read, how its whole tree is ended.

`subprocess.Popen` in the main thread uses vfork, and is the fastest way there is from Python; its
end is seen through a pidfd and reaped exactly once, here.
"""

import errno
import math
import os
import secrets
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from remote_runner.types import Command, Outcome, Reason, StreamName
from simple_worker.reaper import Reaper
from simple_worker.tree import COOKIE, signal_group, sweep

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIPE_HELD: Final = 5.0
SWEEP_PAUSE: Final = 0.005
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126

OnOutput = Callable[[StreamName, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Launch:
    """A `Command` and what only the worker knows. `full_env` replaces the base environment."""

    command: Command
    full_env: Mapping[str, str] | None = None
    uid: int | None = None
    gid: int | None = None
    extra_env: Mapping[str, str] = field(default_factory=dict)


def base_environment() -> dict[str, str]:
    """The small environment of a job: never the worker's own."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }


@dataclass(frozen=True, slots=True)
class SpawnFailure:
    """Why nothing was started: an exit status as a shell gives it, and one line."""

    status: int
    line: str


class Child:
    """A running command; `run` reads it to its end. One may be killed from anywhere."""

    def __init__(self, launch: Launch, host: "ProcessHost") -> None:
        self._launch = launch
        self._host = host
        self._cookie = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_reason: Reason | None = None
        self._kills = trio.Event()
        self._signal = launch.command.kill_signal
        self._grace = launch.command.kill_grace
        self.pid: int | None = None

    def start(self) -> SpawnFailure | None:
        """Start it; a failure is a value, as a shell would report it."""
        command = self._launch.command
        argv, executable = _argv(command)
        environment = dict(self._launch.full_env or base_environment())
        environment.update(command.env)
        environment.update(self._launch.extra_env)
        environment[COOKIE] = self._cookie
        try:
            self._process = subprocess.Popen(
                argv,
                executable=executable,
                stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=command.cwd,
                env=environment,
                start_new_session=True,
                user=self._launch.uid,
                group=self._launch.gid,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return _failure(command, error, environment)
        self.pid = self._process.pid
        self._host.live[self.pid] = self
        self._host.reaper.watch(self.pid, self._cookie)
        return None

    def kill(self, reason: Reason, signal_name: str | None, grace: float | None) -> None:
        """Begin the kill ladder; a second call sharpens it."""
        if self._kill_reason is None:
            self._kill_reason = reason
        self._signal = signal_name or self._signal
        if grace is not None:
            self._grace = grace
        self._kills.set()
        self._kills = trio.Event()

    async def run(self, on_output: OnOutput, max_chunk: int) -> Outcome:
        """Read both pipes until the process and its tree are gone. Cancelled: kill it all."""
        process = self._process
        assert process is not None
        began = trio.current_time()
        with ExitStack() as stack:
            descriptors = {}
            for stream, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
                assert stream is not None
                stack.callback(stream.close)
                os.set_blocking(stream.fileno(), False)
                descriptors[name] = stream.fileno()
            pidfd = os.pidfd_open(process.pid)
            stack.callback(os.close, pidfd)
            ended = trio.Event()
            total = 0

            async def pump(name: StreamName, descriptor: int) -> None:
                nonlocal total
                while data := await _read(descriptor, max_chunk):
                    total += len(data)
                    await on_output(name, data)

            try:
                async with trio.open_nursery() as nursery:
                    if process.stdin is not None:
                        nursery.start_soon(self._feed, process.stdin)
                    nursery.start_soon(self._ladder, ended)
                    async with trio.open_nursery() as pumps:
                        pumps.start_soon(pump, "stdout", descriptors["stdout"])
                        pumps.start_soon(pump, "stderr", descriptors["stderr"])
                        await trio.lowlevel.wait_readable(pidfd)
                        ended.set()
                        pumps.cancel_scope.deadline = trio.current_time() + self._host.pipe_held
                    nursery.cancel_scope.cancel()
            finally:
                signal_group(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    if not ended.is_set():
                        await trio.lowlevel.wait_readable(pidfd)
                    usage = self._reap(process)
                    await self._sweep()
        code = process.returncode
        assert code is not None
        reason = self._kill_reason
        if reason is None or (reason is Reason.KILLED and code == 0):
            reason = Reason.EXIT if code >= 0 else Reason.SIGNAL
        return Outcome(
            reason=reason,
            exit_code=code if code >= 0 else None,
            signal=None if code >= 0 else signal.Signals(-code).name,
            output_bytes=total,
            duration=trio.current_time() - began,
            max_rss=usage.ru_maxrss * 1024,
            cpu_time=usage.ru_utime + usage.ru_stime,
        )

    def _reap(self, process: subprocess.Popen[bytes]) -> Any:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        del self._host.live[process.pid]
        return usage

    async def _sweep(self) -> None:
        assert self.pid is not None
        # A poll, because nothing announces the end of a process that is not our child yet.
        while sweep(self.pid, self._cookie, self._host.live):  # noqa: ASYNC110
            await trio.sleep(SWEEP_PAUSE)
        self._host.reaper.unwatch(self.pid, self._cookie)

    async def _ladder(self, ended: trio.Event) -> None:
        """Timeout, signal, grace, SIGKILL."""
        assert self.pid is not None
        limit = self._launch.command.timeout
        with trio.CancelScope(deadline=math.inf if limit is None else trio.current_time() + limit):
            while self._kill_reason is None:
                await self._kills.wait()
        if self._kill_reason is None:
            self._kill_reason = Reason.TIMEOUT
        while not ended.is_set():
            again = self._kills
            signal_group(self.pid, _number(self._signal))
            with trio.move_on_after(self._grace):
                await again.wait()
                continue
            signal_group(self.pid, signal.SIGKILL)
            await ended.wait()

    async def _feed(self, pipe: Any) -> None:
        data = memoryview(self._launch.command.stdin or b"")
        descriptor = pipe.fileno()
        os.set_blocking(descriptor, False)
        try:
            while data:
                try:
                    data = data[os.write(descriptor, data[:65536]) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(descriptor)
        except BrokenPipeError:
            pass  # the process reads no more; that is its right
        finally:
            pipe.close()


class ProcessHost:
    """What the children of one worker share: the reaper, and which of them are alive."""

    def __init__(self, reaper: Reaper, *, pipe_held: float = PIPE_HELD) -> None:
        self.reaper = reaper
        self.pipe_held = pipe_held
        self.live: dict[int, Child] = {}

    def child(self, launch: Launch) -> Child:
        """A child that is not started yet."""
        return Child(launch, self)


async def _read(descriptor: int, size: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(descriptor)


def _number(name: str) -> int:
    try:
        return signal.Signals[name].value
    except KeyError:
        return signal.SIGTERM


def _argv(command: Command) -> tuple[list[str], str | None]:
    if command.shell:
        shell = command.shell if isinstance(command.shell, str) else "/bin/sh"
        return [shell, "-c", " ".join([command.command, *command.args])], None
    if command.argv0 is not None:
        return [command.argv0, *command.args], command.command
    return [command.command, *command.args], None


def _failure(command: Command, error: Exception, environment: Mapping[str, str]) -> SpawnFailure:
    if command.cwd is not None and not os.path.isdir(command.cwd):
        return SpawnFailure(
            NOT_EXECUTABLE, f"the working directory {command.cwd} does not exist on this worker"
        )
    if isinstance(error, FileNotFoundError):
        return SpawnFailure(NOT_FOUND, f"{command.command}: command not found on this worker")
    if isinstance(error, OSError) and error.errno is not None:
        words = os.strerror(error.errno)
        if error.errno == errno.E2BIG:
            words = "the arguments and the environment are too large"
        return SpawnFailure(NOT_EXECUTABLE, f"{command.command}: {words}")
    return SpawnFailure(NOT_EXECUTABLE, f"{command.command}: {error}")
