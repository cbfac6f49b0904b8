"""The Strider plug: whoever emits `job.new` as Strider does gets its phases run, durably.

Owns the conversation on one `DuplexEmitter`. What a job asks for and what is told of it is
`strider_build.py`'s; each phase that has commands is one job of the queue.

Heard, as a runner of Strider hears it:

    job.new(job, config)    run it, if `config.runner.id` is ours; `job._id` names it
    job.cancel(id)          end it, and its whole process tree
    job.info(id)            answered with job.info(id, data), data null where it is not known

Emitted:

    job.status.queued(id, time)
    job.status.started(id, time)
    job.status.command.start(id, {command, plugin, started, time})
    job.status.stdout(id, text)  job.status.stderr(id, text)
    job.status.command.done(id, {exitCode, time, elapsed})
    job.status.tested(id, {time, exitCode})  job.status.deployed(id, {time, exitCode})
    job.status.phase.done(id, {phase, time, exitCode, next, elapsed})
    job.status.phase.errored(id, {phase, message, time})
    job.status.errored(id, {message})
    job.status.cancelled(id)
    job.cancelled(id, data)
    job.done(data)          the last word on every job

Times are texts as JavaScript writes a Date, `elapsed` and `duration` milliseconds. A phase that a
signal ends has the exit code 128 + n. Not there: plugins but `custom`, and so `plugin-data`,
`command.comment` and the fetching of code; and `browser.update`, which a host makes of the above.

`job.new` may come again, from a host that has lost its connection or was started anew: a job that
is known goes on where it is, and everything is told from its beginning.
"""

import codecs
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Final

import trio

from queued_runner.jobs import Job, JobState
from queued_runner.runner import QueuedRunner
from queued_runner.store.base import Deposed, JobNotFound, KeyConflict, NoRoom, StoreAway
from queued_runner.strider_build import (
    CUSTOM,
    Build,
    BuildData,
    NoBuild,
    iso,
    read_build,
    read_id,
    without_output,
)
from remote_runner.emitter import DuplexEmitter, Event
from remote_runner.errors import ConnectionLost, LocalProtocolError
from remote_runner.signals import signal_number
from remote_runner.types import Reason, StreamName

RUNNER_ID: Final = "duplex-runner"
MAX_BUILDS: Final = 1000
"""Jobs of one host at once: each has a task and some of its output in memory."""
NO_ID: Final = {"message": "a job needs an _id: a text of 1 to 128 printable characters"}
PIECE: Final = 64 * 1024
"""Bytes of output in one event."""


async def attach(
    runner: QueuedRunner,
    emitter: DuplexEmitter[Event],
    *,
    runner_id: str = RUNNER_ID,
    now: Callable[[], float] = time.time,
) -> None:
    """Serve a host of Strider's kind until its connection ends. What runs then runs on.

    Args:
        runner: runs the phases.
        emitter: leads to the host; nobody else may read it.
        runner_id: jobs of other runners are passed over.
        now: wall clock, UNIX seconds.

    Raises:
        RemoteProtocolError: the host has sent what is no event.
    """
    async with trio.open_nursery() as nursery:
        plug = _Plug(runner, emitter, nursery, runner_id, now)
        async for name, args in emitter:
            await plug.hear(name, args)
        nursery.cancel_scope.cancel()


class _Cancelled(Exception):
    """The build is to end, and nothing of it runs any more."""


class _PhaseFailed(Exception):
    """A phase did not run to an exit code."""


class _Plug:
    """The handlers of one host, and its builds."""

    def __init__(
        self,
        runner: QueuedRunner,
        emitter: DuplexEmitter[Event],
        nursery: trio.Nursery,
        runner_id: str,
        now: Callable[[], float],
    ) -> None:
        self.runner = runner
        self.now = now
        self._emitter = emitter
        self._nursery = nursery
        self._runner_id = runner_id
        self._builds: dict[str, _Conductor] = {}

    async def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """What the host says. Its answers are waited for: who does not read is not read."""
        match event, args:
            case "job.new", (dict(job), dict(config), *_):
                await self._hear_new(job, config)
            case "job.cancel", (build_id, *_):
                conductor = self._builds.get(read_id(build_id) or "")
                if conductor is not None:
                    conductor.cancel()
            case "job.info", (build_id, *_):
                found = read_id(build_id)
                conductor = self._builds.get(found or "")
                data = None if conductor is None else conductor.data.as_json()
                await self.tell_data("job.info", found, data)

    async def _hear_new(self, job: dict[str, Any], config: dict[str, Any]) -> None:
        build_id = read_id(job)
        runner = config.get("runner")
        if not isinstance(runner, dict) or runner.get("id") != self._runner_id:
            return
        if build_id is None:
            await self.tell("job.done", {"id": None, "errored": True, "error": NO_ID})
            return
        if build_id in self._builds:
            return  # it runs, and its host hears it
        conductor = _Conductor(self, build_id)
        try:
            if len(self._builds) >= MAX_BUILDS:
                raise NoBuild(f"{MAX_BUILDS} jobs of this host run already; try it again later")
            build = read_build(build_id, job, config)
        except NoBuild as error:
            await conductor.refuse(str(error))
            return
        self._builds[build_id] = conductor
        self._nursery.start_soon(conductor.run, build)

    def forget(self, build_id: str) -> None:
        self._builds.pop(build_id, None)

    async def tell(self, event: str, *args: Any) -> None:
        """Say something to the host, once it has read what was said before."""
        with suppress(ConnectionLost):  # the reader sees the end too, and ends all this
            await self._emitter.emit(event, *args)

    async def tell_data(self, event: str, *args: Any) -> None:
        """The same of something whose last part is the data of a build, or None."""
        try:
            await self.tell(event, *args)
        except LocalProtocolError:  # control characters, say, take six bytes each
            await self.tell(event, *args[:-1], without_output(args[-1]))


class _Conductor:
    """Plays one build: its phases in order, and all that is said of them."""

    def __init__(self, plug: _Plug, build_id: str) -> None:
        self._plug = plug
        self._id = build_id
        self.data = BuildData(build_id, plug.now())
        self._is_cancelled = trio.Event()

    def cancel(self) -> None:
        """End it as soon as can be."""
        self._is_cancelled.set()

    async def refuse(self, why: str) -> None:
        """It cannot be run at all."""
        await self._fail(why)
        await self._finish()

    async def run(self, build: Build) -> None:
        """From the first phase to the last word."""
        await self._tell("job.status.queued", iso(self._plug.now()))
        try:
            phase: str | None = "environment"
            while phase is not None:
                phase = await self._phase(build, phase)
        except _Cancelled:
            self.data.fail("Cancelled by the user")
            await self._tell("job.status.cancelled")
            await self._plug.tell_data("job.cancelled", self._id, self.data.as_json())
        except (NoRoom, StoreAway, Deposed, _PhaseFailed) as error:
            await self._fail(str(error))
        await self._finish()

    async def _fail(self, why: str) -> None:
        self.data.fail(why)
        await self._tell("job.status.errored", {"message": why})

    async def _finish(self) -> None:
        self.data.finish(self._plug.now())
        self._plug.forget(self._id)
        await self._plug.tell_data("job.done", self.data.as_json())

    async def _phase(self, build: Build, phase: str) -> str | None:
        """Run a phase to its end, and give the one that follows."""
        if self._is_cancelled.is_set():
            raise _Cancelled
        began, exit_code = self._plug.now(), 0
        if phase in build.specs:
            try:
                began, exit_code = await self._command(build, phase)
            except _PhaseFailed as error:
                said = {"phase": phase, "message": str(error), "time": iso(self._plug.now())}
                await self._tell("job.status.phase.errored", said)
                raise
        elif phase in ("test", "deploy"):
            await self._say(
                "stderr",
                f"Phase {phase} didn't actually run anything. Check your plugin configuration\n",
            )
        ended = self._plug.now()
        if phase in ("test", "deploy"):
            result = {"time": iso(ended), "exitCode": exit_code}
            await self._tell(f"job.status.{phase}ed", result)
        following = build.after(phase, exit_code)
        done = {
            "phase": phase,
            "time": iso(ended),
            "exitCode": exit_code,
            "next": following,
            "elapsed": _milliseconds(ended - began),
        }
        self.data.end_phase(done)
        await self._tell("job.status.phase.done", done)
        return following

    async def _command(self, build: Build, phase: str) -> tuple[float, int]:
        """Run the commands of a phase: when they began, and the exit code."""
        try:
            [job_id] = await self._plug.runner.submit_many([build.specs[phase]])
        except KeyConflict:
            raise _PhaseFailed(
                f"a job {self._id!r} was here before, with other commands or options for its phase"
                f" {phase!r}; a new job needs an _id of its own"
            ) from None
        job = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_told, job_id)
                job = await self._plug.runner.wait_started(job_id)
                began = self._plug.now() if job.started_at is None else job.started_at
                if job.started_at is not None:
                    await self._start(build, phase, began)
                    await self._follow(job_id)
                job = await self._plug.runner.wait(job_id)
                nursery.cancel_scope.cancel()
        except* JobNotFound:
            job = None
        if job is None:
            raise _PhaseFailed(f"somebody has deleted the job {job_id}, its phase {phase!r}")
        if job.state is JobState.CANCELLED:
            raise _Cancelled
        exit_code = _exit_code(job, phase)
        ended = self._plug.now() if job.finished_at is None else job.finished_at
        elapsed = _milliseconds(ended - began)
        done = {"exitCode": exit_code, "time": iso(ended), "elapsed": elapsed}
        self.data.end_command(done)
        await self._tell("job.status.command.done", done)
        return began, exit_code

    async def _start(self, build: Build, phase: str, began: float) -> None:
        if not self.data.has_started:
            self.data.start(began)
            await self._tell("job.status.started", iso(began))
        started = {
            "command": build.shown[phase],
            "plugin": CUSTOM,
            "started": iso(began),
            "time": iso(began),
        }
        self.data.start_command(started)
        await self._tell("job.status.command.start", started)

    async def _follow(self, job_id: int) -> None:
        """Say all that the job prints, as text; what is cut between two pieces is put together."""
        decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        async with aclosing(self._plug.runner.output(job_id)) as output:  # type: ignore[type-var]
            async for chunk in output:
                for start in range(0, len(chunk.data), PIECE):
                    piece = chunk.data[start : start + PIECE]
                    await self._say(chunk.stream, decoders[chunk.stream].decode(piece))
        await self._say("stdout", decoders["stdout"].decode(b"", final=True))
        await self._say("stderr", decoders["stderr"].decode(b"", final=True))

    async def _say(self, stream: StreamName, text: str) -> None:
        if text:
            self.data.add_output(stream, text)
            await self._tell(f"job.status.{stream}", text)

    async def _tell(self, event: str, *args: Any) -> None:
        await self._plug.tell(event, self._id, *args)

    async def _cancel_when_told(self, job_id: int) -> None:
        await self._is_cancelled.wait()
        await self._plug.runner.cancel(job_id)


def _exit_code(job: Job, phase: str) -> int:
    if job.exit_code is not None and job.reason != Reason.TIMEOUT:
        return job.exit_code
    if job.signal is not None and job.reason == Reason.SIGNAL:
        return 128 + (signal_number(job.signal) or 0)
    raise _PhaseFailed(f"the phase {phase!r} did not end by itself: {job.reason}")


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
