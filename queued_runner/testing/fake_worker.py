"""A worker whose processes are made up by a test: it speaks the real protocol over any stream.

Owns what a worker says by itself (hello, answers to pings). What its commands print, and how they
end, a test says. It keeps nothing beyond its connection: cut off, what it ran is lost.
"""

import math
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    PROTOCOL_VERSION,
    Close,
    Closed,
    Drain,
    Draining,
    Goodbye,
    Hello,
    Kill,
    Message,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    Spawn,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Welcome,
)
from remote_runner.protocol.states import Role
from remote_runner.types import StreamName


class FakeRun:
    """A command that the runner has sent, for a test to play. `env` has the `JOB_` variables."""

    def __init__(self, emitter: DuplexEmitter[Message], spawn: Spawn) -> None:
        self._emitter = emitter
        self.options = spawn.options
        self.id = spawn.options.id or ""
        self.command = spawn.command
        self.args = spawn.args
        self.env: Mapping[str, str] = spawn.options.set_env or {}
        self.stdin = b""
        """What has come of its input."""
        self.stdin_ended = trio.Event()
        self.kills: list[Kill] = []
        self.killed = trio.Event()
        """Set when the runner wants it to end; how it does, `end` says."""
        self.forgotten = trio.Event()
        """Set when the runner wants to hear no more of it: its outcome is durable, or stale."""
        self._size = 0

    async def write(self, data: bytes, stream: StreamName = "stdout") -> None:
        """Print something. Raises ConnectionLost."""
        await self._emitter.send(OutputChunk(stream, data, self.id, self._size))
        self._size += len(data)

    async def end(self, exit_code: int | None = 0, *, signal: str | None = None) -> None:
        """End with an exit code, or by a signal, and wait until that is durable at the runner.

        It counts as killed, if the runner has killed it. Raises ConnectionLost.
        """
        if signal is not None:
            exit_code = None
        reason = "killed" if self.kills else "exit" if signal is None else "signal"
        await self._emitter.send(
            Close(exit_code, self.id, signal=signal, reason=reason, offset=self._size)
        )
        await self.forgotten.wait()

    async def refuse(self) -> None:
        """It has not begun and will not: the runner may try another worker. Raises ConnectionLost.

        Only before `write`.
        """
        await self._emitter.send(Refused(self.id, "a test says so"))


class FakeWorker:
    """A worker that is connected; see `open_fake_worker`."""

    def __init__(self, emitter: DuplexEmitter[Message]) -> None:
        self._emitter = emitter
        self._runs: dict[str, FakeRun] = {}
        self._send, self._new_runs = trio.open_memory_channel[FakeRun](math.inf)
        self.drained = trio.Event()
        """Set when the runner wants it to take no more work and leave."""
        self.goodbye: Goodbye | None = None
        """What the runner said last, where it has ended the connection."""

    async def next_run(self) -> FakeRun:
        """The next command, once there is one; it has started.

        Raises:
            trio.EndOfChannel: the connection has ended.
        """
        return await self._new_runs.receive()

    async def drain(self) -> None:
        """Say that it takes no more work. Raises ConnectionLost."""
        await self._emitter.send(Draining())

    async def _listen(self) -> None:
        async with self._send:
            while batch := await self._emitter.receive_batch():
                for message in batch:
                    self._hear(message)

    def _hear(self, message: Message) -> None:
        match message:
            case Ping(n):
                self._emitter.send_nowait(Pong(n))
            case Spawn():
                run = FakeRun(self._emitter, message)
                self._runs[run.id] = run
                self._emitter.send_nowait(Started(run.id, 1, 0))
                self._send.send_nowait(run)
            case Goodbye():
                self.goodbye = message
            case Drain():
                self.drained.set()
            case Kill() | Stdin() | StdinEnd() | Closed() | Stale():
                run_or_none = self._runs.get(message.id or "")
                if run_or_none is not None:
                    self._tell(run_or_none, message)

    def _tell(self, run: FakeRun, message: Kill | Stdin | StdinEnd | Closed | Stale) -> None:
        match message:
            case Kill():
                run.kills.append(message)
                run.killed.set()
            case Stdin():
                run.stdin += message.data
            case StdinEnd():
                run.stdin_ended.set()
            case Closed() | Stale():
                del self._runs[run.id]
                run.forgotten.set()


@asynccontextmanager
async def open_fake_worker(
    stream: trio.abc.Stream,
    name: str = "fake",
    *,
    slots: int = 1,
    labels: Mapping[str, str] | None = None,
    token: str | None = None,
) -> AsyncIterator[FakeWorker]:
    """A worker over a stream that leads to a runner's port, ready while entered.

    Leaving cuts the connection. `name` is its id too, so that there is one of that name at a time;
    every one is a new process.

    Raises:
        AssertionError: the runner does not want it, and why.
    """
    boot = secrets.token_hex(8)
    async with DuplexEmitter[Message](stream, Connection(Role.WORKER)) as emitter:
        await emitter.send(
            Hello(
                (PROTOCOL_VERSION, PROTOCOL_VERSION), name, boot, name, slots, labels or {}, "fake",
                token,
            )
        )  # fmt: skip
        batch = await emitter.receive_batch()
        if batch and isinstance(batch[0], Welcome):
            await emitter.send(Ready(slots))
            worker = FakeWorker(emitter)
            for message in batch[1:]:
                worker._hear(message)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker._listen)
                try:
                    yield worker
                finally:
                    nursery.cancel_scope.cancel()
            return
    raise AssertionError(f"the runner does not want this worker: {list(batch)}")
