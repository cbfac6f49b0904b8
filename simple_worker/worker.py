"""The worker: dials the runner, keeps the connection, runs what it is told, comes back after cuts.

Owns slots and sessions. One child is `process.py`'s; what is not acknowledged `attempts.py`'s.
"""

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost, ProtocolError
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    MAX_ATTEMPTS_PER_EVENT,
    PROTOCOL_VERSION,
    Ack,
    Attempts,
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
    Resume,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Welcome,
)
from remote_runner.protocol.states import Role
from remote_runner.types import DEFAULT_KILL_GRACE, Command, Outcome, Reason, StreamName
from simple_worker.attempts import HeldAttempt
from simple_worker.backoff import reconnect_delay
from simple_worker.process import Launch, ProcessHost

VERSION: Final = "0.1.0"
WELCOME_TIMEOUT: Final = 10.0
MAX_STDIN: Final = 8 * 1024 * 1024
FENCE: Final = 0.9
"""Share of `detach` after which a worker without contact stops its attempts by itself."""

Connect = Callable[[], Awaitable[trio.abc.Stream]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the worker is. `worker_id` is stable on disk, `boot` new with every process."""

    worker_id: str
    boot: str
    name: str
    slots: int
    labels: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


class RefusedByRunner(Exception):
    """The runner said goodbye; the message is its sentence."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Worker:
    """Runs children for one runner.

    Args:
        connect: dials; raises OSError when there is nobody.
        processes: starts children.
        work_dir: where scratch directories are made.
        say: takes one line for the person who watches.
        once: leave when there is nothing to do.
    """

    def __init__(
        self,
        identity: Identity,
        connect: Connect,
        processes: ProcessHost,
        *,
        work_dir: Path,
        rng: Callable[[], float],
        say: Say,
        once: bool = False,
    ) -> None:
        self._identity = identity
        self._connect = connect
        self._processes = processes
        self._work_dir = work_dir
        self._rng = rng
        self._say = say
        self._once = once
        self._held: dict[str, HeldAttempt] = {}
        self._waiting_input: dict[str, tuple[Spawn, bytearray]] = {}
        self._running = 0
        self._turns: deque[HeldAttempt] = deque()
        self._to_send = trio.lowlevel.ParkingLot()
        self._emitter: DuplexEmitter[Message] | None = None
        self._nursery: trio.Nursery | None = None
        self._detach = 120.0
        self._max_chunk = 64 * 1024
        self._last_contact = trio.current_time()
        self._is_draining = False
        self._changed = trio.Event()

    async def run(self) -> None:
        """Work until drained (or, with `once`, until there is nothing to do)."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._fence)
            async with trio.open_nursery() as connecting:
                connecting.start_soon(self._stay_connected)
                await self._until_done()
                connecting.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Take no more work; `run` returns once everything held is durable at the runner."""
        if not self._is_draining:
            self._is_draining = True
            self._send(Draining())
            self._note_change()

    def kill_all(self, reason: Reason = Reason.ABANDONED) -> None:
        """Begin the end of every tree."""
        for held in self._held.values():
            if held.child is not None and held.is_running:
                held.child.kill(reason, None, None)

    async def _until_done(self) -> None:
        while True:
            changed = self._changed
            if self._is_draining and not self._held:
                return
            await changed.wait()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- connections ---

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            retry_after = None
            try:
                stream = await self._connect()
                await self._converse(stream)
                failures = 0
                self._say("the connection to the runner was lost")
            except RefusedByRunner as error:
                failures += 1
                retry_after = error.retry_after
                self._say(f"the runner says: {error}")
            except (OSError, ConnectionLost, ProtocolError) as error:
                failures += 1
                self._say(f"no connection to the runner: {error}")
            delay = reconnect_delay(failures, self._rng, retry_after)
            self._say(f"next try in {delay:.1f} s")
            await trio.sleep(delay)

    async def _converse(self, stream: trio.abc.Stream) -> None:
        """One connection, from hello to its end."""
        identity = self._identity
        async with DuplexEmitter[Message](stream, Connection(Role.WORKER)) as emitter:
            hello = Hello(
                (PROTOCOL_VERSION, PROTOCOL_VERSION),
                identity.worker_id,
                identity.boot,
                identity.name,
                identity.slots,
                identity.labels,
                VERSION,
                identity.token,
            )
            emitter.send_nowait(hello)
            batch: list[Message] = []
            with trio.move_on_after(WELCOME_TIMEOUT):
                batch = list(await emitter.receive_batch())
            if not batch:
                raise ConnectionLost("the runner closed the connection")
            if isinstance(batch[0], Goodbye):
                raise RefusedByRunner(batch[0].message, _seconds(batch[0].retry_after_ms))
            if not isinstance(batch[0], Welcome):
                raise ConnectionLost("the runner did not welcome this worker")
            await self._work(emitter, batch[0], batch[1:])

    async def _work(
        self, emitter: DuplexEmitter[Message], welcome: Welcome, batch: list[Message]
    ) -> None:
        self._detach = welcome.detach_ms / 1000
        self._max_chunk = welcome.max_chunk
        self._emitter = emitter
        self._last_contact = trio.current_time()
        self._introduce(emitter)
        self._say(f"connected, {self._identity.slots} slots")
        heartbeat = welcome.heartbeat_ms / 1000
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_turns, emitter)
                nursery.start_soon(self._keep_alive, emitter, heartbeat)
                while True:
                    for message in batch:
                        self._receive(message)
                    batch = list(await emitter.receive_batch())
                    if not batch:
                        break
                    self._last_contact = trio.current_time()
                nursery.cancel_scope.cancel()
        finally:
            self._emitter = None
            self._waiting_input.clear()

    def _introduce(self, emitter: DuplexEmitter[Message]) -> None:
        items = []
        for held in self._held.values():
            held.is_sendable = False
            items.append((held.id, "running" if held.is_running else "ended", held.size))
        for start in range(0, len(items), MAX_ATTEMPTS_PER_EVENT):
            part = items[start : start + MAX_ATTEMPTS_PER_EVENT]
            emitter.send_nowait(Attempts(tuple(part)))  # type: ignore[arg-type]
        emitter.send_nowait(Ready(max(0, self._identity.slots - self._running)))
        if self._is_draining:
            emitter.send_nowait(Draining())

    async def _keep_alive(self, emitter: DuplexEmitter[Message], heartbeat: float) -> None:
        number = 0
        while True:
            await trio.sleep(heartbeat / 4)
            now = trio.current_time()
            if now - emitter.last_received > 3 * heartbeat:
                emitter.close_nowait("the runner is silent")
                return
            if now - min(emitter.last_received, emitter.last_sent) >= heartbeat:
                number += 1
                self._send(Ping(number))

    async def _send_turns(self, emitter: DuplexEmitter[Message]) -> None:
        """Send what attempts hold, a chunk each in turn: one flood does not starve the others."""
        self._turns = deque(self._held.values())
        while True:
            if not self._turns:
                await self._to_send.park()
                continue
            held = self._turns.popleft()
            message = held.next_message()
            if message is not None:
                try:
                    await emitter.send(message)
                except ConnectionLost:
                    return
                if isinstance(message, OutputChunk) or held.close is None:
                    self._turns.append(held)

    def _offer_turn(self, held: HeldAttempt) -> None:
        self._turns.append(held)
        self._to_send.unpark()

    def _send(self, message: Message) -> None:
        if self._emitter is not None and self._emitter.is_open:
            try:
                self._emitter.send_nowait(message)
            except ConnectionLost:
                pass

    # --- what the runner says ---

    def _receive(self, message: Message) -> None:
        match message:
            case Spawn():
                self._spawn(message)
            case Ack():
                if held := self._held.get(message.id):
                    held.ack(message.offset)
            case Closed():
                self._forget(message.id)
            case Resume():
                if held := self._held.get(message.id):
                    held.resume(message.offset)
                    self._offer_turn(held)
            case Stale():
                if held := self._held.get(message.id):
                    held.drop_output()
                    if held.child is not None and held.is_running:
                        held.child.kill(Reason.ABANDONED, None, None)
                    self._forget(message.id)
            case Kill():
                self._kill(message)
            case Stdin():
                self._take_input(message)
            case StdinEnd():
                waiting = self._waiting_input.pop(message.id, None)
                if waiting is not None:
                    self._begin(waiting[0], bytes(waiting[1]))
            case Ping():
                self._send(Pong(message.n))
            case Drain():
                self.drain()
            case Goodbye():
                self._say(f"the runner says: {message.message}")
            case _:
                pass

    def _forget(self, attempt_id: str) -> None:
        if self._held.pop(attempt_id, None) is not None:
            self._note_change()
            if self._once and not self._held:
                self.drain()

    def _spawn(self, spawn: Spawn) -> None:
        attempt_id = spawn.options.id
        if attempt_id is None or attempt_id in self._held or attempt_id in self._waiting_input:
            return
        busy = self._running + len(self._waiting_input)
        if self._is_draining or busy >= self._identity.slots:
            reason = "draining" if self._is_draining else "all slots are taken"
            self._send(Refused(attempt_id, reason))
        elif spawn.options.stdin == "pipe":
            self._waiting_input[attempt_id] = (spawn, bytearray())
        else:
            self._begin(spawn, None)

    def _take_input(self, message: Stdin) -> None:
        waiting = self._waiting_input.get(message.id)
        if waiting is None:
            return
        waiting[1].extend(message.data)
        if len(waiting[1]) > MAX_STDIN:
            del self._waiting_input[message.id]
            self._send(Refused(message.id, f"stdin is larger than {MAX_STDIN} bytes"))

    def _kill(self, kill: Kill) -> None:
        waiting = self._waiting_input.pop(kill.id or "", None)
        if waiting is not None:
            held = self._hold(kill.id or "")
            held.end(Outcome(Reason.KILLED))
            self._offer_turn(held)
            return
        held_now = self._held.get(kill.id or "")
        if held_now is not None and held_now.child is not None and held_now.is_running:
            held_now.child.kill(Reason.KILLED, kill.signal, _seconds(kill.grace_ms))

    # --- attempts ---

    def _hold(self, attempt_id: str) -> HeldAttempt:
        held = HeldAttempt(attempt_id)
        self._held[attempt_id] = held
        return held

    def _begin(self, spawn: Spawn, stdin: bytes | None) -> None:
        assert self._nursery is not None
        assert spawn.options.id is not None
        self._running += 1
        self._nursery.start_soon(self._run, self._hold(spawn.options.id), spawn, stdin)

    async def _run(self, held: HeldAttempt, spawn: Spawn, stdin: bytes | None) -> None:
        scratch = tempfile.mkdtemp(prefix="job-", dir=self._work_dir)
        try:
            extra = {"JOB_WORKER": self._identity.name, "JOB_SCRATCH": scratch}
            child = self._processes.child(_launch(spawn, stdin, extra))
            failure = child.start()
            if failure is not None:
                await held.keep("stderr", f"duplex-runner: {failure.line}\n".encode())
                outcome = Outcome(Reason.SPAWN_ERROR, exit_code=failure.status)
            else:
                held.child = child
                assert child.pid is not None
                self._send(Started(held.id, child.pid, int(time.time() * 1000)))

                async def keep(stream: StreamName, data: bytes) -> None:
                    is_idle = held.sent == held.size
                    room = held.keep(stream, data)
                    if is_idle:
                        self._offer_turn(held)
                    await room

                outcome = await child.run(keep, self._max_chunk)
            held.end(outcome)
        finally:
            self._running -= 1
            shutil.rmtree(scratch, ignore_errors=True)
        if held.id in self._held:
            self._offer_turn(held)
        self._note_change()

    async def _fence(self) -> None:
        """Stop every attempt when the runner must soon take this worker for dead."""
        while True:
            await trio.sleep(max(0.02, self._detach / 50))
            silent = trio.current_time() - self._last_contact
            if self._emitter is None and self._running and silent > FENCE * self._detach:
                self._say("out of contact for too long: stopping what runs")
                self.kill_all()
                self._last_contact = trio.current_time()


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _launch(spawn: Spawn, stdin: bytes | None, extra: Mapping[str, str]) -> Launch:
    options: SpawnOptions = spawn.options
    command = Command(
        command=spawn.command,
        args=spawn.args,
        cwd=options.cwd,
        env=options.set_env or {},
        shell=options.shell,
        argv0=options.argv0,
        stdin=stdin,
        timeout=_seconds(options.timeout_ms),
        kill_signal=options.kill_signal or "SIGTERM",
        kill_grace=_seconds(options.kill_grace_ms) or 0.0
        if options.kill_grace_ms is not None
        else DEFAULT_KILL_GRACE,
    )
    return Launch(command, options.env, options.uid, options.gid, extra)
